//! The host-side monitor of one sandbox: parent of its PID 1, there until it ends.
//!
//! Forked from the spawner without executing anything, in a session of its own; it outlives
//! spawner and runner. It builds the root, the link and the cgroups, starts init, writes
//! `monitor.json`; then answers names, keeps the console log, and at init's end writes `exit.json`
//! and removes what it made. It keeps no mount: once init has its own namespace the monitor
//! returns to the host's.
//!
//! Crash behaviour: killed before init executes, init dies too (end of file). Killed later, init
//! lives on: [`Running::monitor_pid`] is then None, names do not resolve inside, output has
//! nowhere to go and the exit code will be unknown, so the runner should stop and start it.
//! Whatever is left is found by name (`sandboxes::remove`).
//!
//! Read next: `init` (the other end), `root`, `cgroup`, `net`.

mod family;
mod policy;
mod serve;

use crate::error::{Failure, Step};
use crate::init::{self, Handover};
use crate::protection::{self, Protection};
use crate::protocol::{self, Reply, Start};
use crate::record::{self, Holder, Lock, Process, Record, Running};
use crate::root::{self, IdMaps};
use crate::spec::Swap;
use crate::sys::process::{self, Disposition, Forked};
use crate::{cgroup, crash, net, seccomp};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::process::Signal;
use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

/// Serves one start request to the end of the sandbox.
pub(crate) fn run(start: &Start, reply: OwnedFd) -> ! {
    process::set_signal(libc::SIGCHLD, Disposition::Default);
    process::set_signal(libc::SIGPIPE, Disposition::Ignore);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        process::set_signal(signal, Disposition::Ignore);
    }
    protection::arm(start.without);
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::empty());
    let code = match begin(start) {
        Ok(Begun::Live(live)) => {
            let _ = protocol::send(reply.as_fd(), &Reply::Started(live.running), &[]);
            drop(reply);
            live.serve(start);
            0
        }
        Ok(Begun::AlreadyRunning) => {
            let _ = protocol::send(reply.as_fd(), &Reply::AlreadyRunning, &[]);
            1
        }
        Err(failure) => {
            let _ = protocol::send(reply.as_fd(), &Reply::Failed(failure), &[]);
            1
        }
    };
    process::exit_now(code)
}

enum Begun {
    Live(Box<Live>),
    AlreadyRunning,
}

/// A sandbox whose init has been executed.
pub(super) struct Live {
    running: Running,
    state: OwnedFd,
    init: OwnedFd,
    console: OwnedFd,
    inside: Inside,
    _lock: Lock,
}

fn begin(start: &Start) -> Result<Begun, Failure> {
    let spec = &start.spec;
    crash::point();
    let state = rustix::fs::open(
        &spec.state,
        OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .step_with(|| format!("open the state directory {}", spec.state.display()))?;
    let lock = match record::lock(&state).step("lock the state directory")? {
        Holder::Free(Some(lock)) => lock,
        Holder::Free(None) | Holder::Monitor(_) => return Ok(Begun::AlreadyRunning),
    };
    let monitor = Process::of(std::process::id()).step("read the monitor's start time")?;
    lock.sign(&monitor).step("sign the lock")?;
    record::write(state.as_fd(), record::SPEC, spec).step("write spec.json")?;
    for name in [
        record::EXIT,
        record::RECORD,
        record::SOCKET,
        record::EGRESS,
        record::EGRESS_WANTED,
    ] {
        match rustix::fs::unlinkat(&state, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(Failure::new(format!("remove the old {name}"), error)),
        }
    }
    crash::point();
    let mut made = Made {
        cgroups: None,
        veth: false,
        policy: false,
    };
    match start_init(start, &state, monitor, &mut made) {
        Ok((running, init, console, inside)) => Ok(Begun::Live(Box::new(Live {
            running,
            state,
            init,
            console,
            inside,
            _lock: lock,
        }))),
        Err(failure) => {
            made.undo(start);
            for name in [record::RECORD, record::SOCKET] {
                let _ = rustix::fs::unlinkat(&state, name, AtFlags::empty());
            }
            Err(failure)
        }
    }
}

/// What outlives the process and has to be undone when a start fails.
struct Made {
    cgroups: Option<cgroup::Join>,
    veth: bool,
    policy: bool,
}

impl Made {
    fn undo(&mut self, start: &Start) {
        if self.policy {
            let _ = net::egress::remove(&start.host, &start.spec.id);
        }
        if self.veth {
            let _ = net::outside::remove(&start.host, &start.spec.id);
        }
        if self.cgroups.take().is_some() {
            let _ = cgroup::remove(&start.host.cgroup_root, &start.spec.id);
        }
    }
}

/// Files a process may have open at most, as engines inside ask for (and the kernel's own bound).
const OPEN_FILES: u64 = 1 << 20;

/// Lets init have as many open files as engines inside want: nobody inside can raise a limit, and
/// service managers give runners less. What is used at once stays as it was; init inherits both.
/// Where the host has no CAP_SYS_RESOURCE its limit stands.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    if now.maximum.is_some_and(|most| most < OPEN_FILES) {
        let raised = Rlimit {
            current: now.current,
            maximum: Some(OPEN_FILES),
        };
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

/// What init opened and the monitor serves.
struct Inside {
    resolver: Vec<OwnedFd>,
    /// Where its filter's notifications come.
    listener: Option<OwnedFd>,
}

type Started = (Running, OwnedFd, OwnedFd, Inside);

fn start_init(
    start: &Start,
    state: &OwnedFd,
    monitor: Process,
    made: &mut Made,
) -> Result<Started, Failure> {
    let spec = &start.spec;
    let executable = rustix::fs::open(
        &spec.init.executable,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step_with(|| format!("open {}", spec.init.executable.display()))?;
    let listener = if spec.init.listener {
        Some(serve::listen(state).step("listen on agent.sock")?)
    } else {
        None
    };
    let (console, console_inside) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .step("make the console's pipe")?;
    let strings = |list: &[String]| -> Result<Vec<CString>, Failure> {
        list.iter()
            .map(|text| CString::new(text.as_str()).step("pass init its arguments"))
            .collect()
    };
    let (argv, env) = (strings(&spec.init.argv)?, strings(&spec.init.env)?);
    let filter = seccomp::Filter::make().step("make the seccomp filter")?;
    let family = family::find(spec)?;
    raise_open_files();
    let join = made
        .cgroups
        .insert(cgroup::create(&start.host.cgroup_root, spec)?);
    crash::point();
    let host_mounts = rustix::fs::open(
        c"/proc/self/ns/mnt",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step("open the host's mount namespace")?;
    // Before there is anything it could hold for, and while nothing is mounted that could hide nft.
    if let Some(egress) = spec.policy() {
        made.policy = true;
        net::egress::install(&start.host, &spec.id, egress).step("make the egress policy")?;
        crash::point();
    }
    root::private_namespace()?;
    process::keep_capabilities().step("keep capabilities")?;
    crash::point();
    let (sync, theirs) = protocol::pair().step("make a socket to init")?;
    let handover = Handover {
        spec,
        sync: theirs,
        executable,
        listener,
        console: console_inside,
        join,
        argv: &argv,
        env: &env,
        filter: &filter,
    };
    let (sync, pid, init) = match family {
        None => clone_init(sync, handover)?,
        Some(family) => family.clone_init(sync, handover)?,
    };
    let child = Child {
        pid,
        sync: &sync,
        join,
        said: Cell::new(false),
    };
    match bring_up(start, state, monitor, &child, &mut made.veth) {
        Ok((running, inside)) => {
            process::enter(host_mounts.as_fd(), libc::CLONE_NEWNS)
                .step("return to the host's mounts")
                .inspect_err(|_| kill(&init))?;
            Ok((running, init, console, inside))
        }
        Err(failure) => {
            let failure = if child.said.get() {
                failure
            } else {
                cause(failure, &init, &sync)
            };
            kill(&init);
            Err(failure)
        }
    }
}

/// The monitor's end of the socket to init, init's id and its descriptor.
type Cloned = (OwnedFd, u32, OwnedFd);

/// Clones init into namespaces of its own; init's ends of things are closed here.
fn clone_init(sync: OwnedFd, handover: Handover<'_>) -> Result<Cloned, Failure> {
    let mut flags = libc::CLONE_NEWUTS;
    for (flag, protection) in [
        (libc::CLONE_NEWUSER, Protection::UserNamespace),
        (libc::CLONE_NEWPID, Protection::PidNamespace),
        (libc::CLONE_NEWNET, Protection::NetNamespace),
        (libc::CLONE_NEWIPC, Protection::IpcNamespace),
    ] {
        if !protection::removed(protection) {
            flags |= flag;
        }
    }
    let namespaces = u64::try_from(flags).step("clone")?;
    // What the kernel counts by user (namespaces, inotify, message queues, tasks, signals) it counts
    // for whoever made a user namespace too. Were that the host's root, environments would take it
    // from each other and from the host.
    let id = handover.spec.id_base;
    process::set_effective_ids(id, id).step("take the environment's ids")?;
    match process::clone(namespaces, handover.join.unified()).step("make the namespaces")? {
        Forked::Child => become_init(sync, handover),
        Forked::Parent { pid, pidfd } => {
            process::set_effective_ids(0, 0)
                .step("give the environment's ids back")
                .inspect_err(|_| kill(&pidfd))?;
            Ok((sync, pid, pidfd))
        }
    }
}

/// Init's side of a clone. Its copy of the monitor's end would keep it from hearing that the
/// monitor is gone.
fn become_init(sync: OwnedFd, handover: Handover<'_>) -> ! {
    process::reset_signals();
    drop(sync);
    init::run(handover)
}

/// What made init end says more than the step of ours that failed because it had.
fn cause(failure: Failure, init: &OwnedFd, sync: &OwnedFd) -> Failure {
    // One that is ending has lost its namespaces a moment before its end is told.
    if !record::wait_end(init, Some(1000)) {
        return failure;
    }
    match hear(sync) {
        Ok(Some((bytes, _))) => serde_json::from_slice(&bytes).unwrap_or(failure),
        _ => Failure::new(EXECUTE, "it was killed before it ran"),
    }
}

/// The steps init itself takes part in.
const EXECUTE: &str = "start init";

/// The half-made init.
struct Child<'a> {
    pid: u32,
    sync: &'a OwnedFd,
    join: &'a cgroup::Join,
    /// It has told its own failure.
    said: Cell<bool>,
}

fn bring_up(
    start: &Start,
    state: &OwnedFd,
    monitor: Process,
    child: &Child<'_>,
    veth: &mut bool,
) -> Result<(Running, Inside), Failure> {
    let spec = &start.spec;
    crash::point();
    // A member's user namespace is the environment's, which has them.
    let own_ids = !protection::removed(Protection::UserNamespace);
    if spec.member_of().is_none() && own_ids {
        IdMaps::swapped(spec.id_base, spec.swap)
            .write(child.pid)
            .step("write the id maps")?;
    }
    let userns = rustix::fs::open(
        format!("/proc/{}/ns/user", child.pid),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step("open the user namespace")?;
    crash::point();
    *veth = true;
    net::outside::create(&start.host, spec, child.pid)?;
    net::links::create(spec, child.pid)?;
    crash::point();
    // Layers are shifted and never swapped: the swap is the user namespace's alone.
    let plain = (spec.swap != Swap::default() || !own_ids)
        .then(|| IdMaps::environment(spec.id_base).namespace())
        .transpose()
        .step("map the layers' ids")?;
    let layers = plain.as_ref().unwrap_or(&userns);
    let root = root::build(spec, layers.as_fd(), start.host.attach_layers)?;
    crash::point();
    protocol::send_bytes(child.sync.as_fd(), b"G", &[root.as_fd()]).step("start init")?;
    drop(root);
    let started_unix_ms = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let running = Running {
        monitor_pid: Some(monitor.pid),
        init_pid: child.pid,
        started_unix_ms,
    };
    let record = Record {
        boot: record::boot_id().step("read the boot's id")?,
        monitor,
        init: Process::of(child.pid).step("read init's start time")?,
        started_unix_ms,
    };
    record::write(state.as_fd(), record::RECORD, &record).step("write monitor.json")?;
    crash::point();
    let inside = match hear(child.sync)? {
        Some((bytes, mut fds)) if bytes == b"R" || bytes == b"RL" => Inside {
            listener: if bytes == b"RL" { fds.pop() } else { None },
            resolver: fds,
        },
        Some((bytes, _)) => return Err(child.failure(&bytes)),
        None => return Err(Failure::new(EXECUTE, "it was killed before it ran")),
    };
    child.join.delegate()?;
    protocol::send_bytes(child.sync.as_fd(), b"X", &[]).step("start init")?;
    crash::point();
    match hear(child.sync)? {
        None => Ok((running, inside)),
        Some((bytes, _)) => Err(child.failure(&bytes)),
    }
}

/// A datagram and the descriptors with it.
type Heard = (Vec<u8>, Vec<OwnedFd>);

fn hear(sync: &OwnedFd) -> Result<Option<Heard>, Failure> {
    protocol::receive_bytes(sync.as_fd()).step("hear init")
}

impl Child<'_> {
    fn failure(&self, bytes: &[u8]) -> Failure {
        self.said.set(true);
        serde_json::from_slice(bytes).unwrap_or_else(|error| Failure::new("hear init", error))
    }
}

fn kill(init: &OwnedFd) {
    let _ = rustix::process::pidfd_send_signal(init, Signal::KILL);
    serve::reap(init);
}
