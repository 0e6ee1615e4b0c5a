//! Who is held back at a disk, by how much, and for how long: what one environment takes away from
//! another that asks for little.
//!
//! Work-conserving and by need. A disk is everybody's as long as nobody suffers: only when an
//! environment that takes little of a disk waits long for it are those that take much slowed, first a
//! little (most of what hurts are bursts and long queues, not the amount), then more, never below half
//! of what they took; where a long queue stands, at half until it is gone, which costs nothing as the disk
//! is busy with the queue. What is calm again is let go in steps that grow, past what was taken, the later
//! the more often that was too soon; what has nobody to protect at once. Who was helped once is protected from the first moment
//! the next time, since until waiting shows it has been waited for. A hold must help: if those who
//! waited wait as long as before, it is lifted and not tried again for a while, so that a slow disk,
//! a journal or a full processor is not paid for by throughput.
//!
//! Equals are not held apart: who takes half of an even share or more suffers from nobody.
//!
//! Does no I/O: `runner`'s loop counts and writes. A new [`Disks`] holds nobody, so that after a restart
//! limits that stand are lifted and come back only if they are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Number of a block device.
pub type Device = (u32, u32);

/// Bytes and requests: in a while, or in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes.
    pub bytes: u64,
    /// Requests.
    pub requests: u64,
}

/// What an environment did with a disk since the last time; who did nothing need not be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<K> {
    /// Which environment.
    pub key: K,
    /// Which disk.
    pub device: Device,
    /// Read from it.
    pub read: Amount,
    /// Written to it.
    pub write: Amount,
    /// How long its tasks stood still for disks, added up; None where that was not looked at.
    pub waited: Option<Duration>,
}

/// The most an environment may do with a disk in a second; a direction without is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Reading.
    pub read: Option<Amount>,
    /// Writing.
    pub write: Option<Amount>,
}

/// A request costs as much as so many bytes.
const REQUEST: u64 = 32 << 10;
/// Who takes less than this in a second, with its requests, is in nobody's way.
const HEAVY: u64 = 16 << 20;
/// A direction that costs less is not held.
const MATTERS: u64 = HEAVY / 4;
/// Shorter waits hurt nobody.
const LEAST_WAIT: Duration = Duration::from_millis(3);
/// So many times what it waits when nobody is in its way is suffering.
const SUFFERS: u32 = 2;
/// A hold begins with this part of what was taken, in percent, and each step is the same of the last.
const STEP: u64 = 90;
/// Nobody is held below this part.
const LEAST: u64 = 50;
/// Letting go adds so much at first, and twice as much each time; nobody is held to more than so much.
const LET_GO: u64 = 5;
const FREE: u64 = 200;
/// Who waits so long waits for a queue, which is drained for so long at most, if it shrinks.
const DEEP: Duration = Duration::from_millis(30);
const DRAIN: Duration = Duration::from_secs(10);
/// What is taken is the mean of so many observations: a disk takes a lot at once, and then nothing.
const LASTING: u64 = 8;
/// Nobody is held to less than this in a second.
const LEAST_RATE: Amount = Amount {
    bytes: 8 << 20,
    requests: 200,
};
/// A hold that leaves this part of the wait has done what a hold can.
const MOST_OF_IT: u32 = 4;
/// A change is given so long to show.
const SETTLE: Duration = Duration::from_secs(1);
/// Calm for so long, and holds are loosened; doubled each time that was too soon, up to the most.
const CALM: Duration = Duration::from_secs(2);
const MOST_CALM: Duration = Duration::from_secs(128);
/// Suffering so soon after a hold was let go says that this was too soon.
const RELAPSE: Duration = Duration::from_secs(60);
/// For so long it is remembered who was helped.
const REMEMBERED: Duration = Duration::from_secs(600);
/// After so long a hold has helped or will not.
const TRIAL: Duration = Duration::from_secs(5);
/// For so long nobody is held after that, doubled each time up to the most.
const RESIGNED: Duration = Duration::from_secs(10);
const MOST_RESIGNED: Duration = Duration::from_secs(160);
/// Without anybody to protect, or without being used, a hold lasts so long.
const GONE: Duration = Duration::from_secs(1);
/// Who does nothing for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

impl Amount {
    fn per_second(self, passed: Duration) -> Self {
        let of = |amount: u64| {
            let nanos = passed.as_nanos().max(1);
            u64::try_from(u128::from(amount) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
        };
        Self {
            bytes: of(self.bytes),
            requests: of(self.requests),
        }
    }

    fn cost(self) -> u64 {
        self.bytes
            .saturating_add(self.requests.saturating_mul(REQUEST))
    }

    fn percent(self, percent: u64) -> Self {
        let of = |amount: u64, least: u64| (amount / 100 * percent).max(least);
        Self {
            bytes: of(self.bytes, LEAST_RATE.bytes),
            requests: of(self.requests, LEAST_RATE.requests),
        }
    }

    /// A part of the way from what was to what is, the whole of it when there is no `part`.
    fn towards(self, now: Self, part: u64) -> Self {
        let of = |before: u64, now: u64| {
            let part = part.max(1);
            (before / part * (part - 1)).saturating_add(now / part)
        };
        Self {
            bytes: of(self.bytes, now.bytes),
            requests: of(self.requests, now.requests),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            requests: self.requests.max(other.requests),
        }
    }

    /// Halfway from what was to what is.
    fn smooth(self, now: Self) -> Self {
        Self {
            bytes: self.bytes.midpoint(now.bytes),
            requests: self.requests.midpoint(now.requests),
        }
    }
}

/// One environment at one disk; amounts are of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    read: Amount,
    write: Amount,
    /// Reading and writing in the longer run, and of how many observations; the first may be of a
    /// part of its time only.
    lasting: [Amount; 2],
    observed: u64,
    /// Of a request.
    wait: Option<Duration>,
    /// The same while nobody is in its way.
    alone: Option<Duration>,
    /// When holding others helped it last.
    helped: Option<Duration>,
    /// What it took before it was held the last time, and until when: since then it was held to less.
    took: Option<([Amount; 2], Duration)>,
    seen: Duration,
}

impl Known {
    fn cost(&self) -> u64 {
        self.read.cost().saturating_add(self.write.cost())
    }

    fn count<K>(&mut self, now: Duration, passed: Duration, seen: &Seen<K>) {
        let (read, write) = (seen.read.per_second(passed), seen.write.per_second(passed));
        // What comes back begins anew.
        let fresh = now.saturating_sub(self.seen) > GONE + passed;
        (self.read, self.write) = if fresh {
            (read, write)
        } else {
            (self.read.smooth(read), self.write.smooth(write))
        };
        if fresh {
            (self.wait, self.observed) = (None, 0);
        }
        for (lasting, now) in self.lasting.iter_mut().zip([read, write]) {
            *lasting = lasting.towards(now, self.observed);
        }
        self.observed = (self.observed + 1).min(LASTING);
        let requests = seen.read.requests + seen.write.requests;
        if let Some(waited) = seen.waited {
            // One that has not been answered yet waits all the same.
            let wait = waited / u32::try_from(requests.max(1)).unwrap_or(u32::MAX);
            // What is over is seen sooner than what begins: a queue that is gone is.
            let smooth = |before| {
                if wait < before {
                    (before + wait * 3) / 4
                } else {
                    (before + wait) / 2
                }
            };
            self.wait = Some(self.wait.map_or(wait, smooth));
        }
        self.seen = now;
    }

    fn was_helped(&self, now: Duration) -> bool {
        self.helped
            .is_some_and(|helped| now.saturating_sub(helped) < REMEMBERED)
    }

    /// How long it waits for a request, if that is too long.
    fn suffers(&self, remains: Duration) -> Option<Duration> {
        let least = self.alone.unwrap_or_default().max(remains);
        self.wait
            .filter(|wait| *wait > LEAST_WAIT.max(least * SUFFERS))
    }
}

/// One that is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// What it took before.
    took: [Amount; 2],
    percent: u64,
    /// At which it was calm last.
    good: u64,
    /// Until the disk's queue is gone.
    drains: bool,
    /// When it came near its limit last.
    used: Duration,
}

impl Held {
    fn limit(&self) -> Limit {
        let percent = if self.drains { LEAST } else { self.percent };
        let of = |took: Amount| (took.cost() >= MATTERS).then(|| took.percent(percent));
        Limit {
            read: of(self.took[0]),
            write: of(self.took[1]),
        }
    }
}

/// One disk.
#[derive(Clone, Debug)]
struct Disk<K> {
    known: BTreeMap<K, Known>,
    held: BTreeMap<K, Held>,
    /// When holding began, and how long the worst wait was then.
    began: (Duration, Duration),
    changed: Duration,
    calm: Option<Duration>,
    /// Whether it was calm before it was not.
    anew: bool,
    /// What is waited under a hold that took most of the wait away: less would not take away more.
    remains: Duration,
    /// When draining began.
    drains: Option<Duration>,
    /// What the next letting go adds.
    stride: u64,
    /// Who suffered since.
    suffered: BTreeSet<K>,
    /// How much was enough when it helped last, in percent.
    enough: u64,
    /// How long it must be calm, and when holds were loosened last.
    ease: Duration,
    eased: Option<Duration>,
    /// When there was somebody to protect.
    needed: Duration,
    /// Nobody is held before, and for how long the next time.
    resigned: Duration,
    patience: Duration,
}

impl<K> Default for Disk<K> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            held: BTreeMap::new(),
            began: Default::default(),
            changed: Duration::ZERO,
            calm: None,
            anew: false,
            remains: Duration::ZERO,
            drains: None,
            stride: LET_GO,
            suffered: BTreeSet::new(),
            enough: STEP,
            ease: CALM,
            eased: None,
            needed: Duration::ZERO,
            resigned: Duration::ZERO,
            patience: RESIGNED,
        }
    }
}

impl<K: Clone + Ord> Disk<K> {
    fn observe<'a>(
        &mut self,
        now: Duration,
        passed: Duration,
        seen: impl Iterator<Item = &'a Seen<K>>,
    ) where
        K: 'a,
    {
        for one in seen {
            let known = self.known.entry(one.key.clone()).or_default();
            known.count(now, passed, one);
        }
        self.known
            .retain(|_, known| now.saturating_sub(known.seen) < FORGOTTEN || known.was_helped(now));
        let (heavy, light) = self.sides(now);
        self.learn(now, &heavy);
        if !light.is_empty() {
            self.needed = now;
        }
        self.release(now);
        let mut worst = None;
        for key in &light {
            let Some(known) = self.known.get(key) else {
                continue;
            };
            if let Some(wait) = known.suffers(self.remains) {
                worst = worst.max(Some(wait));
                self.suffered.insert(key.clone());
            } else if self.held.is_empty() && now >= self.resigned && known.was_helped(now) {
                self.begin(now, self.enough, &heavy);
            }
        }
        match worst {
            Some(worst) => self.hold(now, worst, &heavy),
            None => self.loosen(now),
        }
    }

    /// Those that take much, and those that take little.
    fn sides(&self, now: Duration) -> (Vec<K>, Vec<K>) {
        let active = || self.known.iter().filter(|(_, known)| known.seen == now);
        let count = u64::try_from(active().count()).unwrap_or(u64::MAX).max(1);
        let total = active().fold(0_u64, |sum, (_, known)| sum.saturating_add(known.cost()));
        let even = total / count;
        let heavy = active()
            .filter(|(key, known)| {
                self.held.contains_key(key) || (known.cost() >= HEAVY && known.cost() >= even)
            })
            .map(|(key, _)| key.clone());
        let light = active()
            .filter(|(key, known)| !self.held.contains_key(key) && known.cost() <= even / 2)
            .map(|(key, _)| key.clone());
        // Alone with itself nobody takes much.
        if count < 2 {
            return (Vec::new(), Vec::new());
        }
        (heavy.collect(), light.collect())
    }

    /// How long each waits while nobody is in its way.
    fn learn(&mut self, now: Duration, heavy: &[K]) {
        if !heavy.is_empty() || !self.held.is_empty() {
            return;
        }
        for known in self.known.values_mut().filter(|known| known.seen == now) {
            let Some(wait) = known.wait.filter(|_| known.cost() < HEAVY) else {
                continue;
            };
            known.alone = Some(known.alone.map_or(wait, |alone| (alone * 3 + wait) / 4));
        }
    }

    /// Lets go of whom nothing holds any more.
    fn release(&mut self, now: Duration) {
        let known = &self.known;
        self.held.retain(|key, held| {
            let Some(known) = known.get(key).filter(|known| known.seen == now) else {
                return now.saturating_sub(held.used) < GONE;
            };
            let limit = held.limit();
            let near = |limit: Option<Amount>, does: Amount| {
                limit.is_some_and(|limit| {
                    does.bytes * 3 >= limit.bytes || does.requests * 3 >= limit.requests
                })
            };
            if near(limit.read, known.read) || near(limit.write, known.write) {
                held.used = now;
            }
            now.saturating_sub(held.used) < GONE
        });
        if now.saturating_sub(self.needed) >= GONE {
            self.held.clear();
        }
        if self.held.is_empty() {
            (self.calm, self.drains, self.remains) = (None, None, Duration::ZERO);
            self.suffered.clear();
        }
    }

    /// Holds those who take much to a part of it.
    fn begin(&mut self, now: Duration, percent: u64, heavy: &[K]) {
        for key in heavy {
            let Some(known) = self.known.get(key) else {
                continue;
            };
            let mut took = known.lasting;
            if let Some((before, until)) = known.took
                && now.saturating_sub(until) < RELAPSE
            {
                for (took, before) in took.iter_mut().zip(before) {
                    *took = took.most(before);
                }
            }
            let held = Held {
                took,
                percent,
                good: percent,
                drains: false,
                used: now,
            };
            self.held.insert(key.clone(), held);
            self.changed = now;
        }
    }

    fn hold(&mut self, now: Duration, worst: Duration, heavy: &[K]) {
        self.anew |= self.calm.take().is_some();
        self.stride = LET_GO;
        if let Some(eased) = self.eased.take() {
            let too_soon = now.saturating_sub(eased) < RELAPSE.max(self.ease);
            self.ease = if too_soon { self.ease * 2 } else { CALM }.min(MOST_CALM);
        }
        let mut begins = self.held.is_empty();
        if now.saturating_sub(self.began.0) < SETTLE {
            // It shows only by and by how bad it is.
            self.began.1 = self.began.1.max(worst);
        }
        if now < self.resigned || (!begins && now.saturating_sub(self.changed) < SETTLE) {
            return;
        }
        if let Some(began) = self.drains {
            // Later on it is known what it takes.
            if began == self.began.0 && self.correct() {
                (self.began.0, self.drains) = (now, Some(now));
                return;
            }
            if worst < DEEP {
                self.drained(None);
                self.changed = now;
                return;
            }
            let (long, shrinks) = (now.saturating_sub(began), worst * 4 <= self.began.1 * 3);
            if long < TRIAL || (shrinks && long < DRAIN) {
                return;
            }
            // A longer queue than that, or none.
            self.drained(Some(LEAST));
        }
        if !begins && worst < DEEP && worst * MOST_OF_IT <= self.began.1 {
            self.remains = self.remains.max(worst);
            return self.loosen(now);
        }
        let mut changed = false;
        for (key, held) in &mut self.held {
            let Some(known) = self.known.get(key) else {
                continue;
            };
            let next = if held.percent > held.good {
                held.good
            } else {
                (held.percent * STEP / 100).max(LEAST)
            };
            changed |= next != held.percent;
            (held.percent, held.good) = (next, held.good.min(next));
            // It does something else now.
            for (took, does) in held.took.iter_mut().zip([known.read, known.write]) {
                if took.cost() < MATTERS && does.cost() >= HEAVY {
                    *took = does;
                    changed = true;
                    begins = true;
                }
            }
        }
        let new: Vec<K> = heavy
            .iter()
            .filter(|key| !self.held.contains_key(key))
            .cloned()
            .collect();
        changed |= !new.is_empty();
        self.begin(now, STEP, &new);
        if begins {
            self.began = (now, worst);
        }
        if changed && (begins || self.anew) && worst >= DEEP {
            self.drains = Some(now);
            self.held.values_mut().for_each(|held| held.drains = true);
        }
        self.anew = false;
        if changed {
            self.changed = now;
        } else if !begins
            && now.saturating_sub(self.began.0) >= TRIAL
            && worst * 4 > self.began.1 * 3
        {
            self.held.clear();
            self.forget_helped();
            self.resigned = now + self.patience;
            self.patience = (self.patience * 2).min(MOST_RESIGNED);
        }
    }

    /// Who does not come near its limit took less than was thought, of a disk that let it do more for a
    /// moment: whether there are such.
    fn correct(&mut self) -> bool {
        let mut corrected = false;
        for (key, held) in &mut self.held {
            let Some(known) = self.known.get(key) else {
                continue;
            };
            let limit = held.limit();
            let each = [(limit.read, known.read), (limit.write, known.write)];
            for ((limit, does), (took, lasting)) in each
                .into_iter()
                .zip(held.took.iter_mut().zip(known.lasting))
            {
                let far = |does: u64, limit: u64| does < limit / 10 * 9;
                let is_far = limit.is_some_and(|limit| {
                    far(does.bytes, limit.bytes) && far(does.requests, limit.requests)
                });
                if is_far && far(lasting.cost(), took.cost()) {
                    *took = lasting;
                    corrected = true;
                }
            }
        }
        corrected
    }

    /// Ends the draining, and holds to this from now on.
    fn drained(&mut self, percent: Option<u64>) {
        self.drains = None;
        for held in self.held.values_mut() {
            held.drains = false;
            held.percent = percent.unwrap_or(held.percent);
            held.good = held.good.min(held.percent);
        }
    }

    fn forget_helped(&mut self) {
        for known in self.known.values_mut() {
            known.helped = None;
        }
    }

    fn loosen(&mut self, now: Duration) {
        if self.held.is_empty() {
            return;
        }
        let calm = now.saturating_sub(*self.calm.get_or_insert(now));
        if self.drains.is_some() {
            self.drained(None);
            self.changed = now;
        }
        if calm >= SETTLE {
            // It helped.
            self.patience = RESIGNED;
            if !self.suffered.is_empty() {
                let percents = self.held.values().map(|held| held.percent);
                self.enough = percents.min().unwrap_or(STEP);
            }
            for key in std::mem::take(&mut self.suffered) {
                if let Some(known) = self.known.get_mut(&key) {
                    known.helped = Some(now);
                }
            }
        }
        if calm < self.ease || now.saturating_sub(self.changed) < CALM {
            return;
        }
        (self.changed, self.eased) = (now, Some(now));
        let stride = self.stride;
        self.stride *= 2;
        let known = &mut self.known;
        self.held.retain(|key, held| {
            held.good = held.percent;
            held.percent += stride;
            if let Some(known) = known.get_mut(key) {
                known.took = Some((held.took, now));
            }
            held.percent < FREE
        });
        let good = self.held.values().map(|held| held.good.min(STEP));
        self.enough = good.min().unwrap_or(STEP);
        if self.held.is_empty() {
            self.stride = LET_GO;
            // Whether there is anything left to be protected from has to show.
            self.forget_helped();
        }
    }
}

/// What is remembered of all disks of a host.
#[derive(Clone, Debug)]
pub struct Disks<K>(BTreeMap<Device, Disk<K>>);

impl<K> Default for Disks<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Clone + Ord> Disks<K> {
    /// Takes what everybody did within `passed` until `now`, and answers who is to be held to what;
    /// everybody else to nothing.
    pub fn observe(
        &mut self,
        now: Duration,
        passed: Duration,
        seen: &[Seen<K>],
    ) -> BTreeMap<(K, Device), Limit> {
        for one in seen {
            self.0.entry(one.device).or_default();
        }
        for (device, disk) in &mut self.0 {
            let of = seen.iter().filter(|one| one.device == *device);
            disk.observe(now, passed, of);
        }
        self.0
            .retain(|_, disk| !(disk.known.is_empty() && disk.held.is_empty()));
        let held = self.0.iter().flat_map(|(device, disk)| {
            let each = disk.held.iter();
            each.map(|(key, held)| ((key.clone(), *device), held.limit()))
        });
        held.collect()
    }

    /// Whether somebody took much of a disk when it was observed last.
    #[must_use]
    pub fn are_flooded(&self) -> bool {
        self.0.values().any(|disk| {
            let now = disk.known.values().map(|known| known.seen).max();
            let mut known = disk.known.values();
            known.any(|known| Some(known.seen) == now && known.cost() >= HEAVY)
        })
    }

    /// Whose waiting decides something, at the last observation: those in whose way somebody is.
    #[must_use]
    pub fn exposed(&self) -> BTreeSet<K> {
        let mut found = BTreeSet::new();
        for disk in self.0.values() {
            let now = disk.known.values().map(|known| known.seen).max();
            let (heavy, light) = disk.sides(now.unwrap_or_default());
            if !heavy.is_empty() {
                found.extend(light);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
