//! New volumes take over what the image has at their place, as with other engines: a database's
//! folder belongs to its user.
//!
//! Owner, group and mode of the folder are taken over, from the topmost layer that has it; its
//! contents are not. Images are untrusted: nothing is followed out of a layer.

use boatyard_devcontainer::{Mount as Wanted, MountKind};
use boatyard_sandbox::beneath;
use boatyard_sandbox::spec::{Mount, MountSource};
use rustix::fs::{OFlags, ResolveFlags};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Prepares the volume of a mount, when it is one and empty.
pub(super) fn seed(mounts: &[Mount], wanted: &Wanted, layers: &[PathBuf]) {
    if wanted.kind != MountKind::Volume {
        return;
    }
    let target = Path::new(&wanted.target);
    let made = mounts.iter().find(|mount| mount.target == target);
    let Some(MountSource::Host { path, .. }) = made.map(|mount| &mount.source) else {
        return;
    };
    let is_empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let Some((uid, gid, mode)) = folder(layers, target).filter(|_| is_empty) else {
        return;
    };
    let done = chown(path, Some(uid), Some(gid)).and_then(|()| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o7777))
    });
    if let Err(error) = done {
        tracing::info!(path = %path.display(), %error, "the volume keeps root as its owner");
    }
}

/// Owner, group and mode of a folder of the image.
fn folder(layers: &[PathBuf], target: &Path) -> Option<(u32, u32, u32)> {
    let relative = target.strip_prefix("/").ok()?;
    layers.iter().find_map(|layer| {
        let layer = std::fs::File::open(layer).ok()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let found = beneath::open(&layer, relative, flags, resolve).ok()?;
        let found = std::fs::File::from(found).metadata().ok()?;
        Some((found.uid(), found.gid(), found.mode()))
    })
}
