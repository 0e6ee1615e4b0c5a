//! Limits of named volumes.
//!
//! A named volume is shared by the environments of its namespace and outlives them, so it counts to
//! none of them: it has a limit of its own, that of the first environment with a limit that uses it,
//! and the larger one of a later environment. A volume that was there before without an image stays
//! without a limit where there are no quotas: somebody may be writing to it. Its project is a number
//! made of its directory's, below those of environments.
//!
//! The mount of an image stays until [`release_all`]: another environment may be about to take it.

use super::{Disk, is_empty, make_directory};
use crate::failure::Failed;
use boatyard_plan::disk::reserve;
use boatyard_sandbox::disk::{self, Error, Method, image, quota};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Projects of volumes are from here on, and below those of environments.
const PROJECTS: u32 = 0x0800_0000;

/// Makes the directory of a volume, with a limit where there is to be one.
pub(crate) fn ready(directory: &Path, bytes: Option<u64>) -> Result<(), Failed> {
    make(directory, bytes).map_err(|error| super::failed(&error, bytes.unwrap_or_default()))
}

fn make(directory: &Path, bytes: Option<u64>) -> Result<(), Error> {
    let mut volume = Disk {
        directory: directory.to_owned(),
        image: image_of(directory),
        project: 0,
        bytes: bytes.unwrap_or_default(),
    };
    // Its image comes before its directory: one without is a volume without a limit.
    let new = !directory.exists() && bytes.is_some();
    if volume.image.exists() || new && volume.method() == Method::Image {
        if let Some(parent) = directory.parent() {
            make_directory(parent)?;
        }
        if !volume.image.exists() {
            image::make(&volume.image, volume.whole(), None)?;
        }
        make_directory(directory)?;
        if image::is_mounted(directory) {
            return Ok(());
        }
        return volume.mount();
    }
    make_directory(directory)?;
    let Some(bytes) = bytes.filter(|_| volume.method() == Method::Quota) else {
        return Ok(());
    };
    let failed = |source| Error::Io {
        what: format!("look at {}", directory.display()),
        source,
    };
    let inode = std::fs::metadata(directory).map_err(failed)?.ino();
    volume.project = PROJECTS + u32::try_from(inode % u64::from(PROJECTS)).unwrap_or_default();
    let has = quota::project(directory).map_err(failed)? == volume.project;
    if has {
        let now = disk::usage(directory).map_err(failed)?.bytes;
        volume.bytes = bytes.max(now - reserve(now).min(now));
    } else if !is_empty(directory) {
        return Ok(());
    }
    volume.limit_by_quota()
}

/// The image of a volume; no name of one begins with a dot.
fn image_of(directory: &Path) -> std::path::PathBuf {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    directory.with_file_name(format!(".{name}.img"))
}

/// Takes the mounts of all volumes off, when nothing runs.
pub(crate) fn release_all(volumes: &Path) -> std::io::Result<()> {
    for namespace in std::fs::read_dir(volumes)? {
        for volume in std::fs::read_dir(namespace?.path())? {
            image::unmount(&volume?.path()).map_err(std::io::Error::other)?;
        }
    }
    Ok(())
}
