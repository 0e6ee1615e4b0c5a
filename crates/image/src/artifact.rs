//! Features and templates in registries: artifacts of one layer, and what is
//! kept of them on this machine.
//!
//! Everything fetched is kept under its digest and compared with it whenever
//! it is read again, so that a digest that was fetched once, from a lockfile
//! or a name, needs no network a second time, and whoever can write to the
//! cache can break but not replace anything. What a tag meant last is kept
//! too, but only told when a registry does not answer: a tag that is not
//! pinned is always asked for.
//!
//! Crash behaviour: files get their names whole; a half-written one is nobody's
//! and is overwritten. A file's time is when it was last of use, for the
//! collector.
//!
//! Protocol: containers.dev, "Features distribution"; read next: `folder`,
//! then `features` and `templates`, which use this.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boatyard_devcontainer::features::OciReference;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::OCI_MANIFEST;
use crate::digest::Digest;
use crate::error::Doing;
use crate::images::{background, blocking};
use crate::registry::{self, Session};
use crate::{Error, Images, Options};

pub(crate) mod folder;

pub use folder::{Content, Folder};

const CONFIG_TYPE: &str = "application/vnd.devcontainers";
const LAYER_TYPE: &str = "application/vnd.devcontainers.layer.v1+tar";
const COLLECTION_TYPE: &str = "application/vnd.devcontainers.collection.layer.v1+json";
/// Of the manifest: the metadata file, as text.
pub const METADATA: &str = "dev.containers.metadata";
/// Most bytes of a layer or a tarball as it travels.
const BLOB_LIMIT: usize = 128 << 20;

/// Registries' artifacts, and the cache of them. A cheap handle.
#[derive(Debug, Clone)]
pub struct Artifacts {
    options: Arc<Options>,
    cache: Arc<PathBuf>,
}

/// A manifest that was fetched, and is what its digest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// `sha256:…` of the manifest.
    pub digest: String,
    /// The manifest as it came.
    pub manifest: Vec<u8>,
    /// Its annotations; [`METADATA`] among them.
    pub annotations: BTreeMap<String, String>,
    layer: Digest,
}

/// What is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A Feature or template, as an archive, with the name it is kept under.
    Archive { title: String, bytes: Vec<u8> },
    /// The index of a collection.
    Collection { bytes: Vec<u8> },
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Piece,
    layers: Vec<Piece>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Piece {
    media_type: String,
    digest: Digest,
    #[serde(default)]
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Images {
    /// The artifacts that belong to this store.
    ///
    /// # Errors
    /// The cache's directory cannot be made.
    pub fn artifacts(&self) -> Result<Artifacts, Error> {
        let cache = self.inner.directory.join("artifacts");
        Artifacts::shared(Arc::clone(&self.inner.options), &cache)
    }
}

impl Artifacts {
    /// `cache` is made if it is missing. Blocking.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(options: Options, cache: &Path) -> Result<Artifacts, Error> {
        Artifacts::shared(Arc::new(options), cache)
    }

    fn shared(options: Arc<Options>, cache: &Path) -> Result<Artifacts, Error> {
        use std::os::unix::fs::DirBuilderExt as _;
        for name in ["blobs", "tags", "folders"] {
            let directory = cache.join(name);
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .map_err(Error::io("make", &directory))?;
        }
        Ok(Artifacts {
            options,
            cache: Arc::new(cache.to_owned()),
        })
    }

    fn session(&self, doing: Doing, reference: &OciReference) -> Session {
        let (subject, path) = (reference.to_string(), reference.path());
        let options = Arc::clone(&self.options);
        Session::of(doing, subject, &reference.registry, &path, options)
    }

    /// An artifact by its name, or by the digest it is pinned to.
    ///
    /// # Errors
    /// The registry does not answer, or not with an artifact of this digest.
    pub async fn manifest(
        &self,
        reference: &OciReference,
        pinned: Option<&str>,
    ) -> Result<Artifact, Error> {
        let subject = reference.to_string();
        let wanted = match pinned.or(reference.digest.as_deref()) {
            Some(text) => Some(Digest::parse(text).ok_or_else(|| Error::Artifact {
                subject: subject.clone(),
                problem: format!("it is pinned to {text:?}, which is no digest"),
            })?),
            None => None,
        };
        if let Some(digest) = &wanted
            && let Some(bytes) = self.cached(digest).await
        {
            return parse(&subject, bytes);
        }
        let name = match &wanted {
            Some(digest) => digest.to_string(),
            None => reference.version().to_owned(),
        };
        let bytes = self.session(Doing::Pull, reference).manifest(&name).await?;
        let artifact = parse(&subject, bytes.to_vec())?;
        self.keep(&bytes).await;
        if wanted.is_none() {
            let (path, digest) = (self.tag_file(reference), artifact.digest.clone());
            let _ = blocking("keep a tag", move || {
                Ok(write_whole(&path, digest.as_bytes()))
            })
            .await;
        }
        Ok(artifact)
    }

    /// The digest a tag meant when it was last asked for, if the artifact is
    /// here.
    pub async fn remembered(&self, reference: &OciReference) -> Option<String> {
        let path = self.tag_file(reference);
        let text = tokio::fs::read_to_string(&path).await.ok()?;
        crate::index::touch(&path);
        let artifact = parse(
            &reference.to_string(),
            self.cached(&Digest::parse(&text)?).await?,
        );
        let artifact = artifact.ok()?;
        self.cached(&artifact.layer).await?;
        Some(text)
    }

    /// The files of an artifact.
    ///
    /// # Errors
    /// They cannot be fetched, or are no archive of plain files.
    pub async fn folder(
        &self,
        reference: &OciReference,
        artifact: &Artifact,
    ) -> Result<Folder, Error> {
        let bytes = match self.cached(&artifact.layer).await {
            Some(bytes) => bytes,
            None => {
                let session = self.session(Doing::Pull, reference);
                let mut blob = session.blob(&artifact.layer, 0).await?;
                let mut bytes = Vec::new();
                while let Some(piece) = blob
                    .next()
                    .await
                    .map_err(|problem| session.broken_off(problem))?
                {
                    if bytes.len() + piece.len() > BLOB_LIMIT {
                        return Err(Error::Artifact {
                            subject: reference.to_string(),
                            problem: format!("its layer has more than {BLOB_LIMIT} bytes"),
                        });
                    }
                    bytes.extend_from_slice(&piece);
                }
                let what = format!("the layer of {reference} from {}", reference.registry);
                check(&what, &artifact.layer, &bytes)?;
                self.keep(&bytes).await;
                bytes
            }
        };
        unpack(reference.to_string(), bytes).await
    }

    /// The files behind a URL, and the digest of the bytes they came in.
    ///
    /// # Errors
    /// They cannot be fetched, are other bytes than those they are pinned to,
    /// or are no archive of plain files.
    pub async fn tarball(
        &self,
        url: &str,
        pinned: Option<&str>,
    ) -> Result<(String, Folder), Error> {
        let wanted = pinned.and_then(Digest::parse);
        let cached = match &wanted {
            Some(digest) => self.cached(digest).await,
            None => None,
        };
        let bytes = match cached {
            Some(bytes) => bytes,
            None => {
                let bytes = registry::document(url, BLOB_LIMIT, &self.options).await?;
                if let Some(wanted) = &wanted {
                    check(url, wanted, &bytes)?;
                }
                self.keep(&bytes).await;
                bytes.to_vec()
            }
        };
        let digest = Digest::of(&bytes).to_string();
        Ok((digest, unpack(url.to_owned(), bytes).await?))
    }

    /// A directory with exactly these files, for who mounts or copies them; it
    /// stays, under the digest of what is in it.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn directory(&self, folder: Arc<Folder>) -> Result<PathBuf, Error> {
        let folders = self.cache.join("folders");
        blocking("write a Feature's folder", move || {
            let digest = folder.digest();
            let path = folders.join(digest.trim_start_matches("sha256:"));
            if path.is_dir() {
                crate::index::touch(&path);
                return Ok(path);
            }
            let half = path.with_extension(format!("{}-half", std::process::id()));
            let write = || -> io::Result<()> {
                let _ = std::fs::remove_dir_all(&half);
                std::fs::create_dir(&half)?;
                folder.write(&half)?;
                match std::fs::rename(&half, &path) {
                    // Somebody else was first.
                    Err(_) if path.is_dir() => std::fs::remove_dir_all(&half),
                    outcome => outcome,
                }
            };
            write().map_err(Error::io("write", &path))?;
            Ok(path)
        })
        .await
    }

    /// All tags of an artifact; None when the registry has nothing of that
    /// name.
    ///
    /// # Errors
    /// The registry does not answer.
    pub async fn tags(&self, reference: &OciReference) -> Result<Option<Vec<String>>, Error> {
        self.session(Doing::ListVersions, reference).tags().await
    }

    /// Publishes under all of these tags; answers with the manifest's digest.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn push(
        &self,
        registry: &str,
        path: &str,
        payload: Payload,
        annotations: BTreeMap<String, String>,
        tags: &[String],
    ) -> Result<String, Error> {
        let subject = format!("{registry}/{path}");
        let options = Arc::clone(&self.options);
        let session = Session::of(Doing::Push, subject, registry, path, options);
        let (media_type, title, bytes) = match payload {
            Payload::Archive { title, bytes } => (LAYER_TYPE, title, bytes),
            Payload::Collection { bytes } => {
                let title = "devcontainer-collection.json".to_owned();
                (COLLECTION_TYPE, title, bytes)
            }
        };
        let size = bytes.len() as u64;
        let config = session.push_blob(Bytes::from_static(b"{}")).await?;
        let layer = session.push_blob(bytes.into()).await?;
        let piece = |media_type: &str, digest, size, annotations| Piece {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations,
        };
        let title = BTreeMap::from([("org.opencontainers.image.title".to_owned(), title)]);
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config: piece(CONFIG_TYPE, config, 2, BTreeMap::new()),
            layers: vec![piece(media_type, layer, size, title)],
            annotations,
        };
        let manifest: Bytes = serde_json::to_vec(&manifest).unwrap_or_default().into();
        for tag in tags {
            session
                .push_manifest(tag, OCI_MANIFEST, manifest.clone())
                .await?;
        }
        Ok(Digest::of(&manifest).to_string())
    }

    /// What a digest names, if it is here and is that.
    async fn cached(&self, digest: &Digest) -> Option<Vec<u8>> {
        let (path, digest) = (self.blob_file(digest), digest.clone());
        let read = blocking("read the cache", move || {
            let bytes = std::fs::read(&path).ok();
            crate::index::touch(&path);
            Ok(bytes.filter(|bytes| Digest::of(bytes) == digest))
        });
        read.await.ok().flatten()
    }

    /// That it cannot be kept costs another fetch and nothing else.
    async fn keep(&self, bytes: &[u8]) {
        let (path, bytes) = (self.blob_file(&Digest::of(bytes)), bytes.to_vec());
        let kept = blocking("write the cache", move || Ok(write_whole(&path, &bytes))).await;
        if let Ok(Err(error)) = kept {
            tracing::info!(%error, "an artifact could not be cached");
        }
    }

    fn blob_file(&self, digest: &Digest) -> PathBuf {
        self.cache.join("blobs").join(digest.hex())
    }

    fn tag_file(&self, reference: &OciReference) -> PathBuf {
        let name = Digest::of(reference.to_string().as_bytes());
        self.cache.join("tags").join(name.hex())
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A name of its own: two writers of one digest write the same.
    let half = path.with_extension(format!("{}-half", std::process::id()));
    std::fs::write(&half, bytes)?;
    std::fs::rename(&half, path)
}

fn check(what: &str, wanted: &Digest, bytes: &[u8]) -> Result<(), Error> {
    let actual = Digest::of(bytes);
    if actual == *wanted {
        return Ok(());
    }
    Err(Error::Digest {
        what: what.to_owned(),
        expected: wanted.to_string(),
        actual: actual.to_string(),
    })
}

async fn unpack(subject: String, bytes: Vec<u8>) -> Result<Folder, Error> {
    background("unpack an artifact", move || {
        Folder::from_tar(&bytes).map_err(|problem| Error::Artifact { subject, problem })
    })
    .await
}

fn parse(subject: &str, manifest: Vec<u8>) -> Result<Artifact, Error> {
    let refused = |problem: String| Error::Artifact {
        subject: subject.to_owned(),
        problem,
    };
    let parsed: Manifest = serde_json::from_slice(&manifest).map_err(|error| {
        refused(format!(
            "it is no Feature and no template: its manifest cannot be understood ({error})"
        ))
    })?;
    if parsed.config.media_type != CONFIG_TYPE {
        return Err(refused(format!(
            "it is no Feature and no template, but an artifact of type {:?}; check the name",
            parsed.config.media_type
        )));
    }
    let layer = parsed.layers.into_iter().next();
    let layer = layer.ok_or_else(|| refused("its manifest has no layer".to_owned()))?;
    Ok(Artifact {
        digest: Digest::of(&manifest).to_string(),
        annotations: parsed.annotations,
        layer: layer.digest,
        manifest,
    })
}
