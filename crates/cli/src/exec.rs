//! `exec`, `sh`, `logs`: streams to an environment.
//!
//! The stream carries `wire` frames from here to the agent unchanged. A terminal here means one
//! inside, in raw mode, restored however this ends; otherwise three byte streams and the signals
//! that end a program are passed on.
//!
//! Read next: [`terminal`].

mod terminal;

use crate::args::{Exec, Global};
use crate::connect;
use crate::failure::Failure;
use boatyard_link::client::{Endpoint, Upgraded};
use boatyard_link::frames::{Channel, Incoming, Sender};
use boatyard_wire::{Control, END_OF_INPUT, Process, Reply, Request, WindowSize};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use terminal::Terminal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Value of the `Upgrade` header of a stream to an environment.
pub(crate) const PROTOCOL: &str = "boatyard-stream/1";

/// `boatyard exec`.
pub(crate) async fn exec(global: &Global, exec: Exec) -> Result<ExitCode, Failure> {
    let mut env = BTreeMap::new();
    for pair in &exec.env {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Failure::new(format!("--env {pair} has no `=`; write NAME=value")).code(2)
        })?;
        env.insert(name.to_owned(), Some(value.to_owned()));
    }
    let tty = exec.tty
        || (!exec.no_tty && std::io::stdin().is_terminal() && std::io::stdout().is_terminal());
    let process = Process {
        argv: exec.command,
        env,
        cwd: exec.workdir,
        user: exec.user,
        stdin: true,
        ..Process::default()
    };
    let endpoint = connect::endpoint(global).await?;
    attach(&endpoint, &global.namespace, &exec.name, process, tty).await
}

/// `boatyard sh`.
pub(crate) async fn shell(
    global: &Global,
    name: &str,
    user: Option<String>,
) -> Result<ExitCode, Failure> {
    let endpoint = connect::endpoint(global).await?;
    let tty = std::io::stdin().is_terminal();
    let process = Process {
        user,
        stdin: true,
        ..Process::default()
    };
    let attaching = crate::hooks::attached(&endpoint, &global.namespace, name, false);
    let shell = attach(&endpoint, &global.namespace, name, process, tty);
    tokio::join!(shell, attaching).0
}

/// `boatyard logs`.
pub(crate) async fn logs(global: &Global, name: &str) -> Result<(), Failure> {
    let endpoint = connect::endpoint(global).await?;
    let mut stream = endpoint
        .upgrade(&path(&global.namespace, name, "log"), PROTOCOL)
        .await?;
    let mut buffer = vec![0; 64 * 1024];
    let mut out = std::io::stdout().lock();
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 || out.write_all(&buffer[..length]).is_err() {
            return Ok(());
        }
    }
}

pub(crate) fn path(namespace: &str, name: &str, door: &str) -> String {
    format!("/apis/boatyard.dev/v1/namespaces/{namespace}/environments/{name}/{door}")
}

/// Raw mode of a terminal, undone when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn window() -> WindowSize {
    let size = tcgetwinsize(std::io::stdout()).or_else(|_| tcgetwinsize(std::io::stdin()));
    size.map_or(WindowSize { rows: 24, cols: 80 }, |size| WindowSize {
        rows: size.ws_row,
        cols: size.ws_col,
    })
}

/// Runs a process inside with this process's streams, and takes over how it ends.
pub(crate) async fn attach(
    endpoint: &Endpoint,
    namespace: &str,
    name: &str,
    mut process: Process,
    tty: bool,
) -> Result<ExitCode, Failure> {
    if tty {
        process.tty = Some(window());
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm-256color".into());
        process.env.entry("TERM".into()).or_insert(Some(term));
    }
    let stream = endpoint
        .upgrade(&path(namespace, name, "connect"), PROTOCOL)
        .await?;
    let given = stream.given().filter(|_| tty);
    process.hand_over = given.is_some();
    let (sender, mut receiver) = Channel::open(stream, &Request::Exec(process)).await?;
    let mut ends = Some((sender, given));
    let mut going = None;
    let mut shown: Option<Arc<Terminal>> = None;
    let outcome = loop {
        let incoming = tokio::select! {
            // Output is read from one end; the other has lines that are put between it, and the end.
            bytes = Terminal::read_some(shown.as_deref()), if shown.is_some() => {
                match bytes {
                    Some(bytes) => write(&mut std::io::stdout(), &bytes)?,
                    None => shown = None,
                }
                continue;
            }
            incoming = receiver.next() => incoming,
        };
        match incoming {
            Ok(Some(Incoming::Stdout(bytes))) => write(&mut std::io::stdout(), &bytes)?,
            Ok(Some(Incoming::Stderr(bytes))) => write(&mut std::io::stderr(), &bytes)?,
            Ok(Some(Incoming::Reply(reply))) => {
                if let Some(code) = reply.exit_code() {
                    break Ok((code, reply));
                }
                // It runs, and is typed to from now on.
                if let Some((sender, given)) = ends.take() {
                    if matches!(reply, Reply::Terminal { .. }) {
                        shown = Some(Arc::new(Terminal::take(given)?));
                    }
                    let is_raw = tty && std::io::stdin().is_terminal();
                    let raw = is_raw.then(Raw::enter).flatten();
                    going = Some((raw, tokio::spawn(send(sender, tty, shown.clone()))));
                }
            }
            Ok(None) => break Err(Failure::new(format!("environment {name} ended")).code(125)),
            Err(error) => break Err(Failure::from_error(&error).code(125)),
        }
    };
    if let Some((_, sending)) = &going {
        sending.abort();
    }
    if let Some(terminal) = shown.filter(|_| outcome.is_ok()) {
        terminal
            .rest(|bytes| write(&mut std::io::stdout(), bytes))
            .await?;
    }
    let (code, reply) = outcome?;
    let code = u8::try_from(code).unwrap_or(1);
    match reply {
        Reply::Error { message, .. } => Err(Failure::new(message).code(code)),
        _ => Ok(ExitCode::from(code)),
    }
}

fn write(out: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::from_error(&error))
}

/// Sends standard input, window changes and signals until aborted.
async fn send(mut sender: Sender<Upgraded>, tty: bool, terminal: Option<Arc<Terminal>>) {
    let mut input = Input::open(tty);
    if tty {
        // Whoever types waits for this process too.
        boatyard_sandbox::group::hasten_threads();
    }
    let mut resized = signal(SignalKind::window_change()).ok();
    let mut interrupted = signal(SignalKind::interrupt()).ok();
    let mut terminated = signal(SignalKind::terminate()).ok();
    let mut hung_up = signal(SignalKind::hangup()).ok();
    let mut open = true;
    // Of what is typed straight into the terminal: signals and sizes overtake what it does not take yet.
    let mut typed = Vec::new();
    loop {
        let sent = tokio::select! {
            chunk = input.read(), if open && typed.is_empty() => {
                open = chunk.is_some();
                match (chunk, &terminal) {
                    (Some(chunk), None) => sender.stdin(&chunk).await,
                    (None, None) => sender.close_stdin().await,
                    (chunk, Some(_)) => {
                        typed = chunk.unwrap_or_else(|| vec![END_OF_INPUT]);
                        Ok(())
                    }
                }
            },
            written = Terminal::write_some(terminal.as_deref(), &typed), if !typed.is_empty() => {
                match written {
                    Ok(written) => drop(typed.drain(..written)),
                    // Nobody reads it any more; how that ended is on its way.
                    Err(_) => (open, typed) = (false, Vec::new()),
                }
                Ok(())
            },
            () = received(&mut resized), if tty => sender.control(Control::Resize(window())).await,
            () = received(&mut interrupted) => sender.control(Control::Signal { signal: 2 }).await,
            () = received(&mut terminated) => sender.control(Control::Signal { signal: 15 }).await,
            () = received(&mut hung_up) => sender.control(Control::Signal { signal: 1 }).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Standard input.
enum Input {
    /// A terminal, opened once more, so that its other users' reads go on waiting.
    Terminal(pipe::Receiver),
    /// Whatever else, read by a thread: such a read cannot be cancelled.
    Thread(mpsc::Receiver<Vec<u8>>),
}

/// Bytes read at once.
const CHUNK: usize = 32 * 1024;

impl Input {
    fn open(tty: bool) -> Self {
        match tty.then(Self::terminal) {
            Some(Ok(terminal)) => Self::Terminal(terminal),
            // Of another user, or there is no /proc.
            Some(Err(_)) | None => {
                let (chunks, input) = mpsc::channel(4);
                std::thread::spawn(move || read_stdin(&chunks));
                Self::Thread(input)
            }
        }
    }

    fn terminal() -> std::io::Result<pipe::Receiver> {
        let name = rustix::termios::ttyname(std::io::stdin(), Vec::new())?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(name, flags, Mode::empty())?;
        // Read like a pipe: as a stream, when there is something.
        pipe::Receiver::from_owned_fd_unchecked(terminal)
    }

    /// The next bytes; None at the end.
    async fn read(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Thread(input) => input.recv().await,
            Self::Terminal(terminal) => {
                let mut buffer = vec![0; CHUNK];
                let length = terminal.read(&mut buffer).await.ok()?;
                buffer.truncate(length);
                (length > 0).then_some(buffer)
            }
        }
    }
}

fn read_stdin(chunks: &mpsc::Sender<Vec<u8>>) {
    use std::io::Read;
    let mut stdin = std::io::stdin().lock();
    let mut buffer = vec![0; CHUNK];
    while let Ok(length) = stdin.read(&mut buffer) {
        if length == 0 || chunks.blocking_send(buffer[..length].to_vec()).is_err() {
            return;
        }
    }
}

async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
