//! The handle: what the rest of Boatyard may ask of images.
//!
//! Cheap to clone. Several handles, also of several processes, may share a
//! directory: layers, tags and pruning are locked against each other in the
//! file system. Everything that touches many files runs on blocking threads;
//! dropping a future stops its work at the next piece and leaves staging that
//! removes itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::build::cache::Cache;
use crate::config::RawConfig;
use crate::digest::Digest;
use crate::holds::{Hold, Holds};
use crate::index::{Index, Tag};
use crate::layers::{self, Store};
use crate::{Config, Error, LayerId, Options, Progress, Reference};
use boatyard_sandbox::background::Background;

#[derive(Debug, Clone)]
pub struct Images {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) directory: PathBuf,
    pub(crate) options: Arc<Options>,
    pub(crate) store: Store,
    pub(crate) index: Index,
    pub(crate) holds: Holds,
    pub(crate) cache: Cache,
}

/// An image whose layers are all unpacked on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub reference: Reference,
    /// Of its manifest.
    pub digest: String,
    pub config: Config,
    /// Topmost first, as overlayfs takes lower directories.
    pub layers: Vec<Layer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub id: LayerId,
    /// Owners are the container's own ids.
    pub directory: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// What is here is good.
    IfMissing,
    /// Asks the registry whether the tag has moved.
    Always,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub reference: Reference,
    pub digest: String,
    /// Of its files; layers shared with other images counted in full.
    pub size_bytes: u64,
    /// RFC 3339, as the image says.
    pub created: Option<String>,
    pub architecture: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    pub reference: Reference,
    pub digest: String,
}

impl Images {
    /// Makes the directory (0700) if it is missing, and removes what a crash
    /// left in it. Blocking.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(directory: &Path, options: Options) -> Result<Images, Error> {
        layers::create_private(directory)?;
        layers::create_private(&directory.join("partial"))?;
        let inner = Inner {
            directory: directory.to_owned(),
            store: Store::open(directory)?,
            index: Index::open(directory)?,
            holds: Holds::open(directory)?,
            cache: Cache::open(directory)?,
            options: Arc::new(options),
        };
        Ok(Images {
            inner: Arc::new(inner),
        })
    }

    /// The image as it is here; fetched if it is not.
    ///
    /// # Errors
    /// As [`Images::pull`].
    pub async fn ensure(
        &self,
        reference: &Reference,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, Error> {
        self.pull(reference, Policy::IfMissing, progress).await
    }

    /// The image if it is here. Blocking, briefly.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn find(&self, reference: &Reference) -> Result<Option<Image>, Error> {
        self.inner.note_use(reference)?;
        match self.inner.index.get(reference)? {
            Some(tag) => self.inner.image(&tag),
            None => Ok(None),
        }
    }

    /// All local tags, by name. Blocking, briefly.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut listed = Vec::new();
        for tag in self.inner.index.list()? {
            let mut size_bytes = 0;
            for id in &tag.layers {
                size_bytes += self
                    .inner
                    .store
                    .facts(id)
                    .map(|facts| facts.bytes)
                    .unwrap_or(0);
            }
            listed.push(Listed {
                reference: tag.reference,
                digest: tag.manifest.to_string(),
                size_bytes,
                created: tag.created,
                architecture: tag.architecture,
            });
        }
        Ok(listed)
    }

    /// Gives an image a second name.
    ///
    /// # Errors
    /// There is no image of the first name.
    pub fn tag(&self, reference: &Reference, name: &Reference) -> Result<(), Error> {
        let _gate = self.inner.holds.gate()?;
        let tag = self
            .inner
            .index
            .get(reference)?
            .ok_or_else(|| missing(reference))?;
        self.inner.index.put(&Tag {
            reference: name.clone(),
            pulled: false,
            ..tag
        })
    }

    /// Takes the name away. The layers stay until [`Images::prune`].
    ///
    /// # Errors
    /// There is no image of that name.
    pub fn remove(&self, reference: &Reference) -> Result<Removed, Error> {
        let tag = self
            .inner
            .index
            .get(reference)?
            .ok_or_else(|| missing(reference))?;
        if !self.inner.index.remove(reference)? {
            return Err(missing(reference));
        }
        Ok(Removed {
            reference: tag.reference,
            digest: tag.manifest.to_string(),
        })
    }

    /// Keeps an image from being collected until the answer is dropped; None when parts of it are
    /// gone already. Blocking, briefly.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn hold(&self, image: &Image) -> Result<Option<Held>, Error> {
        let digests: Vec<Digest> = image
            .layers
            .iter()
            .map(|layer| layer.id.digest().clone())
            .collect();
        let hold = self.inner.holds.hold(&digests)?;
        let there = image
            .layers
            .iter()
            .all(|layer| self.inner.store.has(&layer.id));
        Ok(there.then_some(Held { _hold: hold }))
    }
}

/// An image that nobody collects.
#[derive(Debug)]
pub struct Held {
    _hold: Hold,
}

/// Seconds for which a tag's use is not noted again; much less than what was used lately is kept.
const NOTED: i64 = 60;

/// RFC 3339.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

pub(crate) fn missing(reference: &Reference) -> Error {
    Error::NotFound {
        reference: reference.to_string(),
    }
}

impl Inner {
    /// None when a layer is missing: then the tag is worth nothing.
    pub(crate) fn image(&self, tag: &Tag) -> Result<Option<Image>, Error> {
        if !tag.layers.iter().all(|id| self.store.has(id)) {
            return Ok(None);
        }
        let config = self.index.config(&tag.config)?.into_config();
        // Overlayfs takes no folder twice. Of a layer that comes twice only
        // the upper one counts: it covers all that the lower one does.
        let mut layers: Vec<Layer> = Vec::new();
        for id in tag.layers.iter().rev() {
            if !layers.iter().any(|layer| layer.id == *id) {
                layers.push(Layer {
                    id: id.clone(),
                    directory: self.store.tree(id),
                });
            }
        }
        Ok(Some(Image {
            reference: tag.reference.clone(),
            digest: tag.manifest.to_string(),
            config,
            layers,
        }))
    }

    /// Notes that a tag is of use, so that what is about to build or run of it finds it. Under the
    /// gate: a collector has either removed it by now, or sees this.
    pub(crate) fn note_use(&self, reference: &Reference) -> Result<(), Error> {
        let Some((seconds, _)) = self.index.used(reference) else {
            return Ok(());
        };
        if jiff::Timestamp::now().as_second() - seconds < NOTED {
            return Ok(());
        }
        let _gate = self.holds.gate()?;
        self.index.touch(reference);
        Ok(())
    }

    /// Writes the tag of an image whose layers are all published and held.
    pub(crate) fn enter(
        &self,
        reference: &Reference,
        manifest: &[u8],
        config_bytes: &[u8],
        config: &RawConfig,
        pulled: bool,
    ) -> Result<Image, Error> {
        let tag = Tag {
            reference: reference.clone(),
            manifest: self.index.put_document(manifest)?,
            config: self.index.put_document(config_bytes)?,
            layers: config
                .rootfs
                .diff_ids
                .iter()
                .cloned()
                .map(LayerId::from)
                .collect(),
            architecture: config.architecture.clone(),
            created: config.created.clone(),
            added: now(),
            pulled,
        };
        self.index.put(&tag)?;
        self.image(&tag)?.ok_or_else(|| missing(reference))
    }
}

/// Runs on a blocking thread; if it panicked or was ended, says so.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Ended { doing })?
}

/// The same for what reads or writes much: it gives way to what environments do with the disk.
pub(crate) async fn background<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    blocking(doing, move || {
        let _background = Background::enter();
        work()
    })
    .await
}
