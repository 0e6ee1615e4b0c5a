//! Archives and folders, good and hostile.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};

fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        // Written by hand: the crate refuses what these tests are about.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        if matches!(kind, tar::EntryType::Regular) {
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        } else {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

#[test]
fn an_archive_becomes_a_folder_and_back() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let bytes = tar(&[
        ("./", Directory, ""),
        ("./install.sh", Regular, "#!/bin/sh\n"),
        ("./deep/er/file", Regular, "x"),
        ("./deep/link", Symlink, "../install.sh"),
        ("./again", Link, "./install.sh"),
    ]);
    let folder = Folder::from_tar(&bytes).unwrap();
    assert_eq!(folder.text("install.sh"), Some("#!/bin/sh\n"));
    assert_eq!(folder.text("again"), Some("#!/bin/sh\n"));
    assert_eq!(folder.entries["deep/er"], Content::Folder);
    assert_eq!(
        folder.entries["deep/link"],
        Content::Link("../install.sh".into())
    );
    let again = Folder::from_tar(&folder.to_tar().unwrap()).unwrap();
    assert_eq!(again, folder);
    assert_eq!(again.digest(), folder.digest());
    assert_eq!(folder.to_tar().unwrap(), again.to_tar().unwrap());

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&bytes).unwrap();
    assert_eq!(Folder::from_tar(&packed.finish().unwrap()).unwrap(), folder);
}

#[test]
fn what_leads_out_is_refused() {
    use tar::EntryType::{Char, Link, Regular, Symlink};
    for (entries, expected) in [
        (vec![("../x", Regular, "x")], "leads out"),
        (vec![("/etc/passwd", Regular, "x")], "absolute"),
        (vec![("x", Symlink, "/etc/passwd")], "link that leads out"),
        (vec![("a/x", Symlink, "../../y")], "link that leads out"),
        (vec![("x", Link, "/etc/passwd")], "link to nothing"),
        (vec![("x", Char, "")], "neither a file"),
        (
            vec![("a", Regular, "x"), ("a/b", Regular, "x")],
            "something else",
        ),
        (
            vec![("a/b", Regular, "x"), ("a", Regular, "x")],
            "something else",
        ),
    ] {
        let problem = Folder::from_tar(&tar(&entries)).unwrap_err();
        assert!(problem.contains(expected), "{entries:?}: {problem}");
    }
    assert!(Folder::from_tar(b"no archive at all, but long enough to be looked at").is_err());
    let bytes = tar(&[("./install.sh", Regular, "0123456789")]);
    assert!(Folder::from_tar(&bytes[..515]).is_err());
}

#[test]
fn a_directory_is_read_and_written_without_following_links() {
    let (from, to, outside) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    std::fs::create_dir(from.path().join("sub")).unwrap();
    std::fs::write(from.path().join("sub/run"), "x").unwrap();
    let executable = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(from.path().join("sub/run"), executable).unwrap();
    symlink("sub/run", from.path().join("link")).unwrap();
    let folder = Folder::read(from.path()).unwrap();
    assert_eq!(folder.files().collect::<Vec<_>>(), ["sub/run"]);

    // The destination is somebody's: a link there is replaced, or refused as a folder.
    std::fs::write(outside.path().join("precious"), "kept").unwrap();
    symlink(outside.path().join("precious"), to.path().join("link")).unwrap();
    folder.write(to.path()).unwrap();
    assert_eq!(Folder::read(to.path()).unwrap(), folder);
    std::fs::remove_dir_all(to.path().join("sub")).unwrap();
    symlink(outside.path(), to.path().join("sub")).unwrap();
    assert!(folder.write(to.path()).is_err());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    let kept = std::fs::read_to_string(outside.path().join("precious")).unwrap();
    assert_eq!(kept, "kept");

    symlink("/etc/passwd", from.path().join("out")).unwrap();
    assert!(Folder::read(from.path()).is_err());
}
