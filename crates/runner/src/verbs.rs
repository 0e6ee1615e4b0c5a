//! The runner's own verbs: images and the state of its host (see `link::verbs`), and logs.
//!
//! Paths never come from the caller: archives are streamed through a temporary file in the state
//! directory that is removed at once, so that a kill leaves nothing.

use crate::beneath;
use crate::context::Context;
use crate::failure::{Failed, chain};
use crate::layout::EnvironmentPaths;
use boatyard_image::{Format, LayerProgress, Progress, Reference};
use boatyard_link::frames::{Codec, Frame};
use boatyard_link::tunnel::Stream;
use boatyard_link::verbs::{ArchiveFormat, Check, ImageLine, LONGEST, Reply, Request};
use boatyard_sandbox::spec::User;
use boatyard_wire::frame::{Kind, MAX_PAYLOAD};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use rustix::fs::OFlags;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::codec::Framed;

type Frames = Framed<Stream, Codec>;

/// Replies under way to a caller that does not read: further progress is dropped.
const BACKLOG: usize = 256;

struct Forward(mpsc::Sender<Reply>);

impl Progress for Forward {
    fn layer(&self, id: &str, state: LayerProgress) {
        let phase = format!("{:?}", state.phase).to_ascii_lowercase();
        // Progress may be lost; results are sent on another way.
        let _ = self.0.try_send(Reply::Layer {
            id: id.to_owned(),
            phase,
            done: state.bytes_done,
            total: (state.bytes_total > 0).then_some(state.bytes_total),
        });
    }
    fn message(&self, text: &str) {
        let _ = self.0.try_send(Reply::Message {
            text: text.to_owned(),
        });
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// A user of this host.
    pub(crate) local: Option<User>,
    /// An administrator: what is for everybody here is theirs to change.
    pub(crate) admin: bool,
}

/// What somebody who is no administrator may ask: to build of own files, and to look.
fn open_to_all(request: &Request) -> bool {
    match request {
        Request::ImageList | Request::ImageInspect { .. } | Request::Doctor => true,
        Request::Build(_) | Request::Prepare(_) => true,
        Request::ImagePull { .. }
        | Request::ImageBootstrap { .. }
        | Request::ImageImport { .. }
        | Request::ImageExport { .. }
        | Request::ImageTag { .. }
        | Request::ImageRemove { .. }
        | Request::ImagePrune { .. }
        | Request::Metrics
        | Request::Long { .. } => false,
    }
}

/// Answers one request.
pub(crate) async fn serve(
    context: &Context,
    stream: Stream,
    caller: Caller,
) -> std::io::Result<()> {
    let mut frames = Framed::new(stream, Codec);
    let broken = |error: boatyard_link::frames::Error| std::io::Error::other(error);
    let Some(first) = frames.next().await else {
        return Ok(());
    };
    let mut request: Request = serde_json::from_slice(&first.map_err(broken)?.payload)?;
    if let Request::Long { bytes } = request {
        let mut whole = Vec::new();
        while whole.len() < bytes.min(LONGEST) {
            let Some(frame) = frames.next().await else {
                return Ok(());
            };
            whole.extend_from_slice(&frame.map_err(broken)?.payload);
        }
        request = serde_json::from_slice(&whole)?;
    }
    let outcome = answer(context, &mut frames, request, caller).await;
    let last = match outcome {
        Ok(()) => Reply::Done,
        Err(failed) => Reply::Error {
            reason: failed.reason,
            message: failed.message,
        },
    };
    send(&mut frames, &last).await.map_err(broken)?;
    frames.close().await.map_err(broken)
}

async fn send(frames: &mut Frames, reply: &Reply) -> Result<(), boatyard_link::frames::Error> {
    frames
        .send(Frame {
            kind: Kind::Reply,
            payload: serde_json::to_vec(reply)?.into(),
        })
        .await
}

fn failed(error: boatyard_image::Error) -> Failed {
    Failed::image(&error)
}

fn parse(reference: &str) -> Result<Reference, Failed> {
    Reference::parse(reference)
        .map_err(|error| Failed::lasting("ImageReferenceInvalid", error.to_string()))
}

fn gone(error: boatyard_link::frames::Error) -> Failed {
    Failed::transient("CallerGone", chain(&error))
}

async fn answer(
    context: &Context,
    frames: &mut Frames,
    request: Request,
    caller: Caller,
) -> Result<(), Failed> {
    if !caller.admin && !open_to_all(&request) {
        return Err(Failed::lasting(
            "Forbidden",
            "only administrators change this runner's images; ask one, or use sudo",
        ));
    }
    let images = &context.images;
    let (sender, progress) = mpsc::channel(BACKLOG);
    let forward: Arc<dyn Progress> = Arc::new(Forward(sender));
    let image = |image: boatyard_image::Image| Reply::Image {
        reference: image.reference.to_string(),
        digest: image.digest,
    };
    let reply = match request {
        Request::ImageList => Reply::Images {
            images: list(context)?,
        },
        Request::ImagePull { reference } => {
            let reference = parse(&reference)?;
            image(
                relayed(
                    frames,
                    progress,
                    images.pull(&reference, boatyard_image::Policy::Always, forward),
                )
                .await?,
            )
        }
        Request::ImageInspect { reference } => {
            let reference = parse(&reference)?;
            let config = relayed(frames, progress, images.ensure(&reference, forward));
            let config = config.await?.config;
            Reply::ImageConfig {
                env: config.env,
                user: config.user,
                labels: config.labels,
            }
        }
        Request::ImageBootstrap {
            reference,
            packages,
        } => {
            let reference = parse(&reference)?;
            image(
                relayed(
                    frames,
                    progress,
                    images.bootstrap(&reference, &packages, forward),
                )
                .await?,
            )
        }
        Request::ImageImport { tag } => {
            let tag = tag.as_deref().map(parse).transpose()?;
            let file = receive(context, frames).await?;
            image(
                relayed(
                    frames,
                    progress,
                    images.import(&file.0, tag.as_ref(), forward),
                )
                .await?,
            )
        }
        Request::ImageExport { reference, format } => {
            let reference = parse(&reference)?;
            let format = match format {
                ArchiveFormat::Oci => Format::OciArchive,
                ArchiveFormat::Docker => Format::DockerArchive,
                ArchiveFormat::Files => Format::Files,
            };
            let file = Temporary::new(context, "export");
            relayed(
                frames,
                progress,
                images.export(&reference, &file.0, format, forward),
            )
            .await?;
            return transmit(frames, &file).await;
        }
        Request::ImageTag { reference, tag } => {
            images
                .tag(&parse(&reference)?, &parse(&tag)?)
                .map_err(failed)?;
            return Ok(());
        }
        Request::ImageRemove { reference } => {
            images.remove(&parse(&reference)?).map_err(failed)?;
            return Ok(());
        }
        Request::ImagePrune { cache } => {
            let wanted = boatyard_image::Wanted {
                cache_bytes: cache.unwrap_or(boatyard_image::BUILD_CACHE),
                ..boatyard_image::Wanted::default()
            };
            let own = context.clone();
            let pruned = context
                .blocking(move || own.images.collect(&wanted, || crate::garbage::in_use(&own)))
                .await?;
            Reply::Pruned {
                layers: pruned.layers as u64,
                bytes: pruned.bytes,
            }
        }
        Request::Metrics => Reply::Metrics {
            text: context.board.metrics(&context.garbage.metrics()),
        },
        Request::Build(build) => {
            let events = crate::build::Events::default();
            let work = crate::build::for_caller(context, *build, caller, events.sender());
            image(built(frames, &events, Box::pin(work)).await?)
        }
        Request::Prepare(wanted) => {
            let events = crate::build::Events::default();
            let work = crate::images::prepare(
                context,
                *wanted,
                (caller.local, caller.admin),
                events.sender(),
            );
            image(built(frames, &events, Box::pin(work)).await?)
        }
        // What it stood for was read already.
        Request::Long { .. } => {
            return Err(Failed::lasting(
                "BadRequest",
                "a long request in a long request",
            ));
        }
        Request::Doctor => {
            let checks = context.blocking(boatyard_sandbox::doctor).await;
            let checks = checks.into_iter().map(|check| Check {
                name: check.name,
                ok: check.ok,
                detail: check.detail,
                remedy: (!check.remedy.is_empty()).then_some(check.remedy),
            });
            Reply::Checks {
                checks: checks.collect(),
            }
        }
    };
    send(frames, &reply).await.map_err(gone)
}

/// Runs `work`, sending its progress to the caller meanwhile; the caller going away ends it.
async fn relayed<T>(
    frames: &mut Frames,
    mut progress: mpsc::Receiver<Reply>,
    work: impl Future<Output = Result<T, boatyard_image::Error>>,
) -> Result<T, Failed> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => return outcome.map_err(failed),
            Some(reply) = progress.recv() => send(frames, &reply).await.map_err(gone)?,
            frame = frames.next() => {
                if frame.is_none_or(|frame| frame.is_err()) {
                    return Err(Failed::transient("CallerGone", "the caller went away"));
                }
            }
        }
    }
}

/// Builds, sending what happens to the caller; the caller going away ends it.
async fn built(
    frames: &mut Frames,
    events: &crate::build::Events,
    work: impl Future<Output = Result<boatyard_image::Image, Failed>>,
) -> Result<boatyard_image::Image, Failed> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            event = events.next() => send(frames, &Reply::Build(event)).await.map_err(gone)?,
            outcome = &mut work => {
                while let Some(event) = events.left() {
                    send(frames, &Reply::Build(event)).await.map_err(gone)?;
                }
                return outcome;
            }
            frame = frames.next() => {
                if frame.is_none_or(|frame| frame.is_err()) {
                    return Err(Failed::transient("CallerGone", "the caller went away"));
                }
            }
        }
    }
}

fn list(context: &Context) -> Result<Vec<ImageLine>, Failed> {
    let images = context.images.list().map_err(failed)?;
    let lines = images.into_iter().map(|image| ImageLine {
        reference: image.reference.to_string(),
        digest: image.digest,
        size_bytes: image.size_bytes,
        created: image.created,
        architecture: image.architecture,
    });
    Ok(lines.collect())
}

/// A file in the state directory, removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(context: &Context, purpose: &str) -> Self {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(
            context
                .layout
                .cache()
                .join(format!("{purpose}-{}-{number}.tar", std::process::id())),
        )
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn receive(context: &Context, frames: &mut Frames) -> Result<Temporary, Failed> {
    let file = Temporary::new(context, "import");
    let disk = |error: std::io::Error| Failed::disk(&file.0, &error);
    let mut output = tokio::fs::File::create_new(&file.0).await.map_err(disk)?;
    loop {
        let frame = frames
            .next()
            .await
            .ok_or_else(|| Failed::transient("CallerGone", "the archive ended early"))?
            .map_err(gone)?;
        if frame.payload.is_empty() {
            break;
        }
        output.write_all(&frame.payload).await.map_err(disk)?;
    }
    output.flush().await.map_err(disk)?;
    drop(output);
    Ok(file)
}

async fn transmit(frames: &mut Frames, file: &Temporary) -> Result<(), Failed> {
    let disk = |error: std::io::Error| Failed::disk(&file.0, &error);
    let mut input = tokio::fs::File::open(&file.0).await.map_err(disk)?;
    let mut buffer = vec![0; MAX_PAYLOAD];
    loop {
        let length = input.read(&mut buffer).await.map_err(disk)?;
        if length == 0 {
            return Ok(());
        }
        frames
            .send(Frame {
                kind: Kind::Stdout,
                payload: Bytes::copy_from_slice(&buffer[..length]),
            })
            .await
            .map_err(gone)?;
    }
}

/// Writes the logs of an environment's lifecycle commands to the stream. The environment's root
/// made these files: they are opened beneath their directory and only when regular.
pub(crate) async fn logs(paths: &EnvironmentPaths, mut stream: Stream) -> std::io::Result<()> {
    let disk = crate::disk::Looked::at(paths);
    if let Ok(directory) = File::open(disk.path("logs")) {
        let mut names: Vec<String> = beneath::names(&directory)?
            .into_iter()
            .filter(|name| name.ends_with(".log"))
            .collect();
        let order = |name: &String| {
            boatyard_plan::environment::Hook::ALL
                .iter()
                .position(|hook| name.starts_with(&hook.name().to_ascii_lowercase()))
        };
        names.sort_by_key(|name| (order(name).unwrap_or(usize::MAX), name.clone()));
        for name in names {
            let Ok(file) = beneath::open(&directory, &name, OFlags::NOFOLLOW) else {
                continue;
            };
            if !file.metadata()?.is_file() {
                continue;
            }
            stream
                .write_all(format!("==> {} <==\n", name.trim_end_matches(".log")).as_bytes())
                .await?;
            tokio::io::copy(&mut tokio::fs::File::from_std(file), &mut stream).await?;
        }
    }
    stream.shutdown().await
}
