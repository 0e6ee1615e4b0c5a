//! Parts of a resource that are watched by themselves.
//!
//! Owns which watchers a change wakes. A watcher that wants the objects with one value of a member
//! (the environments of one runner) gives a [`Route`]: a [`Facet`], which reads that member of any
//! object as a number, and the number it waits for. A change is read once by each facet in use,
//! before and after, and wakes the routes of these two values: hundreds of watchers of one
//! resource sleep through each other's changes. What numbers mean is the server's; two values with
//! one number cost a needless look and nothing else.
//!
//! A sleeper's cursor stays behind while history forgets what was never its own: what was forgotten
//! is noted for each route. Of a change made while a facet was not in use its number is unknown:
//! it is everybody's.
//!
//! Crash behaviour: none, watchers come again.
//!
//! Read next: `history`, `watch`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::Stored;

/// Facets of a resource at most; who comes with another is woken by every change.
const MOST: usize = 8;

/// The number of an object's bytes; None when it cannot tell.
pub type Reader = Arc<dyn Fn(&[u8]) -> Option<u64> + Send + Sync>;

/// Reads one member of objects as a number.
#[derive(Clone)]
pub struct Facet {
    /// One name, one way to read: the first facet of a name is used for all.
    pub name: Arc<str>,
    /// How.
    pub read: Reader,
}

impl fmt::Debug for Facet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Facet").field(&self.name).finish()
    }
}

/// The changes of objects that have a value, or had it before.
#[derive(Clone, Debug)]
pub struct Route {
    /// Of which member.
    pub facet: Facet,
    /// The value's number.
    pub value: u64,
}

/// What a facet said of a change: the object after it and before it. None: everybody's.
pub(crate) type Mark = Option<(u64, Option<u64>)>;

/// Those of one value.
#[derive(Debug)]
struct Sleepers {
    latest: watch::Sender<u64>,
    /// Its newest change that history has forgotten.
    forgotten: u64,
}

#[derive(Debug)]
struct Used {
    facet: Facet,
    routes: HashMap<u64, Sleepers>,
    /// The newest forgotten change that is everybody's.
    forgotten: u64,
    /// Routes after which those that nobody waits on are looked for.
    sweep: usize,
}

/// A resource's.
#[derive(Debug, Default)]
pub(crate) struct Facets(Vec<Used>);

/// A route as a resource knows it.
pub(crate) struct Known {
    place: usize,
    value: u64,
    /// Its newest change that history has forgotten.
    pub(crate) forgotten: u64,
}

impl Known {
    /// Whether a change is to be shown to it.
    pub(crate) fn is_of(&self, marks: &[Mark]) -> bool {
        let mark = marks.get(self.place).copied().flatten();
        mark.is_none_or(|(now, before)| now == self.value || before == Some(self.value))
    }
}

impl Facets {
    /// Reads a change.
    pub(crate) fn marks(&self, object: &Stored, previous: Option<&Stored>) -> Arc<[Mark]> {
        if self.0.is_empty() {
            return Arc::default();
        }
        let marks = self.0.iter().map(|used| {
            if used.routes.is_empty() {
                return None;
            }
            let now = (used.facet.read)(&object.data)?;
            let before = match previous {
                None => None,
                Some(previous) => Some((used.facet.read)(&previous.data)?),
            };
            Some((now, before))
        });
        marks.collect()
    }

    /// Wakes those whom one of these changes concerns.
    pub(crate) fn wake<'a>(&self, revision: u64, changes: impl Iterator<Item = &'a [Mark]>) {
        if self.0.is_empty() {
            return;
        }
        for marks in changes {
            for (place, used) in self.0.iter().enumerate() {
                let wake = |value| {
                    if let Some(sleepers) = used.routes.get(&value) {
                        sleepers.latest.send_replace(revision);
                    }
                };
                match marks.get(place).copied().flatten() {
                    None => used.wake_all(revision),
                    Some((now, before)) => {
                        wake(now);
                        before
                            .filter(|before| *before != now)
                            .into_iter()
                            .for_each(wake);
                    }
                }
            }
        }
    }

    pub(crate) fn wake_all(&self, revision: u64) {
        self.0.iter().for_each(|used| used.wake_all(revision));
    }

    /// Signals a route's changes; None when there are too many facets. `forgotten`: the resource's.
    pub(crate) fn subscribe(
        &mut self,
        route: &Route,
        forgotten: u64,
    ) -> Option<watch::Receiver<u64>> {
        let place = match self.place(route) {
            Some(place) => place,
            None if self.0.len() >= MOST => return None,
            None => {
                self.0.push(Used {
                    facet: route.facet.clone(),
                    routes: HashMap::new(),
                    forgotten,
                    sweep: 64,
                });
                self.0.len() - 1
            }
        };
        let used = &mut self.0[place];
        if used.routes.len() >= used.sweep {
            used.routes
                .retain(|_, sleepers| sleepers.latest.receiver_count() > 0);
            used.sweep = 64.max(used.routes.len() * 2);
        }
        let sleepers = used.routes.entry(route.value).or_insert_with(|| Sleepers {
            latest: watch::Sender::new(0),
            forgotten,
        });
        Some(sleepers.latest.subscribe())
    }

    fn place(&self, route: &Route) -> Option<usize> {
        self.0
            .iter()
            .position(|used| used.facet.name == route.facet.name)
    }

    pub(crate) fn known(&self, route: &Route) -> Option<Known> {
        let place = self.place(route)?;
        let used = &self.0[place];
        let sleepers = used.routes.get(&route.value)?;
        Some(Known {
            place,
            value: route.value,
            forgotten: sleepers.forgotten.max(used.forgotten),
        })
    }

    /// Notes that history has forgotten a change.
    pub(crate) fn forget(&mut self, marks: &[Mark], revision: u64) {
        for (place, used) in self.0.iter_mut().enumerate() {
            match marks.get(place).copied().flatten() {
                None => used.forgotten = revision,
                Some((now, before)) => {
                    for value in [Some(now), before].into_iter().flatten() {
                        if let Some(sleepers) = used.routes.get_mut(&value) {
                            sleepers.forgotten = revision;
                        }
                    }
                }
            }
        }
    }
}

impl Used {
    fn wake_all(&self, revision: u64) {
        for sleepers in self.routes.values() {
            sleepers.latest.send_replace(revision);
        }
    }
}
