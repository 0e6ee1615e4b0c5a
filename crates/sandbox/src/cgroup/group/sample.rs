//! What the files say, as figures. Pure: text in, figures out.
//!
//! Counters are since the cgroup was made; rates are the reader's business. A line or a word that is
//! missing is zero: kernels differ in what they count.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a process can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A processor.
    Cpu,
    /// Memory.
    Memory,
    /// Block devices.
    Io,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 3] = [Self::Cpu, Self::Memory, Self::Io];

    /// As the kernel calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some task waited.
    pub some: Stall,
    /// All tasks waited at once.
    pub full: Stall,
}

/// One line of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last ten seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// In all.
    pub total: Duration,
}

impl Pressure {
    pub(super) fn parse(text: &str) -> Self {
        let mut pressure = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let stall = match words.next() {
                Some("some") => &mut pressure.some,
                Some("full") => &mut pressure.full,
                _ => continue,
            };
            for (name, value) in words.filter_map(|word| word.split_once('=')) {
                match name {
                    "avg10" => stall.avg10 = value.parse().unwrap_or(0.0),
                    "avg60" => stall.avg60 = value.parse().unwrap_or(0.0),
                    "avg300" => stall.avg300 = value.parse().unwrap_or(0.0),
                    "total" => stall.total = Duration::from_micros(value.parse().unwrap_or(0)),
                    _ => {}
                }
            }
        }
        pressure
    }
}

/// How a quota held its cgroup back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which something ran.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled: u64,
    /// How long run queues stood still, summed over processors.
    pub time: Duration,
    /// Periods in which saved time was spent.
    pub bursts: u64,
    /// How much of it.
    pub burst_time: Duration,
}

impl Throttling {
    pub(super) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for (name, value) in pairs(text) {
            match name {
                "nr_periods" => found.periods = value,
                "nr_throttled" => found.throttled = value,
                "throttled_time" => found.time = Duration::from_nanos(value),
                "throttled_usec" => found.time = Duration::from_micros(value),
                "nr_bursts" => found.bursts = value,
                "burst_time" => found.burst_time = Duration::from_nanos(value),
                "burst_usec" => found.burst_time = Duration::from_micros(value),
                _ => {}
            }
        }
        found
    }
}

/// Memory of a sandbox, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In use, page cache included.
    pub usage: u64,
    /// What `usage` may not exceed.
    pub limit: Option<u64>,
    /// The most `usage` was; zero before 5.19 in version 2.
    pub peak: u64,
    /// Of processes.
    pub anonymous: u64,
    /// Page cache.
    pub file: u64,
    /// Of it: tmpfs and shared memory, which cannot be dropped.
    pub shared: u64,
    /// Page cache that has not been used for long.
    pub inactive_file: u64,
    /// Page cache not yet written.
    pub dirty: u64,
    /// Swapped out.
    pub swap: u64,
    /// How often pages came back that had just been reclaimed.
    pub refaults: u64,
    /// How often the limit was reached.
    pub limit_hits: u64,
    /// How often nothing could be reclaimed then.
    pub ooms: u64,
    /// How many processes were killed for it.
    pub oom_kills: u64,
}

impl Memory {
    pub(super) fn parse_stat(text: &str) -> Self {
        let mut memory = Self::default();
        for (name, value) in pairs(text) {
            match name {
                // Version 2, then 1. The latter's plain lines are of the cgroup itself without its
                // children, so those of the hierarchy win.
                "anon" | "total_rss" => memory.anonymous = value,
                "file" | "total_cache" => memory.file = value,
                "shmem" | "total_shmem" => memory.shared = value,
                "inactive_file" | "total_inactive_file" => memory.inactive_file = value,
                "file_dirty" | "total_dirty" => memory.dirty = value,
                "total_swap" => memory.swap = value,
                "workingset_refault_anon" | "workingset_refault_file" => memory.refaults += value,
                _ => {}
            }
        }
        memory
    }

    /// `memory.events` of version 2, `memory.oom_control` of version 1.
    pub(super) fn count_events(&mut self, text: &str) {
        for (name, value) in pairs(text) {
            match name {
                "max" => self.limit_hits = value,
                "oom" => self.ooms = value,
                "oom_kill" => self.oom_kills = value,
                _ => {}
            }
        }
    }
}

/// Number of a block device.
pub type Device = (u32, u32);

/// What was read from and written to one block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Its number.
    pub device: Device,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
}

/// The most that may be done with a block device in a second; None is anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoLimit {
    /// Bytes read.
    pub read: Option<u64>,
    /// Bytes written.
    pub written: Option<u64>,
    /// Requests to read.
    pub reads: Option<u64>,
    /// Requests to write.
    pub writes: Option<u64>,
}

/// As `io.max` calls them, in the order of [`IoLimit::numbers`].
const NAMES: [&str; 4] = ["rbps", "wbps", "riops", "wiops"];

impl IoLimit {
    pub(super) fn numbers(&self) -> [Option<u64>; 4] {
        [self.read, self.written, self.reads, self.writes]
    }

    fn set(&mut self, number: usize, value: Option<u64>) {
        match number {
            0 => self.read = value,
            1 => self.written = value,
            2 => self.reads = value,
            3 => self.writes = value,
            _ => {}
        }
    }

    /// A line of `io.max`.
    pub(super) fn text(&self, (major, minor): Device) -> String {
        let mut text = format!("{major}:{minor}");
        for (name, number) in NAMES.iter().zip(self.numbers()) {
            let number = number.map_or_else(|| "max".to_owned(), |number| number.to_string());
            text.push_str(&format!(" {name}={number}"));
        }
        text
    }
}

pub(super) fn device(word: &str) -> Option<Device> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines of `io.max`.
pub(super) fn io_limits(limits: &mut BTreeMap<Device, IoLimit>, text: &str) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(device) = words.next().and_then(device) else {
            continue;
        };
        let limit = limits.entry(device).or_default();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            if let Some(number) = NAMES.iter().position(|known| *known == name) {
                limit.set(number, value.parse().ok());
            }
        }
    }
}

/// One of the four files of version 1, by its place in [`IoLimit::numbers`].
pub(super) fn io_numbers(limits: &mut BTreeMap<Device, IoLimit>, text: &str, number: usize) {
    for line in text.lines() {
        let Some((of, value)) = line.split_once(' ') else {
            continue;
        };
        if let Some(device) = device(of) {
            let value = value.trim().parse().ok().filter(|value| *value > 0);
            limits.entry(device).or_default().set(number, value);
        }
    }
}

/// `io.stat` of version 2; of version 1 `blkio.throttle.io_service_bytes_recursive`, or with
/// `requests` the `io_serviced_recursive` beside it.
pub(super) fn count_disks(
    disks: &mut BTreeMap<Device, Disk>,
    text: &str,
    unified: bool,
    requests: bool,
) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(device) = words.next().and_then(device) else {
            continue;
        };
        let disk = disks.entry(device).or_insert_with(|| Disk {
            device,
            ..Disk::default()
        });
        let mut set = |name: &str, value: &str| {
            let value = value.parse().unwrap_or(0);
            match (name, requests) {
                ("rbytes", _) | ("Read", false) => disk.read = value,
                ("wbytes", _) | ("Write", false) => disk.written = value,
                ("rios", _) | ("Read", true) => disk.reads = value,
                ("wios", _) | ("Write", true) => disk.writes = value,
                _ => {}
            }
        };
        if unified {
            for (name, value) in words.filter_map(|word| word.split_once('=')) {
                set(name, value);
            }
        } else if let (Some(name), Some(value)) = (words.next(), words.next()) {
            set(name, value);
        }
    }
}

/// Processor time: `usage_usec` of version 2's `cpu.stat`, else the number of `cpuacct.usage`.
pub(super) fn usage(unified: bool) -> impl FnOnce(&str) -> Option<Duration> {
    move |text| {
        if unified {
            let found = pairs(text).find(|(name, _)| *name == "usage_usec");
            found.map(|(_, value)| Duration::from_micros(value))
        } else {
            number(text).map(Duration::from_nanos)
        }
    }
}

/// A file of one number.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A limit: none for `max`, or in version 1 for the largest number of whole pages.
pub(super) fn maximum(text: &str) -> Option<u64> {
    number(text).filter(|value| *value < 1 << 62)
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, value.trim().parse().ok()?))
    })
}
