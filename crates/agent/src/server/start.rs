//! From the moment the sandbox executes the agent to the first wait.
//!
//! The listener is descriptor [`boatyard_wire::AGENT_LISTENER_FD`]. It is taken over by `pidfd_getfd`
//! on the agent itself, which gives an owned copy that does not survive exec without the unsafe
//! assertion that nobody else uses the number; the original is closed before anything else runs.
//! The sandbox must therefore allow `pidfd_open` and `pidfd_getfd`.

use super::{Core, Server};
use crate::failure::Failure;
use crate::spawn::Provision;
use crate::task::Tasks;
use boatyard_wire::AGENT_LISTENER_FD;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Resource, Rlimit};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Enough for the most connections with all their descriptors.
const OPEN_FILES: u64 = 4096;

impl Server {
    /// Takes the listener and prepares for being PID 1, seen as a process of `user`.
    pub(crate) fn start(
        user: Option<(u32, u32)>,
        limits: Vec<crate::limit::Limit>,
    ) -> Result<Self, Failure> {
        let listener = take_listener()?;
        close_strays(&listener);
        heed_signals()?;
        let internal =
            |what: &'static str| move |error: rustix::io::Errno| Failure::internal(what, error);
        rustix::io::ioctl_fionbio(&listener, true).map_err(internal("cannot use descriptor 3"))?;

        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        set.add(Signal::SIGTERM);
        // Children unblock them before they become a program (see `stage`).
        set.thread_block()
            .map_err(|error| Failure::internal("cannot block signals", error))?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|error| Failure::internal("cannot listen for signals", error))?;

        if rustix::process::getpid() != rustix::process::Pid::INIT {
            // Orphans come here nonetheless.
            rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
                .map_err(internal("cannot become the reaper of orphans"))?;
        }
        rustix::process::chdir("/proc").map_err(internal(
            "cannot enter /proc; mount it before the agent starts",
        ))?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(internal("cannot open /dev/null"))?;

        let open_files = raise_open_files();
        if let Some(ids) = user {
            appear_as(ids).map_err(internal("cannot become the container's user"))?;
        }

        Ok(Self {
            listener: listener.into(),
            signals,
            connections: BTreeMap::new(),
            last_connection: 0,
            accept_after: None,
            core: Core {
                provision: Provision {
                    null,
                    open_files,
                    limits,
                    raise: user.is_some(),
                },
                defaults: boatyard_wire::SessionDefaults::default(),
                tasks: Tasks::default(),
                started: Instant::now(),
                hung_up: HashMap::new(),
                shutdown: None,
            },
            scratch: vec![0; 64 * 1024],
        })
    }
}

/// `UID:GID`.
pub(crate) fn ids(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':')?;
    let id = |text: &str| text.parse().ok().filter(|id| *id != u32::MAX);
    Some((id(uid)?, id(gid)?))
}

/// Takes the container user's ids as its effective ones, which is whose process it then is to `ps` and
/// `/proc`, and keeps root's as its real and saved ones and every capability: it is to run processes as
/// anybody. Those who have the user's id can neither signal it nor look into it: the one takes the real
/// id, the other no more capabilities than one's own.
fn appear_as((uid, gid): (u32, u32)) -> rustix::io::Result<()> {
    rustix::thread::set_thread_res_gid(None, Gid::from_raw(gid), None)?;
    rustix::thread::set_thread_res_uid(None, Uid::from_raw(uid), None)?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted;
    rustix::thread::set_capabilities(None, sets)
}

fn take_listener() -> Result<OwnedFd, Failure> {
    let failed = |error: rustix::io::Errno| {
        Failure::internal(
            "descriptor 3 is not a listening socket, or seccomp forbids pidfd_getfd",
            error,
        )
    };
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(failed)?;
    let listener = rustix::process::pidfd_getfd(&own, AGENT_LISTENER_FD, PidfdGetfdFlags::empty())
        .map_err(failed)?;
    if !rustix::net::sockopt::socket_acceptconn(&listener).map_err(failed)? {
        return Err(failed(rustix::io::Errno::INVAL));
    }
    nix::unistd::close(AGENT_LISTENER_FD)
        .map_err(|error| Failure::internal("cannot close descriptor 3", error))?;
    Ok(listener)
}

/// Closes whatever else came along: processes of the environment would inherit it.
fn close_strays(listener: &OwnedFd) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    // The directory's own descriptor is closed by now; closing it again is an error without effect.
    for fd in open
        .into_iter()
        .filter(|fd| *fd > 2 && *fd != listener.as_raw_fd())
    {
        let _ = nix::unistd::close(fd);
    }
}

/// A daemon's child may be born ignoring signals (`nohup`), and so would every process here; an
/// ignored SIGCHLD would even hide how they ended. A handler, unlike an ignored signal, becomes the
/// default on exec.
fn heed_signals() -> Result<(), Failure> {
    use Signal::{
        SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU,
        SIGUSR1, SIGUSR2, SIGWINCH,
    };
    let heeded = Arc::new(AtomicBool::new(false));
    for signal in [
        SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU,
        SIGUSR1, SIGUSR2, SIGWINCH,
    ] {
        signal_hook::flag::register(signal as i32, Arc::clone(&heeded))
            .map_err(|error| Failure::internal("cannot handle signals", error))?;
    }
    Ok(())
}

/// Raises the agent's own soft limit; gives the former, which its children get back.
fn raise_open_files() -> Option<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let former = limit.current?;
    let wanted = limit
        .maximum
        .map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if former < wanted {
        let raised = Rlimit {
            current: Some(wanted),
            ..limit
        };
        rustix::process::setrlimit(Resource::Nofile, raised).ok()?;
    }
    Some(former)
}
