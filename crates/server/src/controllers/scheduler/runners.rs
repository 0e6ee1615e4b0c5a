//! Who waits, who is bound where, and which runners may be chosen.
//!
//! Owns the scheduler's index. It is small (names and a runner for each environment, no objects) and
//! kept change by change. A choice counts from the moment it is made; what is seen of the
//! environment afterwards is the truth and replaces it.

use super::Name;
use boatyard_plan::placement::{Pool, Standing};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;

/// What is known of a runner's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseFacts {
    /// As its holder wrote it: a change of it is a sign of life.
    pub(super) renewed: String,
    pub(super) until: Instant,
}

#[derive(Debug)]
struct Bound {
    runner: Arc<str>,
    /// Chosen, and not seen written yet.
    chosen: bool,
}

/// The scheduler's index.
#[derive(Debug, Default)]
pub(super) struct Index {
    waiting: HashSet<Name>,
    bound: HashMap<Name, Bound>,
    /// One copy of each runner's name.
    names: HashSet<Arc<str>>,
    /// Registered runners, and whether they are unschedulable.
    registered: HashMap<String, bool>,
    leases: HashMap<String, LeaseFacts>,
    /// When the leases of those that count as alive run out.
    expiries: BTreeSet<(Instant, String)>,
    pool: Pool,
}

impl Index {
    /// What was seen of an environment; neither waiting nor bound: it is gone or going.
    pub(super) fn note(&mut self, name: &Name, waits: bool, runner: Option<&str>) {
        if waits {
            self.waiting.insert(name.clone());
        } else {
            self.waiting.remove(name);
        }
        if let Some(bound) = self.bound.get_mut(name) {
            if runner == Some(&*bound.runner) {
                bound.chosen = false;
                return;
            }
            self.release(name);
        }
        if let Some(runner) = runner {
            self.bind(name, runner, false);
        }
    }

    fn bind(&mut self, name: &Name, runner: &str, chosen: bool) {
        let runner = match self.names.get(runner) {
            Some(known) => known.clone(),
            None => {
                let fresh: Arc<str> = runner.into();
                self.names.insert(fresh.clone());
                fresh
            }
        };
        self.pool.bind(&runner);
        self.bound.insert(name.clone(), Bound { runner, chosen });
    }

    fn release(&mut self, name: &Name) {
        if let Some(bound) = self.bound.remove(name) {
            self.pool.release(&bound.runner);
            // The last copies are the set's and ours.
            if Arc::strong_count(&bound.runner) <= 2 {
                self.names.remove(&bound.runner);
            }
        }
    }

    /// Chooses a runner, and counts the environment as bound to it; or says why it waits.
    pub(super) fn choose(&mut self, name: &Name, now: Instant) -> Result<String, &'static str> {
        self.expire(now);
        let runner = self.pool.choose()?.to_owned();
        self.release(name);
        self.bind(name, &runner, true);
        Ok(runner)
    }

    /// Why nothing can be chosen, if so.
    pub(super) fn why_not(&mut self, now: Instant) -> Option<&'static str> {
        self.expire(now);
        self.pool.choose().err()
    }

    /// A choice could not be written.
    pub(super) fn take_back(&mut self, name: &Name, runner: &str) {
        let chosen = self.bound.get(name);
        if chosen.is_some_and(|bound| bound.chosen && *bound.runner == *runner) {
            self.release(name);
        }
    }

    /// Says whether a runner is registered, and if so whether it is unschedulable. True when
    /// environments that wait should be looked at again.
    pub(super) fn register(
        &mut self,
        name: &str,
        unschedulable: Option<bool>,
        now: Instant,
    ) -> bool {
        match unschedulable {
            None => self.registered.remove(name),
            Some(unschedulable) => self.registered.insert(name.to_owned(), unschedulable),
        };
        self.settle(name, now)
    }

    /// Says how a runner's lease stands; as above.
    pub(super) fn lease(&mut self, name: &str, lease: Option<LeaseFacts>, now: Instant) -> bool {
        let known = self.leases.get(name);
        if let (Some(known), Some(lease)) = (known, &lease)
            && known.renewed == lease.renewed
        {
            return false;
        }
        if let Some(known) = known {
            self.expiries.remove(&(known.until, name.to_owned()));
        }
        match lease {
            None => drop(self.leases.remove(name)),
            Some(lease) => {
                if lease.until > now {
                    self.expiries.insert((lease.until, name.to_owned()));
                }
                self.leases.insert(name.to_owned(), lease);
            }
        }
        self.settle(name, now)
    }

    /// Leases that have run out make their runners no candidates.
    fn expire(&mut self, now: Instant) {
        while let Some((until, name)) = self.expiries.first().cloned()
            && until <= now
        {
            self.expiries.remove(&(until, name.clone()));
            self.settle(&name, now);
        }
    }

    /// Tells the pool how a runner stands; true when that may change what those who wait are told.
    fn settle(&mut self, name: &str, now: Instant) -> bool {
        let alive = self.leases.get(name).is_some_and(|lease| lease.until > now);
        let unschedulable = self.registered.get(name).copied();
        let standing = unschedulable.map(|unschedulable| Standing {
            alive,
            unschedulable,
        });
        let changed = self.pool.standing(name) != standing;
        self.pool.stand(name, standing);
        changed
    }

    /// Environments without a runner.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Name> {
        self.waiting.iter().cloned()
    }

    pub(super) fn environments(&self) -> impl Iterator<Item = &Name> {
        self.waiting.iter().chain(self.bound.keys())
    }

    pub(super) fn registered(&self) -> impl Iterator<Item = &str> {
        self.registered.keys().map(String::as_str)
    }

    pub(super) fn leased(&self) -> impl Iterator<Item = &str> {
        self.leases.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests;
