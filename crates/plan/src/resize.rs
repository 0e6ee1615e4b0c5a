//! What of a changed class applies to an environment that runs, and how.
//!
//! Processors, memory and processes are limits of a cgroup and change under what runs. Memory is
//! never lowered below what is in use in a way that kills: version 2 of cgroups is told to press
//! (`memory.high`) until the use fits and only then holds the limit; version 1 refuses by itself.
//! Everything else of a class is taken when an environment starts.
//!
//! What is held now is read from the kernel each time, so a decision that was cut off halfway is
//! simply made again. Read next: `memory`.

use std::collections::{BTreeMap, BTreeSet};

/// Something of the class that does not apply yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Field of the class.
    pub field: String,
    /// Whether a restart is needed; otherwise it is tried again.
    pub needs_restart: bool,
    /// One sentence.
    pub message: String,
}

/// Limits, each absent meaning none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// What the kernel holds an environment to, and what it uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Limits in force.
    pub limits: Limits,
    /// Where pressing begins (version 2), none when absent.
    pub memory_high: Option<u64>,
    /// Bytes in use, with what could be reclaimed.
    pub memory_used: u64,
    /// Whether this is version 2, which can press.
    pub presses: bool,
}

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Limits the processors.
    Cpu(Option<u64>),
    /// Limits the memory; may be refused while more is in use.
    Memory(Option<u64>),
    /// Presses above this many bytes; None ends it.
    MemoryHigh(Option<u64>),
    /// Limits the processes.
    Pids(Option<u64>),
}

/// The kernel counts memory in pages.
const PAGE: u64 = 4096;

/// What to write now, in order.
#[must_use]
pub fn changes(wanted: &Limits, held: &Held) -> Vec<Change> {
    let mut changes = Vec::new();
    if wanted.cpu_millis != held.limits.cpu_millis {
        changes.push(Change::Cpu(wanted.cpu_millis));
    }
    if wanted.pids != held.limits.pids {
        changes.push(Change::Pids(wanted.pids));
    }
    let pages = |bytes: Option<u64>| bytes.map(|bytes| bytes / PAGE);
    let differs = pages(wanted.memory) != pages(held.limits.memory);
    let fits = |bytes: u64| !held.presses || held.memory_used <= bytes;
    match wanted.memory.filter(|bytes| differs && !fits(*bytes)) {
        Some(bytes) => {
            if pages(held.memory_high) != pages(Some(bytes)) {
                changes.push(Change::MemoryHigh(Some(bytes)));
            }
        }
        None => {
            if differs {
                changes.push(Change::Memory(wanted.memory));
            }
            if held.presses && held.memory_high.is_some() {
                changes.push(Change::MemoryHigh(None));
            }
        }
    }
    changes
}

/// What of the wanted limits does not hold though [`changes`] were made.
#[must_use]
pub fn unmet(wanted: &Limits, held: &Held) -> Vec<Pending> {
    let mut unmet = Vec::new();
    let pages = |bytes: Option<u64>| bytes.map(|bytes| bytes / PAGE);
    if pages(wanted.memory) != pages(held.limits.memory)
        && let Some(bytes) = wanted.memory
    {
        unmet.push(Pending {
            field: "resources.memory".to_owned(),
            needs_restart: false,
            message: format!(
                "{} are in use, more than the new limit of {}; it holds as soon as they fit: end something",
                mebibytes(held.memory_used),
                mebibytes(bytes)
            ),
        });
    }
    unmet
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// What differs between the fields of the class an environment was started with and of the one it
/// has now: each applies only to a new start. Those that apply live are not to be among them.
#[must_use]
pub fn needs_restart(
    started: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Vec<Pending> {
    let names: BTreeSet<&String> = started.keys().chain(now.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| started.get(*name) != now.get(*name));
    changed
        .map(|name| Pending {
            field: name.clone(),
            needs_restart: true,
            message: format!(
                "{name} of the class has changed and is taken at a start: restart the environment (boatyard restart)"
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests;
