//! The folder that is opened, and the git repository around it, which is what is mounted.
//!
//! Found by looking, without running git: a `.git` directory that is a repository, or a `.git` file of
//! a worktree or submodule. As git does, one that belongs to somebody else is not trusted: who can
//! write to a folder above could otherwise have it mounted.

use boatyard_api::environment::FolderSource;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The root of the repository a folder lies in.
pub(crate) fn git_root(folder: &Path) -> Option<PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    // Who became root by sudo works on repositories of their own.
    let sudo = (own == 0).then(|| std::env::var("SUDO_UID").ok()?.parse().ok());
    let trusted = |uid: u32| uid == own || sudo.flatten() == Some(uid);
    folder.ancestors().find_map(|root| {
        let git = root.join(".git");
        let found = std::fs::metadata(&git).ok()?;
        let whole = found.is_file() || git.join("HEAD").exists();
        let owner = std::fs::metadata(root).ok()?.uid();
        (whole && trusted(found.uid()) && trusted(owner)).then(|| root.to_owned())
    })
}

/// The source of a folder: the repository around it, opened there; or the folder itself.
pub(crate) fn source(folder: &Path) -> Option<FolderSource> {
    let root = git_root(folder).filter(|root| root != Path::new("/"));
    let root = root.unwrap_or_else(|| folder.to_owned());
    let below = folder.strip_prefix(&root).ok()?.to_str()?;
    Some(FolderSource {
        path: root.to_str()?.to_owned(),
        subfolder: (!below.is_empty()).then(|| below.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    //! Repositories, worktrees, and what is neither.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_repository_around_a_folder_is_mounted_and_the_folder_opened() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("repository");
        let folder = root.join("a/b");
        std::fs::create_dir_all(&folder).unwrap();
        let alone = source(&folder).unwrap();
        assert_eq!(
            (Path::new(&alone.path), alone.subfolder),
            (folder.as_path(), None)
        );
        // A directory of that name is no repository yet.
        std::fs::create_dir(root.join(".git")).unwrap();
        assert_eq!(source(&folder).unwrap().subfolder, None);
        std::fs::write(root.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        let below = source(&folder).unwrap();
        assert_eq!(Path::new(&below.path), root);
        assert_eq!(below.subfolder.as_deref(), Some("a/b"));
        assert_eq!(source(&root).unwrap().subfolder, None);
        // A worktree or submodule inside is nearer.
        std::fs::write(root.join("a/.git"), "gitdir: elsewhere\n").unwrap();
        assert_eq!(source(&folder).unwrap().subfolder.as_deref(), Some("b"));
    }

    #[test]
    fn a_repository_of_somebody_else_is_not_trusted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("mine");
        std::fs::create_dir_all(place.path().join(".git")).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(place.path().join(".git/HEAD"), "").unwrap();
        assert_eq!(git_root(&folder).as_deref(), Some(place.path()));
        std::os::unix::fs::chown(place.path().join(".git"), Some(4711), None).unwrap();
        assert_eq!(git_root(&folder), None);
    }
}
