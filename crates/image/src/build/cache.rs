//! Which step made which layer: the cache of steps.
//!
//! A key is the digest of everything a step reads; an entry names the layer that came of it, or
//! that none did. `<images>/build/cache/<key>.json`, written beside and renamed, after the layer.
//! An entry whose layer is gone is worth nothing. When an entry was last of use is its file's
//! time; pruning keeps the layers of entries used lately, up to a size, and forgets the rest.

use crate::digest::Digest;
use crate::layers::{LayerId, create_private};
use crate::{Error, index};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Seconds for which an unused entry keeps its layer.
const KEPT: i64 = 7 * 24 * 3600;

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
        if let Ok(file) = std::fs::File::options().write(true).open(&path) {
            let now = rustix::fs::Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_NOW,
            };
            let times = rustix::fs::Timestamps {
                last_access: now,
                last_modification: now,
            };
            let _ = rustix::fs::futimens(&file, &times);
        }
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

    /// Forgets what is of no use any more, and what a crash left; answers the layers that entries
    /// of use name. Those used last are kept, up to so many bytes of layers, where `bytes` is None
    /// for a layer that is gone and 0 for one that is kept anyway. Under the gate of pruning.
    pub(crate) fn prune(
        &self,
        bytes: impl Fn(&LayerId) -> Option<u64>,
        most: u64,
    ) -> Result<HashSet<Digest>, Error> {
        use std::os::unix::fs::MetadataExt as _;
        let clock = self.folder.join("clock");
        let now = std::fs::write(&clock, b"")
            .and_then(|()| std::fs::metadata(&clock))
            .map(|metadata| metadata.mtime())
            .map_err(Error::io("write", &clock))?;
        let listed = std::fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))?;
        let mut entries = Vec::new();
        for entry in listed {
            let path = entry.map_err(Error::io("list", &self.folder))?.path();
            let made: Option<Made> = std::fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let used = std::fs::metadata(&path).map(|about| (about.mtime(), about.mtime_nsec()));
            let young = used.as_ref().is_ok_and(|(seconds, _)| now - seconds < KEPT);
            match made {
                Some(made) if young => entries.push((used.unwrap_or_default(), path, made)),
                // Being written by another build.
                None if young && path.extension().is_some_and(|end| end != "json") => {}
                _ => drop(std::fs::remove_file(&path)),
            }
        }
        entries.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let (mut kept, mut size) = (HashSet::new(), 0u64);
        for (_, path, Made { layer, .. }) in entries {
            let more = match &layer {
                Some(layer) if !kept.contains(layer.digest()) => bytes(layer),
                _ => Some(0),
            };
            match more.map(|more| size.saturating_add(more)) {
                Some(sum) if sum <= most => {
                    size = sum;
                    kept.extend(layer.map(|layer| layer.digest().clone()));
                }
                _ => drop(std::fs::remove_file(&path)),
            }
        }
        Ok(kept)
    }
}
