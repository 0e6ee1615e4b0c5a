//! The agent: its executable, and speaking to one through its socket.
//!
//! The executable is embedded (built static by this crate's build script) and written once per
//! digest into the state directory, owned by host root and outside every environment: nothing
//! inside can write it. Replies are untrusted: sizes are bounded and nothing in them names a path.

use crate::lifecycle::Printer;
use boatyard_link::frames::{Channel, Incoming, Receiver, Sender};
use boatyard_wire::{Process, Reply, Request, TaskState};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

static EXECUTABLE: &[u8] = include_bytes!(env!("BOATYARD_AGENT"));

/// How long an agent may take to answer a question that needs no work.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes of output kept in memory.
const OUTPUT_LIMIT: usize = 1024 * 1024;

/// Why the agent could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("the environment's agent does not answer")]
    Connect(#[source] std::io::Error),
    /// The stream broke.
    #[error("the connection to the environment's agent broke")]
    Broken(#[from] boatyard_link::frames::Error),
    /// It closed the stream before the answer.
    #[error("the environment's agent ended before answering")]
    Closed,
    /// It took too long.
    #[error("the environment's agent did not answer within {} seconds", DEADLINE.as_secs())]
    Timeout,
    /// It said no.
    #[error("{message}")]
    Refused {
        /// Stable word.
        reason: String,
        /// One sentence.
        message: String,
    },
}

/// Writes the agent's executable below `directory` unless it is there, and returns its path.
///
/// # Errors
/// When it cannot be written.
pub fn install(directory: &Path) -> std::io::Result<PathBuf> {
    let digest = hex::encode(&Sha256::digest(EXECUTABLE)[..16]);
    let path = directory.join(format!("boatyard-agent-{digest}"));
    // What a kill left half written; the state directory has one user at a time.
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some() {
            std::fs::remove_file(path)?;
        }
    }
    if std::fs::metadata(&path).is_ok_and(|there| there.len() == EXECUTABLE.len() as u64) {
        return Ok(path);
    }
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, EXECUTABLE)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&fresh, &path)?;
    Ok(path)
}

/// How a process ended and the end of what it printed.
#[derive(Clone, Debug)]
pub struct Ended {
    /// As a shell gives it.
    pub code: i32,
    /// Standard output, at most [`OUTPUT_LIMIT`] bytes.
    pub stdout: Vec<u8>,
    /// Last bytes of standard output and error together.
    pub tail: Vec<u8>,
}

/// Asks whether the agent answers.
///
/// # Errors
/// When it does not.
pub async fn ping(socket: &Path) -> Result<(), Error> {
    let answering = async {
        match call(socket, &Request::Info).await? {
            Reply::Info { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    };
    tokio::time::timeout(DEADLINE, answering)
        .await
        .unwrap_or(Err(Error::Timeout))
}

/// Tells the agent something it answers with `Done`.
///
/// # Errors
/// When it does not answer or refuses.
pub async fn tell(socket: &Path, request: &Request) -> Result<(), Error> {
    let answering = async {
        match call(socket, request).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    };
    tokio::time::timeout(DEADLINE, answering)
        .await
        .unwrap_or(Err(Error::Timeout))
}

/// Asks every process to end and waits until the agent said so or is gone.
///
/// # Errors
/// When the agent does not answer in the grace period and a little more.
pub async fn shutdown(socket: &Path, grace: Duration) -> Result<(), Error> {
    let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    let ending = async {
        match call(socket, &Request::Shutdown { grace_millis }).await {
            Ok(Reply::Exit { .. }) | Err(Error::Closed | Error::Broken(_)) => Ok(()),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Err(error),
        }
    };
    tokio::time::timeout(grace + DEADLINE, ending)
        .await
        .unwrap_or(Err(Error::Timeout))
}

/// Runs a durable task to its end (see [`Request::Task`]); what it prints is printed too.
///
/// # Errors
/// When the agent refuses or goes away; the task itself may then still run.
pub(crate) async fn task(
    socket: &Path,
    name: String,
    run: u64,
    process: Process,
    printer: &mut Printer,
) -> Result<Ended, Error> {
    let request = Request::Task { name, run, process };
    collect(socket, &request, Some(printer)).await
}

/// Begins a durable task and does not wait for its end.
pub(crate) async fn begin(socket: &Path, name: String, process: Process) -> Result<(), Error> {
    let request = Request::Task {
        name,
        run: 0,
        process,
    };
    let answering = async {
        match call(socket, &request).await? {
            Reply::Started { .. } | Reply::Exit { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    };
    tokio::time::timeout(DEADLINE, answering)
        .await
        .unwrap_or(Err(Error::Timeout))
}

/// A durable task that runs, or ran.
pub struct Launched {
    /// Both halves: without the sending one the stream would end.
    channel: (Sender<UnixStream>, Receiver<UnixStream>),
    code: Option<i32>,
}

/// Starts a durable task (see [`Request::Task`]), or attaches to the one of this name.
///
/// # Errors
/// When the agent refuses, goes away or does not answer.
pub async fn launch(socket: &Path, name: String, process: Process) -> Result<Launched, Error> {
    let starting = async {
        let request = Request::Task {
            name,
            run: 0,
            process,
        };
        let mut channel = Channel::open(connect(socket).await?, &request).await?;
        loop {
            let code = match channel.1.next().await?.ok_or(Error::Closed)? {
                Incoming::Reply(Reply::Started { .. }) => None,
                Incoming::Reply(Reply::Exit { code, .. }) => Some(code),
                Incoming::Reply(Reply::Error { reason, message }) => {
                    return Err(Error::Refused { reason, message });
                }
                Incoming::Reply(_) | Incoming::Stdout(_) | Incoming::Stderr(_) => continue,
            };
            return Ok(Launched { channel, code });
        }
    };
    tokio::time::timeout(DEADLINE, starting)
        .await
        .unwrap_or(Err(Error::Timeout))
}

impl Launched {
    /// Waits for its end; its output is in its log.
    ///
    /// # Errors
    /// When the agent goes away.
    pub async fn ended(mut self) -> Result<i32, Error> {
        loop {
            if let Some(code) = self.code {
                return Ok(code);
            }
            if let Incoming::Reply(Reply::Exit { code, .. }) =
                self.channel.1.next().await?.ok_or(Error::Closed)?
            {
                self.code = Some(code);
            }
        }
    }
}

/// The tasks an agent has run since it started.
///
/// # Errors
/// When it does not answer.
pub async fn tasks(socket: &Path) -> Result<BTreeMap<String, TaskState>, Error> {
    let answering = async {
        match call(socket, &Request::Tasks).await? {
            Reply::Tasks { tasks } => Ok(tasks),
            other => Err(unexpected(&other)),
        }
    };
    tokio::time::timeout(DEADLINE, answering)
        .await
        .unwrap_or(Err(Error::Timeout))
}

/// Runs a process and collects its output.
///
/// # Errors
/// When the agent refuses or goes away.
pub async fn exec(socket: &Path, process: Process) -> Result<Ended, Error> {
    collect(socket, &Request::Exec(process), None).await
}

async fn connect(socket: &Path) -> Result<UnixStream, Error> {
    UnixStream::connect(socket).await.map_err(Error::Connect)
}

async fn call(socket: &Path, request: &Request) -> Result<Reply, Error> {
    let (_sender, mut receiver) = Channel::open(connect(socket).await?, request).await?;
    loop {
        match receiver.next().await?.ok_or(Error::Closed)? {
            Incoming::Reply(Reply::Error { reason, message }) => {
                return Err(Error::Refused { reason, message });
            }
            Incoming::Reply(reply) => return Ok(reply),
            Incoming::Stdout(_) | Incoming::Stderr(_) => {}
        }
    }
}

async fn collect(
    socket: &Path,
    request: &Request,
    mut printer: Option<&mut Printer>,
) -> Result<Ended, Error> {
    let (_sender, mut receiver) = Channel::open(connect(socket).await?, request).await?;
    let mut ended = Ended {
        code: 0,
        stdout: Vec::new(),
        tail: Vec::new(),
    };
    loop {
        match receiver.next().await?.ok_or(Error::Closed)? {
            Incoming::Stdout(bytes) => {
                if let Some(printer) = &mut printer {
                    printer.print(&bytes).await;
                }
                let room = OUTPUT_LIMIT.saturating_sub(ended.stdout.len());
                ended
                    .stdout
                    .extend_from_slice(&bytes[..bytes.len().min(room)]);
                keep_tail(&mut ended.tail, &bytes);
            }
            Incoming::Stderr(bytes) => keep_tail(&mut ended.tail, &bytes),
            Incoming::Reply(Reply::Exit { code, .. }) => {
                ended.code = code;
                return Ok(ended);
            }
            Incoming::Reply(Reply::Error { reason, message }) => {
                return Err(Error::Refused { reason, message });
            }
            Incoming::Reply(_) => {}
        }
    }
}

fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    const TAIL: usize = 2048;
    tail.extend_from_slice(bytes);
    if tail.len() > TAIL {
        tail.drain(..tail.len() - TAIL);
    }
}

fn unexpected(reply: &Reply) -> Error {
    match reply {
        Reply::Error { reason, message } => Error::Refused {
            reason: reason.clone(),
            message: message.clone(),
        },
        _ => Error::Refused {
            reason: "internal".into(),
            message: "the environment's agent gave an answer to another question".into(),
        },
    }
}
