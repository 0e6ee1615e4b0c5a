//! The layer store: each layer unpacked once, shared by all environments.
//!
//! ```text
//! layers/<diff id>/tree/        what overlayfs gets as a lower directory
//!                 /recipe.zst   with the tree, the layer's tar again
//!                 /shadow/      contents the layer itself replaced
//!                 /layer.json   sizes
//! staging/<process>-<n>/        the same, while being made
//! staging/<process>-<n>.lock    locked by who makes it
//! locks/<diff id>               locked by who fetches the layer
//! ```
//!
//! A layer is flushed before it is renamed out of staging, so what is under
//! `layers/` is whole. A staging folder whose lock nobody holds was left by a
//! crash. Locks are `flock`s: they work between processes and, each opening
//! its own descriptor, between tasks of one process, and die with them.
//!
//! Which layers an image has is the `index`' business; fetching is `pull`'s.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::digest::{Digest, Digesting};
use crate::unpack::{self, Failure};
use crate::{Error, Limits, compression, recipe};

/// A layer's diff id: the digest of its tar, uncompressed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerId(Digest);

impl LayerId {
    /// `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Digest::parse(text).map(LayerId)
    }

    /// Twelve digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0.hex()[..12]
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.0
    }
}

impl From<Digest> for LayerId {
    fn from(digest: Digest) -> Self {
        LayerId(digest)
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Bytes of the tar.
    pub(crate) tar_bytes: u64,
    /// Bytes of the files in it.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    next: AtomicU64,
}

impl Store {
    /// Blocking. Removes what a crash left.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        for name in ["layers", "staging", "locks"] {
            create_private(&directory.join(name))?;
        }
        let store = Store {
            directory: directory.to_owned(),
            next: AtomicU64::new(0),
        };
        store.sweep()?;
        Ok(store)
    }

    pub(crate) fn tree(&self, id: &LayerId) -> PathBuf {
        self.place(id).join("tree")
    }

    pub(crate) fn has(&self, id: &LayerId) -> bool {
        self.place(id).is_dir()
    }

    pub(crate) fn facts(&self, id: &LayerId) -> Result<Facts, Error> {
        let path = self.place(id).join("layer.json");
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Io {
            doing: "understand",
            path,
            source: error.into(),
        })
    }

    /// The layer's tar, bit for bit; the caller compares the digest.
    pub(crate) fn write_tar(&self, id: &LayerId, output: &mut dyn io::Write) -> io::Result<()> {
        let place = self.place(id);
        recipe::play(
            &place.join("recipe.zst"),
            &place.join("tree"),
            &place.join("shadow"),
            output,
        )
    }

    pub(crate) fn list(&self) -> Result<Vec<LayerId>, Error> {
        let path = self.directory.join("layers");
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(Error::io("list", &path))? {
            let entry = entry.map_err(Error::io("list", &path))?;
            if let Some(id) = entry
                .file_name()
                .to_str()
                .and_then(|name| LayerId::parse(&format!("sha256:{name}")))
            {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Gone at once under its name; deleted when the answer is dropped, or by
    /// the next start. Blocking.
    pub(crate) fn bury(&self, id: &LayerId) -> Result<Staging, Error> {
        let staging = self.stage()?;
        let place = self.place(id);
        match std::fs::rename(&place, staging.path.join("removed")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome.map_err(Error::io("remove", &place))?,
        }
        Ok(staging)
    }

    /// Waits for whoever fetches the layer, in this process or another.
    pub(crate) async fn lock(&self, id: &LayerId, waiting: impl FnMut()) -> Result<File, Error> {
        lock(
            &self.directory.join("locks").join(id.digest().hex()),
            waiting,
        )
        .await
    }

    pub(crate) fn stage(&self) -> Result<Staging, Error> {
        let folder = self.directory.join("staging");
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}", std::process::id());
            let lock_path = folder.join(format!("{name}.lock"));
            let Some(lock) = try_lock(&lock_path)? else {
                continue;
            };
            let path = folder.join(&name);
            match std::fs::create_dir(&path) {
                // Another handle of this process, or the dead one that had
                // this process's number before.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                outcome => outcome.map_err(Error::io("make", &path))?,
            }
            return Ok(Staging {
                path,
                lock_path,
                _lock: lock,
            });
        }
    }

    /// Blocking: unpacks a compressed or plain tar. The result is flushed but
    /// has no name yet, so that digests can be compared before.
    pub(crate) fn unpack<R: BufRead + Send>(
        &self,
        image: &str,
        layer: &str,
        reader: R,
        limits: &Limits,
        flushing: impl FnOnce(),
    ) -> Result<Unpacked, Error> {
        let staging = self.stage()?;
        let tree = staging.path.join("tree");
        let shadow = staging.path.join("shadow");
        for path in [&tree, &shadow] {
            std::fs::create_dir(path).map_err(Error::io("make", path))?;
        }
        set_mode(&tree, 0o755)?;
        let recipe_path = staging.path.join("recipe.zst");
        let recipe =
            recipe::Writer::create(&recipe_path).map_err(Error::io("write", &recipe_path))?;
        let fail = |failure| self.explain(image, layer, failure);
        let reader = compression::decompress(reader).map_err(|error| fail(Failure::Read(error)))?;
        let mut archive = Archive::new(Digesting::new(reader), Some(recipe));
        let summary = unpack::unpack(&mut archive, &tree, &shadow, limits).map_err(fail)?;
        let (digesting, recipe) = archive
            .finish()
            .map_err(|error| fail(unpack::from_archive("(the archive's end)", error)))?;
        let (diff_id, tar_bytes) = digesting.finish();
        if let Some(recipe) = recipe {
            recipe.finish().map_err(Error::io("write", &recipe_path))?;
        }
        let facts = Facts {
            tar_bytes,
            bytes: summary.bytes,
            entries: summary.entries,
        };
        let path = staging.path.join("layer.json");
        std::fs::write(&path, serde_json::to_vec(&facts).unwrap_or_default())
            .map_err(Error::io("write", &path))?;
        flushing();
        // One flush of the file system instead of one per file.
        let root = File::open(&staging.path).map_err(Error::io("open", &staging.path))?;
        rustix::fs::syncfs(&root).map_err(|errno| Error::Io {
            doing: "flush",
            path: staging.path.clone(),
            source: errno.into(),
        })?;
        Ok(Unpacked {
            id: LayerId(diff_id),
            facts,
            staging,
        })
    }

    /// Flushes and names a layer that was made in place: staging holds all that is its own.
    /// Blocking.
    pub(crate) fn adopt(&self, staging: Staging, id: LayerId, facts: Facts) -> Result<(), Error> {
        if self.has(&id) {
            return Ok(());
        }
        let root = File::open(&staging.path).map_err(Error::io("open", &staging.path))?;
        rustix::fs::syncfs(&root).map_err(|errno| Error::Io {
            doing: "flush",
            path: staging.path.clone(),
            source: errno.into(),
        })?;
        self.publish(Unpacked { id, facts, staging }).map(drop)
    }

    /// Blocking. From now on the layer exists, also after a crash.
    pub(crate) fn publish(&self, unpacked: Unpacked) -> Result<LayerId, Error> {
        let Unpacked { id, staging, .. } = unpacked;
        let place = self.place(&id);
        if place.is_dir() {
            return Ok(id);
        }
        std::fs::rename(&staging.path, &place).map_err(Error::io("name", &place))?;
        sync_directory(&self.directory.join("layers"))?;
        Ok(id)
    }

    /// Of layers nobody is fetching.
    pub(crate) fn prune_locks(&self) -> Result<(), Error> {
        let folder = self.directory.join("locks");
        for entry in std::fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let path = entry.map_err(Error::io("list", &folder))?.path();
            if let Some(_lock) = try_lock(&path)? {
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(())
    }

    fn place(&self, id: &LayerId) -> PathBuf {
        self.directory.join("layers").join(id.digest().hex())
    }

    fn explain(&self, image: &str, layer: &str, failure: Failure) -> Error {
        match failure {
            Failure::Refused { entry, problem } => Error::Hostile {
                image: image.to_owned(),
                layer: layer.to_owned(),
                entry,
                problem,
            },
            Failure::NoSpace { free } => Error::NoSpace {
                image: image.to_owned(),
                path: self.directory.clone(),
                free,
            },
            // The half-fetched blob may be what fills the disk.
            Failure::Write { source, .. } | Failure::Read(source)
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                Error::NoSpace {
                    image: image.to_owned(),
                    path: self.directory.clone(),
                    free: 0,
                }
            }
            Failure::Write { entry, source } => Error::Io {
                doing: "unpack into the layer store",
                path: self
                    .directory
                    .join("staging")
                    .join(entry.trim_start_matches('/')),
                source,
            },
            Failure::Read(source) => Error::Unreadable {
                image: image.to_owned(),
                layer: layer.to_owned(),
                source,
            },
        }
    }

    fn sweep(&self) -> Result<(), Error> {
        let folder = self.directory.join("staging");
        for entry in std::fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let path = entry.map_err(Error::io("list", &folder))?.path();
            let lock_path = match path.extension() {
                Some(extension) if extension == "lock" => path.clone(),
                _ => path.with_extension("lock"),
            };
            let Some(_lock) = try_lock(&lock_path)? else {
                continue;
            };
            let place = lock_path.with_extension("");
            if place.exists() {
                tracing::info!(path = %place.display(), "removing a half-made layer");
                remove_tree(&place);
            }
            let _ = std::fs::remove_file(&lock_path);
        }
        Ok(())
    }
}

/// Removes itself unless renamed away. Blocking, also when dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Staging {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        remove_tree(&self.path);
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) id: LayerId,
    pub(crate) facts: Facts,
    staging: Staging,
}

fn remove_tree(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove; the next start tries again");
        }
        _ => {}
    }
}

pub(crate) async fn lock(path: &Path, mut waiting: impl FnMut()) -> Result<File, Error> {
    let mut told = false;
    loop {
        if let Some(lock) = try_lock(path)? {
            return Ok(lock);
        }
        if !told {
            waiting();
            told = true;
        }
        // A blocking flock could not be cancelled.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// None when somebody else holds it. A file that its last holder has just
/// removed is no lock any more: then another is made.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(Error::io("open", path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => {
                return Err(Error::Io {
                    doing: "lock",
                    path: path.to_owned(),
                    source: errno.into(),
                });
            }
        }
        if same_file(&file, path) {
            return Ok(Some(file));
        }
    }
}

pub(crate) fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    }
}

pub(crate) fn create_private(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::io("make", path))?;
    set_mode(path, 0o700)
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(Error::io("set the mode of", path))
}

pub(crate) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("flush", path))
}
