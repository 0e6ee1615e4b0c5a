//! Which keys a controller has yet to look at.
//!
//! Owns order, deduplication and backoff. A key is here once however often it is added; one that is
//! added while it is being looked at comes again afterwards, so that no two activations of a key
//! overlap and no change goes unseen. First added is first out: a key that fails over and over
//! waits its turn behind the others, and longer each time. A change ends the wait early, since the
//! cause may have passed with it, and does not forget the failures.
//!
//! Memory is bounded by the keys there are: nothing is kept of a key that is done.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a key may be.
pub(crate) trait Key: Clone + Eq + Ord + Hash + Debug + Send + Sync + 'static {}
impl<T: Clone + Eq + Ord + Hash + Debug + Send + Sync + 'static> Key for T {}

/// How long a key rests after failures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    /// Never longer.
    pub(crate) most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            most: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The rest after this many failures in a row: doubled each time. No jitter: the keys of one
    /// process do not meet at a stranger's door.
    pub(crate) fn after(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
        let rest = doubled.and_then(|times| self.first.checked_mul(times));
        rest.map_or(self.most, |rest| rest.min(self.most))
    }
}

/// How an activation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing more to do until something changes.
    Done,
    /// To be looked at again after a time, changed or not.
    After(Duration),
    Failed,
}

#[derive(Debug, Default)]
struct State {
    /// Since when it stands in the line.
    queued: Option<Instant>,
    /// When it is to be put there.
    due: Option<Instant>,
    running: bool,
    /// Added while running.
    again: bool,
    /// In a row.
    failures: u32,
}

impl State {
    fn is_idle(&self) -> bool {
        self.queued.is_none() && self.due.is_none() && !self.running && self.failures == 0
    }
}

#[derive(Debug)]
struct Line<K> {
    ready: VecDeque<K>,
    later: BTreeSet<(Instant, K)>,
    states: HashMap<K, State>,
}

impl<K: Key> Line<K> {
    fn enqueue(&mut self, key: &K, now: Instant) {
        let state = self.states.entry(key.clone()).or_default();
        if state.running {
            state.again = true;
        } else if state.queued.is_none() {
            if let Some(due) = state.due.take() {
                self.later.remove(&(due, key.clone()));
            }
            state.queued = Some(now);
            self.ready.push_back(key.clone());
        }
    }

    fn delay(&mut self, key: &K, until: Instant) {
        let state = self.states.entry(key.clone()).or_default();
        state.due = Some(until);
        self.later.insert((until, key.clone()));
    }
}

/// A key to look at.
#[derive(Debug)]
pub(crate) struct Taken<K> {
    pub(crate) key: K,
    /// How long it stood in the line.
    pub(crate) waited: Duration,
    /// How many activations of it failed in a row.
    pub(crate) failures: u32,
}

/// The line of one controller.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    line: Mutex<Line<K>>,
    wake: Notify,
    backoff: Backoff,
}

impl<K: Key> Queue<K> {
    pub(crate) fn new(backoff: Backoff) -> Self {
        let line = Line {
            ready: VecDeque::new(),
            later: BTreeSet::new(),
            states: HashMap::new(),
        };
        Self {
            line: Mutex::new(line),
            wake: Notify::new(),
            backoff,
        }
    }

    fn line(&self) -> MutexGuard<'_, Line<K>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key, to be looked at as soon as its turn comes.
    pub(crate) fn add(&self, key: &K) {
        self.line().enqueue(key, Instant::now());
        self.wake.notify_one();
    }

    /// How many keys could be looked at now.
    pub(crate) fn depth(&self) -> usize {
        self.line().ready.len()
    }

    /// The next key; [`Queue::done`] must follow. For one caller at a time; dropped while it waits,
    /// it has taken none.
    pub(crate) async fn next(&self) -> Taken<K> {
        loop {
            let now = Instant::now();
            let due = {
                let mut line = self.line();
                while let Some((due, key)) = line.later.first().cloned()
                    && due <= now
                {
                    line.enqueue(&key, now);
                }
                if let Some(key) = line.ready.pop_front() {
                    let state = line.states.entry(key.clone()).or_default();
                    state.running = true;
                    let waited = state.queued.take().map(|since| now - since);
                    return Taken {
                        waited: waited.unwrap_or_default(),
                        failures: state.failures,
                        key,
                    };
                }
                line.later.first().map(|(due, _)| *due)
            };
            let woken = self.wake.notified();
            match due {
                None => woken.await,
                Some(due) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(due) => {}
                },
            }
        }
    }

    /// Says how the activation of a key ended.
    pub(crate) fn done(&self, key: &K, outcome: Outcome) {
        let now = Instant::now();
        let mut line = self.line();
        let Some(state) = line.states.get_mut(key) else {
            return;
        };
        state.running = false;
        let again = std::mem::take(&mut state.again);
        let rest = match outcome {
            Outcome::Done => None,
            Outcome::After(rest) => Some(rest),
            Outcome::Failed => {
                state.failures = state.failures.saturating_add(1);
                Some(self.backoff.after(state.failures))
            }
        };
        if outcome != Outcome::Failed {
            state.failures = 0;
        }
        if again && outcome != Outcome::Failed {
            line.enqueue(key, now);
        } else if let Some(rest) = rest {
            // A change that came during a failed activation may be that activation's own: it does
            // not end the rest, or the two would chase each other.
            line.delay(key, now + rest);
        } else if state.is_idle() {
            line.states.remove(key);
        }
        drop(line);
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
