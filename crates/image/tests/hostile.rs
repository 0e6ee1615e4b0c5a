//! Layers made to break out, to fill the disk, or just badly: refused with
//! words that name the image, the layer and the entry, and nothing left.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/shared.rs"]
mod support;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use boatyard_image::{Error, Image, Limits, Options, Reference};
use support::{Tar, assert_nothing_left, gzip, images, options, quiet};
use tar::EntryType;

async fn import(folder: &Path, layers: &[Vec<u8>], options: Options) -> Result<Image, Error> {
    let layout = tempfile::tempdir().unwrap();
    support::write_layout(layout.path(), layers, "amd64");
    let name = Reference::parse("test/hostile:1").unwrap();
    images(folder, options)
        .import(layout.path(), Some(&name), quiet())
        .await
}

async fn refused(layer: Vec<u8>, entry: &str, words: &str, options: Options) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("images");
    let error = import(&store, &[layer], options).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Hostile { .. }), "{text}");
    for wanted in ["test/hostile:1", entry, words] {
        assert!(text.contains(wanted), "{wanted:?} in {text}");
    }
    assert_nothing_left(&store);
    // Beside the store nothing appeared.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_leads_out_of_the_layer_is_refused() {
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (
            Tar::new().file("../evil", b"x").end(),
            "../evil",
            "leads out",
        ),
        (
            Tar::new().file("a/../../evil", b"x").end(),
            "a/../../evil",
            "leads out",
        ),
        (Tar::new().folder("..", 0o755).end(), "..", "leads out"),
        (
            Tar::new().file("a/.wh...", b"").end(),
            "a/.wh...",
            "whiteout",
        ),
        (Tar::new().file(".wh.", b"").end(), ".wh.", "whiteout"),
        (Tar::new().file(".wh..", b"").end(), ".wh..", "whiteout"),
        (
            Tar::new().file("../.wh.x", b"").end(),
            "../.wh.x",
            "leads out",
        ),
        (
            Tar::new()
                .link(EntryType::Symlink, "out", "/etc")
                .file("out/evil", b"x")
                .end(),
            "out/evil",
            "link that leads out",
        ),
        (
            Tar::new()
                .link(EntryType::Symlink, "out", "../..")
                .file("out/evil", b"x")
                .end(),
            "out/evil",
            "link that leads out",
        ),
        (
            Tar::new()
                .link(EntryType::Symlink, "a", ".")
                .link(EntryType::Symlink, "a/b", "..")
                .file("a/b/evil", b"x")
                .end(),
            "a/b/evil",
            "link that leads out",
        ),
        (
            Tar::new()
                .link(EntryType::Symlink, "out", "/proc/self/root/tmp")
                .folder("out/x", 0o755)
                .end(),
            "out/x",
            "link that leads out",
        ),
        (
            Tar::new()
                .link(EntryType::Symlink, "loop", "loop")
                .file("loop/evil", b"x")
                .end(),
            "loop/evil",
            "link that leads",
        ),
        (
            Tar::new()
                .link(EntryType::Symlink, "out", "/etc")
                .file("out/.wh.passwd", b"")
                .end(),
            "out/.wh.passwd",
            "link that leads out",
        ),
        (
            Tar::new().link(EntryType::Link, "x", "/etc/passwd").end(),
            "x",
            "absolute",
        ),
        (
            Tar::new()
                .link(EntryType::Link, "x", "../../etc/passwd")
                .end(),
            "x",
            "leads out",
        ),
        (
            Tar::new().link(EntryType::Link, "x", "nowhere").end(),
            "x",
            "does not have",
        ),
        (
            Tar::new().link(EntryType::Link, "x", "x").end(),
            "x",
            "itself",
        ),
        (
            Tar::new()
                .folder("d", 0o755)
                .link(EntryType::Link, "x", "d")
                .end(),
            "x",
            "folder",
        ),
        (
            Tar::new()
                .link(EntryType::Symlink, "s", "/etc")
                .link(EntryType::Link, "x", "s/passwd")
                .end(),
            "x",
            "link that leads out",
        ),
        (
            Tar::new()
                .file(".wh.w", b"")
                .link(EntryType::Link, "x", "w")
                .end(),
            "x",
            "whiteout",
        ),
        (
            Tar::new().file("f", b"").file("f/g", b"x").end(),
            "f/g",
            "no folder",
        ),
        (Tar::new().file("./", b"x").end(), "./", "root"),
        (
            Tar::new().link(EntryType::Symlink, "./", "/etc").end(),
            "./",
            "root",
        ),
        (
            Tar::new().file_as("f", b"", 0o644, 4_294_967_295, 0).end(),
            "f",
            "impossible id",
        ),
        (
            Tar::new().file(&"a/".repeat(300), b"").end(),
            "a/a",
            "folders deep",
        ),
        (Tar::new().file(&"n".repeat(300), b"").end(), "nnn", "255"),
        (
            Tar::new()
                .file(&format!("{}x", "long/".repeat(1000)), b"")
                .end(),
            "long",
            "4095",
        ),
    ];
    for (layer, entry, words) in cases {
        refused(layer, entry, words, options()).await;
    }
}

#[tokio::test]
async fn a_layer_that_would_fill_the_disk_is_refused() {
    let limits = |change: fn(&mut Limits)| {
        let mut options = options();
        change(&mut options.limits);
        options
    };
    let zeros = Tar::new().file("zeros", &vec![0; 20 << 20]).end();
    assert!(gzip(&zeros).len() < 1 << 20);
    refused(
        zeros,
        "zeros",
        "larger than",
        limits(|limits| limits.layer_bytes = 10 << 20),
    )
    .await;
    let many = (0..200)
        .fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), b""))
        .end();
    refused(
        many,
        "f100",
        "100 entries",
        limits(|limits| limits.entries = 100),
    )
    .await;
    // A size that is only said.
    let header = Tar::header(EntryType::Regular, 1 << 50);
    let mut header = header;
    header.set_path("huge").unwrap();
    header.set_cksum();
    let tar = Tar::new().header_and_bytes(&header, b"").end();
    refused(tar, "huge", "larger than", options()).await;
    // An extension that would have to be kept in memory.
    let mut header = Tar::header(EntryType::XHeader, 1 << 40);
    header.set_path("pax").unwrap();
    header.set_cksum();
    let tar = Tar::new().header_and_bytes(&header, b"").end();
    refused(tar, "archive", "extension header", options()).await;

    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("images");
    let full = limits(|limits| limits.reserve_bytes = u64::MAX / 2);
    let error = import(&store, &[Tar::new().file("f", b"x").end()], full)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no room on the disk"), "{error}");
    assert_nothing_left(&store);
}

#[tokio::test]
async fn devices_are_left_out_and_everything_else_is_kept() {
    let layer = Tar::new()
        .folder("dev", 0o755)
        .device(EntryType::Block, "dev/sda", 8, 0)
        .device(EntryType::Char, "dev/null", 1, 3)
        .device(EntryType::Char, "dev/whiteout", 0, 0)
        .link(EntryType::Link, "dev/sdb", "dev/sda")
        .device(EntryType::Fifo, "pipe", 0, 0)
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .file("noted", b"")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.metacopy", b""),
            ("SCHILY.xattr.security.selinux", b"x"),
        ])
        .folder("steered", 0o755)
        .end();
    let folder = tempfile::tempdir().unwrap();
    let image = import(folder.path(), &[layer], options()).await.unwrap();
    let tree = &image.layers[0].directory;
    assert_eq!(std::fs::read_dir(tree.join("dev")).unwrap().count(), 0);
    assert!(
        tree.join("pipe")
            .symlink_metadata()
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let attribute = |path: &str, name: &str| {
        let mut value = vec![0; 100];
        rustix::fs::getxattr(tree.join(path), name, value.as_mut_slice())
            .ok()
            .map(|length| value[..length].to_vec())
    };
    assert_eq!(
        attribute("noted", "user.note").as_deref(),
        Some(&b"kept"[..])
    );
    for name in [
        "trusted.overlay.redirect",
        "user.overlay.redirect",
        "trusted.overlay.metacopy",
    ] {
        assert_eq!(attribute("steered", name), None, "{name}");
    }
}

#[tokio::test]
async fn file_capabilities_lose_the_root_of_the_machine_they_were_made_on() {
    let second = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut third = second.to_vec();
    third[3] = 3;
    third.extend_from_slice(&100_000u32.to_le_bytes());
    let layer = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", &second)])
        .file_as("ping", b"program", 0o755, 5, 5)
        .pax(&[("SCHILY.xattr.security.capability", &third)])
        .file_as("ping3", b"program", 0o755, 5, 5)
        .end();
    let folder = tempfile::tempdir().unwrap();
    let image = import(folder.path(), &[layer], options()).await.unwrap();
    for name in ["ping", "ping3"] {
        let mut value = [0; 64];
        let path = image.layers[0].directory.join(name);
        let length = rustix::fs::getxattr(&path, "security.capability", &mut value[..]).unwrap();
        assert_eq!(&value[..length], second, "{name}");
        assert_eq!(path.metadata().unwrap().uid(), 5);
    }
}

#[tokio::test]
async fn default_access_lists_are_the_folders_alone() {
    // Version 2; owner rwx, group r-x, others none, each without an id.
    let mut list = vec![2, 0, 0, 0];
    for (tag, permissions) in [(0x01u16, 7u16), (0x04, 5), (0x20, 0)] {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&permissions.to_le_bytes());
        list.extend_from_slice(&u32::MAX.to_le_bytes());
    }
    let layer = Tar::new()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &list)])
        .folder("shared", 0o2775)
        .file_as("shared/file", b"", 0o664, 3, 4)
        .folder("shared/folder", 0o755)
        .end();
    let folder = tempfile::tempdir().unwrap();
    let image = import(folder.path(), &[layer], options()).await.unwrap();
    let shared = image.layers[0].directory.join("shared");
    let list_of = |path: &Path| {
        let mut value = [0; 64];
        rustix::fs::getxattr(path, "system.posix_acl_default", &mut value[..])
            .ok()
            .map(|length| value[..length].to_vec())
    };
    assert_eq!(list_of(&shared), Some(list));
    assert_eq!(list_of(&shared.join("folder")), None);
    let file = shared.join("file").metadata().unwrap();
    assert_eq!((file.mode() & 0o7777, file.gid()), (0o664, 4));
    assert_eq!(
        shared.join("folder").metadata().unwrap().mode() & 0o7777,
        0o755
    );
}

#[tokio::test]
async fn whiteouts_are_overlayfs_own_and_spare_the_layers_own_files() {
    let layer = Tar::new()
        .folder("hidden", 0o700)
        .file("hidden/.wh..wh..opq", b"")
        .file("hidden/mine", b"1")
        .file(".wh.gone", b"")
        // Its own file stays, before and after.
        .file("stays", b"2")
        .file(".wh.stays", b"")
        .file(".wh.comes", b"")
        .file("comes", b"3")
        // A folder in the place of what is below shows nothing of it.
        .file(".wh.anew", b"")
        .folder("anew", 0o750)
        .file(".wh.implied", b"")
        .file("implied/file", b"4")
        .folder("late", 0o755)
        .file(".wh.late", b"")
        .file(".wh..wh.plnk", b"")
        .end();
    let folder = tempfile::tempdir().unwrap();
    let image = import(folder.path(), &[layer], options()).await.unwrap();
    let tree = &image.layers[0].directory;
    let whiteout = tree.join("gone").symlink_metadata().unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert_eq!(std::fs::read(tree.join("stays")).unwrap(), b"2");
    assert_eq!(std::fs::read(tree.join("comes")).unwrap(), b"3");
    assert_eq!(std::fs::read(tree.join("implied/file")).unwrap(), b"4");
    for name in ["hidden", "anew", "implied", "late"] {
        for attribute in ["trusted.overlay.opaque", "user.overlay.opaque"] {
            let mut value = [0; 8];
            let length = rustix::fs::getxattr(tree.join(name), attribute, &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"y", "{name} {attribute}");
        }
    }
    assert_eq!(std::fs::read_dir(tree).unwrap().count(), 7);
}

#[tokio::test]
async fn later_entries_replace_earlier_ones_and_the_export_is_exact() {
    let long = format!("{}/file", "component".repeat(20));
    let layer = Tar::new()
        .file("twice", b"first content")
        .file("twice", b"second")
        .file("becomes-a-folder", b"content")
        .folder("becomes-a-folder", 0o755)
        .file("becomes-a-folder/x", b"y")
        .file("was/a/folder", b"with content")
        .file("was", b"")
        .file("kept", b"linked")
        .link(EntryType::Link, "link", "kept")
        .file("kept", b"replaced")
        .link(EntryType::Symlink, "s", "kept")
        .link(EntryType::Link, "s2", "s")
        .file("s", b"")
        .file(&long, b"long")
        .device(EntryType::Char, "skipped", 1, 3)
        .file("/absolute", b"beneath")
        .end();
    let folder = tempfile::tempdir().unwrap();
    let image = import(folder.path(), std::slice::from_ref(&layer), options())
        .await
        .unwrap();
    let tree = &image.layers[0].directory;
    let read = |path: &str| std::fs::read_to_string(tree.join(path)).unwrap();
    assert_eq!(read("twice"), "second");
    assert_eq!(read("becomes-a-folder/x"), "y");
    assert_eq!(read("was"), "");
    assert_eq!(
        (read("kept").as_str(), read("link").as_str()),
        ("replaced", "linked")
    );
    assert_eq!(
        std::fs::read_link(tree.join("s2")).unwrap(),
        Path::new("kept")
    );
    assert_eq!(read(&long), "long");
    assert_eq!(read("absolute"), "beneath");

    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("layout");
    let images = images(folder.path(), options());
    images
        .export(
            &image.reference,
            &path,
            boatyard_image::Format::OciLayout,
            quiet(),
        )
        .await
        .unwrap();
    let blob = path
        .join("blobs/sha256")
        .join(&image.layers[0].id.to_string()[7..]);
    assert!(std::fs::read(blob).unwrap() == layer);

    // And what was altered on disk is not passed off as the layer.
    std::fs::write(tree.join("kept"), b"REPLACED").unwrap();
    let again = out.path().join("again");
    let error = images
        .export(
            &image.reference,
            &again,
            boatyard_image::Format::OciLayout,
            quiet(),
        )
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("not what was unpacked"),
        "{error}"
    );
    assert!(!again.exists() && std::fs::read_dir(out.path()).unwrap().count() == 1);
}

#[tokio::test]
async fn broken_layers_and_lies_are_told_apart() {
    let good = Tar::new().file("f", &[7; 100_000]).end();
    let folder = tempfile::tempdir().unwrap();
    let cut = good[..50_000].to_vec();
    let error = import(folder.path(), &[cut], options())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("ends in the middle of a file") && error.contains("\"f\""),
        "{error}"
    );
    let mut wrong = good.clone();
    wrong[150] ^= 1;
    let error = import(folder.path(), &[wrong], options())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("checksum"), "{error}");
    assert_nothing_left(folder.path());
}
