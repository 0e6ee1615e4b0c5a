//! Limits of a sandbox, when it starts ([`begin`]) and one at a time while it runs, and what the kernel
//! holds it to now.
//!
//! Each write is one file (two for processors), so that whoever changes several may be killed between
//! them: the next one reads what holds. What to write, and in which order, is `plan`'s.

use super::files::Dir;
use super::processor::{self, Quota, Refused, Weight, cap_whole, weigh};
use super::{Class, Error, Group, sample};
use crate::cgroup::hierarchies::Hierarchy;
use crate::spec::Limits;
use std::io;
use std::path::Path;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(100);

/// Writes those limits that are given, and that this hierarchy has, to a directory just made.
pub(in crate::cgroup) fn begin(
    hierarchy: &Hierarchy,
    directory: &Path,
    limits: &Limits,
) -> io::Result<()> {
    let dir = &Dir::new(directory.to_owned());
    let given = |controller: &str, limit: Option<u64>| limit.filter(|_| hierarchy.has(controller));
    let written = || {
        if let Some(millis) = given("cpu", limits.cpu_millis) {
            hold_processor(dir, hierarchy.unified, Some(millis))?;
        }
        if let Some(bytes) = given("memory", limits.memory_bytes) {
            hold_memory(dir, hierarchy.unified, Some(bytes))?;
        }
        if let Some(pids) = given("pids", limits.pids) {
            hold_pids(dir, Some(pids))?;
        }
        Ok(())
    };
    written().map_err(|refused: Refused| refused.source)
}

fn hold_processor(dir: &Dir, unified: bool, millis: Option<u64>) -> Result<(), Refused> {
    let quota = millis.map(|millis| Quota {
        quota: Duration::from_micros((millis * 100).max(1000)),
        period: PERIOD,
        burst: Duration::ZERO,
    });
    cap_whole(dir, unified, quota)?;
    let weight = millis.map_or(100, |millis| (millis / 10).clamp(1, 10_000));
    let weight = Weight::new(u32::try_from(weight).unwrap_or(10_000));
    weigh(dir, unified, weight)
}

fn hold_memory(dir: &Dir, unified: bool, bytes: Option<u64>) -> Result<(), Refused> {
    let none = if unified { "max" } else { "-1" };
    let text =
        |bytes: Option<u64>| bytes.map_or_else(|| none.to_owned(), |bytes| bytes.to_string());
    let hold = || processor::write(dir, memory_limit(unified), &text(bytes));
    // Of swap as much again, lest one fill what all share; version 1 limits the sum of both.
    let hold_swap = || match unified {
        true => processor::write(dir, "memory.swap.max", &text(bytes)),
        false => {
            let both = bytes.map(|bytes| bytes.saturating_mul(2));
            processor::write(dir, "memory.memsw.limit_in_bytes", &text(both))
        }
    };
    // First: who is killed in between finds the other still to be written.
    match hold_swap() {
        Ok(()) => hold(),
        // The kernel does not count swap.
        Err(refused) if refused.source.kind() == io::ErrorKind::NotFound => hold(),
        // A sum that is less than what memory alone is held to now.
        Err(refused) if !unified && refused.source.kind() == io::ErrorKind::InvalidInput => {
            hold()?;
            hold_swap()
        }
        Err(refused) => Err(refused),
    }
}

fn hold_pids(dir: &Dir, pids: Option<u64>) -> Result<(), Refused> {
    let text = pids.map_or_else(|| "max".to_owned(), |pids| pids.to_string());
    processor::write(dir, "pids.max", &text)
}

fn memory_limit(unified: bool) -> &'static str {
    if unified {
        "memory.max"
    } else {
        "memory.limit_in_bytes"
    }
}

impl Group {
    /// What the whole is held to now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn limits(&self) -> Result<Limits, Error> {
        let of = |dir: &Option<super::Dir>, name: &str| match dir {
            Some(dir) => dir
                .read(name)
                .map(|text| sample::maximum(&text))
                .map_err(self.failed("read", dir.path(name))),
            None => Ok(None),
        };
        Ok(Limits {
            cpu_millis: self.whole_quota()?.and_then(|quota| quota.limit_millis()),
            memory_bytes: of(&self.memory, memory_limit(self.unified))?,
            pids: of(&self.pids_dir(), "pids.max")?,
        })
    }

    /// Sets what the whole may use of the processors, in thousandths of one, and its weight among
    /// environments by it; None is as much as there is. Quotas of classes are lifted: in version 1 none
    /// may exceed the whole's, and whoever set them sets them anew.
    ///
    /// # Errors
    /// When it is gone.
    pub fn set_cpu_limit(&self, millis: Option<u64>) -> Result<(), Error> {
        for class in Class::ALL {
            if self.class_quota(class)?.is_some() {
                self.set_quota(class, None)?;
            }
        }
        hold_processor(&self.cpu, self.unified, millis).map_err(self.refused(&self.cpu))
    }

    /// Sets what the whole may use of memory, and of swap as much again. Version 1 refuses less than
    /// what cannot be reclaimed; version 2 kills until it fits.
    ///
    /// # Errors
    /// When it is gone, or refused.
    pub fn set_memory_limit(&self, bytes: Option<u64>) -> Result<(), Error> {
        let Some(dir) = &self.memory else {
            return Ok(());
        };
        hold_memory(dir, self.unified, bytes).map_err(self.refused(dir))
    }

    /// Above how many bytes the kernel takes memory back and slows who allocates: version 2.
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory_high(&self) -> Result<Option<u64>, Error> {
        match &self.memory {
            Some(dir) if self.unified => dir
                .read("memory.high")
                .map(|text| sample::maximum(&text))
                .map_err(self.failed("read", dir.path("memory.high"))),
            _ => Ok(None),
        }
    }

    /// Sets it; version 1 has none, and nothing happens.
    ///
    /// # Errors
    /// When it is gone.
    pub fn set_memory_high(&self, bytes: Option<u64>) -> Result<(), Error> {
        match &self.memory {
            Some(dir) if self.unified => {
                let text = bytes.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
                self.write(dir, "memory.high", &text)
            }
            _ => Ok(()),
        }
    }

    /// Down to how many bytes memory is taken from it first while the host is short of it: the soft
    /// limit of version 1. Version 2 is asked for each bite (see [`Group::reclaim`]).
    ///
    /// # Errors
    /// When it is gone.
    pub fn set_memory_request(&self, bytes: Option<u64>) -> Result<(), Error> {
        match &self.memory {
            Some(dir) if !self.unified => {
                let text = bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
                self.write(dir, "memory.soft_limit_in_bytes", &text)
            }
            _ => Ok(()),
        }
    }

    /// Takes memory back: swaps out, drops page cache. True when all of it could be had; version 1
    /// cannot, and answers false.
    ///
    /// # Errors
    /// When it is gone.
    pub fn reclaim(&self, bytes: u64) -> Result<bool, Error> {
        let Some(dir) = self.memory.as_ref().filter(|_| self.unified) else {
            return Ok(false);
        };
        match dir.write("memory.reclaim", &bytes.to_string()) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
            Err(error) => Err(self.failed("write", dir.path("memory.reclaim"))(error)),
        }
    }

    /// Sets how many processes and threads there may be at once.
    ///
    /// # Errors
    /// When it is gone.
    pub fn set_pids_limit(&self, pids: Option<u64>) -> Result<(), Error> {
        let Some(dir) = self.pids_dir() else {
            return Ok(());
        };
        hold_pids(&dir, pids).map_err(self.refused(&dir))
    }
}
