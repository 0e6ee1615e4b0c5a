//! Disks on the real kernel, and what a kill leaves of their making. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::layout::Layout;
use crate::record::Uid;

const MIB: u64 = 1 << 20;

/// A state directory with one environment, unmounted when dropped.
struct Host {
    _folder: tempfile::TempDir,
    paths: EnvironmentPaths,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let layout = Layout::open(&folder.path().join("state")).unwrap();
        let uid = Uid::try_from("0123-4567-89ab".to_owned()).unwrap();
        let paths = layout.environment(&uid);
        private_directory(paths.root()).unwrap();
        Self {
            _folder: folder,
            paths,
        }
    }

    fn disk(&self, bytes: u64) -> Disk {
        Disk::of(&self.paths, 3, bytes)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.paths.disk().join(name)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = image::unmount(&self.paths.disk());
    }
}

fn free(disk: &Disk) -> u64 {
    disk.usage().unwrap().bytes_free
}

#[test]
fn a_disk_is_made_once_and_found_again() {
    let host = Host::new();
    let disk = host.disk(48 * MIB);
    for _ in 0..2 {
        disk.ready().unwrap();
        std::fs::write(host.path("file"), "kept").unwrap();
        assert!(
            free(&disk) < 56 * MIB && free(&disk) > 44 * MIB,
            "{}",
            free(&disk)
        );
        disk.release().unwrap();
        disk.release().unwrap();
    }
    assert!(!disk.is_mounted());
    disk.ready().unwrap();
    assert_eq!(std::fs::read_to_string(host.path("file")).unwrap(), "kept");
}

/// What each step of making a disk leaves when the runner is killed after it, one after the other.
#[test]
fn a_disk_whose_making_was_cut_off_anywhere_is_made() {
    let host = Host::new();
    let disk = host.disk(32 * MIB);
    if disk.method() == Method::Quota {
        return;
    }
    // What was there before there was a limit.
    private_directory(&host.path("upper")).unwrap();
    std::fs::write(host.path("upper/file"), "kept").unwrap();
    // The image is half made.
    let fresh = host.paths.image().with_extension("img.new");
    std::fs::write(&fresh, "half").unwrap();
    disk.ready().unwrap();
    assert!(!fresh.exists());
    assert_eq!(
        std::fs::read_to_string(host.path("upper/file")).unwrap(),
        "kept"
    );
    // It is whole, and what it was made of was not removed yet.
    disk.release().unwrap();
    assert!(is_empty(&host.paths.disk()));
    private_directory(&host.path("upper")).unwrap();
    std::fs::write(host.path("upper/file"), "old").unwrap();
    disk.ready().unwrap();
    assert_eq!(
        std::fs::read_to_string(host.path("upper/file")).unwrap(),
        "kept"
    );
    // Its file was made longer and its file system not.
    disk.release().unwrap();
    let larger = host.disk(160 * MIB);
    let file = std::fs::File::options()
        .write(true)
        .open(host.paths.image())
        .unwrap();
    file.set_len(image::file_size(larger.whole())).unwrap();
    larger.ready().unwrap();
    assert!(free(&larger) > 150 * MIB, "{}", free(&larger));
    assert_eq!(
        std::fs::read_to_string(host.path("upper/file")).unwrap(),
        "kept"
    );
    // Nothing below the mount is left when it is taken off for good, and the trash is emptied with
    // one still on.
    larger.release().unwrap();
    larger.ready().unwrap();
    release_all(host.paths.root()).unwrap();
    std::fs::remove_dir_all(host.paths.root()).unwrap();
}

#[test]
fn what_does_not_fit_is_said_with_a_remedy() {
    let host = Host::new();
    let disk = host.disk(32 * MIB);
    if disk.method() == Method::Quota {
        return;
    }
    private_directory(&host.paths.disk()).unwrap();
    std::fs::write(host.path("much"), vec![1; 64 << 20]).unwrap();
    let error = disk.ready().unwrap_err();
    let failed = failed(&error, disk.bytes);
    assert_eq!(
        (failed.reason.as_str(), failed.transient),
        ("DiskTooSmall", false)
    );
    assert!(
        failed.message.contains("32 MiB") && failed.message.contains("larger disk"),
        "{failed}"
    );
    assert!(host.path("much").exists() && !host.paths.image().exists());
}

#[test]
fn a_full_disk_has_room_for_what_a_start_writes() {
    let host = Host::new();
    let disk = host.disk(32 * MIB);
    disk.ready().unwrap();
    let fill = || {
        let mut file = std::fs::File::create(host.path("much")).unwrap();
        while std::io::Write::write_all(&mut file, &vec![1; 1 << 16]).is_ok() {}
        drop(file);
        let mut number = 0;
        while std::fs::create_dir(host.path(&format!("d{number}"))).is_ok() {
            number += 1;
        }
    };
    fill();
    assert!(std::fs::write(host.path("more"), [1; 8192]).is_err());
    disk.let_go();
    assert!(free(&disk) >= MIB, "{}", free(&disk));
    std::fs::write(host.path("more"), [1; 8192]).unwrap();
    disk.keep();
    // Nearly all of it is kept again: the next start has it too.
    fill();
    disk.let_go();
    assert!(free(&disk) >= MIB / 2, "{}", free(&disk));
    let known = look_now(&disk, None).unwrap();
    assert_eq!(known.pressure, Pressure::Bytes);
}

#[test]
fn the_largest_are_named_as_they_are_inside() {
    let host = Host::new();
    for (name, size) in [
        ("upper/root", 3),
        ("upper/usr", 2),
        ("nested/docker", 5),
        ("workspace", 1),
    ] {
        private_directory(&host.path(name)).unwrap();
        std::fs::write(host.path(name).join("file"), vec![1; size << 20]).unwrap();
    }
    std::os::unix::fs::symlink("/", host.path("upper/link")).unwrap();
    let found = largest(&host.paths.disk(), Pressure::Bytes);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["/var/lib/docker", "/root", "/usr"]);
    assert!(found[0].1 >= 5 * MIB && found[0].1 < 6 * MIB, "{found:?}");
    let found = largest(&host.paths.disk(), Pressure::Inodes);
    assert!(found.iter().all(|(_, count)| *count == 2), "{found:?}");
}
