//! A registry as a cache of steps: an image whose layers are those of a build's steps, and whose
//! configuration says which key made which.
//!
//! What is written is an ordinary image, so docker and podman can pull it; the keys are one more
//! member of its configuration, which they ignore. What is read is fetched layer by layer, when a
//! step's key is found there and not here; every layer is checked against its diff id. Whoever may
//! write to that name decides what steps leave, as with every cache of builds.
//!
//! A cache that cannot be read is told and left out: the build goes on without it.

use super::cache::Made as Entry;
use crate::config::{Document, OCI_LAYER_GZIP, OCI_MANIFEST, RawConfig, manifest};
use crate::digest::Digest;
use crate::error::Doing;
use crate::images::{Inner, background, blocking};
use crate::layers::LayerId;
use crate::registry::Session;
use crate::{Error, Progress, Reference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::BufReader;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWriteExt as _;

/// Member of the configuration.
const MEMBER: &str = "boatyard.build.cache.v1";

/// Where a build's steps are looked for and kept beside this store.
#[derive(Clone, Debug, Default)]
pub struct Caching {
    /// Read, in this order.
    pub from: Vec<Reference>,
    /// Written when the build is done.
    pub to: Option<Reference>,
    /// What is written: steps of this build, and of those before it that had a clone of this.
    pub steps: Steps,
}

/// Steps of builds that are written to one cache. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Steps(Arc<Mutex<Vec<(Digest, Entry)>>>);

impl Steps {
    /// Adds a build's; all there are by now.
    pub(super) fn add(&self, made: &[(Digest, Entry)]) -> Vec<(Digest, Entry)> {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.extend_from_slice(made);
        steps.clone()
    }
}

/// The configuration's member.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Keys {
    steps: BTreeMap<Digest, Entry>,
}

/// One cache that can be read.
pub(super) struct Remote {
    session: Session,
    name: String,
    keys: Keys,
    /// Blob and its bytes, by diff id.
    blobs: BTreeMap<LayerId, (Digest, u64)>,
}

fn invalid(name: &Reference, problem: String) -> Error {
    Error::Invalid {
        image: name.to_string(),
        problem,
    }
}

impl Remote {
    pub(super) async fn open(inner: &Inner, name: &Reference) -> Result<Remote, Error> {
        let session = Session::new(name, Arc::clone(&inner.options));
        let bytes = session.manifest(name.tag().unwrap_or("latest")).await?;
        let wrong =
            |error: serde_json::Error| invalid(name, format!("it cannot be read ({error})"));
        let document: Document = serde_json::from_slice(&bytes).map_err(wrong)?;
        let (Some(config), Some(layers)) = (document.config, document.layers) else {
            return Err(invalid(name, "it is no single image".to_owned()));
        };
        let bytes = session.config(&config.digest).await?;
        let raw: RawConfig = serde_json::from_slice(&bytes).map_err(wrong)?;
        let mut members: serde_json::Value = serde_json::from_slice(&bytes).map_err(wrong)?;
        let keys = serde_json::from_value(members[MEMBER].take()).map_err(wrong)?;
        let blobs = layers.into_iter().map(|layer| (layer.digest, layer.size));
        Ok(Remote {
            session,
            name: name.to_string(),
            keys,
            blobs: raw
                .rootfs
                .diff_ids
                .into_iter()
                .map(LayerId::from)
                .zip(blobs)
                .collect(),
        })
    }

    pub(super) fn get(&self, key: &Digest) -> Option<Entry> {
        self.keys.steps.get(key).cloned()
    }

    /// Fetches a layer into the store; it is held already.
    pub(super) async fn fetch(&self, inner: &Arc<Inner>, layer: &LayerId) -> Result<(), Error> {
        let (digest, bytes) = self.blobs.get(layer).ok_or_else(|| Error::Invalid {
            image: self.name.clone(),
            problem: format!("it names the layer {layer}, which it does not have"),
        })?;
        if *bytes > inner.options.limits.layer_bytes {
            return Err(Error::Invalid {
                image: self.name.clone(),
                problem: format!("the layer {layer} is larger than a layer may be"),
            });
        }
        let store = Arc::clone(inner);
        let staging = blocking("stage a layer", move || store.store.stage()).await?;
        let path = staging.path().join("blob");
        let mut blob = self.session.blob(digest, 0).await?;
        let failed = |error| Error::io("write", &path)(error);
        let mut file = tokio::fs::File::create_new(&path).await.map_err(failed)?;
        let mut left = *bytes;
        while let Some(piece) = blob
            .next()
            .await
            .map_err(|problem| self.session.broken_off(problem))?
        {
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                self.session
                    .broken_off("sent more of a layer than there is".to_owned())
            })?;
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        drop(file);
        let (inner, name, wanted) = (Arc::clone(inner), self.name.clone(), layer.clone());
        background("unpack a layer", move || {
            let file = std::fs::File::open(&path).map_err(Error::io("open", &path))?;
            let reader = BufReader::with_capacity(256 << 10, file);
            let limits = &inner.options.limits;
            let text = wanted.to_string();
            let unpacked = inner.store.unpack(&name, &text, reader, limits, || {})?;
            if unpacked.id != wanted {
                return Err(Error::Digest {
                    what: format!("a layer of {name}"),
                    expected: wanted.to_string(),
                    actual: unpacked.id.to_string(),
                });
            }
            inner.store.publish(unpacked)?;
            drop(staging);
            Ok(())
        })
        .await
    }
}

/// Writes the steps of a build as a cache; their layers are held.
pub(super) async fn write(
    inner: &Arc<Inner>,
    name: &Reference,
    steps: Vec<(Digest, Entry)>,
    progress: &Arc<dyn Progress>,
) -> Result<(), Error> {
    let session = Session::of(
        Doing::Push,
        name.to_string(),
        name.registry(),
        name.repository(),
        Arc::clone(&inner.options),
    );
    let mut layers: Vec<LayerId> = Vec::new();
    for layer in steps.iter().filter_map(|(_, entry)| entry.layer.as_ref()) {
        if !layers.contains(layer) {
            layers.push(layer.clone());
        }
    }
    let mut sent = Vec::new();
    for layer in &layers {
        sent.push(inner.push_layer(&session, name, layer, progress).await?);
    }
    let keys = Keys {
        steps: steps.into_iter().collect(),
    };
    let digests: Vec<&Digest> = layers.iter().map(LayerId::digest).collect();
    let config = serde_json::json!({
        "architecture": inner.options.architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": digests},
        MEMBER: keys,
    });
    let config = config.to_string().into_bytes();
    let manifest = manifest(&config, &sent, OCI_LAYER_GZIP)
        .map_err(|error| invalid(name, error.to_string()))?;
    session.push_blob(config.into()).await?;
    session
        .push_manifest(
            name.tag().unwrap_or("latest"),
            OCI_MANIFEST,
            manifest.into(),
        )
        .await
}
