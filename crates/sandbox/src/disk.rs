//! A directory with a limit of its own: how much may be in it, and how many files.
//!
//! Two ways, by what the file system that holds the directory offers. **Project quotas** (ext4 and
//! XFS with them switched on): every file below belongs to a project, whose limits the kernel
//! keeps ([`quota`]). Elsewhere an **image**: a sparse file beside the directory holds an ext4 file
//! system of the limit's size, mounted there from a loop device ([`image`]).
//!
//! Owns what the kernel is asked for; when that is done, and what of it is recorded, is the
//! runner's. Root inside an environment has no power over either: projects are changed from the
//! host's user namespace alone, and an image's mount is the host's.
//!
//! Crash behaviour: nothing here needs to be remembered. A project's number comes from the caller,
//! who has it from disk. A loop device is found by the file it is backed by, a mount by its
//! directory; a device that nobody mounts clears itself with its last descriptor.
//!
//! Read next: [`image`], [`quota`].

pub mod image;
mod programs;
pub mod quota;

use std::io;
use std::path::Path;

/// How limits are kept on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By project quotas.
    Quota,
    /// By a file system in a file.
    Image,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Quota => "project quota",
            Self::Image => "an image file on a loop device",
        })
    }
}

/// Why a limited directory is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program of e2fsprogs is not installed.
    #[error("{0} is missing; install e2fsprogs on the host")]
    NoProgram(&'static str),
    /// A program of e2fsprogs failed.
    #[error("{program} of {} failed: {said}", .image.display())]
    Program {
        /// Which.
        program: &'static str,
        /// On what.
        image: std::path::PathBuf,
        /// The end of what it said.
        said: String,
    },
    /// A program of e2fsprogs was killed: it is done again.
    #[error("{program} of {} was killed", .image.display())]
    Killed {
        /// Which.
        program: &'static str,
        /// On what.
        image: std::path::PathBuf,
    },
    /// Somebody else works on it.
    #[error("{} is still being worked on by a program of the last runner", .0.display())]
    Busy(std::path::PathBuf),
}

impl Error {
    fn of(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// How a limit can be kept below this directory.
#[must_use]
pub fn method(directory: &Path) -> Method {
    let enforced = image::directory(directory)
        .and_then(|at| crate::sys::disk::projects_enforced(std::os::fd::AsFd::as_fd(&at)));
    if enforced.unwrap_or(false) {
        Method::Quota
    } else {
        Method::Image
    }
}

/// How many bytes of a disk there are for each file on it: what is a lot of small files on a large
/// disk is an ordinary source tree on a small one.
#[must_use]
pub fn bytes_per_inode(bytes: u64) -> u64 {
    match bytes >> 30 {
        0 => 4096,
        1..4 => 8192,
        _ => 16384,
    }
}

/// How full a limited directory is, as `df` inside shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes there are.
    pub bytes: u64,
    /// Bytes that can still be written.
    pub bytes_free: u64,
    /// Files there can be.
    pub inodes: u64,
    /// Files that can still be made.
    pub inodes_free: u64,
}

/// How full the limited directory is.
///
/// # Errors
/// When it is not there.
pub fn usage(directory: &Path) -> io::Result<Usage> {
    let seen = rustix::fs::statvfs(directory)?;
    Ok(Usage {
        bytes: seen.f_blocks.saturating_mul(seen.f_frsize),
        bytes_free: seen.f_bavail.saturating_mul(seen.f_frsize),
        inodes: seen.f_files,
        inodes_free: seen.f_ffree,
    })
}

/// What this host offers for the file system of `state`, for `doctor`.
pub(crate) fn offered(state: &Path) -> Result<String, String> {
    let there = state
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    if method(there) == Method::Quota {
        return Ok(format!("{} of {}", Method::Quota, there.display()));
    }
    for program in [programs::MKE2FS, programs::E2FSCK, programs::RESIZE2FS] {
        programs::find(program).map_err(|error| error.to_string())?;
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err("there are neither project quotas nor loop devices".to_owned());
    }
    Ok(format!(
        "{} ({} has no project quota switched on)",
        Method::Image,
        there.display()
    ))
}
