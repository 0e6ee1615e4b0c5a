//! Which runner an environment goes to.
//!
//! A [`Pool`] is what the scheduler knows of runners, kept up to date change by change, so that a
//! choice among many runners for many environments costs a look and not a count.
//!
//! What environments request is set aside on their runner and never promised twice; what their limits
//! are beyond it may be promised as often as one likes (`memory` says what happens then). A runner
//! whose capacity is not known takes what comes.

use std::collections::{BTreeSet, HashMap};

/// How a registered runner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its lease is fresh.
    pub alive: bool,
    /// An administrator wants no further environments on it.
    pub unschedulable: bool,
}

impl Standing {
    fn is_fit(self) -> bool {
        self.alive && !self.unschedulable
    }
}

/// Of a runner's host, or what is set aside there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory: self.memory.saturating_sub(other.memory),
        }
    }

    fn fits_in(self, other: Self) -> bool {
        self.cpu_millis <= other.cpu_millis && self.memory <= other.memory
    }
}

#[derive(Debug, Default)]
struct Runner {
    /// None: environments name it, but it has not registered.
    standing: Option<Standing>,
    environments: usize,
    /// What its host has; None while it does not say.
    capacity: Option<Amount>,
    /// What is set aside.
    taken: Amount,
}

impl Runner {
    fn has_room(&self, request: Amount) -> bool {
        // Nothing asked for is there always, also where classes have grown since.
        request == Amount::default()
            || self
                .capacity
                .is_none_or(|capacity| self.taken.plus(request).fits_in(capacity))
    }

    fn is_fit(&self) -> bool {
        self.standing.is_some_and(Standing::is_fit)
    }
}

const NO_ROOM: &str = "no runner has as much left as the environment's class requests; delete an environment, choose a smaller class, or add a runner";

/// Runners, how they stand, and how many environments each has.
#[derive(Debug, Default)]
pub struct Pool {
    runners: HashMap<String, Runner>,
    /// Those that may be chosen, the emptiest first.
    fit: BTreeSet<(usize, String)>,
}

impl Pool {
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Runner)) {
        let runner = self.runners.entry(name.to_owned()).or_default();
        let before = (runner.is_fit(), runner.environments);
        change(runner);
        let after = (runner.is_fit(), runner.environments);
        let gone = runner.standing.is_none()
            && runner.environments == 0
            && runner.taken == Amount::default();
        if gone {
            self.runners.remove(name);
        }
        if before != after {
            if before.0 {
                self.fit.remove(&(before.1, name.to_owned()));
            }
            if after.0 {
                self.fit.insert((after.1, name.to_owned()));
            }
        }
    }

    /// Says how a runner stands; None when it is not registered (any more).
    pub fn stand(&mut self, name: &str, standing: Option<Standing>) {
        self.change(name, |runner| runner.standing = standing);
    }

    /// Says what a runner's host has, if it says so; true when that is news.
    pub fn provide(&mut self, name: &str, capacity: Option<Amount>) -> bool {
        let mut news = false;
        self.change(name, |runner| {
            news = runner.capacity != capacity;
            runner.capacity = capacity;
        });
        news
    }

    /// Sets something aside on it.
    pub fn take(&mut self, name: &str, request: Amount) {
        self.change(name, |runner| runner.taken = runner.taken.plus(request));
    }

    /// No longer.
    pub fn give_back(&mut self, name: &str, request: Amount) {
        self.change(name, |runner| runner.taken = runner.taken.minus(request));
    }

    /// An environment is bound to it.
    pub fn bind(&mut self, name: &str) {
        self.change(name, |runner| runner.environments += 1);
    }

    /// An environment bound to it is gone.
    pub fn release(&mut self, name: &str) {
        self.change(name, |runner| {
            runner.environments = runner.environments.saturating_sub(1);
        });
    }

    /// How a runner stands, if it is registered.
    #[must_use]
    pub fn standing(&self, name: &str) -> Option<Standing> {
        self.runners.get(name).and_then(|runner| runner.standing)
    }

    /// The runner with the fewest environments, by name when equal; or one sentence saying why
    /// none.
    ///
    /// # Errors
    /// When no runner is alive and schedulable.
    pub fn choose(&self) -> Result<&str, &'static str> {
        self.choose_for(Amount::default())
    }

    /// The same among those that have room for a request.
    ///
    /// # Errors
    /// When no runner is alive and schedulable and has room.
    pub fn choose_for(&self, request: Amount) -> Result<&str, &'static str> {
        let has_room = |name: &str| {
            let runner = self.runners.get(name);
            runner.is_some_and(|runner| runner.has_room(request))
        };
        let mut fit = self.fit.iter();
        if let Some((_, name)) = fit.find(|(_, name)| has_room(name)) {
            return Ok(name);
        }
        if !self.fit.is_empty() {
            return Err(NO_ROOM);
        }
        let mut standings = self.runners.values().filter_map(|runner| runner.standing);
        Err(if standings.clone().next().is_none() {
            "no runner has registered; start one"
        } else if standings.any(|standing| standing.alive) {
            "every runner is marked unschedulable; allow one to take environments"
        } else {
            "no runner is alive; start one"
        })
    }
}

#[cfg(test)]
mod tests {
    //! By table.
    use super::*;

    fn pool(runners: &[(&str, bool, bool, usize)]) -> Pool {
        let mut pool = Pool::default();
        for (name, alive, unschedulable, environments) in runners {
            let standing = Standing {
                alive: *alive,
                unschedulable: *unschedulable,
            };
            pool.stand(name, Some(standing));
            (0..*environments).for_each(|_| pool.bind(name));
        }
        pool
    }

    #[test]
    fn the_emptiest_living_runner_is_chosen() {
        let pool = pool(&[
            ("a", true, false, 2),
            ("b", true, false, 1),
            ("c", false, false, 0),
            ("d", true, true, 0),
        ]);
        assert_eq!(pool.choose(), Ok("b"));
    }

    #[test]
    fn why_none_fits_is_said() {
        for (runners, word) in [
            (vec![], "registered"),
            (vec![("a", false, false, 0)], "alive"),
            (vec![("a", true, true, 0)], "unschedulable"),
        ] {
            assert!(pool(&runners).choose().is_err_and(|why| why.contains(word)));
        }
    }

    #[test]
    fn each_change_counts_at_once() {
        let mut pool = pool(&[("a", true, false, 0), ("b", true, false, 0)]);
        for wanted in ["a", "b", "a", "b"] {
            assert_eq!(pool.choose(), Ok(wanted));
            pool.bind(wanted);
        }
        pool.release("b");
        assert_eq!(pool.choose(), Ok("b"));
        pool.stand("b", None);
        assert_eq!(pool.choose(), Ok("a"), "it has deregistered");
        pool.stand("a", None);
        assert!(pool.choose().is_err_and(|why| why.contains("registered")));
        // What they had counts when they come back.
        pool.release("a");
        let standing = Standing {
            alive: true,
            unschedulable: false,
        };
        pool.stand("a", Some(standing));
        pool.stand("b", Some(standing));
        pool.bind("a");
        assert_eq!(pool.choose(), Ok("b"));
    }

    #[test]
    fn what_is_requested_is_set_aside_and_never_promised_twice() {
        let amount = |cpu_millis, memory| Amount { cpu_millis, memory };
        let mut pool = pool(&[("a", true, false, 0), ("b", true, false, 1)]);
        pool.provide("a", Some(amount(2000, 100)));
        pool.provide("b", Some(amount(2000, 200)));
        assert_eq!(pool.choose_for(amount(2000, 100)), Ok("a"));
        pool.take("a", amount(500, 60));
        assert_eq!(pool.choose_for(amount(500, 60)), Ok("b"), "memory");
        pool.take("b", amount(1800, 0));
        let refused = pool.choose_for(amount(500, 60));
        assert!(refused.is_err_and(|why| why.contains("requests")));
        assert_eq!(pool.choose_for(amount(500, 40)), Ok("a"));
        assert_eq!(pool.choose(), Ok("a"), "nothing is asked for");
        pool.give_back("a", amount(500, 60));
        assert_eq!(pool.choose_for(amount(500, 60)), Ok("a"));
        // One that does not say what it has.
        pool.provide("b", None);
        assert_eq!(pool.choose_for(amount(9000, 9000)), Ok("b"));
    }

    #[test]
    fn an_environment_of_an_unknown_runner_makes_it_no_candidate() {
        let mut pool = Pool::default();
        pool.bind("elsewhere");
        assert!(pool.choose().is_err());
        pool.release("elsewhere");
        assert!(pool.runners.is_empty());
    }
}
