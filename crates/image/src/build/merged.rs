//! The layers of an image as one tree, without mounting anything.
//!
//! Follows overlayfs's rules: the topmost layer that has a name decides; directories merge until
//! one is opaque; a whiteout hides what is below. Symbolic links are resolved here, component by
//! component, against the merged tree, so none leads out of it, whatever the layers hold. Layers
//! are published and do not change.

use super::tree::{self, Kind, Meta, Tree};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

/// As the kernel's.
const MOST_LINKS: usize = 40;

pub(super) struct Merged {
    /// Topmost first.
    layers: Vec<PathBuf>,
}

/// A merged directory: its parts, topmost first.
struct Node(Vec<OwnedFd>);

enum Found {
    Directory(Node, Meta),
    /// The part of its parent that has it.
    Other(OwnedFd, Meta),
}

/// Where a path leads.
pub(super) struct Resolved {
    /// Without links, `.` and `..`; relative to the root.
    pub(super) path: PathBuf,
    /// None when nothing is there.
    pub(super) meta: Option<Meta>,
}

impl Merged {
    pub(super) fn new(layers: Vec<PathBuf>) -> Merged {
        Merged { layers }
    }

    fn root(&self) -> io::Result<Node> {
        let mut parts = Vec::new();
        for layer in &self.layers {
            parts.push(rustix::fs::open(layer, FOLDER, Mode::empty())?);
        }
        Ok(Node(parts))
    }

    fn root_meta(&self) -> io::Result<Option<Meta>> {
        match self.layers.first() {
            Some(layer) => Ok(Some(Meta::from(&rustix::fs::stat(layer)?))),
            None => Ok(None),
        }
    }

    /// Resolves links as the kernel would in a root of its own. What is missing of a path stands
    /// as it is written.
    pub(super) fn resolve(&self, path: &Path, follow_last: bool) -> io::Result<Resolved> {
        let (path, found) = self.walk(path, follow_last)?;
        let meta = match found {
            Some(Found::Directory(_, meta) | Found::Other(_, meta)) => Some(meta),
            None => None,
        };
        Ok(Resolved { path, meta })
    }

    fn walk(&self, path: &Path, follow_last: bool) -> io::Result<(PathBuf, Option<Found>)> {
        let mut left: VecDeque<OsString> = components(path);
        let mut done = PathBuf::new();
        let mut links = 0;
        let root_meta = self.root_meta()?;
        let mut nodes = vec![(
            self.root()?,
            root_meta.unwrap_or(Meta {
                kind: Kind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                size: 0,
                mtime: (0, 0),
                ctime: (0, 0),
                device: 0,
                inode: 0,
                links: 2,
            }),
        )];
        while let Some(name) = left.pop_front() {
            if name == ".." {
                if nodes.len() > 1 {
                    nodes.pop();
                    done.pop();
                }
                continue;
            }
            let Some((node, _)) = nodes.last() else { break };
            match child(node, &name)? {
                Some(Found::Directory(node, meta)) => {
                    done.push(&name);
                    nodes.push((node, meta));
                }
                Some(Found::Other(parent, meta)) if meta.kind == Kind::Symlink => {
                    if left.is_empty() && !follow_last {
                        done.push(&name);
                        return Ok((done, Some(Found::Other(parent, meta))));
                    }
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = rustix::fs::readlinkat(&parent, &name, Vec::new())?;
                    let target = OsString::from_vec(target.into_bytes());
                    if target.as_bytes().first() == Some(&b'/') {
                        nodes.truncate(1);
                        done = PathBuf::new();
                    }
                    for component in components(Path::new(&target)).into_iter().rev() {
                        left.push_front(component);
                    }
                }
                Some(other) => {
                    done.push(&name);
                    if left.is_empty() {
                        return Ok((done, Some(other)));
                    }
                    return Err(io::Error::new(
                        io::ErrorKind::NotADirectory,
                        format!("/{} is no directory", done.display()),
                    ));
                }
                None => {
                    done.push(&name);
                    for name in left {
                        if name == ".." {
                            done.pop();
                        } else {
                            done.push(name);
                        }
                    }
                    return Ok((done, None));
                }
            }
        }
        Ok((
            done,
            nodes.pop().map(|(node, meta)| Found::Directory(node, meta)),
        ))
    }

    /// Opens the part of the topmost layer that has the path, for reading its attributes.
    pub(super) fn place(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        let (resolved, found) = self.walk(path, false)?;
        Ok(match found {
            Some(Found::Directory(mut node, _)) if !node.0.is_empty() => Some(node.0.remove(0)),
            Some(Found::Other(parent, _)) => {
                let name = resolved.file_name().unwrap_or_default();
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Some(rustix::fs::openat(&parent, name, flags, Mode::empty())?)
            }
            _ => None,
        })
    }

    /// A small text file; None when it is none.
    pub(super) fn text(&self, path: &str) -> io::Result<Option<String>> {
        use std::io::Read as _;
        const MOST: u64 = 4 << 20;
        match self.open(Path::new(path)) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(MOST).read_to_end(&mut bytes)?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::InvalidInput
                ) || Errno::from_io_error(&error) == Some(Errno::LOOP) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn whiteout(stat: &rustix::fs::Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice
        && stat.st_rdev == 0
}

pub(super) fn opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 4];
    matches!(
        rustix::fs::fgetxattr(directory, "trusted.overlay.opaque", &mut value[..]),
        Ok(1)
    ) && value[0] == b'y'
}

fn child(node: &Node, name: &OsStr) -> io::Result<Option<Found>> {
    let mut parts = Vec::new();
    let mut first = None;
    for part in &node.0 {
        let stat = match rustix::fs::statat(part, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            outcome => outcome?,
        };
        if whiteout(&stat) {
            break;
        }
        let meta = Meta::from(&stat);
        if meta.kind != Kind::Directory {
            if first.is_none() {
                return Ok(Some(Found::Other(part.try_clone()?, meta)));
            }
            break;
        }
        first.get_or_insert(meta);
        let directory = rustix::fs::openat(part, name, FOLDER, Mode::empty())?;
        let last = opaque(&directory);
        parts.push(directory);
        if last {
            break;
        }
    }
    Ok(first.map(|meta| Found::Directory(Node(parts), meta)))
}

impl Tree for Merged {
    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, Meta)>> {
        let (_, found) = self.walk(path, true)?;
        let Some(Found::Directory(node, _)) = found else {
            return Err(match found {
                None => Errno::NOENT.into(),
                Some(_) => Errno::NOTDIR.into(),
            });
        };
        // None: hidden from here on.
        let mut entries: BTreeMap<Vec<u8>, Option<Meta>> = BTreeMap::new();
        for part in &node.0 {
            for entry in rustix::fs::Dir::read_from(part)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") || entries.contains_key(name) {
                    continue;
                }
                let stat = rustix::fs::statat(part, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                let meta = (!whiteout(&stat)).then(|| Meta::from(&stat));
                entries.insert(name.to_vec(), meta);
            }
        }
        let present =
            |(name, meta): (Vec<u8>, Option<Meta>)| Some((OsString::from_vec(name), meta?));
        Ok(entries.into_iter().filter_map(present).collect())
    }

    fn stat(&self, path: &Path, follow: bool) -> io::Result<Option<Meta>> {
        match self.resolve(path, follow) {
            Ok(resolved) => Ok(resolved.meta),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let (resolved, found) = self.walk(path, true)?;
        match found {
            Some(Found::Other(parent, _)) => {
                let name = resolved.file_name().unwrap_or_default();
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                tree::regular(rustix::fs::openat(&parent, name, flags, Mode::empty())?)
            }
            Some(Found::Directory(..)) => Err(Errno::INVAL.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    fn read_link(&self, path: &Path) -> io::Result<OsString> {
        let (resolved, found) = self.walk(path, false)?;
        match found {
            Some(Found::Other(parent, meta)) if meta.kind == Kind::Symlink => {
                let name = resolved.file_name().unwrap_or_default();
                let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
                Ok(OsString::from_vec(target.into_bytes()))
            }
            Some(_) => Err(Errno::INVAL.into()),
            None => Err(Errno::NOENT.into()),
        }
    }
}

#[cfg(test)]
mod tests;
