//! Who shares the processor as what: classes of processes, weights and quotas of one environment.
//!
//! A niceness cannot tell a shell from the compiler it started; what they do can. Processes are taken
//! by jobs, as shells make them (a process group of a session), and a job that spends its credit of
//! processor time belongs to the builds, parent and all, so that what it starts next is born there.
//! One that grows quiet comes back. Weights let the interactive classes run first and cost nothing
//! when nobody else waits. Only where the whole has a limit are the builders held to it by a quota of
//! their own, and the whole's is a little above: a quota that is used up stops the shell as well.
//!
//! Does no I/O: `runner`'s loop reads samples and carries out [`Decision`]s; a new one that knows
//! nothing of before ([`Jobs::default`]) decides the same within its first samples.
//!
//! Read next: [`Jobs`], [`caps`], [`Account`].

mod jobs;

pub use jobs::Jobs;

use std::time::Duration;

/// A class of processes: a share of an environment's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The agent, IDE servers, SSH.
    Agent,
    /// Interactive shells.
    Sessions,
    /// What takes the processor, and lifecycle commands.
    Builds,
    /// Containers started inside.
    Nested,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 4] = [Self::Agent, Self::Sessions, Self::Builds, Self::Nested];

    /// Its weight beside the others', of 1 to 10,000 with 100 for what nobody weighs, such as groups
    /// that container engines make.
    ///
    /// Eight to one is enough for a woken shell to be let in before a builder, and the kernel's
    /// virtual times stay close together: measured with 64 to one the delay is worse than without
    /// weights.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::Agent | Self::Sessions => 800,
            Self::Builds | Self::Nested => 100,
        }
    }
}

/// One process as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Processor time it has used.
    pub used: Duration,
    /// The same of its children that have ended and that it waited for.
    pub used_by_ended: Duration,
    /// When it was started, on the clock of [`Sample::now`]; with the id it names a process for ever.
    pub started: Duration,
    /// Where it is.
    pub class: Class,
}

/// What was seen at one moment. Classes that were not read have no processes in it.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Since the host was started.
    pub now: Duration,
    /// Classes whose processes were read; perhaps not all of them, when there are very many.
    pub read: Vec<Class>,
    /// Their processes.
    pub processes: Vec<Process>,
    /// Processor time each class has used, in the order of [`Class::ALL`]; None where it is not
    /// counted.
    pub used: [Option<Duration>; 4],
}

/// A process is to be in another class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub pid: u32,
    /// Where it is to be.
    pub to: Class,
}

/// Processor time per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Per period.
    pub quota: Duration,
    /// The period.
    pub period: Duration,
    /// What may be saved up and spent later.
    pub burst: Duration,
}

/// Quotas of an environment that has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Of the whole.
    pub whole: Quota,
    /// Of the builds.
    pub builds: Quota,
    /// Of the containers started inside.
    pub nested: Quota,
}

/// The period of all quotas: the kernel's own default.
const PERIOD: Duration = Duration::from_millis(100);

/// Thousandths of one processor used lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// By the agent and the sessions together.
    pub interactive: u64,
    /// By the builds.
    pub builds: u64,
    /// By containers started inside.
    pub nested: u64,
}

/// Whether an environment that may go beyond its limit for a moment keeps to it on the average.
///
/// The kernel hands a quota out to processors by 5 ms, and what lies with them unused is lost to
/// the others; what a process does within the kernel is charged when it has been done. A quota of
/// exactly the limit stops the shell as soon as the builders have come near it. So the whole gets more
/// than its limit, the builders the limit less what the shells use, and this keeps account: builders
/// that have used more get a little less, and who goes on all the same is held to the limit itself,
/// until all of it is paid back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Used beyond the limit, less what was left unused since.
    debt: Duration,
    frugal: bool,
    strict: bool,
}

/// The average may be above the limit by this part of it: quotas are not rewritten for less.
const LENIENCE: u32 = 40;
/// Beyond this much time of the limit the builders' quota alone does not keep them to it.
const OVERRUN: Duration = Duration::from_millis(50);
/// Beyond this much somebody does go on.
const CREDIT: Duration = Duration::from_millis(250);

impl Account {
    /// Takes what was used since the last call, and of which time.
    pub fn charge(&mut self, limit_millis: u64, passed: Duration, used: Duration) {
        let thousandths = u32::try_from(limit_millis).unwrap_or(u32::MAX);
        let allowed = |time: Duration| time.saturating_mul(thousandths) / 1000;
        let allowance = allowed(passed);
        self.debt = (self.debt + used).saturating_sub(allowance + allowance / LENIENCE);
        // What cannot be paid back in a minute would be a punishment.
        self.debt = self.debt.min(allowed(CREDIT) * 4);
        let beyond = |credit: Duration, before: bool| {
            self.debt > allowed(credit) || (before && !self.debt.is_zero())
        };
        let (frugal, strict) = (beyond(OVERRUN, self.frugal), beyond(CREDIT, self.strict));
        (self.frugal, self.strict) = (frugal, strict);
    }

    /// Whether the builders are to have a little less than the limit.
    #[must_use]
    pub fn is_frugal(&self) -> bool {
        self.frugal
    }

    /// Whether the whole is to be held to the limit itself.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }
}

/// Quotas for a limit in thousandths of one processor.
///
/// The builders together have the limit less what the interactive classes use, of which up to a
/// quarter is kept for them; the whole has as much again on top ([`Account`] says why it may: with less
/// the builders' overruns stop the shell). Where more was used the builders stay a tenth below, and
/// where the account is overdrawn the whole has its limit. Each group of builders may have what the
/// others leave, and its even part when all want all.
///
/// Builders are the builds, the nested and the groups made inside beside the classes, where engines put
/// their containers: takes what each of those used lately, and answers a quota for each.
///
/// The burst of the whole is the limit, always: whoever reads the files learns it there.
#[must_use]
pub fn caps(
    limit_millis: u64,
    demand: &Demand,
    made: &[u64],
    account: &Account,
) -> (Caps, Vec<Quota>) {
    let limit = limit_millis.max(10);
    let interactive = demand.interactive.saturating_mul(5) / 4;
    let above = if account.is_strict() { 0 } else { limit };
    let below = if account.is_frugal() {
        (limit / 10).max(2)
    } else {
        0
    };
    let builders = limit - (below + interactive).min(limit / 4);
    let used: Vec<u64> = [demand.builds, demand.nested]
        .into_iter()
        .chain(made.iter().copied())
        .collect();
    let share = |which: usize| {
        let others = || {
            let others = used.iter().enumerate().filter(|(at, _)| *at != which);
            others.map(|(_, used)| *used)
        };
        let taken = others().fold(0u64, u64::saturating_add);
        let left = builders.saturating_sub(taken.saturating_mul(11) / 10);
        // Little is noise, and a cap that moves all the time costs.
        let is_much = |used: u64| used.saturating_mul(20) >= builders;
        if !is_much(taken) {
            return builders;
        }
        let rivals = others().filter(|used| is_much(*used)).count().max(1);
        left.max(builders / (u64::try_from(rivals).unwrap_or(1) + 1))
    };
    let quota = |millis: u64| Duration::from_micros(millis.max(10) * 100);
    let plain = |millis: u64| Quota {
        quota: quota(millis),
        period: PERIOD,
        burst: Duration::ZERO,
    };
    let caps = Caps {
        whole: Quota {
            burst: quota(limit),
            ..plain(limit + above)
        },
        builds: plain(share(0)),
        nested: plain(share(1)),
    };
    let made = (2..used.len()).map(|which| plain(share(which)));
    (caps, made.collect())
}

/// Whether a quota is so far from the one that stands that it is worth writing.
#[must_use]
pub fn differs(wanted: &Quota, stands: Option<&Quota>) -> bool {
    let Some(stands) = stands else { return true };
    let (wanted_quota, quota) = (wanted.quota.as_micros(), stands.quota.as_micros());
    let apart = wanted_quota.abs_diff(quota);
    wanted.period != stands.period || wanted.burst != stands.burst || apart * 50 > wanted_quota
}

#[cfg(test)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod traces;
