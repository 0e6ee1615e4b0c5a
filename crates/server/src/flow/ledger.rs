//! Ledgers: how much of a thing each identity holds, and all together, within bounds.
//!
//! One ledger counts one thing: connections, watches, streams, bytes of bodies. What is taken is
//! given back when [`Held`] is dropped, whatever way its holder ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Of one identity.
    pub each: usize,
    /// Of all together.
    pub all: usize,
}

#[derive(Default)]
struct Counts {
    all: usize,
    each: HashMap<String, usize>,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ledger {
    bound: Bound,
    counts: Arc<Mutex<Counts>>,
}

/// What one holder has.
pub(crate) struct Held {
    ledger: Ledger,
    who: String,
    amount: usize,
}

impl Ledger {
    pub(crate) fn new(bound: Bound) -> Self {
        Self {
            bound,
            counts: Arc::default(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all hold together.
    pub(crate) fn all(&self) -> usize {
        self.counts().all
    }

    fn add(&self, who: &str, amount: usize) -> bool {
        let mut counts = self.counts();
        let each = counts.each.get(who).copied().unwrap_or_default();
        if each + amount > self.bound.each || counts.all + amount > self.bound.all {
            return false;
        }
        counts.all += amount;
        match counts.each.get_mut(who) {
            Some(each) => *each += amount,
            None => drop(counts.each.insert(who.to_owned(), amount)),
        }
        true
    }

    /// Takes some, unless that is beyond a bound.
    pub(crate) fn take(&self, who: &str, amount: usize) -> Option<Held> {
        self.add(who, amount).then(|| Held {
            ledger: self.clone(),
            who: who.to_owned(),
            amount,
        })
    }
}

impl Held {
    /// Whose it is.
    pub(crate) fn who(&self) -> &str {
        &self.who
    }

    /// Takes more, unless that is beyond a bound.
    pub(crate) fn more(&mut self, amount: usize) -> bool {
        let added = self.ledger.add(&self.who, amount);
        if added {
            self.amount += amount;
        }
        added
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.ledger.counts();
        counts.all -= self.amount;
        if let Some(each) = counts.each.get_mut(&self.who) {
            *each -= self.amount;
            if *each == 0 {
                counts.each.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Bounds of each and of all.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn each_and_all_are_bounded_and_everything_is_given_back() {
        let ledger = Ledger::new(Bound { each: 3, all: 5 });
        let mut ann = ledger.take("ann", 2).unwrap();
        assert!(ann.more(1));
        assert!(!ann.more(1));
        assert!(ledger.take("ann", 1).is_none());
        let bob = ledger.take("bob", 2).unwrap();
        assert!(ledger.take("cid", 1).is_none(), "all together have five");
        drop(ann);
        assert_eq!(ledger.all(), 2);
        drop((ledger.take("cid", 3).unwrap(), bob));
        assert_eq!(ledger.all(), 0);
        assert!(ledger.counts().each.is_empty(), "nobody is remembered");
    }
}
