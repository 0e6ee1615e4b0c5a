//! Layers as one tree.
use super::*;
use std::os::unix::fs::symlink;

fn layer(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }
    folder
}

#[test]
fn links_stay_in_the_tree() {
    let low = layer(&["usr/bin/tool", "etc/hosts"]);
    symlink("usr/bin", low.path().join("bin")).unwrap();
    symlink("/../../../etc", low.path().join("out")).unwrap();
    symlink("loop", low.path().join("loop")).unwrap();
    let high = layer(&["usr/bin/other"]);
    let merged = Merged::new(vec![high.path().to_owned(), low.path().to_owned()]);
    let at = |path: &str, follow| merged.resolve(Path::new(path), follow);
    for (path, resolved, there) in [
        ("/bin/tool", "usr/bin/tool", true),
        ("bin/other", "usr/bin/other", true),
        ("bin/../etc/hosts", "usr/etc/hosts", false),
        ("out/hosts", "etc/hosts", true),
        ("../../etc/hosts", "etc/hosts", true),
        ("bin/missing/deeper", "usr/bin/missing/deeper", false),
    ] {
        let found = at(path, true).unwrap();
        assert_eq!(found.path, Path::new(resolved), "{path}");
        assert_eq!(found.meta.is_some(), there, "{path}");
    }
    assert!(at("loop", true).is_err());
    assert_eq!(at("loop", false).unwrap().meta.unwrap().kind, Kind::Symlink);
    assert!(at("etc/hosts/below", true).is_err());
}

#[test]
fn directories_merge_and_whiteouts_hide() {
    let low = layer(&["kept", "gone", "folder/low", "opaque/low"]);
    let high = layer(&["folder/high", "opaque/high"]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        high.path().join("gone"),
        rustix::fs::FileType::CharacterDevice,
        Mode::empty(),
        0,
    )
    .unwrap();
    rustix::fs::setxattr(
        high.path().join("opaque"),
        "trusted.overlay.opaque",
        b"y",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let merged = Merged::new(vec![high.path().to_owned(), low.path().to_owned()]);
    let names = |path: &str| -> Vec<String> {
        let listed = merged.list(Path::new(path)).unwrap();
        listed
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .collect()
    };
    assert_eq!(names(""), ["folder", "kept", "opaque"]);
    assert_eq!(names("folder"), ["high", "low"]);
    assert_eq!(names("opaque"), ["high"]);
    assert!(merged.stat(Path::new("gone"), false).unwrap().is_none());
    assert!(merged.open(Path::new("gone")).is_err());
    assert!(merged.open(Path::new("folder/low")).is_ok());
}
