//! A directory as overlayfs wrote it, made a layer: its tar's digest, and the recipe to write that
//! tar again.
//!
//! Entries come in the order of their names, so that the same files give the same layer. Character
//! devices 0:0 become whiteouts and `trusted.overlay.opaque` the opaque mark; overlayfs's other
//! attributes, sockets and devices are taken out of the tree, which afterwards is what unpacking the
//! tar would have made. Nobody else writes to the tree: it is in staging, and what ran on it has
//! ended.
//!
//! Format: ustar with pax records where ustar is too small (POSIX.1-2017, pax), xattrs as
//! `SCHILY.xattr.*`; the image specification's layer.md for whiteouts.

use super::merged;
use crate::Limits;
use crate::digest::Digest;
use crate::layers::{Facts, LayerId};
use crate::recipe;
use crate::unpack::attributes;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use sha2::Digest as _;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Reads `<staging>/tree`, writes `<staging>/recipe.zst` and `<staging>/layer.json`. None when
/// there is nothing in it.
pub(crate) fn take(staging: &Path, limits: &Limits) -> io::Result<Option<(LayerId, Facts)>> {
    let root = rustix::fs::open(staging.join("tree"), FOLDER, Mode::empty())?;
    if merged_names(&root)?.is_empty() {
        return Ok(None);
    }
    let mut tar = Tar {
        recipe: recipe::Writer::create(&staging.join("recipe.zst"))?,
        hasher: sha2::Sha256::new(),
        facts: Facts {
            tar_bytes: 0,
            bytes: 0,
            entries: 0,
        },
        links: HashMap::new(),
        limits,
    };
    tar.folder(&root, &[], 0)?;
    tar.raw(&[0; 1024])?;
    let Tar {
        recipe,
        hasher,
        facts,
        ..
    } = tar;
    recipe.finish()?;
    std::fs::write(staging.join("layer.json"), serde_json::to_vec(&facts)?)?;
    Ok(Some((LayerId::from(Digest::from_hasher(hasher)), facts)))
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

struct Tar<'a> {
    recipe: recipe::Writer,
    hasher: sha2::Sha256,
    facts: Facts,
    /// Files with several names, by device and inode: the first name.
    links: HashMap<(u64, u64), Vec<u8>>,
    limits: &'a Limits,
}

struct Header<'a> {
    path: &'a [u8],
    link: &'a [u8],
    flag: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: (i64, u32),
    xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

fn merged_names(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

fn os(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn refused(path: &[u8], why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("/{} {why}", String::from_utf8_lossy(path)),
    )
}

impl Tar<'_> {
    fn folder(&mut self, directory: &OwnedFd, path: &[u8], depth: usize) -> io::Result<()> {
        if depth > self.limits.path_depth {
            return Err(refused(path, "lies too deep for a layer"));
        }
        for name in merged_names(directory)? {
            let mut child = path.to_vec();
            if !child.is_empty() {
                child.push(b'/');
            }
            child.extend_from_slice(&name);
            if child.len() > self.limits.path_bytes {
                return Err(refused(&child, "has too long a path for a layer"));
            }
            if name.starts_with(b".wh.") {
                return Err(refused(
                    &child,
                    "has a name that layers use for what was deleted; rename it",
                ));
            }
            self.facts.entries += 1;
            if self.facts.entries > self.limits.entries {
                return Err(refused(&child, "is one entry more than a layer may have"));
            }
            self.entry(directory, &name, &child, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        let stat = rustix::fs::statat(directory, os(name), AtFlags::SYMLINK_NOFOLLOW)?;
        let header = |flag, size, link: &[u8], xattrs: &[(Vec<u8>, Vec<u8>)]| {
            write_header(&Header {
                path,
                link,
                flag,
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
                size,
                mtime: mtime(&stat),
                xattrs,
            })
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let folder = rustix::fs::openat(directory, os(name), FOLDER, Mode::empty())?;
                let opaque = merged::opaque(&folder);
                let xattrs = attributes::normalise(&folder, opaque)?;
                let mut with_slash = path.to_vec();
                with_slash.push(b'/');
                let bytes = write_header(&Header {
                    path: &with_slash,
                    link: b"",
                    flag: b'5',
                    mode: stat.st_mode & 0o7777,
                    uid: stat.st_uid,
                    gid: stat.st_gid,
                    size: 0,
                    mtime: mtime(&stat),
                    xattrs: &xattrs,
                });
                self.raw(&bytes)?;
                if opaque {
                    with_slash.extend_from_slice(b".wh..wh..opq");
                    self.raw(&mark(&with_slash))?;
                }
                self.folder(&folder, path, depth + 1)
            }
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                        let bytes = header(b'1', 0, &first.clone(), &[]);
                        return self.raw(&bytes);
                    }
                    self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
                }
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(directory, os(name), flags, Mode::empty())?;
                let xattrs = attributes::normalise(&file, false)?;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                let bytes = header(b'0', size, b"", &xattrs);
                self.raw(&bytes)?;
                self.content(path, File::from(file), size)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, os(name), Vec::new())?;
                let bytes = header(b'2', 0, target.to_bytes(), &[]);
                self.raw(&bytes)
            }
            FileType::Fifo => {
                let bytes = header(b'6', 0, b"", &[]);
                self.raw(&bytes)
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                let at = path.len() - name.len();
                let hidden = [&path[..at], b".wh.", name].concat();
                self.raw(&mark(&hidden))
            }
            // No layer holds devices, and a socket nobody listens at means nothing.
            _ => {
                self.facts.entries -= 1;
                Ok(rustix::fs::unlinkat(directory, os(name), AtFlags::empty())?)
            }
        }
    }

    fn content(&mut self, path: &[u8], mut file: File, size: u64) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        self.facts.bytes += size;
        if self.facts.bytes > self.limits.layer_bytes {
            return Err(refused(path, "makes the layer larger than it may be"));
        }
        self.recipe.content(path, size)?;
        let mut left = size;
        let mut buffer = vec![0; 256 << 10];
        while left > 0 {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let length = match file.read(&mut buffer[..most]) {
                Ok(0) => return Err(refused(path, "became shorter while it was read")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            };
            self.hasher.update(&buffer[..length]);
            left -= length as u64;
        }
        self.facts.tar_bytes += size;
        let padding = usize::try_from((512 - size % 512) % 512).unwrap_or(0);
        self.raw(&[0; 512][..padding])
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.facts.tar_bytes += bytes.len() as u64;
        self.recipe.raw(bytes)
    }
}

fn mtime(stat: &Stat) -> (i64, u32) {
    (
        stat.st_mtime,
        u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    )
}

/// A whiteout or the like: an empty file whose name says it.
fn mark(path: &[u8]) -> Vec<u8> {
    write_header(&Header {
        path,
        link: b"",
        flag: b'0',
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: (0, 0),
        xattrs: &[],
    })
}

fn write_header(header: &Header<'_>) -> Vec<u8> {
    let mut records = Vec::new();
    let mut pax = |key: &[u8], value: &[u8]| record(&mut records, key, value);
    if header.path.len() > 100 || !header.path.is_ascii() {
        pax(b"path", header.path);
    }
    if header.link.len() > 100 || !header.link.is_ascii() {
        pax(b"linkpath", header.link);
    }
    const SMALL: u32 = 0o7_777_777;
    for (key, id) in [(b"uid", header.uid), (b"gid", header.gid)] {
        if id > SMALL {
            pax(key, id.to_string().as_bytes());
        }
    }
    const LARGE: u64 = 0o77_777_777_777;
    if header.size > LARGE {
        pax(b"size", header.size.to_string().as_bytes());
    }
    let (seconds, nanos) = header.mtime;
    let plain_time = u64::try_from(seconds).ok().filter(|time| *time <= LARGE);
    if plain_time.is_none() || nanos != 0 {
        pax(b"mtime", decimal(seconds, nanos).as_bytes());
    }
    for (name, value) in header.xattrs {
        pax(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    let mut bytes = Vec::with_capacity(512);
    if !records.is_empty() {
        let extension = Header {
            path: b"./PaxHeaders/entry",
            link: b"",
            flag: b'x',
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: records.len() as u64,
            mtime: (0, 0),
            xattrs: &[],
        };
        bytes.extend_from_slice(&block(&extension, 0));
        bytes.extend_from_slice(&records);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend_from_slice(&block(header, plain_time.unwrap_or(0)));
    bytes
}

/// Seconds and nanoseconds as pax writes them; before 1970 the fraction counts backwards.
fn decimal(seconds: i64, nanos: u32) -> String {
    if nanos == 0 {
        return seconds.to_string();
    }
    if seconds >= 0 {
        let text = format!("{seconds}.{nanos:09}");
        return text.trim_end_matches('0').to_owned();
    }
    let whole = seconds + 1;
    let text = format!("-{}.{:09}", whole.unsigned_abs(), 1_000_000_000 - nanos);
    text.trim_end_matches('0').to_owned()
}

/// `length key=value\n`, the length counting itself.
fn record(into: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    into.extend_from_slice(length.to_string().as_bytes());
    into.push(b' ');
    into.extend_from_slice(key);
    into.push(b'=');
    into.extend_from_slice(value);
    into.push(b'\n');
}

fn block(header: &Header<'_>, mtime: u64) -> [u8; 512] {
    let mut block = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(100)].to_vec();
    put(0, &cut(header.path));
    put(100, format!("{:07o}\0", header.mode).as_bytes());
    let id = |id: u32| if id > 0o7_777_777 { 0 } else { id };
    put(108, format!("{:07o}\0", id(header.uid)).as_bytes());
    put(116, format!("{:07o}\0", id(header.gid)).as_bytes());
    let size = if header.size > 0o77_777_777_777 {
        0
    } else {
        header.size
    };
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{mtime:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, &[header.flag]);
    put(157, &cut(header.link));
    put(257, b"ustar\x0000");
    put(329, b"0000000\x000000000\0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests;
