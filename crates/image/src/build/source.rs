//! What a step copies: the files a pattern matches, with a digest of exactly them.
//!
//! The digest covers names, kinds, permission bits, contents and where links lead; owners only
//! where they are kept; no times. So the same files give the same digest on every host.
//!
//! Read next: `copy`, which writes them.

use super::digests::Digests;

use super::tree::{Context, Ignore, Kind, Meta, Tree};
use boatyard_devcontainer::dockerfile::{BadPattern, Pattern};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// As the kernel's.
const MOST_LINKS: usize = 40;
const MOST_DEPTH: usize = 512;

/// A tree that is copied from.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) tree: Arc<dyn Tree>,
    pub(super) digests: Arc<Digests>,
    pub(super) ignore: Option<Ignore>,
    /// Files of images keep their owners; those of contexts become root's.
    pub(super) keeps_owners: bool,
    /// In words.
    pub(super) name: String,
}

impl Origin {
    pub(super) fn of(context: &Context, digests: Arc<Digests>, name: &str) -> Origin {
        Origin {
            tree: Arc::clone(&context.tree),
            digests,
            ignore: context.ignore.clone(),
            keeps_owners: false,
            name: if name.is_empty() {
                "the build context".to_owned()
            } else {
                format!("the build context {name:?}")
            },
        }
    }

    fn ignored(&self, path: &Path, folder: bool) -> bool {
        !path.as_os_str().is_empty()
            && self
                .ignore
                .as_ref()
                .is_some_and(|ignore| ignore(path, folder))
    }
}

/// A file, folder or link found, with everything in it.
pub(super) struct Found {
    /// What it is called as a source: the last component of its path as written.
    pub(super) name: OsString,
    /// Its path as written, for `--parents` from where its folders are kept.
    pub(super) written: PathBuf,
    /// The first is itself, each folder comes before what is in it.
    pub(super) entries: Vec<Entry>,
}

pub(super) struct Entry {
    /// Below the source itself; empty for it.
    pub(super) below: PathBuf,
    /// In its tree.
    pub(super) path: PathBuf,
    pub(super) meta: Meta,
    pub(super) link: Option<OsString>,
    pub(super) digest: [u8; 32],
}

/// What is found under a pattern. A pattern with nothing to expand must find something. With
/// `parents` a `**` is any number of folders, and what is in front of a `/./` is not kept.
pub(super) fn find(
    origin: &Origin,
    pattern: &str,
    exclude: &[String],
    parents: bool,
) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let parts = clean(pattern);
    let before = match pattern.split_once("/./") {
        Some((before, _)) if parents => clean(before).len(),
        _ => 0,
    };
    let exclude = exclude.iter().map(|exclude| {
        let relative = components(exclude).collect::<Vec<_>>().join("/");
        Pattern::deep(&relative).map_err(|error| refused(exclude, error))
    });
    let exclude = exclude.collect::<io::Result<Vec<_>>>()?;
    for written in expand(origin, &parts, parents)? {
        let Some((path, meta)) = follow(origin, &written)? else {
            if !matches!(Pattern::new(&parts.join("/")), Ok(plain) if plain.is_plain()) {
                continue;
            }
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("\"/{}\" is not in {}", written.display(), origin.name),
            ));
        };
        let name = written.file_name().unwrap_or_default().to_owned();
        let excluded = |below: &Path, path: &Path| {
            let own = below.as_os_str().is_empty();
            let relative = if own { Path::new(&name) } else { below };
            if own && meta.kind == Kind::Directory {
                return false;
            }
            exclude.iter().any(|pattern| {
                pattern.matches_or_parent(&relative.to_string_lossy())
                    || pattern.matches_or_parent(&path.to_string_lossy())
            })
        };
        let mut entries = Vec::new();
        collect(
            origin,
            path,
            PathBuf::new(),
            meta,
            &excluded,
            &mut entries,
            0,
        )?;
        if !entries.is_empty() {
            found.push(Found {
                name,
                written: written.components().skip(before).collect(),
                entries,
            });
        }
    }
    Ok(found)
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

fn refused(pattern: &str, error: BadPattern) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{pattern:?}: {error}"))
}

/// Components, none of which leads out.
fn clean(pattern: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in components(pattern) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part.to_owned());
        }
    }
    parts
}

fn expand(origin: &Origin, parts: &[String], deep: bool) -> io::Result<Vec<PathBuf>> {
    let mut paths = vec![PathBuf::new()];
    for (at, part) in parts.iter().enumerate() {
        // At the end it is all that is there, as a single star is.
        if deep && part == "**" && at + 1 < parts.len() {
            let mut folders = BTreeSet::new();
            for path in paths {
                within(origin, path, &mut folders, 0)?;
            }
            paths = folders.into_iter().collect();
            continue;
        }
        let pattern = Pattern::new(part).map_err(|error| refused(part, error))?;
        if pattern.is_plain() {
            for path in &mut paths {
                path.push(part);
            }
            continue;
        }
        let mut next = Vec::new();
        for path in &paths {
            let Some((real, meta)) = follow(origin, path)? else {
                continue;
            };
            if meta.kind != Kind::Directory {
                continue;
            }
            for (name, _) in sorted(origin, &real)? {
                if pattern.matches(&name.to_string_lossy()) {
                    next.push(path.join(name));
                }
            }
        }
        paths = next;
    }
    Ok(paths)
}

/// A folder and all folders in it; links are not followed on the way.
fn within(
    origin: &Origin,
    folder: PathBuf,
    folders: &mut BTreeSet<PathBuf>,
    depth: usize,
) -> io::Result<()> {
    if depth > MOST_DEPTH {
        return Err(rustix::io::Errno::NAMETOOLONG.into());
    }
    let meta = origin.tree.stat(&folder, false)?;
    if meta.is_none_or(|meta| meta.kind != Kind::Directory) || folders.contains(&folder) {
        return Ok(());
    }
    for (name, meta) in sorted(origin, &folder)? {
        let child = folder.join(name);
        if meta.kind == Kind::Directory && !origin.ignored(&child, true) {
            within(origin, child, folders, depth + 1)?;
        }
    }
    folders.insert(folder);
    Ok(())
}

/// Follows links up to what they lead to, which must not be left out.
fn follow(origin: &Origin, path: &Path) -> io::Result<Option<(PathBuf, Meta)>> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Some(meta) = origin.tree.stat(&path, false)? else {
            return Ok(None);
        };
        if origin.ignored(&path, meta.kind == Kind::Directory) {
            return Ok(None);
        }
        if meta.kind != Kind::Symlink {
            return Ok(Some((path, meta)));
        }
        let target = PathBuf::from(origin.tree.read_link(&path)?);
        let mut parts: Vec<OsString> = Vec::new();
        let base = if target.is_absolute() {
            PathBuf::new()
        } else {
            path.parent().map(Path::to_owned).unwrap_or_default()
        };
        for component in base.components().chain(target.components()) {
            match component {
                std::path::Component::Normal(name) => parts.push(name.to_owned()),
                std::path::Component::ParentDir => drop(parts.pop()),
                _ => {}
            }
        }
        path = parts.into_iter().collect();
    }
    Err(io::Error::from(rustix::io::Errno::LOOP))
}

fn sorted(origin: &Origin, path: &Path) -> io::Result<Vec<(OsString, Meta)>> {
    let mut entries = origin.tree.list(path)?;
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

fn collect(
    origin: &Origin,
    path: PathBuf,
    below: PathBuf,
    meta: Meta,
    excluded: &dyn Fn(&Path, &Path) -> bool,
    entries: &mut Vec<Entry>,
    depth: usize,
) -> io::Result<()> {
    let named = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("{} in {}: {error}", path.display(), origin.name),
        )
    };
    if excluded(&below, &path) {
        return Ok(());
    }
    if depth > MOST_DEPTH {
        return Err(named(rustix::io::Errno::NAMETOOLONG.into()));
    }
    let (mut link, mut digest) = (None, [0; 32]);
    match meta.kind {
        Kind::File => {
            digest = origin
                .digests
                .of(&*origin.tree, &path, &meta)
                .map_err(named)?
        }
        Kind::Symlink => link = Some(origin.tree.read_link(&path).map_err(named)?),
        Kind::Directory => {
            let listed = sorted(origin, &path).map_err(named)?;
            entries.push(Entry {
                below: below.clone(),
                path: path.clone(),
                meta,
                link: None,
                digest,
            });
            for (name, meta) in listed {
                let child = path.join(&name);
                if origin.ignored(&child, meta.kind == Kind::Directory) {
                    continue;
                }
                collect(
                    origin,
                    child,
                    below.join(&name),
                    meta,
                    excluded,
                    entries,
                    depth + 1,
                )?;
            }
            return Ok(());
        }
        // Sockets and pipes of a folder are nothing to copy.
        Kind::Other => return Ok(()),
    }
    entries.push(Entry {
        below,
        path,
        meta,
        link,
        digest,
    });
    Ok(())
}

/// Takes what was found into a key.
pub(super) fn digest(found: &[Found], keeps_owners: bool, parents: bool, hasher: &mut Sha256) {
    let mut put = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    put(&(found.len() as u64).to_le_bytes());
    for found in found {
        put(found.name.as_bytes());
        if parents {
            put(found.written.as_os_str().as_bytes());
        }
        put(&(found.entries.len() as u64).to_le_bytes());
        for entry in &found.entries {
            let kind = match entry.meta.kind {
                Kind::File => b'f',
                Kind::Directory => b'd',
                Kind::Symlink => b'l',
                Kind::Other => b'o',
            };
            put(entry.below.as_os_str().as_bytes());
            put(&[kind]);
            put(&entry.meta.mode.to_le_bytes());
            if keeps_owners {
                put(&entry.meta.uid.to_le_bytes());
                put(&entry.meta.gid.to_le_bytes());
            }
            match &entry.link {
                Some(link) => put(link.as_bytes()),
                None => put(&entry.digest),
            }
        }
    }
}
