//! A small folder of files in memory: what a Feature or a template is.
//!
//! Read from an archive or a directory, written to a directory or an archive,
//! always within bounds. Only folders, files and links that stay inside are
//! known; owners, times and all bits but the executable one are dropped, so
//! that the same files make the same bytes wherever they come from.
//!
//! Writing needs no privilege and follows no link: see [`Folder::write`].

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use boatyard_sandbox::beneath;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use sha2::Digest as _;

use crate::archive::{self, Archive, Kind};
use crate::compression::decompress;

/// Most bytes of all files together.
pub(crate) const BYTES_LIMIT: usize = 256 << 20;
/// Most files and folders.
const ENTRIES_LIMIT: usize = 10_000;
const PATH_LIMIT: usize = 1024;
/// Folders in folders.
pub(crate) const DEPTH_LIMIT: usize = 64;

/// Files by path, relative and without `.` and `..`; folders come before what
/// is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folder {
    pub entries: BTreeMap<String, Content>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Folder,
    File {
        bytes: Vec<u8>,
        executable: bool,
    },
    /// Leads to something in the folder, by a relative path.
    Link(String),
}

impl Folder {
    /// A file as text, if it is there and is text.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        match self.entries.get(path) {
            Some(Content::File { bytes, .. }) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Paths of files, sorted.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let is_file = |content: &Content| matches!(content, Content::File { .. });
        self.entries
            .iter()
            .filter(move |(_, content)| is_file(content))
            .map(|(path, _)| path.as_str())
    }

    /// The same files have the same digest, in whatever they came.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = sha2::Sha256::new();
        for (path, content) in &self.entries {
            let (kind, bytes): (&[u8], &[u8]) = match content {
                Content::Folder => (b"d", b""),
                Content::File { bytes, executable } => {
                    (if *executable { b"x" } else { b"f" }, bytes)
                }
                Content::Link(target) => (b"l", target.as_bytes()),
            };
            for part in [path.as_bytes(), kind, bytes] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        format!("sha256:{}", hex::encode(hasher.finalize()))
    }

    /// Unpacks an archive, compressed or not; the error is a clause about it.
    pub fn from_tar(bytes: &[u8]) -> Result<Folder, String> {
        let broken = |error: archive::Error| match error {
            archive::Error::Read(error) => format!("its archive cannot be read ({error})"),
            archive::Error::Malformed(problem) => format!("its archive is malformed: {problem}"),
        };
        let plain = decompress(bytes).map_err(|error| error.to_string())?;
        // Headers count, so that no archive of nothing but names is endless.
        let most = (BYTES_LIMIT + ENTRIES_LIMIT * (2 << 10)) as u64;
        let reader = io::BufReader::new(plain.take(most));
        let mut archive = Archive::new(reader, None);
        let mut folder = Folder::default();
        let mut left = BYTES_LIMIT;
        while let Some(entry) = archive.next().map_err(broken)? {
            let name = String::from_utf8_lossy(&entry.path).into_owned();
            let path = normal(&entry.path).map_err(|problem| format!("{name:?} {problem}"))?;
            let content = match entry.kind {
                Kind::Directory => Content::Folder,
                Kind::Regular if entry.sparse.is_none() => {
                    let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
                    if size > left {
                        return Err(too_large());
                    }
                    left -= size;
                    let mut bytes = Vec::with_capacity(size.min(1 << 20));
                    loop {
                        let piece = archive.payload().map_err(broken)?;
                        if piece.is_empty() {
                            break;
                        }
                        bytes.extend_from_slice(piece);
                        let length = piece.len();
                        archive
                            .consume(length, false)
                            .map_err(|error| error.to_string())?;
                    }
                    if bytes.len() != size {
                        return Err(format!("its archive ends in the middle of {name:?}"));
                    }
                    Content::File {
                        bytes,
                        executable: entry.mode & 0o111 != 0,
                    }
                }
                Kind::Symlink => {
                    let target = String::from_utf8(entry.link.clone()).unwrap_or_default();
                    link(&path, &target).map_err(|problem| format!("{name:?} {problem}"))?
                }
                Kind::HardLink => {
                    let target = normal(&entry.link).unwrap_or_default();
                    let linked = folder.entries.get(&target).cloned();
                    let linked = linked.filter(|linked| matches!(linked, Content::File { .. }));
                    linked.ok_or_else(|| format!("{name:?} is a link to nothing before it"))?
                }
                _ => {
                    return Err(format!(
                        "{name:?} is neither a file nor a folder nor a link"
                    ));
                }
            };
            folder.add(path, content)?;
        }
        Ok(folder)
    }

    /// Reads a directory; nothing outside of it is followed into. Blocking.
    pub fn read(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        let mut folder = Folder::default();
        let mut left = BYTES_LIMIT;
        folder.read_into(&root, "", &mut left)?;
        Ok(folder)
    }

    fn read_into(&mut self, root: &OwnedFd, path: &str, left: &mut usize) -> io::Result<()> {
        let open = |path: &str, flags| {
            let path = if path.is_empty() { "." } else { path };
            beneath::open(
                root,
                Path::new(path),
                flags,
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            )
        };
        let directory = open(path, OFlags::DIRECTORY | OFlags::RDONLY)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(String::from_utf8(name.to_vec()).map_err(invalid)?);
            }
        }
        names.sort();
        for name in names {
            let full = if path.is_empty() {
                name
            } else {
                format!("{path}/{name}")
            };
            let normal =
                normal(full.as_bytes()).map_err(|problem| invalid(format!("{full} {problem}")))?;
            let handle =
                open(&normal, OFlags::PATH | OFlags::NOFOLLOW).or_else(|error| match error {
                    // A link: looked at without being followed.
                    rustix::io::Errno::LOOP => beneath::open(
                        root,
                        Path::new(&normal),
                        OFlags::PATH | OFlags::NOFOLLOW,
                        ResolveFlags::BENEATH,
                    ),
                    error => Err(error),
                })?;
            let stat = rustix::fs::fstat(&handle)?;
            match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
                rustix::fs::FileType::Directory => {
                    self.add(normal.clone(), Content::Folder).map_err(invalid)?;
                    self.read_into(root, &normal, left)?;
                }
                rustix::fs::FileType::RegularFile => {
                    let file = open(&normal, OFlags::RDONLY | OFlags::NONBLOCK)?;
                    let mut bytes = Vec::new();
                    let most = *left as u64 + 1;
                    std::fs::File::from(file)
                        .take(most)
                        .read_to_end(&mut bytes)?;
                    *left = left
                        .checked_sub(bytes.len())
                        .ok_or_else(|| invalid(too_large()))?;
                    let executable = stat.st_mode & 0o111 != 0;
                    self.add(normal, Content::File { bytes, executable })
                        .map_err(invalid)?;
                }
                rustix::fs::FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&handle, "", Vec::new())?;
                    let target = target.into_string().map_err(invalid)?;
                    let content = link(&normal, &target)
                        .map_err(|problem| invalid(format!("{normal} {problem}")))?;
                    self.add(normal, content).map_err(invalid)?;
                }
                _ => return Err(invalid(format!("{normal} is neither a file nor a folder"))),
            }
        }
        Ok(())
    }

    /// Adds an entry and the folders above it.
    pub fn add(&mut self, path: String, content: Content) -> Result<(), String> {
        if path.is_empty() {
            return match content {
                Content::Folder => Ok(()),
                _ => Err("its archive replaces the folder itself".to_owned()),
            };
        }
        let mut above = path.as_str();
        while let Some((folder, _)) = above.rsplit_once('/') {
            match self.entries.get(folder) {
                Some(Content::Folder) => break,
                Some(_) => return Err(format!("{folder:?} is a folder and something else")),
                None => {
                    self.entries.insert(folder.to_owned(), Content::Folder);
                }
            }
            above = folder;
        }
        if matches!(self.entries.get(&path), Some(Content::Folder)) && content != Content::Folder {
            return Err(format!("{path:?} is a folder and something else"));
        }
        self.entries.insert(path, content);
        if self.entries.len() > ENTRIES_LIMIT {
            return Err(format!("it has more than {ENTRIES_LIMIT} files"));
        }
        Ok(())
    }

    /// Writes it all below an existing directory. What is there is replaced,
    /// but never followed: whose directory it is may be somebody else. Blocking.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty())?;
        let parent = |path: &str| -> io::Result<(OwnedFd, String)> {
            let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
            let folder = beneath::open(
                &root,
                Path::new(folder),
                OFlags::DIRECTORY | OFlags::RDONLY,
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            )?;
            Ok((folder, name.to_owned()))
        };
        for (path, content) in &self.entries {
            let (folder, name) = parent(path)?;
            let name = name.as_str();
            match content {
                Content::Folder => {
                    match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Content::File { bytes, executable } => {
                    remove(&folder, name)?;
                    let mode = if *executable { 0o755 } else { 0o644 };
                    let flags = OFlags::CREATE
                        | OFlags::EXCL
                        | OFlags::WRONLY
                        | OFlags::NOFOLLOW
                        | OFlags::CLOEXEC;
                    let file = rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(mode))?;
                    std::fs::File::from(file).write_all(bytes)?;
                }
                Content::Link(target) => {
                    remove(&folder, name)?;
                    rustix::fs::symlinkat(target.as_str(), &folder, name)?;
                }
            }
        }
        Ok(())
    }

    /// As an archive; the same files make the same bytes.
    pub fn to_tar(&self) -> io::Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |path: String, content: &Content| {
            let mut header = tar::Header::new_ustar();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            let (kind, mode, bytes): (_, _, &[u8]) = match content {
                Content::Folder => (tar::EntryType::Directory, 0o755, b""),
                Content::File { bytes, executable } => {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    (tar::EntryType::Regular, mode, bytes)
                }
                Content::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    return builder.append_link(&mut header, path, target);
                }
            };
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, bytes)
        };
        add("./".to_owned(), &Content::Folder)?;
        for (path, content) in &self.entries {
            let end = if *content == Content::Folder { "/" } else { "" };
            add(format!("./{path}{end}"), content)?;
        }
        builder.into_inner()
    }
}

fn remove(folder: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn invalid(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn too_large() -> String {
    format!("it has more than {BYTES_LIMIT} bytes")
}

/// Without empty and `.` components; the error is a clause about the entry.
fn normal(path: &[u8]) -> Result<String, String> {
    let path = std::str::from_utf8(path).map_err(|_| "has a name that is no text")?;
    let mut clean: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => return Err("leads out of its folder".to_owned()),
            _ if component.len() > 255 || component.contains('\0') => {
                return Err("has a name that no file can have".to_owned());
            }
            _ => clean.push(component),
        }
    }
    if path.starts_with('/') {
        return Err("has an absolute path".to_owned());
    }
    if clean.len() > DEPTH_LIMIT || path.len() > PATH_LIMIT {
        return Err("lies too deep".to_owned());
    }
    Ok(clean.join("/"))
}

/// A link that stays inside, seen from where it stands.
pub(crate) fn link(path: &str, target: &str) -> Result<Content, String> {
    let mut depth = path.split('/').count() - 1;
    let outside = || "is a link that leads out of its folder".to_owned();
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return Err(outside());
    }
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => depth = depth.checked_sub(1).ok_or_else(outside)?,
            _ => depth += 1,
        }
    }
    Ok(Content::Link(target.to_owned()))
}

#[cfg(test)]
mod tests;
