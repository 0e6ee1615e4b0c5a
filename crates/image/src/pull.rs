//! Fetches an image: network, digest, decompression and unpacking at once,
//! several layers side by side, in bounded memory.
//!
//! For each layer a task reads the network into a bounded channel; a blocking
//! thread takes the pieces, writes them to `partial/<blob digest>`, digests
//! them, and feeds decompressor, tar reader and disk. When the network breaks,
//! the task asks for the rest and the thread never notices. When the process
//! dies, the next pull feeds the thread from the partial file first and asks
//! the registry for what is missing. Blobs are dropped once unpacked: see
//! `recipe` for how an export does without.
//!
//! A layer is fetched by whoever locks it first; the others wait and find it
//! there. It gets its name when its compressed and its uncompressed digest are
//! what manifest and config promised. The tag is written last.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use sha2::Digest as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Descriptor, Document, RawConfig};
use crate::digest::Digest;
use crate::images::{Inner, background, blocking};
use crate::registry::Session;
use crate::{
    Error, Image, Images, LayerId, LayerProgress, Phase, Policy, Progress, Reference, layers,
};

/// Smaller blobs are fetched again sooner than kept.
const WORTH_RESUMING: u64 = 1 << 20;
/// Of up to about 400 KiB, as hyper reads them.
const CHANNEL_PIECES: usize = 8;
const INDEX_DEPTH: usize = 3;

impl Images {
    /// Fetches the image from its registry.
    ///
    /// # Errors
    /// Names the image, the registry, what is wrong and what to do. Nothing
    /// is left behind but whole layers and what a next pull can go on from.
    pub async fn pull(
        &self,
        reference: &Reference,
        policy: Policy,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, Error> {
        if policy == Policy::IfMissing
            && let Some(image) = self.find(reference)?
        {
            return Ok(image);
        }
        // Boxed: the whole pipeline is a large future.
        Box::pin(pull(&self.inner, reference, progress)).await
    }
}

struct Plan {
    manifest: Bytes,
    config_bytes: Bytes,
    config: RawConfig,
    layers: Vec<(LayerId, Descriptor)>,
}

async fn pull(
    inner: &Arc<Inner>,
    reference: &Reference,
    progress: Arc<dyn Progress>,
) -> Result<Image, Error> {
    let session = Arc::new(Session::new(reference, Arc::clone(&inner.options)));
    let plan = plan(inner, &session, reference).await?;
    let mut held: Vec<Digest> = plan
        .layers
        .iter()
        .map(|(id, _)| id.digest().clone())
        .collect();
    held.push(Digest::of(&plan.manifest));
    held.push(Digest::of(&plan.config_bytes));
    let _hold = {
        let inner = Arc::clone(inner);
        blocking("hold the layers", move || inner.holds.hold(&held)).await?
    };
    let stop = CancellationToken::new();
    let turns = Arc::new(Semaphore::new(inner.options.parallel_layers.max(1)));
    // Dropped with this future; then each download ends, and with it the
    // unpacking that reads it.
    let mut fetches = JoinSet::new();
    for (id, descriptor) in &plan.layers {
        if !inner.store.has(id) {
            report(&*progress, id, Phase::Waiting, 0, descriptor.size);
        }
        let fetch = Fetch {
            inner: Arc::clone(inner),
            session: Arc::clone(&session),
            image: reference.to_string(),
            id: id.clone(),
            descriptor: descriptor.clone(),
            progress: Arc::clone(&progress),
            stop: stop.clone(),
        };
        let turns = Arc::clone(&turns);
        fetches.spawn(async move {
            let _turn = turns.acquire_owned().await;
            fetch.run().await
        });
    }
    let mut failure = None;
    while let Some(outcome) = fetches.join_next().await {
        let outcome = outcome.unwrap_or(Err(Error::Ended {
            doing: "fetch a layer",
        }));
        if let Err(error) = outcome {
            // The others are awaited, so that nothing half-made is left.
            stop.cancel();
            failure.get_or_insert(error);
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let (inner, reference) = (Arc::clone(inner), reference.clone());
    blocking("write the tag", move || {
        inner.enter(
            &reference,
            &plan.manifest,
            &plan.config_bytes,
            &plan.config,
            true,
        )
    })
    .await
}

/// From the name to the layers: index, manifest and config.
async fn plan(inner: &Inner, session: &Session, reference: &Reference) -> Result<Plan, Error> {
    let image = reference.to_string();
    let invalid = |problem: String| Error::Invalid {
        image: image.clone(),
        problem,
    };
    let wanted = &inner.options.architecture;
    let mut name = reference
        .digest()
        .map(ToString::to_string)
        .or_else(|| reference.tag().map(str::to_owned))
        .unwrap_or_default();
    for _ in 0..INDEX_DEPTH {
        let manifest = session.manifest(&name).await?;
        let document: Document = serde_json::from_slice(&manifest)
            .map_err(|error| invalid(format!("its manifest cannot be understood ({error})")))?;
        if let Some(manifests) = document.manifests {
            name = choose(&image, wanted, &manifests)?.to_string();
            continue;
        }
        let (Some(config), Some(layers)) = (document.config, document.layers) else {
            let old = if document.schema_version == 1 {
                ", it is of the old schema 1"
            } else {
                ""
            };
            return Err(invalid(format!(
                "its manifest has no config or no layers{old}"
            )));
        };
        let config_bytes = session.config(&config.digest).await?;
        let config: RawConfig = serde_json::from_slice(&config_bytes)
            .map_err(|error| invalid(format!("its config cannot be understood ({error})")))?;
        let layers = check_config(&image, inner, &config, layers)?;
        return Ok(Plan {
            manifest,
            config_bytes,
            config,
            layers,
        });
    }
    Err(invalid("its index leads to indices without end".to_owned()))
}

pub(crate) fn choose<'a>(
    image: &str,
    wanted: &str,
    manifests: &'a [Descriptor],
) -> Result<&'a Digest, Error> {
    let fits = |descriptor: &&Descriptor| {
        descriptor
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "linux" && platform.architecture == wanted)
    };
    // Without a variant is what runs everywhere; an index without platforms
    // but with one manifest means that one.
    let plain = |descriptor: &&Descriptor| {
        fits(descriptor)
            && descriptor
                .platform
                .as_ref()
                .is_some_and(|platform| platform.variant.is_none())
    };
    let chosen = manifests
        .iter()
        .find(plain)
        .or_else(|| manifests.iter().find(fits))
        .or_else(|| {
            manifests
                .first()
                .filter(|only| manifests.len() == 1 && only.platform.is_none())
        });
    chosen.map(|descriptor| &descriptor.digest).ok_or_else(|| {
        let mut available: Vec<String> = manifests
            .iter()
            .filter_map(|descriptor| descriptor.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
            .map(|platform| format!("{}/{}", platform.os, platform.architecture))
            .collect();
        available.sort();
        available.dedup();
        let available = if available.is_empty() {
            "nothing".to_owned()
        } else {
            available.join(", ")
        };
        Error::Architecture {
            image: image.to_owned(),
            wanted: wanted.to_owned(),
            available,
        }
    })
}

pub(crate) fn check_config(
    image: &str,
    inner: &Inner,
    config: &RawConfig,
    layers: Vec<Descriptor>,
) -> Result<Vec<(LayerId, Descriptor)>, Error> {
    let invalid = |problem: String| Error::Invalid {
        image: image.to_owned(),
        problem,
    };
    let wanted = &inner.options.architecture;
    let os = if config.os.is_empty() {
        "linux"
    } else {
        &config.os
    };
    if os != "linux" || (!config.architecture.is_empty() && config.architecture != *wanted) {
        return Err(Error::Architecture {
            image: image.to_owned(),
            wanted: wanted.clone(),
            available: format!("{os}/{}", config.architecture),
        });
    }
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != layers.len() {
        let problem = format!(
            "its config names {} layers, its manifest {}",
            diff_ids.len(),
            layers.len()
        );
        return Err(invalid(problem));
    }
    let most = inner.options.limits.layers;
    if layers.is_empty() || layers.len() > most {
        return Err(invalid(format!(
            "it has {} layers, where 1 to {most} are allowed",
            layers.len()
        )));
    }
    Ok(diff_ids
        .iter()
        .cloned()
        .map(LayerId::from)
        .zip(layers)
        .collect())
}

/// One layer of one pull.
struct Fetch {
    inner: Arc<Inner>,
    session: Arc<Session>,
    image: String,
    id: LayerId,
    descriptor: Descriptor,
    progress: Arc<dyn Progress>,
    /// Another layer failed.
    stop: CancellationToken,
}

impl Fetch {
    async fn run(&self) -> Result<(), Error> {
        let total = self.descriptor.size;
        if self.inner.store.has(&self.id) {
            report(&*self.progress, &self.id, Phase::Cached, total, total);
            return Ok(());
        }
        let told = || {
            self.progress.message(&format!(
                "layer {} is being fetched already",
                self.id.short()
            ))
        };
        let layer = self
            .unless_stopped(self.inner.store.lock(&self.id, told))
            .await?;
        if self.inner.store.has(&self.id) {
            report(&*self.progress, &self.id, Phase::Cached, total, total);
            return Ok(());
        }
        // Held after the layer's lock and never before it: no circle.
        let partial = self.inner.partial(&self.descriptor.digest);
        let blob = self
            .unless_stopped(layers::lock(&partial.with_extension("lock"), || {}))
            .await?;
        // Shared with the unpacking thread, which may outlive this task.
        let locks = Arc::new([layer, blob]);
        match self.attempt(&partial, &locks).await {
            // What an earlier attempt left may have been the lie.
            Err((Error::Digest { .. }, true)) => {
                self.attempt(&partial, &locks)
                    .await
                    .map_err(|(error, _)| error)?;
            }
            outcome => outcome.map_err(|(error, _)| error)?,
        }
        report(&*self.progress, &self.id, Phase::Done, total, total);
        Ok(())
    }

    async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            outcome = work => outcome,
            () = self.stop.cancelled() => Err(Error::Ended { doing: "fetch a layer" }),
        }
    }

    /// With an error comes whether bytes of an earlier attempt were used.
    async fn attempt(&self, partial: &Path, locks: &Arc<[File; 2]>) -> Result<(), (Error, bool)> {
        let size = self.descriptor.size;
        let (sender, receiver) = mpsc::channel(CHANNEL_PIECES);
        let keep = (size >= WORTH_RESUMING).then_some(partial);
        let feed = Feed::open(
            keep,
            receiver,
            size,
            self.id.clone(),
            Arc::clone(&self.progress),
        )
        .map_err(|source| {
            (
                Error::Io {
                    doing: "write",
                    path: partial.to_owned(),
                    source,
                },
                false,
            )
        })?;
        let from = feed.replay;
        let resumed = from > 0;
        if resumed {
            self.progress.message(&format!(
                "layer {}: going on after {from} bytes",
                self.id.short()
            ));
        }
        let inner = Arc::clone(&self.inner);
        let (image, id, digest) = (
            self.image.clone(),
            self.id.clone(),
            self.descriptor.digest.clone(),
        );
        let locks = Arc::clone(locks);
        let unpacking = background("unpack a layer", move || {
            let unpacked = feed.unpack(&inner, &image, &id, &digest);
            drop(locks);
            unpacked
        });
        let (download, unpacked) =
            tokio::join!(self.unless_stopped(self.download(from, sender)), unpacking);
        match (download, unpacked) {
            (_, Ok(())) => Ok(()),
            (Err(error), Err(_)) => Err((error, resumed)),
            (Ok(()), Err(error)) => Err((error, resumed)),
        }
    }

    /// Ends well when all was sent, or when nobody wants more.
    async fn download(&self, from: u64, sender: mpsc::Sender<Piece>) -> Result<(), Error> {
        let size = self.descriptor.size;
        let attempts = self.inner.options.deadlines.attempts.max(1);
        let mut done = from;
        let mut failures = 0;
        let mut pause = Duration::from_millis(200);
        while done < size {
            let before = done;
            let mut blob = self.session.blob(&self.descriptor.digest, done).await?;
            let problem = loop {
                match blob.next().await {
                    Ok(Some(bytes)) => {
                        done += bytes.len() as u64;
                        if done > size {
                            return Err(self.session.broken_off(format!(
                                "sent more than the {size} bytes of a layer"
                            )));
                        }
                        if sender.send(Piece::Bytes(bytes)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Ok(None) if done == size => break None,
                    Ok(None) => break Some("ended a layer too soon".to_owned()),
                    Err(problem) => break Some(problem),
                }
            };
            if let Some(problem) = problem {
                failures = if done > before { 1 } else { failures + 1 };
                if failures >= attempts {
                    return Err(self.session.broken_off(problem));
                }
                tracing::info!(image = self.image, layer = %self.id, done, problem, "asking for the rest of a layer");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
        let _ = sender.send(Piece::End).await;
        Ok(())
    }
}

impl Inner {
    pub(crate) fn partial(&self, blob: &Digest) -> PathBuf {
        self.directory.join("partial").join(blob.hex())
    }
}

/// Blobs nobody is fetching. Gives the bytes freed.
pub(crate) fn prune_partial(inner: &Inner) -> Result<u64, Error> {
    let folder = inner.directory.join("partial");
    let mut bytes = 0;
    for entry in std::fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
        let path = entry.map_err(Error::io("list", &folder))?.path();
        let lock = path.with_extension("lock");
        let Some(_lock) = layers::try_lock(&lock)? else {
            continue;
        };
        let blob = lock.with_extension("");
        bytes += blob.metadata().map(|metadata| metadata.len()).unwrap_or(0);
        let _ = std::fs::remove_file(&blob);
        let _ = std::fs::remove_file(&lock);
    }
    Ok(bytes)
}

enum Piece {
    Bytes(Bytes),
    End,
}

/// The compressed bytes of a layer, in order, as the unpacking thread reads
/// them: from the partial file what an earlier attempt left, then from the
/// network, through the file.
struct Feed {
    receiver: mpsc::Receiver<Piece>,
    partial: Option<(PathBuf, File)>,
    /// Bytes still to be read from the file.
    replay: u64,
    current: Bytes,
    ended: bool,
    failed: Option<io::ErrorKind>,
    hasher: sha2::Sha256,
    done: u64,
    told: u64,
    total: u64,
    id: LayerId,
    progress: Arc<dyn Progress>,
}

impl Feed {
    fn open(
        partial: Option<&Path>,
        receiver: mpsc::Receiver<Piece>,
        total: u64,
        id: LayerId,
        progress: Arc<dyn Progress>,
    ) -> io::Result<Feed> {
        let mut replay = 0;
        let partial = match partial {
            Some(path) => {
                let file = File::options()
                    .create(true)
                    .truncate(false)
                    .read(true)
                    .write(true)
                    .open(path)?;
                replay = file.metadata()?.len();
                if replay > total {
                    file.set_len(0)?;
                    replay = 0;
                }
                Some((path.to_owned(), file))
            }
            None => None,
        };
        Ok(Feed {
            receiver,
            partial,
            replay,
            current: Bytes::new(),
            ended: false,
            failed: None,
            hasher: sha2::Sha256::new(),
            done: 0,
            told: 0,
            total,
            id,
            progress,
        })
    }

    /// Blocking.
    fn unpack(
        mut self,
        inner: &Inner,
        image: &str,
        id: &LayerId,
        digest: &Digest,
    ) -> Result<(), Error> {
        let progress = Arc::clone(&self.progress);
        let total = self.total;
        let path = self.partial.as_ref().map(|(path, _)| path.clone());
        let forget = || {
            if let Some(path) = &path {
                let _ = std::fs::remove_file(path);
            }
        };
        let flushing = || {
            // Before the flush, which would otherwise write it to disk.
            forget();
            report(&*progress, id, Phase::Verifying, total, total);
        };
        let unpacked = inner.store.unpack(
            image,
            &digest.to_string(),
            &mut self,
            &inner.options.limits,
            flushing,
        );
        let unpacked = match unpacked {
            // Broken because the image is, or because somebody lies about it?
            Err(error @ (Error::Hostile { .. } | Error::Unreadable { .. })) => match self.drain() {
                // The network's failure; the blob so far is good.
                Err(_) if matches!(error, Error::Unreadable { .. }) => return Err(error),
                Ok(actual) if actual != *digest => {
                    forget();
                    return Err(self.lie(image, digest, &actual));
                }
                _ => {
                    forget();
                    return Err(error);
                }
            },
            outcome => outcome?,
        };
        let actual = self.drain().map_err(|source| Error::Unreadable {
            image: image.to_owned(),
            layer: digest.to_string(),
            source,
        })?;
        forget();
        if actual != *digest {
            return Err(self.lie(image, digest, &actual));
        }
        if unpacked.id != *id {
            return Err(Error::Digest {
                what: format!("layer {digest} of image {image}, uncompressed,"),
                expected: id.to_string(),
                actual: unpacked.id.to_string(),
            });
        }
        inner.store.publish(unpacked)?;
        Ok(())
    }

    fn lie(&self, image: &str, expected: &Digest, actual: &Digest) -> Error {
        Error::Digest {
            what: format!("a layer of image {image}"),
            expected: expected.to_string(),
            actual: actual.to_string(),
        }
    }

    /// Reads to the end, which the unpacking may not have needed.
    fn drain(&mut self) -> io::Result<Digest> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok(Digest::from_hasher(self.hasher.clone()));
            }
            self.consume(length);
        }
    }

    fn next(&mut self) -> io::Result<()> {
        if self.replay > 0 {
            let Some((_, file)) = &mut self.partial else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let mut bytes = vec![
                0;
                usize::try_from(self.replay)
                    .unwrap_or(usize::MAX)
                    .min(256 << 10)
            ];
            file.read_exact(&mut bytes)?;
            self.replay -= bytes.len() as u64;
            self.current = bytes.into();
            if self.replay == 0 {
                file.seek(io::SeekFrom::End(0))?;
            }
        } else {
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(bytes)) => {
                    if let Some((_, file)) = &mut self.partial {
                        file.write_all(&bytes)?;
                    }
                    self.current = bytes;
                }
                Some(Piece::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the download was broken off",
                    ));
                }
            }
        }
        self.hasher.update(&self.current);
        self.done += self.current.len() as u64;
        if self.done - self.told >= 64 << 10 || self.ended {
            self.told = self.done;
            let phase = if self.done == self.total {
                Phase::Unpacking
            } else {
                Phase::Downloading
            };
            report(&*self.progress, &self.id, phase, self.done, self.total);
        }
        Ok(())
    }
}

impl Read for Feed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = {
            let buffer = self.fill_buf()?;
            let length = buffer.len().min(bytes.len());
            bytes[..length].copy_from_slice(&buffer[..length]);
            length
        };
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            if let Some(kind) = self.failed {
                return Err(kind.into());
            }
            // Bytes may be lost with it, so nothing may be read after it.
            self.next()
                .inspect_err(|error| self.failed = Some(error.kind()))?;
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        self.current.advance(length);
    }
}

fn report(progress: &dyn Progress, id: &LayerId, phase: Phase, bytes_done: u64, bytes_total: u64) {
    progress.layer(
        id.short(),
        LayerProgress {
            phase,
            bytes_done,
            bytes_total,
        },
    );
}
