//! The end of an environment: SIGTERM to all, SIGKILL when the grace is over, then exit 0.
//!
//! As PID 1 "all" is the kernel's own list, so nothing that forks fast escapes. Otherwise (only
//! tests run the agent so) it is the agent's descendants, found in /proc: never anything else.
//! When nothing dies of SIGKILL either (a dead network file system), PID 1 exits all the same, and the
//! kernel ends the rest.

use super::{Core, Server};
use crate::session::Call;
use boatyard_wire::Reply;
use nix::sys::signal::Signal as NixSignal;
use rustix::process::{Pid, Signal};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Between one SIGKILL to all and the next.
const KILL_AGAIN: Duration = Duration::from_millis(50);
/// How long SIGKILL is given to work.
const HOPELESS: Duration = Duration::from_secs(5);
/// A longer grace is this one.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 3600);

/// A shutdown under way.
pub(super) struct Shutdown {
    kill_at: Instant,
    give_up_at: Instant,
    next: Instant,
}

impl Shutdown {
    pub(super) fn deadline(&self) -> Instant {
        self.next
    }

    /// Kills when it is time. True when there is nothing more to wait for.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        if now >= self.give_up_at {
            return true;
        }
        if now >= self.kill_at {
            signal_all(NixSignal::SIGKILL);
            self.next = now + KILL_AGAIN;
        } else {
            self.next = self.kill_at;
        }
        false
    }
}

impl Core {
    /// Begins to end everything; a second call can only shorten the grace.
    pub(super) fn shut_down(&mut self, grace: Duration) {
        let now = Instant::now();
        let kill_at = now + grace.min(LONGEST_GRACE);
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.kill_at = shutdown.kill_at.min(kill_at);
            shutdown.give_up_at = shutdown.kill_at + HOPELESS;
            shutdown.next = now;
            return;
        }
        self.shutdown = Some(Shutdown {
            kill_at,
            give_up_at: kill_at + HOPELESS,
            next: now,
        });
        signal_all(NixSignal::SIGTERM);
        signal_all(NixSignal::SIGCONT);
    }
}

impl Server {
    /// Passes on what ended processes left in their pipes, tells everyone who still listens, and ends.
    pub(super) fn finish(&mut self) -> ! {
        let now = Instant::now();
        for connection in self.connections.values_mut() {
            if matches!(connection.call, Call::Shutdown) {
                connection.reply(&Reply::Exit {
                    code: 0,
                    signal: None,
                });
            }
            // All writers are gone: each round empties some of a pipe, whose size bounds the rounds.
            for _ in 0..64 {
                connection.read_output(0, &mut self.scratch);
                connection.read_output(1, &mut self.scratch);
                if connection.settle(now, &mut self.scratch).is_err() {
                    break;
                }
            }
        }
        std::process::exit(0)
    }
}

fn signal_all(signal: NixSignal) {
    if rustix::process::getpid() == Pid::INIT {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), signal);
        return;
    }
    let Some(signal) = Signal::from_named_raw(signal as i32) else {
        return;
    };
    for pid in descendants() {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// All below the agent, by what /proc says of parents.
fn descendants() -> HashSet<Pid> {
    let parents: Vec<(Pid, Pid)> = processes()
        .filter_map(|pid| {
            let stat =
                std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
            // After the name, which may hold anything: state, parent.
            let parent = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            Some((pid, Pid::from_raw(parent)?))
        })
        .collect();
    let mut found = HashSet::new();
    let mut last = vec![rustix::process::getpid()];
    while let Some(parent) = last.pop() {
        for (pid, _) in parents.iter().filter(|(_, of)| *of == parent) {
            if found.insert(*pid) {
                last.push(*pid);
            }
        }
    }
    found
}

/// Ids in the /proc the agent stands in.
fn processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir(".").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        entry
            .file_name()
            .to_str()?
            .parse()
            .ok()
            .and_then(Pid::from_raw)
    })
}

/// Live processes other than the agent.
pub(super) fn count_processes() -> u32 {
    let own = rustix::process::getpid();
    u32::try_from(processes().filter(|pid| *pid != own).count()).unwrap_or(u32::MAX)
}
