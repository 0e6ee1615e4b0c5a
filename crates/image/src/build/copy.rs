//! Writes files into the tree of a layer in the making, as they are to appear on the layers below.
//!
//! Nothing is mounted: a folder that exists below is made again in the tree with its attributes, as
//! overlayfs would copy it up, and a destination's links are resolved against what is below. The
//! tree is in staging and only this process writes to it, but what was copied into it may hold
//! links: every folder is opened beneath the tree without following any.
//!
//! What a copy means follows BuildKit: contents of a source folder go into the destination; a
//! folder that is there keeps its attributes if it is the destination itself and takes the source's
//! if it lies deeper; a folder and something else never replace each other.

use super::digests;
use super::merged::Merged;
use super::owner::Owner;
use super::source::{Entry, Found};
use super::tree::{Kind, Meta, Tree};
use crate::unpack::attributes;
use boatyard_sandbox::beneath;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Times of what has none of its own: the same for everybody, and not before archives can tell.
const EPOCH: (i64, u32) = (315_532_800, 0);

/// The tree of one layer.
pub(super) struct Writer<'a> {
    root: OwnedFd,
    below: &'a Merged,
    /// Folders in the tree, and the attributes they get at the end.
    folders: HashMap<PathBuf, Attributes>,
    /// Files with several names: where the first was written.
    links: HashMap<(u64, u64), PathBuf>,
}

#[derive(Clone)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How a copy changes what it copies.
#[derive(Clone, Default)]
pub(super) struct Changes {
    pub(super) owner: Option<Owner>,
    pub(super) mode: Option<super::owner::Chmod>,
    pub(super) keeps_owners: bool,
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("/{} {why}", path.display()),
    )
}

impl<'a> Writer<'a> {
    pub(super) fn new(tree: &Path, below: &'a Merged) -> io::Result<Writer<'a>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Writer {
            root: rustix::fs::open(tree, flags, Mode::empty())?,
            below,
            folders: HashMap::new(),
            links: HashMap::new(),
        })
    }

    /// Makes a folder and its parents where they are missing; answers its path without links.
    /// New ones belong to `owner`; parents of theirs do too only if `parents`.
    pub(super) fn make_folder(
        &mut self,
        path: &Path,
        owner: Owner,
        parents: bool,
    ) -> io::Result<PathBuf> {
        let resolved = self.below.resolve(path, true)?;
        let path = resolved.path;
        if let Some(meta) = resolved.meta {
            if meta.kind != Kind::Directory {
                return Err(refused(&path, "is no directory"));
            }
            return Ok(path);
        }
        if let Some(parent) = path.parent() {
            self.ensure(parent, if parents { owner } else { Owner::ROOT })?;
        }
        self.ensure(&path, owner)?;
        Ok(path)
    }

    /// Copies one source to a destination, which is a folder that takes it in if `into`.
    pub(super) fn copy(
        &mut self,
        tree: &dyn Tree,
        found: &Found,
        destination: &Path,
        into: bool,
        changes: &Changes,
    ) -> io::Result<()> {
        let Some(first) = found.entries.first() else {
            return Ok(());
        };
        let owner = changes.owner.unwrap_or(Owner::ROOT);
        if first.meta.kind == Kind::Directory {
            let there = self.exists(destination)?;
            if !there {
                if let Some(parent) = destination.parent() {
                    self.ensure(parent, owner)?;
                }
                self.ensure(destination, owner)?;
                let attributes = self.attributes(first, changes, tree)?;
                self.folders.insert(destination.to_owned(), attributes);
            }
            for entry in &found.entries[1..] {
                self.entry(tree, entry, &destination.join(&entry.below), changes)?;
            }
            return Ok(());
        }
        let target = if into {
            destination.join(&found.name)
        } else {
            destination.to_owned()
        };
        let parent = target.parent().unwrap_or(Path::new(""));
        self.ensure(parent, owner)?;
        self.entry(tree, first, &target, changes)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        if path.as_os_str().is_empty() || self.folders.contains_key(path) {
            return Ok(true);
        }
        Ok(self.below.stat(path, false)?.is_some())
    }

    fn entry(
        &mut self,
        tree: &dyn Tree,
        entry: &Entry,
        target: &Path,
        changes: &Changes,
    ) -> io::Result<()> {
        if entry.meta.kind == Kind::Directory {
            self.ensure(target, Owner::ROOT)?;
            let attributes = self.attributes(entry, changes, tree)?;
            self.folders.insert(target.to_owned(), attributes);
            return Ok(());
        }
        let parent = self.ensure(target.parent().unwrap_or(Path::new("")), Owner::ROOT)?;
        let name = target.file_name().unwrap_or_default();
        self.clear(&parent, name, target)?;
        let attributes = self.attributes(entry, changes, tree)?;
        if let Some(link) = &entry.link {
            rustix::fs::symlinkat(link, &parent, name)?;
            let (uid, gid) = (ids(attributes.uid), gids(attributes.gid));
            rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            let times = timestamps(attributes.mtime);
            rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            return Ok(());
        }
        let inode = (entry.meta.device, entry.meta.inode);
        if changes.keeps_owners && entry.meta.links > 1 {
            if let Some(first) = self.links.get(&inode) {
                let from = self.open(first.parent().unwrap_or(Path::new("")))?;
                let first = first.file_name().unwrap_or_default();
                return Ok(rustix::fs::linkat(
                    &from,
                    first,
                    &parent,
                    name,
                    AtFlags::empty(),
                )?);
            }
            self.links.insert(inode, target.to_owned());
        }
        let mut source = tree.open(&entry.path)?;
        digests::unchanged(&source, &entry.path, &entry.meta)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(file);
        let copied = io::copy(&mut source, &mut file)?;
        if copied != entry.meta.size {
            return Err(refused(
                &entry.path,
                "changed while it was read; build again",
            ));
        }
        digests::unchanged(&source, &entry.path, &entry.meta)?;
        let file = OwnedFd::from(file);
        give(&file, &attributes)
    }

    /// Writes a file of given content.
    pub(super) fn file(
        &mut self,
        target: &Path,
        contents: &[u8],
        mode: u32,
        owner: Owner,
    ) -> io::Result<()> {
        let parent = self.ensure(target.parent().unwrap_or(Path::new("")), owner)?;
        let name = target.file_name().unwrap_or_default();
        self.clear(&parent, name, target)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(file);
        io::Write::write_all(&mut file, contents)?;
        give(
            &OwnedFd::from(file),
            &Attributes {
                mode,
                uid: owner.uid,
                gid: owner.gid,
                mtime: EPOCH,
                xattrs: Vec::new(),
            },
        )
    }

    /// Makes room for something that is no folder.
    fn clear(&self, parent: &OwnedFd, name: &OsStr, target: &Path) -> io::Result<()> {
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(refused(
                    target,
                    "is a directory where a file is to be copied",
                ));
            }
            Ok(_) => rustix::fs::unlinkat(parent, name, AtFlags::empty())?,
            Err(errno) => return Err(errno.into()),
        }
        let below = self.below.stat(target, false)?;
        if below.is_some_and(|meta| meta.kind == Kind::Directory) {
            return Err(refused(
                target,
                "is a directory where a file is to be copied",
            ));
        }
        Ok(())
    }

    fn attributes(
        &self,
        entry: &Entry,
        changes: &Changes,
        tree: &dyn Tree,
    ) -> io::Result<Attributes> {
        let folder = entry.meta.kind == Kind::Directory;
        let own = if changes.keeps_owners {
            Owner {
                uid: entry.meta.uid,
                gid: entry.meta.gid,
            }
        } else {
            Owner::ROOT
        };
        let owner = changes.owner.unwrap_or(own);
        let mode = changes
            .mode
            .as_ref()
            .map_or(entry.meta.mode, |mode| mode.apply(entry.meta.mode, folder));
        // Attributes of the developer's own files mean nothing in an image.
        let xattrs = if changes.keeps_owners && entry.meta.kind == Kind::File {
            attributes::copied(&OwnedFd::from(tree.open(&entry.path)?))?
        } else {
            Vec::new()
        };
        Ok(Attributes {
            mode,
            uid: owner.uid,
            gid: owner.gid,
            mtime: entry.meta.mtime,
            xattrs,
        })
    }

    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        Ok(beneath::open(self.root.as_fd(), path, flags, resolve)?)
    }

    /// The folder at a path without links, made in the tree as it is below, or anew.
    fn ensure(&mut self, path: &Path, owner: Owner) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() || self.folders.contains_key(path) {
            return self.open(path);
        }
        let parent = self.ensure(path.parent().unwrap_or(Path::new("")), owner)?;
        let name = path.file_name().unwrap_or_default();
        let attributes = match self.below.stat(path, false)? {
            Some(meta) if meta.kind == Kind::Directory => self.as_below(path, &meta)?,
            Some(_) => return Err(refused(path, "is no directory, and cannot be copied into")),
            None => Attributes {
                mode: 0o755,
                uid: owner.uid,
                gid: owner.gid,
                mtime: EPOCH,
                xattrs: Vec::new(),
            },
        };
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => {
                return Err(refused(path, "is no directory, and cannot be copied into"));
            }
            outcome => outcome?,
        }
        self.folders.insert(path.to_owned(), attributes);
        self.open(path)
    }

    fn as_below(&self, path: &Path, meta: &Meta) -> io::Result<Attributes> {
        let xattrs = match self.below.place(path)? {
            Some(place) => attributes::copied(&place)?,
            None => Vec::new(),
        };
        Ok(Attributes {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            xattrs,
        })
    }

    /// Gives the folders their attributes: what was made in them changed their times.
    pub(super) fn finish(self) -> io::Result<()> {
        let mut paths: Vec<&PathBuf> = self.folders.keys().collect();
        paths.sort_by(|a, b| b.cmp(a));
        for path in paths {
            give(&self.open(path)?, &self.folders[path])?;
        }
        Ok(())
    }
}

fn give(file: &OwnedFd, attributes: &Attributes) -> io::Result<()> {
    // Owner first: changing it drops capabilities and the setuid bit.
    rustix::fs::fchown(file, ids(attributes.uid), gids(attributes.gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode))?;
    for (name, value) in &attributes.xattrs {
        attributes::give(file, name, value)?;
    }
    Ok(rustix::fs::futimens(file, &timestamps(attributes.mtime))?)
}

fn ids(id: u32) -> Option<Uid> {
    Some(Uid::from_raw(id))
}

fn gids(id: u32) -> Option<Gid> {
    Some(Gid::from_raw(id))
}

fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanos.into(),
        },
    }
}
