//! Writes an image to where other tools read it.
//!
//! Layers are written as plain tars, played from their recipes and compared
//! with their diff ids on the way; the config is the very bytes the image came
//! with, so its digest (the image id Docker and Podman show) is unchanged. The
//! manifest is written anew, since compressed digests are not kept.
//!
//! Everything is written beside the wanted path and renamed: what is there is
//! whole. Nothing is overwritten.
//!
//! Formats: the OCI image layout specification; `docker save`'s manifest.json.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::Digest as _;

use crate::config::{OCI_MANIFEST, plain_manifest};
use crate::digest::Digest;
use crate::images::{Inner, background, missing};
use crate::{Error, Images, LayerId, LayerProgress, Phase, Progress, Reference};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A folder: `skopeo … oci:PATH`.
    OciLayout,
    /// The same in a tar: `podman load`, `skopeo … oci-archive:PATH`.
    OciArchive,
    /// `docker load`, `skopeo … docker-archive:PATH`.
    DockerArchive,
    /// A tar of its files as a container would see them, and nothing of what it is.
    Files,
}

impl Images {
    /// # Errors
    /// There is no such image, something is at `path` already, it cannot be
    /// written, or a layer was altered since it was unpacked.
    pub async fn export(
        &self,
        reference: &Reference,
        path: &Path,
        format: Format,
        progress: Arc<dyn Progress>,
    ) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        let (reference, path) = (reference.clone(), path.to_owned());
        background("export an image", move || {
            inner.export(&reference, &path, format, &*progress)
        })
        .await
    }
}

/// What was begun and is not finished is removed.
struct Beside {
    path: PathBuf,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = if self.path.is_dir() {
            std::fs::remove_dir_all(&self.path)
        } else {
            std::fs::remove_file(&self.path)
        };
    }
}

struct Content<'a> {
    inner: &'a Inner,
    image: String,
    progress: &'a dyn Progress,
    /// Bottom first, with the bytes of its tar, each once.
    layers: Vec<(LayerId, u64)>,
}

impl Inner {
    fn export(
        &self,
        reference: &Reference,
        path: &Path,
        format: Format,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let tag = self
            .index
            .get(reference)?
            .ok_or_else(|| missing(reference))?;
        // So that pruning does not take it while it is read.
        let _hold = self.holds.hold(
            &tag.layers
                .iter()
                .map(|id| id.digest().clone())
                .collect::<Vec<_>>(),
        )?;
        if path.symlink_metadata().is_ok() {
            return Err(Error::Exists {
                path: path.to_owned(),
            });
        }
        let config = self.index.document(&tag.config)?;
        let mut sizes = Vec::new();
        for id in &tag.layers {
            sizes.push((id.digest().clone(), self.store.facts(id)?.tar_bytes));
        }
        let mut layers: Vec<(LayerId, u64)> = Vec::new();
        for (id, (_, size)) in tag.layers.iter().zip(&sizes) {
            if !layers.iter().any(|(known, _)| known == id) {
                layers.push((id.clone(), *size));
            }
        }
        let content = Content {
            inner: self,
            image: reference.to_string(),
            progress,
            layers,
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = Beside {
            path: path.with_file_name(format!(".{name}.{}", std::process::id())),
        };
        let manifest = plain_manifest(&config, &sizes).map_err(io::Error::from);
        let manifest = manifest.map_err(Error::io("write", path))?;
        match format {
            Format::OciLayout => {
                let blobs = beside.path.join("blobs/sha256");
                std::fs::create_dir_all(&blobs).map_err(Error::io("make", &blobs))?;
                let put = |name: &str, bytes: &[u8]| {
                    let path = beside.path.join(name);
                    std::fs::write(&path, bytes).map_err(Error::io("write", &path))
                };
                for (name, bytes) in small_parts(reference, &manifest, &config) {
                    put(&name, &bytes)?;
                }
                for (id, size) in &content.layers {
                    let path = beside.path.join(blob(id.digest()));
                    let file = File::create_new(&path).map_err(Error::io("write", &path))?;
                    let mut output = BufWriter::with_capacity(256 << 10, file);
                    content.layer(id, *size, &mut output, &path)?;
                    output.flush().map_err(Error::io("write", &path))?;
                }
            }
            Format::OciArchive => {
                let mut tar = Tar::create(&beside.path)?;
                for (name, bytes) in small_parts(reference, &manifest, &config) {
                    tar.add(&name, &bytes)?;
                }
                for (id, size) in &content.layers {
                    tar.stream(&blob(id.digest()), *size, |output, path| {
                        content.layer(id, *size, output, path)
                    })?;
                }
                tar.finish()?;
            }
            Format::DockerArchive => {
                let config_name = format!("{}.json", tag.config.hex());
                let layer_name = |id: &LayerId| format!("{}.tar", id.digest().hex());
                let tags: Vec<String> = reference
                    .tag()
                    .map(|_| without_digest(reference))
                    .into_iter()
                    .collect();
                let description = serde_json::json!([{
                    "Config": config_name,
                    "RepoTags": tags,
                    "Layers": tag.layers.iter().map(layer_name).collect::<Vec<_>>(),
                }]);
                let mut tar = Tar::create(&beside.path)?;
                // First, so that readers of a stream know what comes.
                tar.add("manifest.json", description.to_string().as_bytes())?;
                tar.add(&config_name, &config)?;
                for (id, size) in &content.layers {
                    tar.stream(&layer_name(id), *size, |output, path| {
                        content.layer(id, *size, output, path)
                    })?;
                }
                tar.finish()?;
            }
            Format::Files => self.write_files(&content, &beside.path)?,
        }
        // Not `rename` alone: it would replace what appeared meanwhile.
        let no_replace = rustix::fs::RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            &beside.path,
            rustix::fs::CWD,
            path,
            no_replace,
        )
        .map_err(|errno| match errno {
            rustix::io::Errno::EXIST => Error::Exists {
                path: path.to_owned(),
            },
            _ => Error::Io {
                doing: "write",
                path: path.to_owned(),
                source: errno.into(),
            },
        })
    }
}

impl Inner {
    /// Writes a tar of the merged layers' files: they are copied beside each other first, since a
    /// file of an upper layer hides those below.
    fn write_files(&self, content: &Content<'_>, path: &Path) -> Result<(), Error> {
        let write = |source| Error::Io {
            doing: "write",
            path: path.to_owned(),
            source,
        };
        let staging = self.store.stage()?;
        let tree = staging.path().join("tree");
        std::fs::create_dir(&tree).map_err(Error::io("make", &tree))?;
        let layers = content.layers.iter().rev();
        let layers: Vec<PathBuf> = layers.map(|(id, _)| self.store.tree(id)).collect();
        let mut output =
            BufWriter::with_capacity(256 << 10, File::create_new(path).map_err(write)?);
        let played = || -> io::Result<()> {
            let whole = crate::build::copy_out(layers, Path::new("/"), &tree)?;
            let taken = match whole {
                true => crate::build::snapshot::take(staging.path(), &self.options.limits)?,
                false => None,
            };
            match taken {
                Some(_) => crate::recipe::play(
                    &staging.path().join("recipe.zst"),
                    &tree,
                    &staging.path().join("shadow"),
                    &mut output,
                ),
                // Two empty blocks end a tar.
                None => output.write_all(&[0; 1024]),
            }
        };
        played().map_err(write)?;
        output.flush().map_err(write)
    }
}

impl Content<'_> {
    fn layer(
        &self,
        id: &LayerId,
        size: u64,
        output: &mut dyn Write,
        path: &Path,
    ) -> Result<(), Error> {
        let altered = |problem: String| Error::Altered {
            image: self.image.clone(),
            layer: id.to_string(),
            problem,
        };
        let mut digesting = Digesting {
            output,
            hasher: sha2::Sha256::new(),
            done: 0,
            failed: None,
            report: |done, phase| {
                self.progress.layer(
                    id.short(),
                    LayerProgress {
                        phase,
                        bytes_done: done,
                        bytes_total: size,
                    },
                );
            },
        };
        let played = self.inner.store.write_tar(id, &mut digesting);
        if let Some(source) = digesting.failed {
            return Err(Error::Io {
                doing: "write",
                path: path.to_owned(),
                source,
            });
        }
        played.map_err(|error| altered(error.to_string()))?;
        let actual = Digest::from_hasher(digesting.hasher);
        if actual != *id.digest() {
            return Err(altered(format!("its tar has the digest {actual}")));
        }
        (digesting.report)(size, Phase::Done);
        Ok(())
    }
}

/// Tells a failing output from a failing source, which both are I/O errors.
struct Digesting<'a, F> {
    output: &'a mut dyn Write,
    hasher: sha2::Sha256,
    done: u64,
    failed: Option<io::Error>,
    report: F,
}

impl<F: Fn(u64, Phase)> Write for Digesting<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.output.write_all(bytes) {
            self.failed = Some(error);
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.hasher.update(bytes);
        let before = self.done >> 20;
        self.done += bytes.len() as u64;
        if self.done >> 20 != before {
            (self.report)(self.done, Phase::Unpacking);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn small_parts(reference: &Reference, manifest: &[u8], config: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut annotations = serde_json::Map::new();
    if let Some(tag) = reference.tag() {
        // As buildx writes them: the second is what `podman load` names it.
        annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag.into());
        let full = crate::Reference::parse(&without_digest(reference))
            .map(|reference| reference.canonical());
        if let Ok(full) = full {
            annotations.insert("io.containerd.image.name".to_owned(), full.into());
        }
    }
    let digest = Digest::of(manifest);
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": crate::config::OCI_INDEX,
        "manifests": [{
            "mediaType": OCI_MANIFEST,
            "digest": digest,
            "size": manifest.len(),
            "annotations": annotations,
        }],
    });
    vec![
        (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        (blob(&digest), manifest.to_vec()),
        (blob(&Digest::of(config)), config.to_vec()),
    ]
}

fn without_digest(reference: &Reference) -> String {
    let text = reference.to_string();
    text.split_once('@')
        .map_or(text.clone(), |(name, _)| name.to_owned())
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A tar whose members are streamed, their size being known before.
struct Tar {
    output: BufWriter<File>,
    path: PathBuf,
}

impl Tar {
    fn create(path: &Path) -> Result<Tar, Error> {
        let file = File::create_new(path).map_err(Error::io("write", path))?;
        Ok(Tar {
            output: BufWriter::with_capacity(256 << 10, file),
            path: path.to_owned(),
        })
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.stream(name, bytes.len() as u64, |output, path| {
            output.write_all(bytes).map_err(Error::io("write", path))
        })
    }

    fn stream(
        &mut self,
        name: &str,
        size: u64,
        content: impl FnOnce(&mut dyn Write, &Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut header = tar::Header::new_gnu();
        let written = (|| {
            header.set_path(name)?;
            header.set_size(size);
            header.set_mode(0o644);
            header.set_cksum();
            self.output.write_all(header.as_bytes())
        })();
        written.map_err(Error::io("write", &self.path))?;
        content(&mut self.output, &self.path)?;
        let padding = usize::try_from((512 - size % 512) % 512).unwrap_or(0);
        self.output
            .write_all(&[0; 512][..padding])
            .map_err(Error::io("write", &self.path))
    }

    fn finish(mut self) -> Result<(), Error> {
        let ended = self
            .output
            .write_all(&[0; 1024])
            .and_then(|()| self.output.flush());
        ended.map_err(Error::io("write", &self.path))
    }
}
