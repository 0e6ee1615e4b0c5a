//! Digests of files, kept so that what did not change is not read again.
//!
//! A file that has the device, inode, size and both times it had when it was read has the content
//! it had; the change time cannot be set by anybody. What changed within the grain of the file
//! system's clock before it was read is not kept.
//!
//! On disk: `<images>/build/digests/<digest of the identity>`, a record per file seen in the last
//! build, written beside and renamed. May be lost.

use super::tree::{Kind, Meta, Tree};
use crate::Error;
use crate::layers::create_private;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

type Known = HashMap<[u8; KEY], [u8; 32]>;

const KEY: usize = 48;
const RECORD: usize = KEY + 32;
/// Records of one file: 80 MB.
const MOST: usize = 1_000_000;
/// Younger changes are not kept: file systems that keep whole seconds.
const GRAIN: i64 = 2;

pub(super) struct Digests {
    path: PathBuf,
    /// The file system's clock when this began.
    now: i64,
    before: Known,
    seen: Mutex<Known>,
}

fn key(meta: &Meta) -> [u8; KEY] {
    let mut key = [0; KEY];
    for (at, value) in [
        meta.device,
        meta.inode,
        meta.size,
        meta.mtime.0.cast_unsigned(),
        meta.ctime.0.cast_unsigned(),
        u64::from(meta.mtime.1) << 32 | u64::from(meta.ctime.1),
    ]
    .into_iter()
    .enumerate()
    {
        key[at * 8..at * 8 + 8].copy_from_slice(&value.to_le_bytes());
    }
    key
}

impl Digests {
    /// Blocking.
    pub(super) fn open(folder: &Path, identity: &str) -> Result<Digests, Error> {
        create_private(folder)?;
        let name = hex::encode(Sha256::digest(identity));
        let path = folder.join(name);
        let now = clock(folder).map_err(Error::io("write", folder))?;
        let bytes = std::fs::read(&path).unwrap_or_default();
        crate::index::touch(&path);
        let mut before = Known::new();
        for record in bytes.chunks_exact(RECORD).take(MOST) {
            let (name, digest) = record.split_at(KEY);
            if let (Ok(name), Ok(digest)) = (name.try_into(), digest.try_into()) {
                before.insert(name, digest);
            }
        }
        Ok(Digests {
            path,
            now,
            before,
            seen: Mutex::new(Known::new()),
        })
    }

    /// Of a regular file's content.
    pub(super) fn of(&self, tree: &dyn Tree, path: &Path, meta: &Meta) -> io::Result<[u8; 32]> {
        let key = key(meta);
        let known = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.get(&key).or_else(|| self.before.get(&key)).copied()
        };
        let digest = match known {
            Some(digest) => digest,
            None => read(tree, path, meta)?,
        };
        if meta.ctime.0 + GRAIN < self.now || known.is_some() {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(key, digest);
        }
        Ok(digest)
    }

    /// Keeps what was seen; a loss costs reading again.
    pub(super) fn save(&self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_empty() || *seen == self.before {
            return;
        }
        let mut bytes = Vec::with_capacity(seen.len() * RECORD);
        for (key, digest) in seen.iter().take(MOST) {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(digest);
        }
        let beside = self
            .path
            .with_extension(format!("new-{}", std::process::id()));
        let written =
            std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, &self.path));
        if let Err(error) = written {
            tracing::info!(path = %self.path.display(), %error, "digests of files are not kept");
            let _ = std::fs::remove_file(&beside);
        }
    }
}

/// What the file system's clock says: the change time of a file made now.
fn clock(folder: &Path) -> io::Result<i64> {
    use std::os::unix::fs::MetadataExt as _;
    let path = folder.join(format!("clock-{}", std::process::id()));
    std::fs::write(&path, b"")?;
    let now = std::fs::metadata(&path)?.ctime();
    let _ = std::fs::remove_file(&path);
    Ok(now)
}

fn read(tree: &dyn Tree, path: &Path, meta: &Meta) -> io::Result<[u8; 32]> {
    let mut file = tree.open(path)?;
    unchanged(&file, path, meta)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    unchanged(&file, path, meta)?;
    Ok(hasher.finalize().into())
}

/// Whether an open file is still what it was described as.
pub(super) fn unchanged(file: &std::fs::File, path: &Path, meta: &Meta) -> io::Result<()> {
    let now = Meta::from(&rustix::fs::fstat(file)?);
    if now.kind == Kind::File
        && (now.device, now.inode, now.size) == (meta.device, meta.inode, meta.size)
        && now.mtime == meta.mtime
    {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{} changed while it was read; build again",
        path.display()
    )))
}
