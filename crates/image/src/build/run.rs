//! Runs one process of a build in a sandbox of its own, over the layers so far.
//!
//! The sandbox is as strict as an environment's: own id range, namespaces, limits, filter; PID 1
//! is the agent, which looks the user up, starts the process and carries its output and exit code
//! over its socket ([`boatyard_wire`]). A caller that reads slowly makes the process wait. What
//! the process changed is in the upper directory when it has ended; secrets and other mounts are
//! not.
//!
//! Blocking; [`Cancel`] ends it from elsewhere. Whatever way this returns, the sandbox is removed;
//! killed, it leaves a sandbox under a name that the next start of the builder removes.

use super::Host;
use super::mounts::Mounted;
use boatyard_devcontainer::build::{InlineFile, Run, RunNetwork};
use boatyard_sandbox::spec::{Egress, Init, Limits, Network, Root, Spec};
use boatyard_wire::frame::{Kind, MAX_PAYLOAD, read_frame, write_frame};
use boatyard_wire::{Class, Process, Reply, Request};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Ends the processes of a build from another thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    running: Vec<(u64, UnixStream)>,
    next: u64,
}

impl Cancel {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cancel(&self) {
        let mut state = self.state();
        state.cancelled = true;
        for (_, stream) in &state.running {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    pub(super) fn cancelled(&self) -> bool {
        self.state().cancelled
    }

    fn enter(&self, stream: &UnixStream) -> io::Result<u64> {
        let mut state = self.state();
        if state.cancelled {
            return Err(cancelled());
        }
        let number = state.next;
        state.next += 1;
        state.running.push((number, stream.try_clone()?));
        Ok(number)
    }

    fn leave(&self, number: u64) {
        self.state().running.retain(|(other, _)| *other != number);
    }
}

pub(super) fn cancelled() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "the build was given up")
}

/// What a process runs on.
pub(super) struct Place<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) agent: &'a Path,
    /// Where the states of sandboxes are.
    pub(super) runs: &'a Path,
    pub(super) limits: Limits,
    /// Whether the policy gives steps a network.
    pub(super) network: bool,
    /// Where they may connect to then.
    pub(super) egress: Option<&'a Egress>,
    /// Variables set where the step does not.
    pub(super) env: &'a [(String, String)],
    pub(super) cancel: &'a Cancel,
    /// Topmost first.
    pub(super) layers: Vec<PathBuf>,
    pub(super) upper: PathBuf,
    pub(super) work: PathBuf,
}

/// Removed with its traces when dropped.
pub(super) struct Sandboxed<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) seat: super::Seat,
    pub(super) state: PathBuf,
}

impl Drop for Sandboxed<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.host.remove(&self.seat.id, &self.state) {
            tracing::warn!(sandbox = %self.seat.id, %error, "a build's sandbox was not removed; the next start tries again");
            return;
        }
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

/// How it ended: its exit code as a shell gives it.
pub(super) fn run(
    place: &Place<'_>,
    op: &Run,
    mounted: &dyn Fn(u32) -> io::Result<Mounted>,
    output: &mut dyn FnMut(&[u8]),
) -> io::Result<i32> {
    let seat = place.host.seat().map_err(io::Error::other)?;
    let state = place.runs.join(seat.id.as_str());
    let mounted = mounted(seat.id_base)?;
    std::fs::create_dir_all(&state)?;
    let network = match (op.network, place.network, seat.address) {
        (RunNetwork::Default, true, Some(address)) => Network::Routed { address },
        _ => Network::None,
    };
    let spec = Spec {
        id: seat.id.clone(),
        id_base: seat.id_base,
        state: state.clone(),
        hostname: "buildkitsandbox".to_owned(),
        root: Root::Layer {
            layers: place.layers.clone(),
            upper: place.upper.clone(),
            work: place.work.clone(),
        },
        mounts: mounted.mounts.clone(),
        network,
        limits: place.limits,
        init: Init {
            executable: place.agent.to_owned(),
            argv: vec!["boatyard-agent".to_owned()],
            env: vec![
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ],
            listener: true,
        },
        nofile: None,
        rlimits: Vec::new(),
        devices: Vec::new(),
        company: None,
        swap: boatyard_sandbox::spec::Swap::default(),
        egress: place.egress.cloned().map(Box::new),
    };
    let sandboxed = Sandboxed {
        host: place.host,
        seat,
        state,
    };
    place
        .host
        .remove(&sandboxed.seat.id, &sandboxed.state)
        .map_err(io::Error::other)?;
    place.host.start(&spec).map_err(io::Error::other)?;
    let code = converse(place, &sandboxed.state, op, &mounted.env, output);
    drop(sandboxed);
    drop(mounted);
    if place.cancel.cancelled() {
        return Err(cancelled());
    }
    code
}

fn converse(
    place: &Place<'_>,
    state: &Path,
    op: &Run,
    more_env: &[(String, String)],
    output: &mut dyn FnMut(&[u8]),
) -> io::Result<i32> {
    let mut stream = connect(state)?;
    let number = place.cancel.enter(&stream)?;
    let outcome = exchange(&mut stream, place, op, more_env, output);
    place.cancel.leave(number);
    outcome
}

/// Longest script that is an argument: with its variables it has to fit into a message, and the
/// kernel takes 128 KiB.
const LONGEST_SCRIPT: usize = 16 << 10;
/// Where a longer one is read from.
const SCRIPT: &str = "/dev/boatyard-script";

/// The same step, a long script of a shell's as a file that the shell reads in its place.
pub(super) fn shortened(op: &Run) -> std::borrow::Cow<'_, Run> {
    let [shell, options @ .., script] = op.argv.as_slice() else {
        return std::borrow::Cow::Borrowed(op);
    };
    let reads = |option: &String| option.starts_with('-') && option.ends_with('c');
    if script.len() <= LONGEST_SCRIPT
        || !shell.ends_with("sh")
        || shell.ends_with("pwsh")
        || !options.last().is_some_and(reads)
    {
        return std::borrow::Cow::Borrowed(op);
    }
    let mut op = op.clone();
    let script = op.argv.pop().unwrap_or_default();
    op.argv.push(format!(". {SCRIPT}"));
    op.files.push(InlineFile {
        path: SCRIPT.to_owned(),
        contents: script,
        mode: 0o444,
    });
    std::borrow::Cow::Owned(op)
}

/// The socket's path may be longer than an address holds.
fn connect(state: &Path) -> io::Result<UnixStream> {
    let folder = std::fs::File::open(state)?;
    UnixStream::connect(format!("/proc/self/fd/{}/agent.sock", folder.as_raw_fd()))
}

fn exchange(
    stream: &mut UnixStream,
    place: &Place<'_>,
    op: &Run,
    more_env: &[(String, String)],
    output: &mut dyn FnMut(&[u8]),
) -> io::Result<i32> {
    // What a login would set is not what a build's process finds.
    let mut env: BTreeMap<String, Option<String>> = ["USER", "LOGNAME", "SHELL"]
        .into_iter()
        .map(|name| (name.to_owned(), None))
        .collect();
    let own = op.env.iter().chain(&op.unkeyed_env);
    for (name, value) in place.env.iter().chain(own).chain(more_env) {
        env.insert(name.clone(), Some(value.clone()));
    }
    let cwd = if op.cwd.is_empty() { "/" } else { &op.cwd };
    let process = Process {
        argv: op.argv.clone(),
        env,
        cwd: Some(cwd.to_owned()),
        user: (!op.user.is_empty()).then(|| op.user.clone()),
        class: Class::Builds,
        ..Process::default()
    };
    let request = serde_json::to_vec(&Request::Exec(process))?;
    if request.len() > MAX_PAYLOAD {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "the command and its variables are longer than {MAX_PAYLOAD} bytes; put the script into a file and copy that"
            ),
        ));
    }
    let broken = |error: boatyard_wire::frame::Error| match error {
        boatyard_wire::frame::Error::Io(error) => error,
        error => io::Error::other(error),
    };
    write_frame(stream, Kind::Request, &request).map_err(broken)?;
    let mut payload = Vec::new();
    loop {
        match read_frame(stream, &mut payload).map_err(broken)? {
            Some(Kind::Stdout | Kind::Stderr) => output(&payload),
            Some(Kind::Reply) => match serde_json::from_slice(&payload)? {
                Reply::Exit { code, .. } => return Ok(code),
                reply @ Reply::Error { .. } => {
                    if let Reply::Error { message, .. } = &reply {
                        output(format!("{message}\n").as_bytes());
                    }
                    return Ok(reply.exit_code().unwrap_or(125));
                }
                _ => {}
            },
            Some(_) => {}
            None => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the sandbox ended before the process did; it may have had too little memory",
                ));
            }
        }
    }
}
