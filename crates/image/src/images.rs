//! The handle: what the rest of Boatyard may ask of images.
//!
//! Cheap to clone. Several handles, also of several processes, may share a
//! directory: layers, tags and pruning are locked against each other in the
//! file system. Everything that touches many files runs on blocking threads;
//! dropping a future stops its work at the next piece and leaves staging that
//! removes itself.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::build::cache::Cache;
use crate::config::RawConfig;
use crate::digest::Digest;
use crate::holds::Holds;
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    pub layers: usize,
    pub bytes: u64,
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

    /// Removes the layers that no tag, no unfinished pull or build, no step built lately and none
    /// of `in_use` names, and blobs that nobody is fetching. Blocking.
    ///
    /// # Errors
    /// Something cannot be removed; the rest was.
    pub fn prune(&self, in_use: &[LayerId]) -> Result<Pruned, Error> {
        self.prune_to(in_use, BUILD_CACHE)
    }

    /// The same with at most so many bytes of layers that only the cache of builds keeps: those used
    /// last.
    ///
    /// # Errors
    /// As [`Images::prune`].
    pub fn prune_to(&self, in_use: &[LayerId], cache: u64) -> Result<Pruned, Error> {
        let inner = &self.inner;
        let mut pruned = Pruned::default();
        let mut graves = Vec::new();
        {
            let _gate = inner.holds.gate()?;
            let mut used: HashSet<Digest> = inner.holds.held()?;
            used.extend(in_use.iter().map(|id| id.digest().clone()));
            let mut tags = inner.index.list()?;
            let old = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(UNUSED_HOURS);
            let (gone, stay) = tags.into_iter().partition(|tag| is_left(tag, &used, old));
            tags = stay;
            for tag in &gone {
                inner.index.remove(&tag.reference)?;
            }
            for tag in &tags {
                used.extend(tag.layers.iter().map(|id| id.digest().clone()));
                used.insert(tag.manifest.clone());
                used.insert(tag.config.clone());
            }
            let bytes = |id: &LayerId| match used.contains(id.digest()) {
                true => Some(0),
                false if !inner.store.has(id) => None,
                false => Some(inner.store.facts(id).map_or(0, |facts| facts.bytes)),
            };
            let cached = inner.cache.prune(bytes, cache)?;
            used.extend(cached);
            for id in inner.store.list()? {
                if used.contains(id.digest()) {
                    continue;
                }
                pruned.bytes += inner.store.facts(&id).map(|facts| facts.bytes).unwrap_or(0);
                pruned.layers += 1;
                graves.push(inner.store.bury(&id)?);
            }
            inner.index.prune_documents(&used)?;
            inner.store.prune_locks()?;
            pruned.bytes += crate::pull::prune_partial(inner)?;
        }
        // The slow part, without keeping pulls waiting.
        drop(graves);
        Ok(pruned)
    }
}

/// Bytes of layers that only the cache of builds keeps, unless somebody says otherwise.
pub const BUILD_CACHE: u64 = 20 << 30;
/// After how many hours a name that this program made up is of no use.
const UNUSED_HOURS: i64 = 7 * 24;

/// Whether a tag is one that was made up for an environment's image, long ago, and no environment is
/// of it: a name of a user's own has a folder more.
fn is_left(tag: &Tag, used: &HashSet<Digest>, old: jiff::Timestamp) -> bool {
    let name = tag.reference.to_string();
    let made_up = name
        .strip_prefix("boatyard.local/")
        .is_some_and(|rest| !rest.contains('/'));
    let added: Result<jiff::Timestamp, _> = tag.added.parse();
    made_up
        && added.is_ok_and(|added| added < old)
        && !tag.layers.iter().all(|id| used.contains(id.digest()))
}

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

    /// Writes the tag of an image whose layers are all published and held.
    pub(crate) fn enter(
        &self,
        reference: &Reference,
        manifest: &[u8],
        config_bytes: &[u8],
        config: &RawConfig,
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
