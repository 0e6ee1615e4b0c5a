//! Why an environment is slowed, in words, and when that is worth telling.
//!
//! A pure function of two samples of its cgroups. Status is written seldom: when a reason comes or
//! goes, a limit changes, or the use has changed noticeably and the last time is long ago.

use crate::resize::Limits;
use std::time::Duration;

/// What the cgroups say at one time; sums grow for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Since some moment that is the same for both samples.
    pub at: Duration,
    /// Processor time used.
    pub cpu: Duration,
    /// Periods in which the whole stood still for its quota, and all of them.
    pub throttled: (u64, u64),
    /// The same of the builders by a quota of their own.
    pub builds_throttled: (u64, u64),
    /// Thousandths of a processor that the builders are held to.
    pub builds_cpu_millis: Option<u64>,
    /// Bytes in use, without what can be dropped at once.
    pub memory: u64,
    /// Where pressing begins.
    pub memory_high: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// The least it is held to at a disk for neighbours that wait there.
    pub disk: Option<Disk>,
}

/// What may be done with a disk in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes read.
    pub read: Option<u64>,
    /// Bytes written.
    pub write: Option<u64>,
}

/// Why it is slowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Stable word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl Sample {
    /// Thousandths of a processor used since an earlier one.
    #[must_use]
    pub fn cpu_millis_since(&self, before: &Self) -> u64 {
        let elapsed = self.at.saturating_sub(before.at).as_micros();
        let used = self.cpu.saturating_sub(before.cpu).as_micros();
        if elapsed == 0 {
            return 0;
        }
        u64::try_from(used * 1000 / elapsed).unwrap_or(u64::MAX)
    }
}

/// Of how many periods a standstill shows.
const NOTICED: u64 = 10;

/// Why it is slowed, or soon may be.
#[must_use]
pub fn reasons(before: &Sample, now: &Sample, limits: &Limits) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut tell = |reason, message| reasons.push(Reason { reason, message });
    let held = |then: (u64, u64), now: (u64, u64)| {
        let (stood, all) = (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1));
        // One of ten periods, and more than a hiccup.
        stood >= 2 && stood * NOTICED >= all
    };
    if let Some(cpu) = limits.cpu_millis {
        if held(before.throttled, now.throttled) {
            let what = format!("everything is held at {} processors", processors(cpu));
            tell("CpuLimit", what);
        } else if held(before.builds_throttled, now.builds_throttled)
            && let Some(builds) = now.builds_cpu_millis
        {
            let share = builds * 100 / cpu.max(1);
            let what = format!("builds held at {share}% of {} processors", processors(cpu));
            tell("CpuLimit", what);
        }
    }
    if let Some(limit) = limits.memory
        && now.memory >= limit - limit / 10
    {
        let what = format!(
            "memory near its limit: {} of {} MiB",
            now.memory >> 20,
            limit >> 20
        );
        tell("MemoryLimit", what);
    }
    if let Some(high) = now.memory_high
        && now.memory >= high
    {
        let what = format!(
            "memory is being taken back: more than {} MiB are in use",
            high >> 20
        );
        tell("MemoryReclaim", what);
    }
    if let Some(disk) = now.disk {
        let most = |bytes: Option<u64>, done| Some(format!("{} MiB {done}", bytes? >> 20));
        let both = [most(disk.read, "read"), most(disk.write, "written")];
        let both: Vec<String> = both.into_iter().flatten().collect();
        let what = format!(
            "held to {} a second: neighbours wait for the disk",
            both.join(" and ")
        );
        tell("DiskShare", what);
    }
    if let Some(limit) = limits.pids
        && now.pids >= limit - limit / 10
    {
        let what = format!("processes near their limit: {} of {limit}", now.pids);
        tell("Processes", what);
    }
    reasons
}

/// `2`, `1.5`.
fn processors(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What was told of an environment's use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// How long figures may be old.
const STALE: Duration = Duration::from_secs(30);

/// Whether figures that changed are worth telling after this time.
#[must_use]
pub fn worth_telling(told: &Told, now: &Told, since: Duration) -> bool {
    let differs = |a: u64, b: u64, least: u64| a.abs_diff(b) >= least.max(a.max(b) / 10);
    since >= STALE
        && (differs(told.cpu_millis, now.cpu_millis, 100)
            || differs(told.memory, now.memory, 16 << 20)
            || differs(told.pids, now.pids, 8))
}

#[cfg(test)]
mod tests;
