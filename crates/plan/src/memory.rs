//! Who is killed when memory runs out, and from whom memory is taken back before.
//!
//! The kernel kills what is largest, after adding `oom_score_adj`; it can only be raised here and
//! returned to 0, never be made negative. So init stays at 0, shells little above, and what builds
//! high enough that a builder goes before anything interactive, the largest first. Scores matter only
//! while memory is short, so processes are looked at more often then.
//!
//! Memory is taken back from idle environments first, down to what their class requests, and only
//! while the host is short of it. Read next: `slowed`, which tells the developer.

use std::time::Duration;

/// What a process is to its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// PID 1: the agent.
    Init,
    /// Leader of an interactive session: a shell.
    Shell,
    /// IDE servers and what else serves.
    Server,
    /// What a shell started and is not known to build.
    Program,
    /// Builds, and whatever containers run.
    Builder,
}

impl Role {
    /// Its `oom_score_adj`: thousandths of the limit by which it counts as larger than it is.
    #[must_use]
    pub fn score(self) -> i32 {
        match self {
            Self::Init => 0,
            Self::Shell => 100,
            Self::Server => 200,
            Self::Program => 300,
            Self::Builder => 500,
        }
    }
}

/// A process inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// What it is.
    pub role: Role,
    /// Its score now.
    pub score: i32,
}

/// Scores that are to be written. One that a process gave itself is left alone when it is higher.
#[must_use]
pub fn scores(processes: &[Process]) -> Vec<(u32, i32)> {
    // What was written here, or by the agent when it started the process.
    let ours = |score: i32| (0..=500).contains(&score) && score % 100 == 0;
    processes
        .iter()
        .filter(|process| {
            let wanted = process.role.score();
            process.score < wanted || process.score > wanted && ours(process.score)
        })
        .map(|process| (process.pid, process.role.score()))
        .collect()
}

/// When to look at the processes again.
#[must_use]
pub fn next_look(used: u64, limit: Option<u64>, host: &Host) -> Duration {
    let close = limit.is_some_and(|limit| used >= limit / 2) || host.is_short();
    if close {
        Duration::from_secs(1)
    } else {
        Duration::from_secs(5)
    }
}

/// Memory of the host, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// All of it.
    pub total: u64,
    /// What can be had without swapping.
    pub available: u64,
}

impl Host {
    /// Reads `/proc/meminfo`.
    #[must_use]
    pub fn parse(meminfo: &str) -> Self {
        let field = |name: &str| {
            meminfo
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .find_map(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
                .map_or(0, |kibibytes| kibibytes * 1024)
        };
        Self {
            total: field("MemTotal"),
            available: field("MemAvailable"),
        }
    }

    /// Less than an eighth is left.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.available < self.total / 8
    }
}

/// An environment as far as taking memory back goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder<T> {
    /// Which.
    pub id: T,
    /// For how long it has done nothing.
    pub idle: Duration,
    /// Bytes it holds.
    pub used: u64,
    /// Bytes set aside for it by its class.
    pub request: u64,
}

/// An environment counts as idle from here on.
const IDLE: Duration = Duration::from_mins(1);
/// Taken from one environment at a time: a reclaim holds up whoever faults meanwhile.
const BITE: u64 = 64 << 20;
/// Not worth a reclaim.
const CRUMB: u64 = 4 << 20;

/// How many bytes to take back from whom now, the longest idle first; nothing while the host has
/// enough.
#[must_use]
pub fn reclaim<T: Clone + Ord>(holders: &[Holder<T>], host: &Host) -> Vec<(T, u64)> {
    if !host.is_short() {
        return Vec::new();
    }
    let mut missing = (host.total / 8).saturating_sub(host.available);
    let mut idle: Vec<&Holder<T>> = holders
        .iter()
        .filter(|holder| holder.idle >= IDLE)
        .filter(|holder| holder.used.saturating_sub(holder.request) >= CRUMB)
        .collect();
    idle.sort_by(|a, b| b.idle.cmp(&a.idle).then_with(|| a.id.cmp(&b.id)));
    let mut taken = Vec::new();
    for holder in idle {
        if missing == 0 {
            break;
        }
        let bytes = holder.used.saturating_sub(holder.request).min(BITE);
        missing = missing.saturating_sub(bytes);
        taken.push((holder.id.clone(), bytes));
    }
    taken
}

#[cfg(test)]
mod tests;
