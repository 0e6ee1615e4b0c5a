//! The limit on what an environment writes.
//!
//! Everything an environment writes lies below `envs/<uid>/disk`, and the limit of its class holds
//! for that directory: by project quota where the file system of the state directory has it, else
//! by an image beside it, `envs/<uid>/disk.img` (`boatyard_sandbox::disk`). A project's number is the
//! first id of the environment's range, which is not used again while files of it remain. Not held
//! by it: a folder of the developer's, which is theirs; named volumes, which outlive the environment
//! and have a limit of their own ([`volumes`]); what the runner writes beside the directory.
//!
//! The record says how much was granted; whether there is an image, a mount and a device is seen.
//! A disk is made once for all ([`ready`]), when its class first asks: what there is already is taken
//! over, while nothing runs. It grows and is never made smaller (`plan::disk`). Of the granted room
//! a little is kept in [`RESERVE`], which a start lets go of when there is no other.
//!
//! Crash behaviour: an image that is half made is made again; one that is whole is mounted, and
//! what lies hidden below the mount is removed first. A mount that outlived its environment is
//! taken off by the next [`release`]: it counts as a remains of it.

pub(crate) mod volumes;

use crate::context::Context;
use crate::failure::Failed;
use crate::layout::{EnvironmentPaths, private_directory};
use crate::record::id_base;
use boatyard_api::environment::EnvironmentSpec;
use boatyard_plan::disk::{self as planned, Pressure, Usage};
use boatyard_sandbox::disk::{self, Error, Method, image, quota};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where room is kept, in the directory.
const RESERVE: &str = "reserve";
/// Files in it: so many can be made when none are left.
const RESERVED_FILES: u32 = 64;
/// How often it is looked how full a disk is.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is looked whether its class gives more.
const LOOK_AT_CLASS: Duration = Duration::from_secs(60);

/// A limited directory: what an environment writes, or a volume.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    image: PathBuf,
    project: u32,
    /// Bytes that are granted.
    pub(crate) bytes: u64,
}

impl Disk {
    /// What an environment of this slot writes.
    pub(crate) fn of(paths: &EnvironmentPaths, slot: u32, bytes: u64) -> Self {
        Self {
            directory: paths.disk(),
            image: paths.image(),
            project: id_base(slot),
            bytes,
        }
    }

    fn method(&self) -> Method {
        if self.image.exists() {
            return Method::Image;
        }
        disk::method(self.directory.parent().unwrap_or(&self.directory))
    }

    fn reserve(&self) -> PathBuf {
        self.directory.join(RESERVE)
    }

    /// What the limit is set to: with what is kept for the runner.
    fn whole(&self) -> u64 {
        self.bytes + planned::reserve(self.bytes)
    }

    /// Makes it so that the directory is there and has its limit. Idempotent. Nothing may be running
    /// that writes there, unless it has its limit already.
    pub(crate) fn ready(&self) -> Result<(), Error> {
        match self.method() {
            Method::Quota => {
                make_directory(&self.directory)?;
                self.limit_by_quota()?;
            }
            Method::Image => {
                if image::is_mounted(&self.directory) {
                    return Ok(());
                }
                make_directory(&self.directory)?;
                self.mount()?;
            }
        }
        self.keep();
        Ok(())
    }

    fn limit_by_quota(&self) -> Result<(), Error> {
        let whole = self.whole();
        let inodes = whole / disk::bytes_per_inode(whole) + u64::from(RESERVED_FILES);
        quota::limit(&self.directory, self.project, whole, inodes)
    }

    fn mount(&self) -> Result<(), Error> {
        if self.image.exists() {
            let size = image::size(&self.image);
            if size.is_ok_and(|size| size < image::file_size(self.whole())) {
                let grown = image::grow(&self.image, &self.directory, self.whole())?;
                if grown == image::Grown::Later {
                    tracing::info!(image = %self.image.display(), "somebody still uses the disk: it is made larger at the next start");
                }
            }
        } else {
            let content = (!is_empty(&self.directory)).then_some(self.directory.as_path());
            image::make(&self.image, self.whole(), content)?;
        }
        if !is_empty(&self.directory) {
            // The image has it all.
            empty(&self.directory)?;
        }
        image::mount(&self.image, &self.directory)
    }

    /// Grows it to what is granted, also while it is used; false when that has to wait until it is
    /// not.
    pub(crate) fn grow(&self) -> Result<bool, Error> {
        match self.method() {
            Method::Quota => self.limit_by_quota().map(|()| true),
            Method::Image => {
                let grown = image::grow(&self.image, &self.directory, self.whole())?;
                Ok(grown == image::Grown::Now)
            }
        }
    }

    /// Takes the mount off, where there is one.
    pub(crate) fn release(&self) -> Result<(), Error> {
        image::unmount(&self.directory)
    }

    /// Forgets what the kernel knows of it, when nothing of it is left.
    pub(crate) fn forget(&self, near: &Path) {
        if disk::method(near) == Method::Quota
            && let Err(error) = quota::forget(near, self.project)
        {
            tracing::debug!(project = self.project, %error, "its quota stays, unused");
        }
    }

    /// Whether an image is mounted there.
    pub(crate) fn is_mounted(&self) -> bool {
        self.image.exists() && image::is_mounted(&self.directory)
    }

    /// Keeps room for the runner, as far as there is any.
    pub(crate) fn keep(&self) {
        let folder = self.reserve();
        if folder.exists() || private_directory(&folder).is_err() {
            return;
        }
        for number in 0..RESERVED_FILES {
            let Ok(file) = std::fs::File::create(folder.join(number.to_string())) else {
                return;
            };
            if number == 0 {
                let mut left = planned::reserve(self.bytes);
                let plain = rustix::fs::FallocateFlags::empty();
                while left >= 1 << 16 && rustix::fs::fallocate(&file, plain, 0, left).is_err() {
                    left /= 2;
                }
            }
        }
    }

    /// Lets go of what is kept, when there is no other room for what a start writes.
    pub(crate) fn let_go(&self) {
        let Ok(usage) = disk::usage(&self.directory) else {
            return;
        };
        let few = u64::from(RESERVED_FILES) / 2;
        let short = usage.bytes_free < planned::reserve(self.bytes) / 2
            || usage.inodes > 0 && usage.inodes_free < few;
        if short {
            let _ = std::fs::remove_dir_all(self.reserve());
        }
    }

    /// How full it is; None when its limit is not in force.
    fn usage(&self) -> Option<Usage> {
        if self.image.exists() && !image::is_mounted(&self.directory) {
            return None;
        }
        let seen = disk::usage(&self.directory).ok()?;
        Some(Usage {
            bytes: self.bytes,
            bytes_free: seen.bytes_free,
            inodes: seen.inodes,
            inodes_free: seen.inodes_free,
        })
    }

    /// Gives room that was freed inside back to the host, when it is much.
    fn give_back(&self, usage: &Usage) {
        use std::os::unix::fs::MetadataExt;
        let Ok(image) = std::fs::metadata(&self.image) else {
            return;
        };
        let used = self.whole().saturating_sub(usage.bytes_free);
        let spare = (image.blocks() * 512).saturating_sub(used);
        let much = (1 << 30).min(self.bytes / 4) + image::overhead(self.whole());
        if spare > much
            && let Err(error) = image::trim(&self.directory)
        {
            tracing::debug!(image = %self.image.display(), %error, "freed room is not given back");
        }
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    private_directory(path).map_err(|source| Error::Io {
        what: format!("make {}", path.display()),
        source,
    })
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

fn empty(directory: &Path) -> Result<(), Error> {
    let removed = std::fs::remove_dir_all(directory).and_then(|()| private_directory(directory));
    removed.map_err(|source| Error::Io {
        what: format!("empty {}", directory.display()),
        source,
    })
}

/// In words for the user.
fn failed(error: &Error, bytes: u64) -> Failed {
    let text = crate::failure::chain(error);
    match error {
        Error::Program {
            program: "mke2fs",
            said,
            ..
        } if said.contains("populating") => Failed::lasting(
            "DiskTooSmall",
            format!(
                "a disk of {} could not be made for what the environment has: {text}; give it a class with a larger disk, or free room on the host",
                planned::size(bytes)
            ),
        ),
        _ => Failed::transient("DiskFailed", text),
    }
}

/// Makes the disk of an environment as its record says; without a limit there is nothing to do.
pub(crate) async fn ready(context: &Context, disk: Option<Disk>) -> Result<(), Failed> {
    let Some(disk) = disk else { return Ok(()) };
    let bytes = disk.bytes;
    let made = context.blocking(move || disk.ready()).await;
    made.map_err(|error| failed(&error, bytes))
}

/// Takes the disk of an environment of which nothing runs off the host's mounts.
pub(crate) async fn release(context: &Context, disk: Option<Disk>) -> Result<(), Failed> {
    let Some(disk) = disk else { return Ok(()) };
    let bytes = disk.bytes;
    let released = context.blocking(move || disk.release()).await;
    released.map_err(|error| failed(&error, bytes))
}

/// What an environment writes, to be read also while it is stopped.
pub(crate) enum Looked {
    /// It is where it is.
    There(PathBuf),
    /// It is in an image that is not mounted: a mount of it that ends with this.
    Inside(std::os::fd::OwnedFd),
}

impl Looked {
    /// Opens it; what cannot be opened has nothing in it.
    pub(crate) fn at(paths: &EnvironmentPaths) -> Self {
        let there = Self::There(paths.disk());
        if !paths.image().exists() || image::is_mounted(&paths.disk()) {
            return there;
        }
        image::open(&paths.image()).map_or(there, Self::Inside)
    }

    /// The path of something in it, for as long as this lives.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        use std::os::fd::AsRawFd;
        match self {
            Self::There(directory) => directory.join(name),
            Self::Inside(mount) => {
                PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())).join(name)
            }
        }
    }
}

/// Takes mounts off what is being deleted, which has no record to go by any more.
pub(crate) fn release_all(trash: &Path) -> std::io::Result<()> {
    image::unmount(&trash.join("disk")).map_err(std::io::Error::other)
}

/// What is known of how full a disk is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) pressure: Pressure,
    /// One sentence.
    pub(crate) message: String,
}

/// Looks how full a disk is; None while its limit is not in force.
pub(crate) async fn look(context: &Context, disk: Disk, before: Option<Known>) -> Option<Known> {
    context.blocking(move || look_now(&disk, before)).await
}

fn look_now(disk: &Disk, before: Option<Known>) -> Option<Known> {
    disk.keep();
    let usage = disk.usage()?;
    disk.give_back(&usage);
    let was = before
        .as_ref()
        .map_or(Pressure::None, |known| known.pressure);
    let pressure = planned::pressure(was, &usage);
    // What is large is searched for once.
    if let Some(before) = before.filter(|before| before.pressure == pressure) {
        return Some(before);
    }
    let largest = match pressure {
        Pressure::None => Vec::new(),
        pressure => largest(&disk.directory, pressure),
    };
    Some(Known {
        pressure,
        message: planned::message(pressure, &usage, &largest),
    })
}

/// What became of a disk that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Something else is to be said of it.
    Fullness(Option<Known>),
    /// Its class gives it more bytes.
    Larger(u64),
}

/// Waits until something else is to be said of a disk, or its class gives more; `looked` is when
/// the class was looked at last.
pub(crate) async fn changed(
    context: &Context,
    spec: &EnvironmentSpec,
    disk: Disk,
    (known, looked): (Option<Known>, &mut Instant),
) -> Change {
    loop {
        tokio::time::sleep(LOOK).await;
        let now = look(context, disk.clone(), known.clone()).await;
        if now != known {
            return Change::Fullness(now);
        }
        if looked.elapsed() < LOOK_AT_CLASS {
            continue;
        }
        *looked = Instant::now();
        let class = context.class(spec).await;
        let bytes = class.ok().and_then(|class| class.resources.disk);
        let bytes = bytes.and_then(|size| boatyard_api::quantity::bytes(&size).ok());
        if let Some(bytes) = bytes.filter(|bytes| *bytes > disk.bytes) {
            return Change::Larger(bytes);
        }
    }
}

/// Grows the disk of what runs; where the kernel grows it only while nobody uses it, the next start
/// does.
pub(crate) async fn grow(context: &Context, disk: Disk) {
    match context.blocking(move || disk.grow()).await {
        Ok(true) => {}
        Ok(false) => tracing::info!("the disk is made larger at the next start"),
        Err(error) => {
            let error = crate::failure::chain(&error);
            tracing::info!(
                error,
                "the disk is not larger yet; the next start tries again"
            );
        }
    }
}

/// Most files looked at to find what is large.
const MOST_FILES: u32 = 200_000;
/// How many are named.
const NAMED: usize = 3;

/// What is large on a disk, by the names it has inside.
fn largest(directory: &Path, by: Pressure) -> Vec<(String, u64)> {
    let mut left = MOST_FILES;
    let mut found = Vec::new();
    let mut add = |name: String, path: &Path| {
        let size = measured(path, by, &mut left);
        if size > 0 {
            found.push((name, size));
        }
    };
    add(
        "/var/lib/docker".to_owned(),
        &directory.join("nested/docker"),
    );
    add(
        "/var/lib/containers".to_owned(),
        &directory.join("nested/containers"),
    );
    add("the workspace".to_owned(), &directory.join("workspace"));
    add("volumes".to_owned(), &directory.join("volumes"));
    add("other services".to_owned(), &directory.join("services"));
    for entry in std::fs::read_dir(directory.join("upper"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Names are the environment's: what does not print is not shown.
        let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        add(format!("/{name}"), &entry.path());
    }
    found.sort_by_key(|(name, size)| (std::cmp::Reverse(*size), name.clone()));
    found.truncate(NAMED);
    found
}

/// Bytes or files below a path, as far as `left` files go. Links are not followed.
fn measured(path: &Path, by: Pressure, left: &mut u32) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut waiting = vec![path.to_owned()];
    let mut sum = 0;
    while let Some(path) = waiting.pop() {
        let Ok(about) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        sum += match by {
            Pressure::Inodes => 1,
            Pressure::Bytes | Pressure::None => about.blocks() * 512,
        };
        *left = left.saturating_sub(1);
        if about.is_dir() && *left > 0 {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        }
    }
    sum
}

#[cfg(test)]
mod tests;
