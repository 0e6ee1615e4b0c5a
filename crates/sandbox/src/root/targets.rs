//! Mount targets inside a root that may be hostile.
//!
//! An image may hold a symbolic link anywhere. Every look-up here goes through `openat2` with
//! RESOLVE_IN_ROOT and without magic links, so that a link is followed as if the environment's
//! root were the host's, and never out of it. The fixed directories follow no link at all.

use crate::beneath;
use crate::error::{Failure, Step};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// What a missing target is made as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

fn resolve(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    extra: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    beneath::open(
        root,
        path,
        flags | OFlags::PATH,
        ResolveFlags::IN_ROOT | extra,
    )
}

/// A top-level directory that must be one, made when missing.
pub(super) fn plain_directory(root: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Failure> {
    match rustix::fs::mkdirat(root, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(Failure::new(format!("make /{name} in the image"), error)),
    }
    existing_directory(root, name)
}

/// A top-level directory that is there and no link.
pub(super) fn existing_directory(root: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Failure> {
    resolve(
        root,
        Path::new(name),
        OFlags::DIRECTORY | OFlags::NOFOLLOW,
        ResolveFlags::NO_SYMLINKS,
    )
    .map_err(|error| match error {
        Errno::LOOP | Errno::NOTDIR => Failure::new(
            format!("use /{name} of the image"),
            "it is not a plain directory; the image is broken or hostile",
        ),
        error => Failure::new(format!("open /{name} of the image"), error),
    })
}

/// Makes /tmp where the image has none.
pub(super) fn tmp(root: BorrowedFd<'_>) -> Result<(), Failure> {
    match rustix::fs::mkdirat(root, "tmp", Mode::from_raw_mode(0o1777)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Failure::new("make /tmp in the image", error)),
    }
}

/// Opens `path` inside `root`, making what is missing of it.
pub(super) fn make(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<OwnedFd, Failure> {
    let what = || format!("make the mount target {} inside", path.display());
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Failure::new(what(), "the path contains `..`"));
            }
        }
    }
    let Some((last, parents)) = names.split_last() else {
        return Err(Failure::new(what(), "the root itself cannot be a target"));
    };
    let mut prefix = PathBuf::from("/");
    let mut parent =
        resolve(root, &prefix, OFlags::DIRECTORY, ResolveFlags::empty()).step_with(what)?;
    for name in parents {
        prefix.push(name);
        parent =
            open_or_make(root, parent.as_fd(), &prefix, name, Kind::Directory).step_with(what)?;
    }
    prefix.push(last);
    open_or_make(root, parent.as_fd(), &prefix, last, kind).step_with(what)
}

fn open_or_make(
    root: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    path: &Path,
    name: &std::ffi::OsStr,
    kind: Kind,
) -> rustix::io::Result<OwnedFd> {
    let flags = match kind {
        Kind::Directory => OFlags::DIRECTORY,
        Kind::File => OFlags::empty(),
    };
    match resolve(root, path, flags, ResolveFlags::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    // A dangling link makes this EEXIST: it is never written through.
    match kind {
        Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
        Kind::File => {
            rustix::fs::openat(
                parent,
                name,
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
                Mode::from_raw_mode(0o644),
            )?;
        }
    }
    resolve(root, path, flags, ResolveFlags::empty())
}
