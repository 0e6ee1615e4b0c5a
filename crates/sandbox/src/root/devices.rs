//! `/dev` of a sandbox: a tmpfs of its own with the allowed nodes.
//!
//! The nodes are made by host root on a tmpfs mounted by host root, owned by the environment's
//! root: bind mounts of the host's nodes would keep the host's owner, and /dev/fuse is usually
//! 0600 root. Nobody inside can make another node (mknod wants the host's CAP_MKNOD), so this
//! tmpfs is the only mount of a sandbox without `nodev`.

use super::{as_inside_root, attach, new_tmpfs, targets};
use crate::error::{Failure, Step};
use crate::spec::{ID_RANGE, Spec};
use rustix::fs::{AtFlags, FileType, Mode};
use std::os::fd::{AsFd, BorrowedFd};

/// Name, major, minor of what every sandbox has.
pub(crate) const NODES: [(&str, u32, u32); 8] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("fuse", 10, 229),
    ("net/tun", 10, 200),
];

/// Mounts /dev.
pub(super) fn mount(spec: &Spec, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let dev = new_tmpfs(spec.id_base, None, 0o755, false).step("make a tmpfs for /dev")?;
    as_inside_root(spec.id_base, || fill(spec, dev.as_fd()))?;
    let target = targets::existing_directory(root, "dev")?;
    attach(dev.as_fd(), target.as_fd()).step("mount a tmpfs on /dev")
}

fn fill(spec: &Spec, dev: BorrowedFd<'_>) -> Result<(), Failure> {
    for directory in ["pts", "shm", "mqueue", "net"] {
        rustix::fs::mkdirat(dev, directory, Mode::from_raw_mode(0o755)).step("fill /dev")?;
    }
    for (directory, mode) in [
        (".spare", 0o700),
        (".spare/proc", 0o555),
        (".spare/sys", 0o555),
    ] {
        rustix::fs::mkdirat(dev, directory, Mode::from_raw_mode(mode)).step("fill /dev")?;
    }
    for (target, link) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("/proc/kcore", "core"),
    ] {
        rustix::fs::symlinkat(target, dev, link).step("fill /dev")?;
    }
    for (name, major, minor) in NODES {
        rustix::fs::mknodat(
            dev,
            name,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            rustix::fs::makedev(major, minor),
        )
        .step_with(|| format!("make /dev/{name}"))?;
    }
    for device in &spec.devices {
        let what = || format!("make the device {}", device.inside.display());
        let stat = rustix::fs::stat(&device.host)
            .step_with(|| format!("look at the device {}", device.host.display()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            return Err(Failure::new(what(), "it is not a device node"));
        }
        let below = device
            .inside
            .strip_prefix("/dev")
            .map_err(|_| Failure::new(what(), "it is not below /dev"))?;
        if let Some(parent) = below.parent().filter(|p| !p.as_os_str().is_empty()) {
            targets::make(dev, parent, targets::Kind::Directory)?;
        }
        let mode = Mode::from_raw_mode(device.mode & 0o777);
        rustix::fs::mknodat(dev, below, kind, mode, stat.st_rdev).step_with(what)?;
        let owner = |id: u32| {
            let inside = id < ID_RANGE;
            inside
                .then(|| spec.id_base + id)
                .ok_or_else(|| Failure::new(what(), format!("the id {id} does not exist inside")))
        };
        let (uid, gid) = (owner(device.uid)?, owner(device.gid)?);
        rustix::fs::chownat(
            dev,
            below,
            Some(rustix::fs::Uid::from_raw(uid)),
            Some(rustix::fs::Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .step_with(what)?;
    }
    Ok(())
}
