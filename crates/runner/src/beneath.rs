//! Reading files of untrusted making without being led out of their directory.
//!
//! Used for images' /etc/passwd, cloned repositories and lifecycle logs. Nothing here opens a
//! device or waits for a FIFO's other end.

use boatyard_sandbox::beneath;
use rustix::fs::{OFlags, ResolveFlags};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

/// Most bytes read of one file.
pub(crate) const LIMIT: u64 = 4 * 1024 * 1024;

/// Opens `path` beneath `root`; symbolic links are followed as if `root` were `/`.
pub(crate) fn open(root: impl AsFd, path: &str, extra: OFlags) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | extra;
    let file = beneath::open(root, Path::new(path), flags, ResolveFlags::IN_ROOT)?;
    Ok(File::from(file))
}

/// Reads a regular file beneath `root`; None when there is none.
pub(crate) fn read(root: &Path, path: &str) -> std::io::Result<Option<String>> {
    let root = File::open(root)?;
    match open(&root, path, OFlags::empty()) {
        Ok(file) => text(file).map(Some),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The text of an open regular file, at most [`LIMIT`] bytes.
pub(crate) fn text(file: File) -> std::io::Result<String> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    if metadata.len() > LIMIT {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8 text"))
}

/// Names in an open directory, at most 1,000.
pub(crate) fn names(directory: impl AsFd) -> std::io::Result<Vec<String>> {
    let entries = rustix::fs::Dir::read_from(directory)?;
    let mut names: Vec<String> = entries
        .take(1000)
        .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned))
        .filter(|name| name != "." && name != "..")
        .collect();
    names.sort();
    Ok(names)
}
