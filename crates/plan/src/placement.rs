//! Which runner an environment goes to.
//!
//! A [`Pool`] is what the scheduler knows of runners, kept up to date change by change, so that a
//! choice among many runners for many environments costs a look and not a count.

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

#[derive(Debug, Default)]
struct Runner {
    /// None: environments name it, but it has not registered.
    standing: Option<Standing>,
    environments: usize,
}

impl Runner {
    fn is_fit(&self) -> bool {
        self.standing.is_some_and(Standing::is_fit)
    }
}

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
        let gone = runner.standing.is_none() && runner.environments == 0;
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
        if let Some((_, name)) = self.fit.first() {
            return Ok(name);
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
    fn an_environment_of_an_unknown_runner_makes_it_no_candidate() {
        let mut pool = Pool::default();
        pool.bind("elsewhere");
        assert!(pool.choose().is_err());
        pool.release("elsewhere");
        assert!(pool.runners.is_empty());
    }
}
