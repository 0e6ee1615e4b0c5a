//! Starting a process, from the agent's side: descriptors, the order, and the [`stage`] that obeys it.
//!
//! Everything here returns at once whatever the environment's files are; the stage does the rest.

use crate::failure::Failure;
use crate::limit::Limit;
use crate::stage::{self, Order};
use boatyard_wire::Process;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// What every process gets from the agent.
#[derive(Debug)]
pub(crate) struct Provision {
    /// `/dev/null`, opened before anything else ran in the environment.
    pub(crate) null: OwnedFd,
    /// Soft limit of open files before the agent raised its own.
    pub(crate) open_files: Option<u64>,
    /// Limits that the agent itself does not have.
    pub(crate) limits: Vec<Limit>,
    /// The agent's effective ids are the container user's: a stage begins as root again.
    pub(crate) raise: bool,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Two pipes, or the terminal when one is asked for.
    Separate,
    /// One pipe for both, so that a log keeps their order.
    Merged,
}

/// A stage on its way to become a process. The agent's ends do not block.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    /// Readable with a failure, or at its end when the process runs.
    pub(crate) control: OwnedFd,
    pub(crate) input: Option<OwnedFd>,
    pub(crate) outputs: [Option<OwnedFd>; 2],
    pub(crate) terminal: Option<OwnedFd>,
    /// Whether the caller takes the terminal.
    pub(crate) hand_over: bool,
}

/// Refuses what no process could be given. Strings with zero bytes end early in the kernel.
fn check(process: &Process) -> Result<(), Failure> {
    let texts = process.argv.iter().chain(&process.cwd).chain(&process.user);
    let variables = process.env.iter();
    if texts.clone().any(|text| text.contains('\0'))
        || variables.clone().any(|(name, value)| {
            name.contains('\0') || value.as_ref().is_some_and(|value| value.contains('\0'))
        })
    {
        return Err(Failure::bad_request(
            "arguments, variables, directory and user may not contain zero bytes",
        ));
    }
    if let Some((name, _)) = variables
        .into_iter()
        .find(|(name, _)| name.is_empty() || name.contains('='))
    {
        return Err(Failure::bad_request(format!(
            "{name:?} cannot name an environment variable"
        )));
    }
    Ok(())
}

/// Starts the stage for a process.
pub(crate) fn spawn(
    process: Process,
    output: Output,
    provision: &Provision,
) -> Result<Spawned, Failure> {
    check(&process)?;
    let scarce = |error: Errno| exhausted(error.into());
    let (control, far) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(scarce)?;
    rustix::io::ioctl_fionbio(&control, true).map_err(scarce)?;

    let mut spawned = Spawned {
        pid: rustix::process::getpid(),
        control,
        input: None,
        outputs: [None, None],
        terminal: None,
        hand_over: process.hand_over,
    };
    let size = process.tty.filter(|_| output == Output::Separate);
    let wants_input = process.stdin;
    let order = Order {
        process: Process {
            tty: size,
            ..process
        },
        open_files: provision.open_files,
        limits: provision.limits.clone(),
    };
    if let Some(size) = size {
        let (master, slave) = terminal(size).map_err(|error| match error {
            Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::NOMEM => exhausted(error.into()),
            error => Failure::internal("cannot make a terminal from /dev/ptmx", error),
        })?;
        stage::send(&order, &[&slave], &spawned.control)?;
        spawned.input = wants_input
            .then(|| master.try_clone())
            .transpose()
            .map_err(exhausted)?;
        spawned.outputs[0] = Some(master.try_clone().map_err(exhausted)?);
        spawned.terminal = Some(master);
        spawned.pid = start(far, provision)?;
    } else {
        let (stdout_read, stdout) = pipe(End::Read).map_err(scarce)?;
        spawned.outputs[0] = Some(stdout_read);
        let stderr = if output == Output::Merged {
            stdout.try_clone().map_err(exhausted)?
        } else {
            let (stderr_read, stderr) = pipe(End::Read).map_err(scarce)?;
            spawned.outputs[1] = Some(stderr_read);
            stderr
        };
        let stdin = if wants_input && output == Output::Separate {
            let (stdin, stdin_write) = pipe(End::Write).map_err(scarce)?;
            spawned.input = Some(stdin_write);
            Some(stdin)
        } else {
            None
        };
        let stdin: &dyn AsFd = stdin.as_ref().map_or(&provision.null, |stdin| stdin);
        stage::send(&order, &[stdin, &stdout, &stderr], &spawned.control)?;
        spawned.pid = start(far, provision)?;
    }
    Ok(spawned)
}

#[derive(PartialEq)]
enum End {
    Read,
    Write,
}

/// A pipe whose named end belongs to the agent and does not block; the other, the process's, does.
fn pipe(ours: End) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(if ours == End::Read { &read } else { &write }, true)?;
    Ok((read, write))
}

fn terminal(size: boatyard_wire::WindowSize) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // Root inside may have put anything at the name; NONBLOCK keeps that from stopping the agent, and
    // what is no terminal fails the next call.
    let master = rustix::fs::open("/dev/ptmx", flags, Mode::empty())
        .or_else(|_| rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()))?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    resize(&master, size)?;
    Ok((master, slave))
}

/// Sets a terminal's size; the kernel tells its foreground processes.
pub(crate) fn resize(
    terminal: &OwnedFd,
    size: boatyard_wire::WindowSize,
) -> rustix::io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size)
}

/// Runs this executable as a stage. Relative, because the agent's working directory is the /proc it
/// found at its start: what is mounted over it later changes nothing here.
fn start(control: OwnedFd, provision: &Provision) -> Result<Pid, Failure> {
    // Not Stdio::null(): it opens by name what root inside may have replaced by a FIFO.
    let null = || {
        provision
            .null
            .try_clone()
            .map(Stdio::from)
            .map_err(exhausted)
    };
    let mut command = Command::new("self/exe");
    if provision.raise {
        // Before exec, so that the ids are the same then: otherwise the loader would take variables away.
        command.uid(0).gid(0);
    }
    let child = command
        .arg0("boatyard-agent")
        .arg(stage::ARGUMENT)
        .stdin(Stdio::from(control))
        .stdout(null()?)
        .stderr(null()?)
        .spawn()
        .map_err(exhausted)?;
    // The handle is dropped without waiting: the server reaps everything.
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Failure::internal("a process was started without an id", child.id()))
}

fn exhausted(error: std::io::Error) -> Failure {
    match Errno::from_io_error(&error) {
        Some(Errno::AGAIN) => Failure::busy(
            "the environment has reached its limit of processes; end some, or raise the limit in its class",
        ),
        Some(Errno::MFILE | Errno::NFILE) => {
            Failure::busy("the agent has too many open files; close some sessions")
        }
        Some(Errno::NOMEM | Errno::NOSPC) => {
            Failure::busy("the environment is out of memory or terminals; end something first")
        }
        _ => Failure::internal("cannot start a process", error),
    }
}

/// Sends a signal to the process's group, or to it alone while it has not made one yet.
/// The caller knows that it has not been reaped, so the number is still its own.
pub(crate) fn signal(pid: Pid, signal: Signal) {
    if rustix::process::kill_process_group(pid, signal).is_err() {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
