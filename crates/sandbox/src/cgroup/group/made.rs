//! Groups that are made inside, beside the classes: container engines put theirs there.
//!
//! Whoever made one may remove it, or change what is written to it, at any moment: it belongs to root
//! inside, and what is written here is fairness, not security. Names are the kernel's, one component of a
//! path each.

use super::{CLASSES, Dir, Error, Group, Quota, processor, sample};
use std::time::Duration;

/// More are left alone.
const MOST: usize = 100;

impl Group {
    /// Names of the groups made inside, beside the classes; at most a hundred.
    ///
    /// # Errors
    /// When it is gone.
    pub fn made_inside(&self) -> Result<Vec<String>, Error> {
        let inner = self.cpu.below("inner");
        let children = inner
            .children()
            .map_err(self.failed("read", inner.path("")))?;
        Ok(children
            .into_iter()
            .filter(|name| !CLASSES.contains(&name.as_str()))
            .take(MOST)
            .collect())
    }

    /// The groups made inside that may be capped: of version 2. In version 1 a cap would make the engine
    /// fail that gives one of its containers as much as the environment has.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cappable(&self) -> Result<Vec<String>, Error> {
        if self.unified {
            self.made_inside()
        } else {
            Ok(Vec::new())
        }
    }

    fn made(&self, name: &str) -> Dir {
        self.cpu.below("inner").below(name)
    }

    /// Processor time a group made inside has used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn made_usage(&self, name: &str) -> Result<Duration, Error> {
        let usage = self.made(name).held("cpu.stat");
        self.read(&usage, sample::usage(self.unified))
    }

    /// The quota of a group made inside as it stands.
    ///
    /// # Errors
    /// When it is gone.
    pub fn made_quota(&self, name: &str) -> Result<Option<Quota>, Error> {
        let dir = self.made(name);
        processor::quota(&dir, self.unified).map_err(self.refused(&dir))
    }

    /// Sets or lifts the quota of a group made inside.
    ///
    /// # Errors
    /// When it is gone, or the kernel refuses.
    pub fn set_made_quota(&self, name: &str, quota: Option<Quota>) -> Result<(), Error> {
        let dir = self.made(name);
        processor::cap(&dir, self.unified, quota).map_err(self.refused(&dir))
    }
}
