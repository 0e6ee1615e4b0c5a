//! Which step made which layer: the cache of steps.
//!
//! A key is the digest of everything a step reads; an entry names the layer that came of it, or
//! that none did. `<images>/build/cache/<key>.json`, written beside and renamed, after the layer.
//! An entry whose layer is gone is worth nothing. When an entry was last of use is its file's
//! time; which of them stay is [`crate::garbage`]'s.

use crate::Error;
use crate::digest::Digest;
use crate::index::{self, Used};
use crate::layers::{LayerId, create_private};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made {
    /// None: nothing changed.
    pub(super) layer: Option<LayerId>,
    /// When it was made, RFC 3339.
    pub(super) created: String,
}

#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(crate) fn open(images: &Path) -> Result<Cache, Error> {
        let folder = images.join("build/cache");
        create_private(&images.join("build"))?;
        create_private(&folder)?;
        Ok(Cache { folder })
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(format!("{}.json", key.hex()))
    }

    pub(super) fn get(&self, key: &Digest) -> Option<Made> {
        let path = self.path(key);
        let made = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        index::touch(&path);
        Some(made)
    }

    pub(super) fn put(&self, key: &Digest, made: &Made) -> Result<(), Error> {
        let path = self.path(key);
        let bytes = serde_json::to_vec(made).map_err(|error| Error::Io {
            doing: "write",
            path: path.clone(),
            source: error.into(),
        })?;
        index::write_durably(&path, &bytes)
    }

    /// The time, by the clock that the entries' times are of.
    pub(crate) fn clock(&self) -> Result<i64, Error> {
        let clock = self.folder.join("clock");
        std::fs::write(&clock, b"").map_err(Error::io("write", &clock))?;
        Ok(index::used(&clock).unwrap_or_default().0)
    }

    /// All entries; what a crash left is removed.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, Error> {
        let now = self.clock()?;
        let listed = std::fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))?;
        let mut entries = Vec::new();
        for entry in listed {
            let path = entry.map_err(Error::io("list", &self.folder))?.path();
            let made: Option<Made> = std::fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let used = index::used(&path).unwrap_or_default();
            match made {
                Some(Made { layer, .. }) => entries.push(Listed { path, used, layer }),
                // Being written by another build.
                None if now - used.0 < WRITING
                    && path.extension().is_some_and(|end| end != "json") => {}
                None => drop(std::fs::remove_file(&path)),
            }
        }
        Ok(entries)
    }
}

/// Seconds after which nobody is writing an entry any more.
const WRITING: i64 = 3600;

/// An entry, and when it was last of use.
pub(crate) struct Listed {
    pub(crate) path: PathBuf,
    pub(crate) used: Used,
    pub(crate) layer: Option<LayerId>,
}
