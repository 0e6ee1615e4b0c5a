//! The loop that keeps shells quick: it looks at what runs, asks `plan`, and moves and weighs.
//!
//! One thread of its own, which blocks in nothing but its own pauses: an async task would wait for
//! whatever else the runtime does. While nothing happens anywhere a round is one read of the usage of
//! all environments together; only those that used a processor are looked into, and of them only the
//! classes that did. What a look costs is paid back by a pause ([`Pace`]), so that nobody inside can
//! buy the host's time by making many processes.
//!
//! Crash behaviour: nothing is stored. A new loop re-reads the cgroups, weighs every environment
//! again and puts the quotas where they belong at that moment; a quota that nothing asks for any more
//! is lifted.
//!
//! Disks are shared by the same loop at a slower pace ([`disks`]).
//!
//! Not here: what is decided (`plan::shares`, `plan::io`), and whose processes the kernel lets us move
//! (`sandbox::group`). Memory has a loop of its own.
//!
//! Read next: [`watched`], [`disks`].

mod disks;
mod made;
mod watched;

use crate::isolation::Sandbox;
use boatyard_sandbox::group::sample::IoLimit;
use boatyard_sandbox::group::{self, Groups};
use boatyard_sandbox::spec::Id;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use watched::Watched;

/// Between rounds while something happens, and while nothing does.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(40);
/// How long after the last use rounds stay close together.
const LINGER: Duration = Duration::from_secs(2);
/// All environments and members are listed anew so often, whatever their number seems to be.
const RELIST: Duration = Duration::from_secs(2);
/// A round pays for itself with so many times its duration.
const REST: u32 = 30;

/// The running loop; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Shares {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shares {
    /// Starts it; None where process trees have no cgroups.
    ///
    /// # Errors
    /// When the host has no thread left.
    pub(crate) fn start(sandboxes: Arc<dyn Sandbox>) -> io::Result<Option<Self>> {
        let Some(groups) = sandboxes.groups() else {
            return Ok(None);
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("shares".to_owned())
            .spawn(move || {
                let mut rounds = Rounds::new(sandboxes, groups);
                while !stopped.load(Ordering::Acquire) {
                    let pause = rounds.round(now());
                    std::thread::park_timeout(pause);
                }
                rounds.disks.end(&rounds.watched);
            })?;
        Ok(Some(Self {
            stop,
            thread: Some(thread),
        }))
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A round is short; one that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Takes back what a loop that was killed wrote, where there is to be none any more: holds at disks,
/// and the room above a limit with the quotas that go with it. Blocks.
pub(crate) fn lift(sandboxes: &dyn Sandbox) {
    let ids = sandboxes.groups().map(|groups| groups.list());
    for id in ids.and_then(Result::ok).unwrap_or_default() {
        let Ok(Some(group)) = sandboxes.group(&id) else {
            continue;
        };
        for device in group.io_limits().unwrap_or_default().into_keys() {
            if let Err(error) = group.set_io_limit(device, &IoLimit::default()) {
                tracing::info!(%id, %error, "it stays held at a disk");
            }
        }
        let whole = group.whole_quota().ok().flatten();
        // Only the loop gives a burst.
        if let Some(whole) = whole.filter(|whole| !whole.burst.is_zero())
            && let Err(error) = group.set_cpu_limit(whole.limit_millis())
        {
            tracing::info!(%id, %error, "its room above the limit of processors stays");
        }
    }
}

/// The clock of /proc: since the host was started.
fn now() -> Duration {
    of(clock_gettime(ClockId::Boottime))
}

fn of(time: rustix::time::Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// What the loop holds between rounds.
struct Rounds {
    sandboxes: Arc<dyn Sandbox>,
    groups: Groups,
    watched: BTreeMap<Id, Watched>,
    disks: disks::Disks,
    listed: Listed,
    used: Option<Duration>,
    active: Duration,
    before: Duration,
}

impl Rounds {
    fn new(sandboxes: Arc<dyn Sandbox>, groups: Groups) -> Self {
        Self {
            sandboxes,
            groups,
            watched: BTreeMap::new(),
            disks: disks::Disks::default(),
            listed: Listed::default(),
            used: None,
            active: Duration::ZERO,
            before: now(),
        }
    }

    /// Does one round and says how long to wait for the next.
    fn round(&mut self, now: Duration) -> Duration {
        let began = of(clock_gettime(ClockId::ThreadCPUTime));
        let passed = now.saturating_sub(self.before);
        self.before = now;
        let count = self.groups.count();
        if self.listed.is_due(count, now) {
            // A keystroke passes through this process twice; it has new threads now and then.
            group::hasten_threads();
            self.listed = Listed(self.list(now).then_some((count, now)));
        }
        let used = self.groups.usage();
        let spent = match (used, self.used) {
            (Some(used), Some(before)) => used.saturating_sub(before),
            _ => passed,
        };
        self.used = used;
        // Less than a hundredth of a processor is nobody's build.
        if spent * 100 > passed {
            self.active = now;
        }
        let is_active = now.saturating_sub(self.active) < LINGER;
        if is_active || self.watched.values().any(Watched::is_due) {
            let mut gone = false;
            for watched in self.watched.values_mut() {
                gone |= !watched.round(now);
            }
            if gone {
                self.watched.retain(|_, watched| !watched.is_gone());
                self.listed = Listed(None);
            }
        }
        if is_active || self.disks.is_due() {
            self.disks.round(now, &self.watched);
        }
        let cost = of(clock_gettime(ClockId::ThreadCPUTime)).saturating_sub(began);
        let pause = if is_active { BUSY } else { IDLE };
        pause.max(cost * REST)
    }

    /// Finds who is new; false when somebody could not be met yet.
    fn list(&mut self, now: Duration) -> bool {
        let ids = match self.groups.list() {
            Ok(ids) => ids,
            Err(error) => {
                tracing::debug!(%error, "the cgroups cannot be listed; trying again");
                return false;
            }
        };
        let mut all_met = true;
        self.watched.retain(|id, _| ids.contains(id));
        for id in ids {
            if self.watched.contains_key(&id) {
                continue;
            }
            match self.sandboxes.group(&id) {
                Ok(Some(group)) => {
                    self.disks.meet(&id, &group);
                    self.watched.insert(id, Watched::new(group, now));
                }
                Ok(None) => {}
                // Just being made, or removed.
                Err(error) if error.is_gone() => all_met = false,
                Err(error) => tracing::debug!(%id, %error, "its cgroups cannot be opened"),
            }
        }
        all_met
    }
}

/// How many environments there were when all of them were met last, and when.
#[derive(Default)]
struct Listed(Option<(usize, Duration)>);

impl Listed {
    /// Whether to list them again, now that there are so many.
    fn is_due(&self, count: usize, now: Duration) -> bool {
        match self.0 {
            Some((before, when)) => {
                count != before || (count > 0 && now.saturating_sub(when) > RELIST)
            }
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    //! When environments are listed.
    use super::*;

    #[test]
    fn they_are_listed_until_all_are_met_then_when_their_number_changes_and_now_and_then() {
        let second = Duration::from_secs(1);
        // Somebody was only being made, though the number did not change any more.
        assert!(Listed(None).is_due(1, second));
        let met = Listed(Some((1, second)));
        assert!(!met.is_due(1, second * 2));
        assert!(met.is_due(2, second * 2));
        assert!(met.is_due(1, second * 4));
        assert!(!Listed(Some((0, second))).is_due(0, second * 60));
    }
}
