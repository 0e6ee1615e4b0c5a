//! Who waits, who is bound where, and which runners may be chosen.
//!
//! Owns the scheduler's index. It is small (names and a runner for each environment, no objects) and
//! kept change by change. A choice counts from the moment it is made; what is seen of the
//! environment afterwards is the truth and replaces it.

use super::Name;
use boatyard_plan::placement::{Amount, Pool, Standing};
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
    /// What is set aside for it there.
    request: Amount,
    /// Chosen, and not seen written yet.
    chosen: bool,
}

/// The scheduler's index.
#[derive(Debug, Default)]
pub(super) struct Index {
    waiting: HashSet<Name>,
    bound: HashMap<Name, Bound>,
    /// One copy of each runner's and class's name.
    names: HashSet<Arc<str>>,
    /// Registered runners, and whether they are unschedulable.
    registered: HashMap<String, bool>,
    leases: HashMap<String, LeaseFacts>,
    /// When the leases of those that count as alive run out.
    expiries: BTreeSet<(Instant, String)>,
    /// What each class requests, and the class of each environment.
    classes: HashMap<String, Amount>,
    asked: HashMap<Name, Arc<str>>,
    pool: Pool,
}

impl Index {
    /// Says the class of an environment; None when it is gone.
    pub(super) fn asks(&mut self, name: &Name, class: Option<&str>) {
        let Some(class) = class else {
            self.asked.remove(name);
            return;
        };
        if self.asked.get(name).is_some_and(|known| **known == *class) {
            return;
        }
        let class = self.copy_of(class);
        self.asked.insert(name.clone(), class);
        self.set_aside(name);
    }

    /// Says what a class requests; None when it is gone. True when environments that wait should be
    /// looked at again.
    pub(super) fn class(&mut self, class: &str, request: Option<Amount>) -> bool {
        let request = request.unwrap_or_default();
        let before = match request == Amount::default() {
            true => self.classes.remove(class),
            false => self.classes.insert(class.to_owned(), request),
        };
        if before.unwrap_or_default() == request {
            return false;
        }
        let of_it = self.asked.iter().filter(|(_, asked)| ***asked == *class);
        let of_it: Vec<Name> = of_it.map(|(name, _)| name.clone()).collect();
        of_it.iter().for_each(|name| self.set_aside(name));
        true
    }

    fn request(&self, name: &Name) -> Amount {
        let class = self.asked.get(name);
        class
            .and_then(|class| self.classes.get(&**class))
            .copied()
            .unwrap_or_default()
    }

    /// Sets aside what an environment that is bound requests now.
    fn set_aside(&mut self, name: &Name) {
        let request = self.request(name);
        if let Some(bound) = self.bound.get_mut(name) {
            self.pool.give_back(&bound.runner, bound.request);
            bound.request = request;
            self.pool.take(&bound.runner, request);
        }
    }

    /// Says what a runner's host has. True when environments that wait should be looked at again.
    pub(super) fn provides(&mut self, runner: &str, capacity: Option<Amount>) -> bool {
        self.pool.provide(runner, capacity)
    }

    /// What was seen of an environment; neither waiting nor bound: it is gone or going. True when
    /// there may be room now for others that wait.
    pub(super) fn note(&mut self, name: &Name, waits: bool, runner: Option<&str>) -> bool {
        let set_aside = |index: &Self| {
            let bound = index.bound.get(name);
            bound.is_some_and(|bound| bound.request != Amount::default())
        };
        let before = set_aside(self);
        self.seen(name, waits, runner);
        before && !set_aside(self)
    }

    fn seen(&mut self, name: &Name, waits: bool, runner: Option<&str>) {
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

    /// One copy of a runner's or a class's name.
    fn copy_of(&mut self, name: &str) -> Arc<str> {
        match self.names.get(name) {
            Some(known) => known.clone(),
            None => {
                let fresh: Arc<str> = name.into();
                self.names.insert(fresh.clone());
                fresh
            }
        }
    }

    fn bind(&mut self, name: &Name, runner: &str, chosen: bool) {
        let runner = self.copy_of(runner);
        let request = self.request(name);
        self.pool.bind(&runner);
        self.pool.take(&runner, request);
        let bound = Bound {
            runner,
            request,
            chosen,
        };
        self.bound.insert(name.clone(), bound);
    }

    fn release(&mut self, name: &Name) {
        if let Some(bound) = self.bound.remove(name) {
            self.pool.give_back(&bound.runner, bound.request);
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
        let runner = self.pool.choose_for(self.request(name))?.to_owned();
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

    /// Classes that request something.
    pub(super) fn requesting(&self) -> impl Iterator<Item = &str> {
        self.classes.keys().map(String::as_str)
    }

    pub(super) fn leased(&self) -> impl Iterator<Item = &str> {
        self.leases.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests;
