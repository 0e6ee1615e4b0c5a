//! One environment in the loop: when it is looked into, and how deep.
//!
//! A round reads its usage. If that went up, the usage of its interactive classes; if one of those
//! burns, their processes. Builds are read only now and then, to see whether some have grown quiet.

use super::made::Made;
use boatyard_plan::shares::{self, Account, Class, Demand, Jobs, Process, Sample};
use boatyard_sandbox::group::{self, Group, Quota, Seen, Weight};
use std::collections::BTreeMap;
use std::time::Duration;

/// A class that uses more than this part of one processor is looked into.
const BURNING: u32 = 5;
/// How often builds are read for those that have grown quiet, and shells for those that are new.
const NOW_AND_THEN: Duration = Duration::from_secs(1);
/// How often the account is charged.
const ACCOUNT: Duration = Duration::from_millis(200);
/// How long builders' quotas stand: the kernel hands out the whole quota anew with each that is
/// written, so that a group whose quota is written five times a second uses half as much again.
const STAND: Duration = Duration::from_secs(1);
/// How often what stands in the files is read again: limits change, by others' hands.
const REREAD: Duration = Duration::from_secs(2);
/// Processes read of one class in one round.
const MOST: usize = 192;
/// A look costs its environment a pause of so many times its duration.
const REST: u32 = 20;
/// Processes with short slices remembered.
const MOST_HASTENED: usize = 1024;

/// An environment.
pub(super) struct Watched {
    group: Group,
    jobs: Jobs,
    gone: bool,
    /// Left alone until then.
    failed: Duration,
    weighed: bool,
    used: Option<Duration>,
    /// When and what the interactive classes had used at the last round that read them.
    classes: Option<(Duration, [Option<Duration>; 4])>,
    /// When processes may be read again.
    rested: Duration,
    /// When builds and shells were read last.
    swept: Duration,
    /// When the account was charged last, and what the whole had used.
    charged: Option<(Duration, Duration)>,
    account: Account,
    /// When builders' quotas were thought about last, what the classes had used, and for which limit.
    thought: Option<(Duration, [Option<Duration>; 4], u64)>,
    demand: Demand,
    /// The quotas as they stand, and when they were read.
    stand: Option<(Duration, [Option<Quota>; 3])>,
    hastened: BTreeMap<u32, Duration>,
    made: Made,
}

fn class(class: Class) -> group::Class {
    match class {
        Class::Agent => group::Class::Agent,
        Class::Sessions => group::Class::Sessions,
        Class::Builds => group::Class::Builds,
        Class::Nested => group::Class::Nested,
    }
}

fn process(seen: Seen, class: Class) -> Process {
    Process {
        pid: seen.pid,
        parent: seen.parent,
        group: seen.group,
        session: seen.session,
        terminal: seen.terminal,
        used: seen.used,
        used_by_ended: seen.used_by_ended,
        started: seen.started,
        class,
    }
}

pub(super) fn quota(wanted: shares::Quota) -> Quota {
    Quota {
        quota: wanted.quota,
        period: wanted.period,
        burst: wanted.burst,
    }
}

pub(super) fn planned(stands: Quota) -> shares::Quota {
    shares::Quota {
        quota: stands.quota,
        period: stands.period,
        burst: stands.burst,
    }
}

impl Watched {
    pub(super) fn new(group: Group, now: Duration) -> Self {
        Self {
            group,
            jobs: Jobs::default(),
            gone: false,
            failed: Duration::ZERO,
            weighed: false,
            used: None,
            classes: None,
            rested: Duration::ZERO,
            swept: now.saturating_sub(NOW_AND_THEN),
            charged: None,
            account: Account::default(),
            thought: None,
            demand: Demand::default(),
            stand: None,
            hastened: BTreeMap::new(),
            made: Made::default(),
        }
    }

    /// Whether it wants a round though nothing happens.
    pub(super) fn is_due(&self) -> bool {
        !self.weighed || self.jobs.awaits_quiet()
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// One round; false when it is no more.
    pub(super) fn round(&mut self, now: Duration) -> bool {
        if now < self.failed {
            return true;
        }
        if let Err(error) = self.try_round(now) {
            // Root inside may remove its classes: then it has no shares, and that is all.
            self.gone = self.group.usage().is_err();
            self.failed = now + NOW_AND_THEN;
            if !self.gone {
                tracing::debug!(%error, "shares were not set; trying again");
            }
        }
        !self.gone
    }

    fn try_round(&mut self, now: Duration) -> Result<(), group::Error> {
        if !self.weighed {
            for each in Class::ALL {
                self.group
                    .set_weight(class(each), Weight::new(each.weight()))?;
            }
            self.weighed = true;
        }
        let used = self.group.usage()?;
        let is_idle = self.used.replace(used) == Some(used);
        if is_idle && !self.jobs.awaits_quiet() {
            return Ok(());
        }
        let of_classes = self.of_classes()?;
        self.quotas(now, used, of_classes)?;
        let sweep = now.saturating_sub(self.swept) >= NOW_AND_THEN;
        let burning = self.burning(now, &of_classes);
        if now < self.rested || !(burning || sweep) {
            return Ok(());
        }
        let mut read = vec![Class::Agent, Class::Sessions];
        if sweep {
            self.swept = now;
            if self.jobs.awaits_quiet()
                || of_classes[Class::Builds as usize].is_none_or(|used| !used.is_zero())
            {
                read.push(Class::Builds);
            }
        }
        let began = super::of(rustix::time::clock_gettime(
            rustix::time::ClockId::ThreadCPUTime,
        ));
        self.look(now, read, of_classes)?;
        let cost = super::of(rustix::time::clock_gettime(
            rustix::time::ClockId::ThreadCPUTime,
        ))
        .saturating_sub(began);
        self.rested = now + cost * REST;
        Ok(())
    }

    fn of_classes(&self) -> Result<[Option<Duration>; 4], group::Error> {
        let mut used = [None; 4];
        for (each, used) in Class::ALL.into_iter().zip(&mut used) {
            *used = self.group.class_usage(class(each))?;
        }
        Ok(used)
    }

    /// Whether an interactive class has used much since the last round.
    fn burning(&mut self, now: Duration, used: &[Option<Duration>; 4]) -> bool {
        let before = self.classes.replace((now, *used));
        let Some((when, before)) = before else {
            return true;
        };
        let passed = now.saturating_sub(when);
        [Class::Agent, Class::Sessions].into_iter().any(|class| {
            match (used[class as usize], before[class as usize]) {
                (Some(used), Some(before)) => used.saturating_sub(before) * BURNING > passed,
                // Not counted here: the whole used something.
                _ => true,
            }
        })
    }

    fn look(
        &mut self,
        now: Duration,
        read: Vec<Class>,
        used: [Option<Duration>; 4],
    ) -> Result<(), group::Error> {
        let mut processes = Vec::new();
        for each in &read {
            let (seen, _) = self.group.look(class(*each), MOST)?;
            processes.extend(seen.into_iter().map(|seen| process(seen, *each)));
        }
        let sample = Sample {
            now,
            read,
            processes,
            used,
        };
        let moves = self.jobs.observe(&sample);
        for wanted in &moves {
            // It may have ended, or be somebody else's by now: then the kernel refuses.
            if let Err(error) = self.group.place_any(wanted.pid, class(wanted.to)) {
                tracing::trace!(%error, "a process was not moved");
            }
        }
        if !moves.is_empty() {
            tracing::debug!(id = %self.group.id(), moved = moves.len(), "processes changed their class");
        }
        self.hasten(&sample, &moves);
        Ok(())
    }

    /// Gives short slices to what is interactive and stays so.
    fn hasten(&mut self, sample: &Sample, moves: &[shares::Move]) {
        if self.hastened.len() > MOST_HASTENED {
            self.hastened.clear();
        }
        for process in &sample.processes {
            let stays = matches!(process.class, Class::Agent | Class::Sessions)
                && !moves.iter().any(|moved| moved.pid == process.pid);
            let is_new = self.hastened.get(&process.pid) != Some(&process.started);
            if stays && is_new {
                // Best effort, and once: what refuses now will again.
                let _ = self.group.hasten(process.pid);
                self.hastened.insert(process.pid, process.started);
            }
        }
    }

    /// Puts quotas where the plan wants them.
    fn quotas(
        &mut self,
        now: Duration,
        whole: Duration,
        used: [Option<Duration>; 4],
    ) -> Result<(), group::Error> {
        let since = |when: Duration| now.saturating_sub(when);
        let (passed, spent) = match self.charged {
            Some((when, _)) if since(when) < ACCOUNT => return Ok(()),
            Some((when, before)) => (since(when), whole.saturating_sub(before)),
            None => (Duration::ZERO, Duration::ZERO),
        };
        self.charged = Some((now, whole));
        let (read, mut stand) = match self.stand {
            Some((read, stand)) if since(read) < REREAD => (read, stand),
            _ => (now, self.standing()?),
        };
        let Some(limit) = stand[0].and_then(|whole| whole.limit_millis()) else {
            self.made.hold(&self.group, None);
            for (stands, class) in stand[1..].iter().zip(CAPPED) {
                if stands.is_some() {
                    self.group.set_quota(class, None)?;
                }
            }
            (self.thought, self.stand) = (None, Some((read, [None; 3])));
            return Ok(());
        };
        self.account.charge(limit, passed, spent);
        let thought = self.thought.filter(|(.., of)| *of == limit);
        let due = thought.is_none_or(|(when, ..)| since(when) >= STAND);
        let mut made = Vec::new();
        if due {
            let before = self.thought.replace((now, used, limit));
            let passed = before.map(|(when, ..)| since(when));
            if let Some((when, before, _)) = before {
                self.demand = demand(since(when), &before, &used);
            }
            made = self.made.look(&self.group, now, passed);
        }
        let (caps, of_made) = shares::caps(limit, &self.demand, &made, &self.account);
        let differs = |wanted: &shares::Quota, stands: Option<Quota>| {
            shares::differs(wanted, stands.map(planned).as_ref())
        };
        if differs(&caps.whole, stand[0]) {
            self.group.set_whole_quota(Some(quota(caps.whole)))?;
            // Kernels before 5.14 keep no burst; it is not asked for again until the next reading.
            stand[0] = Some(quota(caps.whole));
        }
        if due {
            let wanted = [caps.builds, caps.nested];
            for ((wanted, stands), class) in wanted.into_iter().zip(&mut stand[1..]).zip(CAPPED) {
                if differs(&wanted, *stands) {
                    self.group.set_quota(class, Some(quota(wanted)))?;
                    *stands = Some(quota(wanted));
                }
            }
            self.made.hold(&self.group, Some(&of_made));
        }
        self.stand = Some((read, stand));
        Ok(())
    }

    /// The quotas of the whole and of [`CAPPED`].
    fn standing(&self) -> Result<[Option<Quota>; 3], group::Error> {
        let [builds, nested] = CAPPED.map(|class| self.group.class_quota(class));
        Ok([self.group.whole_quota()?, builds?, nested?])
    }
}

/// The classes that have quotas of their own.
const CAPPED: [group::Class; 2] = [group::Class::Builds, group::Class::Nested];

/// Thousandths of one processor that classes used.
fn demand(
    passed: Duration,
    before: &[Option<Duration>; 4],
    used: &[Option<Duration>; 4],
) -> Demand {
    let of = |class: Class| {
        let spent = used[class as usize].zip(before[class as usize]);
        let spent = spent.map_or(Duration::ZERO, |(used, before)| used.saturating_sub(before));
        u64::try_from(spent.as_nanos() * 1000 / passed.as_nanos().max(1)).unwrap_or(u64::MAX)
    };
    Demand {
        interactive: of(Class::Agent) + of(Class::Sessions),
        builds: of(Class::Builds),
        nested: of(Class::Nested),
    }
}
