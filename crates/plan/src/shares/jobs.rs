//! Which jobs are interactive and which are builds, by what they use.
//!
//! A job has a credit of processor time that fills up slowly. Typing, completing and listing live
//! within it; a compiler spends it in a moment. The credit is of the job: the short lives of a
//! build's many processes add up in it, those that ended before anybody saw them too.
//!
//! Never moved: the environment's first process. A session's leader that has a terminal (a shell)
//! is moved only for what it uses itself, or when it makes what burns: again and again in its own
//! group (a `make` that is the leader), or one short job after the other (a loop typed in).
//!
//! What root inside can make of it is a wrong place among its own classes.

use super::{Class, Move, Process, Sample};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a job may use at once.
const CREDIT: Duration = Duration::from_millis(60);
/// What jobs of a session may use in the samples in which they are new, before the shell that makes
/// one after the other is taken for what burns.
const NEW_JOBS: Duration = Duration::from_millis(120);
/// Its credit comes back at this part of one processor's time.
const REFILL: u32 = 10;
/// Below this part of one processor it is quiet.
const QUIET: u32 = 50;
/// What a quiet job may use beside: times of processes are told in hundredths of a second.
const SLACK: Duration = Duration::from_millis(20);
/// Being quiet for so long brings it back, and for twice as long each time it has come back.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most that doubling makes of it.
const MOST_PATIENCE: Duration = Duration::from_secs(64);
/// A leader in whose own group new processes burn so often, each time within [`SPELL`], is their maker.
const STRIKES: u32 = 2;
const SPELL: Duration = Duration::from_millis(500);
/// Jobs and processes remembered at most: root inside makes as many as its limit allows.
const MOST: usize = 4096;
/// Jobs of classes that were not read are remembered for so long.
const KEEP: Duration = Duration::from_secs(5);

/// Samples further apart than this are not those of something that burns.
const LONG: Duration = Duration::from_millis(100);
/// A process is young for so long.
const YOUNG: Duration = Duration::from_secs(1);

/// Session and process group.
type Key = (u32, u32);

/// What is remembered of the jobs of one environment.
#[derive(Clone, Debug, Default)]
pub struct Jobs {
    jobs: BTreeMap<Key, Job>,
    /// Of each class: when it was read last, and what it had used.
    seen: [Option<(Duration, Option<Duration>)>; 4],
    /// Processes as they were seen last, by id.
    known: BTreeMap<u32, Process>,
    /// What each class used and nobody was charged for yet.
    carried: [Duration; 4],
}

#[derive(Clone, Copy, Debug)]
struct Job {
    /// Left of its credit.
    credit: Duration,
    /// The same of its leader alone, and of the new jobs its leader makes.
    leaders_credit: Duration,
    new_jobs_credit: Duration,
    /// Ascribed to it, and not yet shown by its processes.
    owed: Duration,
    /// When it was seen last.
    seen: Duration,
    /// It is a build now, and came from there.
    from: Option<Class>,
    /// Since when it has been quiet, and what it has used since.
    quiet: Option<(Duration, Duration)>,
    patience: Duration,
    /// How often in a row what is not the leader burned, and when it did last.
    strikes: (u32, Duration),
}

/// The processes of one job in one sample.
#[derive(Debug, Default)]
struct Members<'a> {
    /// All but the leader.
    others: Vec<&'a Process>,
    leader: Option<&'a Process>,
    /// What no process shows and was probably theirs.
    ascribed: Duration,
    /// Used since it was seen last, by the leader and by the others.
    leader_used: Duration,
    others_used: Duration,
    /// What jobs of its session used that are seen for the first time.
    new_jobs_used: Duration,
}

impl<'a> Members<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Process> + '_ {
        self.others.iter().copied().chain(self.leader)
    }
}

fn is_interactive(process: &Process) -> bool {
    matches!(process.class, Class::Agent | Class::Sessions)
}

fn leads(process: &Process) -> bool {
    process.pid == process.session && process.terminal
}

impl Jobs {
    /// Whether some job is a build that may come back: then time alone changes what is to be done.
    #[must_use]
    pub fn awaits_quiet(&self) -> bool {
        self.jobs.values().any(|job| job.from.is_some())
    }

    /// Takes a sample and says which processes are to be elsewhere.
    #[must_use]
    pub fn observe(&mut self, sample: &Sample) -> Vec<Move> {
        let mut jobs = self.gather(sample);
        self.ascribe(sample, &mut jobs);
        let new: Vec<(u32, Duration)> = jobs
            .iter()
            .filter(|(key, members)| members.leader.is_none() && !self.jobs.contains_key(key))
            .map(|((session, _), members)| (*session, members.others_used + members.ascribed))
            .collect();
        for (session, used) in new {
            // A shell leads its session and its own group.
            if let Some(members) = jobs.get_mut(&(session, session)) {
                members.new_jobs_used += used;
            }
        }
        let makers: BTreeSet<u32> = sample
            .processes
            .iter()
            .filter(|process| process.class == Class::Builds && !leads(process))
            .map(|process| process.pid)
            .collect();
        let mut moves = Vec::new();
        for (key, members) in &jobs {
            if !self.jobs.contains_key(key) && self.jobs.len() >= MOST {
                continue;
            }
            let started = members.all().map(|process| process.started).min();
            let job = self.jobs.entry(*key).or_insert(Job {
                credit: CREDIT,
                leaders_credit: CREDIT,
                new_jobs_credit: NEW_JOBS,
                owed: Duration::ZERO,
                seen: started.unwrap_or(sample.now),
                from: None,
                quiet: None,
                patience: PATIENCE,
                strikes: (0, Duration::ZERO),
            });
            decide(job, members, sample.now, &makers, &mut moves);
        }
        let present: BTreeSet<Key> = jobs.keys().copied().collect();
        drop(jobs);
        self.remember(sample, &present);
        moves
    }

    /// The jobs of a sample with what they have used since they were seen last.
    fn gather<'a>(&self, sample: &'a Sample) -> BTreeMap<Key, Members<'a>> {
        let agents = sample
            .processes
            .iter()
            .filter(|process| process.class == Class::Agent);
        let first = agents
            .min_by_key(|process| (process.started, process.pid))
            .map(|process| process.pid);
        let mut jobs: BTreeMap<Key, Members<'a>> = BTreeMap::new();
        for process in &sample.processes {
            if Some(process.pid) == first || process.class == Class::Nested {
                continue;
            }
            let members = jobs.entry((process.session, process.group)).or_default();
            let seen = self.seen[process.class as usize].map(|(when, _)| when);
            let before = self
                .known
                .get(&process.pid)
                .filter(|known| known.started == process.started);
            let is_new = before.is_none() && seen.is_none_or(|seen| process.started >= seen);
            let since = |now: Duration, before: Option<Duration>| match before {
                Some(before) => now.saturating_sub(before),
                None if is_new => now,
                // It was there and not read: there were too many.
                None => Duration::ZERO,
            };
            let used = since(process.used, before.map(|known| known.used));
            if leads(process) {
                // What a shell waited for was another job's.
                members.leader = Some(process);
                members.leader_used = used;
            } else {
                let ended = since(
                    process.used_by_ended,
                    before.map(|known| known.used_by_ended),
                );
                members.others.push(process);
                members.others_used += used + ended;
            }
        }
        // What those used that have ended comes again with the parent that waited for them.
        let present: BTreeSet<u32> = sample.processes.iter().map(|process| process.pid).collect();
        for gone in self.known.values() {
            let is_gone = sample.read.contains(&gone.class) && !present.contains(&gone.pid);
            if let Some(members) = jobs
                .get_mut(&(gone.session, gone.group))
                .filter(|_| is_gone)
            {
                let counted = gone.used + gone.used_by_ended;
                members.others_used = members.others_used.saturating_sub(counted);
            }
        }
        jobs
    }

    /// Gives each job its part of what its class used and no process shows: some were gone before
    /// they were seen, and times are told in hundredths of a second. It goes to the jobs with new and
    /// young processes; where there are none, to the shells that have waited for some; where there
    /// are none of those, to whom it belongs the next time.
    fn ascribe(&mut self, sample: &Sample, jobs: &mut BTreeMap<Key, Members<'_>>) {
        for class in [Class::Agent, Class::Sessions] {
            let before = self.seen[class as usize].filter(|_| sample.read.contains(&class));
            let (Some((when, Some(before))), Some(used)) = (before, sample.used[class as usize])
            else {
                continue;
            };
            let here = |process: &&Process| process.class == class;
            let young = |process: &&Process| sample.now.saturating_sub(process.started) < YOUNG;
            let weigh = |members: &Members<'_>| {
                let young = members
                    .others
                    .iter()
                    .copied()
                    .filter(here)
                    .filter(young)
                    .count();
                u32::try_from(young).unwrap_or(u32::MAX)
            };
            let waited = |members: &Members<'_>| {
                let Some(leader) = members.leader.filter(here) else {
                    return false;
                };
                let known = self.known.get(&leader.pid);
                known.is_some_and(|known| known.used_by_ended < leader.used_by_ended)
            };
            let mut seen = Duration::ZERO;
            let (mut weight, mut shells) = (0, 0);
            let of_class = jobs
                .iter()
                .filter(|(_, members)| members.all().any(|of| here(&of)));
            for (key, members) in of_class {
                // What shows now and was ascribed before is not of now.
                let owed = self.jobs.get(key).map_or(Duration::ZERO, |job| job.owed);
                seen += members.leader_used + members.others_used.saturating_sub(owed);
                weight += weigh(members);
                shells += u32::from(waited(members));
            }
            // Over a long time many small things add up.
            let long = sample.now.saturating_sub(when).saturating_sub(LONG);
            let allowed = long / REFILL;
            let carried = std::mem::take(&mut self.carried[class as usize]);
            let unseen = (used.saturating_sub(before) + carried).saturating_sub(seen + allowed);
            if unseen.is_zero() {
                continue;
            }
            if weight == 0 && shells == 0 {
                self.carried[class as usize] = unseen.min(CREDIT);
                continue;
            }
            for members in jobs.values_mut() {
                if weight > 0 {
                    members.ascribed += unseen * weigh(members) / weight;
                } else if waited(members) {
                    members.new_jobs_used += unseen / shells;
                }
            }
        }
    }

    fn remember(&mut self, sample: &Sample, present: &BTreeSet<Key>) {
        for class in &sample.read {
            self.seen[*class as usize] = Some((sample.now, sample.used[*class as usize]));
        }
        self.known
            .retain(|_, process| !sample.read.contains(&process.class));
        for process in sample.processes.iter().take(MOST) {
            self.known.insert(process.pid, *process);
        }
        self.jobs
            .retain(|key, job| present.contains(key) || sample.now.saturating_sub(job.seen) < KEEP);
    }
}

/// What is left of a credit, and whether it was enough.
fn charge(credit: Duration, most: Duration, passed: Duration, used: Duration) -> (Duration, bool) {
    match (credit + passed / REFILL).checked_sub(used) {
        Some(left) => (left.min(most), true),
        None => (Duration::ZERO, false),
    }
}

fn decide(
    job: &mut Job,
    members: &Members<'_>,
    now: Duration,
    makers: &BTreeSet<u32>,
    moves: &mut Vec<Move>,
) {
    let passed = now.saturating_sub(job.seen);
    job.seen = now;
    // What is shown now may have been ascribed before.
    let paid = job.owed.min(members.others_used);
    let others_used = members.others_used - paid + members.ascribed;
    job.owed = (job.owed - paid + members.ascribed)
        .saturating_sub(passed / REFILL)
        .min(CREDIT);
    let (credit, others_live_within) = charge(job.credit, CREDIT, passed, others_used);
    let (leaders, leader_lives_within) =
        charge(job.leaders_credit, CREDIT, passed, members.leader_used);
    let (new_jobs, makes_few) =
        charge(job.new_jobs_credit, NEW_JOBS, passed, members.new_jobs_used);
    (job.credit, job.leaders_credit, job.new_jobs_credit) = (credit, leaders, new_jobs);

    let already = moves.len();
    let build = |pid: u32| Move {
        pid,
        to: Class::Builds,
    };
    let burning = members
        .others
        .iter()
        .find(|process| is_interactive(process));
    if let (Some(process), false) = (burning, others_live_within) {
        let in_spell = now.saturating_sub(job.strikes.1) < SPELL;
        job.strikes = (if in_spell { job.strikes.0 + 1 } else { 1 }, now);
        job.from.get_or_insert(process.class);
    }
    for process in members
        .others
        .iter()
        .filter(|process| is_interactive(process))
    {
        if job.from.is_some() || makers.contains(&process.parent) {
            job.from.get_or_insert(process.class);
            moves.push(build(process.pid));
        }
    }
    if let Some(leader) = members.leader.filter(|leader| is_interactive(leader)) {
        let is_maker = job.strikes.0 >= STRIKES && now.saturating_sub(job.strikes.1) < SPELL;
        if !leader_lives_within || !makes_few || is_maker {
            job.from.get_or_insert(leader.class);
            moves.push(build(leader.pid));
        }
    }
    if moves.len() > already {
        job.quiet = None;
    } else {
        back(job, members, passed, now, moves);
    }
}

/// Brings a job back that has been quiet for long enough.
fn back(
    job: &mut Job,
    members: &Members<'_>,
    passed: Duration,
    now: Duration,
    moves: &mut Vec<Move>,
) {
    let builds: Vec<&Process> = members
        .all()
        .filter(|process| process.class == Class::Builds)
        .collect();
    if builds.is_empty() {
        job.from = None;
        return;
    }
    // After a restart nobody remembers; what has a terminal was a session's.
    let of_session = builds
        .iter()
        .any(|process| process.terminal)
        .then_some(Class::Sessions);
    job.from = job.from.or(of_session);
    let Some(home) = job.from else { return };
    let used = members.leader_used + members.others_used;
    let (since, so_far) = job
        .quiet
        .unwrap_or((now.saturating_sub(passed), Duration::ZERO));
    let used = so_far + used;
    if used > (now - since) / QUIET + SLACK {
        job.quiet = None;
        return;
    }
    job.quiet = Some((since, used));
    if now - since < job.patience {
        return;
    }
    *job = Job {
        from: None,
        quiet: None,
        strikes: (0, now),
        patience: (job.patience * 2).min(MOST_PATIENCE),
        ..*job
    };
    moves.extend(builds.iter().map(|process| Move {
        pid: process.pid,
        to: home,
    }));
}
