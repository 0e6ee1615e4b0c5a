//! Which of several servers on one store runs the controllers: the holder of a Lease.
//!
//! Owns taking, renewing and giving up the Lease. A holder that could not renew for two thirds of
//! the lease stops its controllers; the others wait for the whole of it, counted by their own clocks
//! from when they saw the last renewal, so no two clocks need agree and one has stopped before
//! another starts. Between two activations the controllers ask the [`Fence`], which knows without
//! any task of ours being run in time. A write that is under way when leadership goes is caught by
//! the object's version, as every writer's is.
//!
//! Crash behaviour: the Lease runs out and another server takes over. A server that starts again on
//! its state directory knows its own earlier life and does not wait for it (`holder`).
//!
//! Read next: [`step`], which decides; `holder`.

mod holder;

pub(crate) use holder::Holder;

use super::{found, kind, target};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::metrics::Metrics;
use crate::objects::meta;
use crate::resources::{Resources, WriteOptions};
use boatyard_api::words::{LEASE_CONTROLLERS, NAMESPACE_SYSTEM};
use boatyard_store::{Event, Scope};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const LEASES: &str = "leases.coordination.k8s.io";

/// How often a closed fence is looked at.
const CLOSED: Duration = Duration::from_millis(100);

/// How long things take around a lease.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// Others wait so long after the last renewal they saw.
    lease: Duration,
    /// The holder gives up so long after its last renewal.
    deadline: Duration,
    /// The holder renews so often.
    renew: Duration,
    /// How soon what failed is tried again.
    retry: Duration,
}

impl Timing {
    fn new(lease: Duration) -> Self {
        Self {
            lease,
            deadline: lease * 2 / 3,
            renew: lease / 3,
            retry: lease / 15,
        }
    }
}

/// Until when this server may run controllers.
#[derive(Clone, Debug)]
pub(super) struct Fence(Arc<Mutex<Instant>>);

impl Fence {
    fn new(until: Instant) -> Self {
        Self(Arc::new(Mutex::new(until)))
    }

    /// One that never closes.
    #[cfg(test)]
    pub(super) fn open() -> Self {
        Self::new(Instant::now() + Duration::from_secs(1 << 30))
    }

    fn until(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Whether the lease certainly is still ours.
    pub(super) fn holds(&self) -> bool {
        Instant::now() < self.until()
    }

    /// Waits until it is: usually not at all, and for ever when the lease is lost and whoever waits
    /// is about to be stopped.
    pub(super) async fn holding(&self) {
        while !self.holds() {
            tokio::time::sleep(CLOSED).await;
        }
    }
}

/// A Lease as it was read, and when this version of it was first seen here.
#[derive(Clone, Debug)]
struct Record {
    object: Value,
    seen: Instant,
}

impl Record {
    fn holder(&self) -> &str {
        let holder = &self.object["spec"]["holderIdentity"];
        holder.as_str().unwrap_or_default()
    }

    fn version(&self) -> &str {
        meta(&self.object, "resourceVersion")
    }

    fn lasts(&self) -> Duration {
        let seconds = self.object["spec"]["leaseDurationSeconds"].as_u64();
        Duration::from_secs(seconds.unwrap_or_default())
    }
}

/// What a candidate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Take,
    Wait(Instant),
}

/// What a candidate does about what it has seen. `starting`: it has seen nothing before.
fn step(holder: &Holder, record: Option<&Record>, starting: bool, now: Instant) -> Step {
    let Some(record) = record else {
        return Step::Take;
    };
    let until = record.seen + record.lasts();
    let free = record.holder().is_empty() || holder.is_me(record.holder());
    // Later on, a namesake is one that lives: a copy of this server's state directory.
    let mine = starting && holder.was_me(record.holder());
    if free || mine || until <= now {
        Step::Take
    } else {
        Step::Wait(until)
    }
}

/// The spec of the Lease once it is taken.
fn taken(me: &str, before: Option<&Value>, lease: Duration, now: &Value) -> Value {
    let spec = before.map(|object| &object["spec"]);
    let held = spec.is_some_and(|spec| spec["holderIdentity"] == me);
    let transitions = spec.and_then(|spec| spec["leaseTransitions"].as_i64());
    let transitions = match (spec, held) {
        (None, _) => 0,
        (Some(_), true) => transitions.unwrap_or_default(),
        (Some(_), false) => transitions.unwrap_or_default() + 1,
    };
    let acquired = spec.filter(|_| held).map(|spec| &spec["acquireTime"]);
    json!({
        "holderIdentity": me,
        "leaseDurationSeconds": lease.as_millis().div_ceil(1000),
        "acquireTime": acquired.unwrap_or(now),
        "renewTime": now,
        "leaseTransitions": transitions,
    })
}

/// Takes part in the election of the server that runs the controllers.
pub(super) struct Elector {
    resources: Resources,
    metrics: Metrics,
    caller: Caller,
    holder: Holder,
    timing: Timing,
}

impl Elector {
    pub(super) fn new(
        resources: Resources,
        metrics: Metrics,
        holder: Holder,
        lease: Duration,
    ) -> Self {
        Self {
            resources,
            metrics,
            caller: Caller::internal("controllers"),
            holder,
            timing: Timing::new(lease),
        }
    }

    /// Runs `work` whenever and for as long as this server holds the lease, until shutdown. `work`
    /// ends soon after its token is cancelled.
    pub(super) async fn run<F: Future<Output = ()>>(
        &self,
        shutdown: &CancellationToken,
        work: impl Fn(Fence, CancellationToken) -> F,
    ) {
        let mut starting = true;
        loop {
            let (mut lease, begun) = tokio::select! {
                () = shutdown.cancelled() => return self.release_if_taken().await,
                taken = self.take(starting) => taken,
            };
            starting = false;
            tracing::info!(
                holder = self.holder.me(),
                "this server runs the controllers"
            );
            self.metrics.controllers.leading.set(1);
            let fence = Fence::new(begun + self.timing.deadline);
            let stop = CancellationToken::new();
            let holding = async {
                let lost = tokio::select! {
                    () = shutdown.cancelled() => false,
                    () = self.hold(&mut lease, &fence) => true,
                };
                stop.cancel();
                lost
            };
            let (lost, ()) = tokio::join!(holding, work(fence.clone(), stop.clone()));
            self.metrics.controllers.leading.set(0);
            if !lost {
                self.release(lease).await;
                return;
            }
            tracing::warn!(
                holder = self.holder.me(),
                "the lease on the controllers could not be renewed in time; they are stopped until it is ours again"
            );
        }
    }

    /// Waits until the lease is ours; as it was written, and when that was begun.
    async fn take(&self, mut starting: bool) -> (Value, Instant) {
        let mut seen: Option<Record> = None;
        let mut changes: Option<BoxStream<'static, Result<Event, boatyard_store::Error>>> = None;
        loop {
            if changes.is_none() {
                let scope = Scope {
                    resource: LEASES.to_owned(),
                    namespace: Some(NAMESPACE_SYSTEM.to_owned()),
                };
                changes = self.resources.store.watch(scope, None).await.ok();
            }
            let now = Instant::now();
            let next = match self.read().await {
                Err(failure) => {
                    tracing::debug!(%failure, "the lease on the controllers cannot be read");
                    now + self.timing.retry
                }
                Ok(object) => {
                    seen = object.map(|object| match seen.take() {
                        Some(known) if known.version() == meta(&object, "resourceVersion") => known,
                        _ => Record { object, seen: now },
                    });
                    let step = step(&self.holder, seen.as_ref(), starting, now);
                    starting = false;
                    match step {
                        Step::Wait(until) => until,
                        Step::Take => {
                            let before = seen.as_ref().map(|record| record.object.clone());
                            match self.write(before, now + self.timing.renew).await {
                                Ok(lease) => return (lease, now),
                                Err(failure) => {
                                    tracing::debug!(%failure, "the lease on the controllers was not taken");
                                    now + self.timing.retry
                                }
                            }
                        }
                    }
                }
            };
            let changed = async {
                match &mut changes {
                    Some(stream) => stream.next().await,
                    None => std::future::pending().await,
                }
            };
            let change = tokio::select! {
                change = changed => Some(change),
                () = tokio::time::sleep_until(next) => None,
            };
            // A watch that was cut: read now and then, and open it anew.
            if matches!(change, Some(None | Some(Err(_)))) {
                changes = None;
                tokio::time::sleep(self.timing.retry).await;
            }
        }
    }

    /// Renews for as long as it succeeds in time.
    async fn hold(&self, lease: &mut Value, fence: &Fence) {
        let mut next = fence.until() - self.timing.deadline + self.timing.renew;
        loop {
            tokio::time::sleep_until(next).await;
            let begun = Instant::now();
            if begun >= fence.until() {
                return;
            }
            match self.write(Some(lease.clone()), fence.until()).await {
                Ok(written) => {
                    *lease = written;
                    fence.extend(begun + self.timing.deadline);
                    next = begun + self.timing.renew;
                }
                Err(failure) => {
                    tracing::debug!(%failure, "the lease on the controllers was not renewed");
                    next = begun + self.timing.retry;
                    // Written by somebody, or by us without an answer.
                    match tokio::time::timeout_at(fence.until(), self.read()).await {
                        Ok(Ok(Some(found))) if self.is_mine(&found) => {
                            if found != *lease {
                                *lease = found;
                                next = begun;
                            }
                        }
                        Ok(Ok(_)) => return,
                        Ok(Err(_)) | Err(_) => {}
                    }
                }
            }
        }
    }

    fn is_mine(&self, lease: &Value) -> bool {
        let holder = lease["spec"]["holderIdentity"].as_str();
        holder.is_some_and(|holder| self.holder.is_me(holder))
    }

    async fn read(&self) -> Result<Option<Value>, Failure> {
        let kind = kind(&self.resources, LEASES)?;
        let target = target(kind, NAMESPACE_SYSTEM, LEASE_CONTROLLERS);
        found(self.resources.get(&self.caller, "get", &target).await)
    }

    fn now(&self) -> Value {
        let now = self.resources.now();
        json!(now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
    }

    /// Writes the lease as ours, if it still is as it was `before`.
    async fn write(&self, before: Option<Value>, until: Instant) -> Result<Value, Failure> {
        let spec = taken(
            self.holder.me(),
            before.as_ref(),
            self.timing.lease,
            &self.now(),
        );
        let writing = self.put(before, spec);
        let written = tokio::time::timeout_at(until, writing).await;
        written.unwrap_or_else(|_| Err(Failure::timeout("the store did not answer in time")))
    }

    async fn put(&self, before: Option<Value>, spec: Value) -> Result<Value, Failure> {
        let kind = kind(&self.resources, LEASES)?;
        let options = WriteOptions::default();
        let written = match before {
            None => {
                let target = target(kind, NAMESPACE_SYSTEM, "");
                let object = json!({"metadata": {"name": LEASE_CONTROLLERS}, "spec": spec});
                let creating = self
                    .resources
                    .create(&self.caller, &target, object, &options);
                creating.await?
            }
            Some(mut object) => {
                object["spec"] = spec;
                let target = target(kind, NAMESPACE_SYSTEM, LEASE_CONTROLLERS);
                let updating = self
                    .resources
                    .update(&self.caller, &target, object, &options);
                updating.await?
            }
        };
        Ok(written.object)
    }

    /// Gives the lease up if it was taken a moment ago, without the answer having arrived.
    async fn release_if_taken(&self) {
        let read = tokio::time::timeout(self.timing.renew, self.read()).await;
        if let Ok(Ok(Some(lease))) = read
            && self.is_mine(&lease)
        {
            self.release(lease).await;
        }
    }

    /// Gives the lease up, so that another server takes it at once.
    async fn release(&self, lease: Value) {
        let mut spec = lease["spec"].clone();
        spec["holderIdentity"] = json!("");
        spec["leaseDurationSeconds"] = json!(1);
        spec["renewTime"] = self.now();
        let released = tokio::time::timeout(self.timing.renew, self.put(Some(lease), spec)).await;
        if let Ok(Err(failure)) = released {
            tracing::debug!(%failure, "the lease on the controllers was not given up; it runs out");
        }
    }
}

#[cfg(test)]
mod tests;
