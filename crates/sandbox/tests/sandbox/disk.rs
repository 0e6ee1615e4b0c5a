//! Directories with limits: by an image everywhere, by project quota where the host has it.

use crate::world::{DEADLINE, World};
use boatyard_sandbox::disk::{self, Method, image, quota};
use boatyard_sandbox::spec::{Mount, MountIds, MountSource, Spec};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const MIB: u64 = 1 << 20;

/// A directory whose limit is kept by an image, unmounted when dropped.
struct Limited {
    folder: tempfile::TempDir,
}

impl Limited {
    fn new(bytes: u64) -> Self {
        let limited = Self::unmade();
        image::make(&limited.image(), bytes, None).unwrap();
        image::mount(&limited.image(), &limited.directory()).unwrap();
        limited
    }

    fn unmade() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("boatyard-disk-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        std::fs::create_dir(folder.path().join("disk")).unwrap();
        Self { folder }
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Loop devices of the image.
    fn devices(&self) -> Vec<String> {
        loops(self.folder.path())
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = image::unmount(&self.directory());
    }
}

/// Loop devices backed by files below a folder.
fn loops(below: &Path) -> Vec<String> {
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    let below = below.to_str().unwrap();
    devices
        .filter(|device| {
            std::fs::read_to_string(device.path().join("loop/backing_file"))
                .is_ok_and(|file| file.contains(below))
        })
        .map(|device| device.file_name().to_string_lossy().into_owned())
        .collect()
}

fn wait_no_device(limited: &Limited) {
    let deadline = Instant::now() + DEADLINE;
    while !limited.devices().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", limited.devices());
        std::thread::yield_now();
    }
}

/// A sandbox whose upper directory and `/data` lie in a limited directory.
fn spec_in(world: &World, limited: &Path, name: &str, script: &str) -> Spec {
    let mut spec = world.spec(name, script);
    for part in ["upper", "work", "data"] {
        std::fs::create_dir_all(limited.join(part)).unwrap();
    }
    spec.root = boatyard_sandbox::spec::Root::Overlay {
        layers: vec![world.layer()],
        upper: limited.join("upper"),
        work: limited.join("work"),
    };
    spec.mounts.push(Mount {
        source: MountSource::Host {
            path: limited.join("data"),
            ids: MountIds::Unshifted,
            open_as: None,
        },
        target: "/data".into(),
        read_only: false,
    });
    spec
}

/// What fills a disk and its inodes from inside, of which there are at most so many, and what is found
/// then.
fn fill(inodes: u64) -> String {
    FILL.replace("MANY", &(inodes * 2 + 500).to_string())
}

const FILL: &str = r"df -m / | tail -1
dd if=/dev/zero of=/full bs=64k 2>&1 | grep -o 'No space\|quota exceeded'
dd if=/dev/zero bs=4k >> /full 2>/dev/null
(echo more > /data/more) 2>/dev/null || echo refused
ls -l /full | awk '{print $5}'
rm /full
cd /data; seq MANY | xargs touch 2>/dev/null
ls | wc -l
touch /another 2>/dev/null || echo no inode
rm -r /data/*
touch /another && echo again";

/// Holds the output of [`fill`] to a limit.
fn judge(said: &str, bytes: u64, most: u64) {
    let lines: Vec<&str> = said.lines().collect();
    let size: u64 = lines[0].split_whitespace().nth(1).unwrap().parse().unwrap();
    let wanted = bytes / MIB;
    assert!((wanted..wanted + wanted / 8 + 4).contains(&size), "{said}");
    assert!(["No space", "quota exceeded"].contains(&lines[1]), "{said}");
    let refused = lines[2..].iter().position(|line| *line == "refused");
    let rest = &lines[3 + refused.unwrap_or_else(|| panic!("{said}"))..];
    let written: u64 = rest[0].parse().unwrap();
    assert!(
        written >= bytes - MIB && written < bytes + bytes / 8,
        "{said}"
    );
    let inodes: u64 = rest[1].parse().unwrap();
    assert!(inodes > most / 2 && inodes <= most * 2, "{said}");
    assert_eq!(&rest[2..], ["no inode", "again"], "{said}");
}

#[test]
fn an_image_holds_an_environment_to_its_bytes_and_inodes() {
    let world = World::new();
    let limited = Limited::new(48 * MIB);
    let inodes = 48 * MIB / disk::bytes_per_inode(48 * MIB);
    let spec = spec_in(&world, &limited.directory(), "one", &fill(inodes));
    let (code, said) = world.run_spec(&spec);
    assert_eq!(code, Some(0), "{said}");
    judge(&said, 48 * MIB, inodes);
    let usage = disk::usage(&limited.directory()).unwrap();
    assert!(usage.bytes_free > 40 * MIB, "{usage:?}");
    // Neither a setuid program nor a device of its making works on the host's side.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = limited.directory();
    let line = mounts
        .lines()
        .find(|line| line.contains(mount.to_str().unwrap()));
    let line = line.unwrap();
    assert!(line.contains("nosuid,nodev"), "{line}");
    image::unmount(&limited.directory()).unwrap();
    wait_no_device(&limited);
}

#[test]
fn an_image_unmounted_under_a_sandbox_is_mounted_again_as_the_same_file_system() {
    let world = World::new();
    let limited = Limited::new(32 * MIB);
    let script = "echo begun; until [ -e /data/go ]; do usleep 1000; done; cat /data/go";
    let spec = spec_in(&world, &limited.directory(), "one", script);
    world.sandboxes.start(&spec).unwrap();
    let before = limited.devices();
    assert_eq!(before.len(), 1);
    image::unmount(&limited.directory()).unwrap();
    image::unmount(&limited.directory()).unwrap();
    assert!(!image::is_mounted(&limited.directory()));
    assert_eq!(limited.devices(), before, "the sandbox still has it");
    image::mount(&limited.image(), &limited.directory()).unwrap();
    image::mount(&limited.image(), &limited.directory()).unwrap();
    assert_eq!(limited.devices(), before, "one device for one file");
    std::fs::write(limited.directory().join("data/go.new"), "went\n").unwrap();
    let data = limited.directory().join("data");
    std::fs::rename(data.join("go.new"), data.join("go")).unwrap();
    let (code, said) = world.finish(&spec);
    assert_eq!((code, said.as_str()), (Some(0), "begun\nwent\n"));
    // Detached while busy: gone with the last descriptor.
    let held = std::fs::File::open(data.join("go")).unwrap();
    image::unmount(&limited.directory()).unwrap();
    assert!(!image::is_mounted(&limited.directory()));
    drop(held);
    wait_no_device(&limited);
    // Looked into without being mounted anywhere.
    let inside = image::open(&limited.image()).unwrap();
    let looked = rustix::fs::statat(&inside, "data/go", rustix::fs::AtFlags::empty());
    assert_eq!(looked.unwrap().st_size, 5);
    drop(inside);
    wait_no_device(&limited);
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
}

#[test]
fn an_image_takes_over_what_an_environment_had_before_it() {
    let limited = Limited::unmade();
    let old = limited.directory();
    std::fs::create_dir_all(old.join("upper/etc")).unwrap();
    std::fs::write(old.join("upper/etc/hosts"), "kept").unwrap();
    std::fs::hard_link(old.join("upper/etc/hosts"), old.join("upper/etc/other")).unwrap();
    symlink("hosts", old.join("upper/etc/link")).unwrap();
    rustix::fs::chownat(
        rustix::fs::CWD,
        old.join("upper/etc/hosts"),
        Some(rustix::fs::Uid::from_raw(1000)),
        None,
        rustix::fs::AtFlags::empty(),
    )
    .unwrap();
    whiteout(&old.join("upper/gone"));
    let opaque = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(
        old.join("upper/etc"),
        "trusted.overlay.opaque",
        b"y",
        opaque,
    )
    .unwrap();
    image::make(&limited.image(), 16 * MIB, Some(&old)).unwrap();
    let inside = image::open(&limited.image()).unwrap();
    let seen = format!(
        "/proc/self/fd/{}/upper",
        std::os::fd::AsRawFd::as_raw_fd(&inside)
    );
    let seen = Path::new(&seen);
    let hosts = std::fs::metadata(seen.join("etc/hosts")).unwrap();
    assert_eq!((hosts.uid(), hosts.nlink()), (1000, 2));
    assert_eq!(
        std::fs::read_to_string(seen.join("etc/link")).unwrap(),
        "kept"
    );
    let gone = std::fs::symlink_metadata(seen.join("gone")).unwrap();
    assert_eq!((gone.mode() >> 12, gone.rdev()), (2, 0));
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(seen.join("etc"), "trusted.overlay.opaque", &mut value);
    assert_eq!(&value[..length.unwrap()], b"y");
    // What does not fit is refused, and nothing half-made is taken for an image.
    std::fs::write(old.join("much"), vec![1; 64 << 20]).unwrap();
    let second = limited.folder.path().join("second.img");
    let refused = image::make(&second, 16 * MIB, Some(&old)).unwrap_err();
    assert!(refused.to_string().contains("mke2fs"), "{refused}");
    assert!(!second.exists());
}

fn whiteout(path: &Path) {
    let kind = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

#[test]
fn an_image_grows_and_keeps_its_files() {
    let limited = Limited::new(24 * MIB);
    std::fs::write(limited.directory().join("file"), "kept").unwrap();
    let before = disk::usage(&limited.directory()).unwrap();
    let grown = image::grow(&limited.image(), &limited.directory(), 300 * MIB).unwrap();
    if grown == image::Grown::Later {
        // This kernel asks for CAP_SYS_RESOURCE, which is not held here.
        image::unmount(&limited.directory()).unwrap();
        wait_no_device(&limited);
        let grown = image::grow(&limited.image(), &limited.directory(), 300 * MIB).unwrap();
        assert_eq!(grown, image::Grown::Now);
        image::mount(&limited.image(), &limited.directory()).unwrap();
    }
    let after = disk::usage(&limited.directory()).unwrap();
    assert!(
        before.bytes_free < 32 * MIB && after.bytes_free >= 290 * MIB,
        "{before:?} {after:?}"
    );
    assert!(after.inodes > before.inodes * 2, "{before:?} {after:?}");
    let kept = std::fs::read_to_string(limited.directory().join("file")).unwrap();
    assert_eq!(kept, "kept");
}

#[test]
fn an_image_says_the_size_it_was_made_with() {
    for mebibytes in [32, 100, 125, 500, 1024, 20 * 1024, 20 * 1024 + 3] {
        let limited = Limited::unmade();
        image::make(&limited.image(), mebibytes * MIB, None).unwrap();
        let size = image::size(&limited.image()).unwrap();
        assert_eq!(size, image::file_size(mebibytes * MIB), "{mebibytes} MiB");
        image::mount(&limited.image(), &limited.directory()).unwrap();
        let usage = disk::usage(&limited.directory()).unwrap();
        let free = usage.bytes_free / MIB;
        assert!(
            (mebibytes..mebibytes + mebibytes / 16 + 17).contains(&free),
            "{free} of {mebibytes} MiB"
        );
        assert!(std::fs::metadata(limited.image()).unwrap().blocks() * 512 < 32 * MIB);
    }
}

#[test]
fn room_freed_inside_is_given_back_to_the_host() {
    let limited = Limited::new(64 * MIB);
    let taken = || std::fs::metadata(limited.image()).unwrap().blocks() * 512;
    let file = limited.directory().join("file");
    std::fs::write(&file, vec![7; 32 << 20]).unwrap();
    let synced = std::fs::File::open(&file).unwrap();
    rustix::fs::syncfs(&synced).unwrap();
    drop(synced);
    let full = taken();
    assert!(full > 32 * MIB);
    std::fs::remove_file(&file).unwrap();
    rustix::fs::syncfs(std::fs::File::open(limited.directory()).unwrap()).unwrap();
    image::trim(&limited.directory()).unwrap();
    assert!(taken() < full - 24 * MIB, "{} of {full}", taken());
}

#[test]
fn the_doctor_says_how_disks_are_limited() {
    let checks = boatyard_sandbox::doctor_for(Path::new("/var/tmp"));
    let check = checks
        .iter()
        .find(|check| check.name == "disk limits")
        .unwrap();
    assert!(check.ok, "{check:?}");
    let method = disk::method(Path::new("/var/tmp"));
    assert!(check.detail.starts_with(&method.to_string()), "{check:?}");
}

/// A file system with project quotas, on a device of its own; None where the kernel has none.
struct Quotas {
    folder: tempfile::TempDir,
}

impl Quotas {
    fn new(kind: &'static str) -> Option<Self> {
        let folder = tempfile::Builder::new()
            .prefix("boatyard-quota-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let quotas = Self { folder };
        let file = quotas.folder.path().join("file");
        std::fs::File::create(&file)
            .unwrap()
            .set_len(512 * MIB)
            .unwrap();
        std::fs::create_dir(quotas.mount()).unwrap();
        let script = match kind {
            "ext4" => "mke2fs -q -F -t ext4 -O quota,project -E quotatype=prjquota",
            _ => "mkfs.xfs -q -f",
        };
        let script = format!("{script} \"$0\" && mount -o loop,prjquota \"$0\" \"$1\"");
        let made = Command::new("sh")
            .args(["-c", &script])
            .args([&file, &quotas.mount()])
            .output()
            .unwrap();
        if disk::method(&quotas.mount()) == Method::Quota {
            return Some(quotas);
        }
        skipped(&format!(
            "this kernel keeps no project quota on {kind} (make test-vm does): {}",
            String::from_utf8_lossy(&made.stderr)
        ));
        assert!(
            std::env::var_os("BOATYARD_QUOTA").is_none(),
            "this host is said to have project quotas"
        );
        None
    }

    fn mount(&self) -> PathBuf {
        self.folder.path().join("mount")
    }
}

impl Drop for Quotas {
    fn drop(&mut self) {
        let mount = self.mount();
        let _ = Command::new("umount").arg("--lazy").arg(mount).output();
    }
}

fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {}", why.trim());
}

/// Fewer than an image would have: by emulation each takes its time.
const INODES: u64 = 1500;

fn by_quota(kind: &'static str) {
    let Some(quotas) = Quotas::new(kind) else {
        return;
    };
    let world = World::new();
    let (one, two) = (quotas.mount().join("one"), quotas.mount().join("two"));
    for (project, directory) in [(7001, &one), (7002, &two)] {
        std::fs::create_dir(directory).unwrap();
        quota::limit(directory, project, 48 * MIB, INODES).unwrap();
        assert_eq!(quota::project(directory).unwrap(), project);
    }
    let spec = spec_in(&world, &one, "one", &fill(INODES));
    let (code, said) = world.run_spec(&spec);
    assert_eq!(code, Some(0), "{said}");
    judge(&said, 48 * MIB, INODES);
    // A neighbour and the host write on while one is full.
    let full = "dd if=/dev/zero of=/full bs=64k 2>&1 | grep -o 'No space'; sleep 1000";
    let full = spec_in(&world, &one, "full", full);
    world.sandboxes.start(&full).unwrap();
    let deadline = Instant::now() + DEADLINE;
    // XFS refuses a write that does not fit as a whole.
    while disk::usage(&one).unwrap().bytes_free > MIB {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let neighbour = spec_in(
        &world,
        &two,
        "two",
        "dd if=/dev/zero of=/file bs=1M count=40 2>/dev/null && echo wrote",
    );
    assert_eq!(world.run_spec(&neighbour), (Some(0), "wrote\n".to_owned()));
    std::fs::write(quotas.mount().join("host"), vec![1; 8 << 20]).unwrap();
    // More room is there at once.
    quota::limit(&one, 7001, 96 * MIB, 24 * 1024).unwrap();
    assert!(disk::usage(&one).unwrap().bytes_free > 40 * MIB);
    world.sandboxes.remove(&full.id, &full.state).unwrap();
    // Root inside changes neither its project nor whether new files have it.
    let leave = "chattr -p 7002 /data 2>/dev/null && echo changed; chattr -P /data 2>/dev/null && echo left; chattr +i /data 2>/dev/null; lsattr -pd /data | awk '{print $1}'";
    let leave = spec_in(&world, &one, "leave", leave);
    let (_, said) = world.run_spec(&leave);
    assert!(
        !said.contains("changed") && !said.contains("left"),
        "{said}"
    );
    assert_eq!(quota::project(&one.join("data")).unwrap(), 7001);
}

#[test]
fn ext4_quotas_hold_an_environment_to_its_bytes_and_inodes() {
    by_quota("ext4");
}

#[test]
fn xfs_quotas_hold_an_environment_to_its_bytes_and_inodes() {
    by_quota("xfs");
}

#[test]
fn a_quota_takes_in_what_an_environment_had_before_it() {
    let Some(quotas) = Quotas::new("ext4") else {
        return;
    };
    let world = World::new();
    let directory = quotas.mount().join("one");
    std::fs::create_dir(&directory).unwrap();
    let script = "rm /etc/from-layer; ln -s /etc/passwd /link; mkfifo /pipe; dd if=/dev/zero of=/file bs=1M count=8 2>/dev/null";
    let (code, _) = world.run_spec(&spec_in(&world, &directory, "one", script));
    assert_eq!(code, Some(0));
    quota::limit(&directory, 7003, 32 * MIB, 4096).unwrap();
    let usage = disk::usage(&directory).unwrap();
    assert!(
        usage.bytes == 32 * MIB && usage.bytes_free < 25 * MIB,
        "{usage:?}"
    );
    // Nothing without the project stands in the way of a rename.
    let script = "echo new > /etc/from-layer && mv /link /tmp/link && mv /pipe /tmp/pipe && readlink /tmp/link && mv /file /data/file && echo moved";
    let (code, said) = world.run_spec(&spec_in(&world, &directory, "one", script));
    assert_eq!((code, said.as_str()), (Some(0), "/etc/passwd\nmoved\n"));
}
