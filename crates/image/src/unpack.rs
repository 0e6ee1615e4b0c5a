//! Unpacks one layer's tar into a directory, as root, whatever the tar says.
//!
//! Containment is the kernel's: the folder of each entry is opened with
//! `openat2(RESOLVE_BENEATH)` from the layer's own descriptor, so `..`,
//! absolute links and links that lead out fail there and not in our reading of
//! paths; the last component is made with calls that follow no link. The
//! directory is staging, 0700 above, and nobody else writes to it.
//!
//! What ends up on disk is a lower directory for overlayfs:
//! - owners are the container's own ids, unshifted; environments see them
//!   through an idmapped mount;
//! - whiteouts are character devices 0:0, the only devices ever made. Device
//!   nodes in a layer are left out: an environment gets its own `/dev`, and
//!   a node on disk would be a door to the host's hardware;
//! - opaque folders carry both `trusted.overlay.opaque` and
//!   `user.overlay.opaque`: overlayfs reads the first without and the second
//!   with its option `userxattr`, and nested or unprivileged mounts need that;
//! - no other `trusted.*` or `*.overlay.*` attribute is taken from a layer:
//!   they steer overlayfs itself (`redirect` would lead out of the layer);
//! - file capabilities are written as version 2, whose root is whoever is root
//!   in the reader's user namespace through the idmapped mount. A version 3
//!   value names the root of the machine the image was built on.
//!
//! A parent folder that no entry names gets mode 0755 and owner root, which
//! overlayfs then shows instead of a lower layer's: as Docker does it.
//!
//! Flushing, naming and removing the directory are `layers`' business.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use boatyard_sandbox::beneath;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::Limits;
use crate::archive::{self, Archive, Entry, Kind};
use attributes::{id, opaque, times, times_at};

pub(crate) mod attributes;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const CACHED_DIRECTORIES: usize = 128;
/// How much is written between two looks at the free space.
const SPACE_STEP: u64 = 64 << 20;

#[derive(Debug)]
pub(crate) enum Failure {
    /// The archive itself, or an entry of it.
    Refused {
        entry: String,
        problem: String,
    },
    /// Its source: network, disk, decompression.
    Read(io::Error),
    Write {
        entry: String,
        source: io::Error,
    },
    NoSpace {
        free: u64,
    },
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) entries: u64,
    /// Bytes of files written.
    pub(crate) bytes: u64,
}

/// `tree` and `shadow` exist and are empty.
pub(crate) fn unpack<R: BufRead>(
    archive: &mut Archive<R>,
    tree: &Path,
    shadow: &Path,
    limits: &Limits,
) -> Result<Summary, Failure> {
    let open = |path: &Path| {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| Failure::Write {
            entry: "/".to_owned(),
            source: errno.into(),
        })
    };
    let mut unpacker = Unpacker {
        root: Rc::new(open(tree)?),
        shadow: open(shadow)?,
        directories: HashMap::new(),
        directories_last: Vec::new(),
        skipped: HashSet::new(),
        limits,
        summary: Summary::default(),
        next_look: 0,
    };
    unpacker.look_at_space()?;
    loop {
        let entry = match archive.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(error) => return Err(from_archive("(the archive)", error)),
        };
        unpacker.entry(archive, &entry)?;
    }
    unpacker.finish()
}

pub(crate) fn from_archive(entry: &str, error: archive::Error) -> Failure {
    match error {
        archive::Error::Read(source) => Failure::Read(source),
        archive::Error::Malformed(problem) => Failure::Refused {
            entry: entry.to_owned(),
            problem: format!("is malformed: {problem}"),
        },
    }
}

struct Unpacker<'a> {
    root: Rc<OwnedFd>,
    shadow: OwnedFd,
    directories: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Folders with what they get when all is in them.
    directories_last: Vec<Last>,
    /// Device nodes that were left out, for hard links to them.
    skipped: HashSet<Vec<u8>>,
    limits: &'a Limits,
    summary: Summary,
    next_look: u64,
}

/// A folder's own, set after its content.
struct Last {
    path: Vec<u8>,
    mtime: (i64, u32),
    acl: Option<Vec<u8>>,
}

/// What one step may answer; turned into a `Failure` with the entry's name.
enum Trouble {
    Refused(String),
    Os(Errno),
    Failure(Failure),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Trouble::Os(errno)
    }
}

fn refuse<T>(problem: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Refused(problem.into()))
}

impl Unpacker<'_> {
    fn entry<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        entry: &Entry,
    ) -> Result<(), Failure> {
        let name = || String::from_utf8_lossy(&entry.path).into_owned();
        self.summary.entries += 1;
        if self.summary.entries > self.limits.entries {
            let problem = format!(
                "is one more than the {} entries a layer may have",
                self.limits.entries
            );
            return Err(Failure::Refused {
                entry: name(),
                problem,
            });
        }
        if self.summary.entries.is_multiple_of(4096) {
            self.look_at_space()?;
        }
        self.place(archive, entry).map_err(|trouble| match trouble {
            Trouble::Failure(failure) => failure,
            Trouble::Refused(problem) => Failure::Refused {
                entry: name(),
                problem,
            },
            Trouble::Os(Errno::NOSPC | Errno::DQUOT) => Failure::NoSpace { free: 0 },
            Trouble::Os(errno) => Failure::Write {
                entry: name(),
                source: errno.into(),
            },
        })
    }

    fn place<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        entry: &Entry,
    ) -> Result<(), Trouble> {
        let path = self.normalise(&entry.path)?;
        let uid = id(entry.uid)?;
        let gid = id(entry.gid)?;
        if path.is_empty() {
            if entry.kind != Kind::Directory {
                return refuse("would replace the layer's root");
            }
            let root = Rc::clone(&self.root);
            attributes::set(&root, entry, uid, gid)?;
            let acl = attributes::default_acl(entry);
            self.directories_last.push(Last {
                path,
                mtime: entry.mtime,
                acl,
            });
            return Ok(());
        }
        let (folder, name) = split(&path);
        if name.starts_with(WHITEOUT) {
            return self.whiteout(folder, name);
        }
        match entry.kind {
            Kind::Directory => self.directory(archive, &path, entry, uid, gid),
            Kind::Regular => self.regular(archive, &path, entry, uid, gid),
            Kind::Symlink => {
                if entry.link.is_empty()
                    || entry.link.contains(&0)
                    || entry.link.len() > self.limits.path_bytes
                {
                    return refuse("is a symbolic link to nothing a path can be");
                }
                let parent = self.parent(folder)?;
                self.make(archive, &path, &parent, |parent, name| {
                    rustix::fs::symlinkat(os(&entry.link), parent, name)
                })?;
                rustix::fs::chownat(
                    &parent,
                    os(name),
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?;
                times_at(&parent, name, entry.mtime)
            }
            Kind::HardLink => self.hard_link(archive, &path, entry),
            Kind::Fifo => {
                let parent = self.parent(folder)?;
                self.make(archive, &path, &parent, |parent, name| {
                    rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                })?;
                rustix::fs::chownat(
                    &parent,
                    os(name),
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?;
                // Follows links, but this is the pipe just made.
                rustix::fs::chmodat(
                    &parent,
                    os(name),
                    Mode::from_raw_mode(entry.mode),
                    AtFlags::empty(),
                )?;
                times_at(&parent, name, entry.mtime)
            }
            Kind::CharacterDevice | Kind::BlockDevice => {
                self.skipped.insert(path);
                Ok(())
            }
            Kind::Unknown(flag) => refuse(format!("is of the unknown kind {:?}", char::from(flag))),
        }
    }

    /// Without empty and `.` components; never with `..`.
    fn normalise(&self, path: &[u8]) -> Result<Vec<u8>, Trouble> {
        if path.len() > self.limits.path_bytes {
            return refuse(format!(
                "has a path longer than {} bytes",
                self.limits.path_bytes
            ));
        }
        let mut clean = Vec::with_capacity(path.len());
        let mut depth = 0;
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return refuse("leads out of the layer with '..'"),
                _ if component.len() > 255 => return refuse("has a name longer than 255 bytes"),
                _ if component.contains(&0) => return refuse("has a zero byte in its name"),
                _ => {}
            }
            depth += 1;
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(component);
        }
        if depth > self.limits.path_depth {
            return refuse(format!(
                "lies more than {} folders deep",
                self.limits.path_depth
            ));
        }
        Ok(clean)
    }

    fn whiteout(&mut self, folder: &[u8], name: &[u8]) -> Result<(), Trouble> {
        if name == OPAQUE {
            let parent = self.parent(folder)?;
            return opaque(&parent);
        }
        if name.starts_with(b".wh..wh.") {
            // Bookkeeping of AUFS that means nothing elsewhere.
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return refuse("is a whiteout of nothing a name can be");
        }
        let parent = self.parent(folder)?;
        let device = rustix::fs::mknodat(
            &parent,
            os(hidden),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o000),
            0,
        );
        match device {
            // A layer's own entries outlive its own whiteouts (image-spec,
            // layer.md); such a folder just shows nothing from below.
            Err(Errno::EXIST) => match stat(&parent, hidden)?.0 {
                FileType::Directory => opaque(&self.open_beneath(&join(folder, hidden))?),
                _ => Ok(()),
            },
            outcome => Ok(outcome?),
        }
    }

    fn directory<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        path: &[u8],
        entry: &Entry,
        uid: Uid,
        gid: Gid,
    ) -> Result<(), Trouble> {
        let (folder, name) = split(path);
        let parent = self.parent(folder)?;
        match rustix::fs::mkdirat(&parent, os(name), Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => match stat(&parent, name)? {
                (FileType::Directory, _) => {}
                (FileType::CharacterDevice, _) => self.folder_over_whiteout(&parent, name)?,
                _ => {
                    self.set_aside(archive, path, &parent)?;
                    rustix::fs::mkdirat(&parent, os(name), Mode::from_raw_mode(0o700))?;
                }
            },
            outcome => outcome?,
        }
        let directory = self.cached(path)?;
        attributes::set(&directory, entry, uid, gid)?;
        let acl = attributes::default_acl(entry);
        self.directories_last.push(Last {
            path: path.to_vec(),
            mtime: entry.mtime,
            acl,
        });
        Ok(())
    }

    /// What is below stays hidden, as the whiteout said.
    fn folder_over_whiteout(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<(), Trouble> {
        rustix::fs::unlinkat(parent, os(name), AtFlags::empty())?;
        rustix::fs::mkdirat(parent, os(name), Mode::from_raw_mode(0o755))?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory = rustix::fs::openat(parent, os(name), flags, Mode::empty())?;
        opaque(&directory)
    }

    fn regular<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        path: &[u8],
        entry: &Entry,
        uid: Uid,
        gid: Gid,
    ) -> Result<(), Trouble> {
        if entry.size > self.limits.layer_bytes.saturating_sub(self.summary.bytes) {
            return refuse(format!(
                "makes the layer larger than {} bytes",
                self.limits.layer_bytes
            ));
        }
        let (folder, _) = split(path);
        let parent = self.parent(folder)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(archive, path, &parent, |parent, name| {
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
        })?;
        match &entry.sparse {
            None => self.content(archive, path, entry, &file)?,
            Some(map) => self.sparse_content(archive, map, entry, &file)?,
        }
        attributes::set(&file, entry, uid, gid)?;
        times(&file, entry.mtime)
    }

    fn content<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        path: &[u8],
        entry: &Entry,
        file: &OwnedFd,
    ) -> Result<(), Trouble> {
        if entry.size == 0 {
            return Ok(());
        }
        if let Some(recipe) = archive.recipe() {
            recipe.content(path, entry.size).map_err(|source| {
                Trouble::Failure(Failure::Write {
                    entry: "(the layer's recipe)".to_owned(),
                    source,
                })
            })?;
        }
        loop {
            let written = {
                let bytes = payload(archive, entry)?;
                if bytes.is_empty() {
                    return Ok(());
                }
                rustix::io::write(file, bytes)?
            };
            consume(archive, written, true)?;
            self.wrote(written as u64)?;
        }
    }

    fn sparse_content<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        map: &[(u64, u64)],
        entry: &Entry,
        file: &OwnedFd,
    ) -> Result<(), Trouble> {
        rustix::fs::ftruncate(file, entry.size)?;
        for &(offset, length) in map {
            let mut done = 0;
            while done < length {
                let written = {
                    let bytes = payload(archive, entry)?;
                    let most = usize::try_from(length - done)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    if most == 0 {
                        return refuse("is cut off");
                    }
                    rustix::io::pwrite(file, &bytes[..most], offset + done)?
                };
                consume(archive, written, false)?;
                done += written as u64;
                self.wrote(written as u64)?;
            }
        }
        Ok(())
    }

    fn hard_link<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), Trouble> {
        if entry.link.first() == Some(&b'/') {
            return refuse("is a hard link to an absolute path");
        }
        let target = match self.normalise(&entry.link) {
            Err(Trouble::Refused(problem)) => {
                return refuse(format!("is a hard link whose target {problem}"));
            }
            outcome => outcome?,
        };
        if target.is_empty() || target == path {
            return refuse("is a hard link to itself or to the root");
        }
        if self.skipped.contains(&target) {
            self.skipped.insert(path.to_vec());
            return Ok(());
        }
        let (target_folder, target_name) = split(&target);
        let missing = || {
            format!(
                "is a hard link to {:?}, which this layer does not have",
                String::from_utf8_lossy(&target)
            )
        };
        let target_parent = match self.cached(target_folder) {
            Err(Trouble::Os(Errno::NOENT | Errno::NOTDIR)) => return refuse(missing()),
            outcome => outcome?,
        };
        match stat(&target_parent, target_name) {
            Err(Errno::NOENT) => return refuse(missing()),
            Ok((FileType::Directory, _)) => return refuse("is a hard link to a folder"),
            Ok((FileType::CharacterDevice, _)) => return refuse("is a hard link to a whiteout"),
            outcome => outcome?,
        };
        let (folder, _) = split(path);
        let parent = self.parent(folder)?;
        let linked = self.make(archive, path, &parent, |parent, name| {
            rustix::fs::linkat(
                &target_parent,
                os(target_name),
                parent,
                name,
                AtFlags::empty(),
            )
        });
        match linked {
            Err(Trouble::Os(Errno::NOENT)) => refuse(missing()),
            Err(Trouble::Os(Errno::MLINK)) => {
                refuse("has more hard links than the file system can hold")
            }
            outcome => outcome,
        }
    }

    /// Makes the last component, setting aside what is there already.
    fn make<T, R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        path: &[u8],
        parent: &OwnedFd,
        mut making: impl FnMut(&OwnedFd, &Path) -> Result<T, Errno>,
    ) -> Result<T, Trouble> {
        let (_, name) = split(path);
        match making(parent, os(name)) {
            Err(Errno::EXIST) => {
                self.set_aside(archive, path, parent)?;
                Ok(making(parent, os(name))?)
            }
            outcome => Ok(outcome?),
        }
    }

    /// A later entry replaces an earlier one. What has content is kept beside
    /// the tree, for the recipe.
    fn set_aside<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        path: &[u8],
        parent: &OwnedFd,
    ) -> Result<(), Trouble> {
        let (_, name) = split(path);
        let (kind, size) = stat(parent, name)?;
        if kind == FileType::Directory || kind == FileType::Symlink {
            self.directories.clear();
        }
        let with_content =
            kind == FileType::Directory || (kind == FileType::RegularFile && size > 0);
        match archive.recipe() {
            Some(recipe) if with_content => {
                let number = recipe.shadow(path).map_err(|source| {
                    Trouble::Failure(Failure::Write {
                        entry: "(the layer's recipe)".to_owned(),
                        source,
                    })
                })?;
                rustix::fs::renameat(parent, os(name), &self.shadow, number.to_string())?;
            }
            _ if kind == FileType::Directory => {
                return refuse("would replace a folder by something else");
            }
            _ => rustix::fs::unlinkat(parent, os(name), AtFlags::empty())?,
        }
        Ok(())
    }

    /// The folder an entry is made in, itself made if it is missing.
    fn parent(&mut self, folder: &[u8]) -> Result<Rc<OwnedFd>, Trouble> {
        match self.cached(folder) {
            Err(Trouble::Os(Errno::NOENT | Errno::NOTDIR)) => {}
            outcome => return outcome,
        }
        let (above, name) = split(folder);
        let above = self.parent(above)?;
        match stat(&above, name).map(|(kind, _)| kind) {
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(&above, os(name), Mode::from_raw_mode(0o755))?;
                let directory = self.cached(folder)?;
                rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))?;
                Ok(directory)
            }
            Err(errno) => Err(errno.into()),
            Ok(FileType::CharacterDevice) => {
                self.folder_over_whiteout(&above, name)?;
                self.cached(folder)
            }
            Ok(FileType::Directory) => self.cached(folder),
            Ok(FileType::Symlink) => refuse("lies below a link that leads to nothing in the layer"),
            Ok(_) => refuse("lies below something that is no folder"),
        }
    }

    fn cached(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Trouble> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(directory) = self.directories.get(path) {
            return Ok(Rc::clone(directory));
        }
        let directory = Rc::new(self.open_beneath(path)?);
        if self.directories.len() >= CACHED_DIRECTORIES {
            self.directories.clear();
        }
        self.directories
            .insert(path.to_vec(), Rc::clone(&directory));
        Ok(directory)
    }

    fn open_beneath(&self, path: &[u8]) -> Result<OwnedFd, Trouble> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
        match beneath::open(&*self.root, Path::new(os(path)), flags, resolve) {
            Err(Errno::XDEV | Errno::LOOP) => {
                refuse("goes through a link that leads out of the layer")
            }
            outcome => Ok(outcome?),
        }
    }

    fn wrote(&mut self, bytes: u64) -> Result<(), Trouble> {
        self.summary.bytes += bytes;
        if self.summary.bytes >= self.next_look {
            self.look_at_space().map_err(Trouble::Failure)?;
        }
        Ok(())
    }

    fn look_at_space(&mut self) -> Result<(), Failure> {
        self.next_look = self.summary.bytes + SPACE_STEP;
        let space = rustix::fs::fstatvfs(self.root.as_fd()).map_err(|errno| Failure::Write {
            entry: "/".to_owned(),
            source: errno.into(),
        })?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        // File systems without a fixed number of inodes say zero.
        let inodes_left = space.f_files == 0 || space.f_favail > 4096;
        if free < self.limits.reserve_bytes || !inodes_left {
            return Err(Failure::NoSpace {
                free: free.saturating_sub(self.limits.reserve_bytes),
            });
        }
        Ok(())
    }

    /// Folders get their times last: making what is in them changes them.
    fn finish(mut self) -> Result<Summary, Failure> {
        let last = std::mem::take(&mut self.directories_last);
        for Last { path, mtime, acl } in last {
            let set = self.cached(&path).and_then(|directory| {
                if let Some(acl) = &acl {
                    attributes::set_default_acl(&directory, acl)?;
                }
                times(&directory, mtime)
            });
            match set {
                // Replaced by a later entry.
                Err(Trouble::Os(Errno::NOENT | Errno::NOTDIR) | Trouble::Refused(_)) | Ok(()) => {}
                Err(Trouble::Os(errno)) => {
                    let entry = String::from_utf8_lossy(&path).into_owned();
                    return Err(Failure::Write {
                        entry,
                        source: errno.into(),
                    });
                }
                Err(Trouble::Failure(failure)) => return Err(failure),
            }
        }
        Ok(self.summary)
    }
}

fn payload<'a, R: BufRead>(
    archive: &'a mut Archive<R>,
    entry: &Entry,
) -> Result<&'a [u8], Trouble> {
    archive.payload().map_err(|error| {
        Trouble::Failure(from_archive(&String::from_utf8_lossy(&entry.path), error))
    })
}

fn consume<R: BufRead>(archive: &mut Archive<R>, length: usize, kept: bool) -> Result<(), Trouble> {
    archive
        .consume(length, kept)
        .map_err(|source| Trouble::Failure(Failure::Read(source)))
}

fn stat(parent: &OwnedFd, name: &[u8]) -> Result<(FileType, u64), Errno> {
    let stat = rustix::fs::statat(parent, os(name), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((
        FileType::from_raw_mode(stat.st_mode),
        u64::try_from(stat.st_size).unwrap_or(0),
    ))
}

fn os(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Folder and last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        return name.to_vec();
    }
    [folder, b"/", name].concat()
}

#[cfg(test)]
mod tests;
