//! The child that becomes PID 1: from the monitor's clone to the execution of the init program.
//!
//! Runs in the environment's new user, pid, network, ipc and uts namespaces, at first in the
//! monitor's mount namespace. Order, with the monitor at the other end of the socket:
//!
//! 1. joins its cgroups, makes its cgroup namespace, configures loopback; waits for `G` with the
//!    root's descriptor;
//! 2. becomes root of its user namespace, configures its link, copies the mount namespace, mounts
//!    what belongs to its own namespaces, pivots, names the host, installs the seccomp filter;
//! 3. sends `R` with the resolver's sockets (`RL`: and last the seccomp listener); waits for `X`;
//!    executes.
//!
//! A failure is sent as JSON instead; end of file from the monitor is death at once. The socket
//! closes on execution, which tells the monitor. What it needs was allocated before the clone
//! where feasible; it may allocate, because the process it was cloned from has one thread.
//!
//! Read next: `seccomp`, `net`.

use crate::cgroup::Join;
use crate::crash;
use crate::error::{Failure, Step};
use crate::protection::{self, Protection};
use crate::spec::Spec;
use crate::sys::process;
use crate::{net, protocol, root, seccomp};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What the child takes over from the monitor.
pub(crate) struct Handover<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) sync: OwnedFd,
    pub(crate) executable: OwnedFd,
    pub(crate) listener: Option<OwnedFd>,
    pub(crate) console: OwnedFd,
    pub(crate) join: &'a Join,
    pub(crate) argv: &'a [CString],
    pub(crate) env: &'a [CString],
    pub(crate) filter: &'a seccomp::Filter,
}

/// Runs the child; never returns.
pub(crate) fn run(handover: Handover<'_>) -> ! {
    crash::become_init();
    let sync = handover.sync.as_fd();
    let failure = match prepare(&handover) {
        Ok(()) => {
            let error = process::execute(handover.executable.as_fd(), handover.argv, handover.env);
            Failure::new(
                format!("execute {}", handover.spec.init.executable.display()),
                format!("{error} (it must be a static program everybody may execute, mode 0755)"),
            )
        }
        Err(failure) => failure,
    };
    let _ = protocol::send(sync, &failure, &[]);
    process::exit_now(127)
}

fn prepare(handover: &Handover<'_>) -> Result<(), Failure> {
    let spec = handover.spec;
    let sync = handover.sync.as_fd();
    crash::point();
    handover.join.enter()?;
    if !protection::removed(Protection::CgroupNamespace) {
        process::unshare(libc::CLONE_NEWCGROUP).step("make a cgroup namespace")?;
    }
    handover.join.enter_class()?;
    crash::point();
    let resolver = if protection::removed(Protection::NetNamespace) {
        Vec::new()
    } else {
        net::inside::loopback(&spec.network)?
    };
    let (_, mut fds) = wait(sync, b'G')?;
    let root = fds
        .pop()
        .ok_or_else(|| Failure::new("take the root over", "no descriptor came"))?;
    process::become_user(0, 0, &[]).step("become root inside")?;
    crash::point();
    net::inside::link(&spec.network)?;
    enter_root(&root, handover.join, spec)?;
    rustix::system::sethostname(spec.hostname.as_bytes()).step("set the host name")?;
    limits(spec)?;
    if handover.filter.keeps_cores() {
        no_cores()?;
    }
    crash::point();
    descriptors(handover)?;
    let listener = handover
        .filter
        .install()
        .step("install the seccomp filter")?;
    crash::point();
    let fds = resolver.iter().chain(&listener).map(AsFd::as_fd);
    let fds: Vec<BorrowedFd<'_>> = fds.collect();
    let word: &[u8] = if listener.is_some() { b"RL" } else { b"R" };
    protocol::send_bytes(sync, word, &fds).step("report to the monitor")?;
    wait(sync, b'X')?;
    crash::point();
    Ok(())
}

/// Waits for one letter of the monitor; dies when the monitor is gone.
fn wait(sync: BorrowedFd<'_>, letter: u8) -> Result<(Vec<u8>, Vec<OwnedFd>), Failure> {
    match protocol::receive_bytes(sync).step("hear the monitor")? {
        Some((bytes, fds)) if bytes.first() == Some(&letter) => Ok((bytes, fds)),
        Some(_) => Err(Failure::new("hear the monitor", "an unexpected message")),
        None => process::exit_now(126),
    }
}

/// Copies the mount namespace (which locks what the monitor mounted), mounts the rest, pivots.
fn enter_root(root: &OwnedFd, join: &Join, spec: &Spec) -> Result<(), Failure> {
    // The working directory follows into the copied namespace; a descriptor would not.
    rustix::process::fchdir(root).step("enter the root")?;
    process::unshare(libc::CLONE_NEWNS).step("make the mount namespace")?;
    crash::point();
    // A mount of our own on top: the copied one is locked and could not be pivoted to.
    let tree = rustix::mount::open_tree(
        rustix::fs::CWD,
        c".",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE,
    )
    .step("bind the root")?;
    rustix::mount::move_mount(
        &tree,
        c"",
        rustix::fs::CWD,
        c".",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .step("bind the root")?;
    rustix::process::fchdir(&tree).step("enter the root")?;
    // Before the host's own go: the kernel grants a new /proc and /sys only while a fully visible
    // one can be seen.
    let nosuid = MountFlags::NOSUID | MountFlags::NODEV;
    // A second of each, out of the way: programs unmount theirs first (`ip netns exec`), and nobody
    // inside may mount a new one unless one with nothing mounted over can be seen.
    for (proc, sys) in [(c"proc", c"sys"), (c"dev/.spare/proc", c"dev/.spare/sys")] {
        own(c"proc", proc, c"/proc", Protection::PidNamespace)?;
        own(c"sysfs", sys, c"/sys", Protection::NetNamespace)?;
    }
    let pts = c"newinstance,ptmxmode=0666,mode=620,gid=5";
    mount(
        c"devpts",
        c"dev/pts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        Some(pts),
    )?;
    let size = spec.company.as_ref().and_then(|company| company.shm_bytes);
    let size = size.map_or_else(String::new, |size| format!(",size={size}"));
    let shm = CString::new(format!("mode=1777{size}")).step("mount /dev/shm")?;
    mount(c"tmpfs", c"dev/shm", nosuid, Some(&shm))?;
    if !protection::removed(Protection::IpcNamespace) {
        mount(c"mqueue", c"dev/mqueue", root::PLAIN, None)?;
    }
    if protection::removed(Protection::CgroupNamespace) {
        bind(c"/sys/fs/cgroup", c"sys/fs/cgroup")?;
    } else {
        join.mount_inside()?;
    }
    crash::point();
    if protection::removed(Protection::Pivot) {
        rustix::process::chroot(c".").step("change to the root")?;
    } else {
        rustix::process::pivot_root(c".", c".").step("pivot to the root")?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH).step("leave the host's root")?;
    }
    rustix::process::chdir(c"/").step("enter the root")?;
    // As on a host that boots: what is mounted later shows in containers that ask for it. Nothing
    // outside this namespace is a peer.
    rustix::mount::mount_change(
        c"/",
        rustix::mount::MountPropagationFlags::SHARED | rustix::mount::MountPropagationFlags::REC,
    )
    .step("share the mounts with namespaces inside")?;
    crash::point();
    Ok(())
}

/// Mounts a file system that shows a namespace of the environment's own; the host's where a test
/// leaves that namespace out.
fn own(kind: &CStr, target: &CStr, hosts: &CStr, namespace: Protection) -> Result<(), Failure> {
    if protection::removed(namespace) {
        bind(hosts, target)
    } else {
        mount(kind, target, root::PLAIN, None)
    }
}

fn bind(source: &CStr, target: &CStr) -> Result<(), Failure> {
    rustix::mount::mount_bind_recursive(source, target)
        .step_with(|| format!("bind {}", source.to_string_lossy()))
}

/// `mount(2)` of a file system of the environment's own.
pub(crate) fn mount(
    kind: &CStr,
    target: &CStr,
    flags: MountFlags,
    data: Option<&CStr>,
) -> Result<(), Failure> {
    rustix::mount::mount(kind, target, kind, flags, data).step_with(|| {
        format!(
            "mount {} at /{}",
            kind.to_string_lossy(),
            target.to_string_lossy()
        )
    })
}

/// Sets the limits of processes as far as the host's hard limits go.
fn limits(spec: &Spec) -> Result<(), Failure> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let set = |resource, soft: Option<u64>, hard: Option<u64>| {
        // None is the largest of all.
        let least = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        let maximum = least(hard, getrlimit(resource).maximum);
        let current = least(soft, maximum);
        setrlimit(resource, Rlimit { current, maximum })
    };
    if let Some(wanted) = spec.nofile {
        set(Resource::Nofile, Some(wanted), Some(wanted)).step("limit the open files")?;
    }
    for limit in &spec.rlimits {
        let resource = match limit.name.as_str() {
            "as" => Resource::As,
            "core" => Resource::Core,
            "data" => Resource::Data,
            "fsize" => Resource::Fsize,
            "locks" => Resource::Locks,
            "memlock" => Resource::Memlock,
            "msgqueue" => Resource::Msgqueue,
            "nice" => Resource::Nice,
            "nofile" => Resource::Nofile,
            "nproc" => Resource::Nproc,
            "rss" => Resource::Rss,
            "rtprio" => Resource::Rtprio,
            "sigpending" => Resource::Sigpending,
            "stack" => Resource::Stack,
            _ => continue,
        };
        set(resource, limit.soft, limit.hard).step_with(|| format!("limit {}", limit.name))?;
    }
    Ok(())
}

/// See `seccomp::cores`. A host whose hard limit is lower yet lets nobody raise it; there its program goes
/// on being run.
fn no_cores() -> Result<(), Failure> {
    use rustix::process::{Resource, Rlimit};
    let hard = rustix::process::getrlimit(Resource::Core).maximum;
    if hard == Some(0) {
        return Ok(());
    }
    let byte = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    rustix::process::setrlimit(Resource::Core, byte).step("limit core dumps")
}

/// 0 is /dev/null, 1 and 2 the console, 3 the listener; nothing else survives the execution.
fn descriptors(handover: &Handover<'_>) -> Result<(), Failure> {
    let what = "arrange the descriptors";
    rustix::process::setsid().step("start a session")?;
    // The monitor's is empty, for exact modes of what it makes.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let null = rustix::fs::open(
        c"/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .step("open /dev/null inside")?;
    process::dup_to(null.as_raw_fd(), 0).step(what)?;
    process::dup_to(handover.console.as_raw_fd(), 1).step(what)?;
    process::dup_to(handover.console.as_raw_fd(), 2).step(what)?;
    if let Some(listener) = &handover.listener {
        process::dup_to(listener.as_raw_fd(), 3).step(what)?;
    }
    if protection::removed(Protection::Descriptors) {
        // The socket's end tells the monitor of the execution.
        let first = if handover.listener.is_some() { 4 } else { 3 };
        for fd in (first..64).filter(|fd| *fd != handover.sync.as_raw_fd()) {
            let _ = process::dup_to(fd, fd);
        }
        return Ok(());
    }
    process::close_on_exec_from(if handover.listener.is_some() { 4 } else { 3 }).step(what)
}
