//! What an image has in a folder, copied out: for volumes that begin with it.
//!
//! Images are untrusted: links are resolved in the image, nothing is written but below the
//! destination, and only files, folders and links are copied. Owners, modes, times, extended
//! attributes and hard links stay.

use super::copy::{Changes, Writer};
use super::merged::Merged;
use super::source::{Entry, Found};
use super::tree::{Kind, Meta, Tree as _};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// Copies what layers, topmost first, have in the folder `path` into the empty folder `into`, which
/// gets its owner and mode; false when they have no such folder, and then nothing changes. Blocking.
///
/// # Errors
/// It cannot be read or written; what was written by then stays.
pub fn copy_out(layers: Vec<PathBuf>, path: &Path, into: &Path) -> io::Result<bool> {
    let merged = Merged::new(layers);
    let resolved = merged.resolve(path, true)?;
    let Some(meta) = resolved.meta.filter(|meta| meta.kind == Kind::Directory) else {
        return Ok(false);
    };
    let (uid, gid, mode) = (meta.uid, meta.gid, meta.mode);
    let mut entries = vec![entry(PathBuf::new(), resolved.path, meta)];
    let mut at = 0;
    while let Some(folder) = entries.get(at) {
        at += 1;
        if folder.meta.kind != Kind::Directory {
            continue;
        }
        let (below, path) = (folder.below.clone(), folder.path.clone());
        for (name, meta) in merged.list(&path)? {
            let mut found = entry(below.join(&name), path.join(&name), meta);
            match found.meta.kind {
                Kind::File | Kind::Directory => {}
                Kind::Symlink => found.link = Some(merged.read_link(&found.path)?),
                _ => continue,
            }
            entries.push(found);
        }
    }
    let found = Found {
        name: Default::default(),
        written: PathBuf::new(),
        entries,
    };
    let nothing = Merged::new(Vec::new());
    let mut writer = Writer::new(into, &nothing)?;
    let changes = Changes {
        keeps_owners: true,
        ..Changes::default()
    };
    writer.copy(&merged, &found, Path::new(""), true, &changes)?;
    writer.finish()?;
    chown(into, Some(uid), Some(gid))?;
    std::fs::set_permissions(into, std::fs::Permissions::from_mode(mode & 0o7777))?;
    Ok(true)
}

fn entry(below: PathBuf, path: PathBuf, meta: Meta) -> Entry {
    Entry {
        below,
        path,
        meta,
        link: None,
        digest: [0; 32],
    }
}
