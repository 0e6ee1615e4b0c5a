//! Priority and fairness: one noisy client takes nobody's place.
//!
//! Owns admission of requests (levels with seats, fair queues of identities, 429 with Retry-After
//! beyond them) and the ledgers of what clients hold: connections, watches, streams, bytes of
//! bodies and of answers. It does not know what a request does; `http_api` asks before it carries
//! one out, and authorization comes after. The server's own control loops call resources directly;
//! their activations have a level, and like runners' reports they step back while many ask.
//!
//! A request that finds a seat pays a lock and a look-up. All state is in memory and counts what is
//! under way: a restart begins empty.
//!
//! Read next: `classify`, `queues`, `ledger`, and docs/adr/2026-11-21-flow-control.md.

mod classify;
mod counts;
mod ledger;
mod queues;

pub(crate) use classify::{Asked, Level};
pub use ledger::Bound;
pub(crate) use ledger::{Held, Ledger};

use crate::failure::Failure;
use crate::identity::Caller;
use queues::{Load, Offer, Queues, Settings};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::oneshot;

/// Levels that have queues, as numbered by [`Level`]. Seats bound what is under way at once, so
/// that memory is bounded and the processors are never all in long lists.
const LEVELS: [Settings; 5] = [
    settings(64, 64, 128, 256, 4096),
    settings(64, 32, 128, 64, 4096).aside(FEW),
    settings(128, 64, 192, 128, 2048),
    settings(20, 10, 20, 64, 256),
    // As many as control loops run at once; nobody borrows them, nobody is refused.
    settings(256, 256, 256, 4096, 4096).aside(FEW),
];

/// Seats of those who step back while many ask.
const FEW: u32 = 4;
/// Longest that they do.
const ASIDE: Duration = Duration::from_secs(10);

const fn settings(
    seats: u32,
    kept: u32,
    most: u32,
    flow_waiting: usize,
    waiting: usize,
) -> Settings {
    Settings {
        seats,
        kept,
        most,
        beside: u32::MAX,
        flow_waiting,
        waiting,
    }
}

impl Settings {
    const fn aside(self, beside: u32) -> Self {
        Self { beside, ..self }
    }
}

/// Most collections whose size is remembered.
const MOST_COLLECTIONS: usize = 4096;

const MIB: usize = 1024 * 1024;

/// What clients may hold, and how long they may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections, by identity.
    pub connections: Bound,
    /// Watches.
    pub watches: Bound,
    /// Streams through the server: shells, logs, ports.
    pub streams: Bound,
    /// Bytes of bodies of requests that are read or carried out.
    pub bodies: Bound,
    /// Bytes of answers that are not yet read.
    pub answers: Bound,
    /// How long a request may wait for a seat.
    pub waiting: Duration,
    /// How long a connection may rest between requests; its first must come sooner.
    pub idle: Duration,
    /// How long a body may take to come.
    pub body: Duration,
    /// How long a client may read nothing of what it asked for.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let bound = |each, all| Bound { each, all };
        Self {
            connections: bound(2048, 8192),
            watches: bound(2048, 16_384),
            streams: bound(512, 4096),
            bodies: bound(32 * MIB, 128 * MIB),
            answers: bound(64 * MIB, 256 * MIB),
            waiting: Duration::from_secs(15),
            idle: Duration::from_secs(90),
            body: Duration::from_secs(30),
            unread: Duration::from_secs(30),
        }
    }
}

/// Admission and ledgers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Flow {
    pub(crate) limits: Limits,
    pub(crate) connections: Ledger,
    pub(crate) watches: Ledger,
    pub(crate) streams: Ledger,
    pub(crate) bodies: Ledger,
    pub(crate) answers: Ledger,
    queues: Arc<Mutex<Queues<Waiter>>>,
    sizes: Arc<RwLock<HashMap<(String, String), usize>>>,
}

/// Who waits, and the place that is to be the waiter's.
type Waiter = (oneshot::Sender<Permit>, Place);

/// A place among those that run; given back when dropped.
pub(crate) struct Permit(Option<Place>);

struct Place {
    flow: Flow,
    level: Level,
    who: String,
    /// None of who is exempt and only counted.
    seats: u32,
}

impl Flow {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            connections: Ledger::new(limits.connections),
            watches: Ledger::new(limits.watches),
            streams: Ledger::new(limits.streams),
            bodies: Ledger::new(limits.bodies),
            answers: Ledger::new(limits.answers),
            queues: Arc::new(Mutex::new(Queues::new(
                &LEVELS,
                Level::Interactive as usize,
            ))),
            sizes: Arc::default(),
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues<Waiter>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is at a level.
    pub(crate) fn load(&self, level: Level) -> Load {
        match level {
            Level::Exempt => Load::default(),
            level => self.queues().load(level as usize),
        }
    }

    /// Remembers how many objects a collection has. Names of namespaces come from clients: only
    /// those with something in them are remembered, so that nobody fills this with invented ones.
    pub(crate) fn learn(&self, resource: &str, namespace: &str, objects: usize) {
        if self.exactly(resource, namespace) == Some(objects) {
            return;
        }
        let key = (resource.to_owned(), namespace.to_owned());
        let mut sizes = self.sizes.write().unwrap_or_else(PoisonError::into_inner);
        if objects == 0 && !namespace.is_empty() {
            sizes.remove(&key);
        } else if sizes.len() < MOST_COLLECTIONS || sizes.contains_key(&key) {
            sizes.insert(key, objects);
        }
    }

    /// How many objects a collection had when it was last looked at, or at most has.
    pub(crate) fn size(&self, resource: &str, namespace: &str) -> Option<usize> {
        self.exactly(resource, namespace)
            .or_else(|| self.exactly(resource, ""))
    }

    fn exactly(&self, resource: &str, namespace: &str) -> Option<usize> {
        let sizes = self.sizes.read().unwrap_or_else(PoisonError::into_inner);
        sizes
            .get(&(resource.to_owned(), namespace.to_owned()))
            .copied()
    }

    /// Waits for a seat, or is told to come again.
    ///
    /// A long request is put behind what else is ready to run: a list is built without a pause, so
    /// that without this those that came at once would be carried out in the order they came, and
    /// the runtime's queue would be the only one.
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        asked: &Asked<'_>,
    ) -> Result<Permit, Failure> {
        let (level, seats) = classify::classify(caller, asked);
        if level == Level::Exempt {
            self.queues().pass();
            return Ok(Permit(Some(self.place(level, "", 0))));
        }
        self.seat(&caller.user, level, seats).await
    }

    /// Waits until a control loop may go on with an activation.
    pub(crate) async fn work(&self, controller: &str) -> Permit {
        // Without a seat, if need be: nobody else would do it.
        let seat = self.seat(controller, Level::Controllers, 1).await;
        seat.unwrap_or(Permit(None))
    }

    fn place(&self, level: Level, who: &str, seats: u32) -> Place {
        Place {
            flow: self.clone(),
            level,
            who: who.to_owned(),
            seats,
        }
    }

    async fn seat(&self, who: &str, level: Level, seats: u32) -> Result<Permit, Failure> {
        let mut receiver = None;
        let offered = self.queues().offer(level as usize, who, seats, || {
            let (sender, waiting) = oneshot::channel();
            receiver = Some(waiting);
            (sender, self.place(level, who, seats))
        });
        let (ticket, mut receiver) = match (offered, receiver) {
            (Offer::Run, _) => {
                let permit = Permit(Some(self.place(level, who, seats)));
                pause(seats).await;
                return Ok(permit);
            }
            (Offer::Wait(ticket), Some(receiver)) => (ticket, receiver),
            _ => return Err(self.again(level)),
        };
        let _waiting = Waiting {
            flow: self,
            level,
            who,
            ticket,
        };
        let waiting = self.limits.waiting;
        let steps_back = LEVELS[level as usize].beside < u32::MAX;
        let first = if steps_back {
            ASIDE.min(waiting)
        } else {
            waiting
        };
        let mut waited = tokio::time::timeout(first, &mut receiver).await;
        if waited.is_err() && steps_back {
            let insisted = self.queues().insist(level as usize, who, ticket);
            if let Some((_, place)) = insisted {
                return Ok(Permit(Some(place)));
            }
            // Now for a seat, as everybody.
            waited = tokio::time::timeout(waiting, receiver).await;
        }
        match waited {
            Ok(Ok(permit)) => {
                pause(seats).await;
                Ok(permit)
            }
            _ => {
                self.queues().refuse(level as usize);
                Err(self.again(level))
            }
        }
    }

    fn again(&self, level: Level) -> Failure {
        let load = self.load(level);
        // The longer the queue, the later: all that are refused at once would come back at once.
        let seconds = (1 + load.waiting / (4 * load.executing.max(1))).min(8);
        Failure::too_many(
            format!(
                "too many requests of the level {} are under way, please try again later",
                level.name()
            ),
            seconds,
        )
    }
}

async fn pause(seats: u32) {
    if seats > 1 {
        tokio::task::yield_now().await;
    }
}

/// Tells those that run now. Not under the lock: a permit nobody waits for any more takes it.
fn start(started: Vec<(usize, Waiter)>) {
    for (_, (sender, place)) in started {
        drop(sender.send(Permit(Some(place))));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            let mut queues = place.flow.queues();
            let started = match place.level {
                Level::Exempt => queues.passed(),
                level => queues.finish(level as usize, &place.who, place.seats),
            };
            drop(queues);
            start(started);
        }
    }
}

/// Takes its ticket back when it is no longer waited for, whyever.
struct Waiting<'a> {
    flow: &'a Flow,
    level: Level,
    who: &'a str,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let started = self
            .flow
            .queues()
            .withdraw(self.level as usize, self.who, self.ticket);
        start(started);
    }
}

#[cfg(test)]
mod tests;
