//! Removes events nobody will look for any more.
//!
//! One key, and a timer: events are looked through page by page, which costs less than an index of
//! them would keep in memory. An event ages from when it was last seen.

use super::queue::Outcome;
use super::{Controller, Seen, target};
use crate::deletion;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::resources::Resources;
use boatyard_store::{Scope, Stored};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Deserialize;
use std::time::Duration;

const EVENTS: &str = "events";
/// Events read at once.
const CHUNK: usize = 256;
/// Events removed at once.
const CONCURRENCY: usize = 16;

/// Forgets events.
pub(super) struct Events {
    resources: Resources,
    caller: Caller,
    age: Duration,
}

/// What tells an event's age.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Event {
    last_timestamp: Option<String>,
    event_time: Option<String>,
    series: Option<Series>,
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    uid: String,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
}

impl Event {
    fn last_seen(&self) -> Option<Timestamp> {
        let created = &self.metadata.creation_timestamp;
        let series = self.series.as_ref();
        let repeated = series.and_then(|series| series.last_observed_time.as_ref());
        let times = [&self.last_timestamp, &self.event_time, created];
        let mut times = repeated.into_iter().chain(times.into_iter().flatten());
        times.find_map(|time| time.parse().ok())
    }
}

impl Events {
    pub(super) fn new(resources: Resources, age: Duration) -> Self {
        Self {
            resources,
            caller: Caller::internal("events"),
            age,
        }
    }

    /// How long to rest between looks: an event may live that much longer.
    fn pause(&self) -> Duration {
        (self.age / 10).clamp(Duration::from_millis(100), Duration::from_secs(60))
    }

    async fn forget(&self, stored: Stored, uid: String) -> Result<(), Failure> {
        let kind = super::kind(&self.resources, EVENTS)?;
        let target = target(kind, &stored.key.namespace, &stored.key.name);
        let options = deletion::Options {
            uid: Some(uid),
            version: Some(stored.revision.0.to_string()),
            ..deletion::Options::default()
        };
        match self.resources.delete(&self.caller, &target, &options).await {
            // Gone, or seen again meanwhile.
            Err(failure) if ["NotFound", "Conflict"].contains(&failure.reason) => Ok(()),
            deleted => deleted.map(drop),
        }
    }
}

impl Controller for Events {
    type Key = ();

    fn name(&self) -> &'static str {
        "events"
    }

    fn watched(&self) -> Vec<String> {
        Vec::new()
    }

    fn observe(&self, _seen: &Seen<'_>, _wake: &mut dyn FnMut(())) {}

    fn resync(&self, wake: &mut dyn FnMut(())) {
        wake(());
    }

    async fn activate(&self, (): &()) -> Result<Outcome, Failure> {
        let scope = Scope {
            resource: EVENTS.to_owned(),
            namespace: None,
        };
        let now = self.resources.now();
        let (mut at, mut after) = (None, None);
        loop {
            let store = &self.resources.store;
            let page = store.list(scope.clone(), at, after, Some(CHUNK)).await;
            let page = page.map_err(|error| Failure::unavailable(error.to_string()))?;
            at = Some(page.revision);
            let old = page.stored().into_iter().filter_map(|stored| {
                let event: Event = serde_json::from_slice(&stored.data).unwrap_or_default();
                let age: Duration = now.duration_since(event.last_seen()?).try_into().ok()?;
                let going = event.metadata.deletion_timestamp.is_some();
                (age > self.age && !going).then_some((stored, event.metadata.uid))
            });
            futures::stream::iter(old)
                .map(|(stored, uid)| self.forget(stored, uid))
                .buffer_unordered(CONCURRENCY)
                .try_collect::<()>()
                .await?;
            after = page.next;
            if after.is_none() {
                return Ok(Outcome::After(self.pause()));
            }
        }
    }
}
