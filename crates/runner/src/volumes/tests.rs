#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

/// A folder with two layers, topmost first, and an empty volume.
fn place() -> (tempfile::TempDir, Vec<PathBuf>, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (upper, lower) = (folder.path().join("upper"), folder.path().join("lower"));
    for layer in [&upper, &lower] {
        std::fs::create_dir_all(layer.join("var/lib/data/sub")).unwrap();
    }
    std::fs::write(lower.join("var/lib/data/below"), "lower").unwrap();
    std::fs::write(lower.join("var/lib/data/both"), "lower").unwrap();
    std::fs::write(upper.join("var/lib/data/both"), "upper").unwrap();
    std::fs::write(upper.join("var/lib/data/sub/deep"), "deep").unwrap();
    symlink("/etc/shadow", upper.join("var/lib/data/link")).unwrap();
    symlink("/var/lib/data", upper.join("data")).unwrap();
    symlink("/../../../../etc", upper.join("out")).unwrap();
    chown(upper.join("var/lib/data"), Some(70), Some(71)).unwrap();
    chown(upper.join("var/lib/data/sub/deep"), Some(72), Some(73)).unwrap();
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(upper.join("var/lib/data"), mode(0o1770)).unwrap();
    let volume = folder.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    (folder, vec![upper, lower], volume)
}

fn whole(volume: &Path) {
    let about = std::fs::metadata(volume).unwrap();
    assert_eq!((about.uid(), about.gid()), (70, 71));
    assert_eq!(about.mode() & 0o7777, 0o1770);
    let read = |name: &str| std::fs::read_to_string(volume.join(name)).unwrap();
    assert_eq!(
        (read("below"), read("both"), read("sub/deep")),
        ("lower".to_owned(), "upper".to_owned(), "deep".to_owned())
    );
    let deep = std::fs::metadata(volume.join("sub/deep")).unwrap();
    assert_eq!((deep.uid(), deep.gid()), (72, 73));
    // A link is copied as it is, and not followed.
    assert_eq!(
        std::fs::read_link(volume.join("link")).unwrap(),
        Path::new("/etc/shadow")
    );
}

#[test]
fn an_empty_volume_gets_what_the_image_has_with_owners_and_modes() {
    for target in ["/var/lib/data", "/data"] {
        let (_folder, layers, volume) = place();
        fill(&volume, Path::new(target), &layers).unwrap();
        whole(&volume);
    }
}

#[test]
fn a_volume_with_something_in_it_is_left_alone() {
    let (_folder, layers, volume) = place();
    std::fs::write(volume.join("mine"), "").unwrap();
    fill(&volume, Path::new("/data"), &layers).unwrap();
    assert_eq!(contents(&volume).unwrap(), [volume.join("mine")]);
}

#[test]
fn a_volume_that_a_killed_start_had_half_filled_is_filled_again() {
    let (folder, layers, volume) = place();
    std::fs::write(folder.path().join(".volume.filling"), "").unwrap();
    std::fs::create_dir(volume.join("sub")).unwrap();
    std::fs::write(volume.join("half"), "").unwrap();
    fill(&volume, Path::new("/data"), &layers).unwrap();
    whole(&volume);
    assert!(!volume.join("half").exists());
    assert!(!folder.path().join(".volume.filling").exists());
}

#[test]
fn where_the_image_has_no_folder_nothing_is_copied_and_no_link_leads_out_of_it() {
    let (_folder, layers, volume) = place();
    for target in ["/nowhere", "/var/lib/data/both", "/out/"] {
        fill(&volume, Path::new(target), &layers).unwrap();
        assert!(contents(&volume).unwrap().is_empty(), "{target}");
    }
}
