//! Shares of the processor: weights, and quotas with what may be saved up, of the whole and of classes.
//!
//! The functions write a directory of either version, whoever asks: a start through [`super::begin`], a
//! change through [`Group`].

use super::files::Dir;
use super::{Class, Error, Group, find, sample};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How much of a contended processor, in version 2's unit: 1 to 10,000, 100 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u32);

impl Weight {
    /// What a cgroup has when nobody says otherwise.
    pub const DEFAULT: Self = Self(100);

    /// Clamped to what the kernel takes.
    #[must_use]
    pub fn new(weight: u32) -> Self {
        Self(weight.clamp(1, 10_000))
    }

    /// In version 2's unit.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    fn text(self, unified: bool) -> String {
        if unified {
            self.0.to_string()
        } else {
            (u64::from(self.0) * 1024 / 100).max(2).to_string()
        }
    }
}

/// Processor time per period, with what may be saved up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Per period.
    pub quota: Duration,
    /// The period, 1 ms to 1 s.
    pub period: Duration,
    /// Unused time that may be spent later, at most `quota`.
    pub burst: Duration,
}

impl Quota {
    /// The limit it stands for, in thousandths of a processor: of a whole whose quota leaves room
    /// above the limit, the burst is the limit per period.
    #[must_use]
    pub fn limit_millis(&self) -> Option<u64> {
        let limit = if self.burst.is_zero() {
            self.quota
        } else {
            self.burst
        };
        u64::try_from(limit.as_micros() * 1000 / self.period.as_micros().max(1)).ok()
    }
}

/// A file that was not read or written.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) verb: &'static str,
    pub(super) file: &'static str,
    pub(super) source: io::Error,
}

pub(super) fn write(dir: &Dir, file: &'static str, text: &str) -> Result<(), Refused> {
    dir.write(file, text).map_err(|source| Refused {
        verb: "write",
        file,
        source,
    })
}

/// Weighs a directory among its siblings.
pub(super) fn weigh(dir: &Dir, unified: bool, weight: Weight) -> Result<(), Refused> {
    let file = if unified { "cpu.weight" } else { "cpu.shares" };
    write(dir, file, &weight.text(unified))?;
    if unified {
        // At disks the same, where the kernel weighs there (io.cost, bfq).
        let _ = dir.write("io.weight", &weight.text(unified));
    }
    Ok(())
}

/// The quota of a directory as it stands.
pub(super) fn quota(dir: &Dir, unified: bool) -> Result<Option<Quota>, Refused> {
    let text = |file: &'static str| {
        dir.read(file).map_err(|source| Refused {
            verb: "read",
            file,
            source,
        })
    };
    let (quota, period, burst) = if unified {
        let maximum = text("cpu.max")?;
        let (quota, period) = maximum.trim().split_once(' ').unwrap_or(("max", "100000"));
        (
            quota.to_owned(),
            period.to_owned(),
            text("cpu.max.burst").unwrap_or_default(),
        )
    } else {
        let burst = text("cpu.cfs_burst_us").unwrap_or_default();
        (text("cpu.cfs_quota_us")?, text("cpu.cfs_period_us")?, burst)
    };
    let micros = |text: &str| sample::number(text).map(Duration::from_micros);
    Ok(micros(&quota)
        .zip(micros(&period))
        .map(|(quota, period)| Quota {
            quota,
            period,
            burst: micros(&burst).unwrap_or_default(),
        }))
}

/// Sets or lifts the quota of a directory. Between its writes the limit ([`Quota::limit_millis`]) shows
/// as what it was or is to be, never as the room above it: whoever is killed there has raised nothing.
pub(super) fn cap(dir: &Dir, unified: bool, quota: Option<Quota>) -> Result<(), Refused> {
    let burst = if unified {
        "cpu.max.burst"
    } else {
        "cpu.cfs_burst_us"
    };
    let Some(quota) = quota else {
        if unified {
            write(dir, "cpu.max", "max")?;
        } else {
            write(dir, "cpu.cfs_quota_us", "-1")?;
        }
        let _ = dir.write(burst, "0");
        return Ok(());
    };
    let (amount, period) = (quota.quota.as_micros().max(1000), quota.period.as_micros());
    // Kernels before 5.14 have no burst.
    let number = |text: String| sample::number(&text).map(u128::from);
    let stands = dir.read(burst).ok().and_then(number).unwrap_or(0);
    let wanted = quota.burst.as_micros().min(amount);
    let first = if wanted == 0 {
        stands.min(amount)
    } else {
        wanted
    };
    // More than the quota that stands is refused: then the quota goes first.
    let is_written = first == stands || dir.write(burst, &first.to_string()).is_ok();
    if unified {
        write(dir, "cpu.max", &format!("{amount} {period}"))?;
    } else {
        let now = dir
            .read("cpu.cfs_period_us")
            .ok()
            .as_deref()
            .and_then(sample::number);
        if now.map(u128::from) != Some(period) {
            write(dir, "cpu.cfs_quota_us", "-1")?;
            write(dir, "cpu.cfs_period_us", &period.to_string())?;
        }
        write(dir, "cpu.cfs_quota_us", &amount.to_string())?;
    }
    if !is_written || first != wanted {
        let _ = dir.write(burst, &wanted.to_string());
    }
    Ok(())
}

/// The same of a directory below which root inside makes groups: in version 1 the kernel refuses a
/// quota that is less than one below it, so those are lifted.
pub(super) fn cap_whole(dir: &Dir, unified: bool, quota: Option<Quota>) -> Result<(), Refused> {
    match cap(dir, unified, quota) {
        Err(refused) if !unified && refused.source.raw_os_error() == Some(libc::EINVAL) => {
            let lift = |group: &OwnedFd| {
                let file = rustix::fs::openat(
                    group,
                    c"cpu.cfs_quota_us",
                    OFlags::WRONLY | OFlags::CLOEXEC,
                    Mode::empty(),
                );
                // It may be gone by now.
                let _ = file.map(|file| rustix::io::write(&file, b"-1"));
            };
            match dir.each_below(&lift) {
                Ok(()) => cap(dir, unified, quota),
                Err(_) => Err(refused),
            }
        }
        done => done,
    }
}

impl Group {
    /// Sets the weight of a class among its siblings.
    ///
    /// # Errors
    /// When it is gone.
    pub fn set_weight(&self, class: Class, weight: Weight) -> Result<(), Error> {
        if find("cpu").is_none() {
            return Ok(());
        }
        let dir = &self.classes[class as usize].dir;
        weigh(dir, self.unified, weight).map_err(self.refused(dir))
    }

    /// Sets or lifts the quota of a class. In version 1 none may exceed the whole's.
    ///
    /// # Errors
    /// When it is gone, or the kernel refuses.
    pub fn set_quota(&self, class: Class, quota: Option<Quota>) -> Result<(), Error> {
        let dir = &self.classes[class as usize].dir;
        cap(dir, self.unified, quota).map_err(self.refused(dir))
    }

    /// The same of the whole.
    ///
    /// # Errors
    /// When it is gone, or the kernel refuses.
    pub fn set_whole_quota(&self, quota: Option<Quota>) -> Result<(), Error> {
        cap_whole(&self.cpu, self.unified, quota).map_err(self.refused(&self.cpu))
    }

    /// The quota of the whole as it stands.
    ///
    /// # Errors
    /// When it is gone.
    pub fn whole_quota(&self) -> Result<Option<Quota>, Error> {
        quota(&self.cpu, self.unified).map_err(self.refused(&self.cpu))
    }

    /// The quota of a class as it stands.
    ///
    /// # Errors
    /// When it is gone.
    pub fn class_quota(&self, class: Class) -> Result<Option<Quota>, Error> {
        let dir = &self.classes[class as usize].dir;
        quota(dir, self.unified).map_err(self.refused(dir))
    }
}
