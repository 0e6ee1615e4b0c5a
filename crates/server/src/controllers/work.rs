//! Running one controller: its activations, how they end, and what is counted and said of them.
//!
//! Owns that no two activations of a key overlap, that at most so many run at once, that a failed
//! one comes again after a rest, and that a panic is a failure. Which keys, and what is done about
//! them, is the controller's.

use super::leader::Fence;
use super::queue::{Backoff, Outcome, Queue, Taken};
use super::{Controller, Seen};
use crate::failure::Failure;
use crate::flow::Flow;
use crate::metrics::{self, Controllers};
use boatyard_store::Key;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often everything is looked at without being woken.
const RESYNC: Duration = Duration::from_secs(300);
/// Failures in a row after which a person is told, once.
const WORTH_TELLING: u32 = 5;

/// Somebody who is shown changes.
pub(crate) trait Observer: Send + Sync {
    fn seen(&self, seen: &Seen<'_>);
    fn known(&self, resource: &str) -> Vec<Key>;
    fn relisted(&self, resource: &str);
}

/// A controller with its line of keys.
pub(crate) struct Loop<C: Controller> {
    controller: C,
    queue: Queue<C::Key>,
    counted: Counted,
    flow: Flow,
}

/// The controller's own of each family.
struct Counted {
    activations: prometheus_client::metrics::counter::Counter,
    failures: prometheus_client::metrics::counter::Counter,
    retries: prometheus_client::metrics::counter::Counter,
    panics: prometheus_client::metrics::counter::Counter,
    depth: prometheus_client::metrics::gauge::Gauge,
    activation_seconds: prometheus_client::metrics::histogram::Histogram,
    queue_seconds: prometheus_client::metrics::histogram::Histogram,
}

impl Counted {
    fn new(families: &Controllers, controller: &'static str) -> Self {
        let label = metrics::Controller { controller };
        Self {
            activations: families.activations.get_or_create_owned(&label),
            failures: families.failures.get_or_create_owned(&label),
            retries: families.retries.get_or_create_owned(&label),
            panics: families.panics.get_or_create_owned(&label),
            depth: families.depth.get_or_create_owned(&label),
            activation_seconds: families.activation_seconds.get_or_create_owned(&label),
            queue_seconds: families.queue_seconds.get_or_create_owned(&label),
        }
    }
}

impl<C: Controller> Observer for Loop<C> {
    fn seen(&self, seen: &Seen<'_>) {
        self.controller
            .observe(seen, &mut |key| self.queue.add(&key));
    }

    fn known(&self, resource: &str) -> Vec<Key> {
        self.controller.known(resource)
    }

    fn relisted(&self, _resource: &str) {
        self.controller.resync(&mut |key| self.queue.add(&key));
    }
}

impl<C: Controller> Loop<C> {
    pub(crate) fn new(controller: C, families: &Controllers, flow: Flow) -> Self {
        Self {
            flow,
            counted: Counted::new(families, controller.name()),
            queue: Queue::new(Backoff::default()),
            controller,
        }
    }

    pub(crate) fn watched(&self) -> Vec<String> {
        self.controller.watched()
    }

    /// Runs activations for as long as it is polled, once all it watches has been listed.
    pub(crate) async fn run(self: Arc<Self>, synced: Vec<watch::Receiver<bool>>, fence: Fence) {
        for mut synced in synced {
            // The feed goes when this does.
            let _ = synced.wait_for(|synced| *synced).await;
        }
        self.controller.begin();
        let mut running = FuturesUnordered::new();
        let mut resync = tokio::time::interval(RESYNC);
        resync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let depth = i64::try_from(self.queue.depth()).unwrap_or(i64::MAX);
            self.counted.depth.set(depth);
            tokio::select! {
                Some(()) = running.next(), if !running.is_empty() => {}
                taken = self.queue.next(), if running.len() < self.controller.concurrency() => {
                    running.push(self.turn(taken, &fence).boxed());
                }
                _ = resync.tick() => self.controller.resync(&mut |key| self.queue.add(&key)),
            }
        }
    }

    /// An activation when it is its turn, if it may act then.
    async fn turn(&self, taken: Taken<C::Key>, fence: &Fence) {
        let _place = self.flow.work(self.controller.name()).await;
        fence.holding().await;
        self.activate(taken).await;
    }

    async fn activate(&self, taken: Taken<C::Key>) {
        let Taken {
            key,
            waited,
            failures,
        } = taken;
        self.counted.queue_seconds.observe(waited.as_secs_f64());
        self.counted.activations.inc();
        if failures > 0 {
            self.counted.retries.inc();
        }
        let begun = Instant::now();
        let activation = AssertUnwindSafe(self.controller.activate(&key)).catch_unwind();
        let outcome = match activation.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(failure)) => {
                self.tell(&key, &failure, failures + 1);
                self.counted.failures.inc();
                Outcome::Failed
            }
            Err(_) => {
                // What it said is in the log already, by the panic's hook.
                let controller = self.controller.name();
                tracing::error!(controller, ?key, "an activation panicked; trying again");
                self.counted.panics.inc();
                self.counted.failures.inc();
                Outcome::Failed
            }
        };
        let took = begun.elapsed();
        self.counted.activation_seconds.observe(took.as_secs_f64());
        self.queue.done(&key, outcome);
    }

    fn tell(&self, key: &C::Key, failure: &Failure, failures: u32) {
        let controller = self.controller.name();
        if failures == WORTH_TELLING {
            tracing::warn!(controller, ?key, %failure, failures, "activations keep failing; trying on");
        } else {
            tracing::debug!(controller, ?key, %failure, failures, "an activation failed; trying again");
        }
    }
}

#[cfg(test)]
mod tests;
