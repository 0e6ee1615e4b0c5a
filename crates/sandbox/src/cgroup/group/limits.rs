//! Limits under a sandbox that runs, one at a time, and what the kernel holds it to now.
//!
//! Each write is one file (two for processors), so that whoever changes several may be killed between
//! them: the next one reads what holds. What to write, and in which order, is `plan`'s.

use super::{Class, Error, Group, Quota, Weight, sample};
use crate::spec::Limits;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(100);

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
            memory_bytes: of(&self.memory, self.memory_limit())?,
            pids: of(&self.pids_dir(), "pids.max")?,
        })
    }

    fn memory_limit(&self) -> &'static str {
        if self.unified {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        }
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
        let quota = millis.map(|millis| Quota {
            quota: Duration::from_micros((millis * 100).max(1000)),
            period: PERIOD,
            burst: Duration::ZERO,
        });
        self.set_whole_quota(quota)?;
        let weight = millis.map_or(100, |millis| (millis / 10).clamp(1, 10_000));
        self.set_whole_weight(Weight::new(u32::try_from(weight).unwrap_or(10_000)))
    }

    /// Sets what the whole may use of memory. Version 1 refuses less than what cannot be reclaimed;
    /// version 2 kills until it fits.
    ///
    /// # Errors
    /// When it is gone, or refused.
    pub fn set_memory_limit(&self, bytes: Option<u64>) -> Result<(), Error> {
        let Some(dir) = &self.memory else {
            return Ok(());
        };
        let none = if self.unified { "max" } else { "-1" };
        let text = bytes.map_or_else(|| none.to_owned(), |bytes| bytes.to_string());
        self.write(dir, self.memory_limit(), &text)
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
        let text = pids.map_or_else(|| "max".to_owned(), |pids| pids.to_string());
        self.write(&dir, "pids.max", &text)
    }
}
