//! The last step before a process runs: this same executable, started anew by the agent, which
//! becomes the process asked for.
//!
//! Protocol, over a `SOCK_SEQPACKET` pair whose far end is this process's standard input: the agent
//! sends one [`Order`] with the descriptors the process gets (one terminal, or standard input,
//! output and error) before it starts the stage. The stage answers one JSON `wire::Reply::Error` and
//! exits, or nothing: the socket closes on exec, which tells the agent that the process runs.
//!
//! An own stage rather than code between fork and exec: it may allocate, read files and report in
//! words, needs nothing unsafe, and what blocks here (a FUSE home, a FIFO called `/etc/passwd`)
//! blocks one call. It is single-threaded, so the per-thread credential calls change the process.

use crate::failure::Failure;
use crate::limit::Limit;
use crate::user::{self, User};
use boatyard_wire::{Class, Process, Reply};
use rustix::fs::{Access, AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The argument that makes the agent a stage.
pub(crate) const ARGUMENT: &str = "__exec";
/// Above the largest order: a frame's worth of JSON from the call and one from the session defaults.
const LARGEST_ORDER: usize = 144 * 1024;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to become.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) process: Process,
    /// The soft limit of open files the agent found at its start and raised for itself.
    pub(crate) open_files: Option<u64>,
    /// Of the processor's time.
    pub(crate) limits: Vec<Limit>,
}

/// Becomes the process ordered, or reports why not.
pub(crate) fn run() -> ExitCode {
    // Standard input is replaced by the process's own before exec.
    let Ok(control) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else {
        return ExitCode::FAILURE;
    };
    let Err(failure) = receive(&control).and_then(|(order, fds)| become_process(order, fds));
    let reply = Reply::from(failure);
    let code = reply.exit_code().and_then(|code| u8::try_from(code).ok());
    if let Ok(json) = serde_json::to_vec(&reply) {
        let _ = rustix::net::send(&control, &json, SendFlags::NOSIGNAL);
    }
    ExitCode::from(code.unwrap_or(125))
}

enum Never {}

fn receive(control: &OwnedFd) -> Result<(Order, Vec<OwnedFd>), Failure> {
    let mut bytes = vec![0; LARGEST_ORDER];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        control,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(|error| Failure::internal("no order reached the new process", error))?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let order = serde_json::from_slice(bytes.get(..received.bytes).unwrap_or_default())
        .map_err(|error| Failure::internal("the order to the new process is damaged", error))?;
    Ok((order, fds))
}

fn become_process(order: Order, fds: Vec<OwnedFd>) -> Result<Never, Failure> {
    let Order {
        process,
        open_files,
        limits,
    } = order;
    let [stdin, stdout, stderr] = three(fds)?;
    rustix::process::setsid().map_err(|error| Failure::internal("cannot make a session", error))?;
    join_class(process.class);
    let user = user::resolve(process.user.as_deref())?;
    if process.tty.is_some() {
        rustix::process::ioctl_tiocsctty(&stdin)
            .map_err(|error| Failure::internal("cannot take the terminal", error))?;
        // So that the user can open it by name; a device of another file system may refuse.
        let _ = rustix::fs::fchown(&stdin, Some(Uid::from_raw(user.uid)), None);
        if let Ok(mut modes) = rustix::termios::tcgetattr(&stdin) {
            modes.input_modes |= rustix::termios::InputModes::IUTF8;
            let _ =
                rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &modes);
        }
    }
    if let Some(soft) = open_files {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit {
            current: Some(soft),
            maximum,
        };
        let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    }
    for limit in limits {
        let taken = limit.take();
        taken.map_err(|error| Failure::internal("cannot limit the processor's time", error))?;
    }
    // The agent blocks what it reads from a descriptor; the program starts with nothing blocked.
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .map_err(|error| Failure::internal("cannot unblock signals", error))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    become_user(&user)?;
    change_directory(process.cwd.as_deref(), &user)?;

    let environment = environment(&process, &user);
    let (program, argv0, arguments) = command_line(&process, &user, &environment)?;
    let error = Command::new(&program)
        .arg0(argv0)
        .args(arguments)
        .env_clear()
        .envs(&environment)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .exec();
    Err(exec_failure(&program, &error))
}

fn three(fds: Vec<OwnedFd>) -> Result<[OwnedFd; 3], Failure> {
    match <[OwnedFd; 3]>::try_from(fds) {
        Ok(three) => Ok(three),
        Err(fds) => {
            let missing = || Failure::internal("the new process got no descriptors", fds.len());
            let terminal = fds.first().ok_or_else(missing)?;
            let copy = || {
                terminal
                    .try_clone()
                    .map_err(|error| Failure::internal("cannot copy the terminal", error))
            };
            Ok([copy()?, copy()?, copy()?])
        }
    }
}

/// Moves into the class's cgroup and makes the process a likelier victim than the agent. Best
/// effort: classes are fairness, and the host decides whether they exist.
fn join_class(class: Class) {
    let (name, likelier) = match class {
        Class::Agent => ("agent", "0"),
        Class::Sessions => ("sessions", "100"),
        Class::Builds => ("builds", "300"),
    };
    // This process has one thread. For `tasks` of version 1 the kernel moves it at once; for
    // `cgroup.procs` it stops every fork of the machine first and waits for a grace period.
    for (hierarchy, file) in [
        ("", "cgroup.procs"),
        ("cpu/", "tasks"),
        ("cpu,cpuacct/", "tasks"),
        ("cpuacct/", "tasks"),
    ] {
        poke(&format!("/sys/fs/cgroup/{hierarchy}{name}/{file}"), "0");
    }
    if class != Class::Agent {
        // Relative to the agent's /proc, where every stage starts.
        poke("self/oom_score_adj", likelier);
    }
}

/// Writes a kernel file if it is there. Whatever else may be in its place cannot make this wait.
fn poke(path: &str, value: &str) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    if let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        let _ = rustix::io::write(file, value.as_bytes());
    }
}

fn become_user(user: &User) -> Result<(), Failure> {
    let refused = |error: Errno| {
        Failure::permission_denied(format!(
            "cannot become user {} ({}:{}): {error}; its ids must lie inside the environment's range",
            user.name, user.uid, user.gid
        ))
    };
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups: Vec<Gid> = user
        .groups
        .iter()
        .map(|group| Gid::from_raw(*group))
        .collect();
    rustix::thread::set_thread_groups(&groups).map_err(refused)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(refused)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(refused)
}

/// As the user, so that nobody enters a directory that is closed to them.
fn change_directory(wanted: Option<&str>, user: &User) -> Result<(), Failure> {
    let Some(wanted) = wanted else {
        return rustix::process::chdir(&*user.home)
            .or_else(|_| rustix::process::chdir("/"))
            .map_err(|error| Failure::internal("cannot enter /", error));
    };
    if !wanted.starts_with('/') {
        return Err(Failure::bad_request(format!(
            "working directory {wanted:?} is relative; give an absolute path inside the environment"
        )));
    }
    rustix::process::chdir(wanted).map_err(|error| match error {
        Errno::NOENT => Failure::bad_request(format!(
            "working directory {wanted:?} does not exist inside the environment; create it or name another"
        )),
        Errno::NOTDIR => Failure::bad_request(format!(
            "working directory {wanted:?} is not a directory; name another"
        )),
        Errno::ACCESS => Failure::permission_denied(format!(
            "user {} may not enter working directory {wanted:?}; change its mode or name another",
            user.name
        )),
        error => Failure::internal(format!("cannot enter working directory {wanted:?}"), error),
    })
}

/// The agent's own environment, the user's words, and what the caller changes, in that order.
fn environment(process: &Process, user: &User) -> BTreeMap<OsString, OsString> {
    let mut environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (name, value) in [
        ("HOME", &user.home),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", &user.shell),
    ] {
        environment.insert(name.into(), value.into());
    }
    environment
        .entry("PATH".into())
        .or_insert_with(|| DEFAULT_PATH.into());
    if process.tty.is_some() {
        environment.insert("TERM".into(), "xterm-256color".into());
    } else {
        environment.remove(std::ffi::OsStr::new("TERM"));
    }
    for (name, value) in &process.env {
        match value {
            Some(value) => environment.insert(name.into(), value.into()),
            None => environment.remove(std::ffi::OsStr::new(name)),
        };
    }
    environment
}

/// Program, name and arguments.
fn command_line<'a>(
    process: &'a Process,
    user: &User,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<(PathBuf, String, &'a [String]), Failure> {
    if let Some((name, arguments)) = process.argv.split_first() {
        return Ok((look_up(name, environment)?, name.clone(), arguments));
    }
    let shell = if executable(Path::new(&user.shell)).is_ok() {
        &*user.shell
    } else {
        "/bin/sh"
    };
    let base = shell.rsplit('/').next().unwrap_or(shell);
    Ok((PathBuf::from(shell), format!("-{base}"), &[]))
}

/// As execvp does, but says which of "not there" and "not allowed" it was.
fn look_up(name: &str, environment: &BTreeMap<OsString, OsString>) -> Result<PathBuf, Failure> {
    let mut denied = None;
    let mut candidates = Vec::new();
    if name.contains('/') {
        candidates.push(PathBuf::from(name));
    } else if !name.is_empty() {
        let path = environment.get(std::ffi::OsStr::new("PATH"));
        candidates.extend(
            path.into_iter()
                .flat_map(std::env::split_paths)
                .map(|directory| directory.join(name)),
        );
    }
    for candidate in candidates {
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => denied = Some(candidate),
            Err(_) => {}
        }
    }
    Err(match denied {
        Some(path) => Failure::permission_denied(format!(
            "{} may not be executed by this user, or is a directory; check its mode",
            path.display()
        )),
        None if name.contains('/') => Failure::not_found(format!(
            "{name} does not exist inside the environment; check the path"
        )),
        None => Failure::not_found(format!(
            "{name:?} is in no directory of PATH inside the environment; install it or give its path"
        )),
    })
}

fn executable(path: &Path) -> Result<(), Errno> {
    let found = rustix::fs::stat(path)?;
    if rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Directory {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

fn exec_failure(program: &Path, error: &std::io::Error) -> Failure {
    let program = program.display();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => Failure::not_found(format!(
            "{program} exists, but the interpreter or loader it names does not; install that"
        )),
        Some(Errno::ACCESS | Errno::PERM) => Failure::permission_denied(format!(
            "{program} may not be executed: {error}; check its mode and mount"
        )),
        Some(Errno::NOEXEC) => Failure::permission_denied(format!(
            "{program} is not a program for this machine's architecture"
        )),
        Some(Errno::TOOBIG) => {
            Failure::bad_request("arguments and environment together are too long; shorten them")
        }
        Some(Errno::AGAIN | Errno::NOMEM) => Failure::busy(format!(
            "{program} cannot start: {error}; end something first"
        )),
        _ => Failure::internal(format!("cannot execute {program}"), error),
    }
}

/// The descriptors of an order must outlive the call that sends them.
pub(crate) fn send(
    order: &Order,
    descriptors: &[&dyn AsFd],
    control: &OwnedFd,
) -> Result<(), Failure> {
    let json = serde_json::to_vec(order)
        .map_err(|error| Failure::internal("cannot write the order", error))?;
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    send_with(control, &json, &borrowed)
        .map_err(|error| Failure::internal("cannot hand the order over", error))?;
    Ok(())
}

/// Sends bytes with at most three descriptors, as much as is taken now: how many bytes.
pub(crate) fn send_with(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = rustix::net::SendAncillaryBuffer::new(&mut space);
    ancillary.push(rustix::net::SendAncillaryMessage::ScmRights(descriptors));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
}
