//! What the monitor does while init runs, and at its end.
//!
//! One poll loop without threads: init's end, its output (to `console.log`, bounded by starting
//! over at [`CONSOLE_LIMIT`] and keeping one old file), name look-ups, calls that `notify` answers,
//! and changes of the egress policy ([`super::policy`]).

use super::Live;
use super::policy::Policy;
use crate::notify::Notifier;
use crate::protection::{self, Protection};
use crate::protocol::Start;
use crate::record::{self, Exit};
use crate::{cgroup, crash, net};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{WaitId, WaitIdOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Size at which the console's file is put aside and begun anew.
const CONSOLE_LIMIT: u64 = 512 * 1024;

/// The listening socket at `<state>/agent.sock`, whatever the length of the path.
pub(super) fn listen(state: &OwnedFd) -> std::io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let path = format!("/proc/self/fd/{}/{}", state.as_raw_fd(), record::SOCKET);
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmodat(
        state,
        record::SOCKET,
        Mode::from_raw_mode(0o600),
        AtFlags::empty(),
    )?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Waits for the end of init and takes its status.
pub(super) fn reap(init: &OwnedFd) -> Exit {
    let unknown = Exit {
        code: None,
        signal: None,
    };
    loop {
        match rustix::process::waitid(WaitId::PidFd(init.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                return Exit {
                    code: status.exit_status(),
                    signal: status.terminating_signal(),
                };
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return unknown,
        }
    }
}

impl Live {
    /// Serves until init ends, then records the end and removes what was made.
    pub(super) fn serve(mut self, start: &Start) {
        crash::point();
        let mut policy = Policy::new(start, &self);
        let mut forwarder = net::dns::Forwarder::new(
            std::mem::take(&mut self.inside.resolver),
            start.host.resolv_conf.clone(),
            policy.first(),
        );
        policy.look(&mut forwarder);
        let mut notifier = self.inside.listener.take().map(Notifier::new);
        let mut console = Console::open(&self);
        let mut pipe_open = true;
        loop {
            let (init_ended, output, called) = {
                let mut fds = vec![PollFd::new(&self.init, PollFlags::IN)];
                if pipe_open {
                    fds.push(PollFd::new(&self.console, PollFlags::IN));
                }
                let hangups = fds.len();
                fds.extend(
                    policy
                        .hangups
                        .as_ref()
                        .map(|fd| PollFd::new(fd, PollFlags::IN)),
                );
                let calls = fds.len();
                fds.extend(notifier.as_ref().and_then(Notifier::poll_descriptor));
                let own = fds.len();
                forwarder.poll_descriptors(&mut fds);
                let timeout = [
                    forwarder.timeout(),
                    policy.timeout(),
                    notifier.as_ref().and_then(Notifier::timeout),
                ];
                let timeout = timeout.into_iter().flatten().min().map(|left| Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: i64::from(left.subsec_nanos()),
                });
                match rustix::event::poll(&mut fds, timeout.as_ref()) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(_) => break,
                }
                let ready: Vec<PollFlags> = fds[own..].iter().map(PollFd::revents).collect();
                let init_ended = !fds[0].revents().is_empty();
                let output = pipe_open && !fds[1].revents().is_empty();
                let hung_up = calls > hangups && !fds[hangups].revents().is_empty();
                let called = if own > calls {
                    fds[calls].revents()
                } else {
                    PollFlags::empty()
                };
                drop(fds);
                forwarder.serve(&ready);
                if hung_up {
                    policy.look(&mut forwarder);
                }
                policy.report(&mut forwarder);
                (init_ended, output, called)
            };
            if !notifier
                .as_mut()
                .is_none_or(|notifier| notifier.serve(called))
            {
                notifier = None;
            }
            if output {
                pipe_open = console.copy(&self.console);
            }
            if init_ended {
                break;
            }
        }
        let exit = reap(&self.init);
        let _ = rustix::io::ioctl_fionbio(&self.console, true);
        while pipe_open && console.copy(&self.console) {}
        crash::point();
        let _ = record::write(self.state.as_fd(), record::EXIT, &exit);
        crash::point();
        let _ = rustix::fs::unlinkat(&self.state, record::SOCKET, AtFlags::empty());
        let _ = net::outside::remove(&start.host, &start.spec.id);
        if policy.was_there {
            crash::point();
            let _ = net::egress::remove(&start.host, &start.spec.id);
        }
        crash::point();
        let _ = cgroup::remove(&start.host.cgroup_root, &start.spec.id);
        let _ = rustix::fs::unlinkat(&self.state, record::ROOT, AtFlags::REMOVEDIR);
        crash::point();
    }
}

/// The bounded log of init's output.
struct Console<'a> {
    live: &'a Live,
    file: Option<OwnedFd>,
    written: u64,
}

impl<'a> Console<'a> {
    fn open(live: &'a Live) -> Self {
        let mut console = Self {
            live,
            file: None,
            written: 0,
        };
        console.reopen(OFlags::APPEND);
        if let Some(file) = &console.file {
            console.written = rustix::fs::fstat(file)
                .ok()
                .and_then(|stat| u64::try_from(stat.st_size).ok())
                .unwrap_or(0);
        }
        console
    }

    fn reopen(&mut self, how: OFlags) {
        self.file = rustix::fs::openat(
            &self.live.state,
            record::CONSOLE,
            how | OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .ok();
    }

    /// Copies what is in the pipe; false when it is at its end or empty.
    fn copy(&mut self, pipe: &OwnedFd) -> bool {
        let mut bytes = [0u8; 16 * 1024];
        let count = match rustix::io::read(pipe, &mut bytes) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => return true,
            Err(_) => return false,
        };
        if self.written > CONSOLE_LIMIT && !protection::removed(Protection::ConsoleLimit) {
            let old = format!("{}.1", record::CONSOLE);
            let _ = rustix::fs::renameat(
                &self.live.state,
                record::CONSOLE,
                &self.live.state,
                old.as_str(),
            );
            self.reopen(OFlags::TRUNC);
            self.written = 0;
        }
        if let Some(file) = &self.file {
            // A full disk loses output, never the sandbox.
            let _ = rustix::io::write(file, &bytes[..count]);
            self.written += u64::try_from(count).unwrap_or(0);
        }
        true
    }
}
