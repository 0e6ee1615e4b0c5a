//! The spawner: the one process that forks.
//!
//! The runner has threads, and a threaded process cannot safely fork into namespaces; so it starts
//! itself again as this small single-threaded process, which serves requests from descriptor 0
//! ([`crate::protocol`]) and forks a monitor for each start. It holds no state: it can be killed
//! at any time and is started again, and it ends when the runner's end of the socket closes.
//!
//! Monitors are plain children: SIGCHLD is ignored here, so none becomes a zombie, and they are
//! reparented when the spawner ends. A second fork to detach them would only cost time.
//!
//! Read next: `monitor`.

use crate::error::Failure;
use crate::protocol::{self, Reply, Request};
use crate::sys::process::{self, Disposition, Forked};
use crate::{cgroup, crash, monitor, protection, root, view};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

/// Runs the spawner on descriptor 0; the second argument names the top cgroup. Called first thing in `main` when the first argument is
/// [`crate::SPAWNER_ARGUMENT`], before any thread exists.
#[must_use]
pub fn spawner_main() -> ExitCode {
    let Ok(control) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    process::set_signal(libc::SIGCHLD, Disposition::Ignore);
    process::set_signal(libc::SIGPIPE, Disposition::Ignore);
    // Terminal signals are for the runner; it ends this process by closing the socket.
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        process::set_signal(signal, Disposition::Ignore);
    }
    // Its place on descriptor 0 must not keep the socket alive in monitors.
    if let Ok(null) = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
    {
        use std::os::fd::AsRawFd;
        let _ = process::dup_to(null.as_raw_fd(), 0);
    }
    let _ = rustix::process::chdir(c"/");
    // A runner favoured by the kernel's out-of-memory killer must not pass that on.
    if std::fs::read_to_string("/proc/self/oom_score_adj").is_ok_and(|text| text.starts_with('-')) {
        let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    }
    cgroup::discover();
    if let Some(root) = std::env::args().nth(2) {
        // Without it only a service manager's habits are less well withstood.
        let _ = cgroup::join_monitors(&root);
    }
    let mut control = Some(control);
    while let Some(socket) = control.as_ref() {
        match protocol::receive::<Request>(socket.as_fd()) {
            Ok(Some((request, fds))) => {
                if let Some(reply) = fds.into_iter().next() {
                    serve(request, reply, &mut control);
                }
            }
            Ok(None) => break,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
    ExitCode::SUCCESS
}

fn serve(request: Request, reply: OwnedFd, control: &mut Option<OwnedFd>) {
    match request {
        Request::Start(start) => {
            crash::arm(start.kill_at);
            crash::point();
            match process::clone(0, None) {
                Ok(Forked::Child) => {
                    // The runner must see the spawner's end when the spawner ends.
                    drop(control.take());
                    monitor::run(&start, reply)
                }
                Ok(Forked::Parent { .. }) => crash::point(),
                Err(error) => {
                    let failure = Failure::new("fork the monitor", error);
                    let _ = protocol::send(reply.as_fd(), &Reply::Failed(failure), &[]);
                }
            }
            crash::arm(0);
        }
        Request::View {
            user,
            root,
            without,
        } => {
            let forked = root::supplementary_groups(user)
                .and_then(|groups| Ok((process::clone(0, None)?, groups)));
            match forked {
                Ok((Forked::Child, groups)) => {
                    drop(control.take());
                    protection::arm(without);
                    view::serve(user, &groups, &root, &reply)
                }
                Ok((Forked::Parent { .. }, _)) => {}
                Err(error) => {
                    let failure = Failure::new("fork a reader", error);
                    let _ = protocol::send(reply.as_fd(), &Reply::Failed(failure), &[]);
                }
            }
        }
        Request::OpenAs { user, path } => {
            let _ = match root::open_as(user, &path) {
                Ok(fd) => protocol::send(reply.as_fd(), &Reply::Opened, &[fd.as_fd()]),
                // It was killed: no answer says so.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                Err(error) => {
                    let failure = Failure::new("open", error);
                    protocol::send(reply.as_fd(), &Reply::Failed(failure), &[])
                }
            };
        }
    }
}
