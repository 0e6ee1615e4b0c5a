//! New volumes begin with what the image has at their place, as with other engines: a database's
//! folder belongs to its user, and what the image brings is in it.
//!
//! A volume that is empty when an environment or a service with it starts is filled from the
//! image's folder, with owners and modes, unless the mount says `volume-nocopy`. Limits of volumes
//! are [`crate::disk::volumes`]'s.
//!
//! Crash behaviour: `.NAME.filling` lies beside a volume from before the first file to after the
//! last one, so that a killed start's half-filled volume is emptied and filled again by the next.
//! Two that start with one volume at once take turns.

use crate::failure::Failed;
use boatyard_devcontainer::{Mount as Wanted, MountKind};
use boatyard_image::build::copy_out;
use boatyard_sandbox::spec::{Mount, MountSource};
use rustix::fs::FlockOperation;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Volumes to be filled, of one image.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    /// Where a volume is, and what it begins with.
    volumes: Vec<(PathBuf, PathBuf)>,
    /// Topmost first.
    layers: Vec<PathBuf>,
}

impl Filling {
    /// The volumes among these mounts, which were `made` of what was `wanted`.
    pub(crate) fn of<'a>(
        made: &[Mount],
        wanted: impl IntoIterator<Item = &'a Wanted>,
        layers: &[PathBuf],
    ) -> Self {
        let volume = |wanted: &Wanted| {
            if wanted.kind != MountKind::Volume || wanted.options.contains_key("volume-nocopy") {
                return None;
            }
            let target = Path::new(&wanted.target);
            let made = made.iter().find(|mount| mount.target == target)?;
            match &made.source {
                MountSource::Host { path, .. } => Some((path.clone(), target.to_owned())),
                _ => None,
            }
        };
        Self {
            volumes: wanted.into_iter().filter_map(volume).collect(),
            layers: layers.to_vec(),
        }
    }

    /// Fills those that are empty. Blocking.
    pub(crate) fn fill(&self) -> Result<(), Failed> {
        for (volume, target) in &self.volumes {
            fill(volume, target, &self.layers).map_err(|error| Failed::disk(volume, &error))?;
        }
        Ok(())
    }
}

fn fill(volume: &Path, target: &Path, layers: &[PathBuf]) -> io::Result<()> {
    let folder = File::open(volume)?;
    rustix::fs::flock(&folder, FlockOperation::LockExclusive)?;
    let name = volume.file_name().unwrap_or_default().to_string_lossy();
    let marker = volume.with_file_name(format!(".{name}.filling"));
    if marker.exists() {
        for entry in contents(volume)? {
            match entry.symlink_metadata()?.is_dir() {
                true => std::fs::remove_dir_all(&entry)?,
                false => std::fs::remove_file(&entry)?,
            }
        }
    } else if !contents(volume)?.is_empty() {
        return Ok(());
    }
    File::create(&marker)?.sync_all()?;
    copy_out(layers.to_vec(), target, volume)?;
    rustix::fs::syncfs(&folder)?;
    std::fs::remove_file(&marker)
}

/// What is in a volume, but what its file system put there.
fn contents(volume: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(volume)? {
        let entry = entry?;
        if entry.file_name() != "lost+found" {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
