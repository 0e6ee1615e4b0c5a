//! A runner's one outbound connection, carrying many streams.
//!
//! The runner dials the server, upgrades to [`PROTOCOL`], and calls [`accept`]; the server hands
//! the upgraded connection to [`Registry::serve`] and later opens streams through it with
//! [`Registry::open`]. Each stream begins with a length-prefixed JSON [`Target`] from the server
//! and a length-prefixed JSON [`Answer`] from the runner; after a good answer it carries bytes that
//! nobody here looks into. Multiplexing is yamux (one flow-control window per stream).
//!
//! A newer connection of the same runner replaces the older; when the connection ends, every
//! stream in it ends, and the runner dials again. Both ends ask each other whether they live, and
//! give up a connection on which nothing comes: its other end may have vanished without a word.

use futures::future::poll_fn;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// Value of the `Upgrade` header.
pub const PROTOCOL: &str = "boatyard-tunnel/1";

/// Longest header or answer in bytes.
const MAX_HEADER: usize = 16 * 1024;
/// How long a runner may take to answer the opening of a stream.
const OPEN_DEADLINE: Duration = Duration::from_secs(15);
/// How long a runner that is not connected is waited for: it dials again at once, and one that was
/// just started on a slow machine takes a while.
const REDIAL: Duration = Duration::from_secs(15);
/// How often yamux gets to ask whether the other end lives; it does not more often than this.
const PING: Duration = Duration::from_secs(10);
/// A connection on which nothing came for so long is dead.
const SILENCE: Duration = Duration::from_secs(30);
/// Streams waiting to be opened or accepted per connection.
const BACKLOG: usize = 64;

/// A stream inside a tunnel.
pub type Stream = Compat<yamux::Stream>;

/// Where a stream leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Uid of the environment, empty when the runner itself is meant.
    pub environment_uid: String,
    /// What of it.
    pub kind: TargetKind,
    /// User and group id of a caller on the server's own host, by the socket's word; only such a
    /// caller's folders are opened.
    #[serde(default)]
    pub local: Option<(u32, u32)>,
    /// Whether the caller is an administrator, by the server's word: of the runner's own verbs the
    /// others have few.
    #[serde(default)]
    pub admin: bool,
}

/// What a stream speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetKind {
    /// The environment's agent: the stream carries `wire`.
    Agent,
    /// The runner's own verbs: the stream carries [`crate::verbs`].
    Runner,
    /// Output of the environment's lifecycle commands, as text, whether it runs or not.
    Logs,
    /// The environment's lifecycle commands on request: the stream carries [`crate::lifecycle`].
    Lifecycle,
    /// Live figures of the environment: the stream carries [`crate::usage`].
    Usage,
}

/// The runner's answer to a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// One sentence saying why not; None when the stream is connected.
    pub refused: Option<String>,
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection from that runner.
    #[error("runner {0} is not connected to this server; wait for it to come back or restart it")]
    NotConnected(String),
    /// The connection broke.
    #[error("the connection to runner {0} broke")]
    Broken(String, #[source] std::io::Error),
    /// It took too long.
    #[error("runner {0} did not answer within {seconds} seconds", seconds = OPEN_DEADLINE.as_secs())]
    Timeout(String),
    /// The runner said no.
    #[error("{0}")]
    Refused(String),
}

type Opened = oneshot::Sender<Result<yamux::Stream, yamux::ConnectionError>>;

/// The server's end of every connected runner. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    runners: Arc<Mutex<HashMap<String, mpsc::Sender<Opened>>>>,
    connected: Arc<tokio::sync::Notify>,
    neighbour: Arc<OnceLock<Neighbour>>,
}

/// A runner in the server's own process, whose environments are reached without its tunnel.
pub struct Neighbour {
    /// Its name.
    pub runner: String,
    /// Where the agent's socket of an environment is, by the environment's uid; None of what is none.
    pub agents: Agents,
}

/// From an environment's uid to a path.
pub type Agents = Box<dyn Fn(&str) -> Option<PathBuf> + Send + Sync>;

impl std::fmt::Debug for Neighbour {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.runner)
    }
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn runners(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::Sender<Opened>>> {
        self.runners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the server's end of a connection until it ends or is dropped.
    pub async fn serve<S>(&self, runner: String, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (opens, requests) = mpsc::channel(BACKLOG);
        self.runners().insert(runner.clone(), opens.clone());
        self.connected.notify_waiters();
        let _connected = Connected {
            registry: self,
            runner,
            opens,
        };
        let (inbound, _) = mpsc::channel(1);
        drive(stream, yamux::Mode::Client, requests, inbound).await;
    }

    /// Whether the runner is connected.
    #[must_use]
    pub fn connected(&self, runner: &str) -> bool {
        self.runners().contains_key(runner)
    }

    /// The connection of `runner`; waits a little for one that is just dialling in again.
    async fn connection(&self, runner: &str) -> Result<mpsc::Sender<Opened>, Error> {
        let waiting = async {
            loop {
                let connected = self.connected.notified();
                tokio::pin!(connected);
                connected.as_mut().enable();
                if let Some(opens) = self.runners().get(runner).cloned() {
                    return opens;
                }
                connected.await;
            }
        };
        let waited = tokio::time::timeout(REDIAL, waiting).await;
        waited.map_err(|_| Error::NotConnected(runner.to_owned()))
    }

    /// Makes a runner of this process known; the first one counts.
    pub fn meet(&self, neighbour: Neighbour) {
        let _ = self.neighbour.set(neighbour);
    }

    /// The agent's socket of an environment, where the runner is of this process and the environment
    /// runs.
    pub async fn near(&self, runner: &str, environment_uid: &str) -> Option<UnixStream> {
        let neighbour = self.neighbour.get().filter(|near| near.runner == runner)?;
        let socket = (neighbour.agents)(environment_uid)?;
        UnixStream::connect(socket).await.ok()
    }

    /// Opens a stream to `target` on `runner`.
    ///
    /// # Errors
    /// When the runner is not connected, does not answer in time, or refuses.
    pub async fn open(&self, runner: &str, target: &Target) -> Result<Stream, Error> {
        let opens = self.connection(runner).await?;
        let opening = async {
            let broken = |error: std::io::Error| Error::Broken(runner.to_owned(), error);
            let (answer, opened) = oneshot::channel();
            let gone = || Error::NotConnected(runner.to_owned());
            opens.send(answer).await.map_err(|_| gone())?;
            let stream = opened.await.map_err(|_| gone())?;
            let mut stream = stream
                .map_err(|error| broken(std::io::Error::other(error)))?
                .compat();
            write_json(&mut stream, target).await.map_err(broken)?;
            let answer: Answer = read_json(&mut stream).await.map_err(broken)?;
            match answer.refused {
                None => Ok(stream),
                Some(why) => Err(Error::Refused(why)),
            }
        };
        let timeout = tokio::time::timeout(OPEN_DEADLINE, opening).await;
        timeout.map_err(|_| Error::Timeout(runner.to_owned()))?
    }
}

/// A runner's connection; when it ends the runner is no longer connected, unless by a newer one.
struct Connected<'a> {
    registry: &'a Registry,
    runner: String,
    opens: mpsc::Sender<Opened>,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        let mut runners = self.registry.runners();
        let current = runners.get(&self.runner);
        if current.is_some_and(|current| current.same_channel(&self.opens)) {
            runners.remove(&self.runner);
        }
    }
}

/// A stream the server asks for; answer it with [`Incoming::accept`] or [`Incoming::refuse`].
#[derive(Debug)]
pub struct Incoming {
    stream: Stream,
}

impl Incoming {
    /// Reads where the stream is to lead.
    ///
    /// # Errors
    /// When the stream breaks or carries no target.
    pub async fn target(&mut self) -> std::io::Result<Target> {
        read_json(&mut self.stream).await
    }

    /// Says yes; the stream then carries bytes.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn accept(mut self) -> std::io::Result<Stream> {
        write_json(&mut self.stream, &Answer { refused: None }).await?;
        Ok(self.stream)
    }

    /// Says no, with one sentence for the user.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn refuse(mut self, why: String) -> std::io::Result<()> {
        write_json(&mut self.stream, &Answer { refused: Some(why) }).await?;
        self.stream.shutdown().await
    }
}

/// The runner's end: streams come out of the channel until the connection ends; the returned
/// future drives the connection and must be polled.
pub fn accept<S>(stream: S) -> (mpsc::Receiver<Incoming>, impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let (_keep, requests) = mpsc::channel(1);
    let driving = async move {
        let _keep = _keep;
        drive(stream, yamux::Mode::Server, requests, sender).await;
    };
    (receiver, driving)
}

fn config() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(1024);
    config.set_max_connection_receive_window(None);
    config.set_split_send_size(16 * 1024);
    config
}

/// Moves a connection forward until it ends: yamux does all its I/O inside its poll functions.
async fn drive<S>(
    stream: S,
    mode: yamux::Mode,
    mut requests: mpsc::Receiver<Opened>,
    inbound: mpsc::Sender<Incoming>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let heard = Arc::new(AtomicBool::new(false));
    let stream = Listened {
        stream,
        heard: heard.clone(),
    };
    let mut connection = yamux::Connection::new(stream.compat(), config(), mode);
    let mut opening: Option<Opened> = None;
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut silent = Duration::ZERO;
    poll_fn(|context| {
        // What is polled below sends what is due. A process that slept through ticks counts one.
        while pings.poll_tick(context).is_ready() {
            silent = match heard.swap(false, Ordering::Relaxed) {
                true => Duration::ZERO,
                false => silent + PING,
            };
            if silent > SILENCE {
                return Poll::Ready(());
            }
        }
        loop {
            if opening.is_none()
                && let Poll::Ready(Some(request)) = requests.poll_recv(context)
            {
                opening = Some(request);
            }
            if let Some(answer) = opening.take() {
                match connection.poll_new_outbound(context) {
                    Poll::Ready(stream) => {
                        // A caller that gave up drops the stream, which closes it.
                        let _ = answer.send(stream);
                        continue;
                    }
                    Poll::Pending => opening = Some(answer),
                }
            }
            match connection.poll_next_inbound(context) {
                Poll::Ready(Some(Ok(stream))) => {
                    // When nobody takes streams (backlog full), dropping it resets it.
                    let _ = inbound.try_send(Incoming {
                        stream: stream.compat(),
                    });
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// A stream that remembers that something was read from it.
struct Listened<S> {
    stream: S,
    heard: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn write_json<T: Serialize>(stream: &mut Stream, value: &T) -> std::io::Result<()> {
    let json = serde_json::to_vec(value)?;
    let length = u16::try_from(json.len()).map_err(std::io::Error::other)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(&json);
    stream.write_all(&message).await?;
    stream.flush().await
}

async fn read_json<T: for<'de> Deserialize<'de>>(stream: &mut Stream) -> std::io::Result<T> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_HEADER {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "stream header too long",
        ));
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json).await?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests;
