//! What the kernel's log says about processes it killed because memory ran out.
//!
//! One reader for the whole runner, told of news by the kernel; whoever looks after an environment
//! takes what is its own by the id range. Only the line that ends a kill is believed, and of it what
//! the kernel itself wrote: the user id at its end says whose process it was, since names of
//! processes and of cgroups inside are chosen by the environment. Where the log cannot be read (no
//! CAP_SYSLOG), kills are only counted (see `resources`).
//!
//! Crash behaviour: the log keeps what was written while no runner ran; it is read from its
//! beginning, and what was told already is known by time and name.

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{Mode, OFlags};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Kills kept for those who look later.
const KEPT: usize = 256;
/// Longest record of the log.
const RECORD: usize = 8192;

/// A process that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    /// When, by the log's own clock: microseconds since the boot.
    pub(crate) micros: u64,
    /// The same as time of day.
    pub(crate) at: Timestamp,
    /// Its user id as the host sees it.
    pub(crate) uid: u32,
    /// Its name, as it chose it.
    pub(crate) name: String,
    /// Bytes of its own memory.
    pub(crate) bytes: u64,
    /// The host had no memory left, rather than the environment.
    pub(crate) host: bool,
}

/// The kills known now, the oldest first.
pub(crate) type Kills = watch::Receiver<Arc<VecDeque<Kill>>>;

/// Reads the log, until dropped; answers at once when it cannot be read.
pub(crate) async fn follow(known: watch::Sender<Arc<VecDeque<Kill>>>, now: impl Fn() -> Timestamp) {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = match rustix::fs::open("/dev/kmsg", flags, Mode::empty()) {
        Ok(log) => log,
        Err(error) => {
            tracing::info!(%error, "the kernel's log cannot be read: of processes killed for want of memory only the number is known");
            return;
        }
    };
    let log = match watched(log) {
        Ok(log) => log,
        Err(error) => {
            tracing::info!(%error, "the kernel's log cannot be waited for");
            return;
        }
    };
    let mut buffer = vec![0; RECORD];
    // What is read before the log was read to its end once may be old.
    let mut live = false;
    loop {
        let Ok(mut ready) = log.readable().await else {
            return;
        };
        let mut found = Vec::new();
        loop {
            match rustix::io::read(log.get_ref(), &mut buffer[..]) {
                Ok(0) => return,
                Ok(length) => {
                    let record = buffer.get(..length).unwrap_or_default();
                    found.extend(parse(&String::from_utf8_lossy(record)));
                }
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                // Overwritten before it was read, or too long: the next one is there.
                Err(
                    rustix::io::Errno::PIPE | rustix::io::Errno::INTR | rustix::io::Errno::INVAL,
                ) => {}
                Err(error) => {
                    tracing::info!(%error, "the kernel's log ended");
                    return;
                }
            }
        }
        let was_live = std::mem::replace(&mut live, true);
        if found.is_empty() {
            continue;
        }
        let (uptime, now) = (uptime_micros(), now());
        known.send_modify(|kills| {
            let kills = Arc::make_mut(kills);
            for mut kill in found {
                // The log's clock is not disciplined: over weeks it drifts by seconds.
                let age = uptime.saturating_sub(kill.micros);
                let age = if was_live { 0 } else { age };
                let age = i64::try_from(age).unwrap_or(i64::MAX);
                let at = now.saturating_sub(SignedDuration::from_micros(age));
                kill.at = at.unwrap_or(Timestamp::MIN);
                kills.push_back(kill);
            }
            while kills.len() > KEPT {
                kills.pop_front();
            }
        });
    }
}

#[allow(
    deprecated,
    reason = "an owned descriptor cannot change under the reactor, and the replacement is unsafe"
)]
fn watched(log: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(log, Interest::READABLE)
}

/// The clock of the log.
fn uptime_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000 + part(now.tv_nsec) / 1000
}

/// One record: `PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT`, then lines of properties.
fn parse(record: &str) -> Option<Kill> {
    let (head, text) = record.lines().next()?.split_once(';')?;
    let mut head = head.split(',');
    // Of the kernel itself: user space may write records with a facility.
    let priority: u32 = head.next()?.parse().ok()?;
    let micros = head.nth(1)?.parse().ok()?;
    if priority >= 8 {
        return None;
    }
    let (host, text) = match text.strip_prefix("Memory cgroup out of memory: Killed process ") {
        Some(text) => (false, text),
        None => (true, text.strip_prefix("Out of memory: Killed process ")?),
    };
    // The name may hold anything, so it ends with the last of what the kernel writes after it.
    let (named, figures) = text.rsplit_once(") total-vm:")?;
    let (_, name) = named.split_once(" (")?;
    let figure = |name: &str| -> Option<u64> {
        let (_, rest) = figures.split_once(name)?;
        let end = rest.find(|char: char| !char.is_ascii_digit());
        rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
    };
    let kibibytes = figure("anon-rss:")? + figure("shmem-rss:").unwrap_or(0);
    let plain = name.chars().filter(|char| !char.is_control());
    Some(Kill {
        micros,
        at: Timestamp::MIN,
        uid: figure("UID:")?.try_into().ok()?,
        name: plain.take(64).collect(),
        bytes: kibibytes * 1024,
        host,
    })
}

#[cfg(test)]
mod tests;
