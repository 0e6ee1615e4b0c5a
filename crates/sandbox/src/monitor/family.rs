//! Init of a member: a sandbox in the user namespace, and perhaps the network namespace, of its
//! environment's.
//!
//! A process may not be cloned into a user namespace that is there already. So a helper is cloned
//! that enters it, clones init into new namespaces as a sibling of itself (the monitor is then
//! init's parent, as of any), sends the monitor init's descriptor and ends. What the helper enters
//! is the environment's: from there it can do nothing to the host.
//!
//! Crash behaviour: a helper that is killed has either cloned init, which dies with the monitor's
//! end of the socket, or has not.

use super::serve;
use crate::error::{Failure, Step};
use crate::init::Handover;
use crate::net::links;
use crate::protocol;
use crate::spec::{Network, Spec};
use crate::sys::process::{self, Forked};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Namespaces to be born into.
pub(super) struct Family {
    user: OwnedFd,
    network: Option<OwnedFd>,
}

/// Those of a member; None for a sandbox that is an environment's own.
pub(super) fn find(spec: &Spec) -> Result<Option<Family>, Failure> {
    let of = |state: &Path, kind: &str| {
        let what = "find the environment's namespaces";
        let found = links::namespace_of(state, kind).step(what)?;
        found.ok_or_else(|| Failure::new(what, format!("{} does not run", state.display())))
    };
    let Some(owner) = spec.member_of() else {
        return match spec.network {
            Network::Shared { .. } => Err(Failure::new(
                "find the environment's namespaces",
                "only a member may share a network",
            )),
            _ => Ok(None),
        };
    };
    Ok(Some(Family {
        user: of(&owner.state, "user")?,
        network: match &spec.network {
            Network::Shared { state } => Some(of(state, "net")?),
            _ => None,
        },
    }))
}

impl Family {
    /// Clones init; answers its id and descriptor.
    pub(super) fn clone_init(
        self,
        sync: OwnedFd,
        handover: Handover<'_>,
    ) -> Result<super::Cloned, Failure> {
        let what = "make the namespaces";
        let (ours, theirs) = protocol::pair().step(what)?;
        let helper = match process::clone(0, handover.join.unified()).step(what)? {
            Forked::Child => {
                drop(ours);
                match self.enter() {
                    Ok(Forked::Child) => {
                        drop(theirs);
                        super::become_init(sync, handover)
                    }
                    Ok(Forked::Parent { pidfd, .. }) => {
                        let _ = protocol::send_bytes(theirs.as_fd(), b"P", &[pidfd.as_fd()]);
                    }
                    Err(failure) => {
                        let _ = protocol::send(theirs.as_fd(), &failure, &[]);
                    }
                }
                process::exit_now(0)
            }
            Forked::Parent { pidfd, .. } => pidfd,
        };
        drop((theirs, handover));
        let heard = protocol::receive_bytes(ours.as_fd()).step(what);
        serve::reap(&helper);
        match heard? {
            Some((bytes, mut fds)) if bytes == b"P" => {
                let init = fds
                    .pop()
                    .ok_or_else(|| Failure::new(what, "no process came"))?;
                Ok((sync, pid_of(&init)?, init))
            }
            Some((bytes, _)) => {
                Err(serde_json::from_slice(&bytes)
                    .unwrap_or_else(|error| Failure::new(what, error)))
            }
            None => Err(Failure::new(what, "it was killed before it ran")),
        }
    }

    fn enter(&self) -> Result<Forked, Failure> {
        process::enter(self.user.as_fd(), libc::CLONE_NEWUSER)
            .step("enter the environment's user namespace")?;
        let mut flags =
            libc::CLONE_PARENT | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        match &self.network {
            Some(network) => process::enter(network.as_fd(), libc::CLONE_NEWNET)
                .step("enter the network it shares")?,
            None => flags |= libc::CLONE_NEWNET,
        }
        process::clone(u64::from(flags.cast_unsigned()), None).step("make the namespaces")
    }
}

/// The id of a process, as seen here.
fn pid_of(process: &OwnedFd) -> Result<u32, Failure> {
    let what = "find init";
    let text =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).step(what)?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    let pid = pid.and_then(|pid| pid.trim().parse().ok());
    // An ended one has -1.
    pid.ok_or_else(|| Failure::new(what, "it was killed before it ran"))
}
