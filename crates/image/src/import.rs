//! Takes in what other tools wrote: OCI layouts, as folder or tar, and
//! archives of `docker save`, compressed or not; which it is, is seen.
//!
//! The same checks as for a pull: digests, architecture, hostile layers. The
//! path is opened with this process's rights; who acts for somebody else opens
//! it with theirs and passes `/proc/self/fd/N`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, ResolveFlags};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::archive::{Archive, Kind};
use crate::config::{Descriptor, Document, RawConfig, plain_manifest};
use crate::digest::{Digest, Digesting};
use crate::images::{Inner, background, blocking};
use crate::layers::Staging;
use crate::pull::{check_config, choose};
use crate::{
    Error, Image, Images, LayerId, LayerProgress, Phase, Progress, Reference, compression,
};

const DOCUMENT_LIMIT: u64 = 8 << 20;
const MEMBERS_LIMIT: usize = 100_000;

impl Images {
    /// Without `tag` the image gets the name it carries.
    ///
    /// # Errors
    /// What is at `path` is none of the known formats, lies about a digest, or
    /// holds an image that a pull would refuse.
    pub async fn import(
        &self,
        path: &Path,
        tag: Option<&Reference>,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, Error> {
        let inner = Arc::clone(&self.inner);
        let (opened, wanted) = (path.to_owned(), tag.cloned());
        let plan = blocking("read an image's archive", move || {
            plan(&inner, &opened, wanted.as_ref())
        })
        .await?;
        let plan = Arc::new(plan);
        let inner = Arc::clone(&self.inner);
        let held = plan.held.clone();
        let _hold = blocking("hold the layers", move || inner.holds.hold(&held)).await?;
        let turns = Arc::new(Semaphore::new(self.inner.options.parallel_layers.max(1)));
        let mut takes = JoinSet::new();
        for number in 0..plan.layers.len() {
            let (inner, plan, progress) = (
                Arc::clone(&self.inner),
                Arc::clone(&plan),
                Arc::clone(&progress),
            );
            let turns = Arc::clone(&turns);
            takes.spawn(async move {
                // Closed when another layer failed.
                let turn = turns.acquire_owned().await.map_err(|_| Error::Ended {
                    doing: "take in a layer",
                })?;
                let outcome = take(inner, plan, number, progress).await;
                drop(turn);
                outcome
            });
        }
        let mut failure = None;
        while let Some(outcome) = takes.join_next().await {
            if let Err(error) = outcome.unwrap_or(Err(Error::Ended {
                doing: "take in a layer",
            })) {
                turns.close();
                failure.get_or_insert(error);
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let inner = Arc::clone(&self.inner);
        blocking("write the tag", move || {
            inner.enter(
                &plan.reference,
                &plan.manifest,
                &plan.config_bytes,
                &plan.config,
                false,
            )
        })
        .await
    }
}

struct Plan {
    source: Source,
    reference: Reference,
    manifest: Vec<u8>,
    config_bytes: Vec<u8>,
    config: RawConfig,
    layers: Vec<Member>,
    held: Vec<Digest>,
    path: PathBuf,
}

struct Member {
    id: LayerId,
    name: String,
    /// None where only the uncompressed one is promised.
    blob: Option<Digest>,
}

async fn take(
    inner: Arc<Inner>,
    plan: Arc<Plan>,
    number: usize,
    progress: Arc<dyn Progress>,
) -> Result<(), Error> {
    let id = plan.layers[number].id.clone();
    let report = |phase| {
        progress.layer(
            id.short(),
            LayerProgress {
                phase,
                bytes_done: 0,
                bytes_total: 0,
            },
        )
    };
    let _lock = inner.store.lock(&id, || report(Phase::Waiting)).await?;
    if inner.store.has(&id) {
        report(Phase::Cached);
        return Ok(());
    }
    report(Phase::Unpacking);
    let teller = Arc::clone(&progress);
    background("unpack a layer", move || {
        let Member { id, name, blob } = &plan.layers[number];
        let image = plan.reference.to_string();
        let reader = plan
            .source
            .open(name)
            .map_err(|problem| refuse(&plan.path, problem))?;
        let mut reader = Digesting::new(reader);
        let flushing = || {
            teller.layer(
                id.short(),
                LayerProgress {
                    phase: Phase::Verifying,
                    bytes_done: 0,
                    bytes_total: 0,
                },
            );
        };
        let unpacked = inner.store.unpack(
            &image,
            id.short(),
            &mut reader,
            &inner.options.limits,
            flushing,
        )?;
        let what = |kind| format!("layer {name} of {}{kind}", plan.path.display());
        if let Some(blob) = blob {
            io::copy(&mut reader, &mut io::sink()).map_err(Error::io("read", &plan.path))?;
            let (actual, _) = reader.finish();
            if actual != *blob {
                let (expected, actual) = (blob.to_string(), actual.to_string());
                return Err(Error::Digest {
                    what: what(""),
                    expected,
                    actual,
                });
            }
        }
        if unpacked.id != *id {
            let (expected, actual) = (id.to_string(), unpacked.id.to_string());
            return Err(Error::Digest {
                what: what(", uncompressed,"),
                expected,
                actual,
            });
        }
        inner.store.publish(unpacked)?;
        Ok(())
    })
    .await?;
    report(Phase::Done);
    Ok(())
}

fn refuse(path: &Path, problem: impl Into<String>) -> Error {
    Error::Import {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

fn plan(inner: &Inner, path: &Path, tag: Option<&Reference>) -> Result<Plan, Error> {
    let source = Source::find(inner, path)?;
    if source.has("index.json") {
        plan_layout(inner, path, source, tag)
    } else if source.has("manifest.json") {
        plan_docker(inner, path, source, tag)
    } else {
        Err(refuse(
            path,
            "it has neither an index.json nor a manifest.json",
        ))
    }
}

fn plan_layout(
    inner: &Inner,
    path: &Path,
    source: Source,
    tag: Option<&Reference>,
) -> Result<Plan, Error> {
    let failed = |problem: String| refuse(path, problem);
    let index = source.document("index.json").map_err(failed)?;
    let index: Document = serde_json::from_slice(&index)
        .map_err(|error| failed(format!("its index.json is broken ({error})")))?;
    let mut manifests = index.manifests.unwrap_or_default();
    let carried = |descriptor: &Descriptor| {
        let name = descriptor.annotations.get("io.containerd.image.name");
        let name = name.or_else(|| {
            descriptor
                .annotations
                .get("org.opencontainers.image.ref.name")
        });
        // A tag alone, as skopeo writes it, is no name.
        name.filter(|name| name.contains(['/', ':']))
            .and_then(|name| Reference::parse(name).ok())
    };
    if let Some(tag) = tag
        && manifests
            .iter()
            .any(|descriptor| carried(descriptor).as_ref() == Some(tag))
    {
        manifests.retain(|descriptor| carried(descriptor).as_ref() == Some(tag));
    }
    let reference = tag
        .cloned()
        .or_else(|| manifests.iter().find_map(carried))
        .ok_or_else(|| failed("it carries no name, so give it one".to_owned()))?;
    let image = reference.to_string();
    // Layouts of one image often say nothing of its platform.
    let mut digest = match manifests.as_slice() {
        [only] => only.digest.clone(),
        several => choose(&image, &inner.options.architecture, several)?.clone(),
    };
    for _ in 0..3 {
        let manifest = source.blob(&digest).map_err(failed)?;
        let document: Document = serde_json::from_slice(&manifest)
            .map_err(|error| failed(format!("its manifest cannot be understood ({error})")))?;
        if let Some(manifests) = document.manifests {
            digest = choose(&image, &inner.options.architecture, &manifests)?.clone();
            continue;
        }
        let (Some(config), Some(layers)) = (document.config, document.layers) else {
            return Err(failed("its manifest has no config or no layers".to_owned()));
        };
        let config_bytes = source.blob(&config.digest).map_err(failed)?;
        let config: RawConfig = serde_json::from_slice(&config_bytes)
            .map_err(|error| failed(format!("its config cannot be understood ({error})")))?;
        let layers = check_config(&image, inner, &config, layers)?
            .into_iter()
            .map(|(id, descriptor)| Member {
                id,
                name: blob_name(&descriptor.digest),
                blob: Some(descriptor.digest),
            })
            .collect();
        return Ok(Plan::new(
            source,
            path,
            reference,
            manifest,
            config_bytes,
            config,
            layers,
        ));
    }
    Err(failed("its index leads to indices without end".to_owned()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn plan_docker(
    inner: &Inner,
    path: &Path,
    source: Source,
    tag: Option<&Reference>,
) -> Result<Plan, Error> {
    let failed = |problem: String| refuse(path, problem);
    let bytes = source.document("manifest.json").map_err(failed)?;
    let mut saved: Vec<Saved> = serde_json::from_slice(&bytes)
        .map_err(|error| failed(format!("its manifest.json is broken ({error})")))?;
    let names = |saved: &Saved| -> Vec<Reference> {
        saved
            .repo_tags
            .iter()
            .flatten()
            .filter_map(|name| Reference::parse(name).ok())
            .collect()
    };
    let several = saved.len() > 1;
    let found = saved
        .iter()
        .position(|saved| tag.is_some_and(|tag| names(saved).contains(tag)));
    let saved = match found {
        Some(number) => saved.swap_remove(number),
        None if several => {
            let all: Vec<String> = saved
                .iter()
                .flat_map(names)
                .map(|name| name.to_string())
                .collect();
            return Err(failed(format!(
                "it holds several images, so name one of them ({})",
                all.join(", ")
            )));
        }
        None => saved
            .pop()
            .ok_or_else(|| failed("it holds no image".to_owned()))?,
    };
    let reference = tag
        .cloned()
        .or_else(|| names(&saved).into_iter().next())
        .ok_or_else(|| failed("it carries no name, so give it one".to_owned()))?;
    let config_bytes = source.document(&saved.config).map_err(failed)?;
    let config: RawConfig = serde_json::from_slice(&config_bytes)
        .map_err(|error| failed(format!("its config cannot be understood ({error})")))?;
    let mut sizes = Vec::new();
    for (name, id) in saved.layers.iter().zip(&config.rootfs.diff_ids) {
        let size = source
            .size(name)
            .ok_or_else(|| failed(format!("{name} is missing from it")))?;
        sizes.push((id.clone(), size));
    }
    let manifest =
        plain_manifest(&config_bytes, &sizes).map_err(|error| failed(error.to_string()))?;
    let descriptors: Vec<Descriptor> = saved
        .layers
        .iter()
        .zip(
            config
                .rootfs
                .diff_ids
                .iter()
                .map(Some)
                .chain(std::iter::repeat(None)),
        )
        .map(|(_, id)| Descriptor {
            media_type: String::new(),
            digest: id.cloned().unwrap_or_else(|| Digest::of(b"")),
            size: 0,
            platform: None,
            annotations: Default::default(),
        })
        .collect();
    let checked = check_config(&reference.to_string(), inner, &config, descriptors)?;
    let layers = checked
        .into_iter()
        .zip(saved.layers)
        .map(|((id, _), name)| Member {
            id,
            name,
            blob: None,
        })
        .collect();
    Ok(Plan::new(
        source,
        path,
        reference,
        manifest,
        config_bytes,
        config,
        layers,
    ))
}

impl Plan {
    fn new(
        source: Source,
        path: &Path,
        reference: Reference,
        manifest: Vec<u8>,
        config_bytes: Vec<u8>,
        config: RawConfig,
        layers: Vec<Member>,
    ) -> Plan {
        let mut held: Vec<Digest> = layers
            .iter()
            .map(|member| member.id.digest().clone())
            .collect();
        held.push(Digest::of(&manifest));
        held.push(Digest::of(&config_bytes));
        Plan {
            source,
            reference,
            manifest,
            config_bytes,
            config,
            layers,
            held,
            path: path.to_owned(),
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

enum Source {
    Folder(OwnedFd),
    Tar {
        file: File,
        /// Where each member's content lies.
        members: HashMap<String, (u64, u64)>,
        /// Where it was decompressed to.
        _staging: Option<Staging>,
    },
}

impl Source {
    fn find(inner: &Inner, path: &Path) -> Result<Source, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        if file.metadata().map_err(Error::io("open", path))?.is_dir() {
            return Ok(Source::Folder(file.into()));
        }
        let (file, staging) = plain(inner, file, path)?;
        let broken = |problem: String| refuse(path, problem);
        let reader = Counted {
            inner: BufReader::with_capacity(256 << 10, &file),
            position: 0,
        };
        let mut archive = Archive::new(reader, None);
        let mut members = HashMap::new();
        let mut links = Vec::new();
        while let Some(entry) = archive
            .next()
            .map_err(|error| broken(format!("it is no tar ({error})")))?
        {
            if members.len() >= MEMBERS_LIMIT {
                return Err(broken("it has too many members".to_owned()));
            }
            let name = clean(&entry.path);
            match entry.kind {
                Kind::Regular if entry.sparse.is_none() => {
                    members.insert(name, (archive.reader().position, entry.size));
                }
                // Old versions of `docker save` link equal layers.
                Kind::Symlink | Kind::HardLink => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let target = clean(&entry.link);
                    let target = match (entry.kind, target.strip_prefix("../")) {
                        (Kind::Symlink, Some(target)) => target.to_owned(),
                        (Kind::Symlink, None) if !folder.is_empty() => format!("{folder}/{target}"),
                        _ => target,
                    };
                    links.push((name, target));
                }
                _ => {}
            }
        }
        for (name, target) in links {
            if let Some(place) = members.get(&target).copied() {
                members.insert(name, place);
            }
        }
        Ok(Source::Tar {
            file,
            members,
            _staging: staging,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.size(name).is_some()
    }

    fn size(&self, name: &str) -> Option<u64> {
        match self {
            Source::Folder(folder) => {
                let metadata = beneath(folder, name).ok()?.metadata().ok()?;
                metadata.is_file().then_some(metadata.len())
            }
            Source::Tar { members, .. } => {
                members.get(&clean(name.as_bytes())).map(|(_, size)| *size)
            }
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read + Send + '_>, String> {
        match self {
            Source::Folder(folder) => {
                let file = beneath(folder, name)
                    .map_err(|error| format!("{name} cannot be opened in it ({error})"))?;
                Ok(Box::new(file))
            }
            Source::Tar { file, members, .. } => {
                let (offset, size) = members
                    .get(&clean(name.as_bytes()))
                    .copied()
                    .ok_or_else(|| format!("{name} is missing from it"))?;
                Ok(Box::new(At {
                    file,
                    offset,
                    remaining: size,
                }))
            }
        }
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let read = self
            .open(name)?
            .take(DOCUMENT_LIMIT + 1)
            .read_to_end(&mut bytes);
        read.map_err(|error| format!("{name} cannot be read ({error})"))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(format!("{name} is larger than {DOCUMENT_LIMIT} bytes"));
        }
        Ok(bytes)
    }

    /// A small one, its digest checked.
    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let bytes = self.document(&blob_name(digest))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(format!("{} has the digest {actual}", blob_name(digest)));
        }
        Ok(bytes)
    }
}

/// The archive, decompressed into staging if it was compressed.
fn plain(inner: &Inner, mut file: File, path: &Path) -> Result<(File, Option<Staging>), Error> {
    let mut magic = [0; 4];
    let count = file.read(&mut magic).map_err(Error::io("read", path))?;
    file.rewind().map_err(Error::io("read", path))?;
    if !compression::is_compressed(&magic[..count]) {
        return Ok((file, None));
    }
    let staging = inner.store.stage()?;
    let place = staging.path().join("archive.tar");
    let mut output = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&place)
        .map_err(Error::io("write", &place))?;
    let mut reader = compression::decompress(BufReader::with_capacity(256 << 10, file))
        .map_err(Error::io("decompress", path))?;
    let mut piece = vec![0; 1 << 20];
    let mut done = 0u64;
    loop {
        let count = reader
            .read(&mut piece)
            .map_err(Error::io("decompress", path))?;
        if count == 0 {
            break;
        }
        output
            .write_all(&piece[..count])
            .map_err(Error::io("write", &place))?;
        done += count as u64;
        let space = rustix::fs::fstatvfs(&output)
            .map_err(io::Error::from)
            .map_err(Error::io("look at", &place))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let limits = &inner.options.limits;
        if free < limits.reserve_bytes || done > limits.layer_bytes {
            let image = path.display().to_string();
            return Err(Error::NoSpace {
                image,
                path: inner.directory.clone(),
                free: 0,
            });
        }
    }
    output.rewind().map_err(Error::io("read", &place))?;
    Ok((output, Some(staging)))
}

fn beneath(folder: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file =
        boatyard_sandbox::beneath::open(folder, Path::new(name), flags, ResolveFlags::BENEATH)?;
    Ok(file.into())
}

fn clean(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    path.trim_start_matches("./")
        .trim_start_matches('/')
        .to_owned()
}

/// Several threads read one file, each at its own place.
struct At<'a> {
    file: &'a File,
    offset: u64,
    remaining: u64,
}

impl Read for At<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        let most = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let count = self.file.read_at(&mut bytes[..most], self.offset)?;
        self.offset += count as u64;
        self.remaining -= count as u64;
        Ok(count)
    }
}

struct Counted<'a> {
    inner: BufReader<&'a File>,
    position: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.position += length as u64;
        self.inner.consume(length);
    }
}
