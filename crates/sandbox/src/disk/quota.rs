//! Limits by project quota.
//!
//! A project is a number that files carry; new ones have it from their directory, and the kernel
//! lets nobody outside the host's own user namespace change it. Its limits hold for what all of
//! them take. The caller sees to it that a number is not used again while files with it remain.
//!
//! A directory that has files already is taken in whole, once ([`take_in`]), while nobody writes
//! there. Links and device files can be given a project only by being made anew: one without would
//! stand in the way, since nothing is renamed into a directory of another project.

use super::{Error, image};
use crate::sys::disk as sys;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Limits a directory; everything below belongs to the project. Idempotent, at once also for what
/// runs.
///
/// # Errors
/// When the file system keeps no projects.
pub fn limit(directory: &Path, project: u32, bytes: u64, inodes: u64) -> Result<(), Error> {
    let what = || format!("limit {}", directory.display());
    let at = image::directory(directory).map_err(Error::of(what()))?;
    // The limit first: what is made from now on counts.
    sys::limit_project(at.as_fd(), project, bytes, inodes).map_err(Error::of(what()))?;
    if sys::project(at.as_fd()).map_err(Error::of(what()))? != project {
        take_in(&at, project).map_err(Error::of(what()))?;
        // The top is last: it says that all of it is done.
        sys::set_project(at.as_fd(), project, true).map_err(Error::of(what()))?;
    }
    Ok(())
}

/// Forgets a project's limits, when nothing of it is left.
///
/// # Errors
/// When the kernel refuses.
pub fn forget(near: &Path, project: u32) -> Result<(), Error> {
    let what = || format!("forget the limit of project {project}");
    let at = image::directory(near).map_err(Error::of(what()))?;
    sys::limit_project(at.as_fd(), project, 0, 0).map_err(Error::of(what()))
}

/// The project of a directory; 0 for none.
///
/// # Errors
/// When the file system knows no projects.
pub fn project(directory: &Path) -> io::Result<u32> {
    sys::project(image::directory(directory)?.as_fd())
}

/// Gives all that is in a directory the project.
fn take_in(directory: &OwnedFd, project: u32) -> io::Result<()> {
    let mut waiting = vec![directory.try_clone()?];
    while let Some(directory) = waiting.pop() {
        let listing = rustix::fs::Dir::read_from(&directory)?;
        for entry in listing {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let about = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(about.st_mode);
            match kind {
                FileType::Directory | FileType::RegularFile => {
                    let flags =
                        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let file = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
                    let folder = kind == FileType::Directory;
                    sys::set_project(file.as_fd(), project, folder)?;
                    if folder {
                        waiting.push(file);
                    }
                }
                _ => make_anew(directory.as_fd(), name, &about, kind)?,
            }
        }
    }
    Ok(())
}

/// What a file that is made anew is called meanwhile.
const FRESH: &CStr = c".boatyard-fresh";

/// Makes a link or a special file anew, which gives it its directory's project.
fn make_anew(
    directory: BorrowedFd<'_>,
    name: &CStr,
    about: &rustix::fs::Stat,
    kind: FileType,
) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, FRESH, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    if kind == FileType::Symlink {
        let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
        rustix::fs::symlinkat(target, directory, FRESH)?;
    } else {
        let mode = Mode::from_raw_mode(about.st_mode & 0o7777);
        rustix::fs::mknodat(directory, FRESH, kind, mode, about.st_rdev)?;
    }
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(about.st_uid),
        rustix::fs::Gid::from_raw(about.st_gid),
    );
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(directory, FRESH, Some(uid), Some(gid), flags)?;
    let path = |name: &CStr| {
        let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
        let mut path = format!("/proc/self/fd/{number}/").into_bytes();
        path.extend_from_slice(name.to_bytes());
        CString::new(path).map_err(io::Error::other)
    };
    copy_attributes(&path(name)?, &path(FRESH)?)?;
    rustix::fs::renameat(directory, FRESH, directory, name)?;
    Ok(())
}

/// Copies the extended attributes of a file that is not followed.
fn copy_attributes(from: &CStr, to: &CStr) -> io::Result<()> {
    let mut names = vec![0_u8; 64 * 1024];
    let length = match rustix::fs::llistxattr(from, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0_u8; 64 * 1024];
        let length = rustix::fs::lgetxattr(from, name, &mut value)?;
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(to, name, &value[..length], flags)?;
    }
    Ok(())
}
