//! Publishes an image: its layers compressed, its configuration as it is.
//!
//! The compressed form of a layer is not kept, only its digest and size: the same compressor makes
//! the same bytes, and a registry that has them is sent nothing. Registries, docker and podman all
//! read gzip, so that is what is written.
//!
//! Crash behaviour: a push that was cut off leaves blobs in the registry that its own collector
//! takes, and staging here that removes itself.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::config::{OCI_LAYER_GZIP, OCI_MANIFEST, manifest};
use crate::digest::Digest;
use crate::error::Doing;
use crate::images::{Inner, background, blocking, missing};
use crate::layers::{self, LayerId, Staging};
use crate::registry::Session;
use crate::{Error, Images, LayerProgress, Phase, Progress, Reference};

/// What a layer is compressed.
#[derive(Clone, Serialize, Deserialize)]
struct Compressed {
    digest: Digest,
    bytes: u64,
}

impl Images {
    /// Sends a local image to the registry its name is of; answers the manifest's digest.
    ///
    /// # Errors
    /// There is no such image, the registry does not take it, or a layer was altered.
    pub async fn push(
        &self,
        reference: &Reference,
        progress: Arc<dyn Progress>,
    ) -> Result<String, Error> {
        let inner = Arc::clone(&self.inner);
        let tag = inner
            .index
            .get(reference)?
            .ok_or_else(|| missing(reference))?;
        let held: Vec<Digest> = tag.layers.iter().map(|id| id.digest().clone()).collect();
        let _hold = inner.holds.hold(&held)?;
        let config = inner.index.document(&tag.config)?;
        let session = Session::of(
            Doing::Push,
            reference.to_string(),
            reference.registry(),
            reference.repository(),
            Arc::clone(&inner.options),
        );
        let mut sent: Vec<(Digest, u64)> = Vec::new();
        for id in &tag.layers {
            sent.push(inner.push_layer(&session, reference, id, &progress).await?);
        }
        session.push_blob(config.clone().into()).await?;
        let manifest =
            manifest(&config, &sent, OCI_LAYER_GZIP).map_err(|error| Error::Invalid {
                image: reference.to_string(),
                problem: error.to_string(),
            })?;
        let digest = Digest::of(&manifest);
        let name = reference.tag().unwrap_or("latest");
        session
            .push_manifest(name, OCI_MANIFEST, manifest.into())
            .await?;
        Ok(digest.to_string())
    }
}

impl Inner {
    /// Sends a layer compressed; answers digest and bytes of the blob.
    pub(crate) async fn push_layer(
        self: &Arc<Self>,
        session: &Session,
        reference: &Reference,
        id: &LayerId,
        progress: &Arc<dyn Progress>,
    ) -> Result<(Digest, u64), Error> {
        let folder = self.directory.join("pushed");
        let known_at = folder.join(format!("{}.json", id.digest().hex()));
        let known: Option<Compressed> = std::fs::read(&known_at)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(known) = known
            && session.has_blob(&known.digest).await?
        {
            report(progress, id, Phase::Cached, known.bytes);
            return Ok((known.digest, known.bytes));
        }
        report(progress, id, Phase::Waiting, 0);
        let (inner, name, layer) = (Arc::clone(self), reference.to_string(), id.clone());
        let (staging, compressed) = background("compress a layer", move || {
            layers::create_private(&folder)?;
            let (staging, compressed) = inner.compress(&name, &layer)?;
            let bytes = serde_json::to_vec(&compressed).unwrap_or_default();
            crate::index::write_durably(&known_at, &bytes)?;
            Ok((staging, compressed))
        })
        .await?;
        let path = staging.path().join("layer.tar.gz");
        session
            .push_file(&path, &compressed.digest, compressed.bytes)
            .await?;
        report(progress, id, Phase::Done, compressed.bytes);
        blocking("remove a compressed layer", move || {
            drop(staging);
            Ok(())
        })
        .await?;
        Ok((compressed.digest, compressed.bytes))
    }

    fn compress(&self, image: &str, id: &LayerId) -> Result<(Staging, Compressed), Error> {
        let staging = self.store.stage()?;
        let path = staging.path().join("layer.tar.gz");
        let altered = |problem: String| Error::Altered {
            image: image.to_owned(),
            layer: id.to_string(),
            problem,
        };
        let file = File::create_new(&path).map_err(Error::io("write", &path))?;
        let outer = Digesting::new(BufWriter::with_capacity(256 << 10, file));
        let mut inner = Digesting::new(GzEncoder::new(outer, Compression::new(6)));
        self.store
            .write_tar(id, &mut inner)
            .map_err(|error| altered(error.to_string()))?;
        let (encoder, actual, _) = inner.end();
        if actual != *id.digest() {
            return Err(altered(format!("its tar has the digest {actual}")));
        }
        let written = |encoder: GzEncoder<Digesting<BufWriter<File>>>| -> io::Result<_> {
            let (mut file, digest, bytes) = encoder.finish()?.end();
            file.flush()?;
            Ok(Compressed { digest, bytes })
        };
        let compressed = written(encoder).map_err(Error::io("write", Path::new(&path)))?;
        Ok((staging, compressed))
    }
}

fn report(progress: &Arc<dyn Progress>, id: &LayerId, phase: Phase, bytes: u64) {
    progress.layer(
        id.short(),
        LayerProgress {
            phase,
            bytes_done: bytes,
            bytes_total: bytes,
        },
    );
}

/// Digests what passes on.
struct Digesting<W> {
    inner: W,
    hasher: sha2::Sha256,
    bytes: u64,
}

impl<W: Write> Digesting<W> {
    fn new(inner: W) -> Self {
        Digesting {
            inner,
            hasher: sha2::Sha256::new(),
            bytes: 0,
        }
    }

    fn end(self) -> (W, Digest, u64) {
        (self.inner, Digest::from_hasher(self.hasher), self.bytes)
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
