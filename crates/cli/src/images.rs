//! `boatyard image …` and `boatyard doctor`: what the runner itself is asked.
//!
//! Archives travel through the stream: the runner never opens a path that a caller named.

use crate::args::{Archive, Global, Image, Output};
use crate::connect;
use crate::failure::Failure;
use crate::output;
use boatyard_link::client::Upgraded;
use boatyard_link::frames::{Codec, Frame};
use boatyard_link::verbs::{ArchiveFormat, Reply, Request};
use boatyard_wire::frame::{Kind, MAX_PAYLOAD};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use tokio_util::codec::Framed;

/// `boatyard image …`.
pub(crate) async fn run(global: &Global, image: Image) -> Result<(), Failure> {
    match image {
        Image::Ls { output } => {
            let Some(Reply::Images { images }) =
                ask(global, &Request::ImageList, Transfer::None).await?
            else {
                return Ok(());
            };
            crate::show::formatted(&images, &output, |wide| list(&images, wide))
        }
        Image::Pull { reference } => {
            told(ask(global, &Request::ImagePull { reference }, Transfer::None).await?)
        }
        Image::Bootstrap {
            reference,
            packages,
            if_missing,
        } => {
            if if_missing
                && let Some(Reply::Images { images }) =
                    ask(global, &Request::ImageList, Transfer::None).await?
                && images.iter().any(|image| image.reference == reference)
            {
                return output::print(&format!("{reference} is there\n"));
            }
            told(
                ask(
                    global,
                    &Request::ImageBootstrap {
                        reference,
                        packages,
                    },
                    Transfer::None,
                )
                .await?,
            )
        }
        Image::Import { path, tag } => {
            told(ask(global, &Request::ImageImport { tag }, Transfer::Send(&path)).await?)
        }
        Image::Export {
            reference,
            path,
            format,
        } => {
            let format = match format {
                Archive::Oci => ArchiveFormat::Oci,
                Archive::Docker => ArchiveFormat::Docker,
            };
            ask(
                global,
                &Request::ImageExport { reference, format },
                Transfer::Receive(&path),
            )
            .await
            .map(|_| ())
        }
        Image::Tag { reference, tag } => ask(
            global,
            &Request::ImageTag { reference, tag },
            Transfer::None,
        )
        .await
        .map(|_| ()),
        Image::Rm { references } => {
            for reference in references {
                ask(
                    global,
                    &Request::ImageRemove {
                        reference: reference.clone(),
                    },
                    Transfer::None,
                )
                .await?;
                output::print(&format!("{reference} removed\n"))?;
            }
            Ok(())
        }
        Image::Prune { keep_cache } => {
            let Some(Reply::Pruned { layers, bytes }) = ask(
                global,
                &Request::ImagePrune { cache: keep_cache },
                Transfer::None,
            )
            .await?
            else {
                return Ok(());
            };
            output::print(&format!(
                "{layers} layers removed, {} freed\n",
                output::bytes(bytes)
            ))
        }
    }
}

/// `boatyard doctor`.
pub(crate) async fn doctor(global: &Global, output: &Output) -> Result<ExitCode, Failure> {
    let Some(Reply::Checks { checks }) = ask(global, &Request::Doctor, Transfer::None).await?
    else {
        return Err(Failure::new("the runner gave no checks"));
    };
    crate::show::formatted(&checks, output, |_| {
        for check in &checks {
            let mark = if check.ok { "ok" } else { "BAD" };
            output::print(&format!("{mark:<4} {:<24} {}\n", check.name, check.detail))?;
            if let (false, Some(remedy)) = (check.ok, &check.remedy) {
                output::print(&format!("     {:<24} -> {remedy}\n", ""))?;
            }
        }
        Ok(())
    })?;
    Ok(if checks.iter().all(|check| check.ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `boatyard metrics`.
pub(crate) async fn metrics(global: &Global) -> Result<(), Failure> {
    match ask(global, &Request::Metrics, Transfer::None).await? {
        Some(Reply::Metrics { text }) => output::print(&text),
        _ => Err(Failure::new("the runner gave no metrics")),
    }
}

/// Mirrors from the daemon's command line.
pub(crate) fn mirrors(texts: &[String]) -> Result<boatyard_image::Options, Failure> {
    let mut options = boatyard_image::Options::default();
    for text in texts {
        let (registry, endpoint) = text.split_once('=').ok_or_else(|| {
            Failure::new(format!(
                "--mirror {text} has no `=`; write registry=http://host:port"
            ))
            .code(2)
        })?;
        let mirror = boatyard_image::Mirror {
            endpoint: endpoint.to_owned(),
        };
        options
            .mirrors
            .entry(registry.to_owned())
            .or_default()
            .push(mirror);
    }
    Ok(options)
}

fn told(reply: Option<Reply>) -> Result<(), Failure> {
    match reply {
        Some(Reply::Image { reference, digest }) => {
            output::print(&format!("{reference} {digest}\n"))
        }
        _ => Ok(()),
    }
}

fn list(images: &[boatyard_link::verbs::ImageLine], wide: bool) -> Result<(), Failure> {
    let headers = ["IMAGE", "DIGEST", "SIZE", "ARCHITECTURE", "CREATED"].map(str::to_owned);
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            let digest = if wide {
                image.digest.clone()
            } else {
                image.digest.chars().skip(7).take(12).collect()
            };
            let created = image.created.clone().unwrap_or_else(|| "<unknown>".into());
            vec![
                image.reference.clone(),
                digest,
                output::bytes(image.size_bytes),
                image.architecture.clone(),
                created,
            ]
        })
        .collect();
    if rows.is_empty() {
        eprintln!(
            "there are none; pull one, or make one with: boatyard image bootstrap debian:bookworm"
        );
        return Ok(());
    }
    output::table(&headers, &rows)
}

/// An archive that goes with a request.
pub(crate) enum Transfer<'a> {
    None,
    Send(&'a Path),
    Receive(&'a Path),
}

/// Sends one request and returns its result; progress is shown meanwhile.
pub(crate) async fn ask(
    global: &Global,
    request: &Request,
    transfer: Transfer<'_>,
) -> Result<Option<Reply>, Failure> {
    let endpoint = connect::endpoint(global).await?;
    let stream = endpoint
        .upgrade(
            &format!("/apis/boatyard.dev/v1/runners/{}/connect", global.runner),
            "boatyard-stream/1",
        )
        .await?;
    let mut frames = Framed::new(stream, Codec);
    let json = serde_json::to_vec(request).map_err(|error| Failure::from_error(&error))?;
    frames
        .send(Frame {
            kind: Kind::Request,
            payload: json.into(),
        })
        .await?;
    if let Transfer::Send(path) = transfer {
        send(&mut frames, path).await?;
    }
    let mut output: Option<Box<dyn Write>> = match transfer {
        Transfer::Receive(path) if path == Path::new("-") => Some(Box::new(std::io::stdout())),
        Transfer::Receive(path) => {
            let file = std::fs::File::create(path).map_err(|error| {
                Failure::new(format!("cannot write {}: {error}", path.display()))
            })?;
            Some(Box::new(file))
        }
        _ => None,
    };
    let mut shown = Shown::new();
    let mut result = None;
    while let Some(frame) = frames.next().await {
        let frame = frame?;
        if frame.kind == Kind::Stdout {
            if let Some(output) = &mut output {
                output.write_all(&frame.payload)?;
            }
            continue;
        }
        match serde_json::from_slice(&frame.payload).map_err(|error| Failure::from_error(&error))? {
            Reply::Layer {
                id,
                phase,
                done,
                total,
            } => shown.layer(&id, &phase, done, total),
            Reply::Message { text } => shown.message(&text),
            Reply::Done => {
                shown.end();
                return Ok(result);
            }
            Reply::Error { message, .. } => {
                shown.end();
                if let Transfer::Receive(path) = transfer {
                    let _ = std::fs::remove_file(path);
                }
                return Err(Failure::new(message));
            }
            reply => result = Some(reply),
        }
    }
    Err(Failure::new("the runner went away before it answered")
        .hint("is the daemon running? see its log"))
}

async fn send(frames: &mut Framed<Upgraded, Codec>, path: &Path) -> Result<(), Failure> {
    let cannot =
        |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
    let mut input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else if path.is_dir() {
        Box::new(archived(path).map_err(cannot)?)
    } else {
        Box::new(std::fs::File::open(path).map_err(cannot)?)
    };
    let mut buffer = vec![0; MAX_PAYLOAD];
    loop {
        let length = input.read(&mut buffer).map_err(cannot)?;
        frames
            .send(Frame {
                kind: Kind::Stdin,
                payload: Bytes::copy_from_slice(&buffer[..length]),
            })
            .await?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// A folder's archive in an unnamed file.
fn archived(folder: &Path) -> std::io::Result<std::fs::File> {
    use std::io::Seek;
    let memory = rustix::fs::memfd_create("boatyard-import", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut archive = tar::Builder::new(std::fs::File::from(memory));
    archive.append_dir_all(".", folder)?;
    let mut file = archive.into_inner()?;
    file.rewind()?;
    Ok(file)
}

/// Progress of layers: bars on a terminal, lines otherwise.
struct Shown {
    bars: Option<MultiProgress>,
    layers: HashMap<String, (ProgressBar, String)>,
}

impl Shown {
    fn new() -> Self {
        Self {
            bars: std::io::stderr().is_terminal().then(MultiProgress::new),
            layers: HashMap::new(),
        }
    }

    fn message(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    fn layer(&mut self, id: &str, phase: &str, done: u64, total: Option<u64>) {
        let bars = self.bars.clone();
        let (bar, last) = self.layers.entry(id.to_owned()).or_insert_with(|| {
            let bar = bars.map_or_else(ProgressBar::hidden, |bars| bars.add(ProgressBar::new(0)));
            let template = "{prefix:12} {msg:12} {bar:30} {binary_bytes:>10}/{binary_total_bytes:10} {binary_bytes_per_sec:>12} {eta:>4}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(id.chars().take(12).collect::<String>());
            (bar, String::new())
        });
        bar.set_length(total.unwrap_or(done));
        bar.set_position(done);
        if phase == last {
            return;
        }
        phase.clone_into(last);
        bar.set_message(phase.to_owned());
        if phase == "done" || phase == "cached" {
            bar.finish();
        }
        if self.bars.is_none() {
            let size = total
                .map(|total| format!(" ({})", output::bytes(total)))
                .unwrap_or_default();
            eprintln!("{id} {phase}{size}");
        }
    }

    fn end(&mut self) {
        for (bar, _) in self.layers.values() {
            bar.abandon();
        }
    }
}
