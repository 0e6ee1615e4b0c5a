//! Disks in the loop: what environments do with them is counted, who waits is looked at, and who is in
//! the way is held (`plan::io`).
//!
//! Counted twice a second, and twice as often while somebody takes much; only of those that used a
//! processor since or lately did something with a disk. Tasks that stand still are looked for in between:
//! often only while somebody is in the way, and only of those in whose way. Pressure alone, where the
//! kernel tells it of single cgroups (version 2), does not say who waits for a journal.
//!
//! Crash behaviour: nothing is stored. Limits that stand when an environment is first seen were a
//! predecessor's; the next counting lifts what is not asked for anew. A loop that ends lifts its own.

use super::watched::Watched;
use boatyard_plan::io::{Amount, Device, Disks as Plan, Limit, Seen};
use boatyard_sandbox::group::sample::{Disk, IoLimit, Resource};
use boatyard_sandbox::group::{Error, Group};
use boatyard_sandbox::spec::Id;
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often it is counted and decided, and how often while somebody takes much.
const PACE: Duration = Duration::from_millis(500);
const HURRIED: Duration = Duration::from_millis(250);
/// How often waiting is looked for while somebody is in the way, and while nobody is.
const OFTEN: Duration = Duration::from_millis(20);
const SELDOM: Duration = Duration::from_millis(100);
/// Tasks of one environment that are looked at.
const MOST: usize = 64;
/// A look pays for itself with so many times its duration.
const REST: u32 = 30;
/// Who did nothing with a disk for so long is counted only when it uses a processor.
const LATELY: Duration = Duration::from_secs(2);
/// How often limits are written again, to cgroups made since.
const AGAIN: Duration = Duration::from_secs(2);

type Environments = BTreeMap<Id, Watched>;

/// One environment that did something.
#[derive(Debug, Default)]
struct Counted {
    used: Duration,
    disks: BTreeMap<Device, Disk>,
    /// When it did something with a disk last.
    active: Option<Duration>,
    /// By pressure.
    stalled: Option<Duration>,
    /// Seen standing still since the last counting, added up; None where nobody looked.
    waited: Option<Duration>,
}

/// What the loop knows of disks.
#[derive(Debug, Default)]
pub(super) struct Disks {
    plan: Plan<Id>,
    counted: BTreeMap<Id, Counted>,
    exposed: BTreeSet<Id>,
    hurried: bool,
    stand: BTreeMap<(Id, Device), IoLimit>,
    written: Duration,
    at: Option<Duration>,
    looked: Duration,
    rested: Duration,
}

impl Disks {
    /// Takes note of one that is new to the loop.
    pub(super) fn meet(&mut self, id: &Id, group: &Group) {
        self.counted.remove(id);
        self.stand.retain(|(of, _), _| of != id);
        // A member has no limits beside its environment's.
        match group.io_limits() {
            Ok(limits) => {
                let stand = limits.into_iter();
                self.stand
                    .extend(stand.map(|(device, limit)| ((id.clone(), device), limit)));
            }
            Err(error) => tracing::debug!(%id, %error, "what it is held to was not read"),
        }
    }

    /// Whether it wants a round though nothing happens.
    pub(super) fn is_due(&self) -> bool {
        !self.stand.is_empty()
    }

    /// One round.
    pub(super) fn round(&mut self, now: Duration, environments: &Environments) {
        self.look(now, environments);
        let passed = self.at.map(|at| now.saturating_sub(at));
        let pace = if self.hurried { HURRIED } else { PACE };
        if passed.is_some_and(|passed| passed < pace) {
            return;
        }
        self.at = Some(now);
        self.counted.retain(|id, _| environments.contains_key(id));
        self.stand
            .retain(|(id, _), _| environments.contains_key(id));
        let passed = passed.unwrap_or_default();
        let mut seen = Vec::new();
        for (id, watched) in environments {
            match self.count(now, id, watched.group()) {
                Ok(done) => seen.extend(done),
                // The next listing takes it off.
                Err(error) => tracing::trace!(%id, %error, "its use of disks was not read"),
            }
        }
        // After a pause amounts are of who knows when.
        if passed > PACE * 4 {
            seen.clear();
        }
        let wanted = self.plan.observe(now, passed, &seen);
        self.exposed = self.plan.exposed();
        self.hurried = self.plan.are_flooded();
        tracing::trace!(?seen, ?wanted, "disks were counted");
        self.hold(now, environments, wanted);
    }

    /// What one did since the last time.
    fn count(&mut self, now: Duration, id: &Id, group: &Group) -> Result<Vec<Seen<Id>>, Error> {
        // Its environment's counters hold a member's.
        if id.owner().is_some() {
            return Ok(Vec::new());
        }
        let used = group.usage()?;
        let known = self.counted.get(id);
        let lately = known
            .and_then(|known| known.active)
            .is_some_and(|active| now.saturating_sub(active) < LATELY);
        if known.is_some_and(|known| known.used == used) && !lately {
            return Ok(Vec::new());
        }
        let first = known.is_none();
        let counted = self.counted.entry(id.clone()).or_default();
        counted.used = used;
        let disks = group.io()?.into_iter();
        let disks: BTreeMap<Device, Disk> = disks.map(|disk| (disk.device, disk)).collect();
        let stalled = group
            .pressure(Resource::Io)?
            .map(|pressure| pressure.some.total);
        // Pressure misses who waits for a journal, and looking what is over between two looks.
        let pressed = counted
            .stalled
            .zip(stalled)
            .map(|(before, now)| now.saturating_sub(before));
        let waited = pressed.max(counted.waited.take());
        counted.stalled = stalled;
        let before = std::mem::replace(&mut counted.disks, disks);
        if first {
            return Ok(Vec::new());
        }
        let mut seen = Vec::new();
        for (device, disk) in &counted.disks {
            let before = before.get(device).copied().unwrap_or_default();
            let one = Seen {
                key: id.clone(),
                device: *device,
                read: Amount {
                    bytes: disk.read.saturating_sub(before.read),
                    requests: disk.reads.saturating_sub(before.reads),
                },
                write: Amount {
                    bytes: disk.written.saturating_sub(before.written),
                    requests: disk.writes.saturating_sub(before.writes),
                },
                waited,
            };
            let moved = one.read != Amount::default() || one.write != Amount::default();
            // One that waits for its first answer is there too, however long.
            let waits = waited.is_some_and(|waited| waited * 10 > HURRIED);
            if moved || (lately && waits) {
                counted.active = Some(now);
                seen.push(one);
            }
        }
        Ok(seen)
    }

    /// Looks for tasks that stand still.
    fn look(&mut self, now: Duration, environments: &Environments) {
        let contended = !self.exposed.is_empty();
        let pace = if contended { OFTEN } else { SELDOM };
        let passed = now.saturating_sub(self.looked);
        if passed < pace || now < self.rested {
            return;
        }
        self.looked = now;
        // What stood still at this moment did so for about as long as nobody looked.
        let passed = passed.min(SELDOM);
        let began = super::of(clock_gettime(ClockId::ThreadCPUTime));
        for (id, watched) in environments {
            let of = id.owner().unwrap_or_else(|| id.clone());
            let Some(counted) = self.counted.get_mut(&of) else {
                continue;
            };
            let lately = counted
                .active
                .is_some_and(|active| now.saturating_sub(active) < LATELY);
            if !lately || (contended && !self.exposed.contains(&of)) {
                continue;
            }
            if let Ok(Some(waiting)) = watched.group().waiting(MOST) {
                *counted.waited.get_or_insert_default() += passed * waiting;
            }
        }
        let cost = super::of(clock_gettime(ClockId::ThreadCPUTime)).saturating_sub(began);
        self.rested = now + cost * REST;
    }

    /// Writes what is wanted and does not stand.
    fn hold(
        &mut self,
        now: Duration,
        environments: &Environments,
        wanted: BTreeMap<(Id, Device), Limit>,
    ) {
        let again = now.saturating_sub(self.written) >= AGAIN;
        if again {
            self.written = now;
        }
        let wanted: BTreeMap<_, _> = wanted
            .into_iter()
            .map(|(of, limit)| (of, written(&limit)))
            .collect();
        let lifted: Vec<_> = self
            .stand
            .keys()
            .filter(|of| !wanted.contains_key(*of))
            .cloned()
            .collect();
        for of in lifted {
            if set(environments, &of, &IoLimit::default()) {
                tracing::debug!(id = %of.0, device = ?of.1, "it is let go at the disk");
                self.stand.remove(&of);
            }
        }
        for (of, limit) in wanted {
            let stands = self.stand.get(&of) == Some(&limit);
            if stands && !again {
                continue;
            }
            if set(environments, &of, &limit) {
                if !stands {
                    tracing::debug!(id = %of.0, device = ?of.1, ?limit, "it is held at the disk");
                }
                self.stand.insert(of, limit);
            }
        }
    }

    /// Lets everybody go: the loop ends.
    pub(super) fn end(&mut self, environments: &Environments) {
        for (of, _) in std::mem::take(&mut self.stand) {
            set(environments, &of, &IoLimit::default());
        }
    }
}

fn set(environments: &Environments, (id, device): &(Id, Device), limit: &IoLimit) -> bool {
    let Some(watched) = environments.get(id) else {
        return true;
    };
    let done = watched.group().set_io_limit(*device, limit);
    if let Err(error) = &done {
        tracing::debug!(%id, %error, "it was not held at the disk; trying again");
    }
    done.is_ok()
}

fn written(limit: &Limit) -> IoLimit {
    IoLimit {
        read: limit.read.map(|read| read.bytes),
        written: limit.write.map(|write| write.bytes),
        reads: limit.read.map(|read| read.requests),
        writes: limit.write.map(|write| write.requests),
    }
}
