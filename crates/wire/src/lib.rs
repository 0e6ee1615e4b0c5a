//! What travels between a client and the agent inside an environment: messages and framing.
//!
//! One stream carries one call. The caller sends a [`Request`] frame; for calls that run a
//! process, both sides then exchange data frames until the agent sends [`Reply::Exit`] or
//! [`Reply::Error`] and closes. The same bytes travel unchanged from the CLI through the server
//! and the runner's connection to the agent's socket: nobody in between parses them.
//!
//! Everything an agent sends is untrusted: lengths are bounded here, and values that a caller
//! acts upon are checked by the caller. Tiny on purpose: the agent links it. No async, no I/O
//! beyond `std::io::{Read, Write}` adaptors; asynchronous framing is `link`'s.
//!
//! Read next: [`frame`], then the agent's `session`.

pub mod frame;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Path inside every environment where the runner mounts the agent's logs directory.
pub const LOG_DIRECTORY: &str = "/var/log/boatyard";

/// File descriptor on which the agent, as PID 1, finds its listening unix socket.
pub const AGENT_LISTENER_FD: i32 = 3;

/// What a closed standard input is to a terminal: its end-of-file character.
pub const END_OF_INPUT: u8 = 4;

/// How long output may stay open after the main process ended.
pub const LINGER: std::time::Duration = std::time::Duration::from_millis(250);

/// Longest line shown by [`Request::Notice`], in characters.
pub const LONGEST_NOTICE: usize = 400;

/// The first frame of a stream, from the caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Request {
    /// Runs a process whose life is tied to the stream: when the caller goes, it gets SIGHUP, and
    /// SIGKILL after a grace period.
    Exec(Process),
    /// Runs a process that goes on without the caller, once per name: a second request with the
    /// same name attaches to the running one or returns the finished one's result, unless its `run`
    /// is higher than that one's: a finished one is then run anew. Output goes to
    /// `LOG_DIRECTORY/<name>.log` and, while attached, to the stream.
    Task {
        /// Name; also the log file's stem. Lower-case letters, digits, `-` and `.`, at most 64 bytes.
        name: String,
        /// Which run of this name it is.
        #[serde(default)]
        run: u64,
        /// What to run. `tty` and `stdin` are ignored.
        process: Process,
    },
    /// State of the tasks this agent has run since it started: answered with [`Reply::Tasks`].
    Tasks,
    /// Answered with [`Reply::Info`].
    Info,
    /// Sets what later [`Request::Exec`]s get where they leave it open: `user` and `cwd` when
    /// absent, `env` beneath the call's own. Tasks are not affected. Answered with [`Reply::Done`].
    /// Kept in the agent's memory only; the last one wins.
    Defaults(SessionDefaults),
    /// Shows one line on the terminals of the calls that have one. Control characters are dropped, and
    /// what is longer than [`LONGEST_NOTICE`]. Answered with [`Reply::Done`].
    Notice {
        /// What is shown, without an end of line.
        text: String,
    },
    /// Asks every process to end (SIGTERM, after the grace SIGKILL), answers `Exit{code:0}` when
    /// none but the agent is left, then the agent exits 0.
    Shutdown {
        /// Milliseconds between SIGTERM and SIGKILL.
        grace_millis: u64,
    },
    /// Opens a TCP connection from inside the environment to `host:port` (a literal address) and
    /// copies bytes in `Stdin`/`Stdout` frames.
    Connect {
        /// IPv4 or IPv6 address literal.
        address: String,
        /// Port.
        port: u16,
    },
}

/// What sessions start with unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionDefaults {
    /// As in [`Process::user`].
    pub user: Option<String>,
    /// As in [`Process::cwd`].
    pub cwd: Option<String>,
    /// As in [`Process::env`].
    pub env: BTreeMap<String, Option<String>>,
}

/// A process to run inside the environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Program and arguments; the program is looked up in the process's own PATH. Empty: the
    /// user's login shell, as a login shell.
    pub argv: Vec<String>,
    /// Variables set or, when the value is null, removed, on top of the base environment (PATH, HOME,
    /// USER, SHELL, TERM when a tty, LANG kept).
    pub env: BTreeMap<String, Option<String>>,
    /// Working directory; the user's home when absent.
    pub cwd: Option<String>,
    /// `name`, `uid`, `name:group` or `uid:gid` as in Dockerfile's USER; root when absent.
    pub user: Option<String>,
    /// A pseudo terminal of this size; none means three pipes.
    pub tty: Option<WindowSize>,
    /// Whether the caller will send `Stdin` frames; otherwise standard input is /dev/null.
    pub stdin: bool,
    /// Which fair share it counts to.
    pub class: Class,
    /// Takes nothing from the session's defaults.
    pub bare: bool,
    /// The caller is connected to the agent's own socket and takes descriptors (`SCM_RIGHTS`): it gets the
    /// terminal itself with [`Reply::Terminal`], if there is one. Agents that do not know this, and
    /// those that cannot, answer [`Reply::Started`].
    pub hand_over: bool,
    /// Names of variables whose values a task's output and log do not show.
    pub masked: Vec<String>,
}

/// Rows and columns of a terminal, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Height.
    pub rows: u16,
    /// Width.
    pub cols: u16,
}

/// Which fair share of the environment a process counts to (a child cgroup each).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// Interactive: shells, editors.
    #[default]
    Sessions,
    /// Lifecycle commands and builds.
    Builds,
    /// The agent's own and IDE servers.
    Agent,
}

/// Control frames from the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Reply {
    /// The process runs.
    Started {
        /// Its id inside the environment.
        pid: i32,
    },
    /// The process runs, and with the first byte of this frame comes the other end of its terminal. It
    /// does not block. Input and output go by it alone from now on; signals, sizes, lines that others
    /// show there and the end still by frames. Output may lie in it after the end.
    Terminal {
        /// The process's id inside the environment.
        pid: i32,
    },
    /// The process ended; the last frame.
    Exit {
        /// Exit code as a shell gives it: 0–255, or 128 + signal.
        code: i32,
        /// The signal that killed it.
        signal: Option<i32>,
    },
    /// The call failed; the last frame.
    Error {
        /// Stable word: `notFound`, `permissionDenied`, `unknownUser`, `badRequest`, `busy`, `internal`.
        reason: String,
        /// One sentence naming the thing and the remedy.
        message: String,
    },
    /// Answer to [`Request::Defaults`].
    Done,
    /// Answer to [`Request::Info`].
    Info {
        /// Version of the agent.
        version: String,
        /// Seconds since it started.
        uptime_seconds: u64,
        /// Live processes other than the agent.
        processes: u32,
    },
    /// Answer to [`Request::Tasks`].
    Tasks {
        /// By name.
        tasks: BTreeMap<String, TaskState>,
    },
}

impl Reply {
    /// The exit code a command line gives for this reply when it is the last one: the process's own
    /// (or 128 + its signal), 127 for a program that does not exist, 126 for one that may not run,
    /// 125 when the call failed before that, as `env`, `chroot` and `docker run` do. `None` for
    /// replies that end nothing.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exit { code, .. } => Some(*code),
            Self::Error { reason, .. } => Some(match reason.as_str() {
                "notFound" => 127,
                "permissionDenied" => 126,
                _ => 125,
            }),
            Self::Started { .. }
            | Self::Terminal { .. }
            | Self::Done
            | Self::Info { .. }
            | Self::Tasks { .. } => None,
        }
    }
}

/// How a task stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskState {
    /// Exit code as a shell gives it; absent while it runs.
    pub exit_code: Option<i32>,
    /// Milliseconds it has run or ran.
    pub elapsed_millis: u64,
}

/// Control frames from the caller, after the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Control {
    /// The terminal's size changed.
    Resize(WindowSize),
    /// Send this signal number to the process's group.
    Signal {
        /// Linux signal number, 1–64.
        signal: i32,
    },
}
