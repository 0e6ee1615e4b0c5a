//! What a monitor writes about its sandbox, and whether it is still true.
//!
//! `<state>/monitor.lock` is locked by the monitor for its life and names it; `monitor.json` names
//! monitor and init before init runs anything; `exit.json` says how init ended. A process is named
//! by pid, start time and boot, so that a reused pid is never taken for it. All are written by
//! rename, read whole, and worthless after a reboot by design.
//!
//! Read next: `monitor` (writes them), `sandboxes` (reads them).

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A sandbox whose PID 1 runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The host-side monitor; None when it was killed while init lives on: then names are no
    /// longer resolved inside and the exit code will not be known. Kill and start it again.
    pub monitor_pid: Option<u32>,
    /// PID 1 as the host sees it.
    pub init_pid: u32,
    /// When it was started, milliseconds since 1970.
    pub started_unix_ms: u64,
}

/// A process named so that reuse of its pid is noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Field 22 of /proc/PID/stat, clock ticks since boot.
    pub(crate) start: u64,
}

/// `monitor.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) boot: String,
    pub(crate) monitor: Process,
    pub(crate) init: Process,
    pub(crate) started_unix_ms: u64,
}

/// `exit.json`: how init ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// The signal that killed it. Both are None when nobody saw the end.
    pub(crate) signal: Option<i32>,
}

impl Process {
    /// The process with this id now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self {
            pid,
            start: start_time(pid)?,
        })
    }

    /// A pidfd when the process still exists (perhaps as a zombie) and is the one meant.
    pub(crate) fn open(&self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
        // Read after opening: if it is right now, the descriptor is of the right process.
        (start_time(self.pid).ok()? == self.start).then_some(fd)
    }

    /// Whether it runs: exists and is no zombie.
    pub(crate) fn runs(&self) -> bool {
        self.open().is_some_and(|fd| !ended(&fd))
    }
}

/// Whether the process of a pidfd has ended.
pub(crate) fn ended(pidfd: &OwnedFd) -> bool {
    wait_end(pidfd, Some(0))
}

/// Waits for the end of the process of a pidfd; false when the milliseconds ran out.
pub(crate) fn wait_end(pidfd: &OwnedFd, millis: Option<u32>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec};
    let timeout = millis.map(|ms| Timespec {
        tv_sec: i64::from(ms / 1000),
        tv_nsec: i64::from(ms % 1000) * 1_000_000,
    });
    loop {
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Field 22 of /proc/PID/stat.
fn start_time(pid: u32) -> io::Result<u64> {
    let text = std::fs::read(format!("/proc/{pid}/stat"))?;
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    // The command's name may hold anything, so count from the last parenthesis.
    let end = text.iter().rposition(|b| *b == b')').ok_or_else(bad)?;
    let rest = std::str::from_utf8(&text[end + 1..]).map_err(|_| bad())?;
    rest.split_ascii_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(bad)
}

/// Identity of this boot.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Writes `value` as `name` in `state`, whole or not at all.
pub(crate) fn write<T: Serialize>(
    state: impl AsFd + Copy,
    name: &str,
    value: &T,
) -> io::Result<()> {
    let scratch = format!("{name}.new");
    let fd = rustix::fs::openat(
        state,
        scratch.as_str(),
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::from_raw_mode(0o600),
    )?;
    File::from(fd).write_all(&serde_json::to_vec(value)?)?;
    rustix::fs::renameat(state, scratch.as_str(), state, name)?;
    Ok(())
}

/// Reads `name` in `state`; None when there is none or it is not whole.
pub(crate) fn read<T: serde::de::DeserializeOwned>(
    state: &Path,
    name: &str,
) -> io::Result<Option<T>> {
    match std::fs::read(state.join(name)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The lock a monitor holds for its life.
pub(crate) struct Lock(#[allow(dead_code, reason = "held, never read")] OwnedFd);

/// Who holds the lock of a state directory.
pub(crate) enum Holder {
    /// Nobody; the lock is ours now (None: there is no lock file to hold).
    Free(Option<Lock>),
    /// This monitor, when it has said who it is already.
    Monitor(Option<Process>),
}

/// Tries to take the lock of a state directory, for a monitor's life.
pub(crate) fn lock(state: impl AsFd) -> io::Result<Holder> {
    take(
        state,
        OFlags::CREATE,
        FlockOperation::NonBlockingLockExclusive,
    )
}

/// Looks who holds the lock. Takes it shared for a moment: two lookers do not see each other.
pub(crate) fn probe(state: impl AsFd) -> io::Result<Holder> {
    match take(
        state,
        OFlags::empty(),
        FlockOperation::NonBlockingLockShared,
    ) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Holder::Free(None)),
        other => other,
    }
}

fn take(state: impl AsFd, how: OFlags, operation: FlockOperation) -> io::Result<Holder> {
    let fd = rustix::fs::openat(
        &state,
        LOCK,
        how | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::from_raw_mode(0o600),
    )?;
    match rustix::fs::flock(&fd, operation) {
        Ok(()) => Ok(Holder::Free(Some(Lock(fd)))),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = Vec::new();
            File::from(fd).read_to_end(&mut text)?;
            Ok(Holder::Monitor(serde_json::from_slice(&text).ok()))
        }
        Err(error) => Err(error.into()),
    }
}

impl Lock {
    /// Writes down who holds it.
    pub(crate) fn sign(&self, process: &Process) -> io::Result<()> {
        rustix::fs::ftruncate(&self.0, 0)?;
        rustix::io::pwrite(&self.0, &serde_json::to_vec(process)?, 0)?;
        Ok(())
    }
}

/// Locked by the monitor.
pub(crate) const LOCK: &str = "monitor.lock";
/// The [`crate::spec::Spec`] it was started with.
pub(crate) const SPEC: &str = "spec.json";
/// [`Record`].
pub(crate) const RECORD: &str = "monitor.json";
/// [`Exit`].
pub(crate) const EXIT: &str = "exit.json";
/// [`crate::net::egress::Wanted`], written by the runner.
pub(crate) const EGRESS_WANTED: &str = "egress.wanted.json";
/// [`crate::EgressReport`], where there was ever a policy.
pub(crate) const EGRESS: &str = "egress.json";
/// Where init's output goes.
pub(crate) const CONSOLE: &str = "console.log";
/// The listening socket passed to init.
pub(crate) const SOCKET: &str = "agent.sock";
/// Mountpoint of the root in the monitor's mount namespace; always empty on the host.
pub(crate) const ROOT: &str = "root";
