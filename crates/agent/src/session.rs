//! One connection: a caller, its call, and the bytes between them.
//!
//! Backpressure both ways: output is read only while the caller takes it, the caller is read only
//! while the process takes its input (a bound of [`MOST_INPUT`] apart, so that signals and sizes
//! overtake input that waits). When the caller goes (its stream ends or breaks), the server hangs the
//! process up.
//!
//! A caller that asks for it gets the terminal itself: then its bytes are the caller's business, and a
//! keystroke does not wait for the agent to be let in.
//!
//! The end of a call: when the main process has ended and its output too. A background process that
//! keeps the output open does not hold the call (docker's way, not ssh's): what comes within [`LINGER`]
//! and what lies in the pipes then is delivered, the rest is not.

use crate::buffer::Buffer;
use crate::failure::Failure;
use crate::spawn::{self, Spawned};
use crate::stage;
use boatyard_wire::frame::{self, Decoder, Kind};
use boatyard_wire::{Control, END_OF_INPUT, LINGER, Reply};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Pid, Signal, WaitStatus};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Output waits in its pipe while the caller has this much to take.
const MOST_OUTGOING: usize = 128 * 1024;
/// The caller is not read while the process has this much to take.
const MOST_INPUT: usize = 256 * 1024;
/// Time for the first frame.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time for a caller to close after the last frame reached it.
const FAREWELL: Duration = Duration::from_secs(2);
/// Time for a caller to take the next piece of what waits for it after the call's end.
const SLOWEST: Duration = Duration::from_secs(600);
const SKIPPED: &[u8] = b"\n[boatyard: output skipped here, the log has all of it]\n";

/// How a process ended, as a shell tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    signal: Option<i32>,
}

impl From<WaitStatus> for Ended {
    fn from(status: WaitStatus) -> Self {
        let signal = status.terminating_signal();
        let code = signal.map_or_else(
            || status.exit_status().unwrap_or(255),
            |signal| 128 + signal,
        );
        Self { code, signal }
    }
}

impl From<Ended> for Reply {
    fn from(ended: Ended) -> Self {
        Self::Exit {
            code: ended.code,
            signal: ended.signal,
        }
    }
}

/// The connection is of no more use.
#[derive(Debug)]
pub(crate) struct Gone;

/// What a connection is about.
#[derive(Debug)]
pub(crate) enum Call {
    /// The request has not come.
    Waiting { until: Instant },
    /// Bytes are copied to and from a process or a TCP connection.
    Copying(Box<Copying>),
    /// Attached to the task of this number.
    Task(u32),
    /// Waits for the environment's end.
    Shutdown,
    /// The last frame is on its way or there; what the caller still sends is read and dropped, for
    /// closing with unread bytes would look like a failure at the other end.
    Closing { until: Instant, said: bool },
}

/// A process or TCP connection whose bytes are copied.
#[derive(Debug)]
pub(crate) struct Copying {
    /// None for a TCP connection.
    pub(crate) pid: Option<Pid>,
    /// A stage that has not reported yet.
    pub(crate) control: Option<OwnedFd>,
    /// A TCP connection that is not made yet.
    pub(crate) connecting: bool,
    pub(crate) input: Option<OwnedFd>,
    pending: Buffer,
    close_input: bool,
    pub(crate) outputs: [Option<OwnedFd>; 2],
    terminal: Option<OwnedFd>,
    /// Whether the caller takes the terminal.
    hand_over: bool,
    pub(crate) ended: Option<Ended>,
    /// After `ended`: until when output is waited for, then how much of each is still taken.
    linger: Option<Instant>,
    left: Option<[u64; 2]>,
}

impl Copying {
    pub(crate) fn process(spawned: Spawned) -> Self {
        Self {
            pid: Some(spawned.pid),
            control: Some(spawned.control),
            connecting: false,
            input: spawned.input,
            pending: Buffer::default(),
            close_input: false,
            outputs: spawned.outputs,
            terminal: spawned.terminal,
            hand_over: spawned.hand_over,
            ended: None,
            linger: None,
            left: None,
        }
    }

    /// Both descriptors are of one non-blocking TCP socket whose connection is being made.
    pub(crate) fn tcp(input: OwnedFd, output: OwnedFd) -> Self {
        Self {
            pid: None,
            control: None,
            connecting: true,
            input: Some(input),
            pending: Buffer::default(),
            close_input: false,
            outputs: [Some(output), None],
            terminal: None,
            hand_over: false,
            ended: None,
            linger: None,
            left: None,
        }
    }

    pub(crate) fn wants_input(&self) -> bool {
        self.connecting || !self.pending.is_empty() || self.close_input
    }

    /// Whether the process runs or the connection is made, so that output may be passed on.
    pub(crate) fn is_up(&self) -> bool {
        self.control.is_none() && !self.connecting
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.input.is_none() || self.close_input {
            return;
        }
        if bytes.is_empty() {
            self.close_input = true;
        } else {
            self.pending.tail().extend_from_slice(bytes);
        }
        if self.is_up() || self.pid.is_some() {
            self.push_input();
        }
    }

    /// Gives the process what it takes of its input now.
    pub(crate) fn push_input(&mut self) {
        let Some(input) = &self.input else { return };
        match self.pending.flush(input) {
            Ok(false) => {}
            Ok(true) if !self.close_input => {}
            Ok(true) if self.terminal.is_some() => {
                self.close_input = false;
                self.pending.tail().push(END_OF_INPUT);
                if self.pending.flush(input).is_err() {
                    self.pending.clear();
                }
            }
            Ok(true) => {
                self.close_input = false;
                if self.pid.is_none() {
                    let _ = rustix::net::shutdown(input, rustix::net::Shutdown::Write);
                }
                self.input = None;
            }
            // It reads no more; what is sent to it is dropped, as a shell's pipe does.
            Err(_) => {
                self.pending.clear();
                self.close_input = false;
                self.input = None;
            }
        }
    }
}

/// A caller's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
    pub(crate) outgoing: Buffer,
    pub(crate) call: Call,
    skipped: bool,
}

/// What a frame asks of the server.
pub(crate) enum Asked {
    Nothing,
    Request(boatyard_wire::Request),
    Bad(Failure),
}

impl Connection {
    pub(crate) fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            outgoing: Buffer::default(),
            call: Call::Waiting {
                until: now + PATIENCE,
            },
            skipped: false,
        }
    }

    /// Whether to read from the caller now.
    pub(crate) fn wants_frames(&self) -> bool {
        match &self.call {
            Call::Copying(copying) => copying.pending.len() < MOST_INPUT,
            _ => true,
        }
    }

    /// Whether to read output for the caller now.
    pub(crate) fn wants_output(&self) -> bool {
        self.outgoing.len() < MOST_OUTGOING
    }

    /// When [`Connection::settle`] may have something to do though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.call {
            Call::Waiting { until } | Call::Closing { until, .. } => Some(*until),
            Call::Copying(copying) => copying.linger.filter(|_| copying.left.is_none()),
            Call::Task(_) | Call::Shutdown => None,
        }
    }

    /// Takes one frame off the front of what was read; `None` when there is no whole one.
    pub(crate) fn take_frame(&mut self, input: &mut &[u8]) -> Option<Asked> {
        if matches!(self.call, Call::Closing { .. }) {
            // Nothing more is asked, and the frames' boundaries may be lost.
            *input = &[];
            return None;
        }
        let (kind, payload) = match self.decoder.next(input) {
            Ok(frame) => frame?,
            Err(error) => {
                *input = &[];
                return Some(Asked::Bad(Failure::bad_request(format!(
                    "{error}; reconnect"
                ))));
            }
        };
        let bad = |what| Some(Asked::Bad(Failure::bad_request(what)));
        match (&mut self.call, kind) {
            (Call::Waiting { .. }, Kind::Request) => match serde_json::from_slice(payload) {
                Ok(request) => return Some(Asked::Request(request)),
                Err(error) => {
                    return bad(format!(
                        "the request is not understood: {error}; are both ends of one version?"
                    ));
                }
            },
            (Call::Waiting { .. }, _) => return bad("the first frame must be a request".to_owned()),
            (_, Kind::Request) => {
                return bad("a stream carries one request; open another".to_owned());
            }
            (_, Kind::Reply | Kind::Stdout | Kind::Stderr) => {
                return bad("callers send no such frame".to_owned());
            }
            (Call::Copying(copying), Kind::Stdin) => copying.feed(payload),
            (Call::Copying(copying), Kind::Control) => match serde_json::from_slice(payload) {
                Ok(control) => copying.control(control),
                Err(error) => return bad(format!("the control frame is not understood: {error}")),
            },
            (
                Call::Task(_) | Call::Shutdown | Call::Closing { .. },
                Kind::Stdin | Kind::Control,
            ) => {}
        }
        Some(Asked::Nothing)
    }

    /// Queues a reply. One that ends the call also begins the closing.
    pub(crate) fn reply(&mut self, reply: &Reply) {
        if let Ok(json) = serde_json::to_vec(reply) {
            // Replies are made to fit; one that does not is a defect that must not end PID 1.
            let _ = frame::encode(Kind::Reply, &json, self.outgoing.tail());
        }
        if !matches!(reply, Reply::Started { .. }) {
            self.close();
        }
    }

    fn close(&mut self) {
        self.call = Call::Closing {
            until: Instant::now() + SLOWEST,
            said: false,
        };
    }

    /// Queues output of a task, unless this caller is too slow for it.
    pub(crate) fn relay(&mut self, bytes: &[u8]) {
        if self.wants_output() {
            if std::mem::take(&mut self.skipped) {
                self.output(Kind::Stdout, SKIPPED);
            }
            self.output(Kind::Stdout, bytes);
        } else {
            self.skipped = true;
        }
    }

    /// Queues a line for the caller's terminal, if it has one and takes its output. The line is in a
    /// frame of errors: what the process itself writes stays as it is.
    pub(crate) fn notice(&mut self, line: &str) {
        let shown = match &self.call {
            Call::Copying(copying) => copying.terminal.is_some() && copying.is_up(),
            _ => false,
        };
        if shown && self.wants_output() {
            self.output(Kind::Stderr, format!("\r\n{line}\r\n").as_bytes());
        }
    }

    fn output(&mut self, kind: Kind, bytes: &[u8]) {
        for piece in bytes.chunks(frame::MAX_PAYLOAD) {
            let _ = frame::encode(kind, piece, self.outgoing.tail());
        }
    }

    /// Sends what the caller takes now.
    pub(crate) fn flush(&mut self) -> Result<(), Gone> {
        let before = self.outgoing.len();
        let all = self.outgoing.flush(&self.stream).map_err(|_| Gone)?;
        if let Call::Closing { until, said } = &mut self.call {
            if all && !*said {
                *said = true;
                *until = Instant::now() + FAREWELL;
                self.stream.shutdown(Shutdown::Write).map_err(|_| Gone)?;
            } else if self.outgoing.len() < before {
                *until = Instant::now() + SLOWEST;
            }
        }
        Ok(())
    }

    /// A stage reported, or became the process.
    pub(crate) fn read_control(&mut self, scratch: &mut [u8]) {
        let Call::Copying(copying) = &mut self.call else {
            return;
        };
        let Some(control) = &copying.control else {
            return;
        };
        match stage_outcome(control, scratch) {
            None => {}
            Some(Ok(())) => {
                copying.control = None;
                let pid = copying.pid.map_or(0, |pid| pid.as_raw_nonzero().get());
                if !self.hand_over(pid) {
                    self.reply(&Reply::Started { pid });
                }
            }
            Some(Err(reply)) => self.reply(&reply),
        }
    }

    /// Gives the caller the terminal, if it wants that and takes it now.
    fn hand_over(&mut self, pid: i32) -> bool {
        let Call::Copying(copying) = &mut self.call else {
            return false;
        };
        let terminal = copying.terminal.as_ref().filter(|_| copying.hand_over);
        // What is on its way goes first, in both directions.
        let is_clear = self.outgoing.is_empty() && copying.pending.is_empty();
        let Some(terminal) = terminal.filter(|_| is_clear) else {
            return false;
        };
        let (mut bytes, json) = (Vec::new(), serde_json::to_vec(&Reply::Terminal { pid }));
        if !json.is_ok_and(|json| frame::encode(Kind::Reply, &json, &mut bytes).is_ok()) {
            return false;
        }
        let Ok(sent) = stage::send_with(&self.stream, &bytes, &[terminal.as_fd()]) else {
            return false;
        };
        let rest = bytes.get(sent..).unwrap_or_default();
        self.outgoing.tail().extend_from_slice(rest);
        (copying.input, copying.outputs) = (None, [None, None]);
        true
    }

    /// The TCP connection is made or refused, or takes bytes; or the process takes input.
    pub(crate) fn push_input(&mut self) {
        let Call::Copying(copying) = &mut self.call else {
            return;
        };
        if copying.connecting {
            let outcome = copying
                .input
                .as_ref()
                .map(rustix::net::sockopt::socket_error);
            match outcome {
                Some(Ok(Ok(()))) => {
                    copying.connecting = false;
                    copying.push_input();
                    self.reply(&Reply::Started { pid: 0 });
                }
                Some(Ok(Err(error)) | Err(error)) => {
                    let failure = connect_failure(error);
                    self.reply(&failure.into());
                }
                None => {}
            }
            return;
        }
        copying.push_input();
    }

    /// Output is there.
    pub(crate) fn read_output(&mut self, which: usize, scratch: &mut [u8]) {
        let Call::Copying(copying) = &mut self.call else {
            return;
        };
        let Some(output) = copying.outputs.get_mut(which) else {
            return;
        };
        let Some(open) = output.as_ref() else { return };
        let left = copying.left.as_mut().and_then(|left| left.get_mut(which));
        let most = left.as_ref().map_or(usize::MAX, |left| {
            usize::try_from(**left).unwrap_or(usize::MAX)
        });
        let most = most.min(scratch.len()).min(32 * 1024);
        let Some(space) = scratch.get_mut(..most) else {
            return;
        };
        match rustix::io::read(open, space) {
            // A terminal says EIO when its last user is gone.
            Ok(0) => *output = None,
            Ok(length) => {
                if let Some(left) = left {
                    *left = left.saturating_sub(length as u64);
                    if *left == 0 {
                        *output = None;
                    }
                }
                let kind = if which == 0 {
                    Kind::Stdout
                } else {
                    Kind::Stderr
                };
                let bytes = scratch.get(..length).unwrap_or_default();
                let _ = frame::encode(kind, bytes, self.outgoing.tail());
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => *output = None,
        }
    }

    /// Notes the end of the main process.
    pub(crate) fn reaped(&mut self, pid: Pid, ended: Ended, now: Instant) {
        if let Call::Copying(copying) = &mut self.call
            && copying.pid == Some(pid)
        {
            copying.ended = Some(ended);
            copying.linger = Some(now + LINGER);
        }
    }

    /// Moves on whatever time or the last events have decided.
    pub(crate) fn settle(&mut self, now: Instant, scratch: &mut [u8]) -> Result<(), Gone> {
        match &self.call {
            Call::Waiting { until } | Call::Closing { until, .. } if *until <= now => {
                return Err(Gone);
            }
            Call::Copying(copying) if copying.ended.is_some() && copying.control.is_some() => {
                self.read_control(scratch);
            }
            _ => {}
        }
        if let Call::Copying(copying) = &mut self.call {
            if copying.left.is_none() && copying.linger.is_some_and(|until| until <= now) {
                copying.stop_listening();
            }
            if copying.is_up() && copying.outputs.iter().all(Option::is_none) {
                let ended = match copying.pid {
                    None => Some(Ended {
                        code: 0,
                        signal: None,
                    }),
                    Some(_) => copying.ended,
                };
                if let Some(ended) = ended {
                    self.reply(&ended.into());
                }
            }
        }
        self.flush()
    }
}

impl Copying {
    /// Takes what lies in the pipes now, and no more; what nobody else has open ends by itself, and of a
    /// terminal not all that lies there is counted.
    fn stop_listening(&mut self) {
        let mut left = [0, 0];
        for (output, left) in self.outputs.iter_mut().zip(&mut left) {
            *left = match output {
                Some(output) if has_hung_up(output) => u64::MAX,
                Some(output) => rustix::io::ioctl_fionread(output).unwrap_or(0),
                None => 0,
            };
            if *left == 0 {
                *output = None;
            }
        }
        self.left = Some(left);
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Resize(size) => {
                if let Some(terminal) = &self.terminal {
                    let _ = spawn::resize(terminal, size);
                }
            }
            Control::Signal { signal } => {
                if let (Some(pid), None, Some(signal)) =
                    (self.pid, self.ended, Signal::from_named_raw(signal))
                {
                    spawn::signal(pid, signal);
                }
            }
        }
    }
}

/// Whether nobody has the other end open.
fn has_hung_up(output: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(output, PollFlags::empty())];
    let at_once = Timespec::default();
    rustix::event::poll(&mut polled, Some(&at_once)).is_ok()
        && polled[0].revents().contains(PollFlags::HUP)
}

/// A line as terminals may be shown it: whoever may call writes to the terminals of others.
pub(crate) fn plain_line(text: &str) -> String {
    let plain = text.chars().filter(|char| !char.is_control());
    plain.take(boatyard_wire::LONGEST_NOTICE).collect()
}

/// What a stage says: nothing yet, that it runs (its end of the socket closed on exec), or why not.
pub(crate) fn stage_outcome(control: &OwnedFd, scratch: &mut [u8]) -> Option<Result<(), Reply>> {
    match rustix::net::recv(control, &mut *scratch, RecvFlags::empty()) {
        Err(Errno::AGAIN | Errno::INTR) => None,
        Ok((length, _)) if length > 0 => {
            let reply = serde_json::from_slice(scratch.get(..length).unwrap_or_default());
            Some(Err(reply.unwrap_or_else(|error| {
                Failure::internal("the new process reported nonsense", error).into()
            })))
        }
        // A reset is a stage that was killed before it read its order; how it ended will be told.
        Ok(_) | Err(_) => Some(Ok(())),
    }
}

/// Why a TCP connection was not made.
pub(crate) fn connect_failure(error: Errno) -> Failure {
    match error {
        Errno::CONNREFUSED => {
            Failure::not_found("nothing listens on that port inside the environment; start it")
        }
        Errno::ACCESS | Errno::PERM => {
            Failure::permission_denied("the environment's network refuses that connection")
        }
        Errno::MFILE | Errno::NFILE => {
            Failure::busy("the agent has too many open files; close some sessions")
        }
        error => Failure::internal("cannot connect from inside the environment", error),
    }
}
