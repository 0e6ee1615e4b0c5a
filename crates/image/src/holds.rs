//! What an unfinished operation needs, so that pruning leaves it alone.
//!
//! Between the unpacking of its first layer and the writing of its tag, an
//! image is named by nothing. Its puller holds its parts meanwhile: a file
//! under `holds/` that lists them, locked for as long as the puller lives.
//! A puller adds its hold before it looks which layers are here already, and
//! pruning looks at the holds before it removes any, both under `prune.lock`;
//! so no layer can be found by one and removed by the other.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;

use crate::digest::Digest;
use crate::{Error, layers};

#[derive(Debug)]
pub(crate) struct Holds {
    directory: PathBuf,
    gate: PathBuf,
    next: AtomicU64,
}

impl Holds {
    pub(crate) fn open(images: &Path) -> Result<Self, Error> {
        let directory = images.join("holds");
        layers::create_private(&directory)?;
        let holds = Holds {
            directory,
            gate: images.join("prune.lock"),
            next: AtomicU64::new(0),
        };
        holds.held()?;
        Ok(holds)
    }

    /// Blocking, briefly.
    pub(crate) fn hold(&self, digests: &[Digest]) -> Result<Hold, Error> {
        let _gate = self.gate()?;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let lock_path = self
                .directory
                .join(format!("{}-{number}.lock", std::process::id()));
            if lock_path.exists() {
                continue;
            }
            let Some(lock) = layers::try_lock(&lock_path)? else {
                continue;
            };
            let path = lock_path.with_extension("json");
            let bytes = serde_json::to_vec(digests).unwrap_or_default();
            // Worth nothing after a crash, so not flushed; read under the gate.
            std::fs::write(&path, bytes).map_err(Error::io("write", &path))?;
            return Ok(Hold {
                path,
                lock_path,
                _lock: lock,
            });
        }
    }

    /// Blocking: keeps new holds away until it is dropped.
    pub(crate) fn gate(&self) -> Result<File, Error> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.gate)
            .map_err(Error::io("open", &self.gate))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|errno| Error::Io {
            doing: "lock",
            path: self.gate.clone(),
            source: errno.into(),
        })?;
        Ok(file)
    }

    /// Of living operations; forgets those of dead ones.
    pub(crate) fn held(&self) -> Result<HashSet<Digest>, Error> {
        let mut held = HashSet::new();
        for entry in
            std::fs::read_dir(&self.directory).map_err(Error::io("list", &self.directory))?
        {
            let lock_path = entry.map_err(Error::io("list", &self.directory))?.path();
            if lock_path
                .extension()
                .is_none_or(|extension| extension != "lock")
            {
                continue;
            }
            let path = lock_path.with_extension("json");
            if layers::try_lock(&lock_path)?.is_some() {
                let _ = std::fs::remove_file(&path);
                let _ = std::fs::remove_file(&lock_path);
                continue;
            }
            // Missing when its holder is just letting go.
            if let Ok(bytes) = std::fs::read(&path) {
                held.extend(serde_json::from_slice::<Vec<Digest>>(&bytes).unwrap_or_default());
            }
        }
        Ok(held)
    }
}

#[derive(Debug)]
pub(crate) struct Hold {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(&self.lock_path);
    }
}
