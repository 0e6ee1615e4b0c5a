//! Archives that `ADD` unpacks.
//!
//! Owns what an archive is (a tar, plain or compressed by gzip, bzip2, xz or zstd, by its first bytes) and its
//! way into the layer in the making: unpacked beside the layer's tree by `unpack`, which contains
//! whatever the archive says, then copied as a folder is. Owners are the archive's. What is no
//! archive is copied as it is.

use super::source::{Entry, Found};
use super::tree::{Folder, Kind, Meta, Tree};
use crate::archive::Archive;
use crate::unpack::{self, Failure};
use crate::{Limits, compression};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

const BLOCK: usize = 512;
/// Deepest folder copied; the archive's own bounds are stricter.
const MOST_DEPTH: usize = 512;

/// What an archive held.
pub(super) struct Added {
    pub(super) tree: Folder,
    pub(super) found: Found,
    folder: PathBuf,
}

impl Added {
    /// Unpacks a file into `folder`, which is made; None when it is no archive.
    pub(super) fn unpack(
        tree: &dyn Tree,
        file: &Entry,
        folder: &Path,
        limits: &Limits,
    ) -> io::Result<Option<Added>> {
        let mut source = tree.open(&file.path)?;
        super::digests::unchanged(&source, &file.path, &file.meta)?;
        if !is_archive(&source) {
            return Ok(None);
        }
        source.rewind()?;
        let (content, shadow) = (folder.join("tree"), folder.join("shadow"));
        std::fs::create_dir_all(&content)?;
        std::fs::create_dir(&shadow)?;
        crate::layers::set_mode(&content, 0o755).map_err(io::Error::other)?;
        let reader = decompress(BufReader::new(&source))?;
        let mut archive = Archive::new(BufReader::new(reader), None);
        let named = |problem: String| {
            let problem = format!("{} {problem}", file.path.display());
            io::Error::new(io::ErrorKind::InvalidData, problem)
        };
        unpack::unpack(&mut archive, &content, &shadow, limits).map_err(|failure| {
            named(match failure {
                Failure::Refused { entry, problem } => format!("holds {entry}, which {problem}"),
                Failure::Read(error) => format!("cannot be unpacked: {error}"),
                Failure::Write { entry, source } => {
                    format!("cannot be unpacked: {entry}: {source}")
                }
                Failure::NoSpace { free } => {
                    format!("is too large to unpack: {} MiB are free", free >> 20)
                }
            })
        })?;
        super::digests::unchanged(&source, &file.path, &file.meta)?;
        let tree = Folder::open(&content)?;
        let mut entries = Vec::new();
        let root = tree
            .stat(Path::new(""), false)?
            .ok_or_else(|| named("was taken away while it was unpacked".to_owned()))?;
        walk(&tree, PathBuf::new(), root, &mut entries, 0)?;
        let found = Found {
            name: OsString::new(),
            written: PathBuf::new(),
            entries,
        };
        Ok(Some(Added {
            tree,
            found,
            folder: folder.to_owned(),
        }))
    }

    /// Takes away what was copied: what else is in staging would become part of the layer's folder.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.folder)
    }
}

/// Memory that an xz stream may ask for, in KiB: `xz -9` takes 65 MiB.
const XZ_MEMORY: u32 = 256 << 10;

/// As of layers, and by what else `ADD` knows.
fn decompress<'a, R: BufRead + Send + 'a>(mut reader: R) -> io::Result<Box<dyn Read + Send + 'a>> {
    let start = reader.fill_buf()?;
    Ok(match start {
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY))
        }
        _ => compression::decompress(reader)?,
    })
}

fn is_archive(file: &std::fs::File) -> bool {
    let mut block = Vec::new();
    // What cannot be decompressed is no archive either.
    let read = decompress(BufReader::new(file))
        .and_then(|reader| reader.take(BLOCK as u64).read_to_end(&mut block));
    read.is_ok() && is_header(&block)
}

/// Whether a tar's checksum is right.
fn is_header(block: &[u8]) -> bool {
    if block.len() != BLOCK || block[0] == 0 {
        return false;
    }
    let text: String = block[148..156]
        .iter()
        .map(|byte| char::from(*byte))
        .collect();
    let written = u32::from_str_radix(text.trim_matches([' ', '\0']), 8);
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| match at {
            148..156 => u32::from(b' '),
            _ => u32::from(*byte),
        })
        .sum();
    written == Ok(sum)
}

fn walk(
    tree: &Folder,
    path: PathBuf,
    meta: Meta,
    entries: &mut Vec<Entry>,
    depth: usize,
) -> io::Result<()> {
    if depth > MOST_DEPTH {
        return Err(rustix::io::Errno::NAMETOOLONG.into());
    }
    let link = match meta.kind {
        Kind::Symlink => Some(tree.read_link(&path)?),
        // Marks of what a layer takes away mean nothing here.
        Kind::Other => return Ok(()),
        _ => None,
    };
    let folder = meta.kind == Kind::Directory;
    entries.push(Entry {
        below: path.clone(),
        path: path.clone(),
        meta,
        link,
        // Its key is the archive's.
        digest: [0; 32],
    });
    if folder {
        let mut listed = tree.list(&path)?;
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, meta) in listed {
            walk(tree, path.join(name), meta, entries, depth + 1)?;
        }
    }
    Ok(())
}
