//! The server's control loops, and the small framework they share.
//!
//! A controller has keys (usually names of objects). What it is shown of changes says only which
//! keys to look at; an activation gets a key, reads what is so now, decides, and writes through the
//! same operations as clients, with an identity of its own. It may keep an index of what it decides
//! by, fed from what it is shown; before it destroys anything it reads. The framework owns the rest:
//! one list and watch per resource for all of them (`feed`), the line of keys and the rests after
//! failures (`queue`), running, counting and surviving activations (`work`), and that of several
//! servers on one store one runs them (`leader`).
//!
//! A controller can be killed at any instruction: the next one starts from what is stored. One that
//! panics fails that activation and nothing else.
//!
//! Read next: `queue`, `work`, then `scheduler` as an example.

mod collector;
mod events;
mod feed;
mod leader;
mod namespaces;
mod projects;
mod queue;
mod scheduler;
mod work;

use crate::failure::Failure;
use crate::flow::Flow;
use crate::kinds::Kind;
use crate::metrics::Metrics;
use crate::resources::{Resources, Target};
use boatyard_store::{Key, Stored};
use feed::Progress;
pub(crate) use leader::Holder;
use leader::{Elector, Fence};
use queue::Outcome;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use work::{Loop, Observer};

/// What a controller is shown.
pub(crate) enum Seen<'a> {
    /// An object of a list: it may be known already.
    Listed(&'a Stored),
    /// A created or updated object.
    Changed(&'a Stored),
    /// As it last was.
    Deleted(&'a Stored),
    /// One that the controller knows and a new list does not.
    Missing(&'a Key),
}

impl Seen<'_> {
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Listed(stored) | Self::Changed(stored) | Self::Deleted(stored) => &stored.key,
            Self::Missing(key) => key,
        }
    }

    /// The object, while there is one.
    pub(crate) fn present(&self) -> Option<&Stored> {
        match self {
            Self::Listed(stored) | Self::Changed(stored) => Some(stored),
            Self::Deleted(_) | Self::Missing(_) => None,
        }
    }
}

/// A control loop.
pub(crate) trait Controller: Send + Sync + 'static {
    /// What an activation is about.
    type Key: queue::Key;

    /// In logs, metrics and the identity it writes with.
    fn name(&self) -> &'static str;

    /// Resources it is shown, as the store names them.
    fn watched(&self) -> Vec<String>;

    /// How many keys it looks at at once.
    fn concurrency(&self) -> usize {
        1
    }

    /// Notes what it is shown, and wakes the keys it concerns. Does not block.
    fn observe(&self, seen: &Seen<'_>, wake: &mut dyn FnMut(Self::Key));

    /// All it watches has been shown to it once.
    fn begin(&self) {}

    /// Objects of a resource that it has noted.
    fn known(&self, _resource: &str) -> Vec<Key> {
        Vec::new()
    }

    /// Wakes all keys that may need it: after the lists it starts with, after a new list, and now
    /// and then.
    fn resync(&self, wake: &mut dyn FnMut(Self::Key));

    /// Looks at one key: reads, decides, writes.
    fn activate(&self, key: &Self::Key) -> impl Future<Output = Result<Outcome, Failure>> + Send;
}

/// How the loops are to run.
#[derive(Debug)]
pub(crate) struct Settings {
    /// How long events are kept.
    pub(crate) event_age: Duration,
    /// How long other servers wait for one that is gone.
    pub(crate) lease: Duration,
    /// Who this server is.
    pub(crate) holder: Holder,
}

/// Runs all control loops until shutdown, whenever this server is the one to run them.
pub(crate) async fn run(
    resources: Resources,
    metrics: Metrics,
    flow: Flow,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let Settings {
        event_age,
        lease,
        holder,
    } = settings;
    let elector = Elector::new(resources.clone(), metrics.clone(), holder, lease);
    let lead = |fence: Fence, stop: CancellationToken| {
        let mut loops = Loops::new(&resources, &metrics, &flow, fence);
        loops.add(scheduler::Scheduler::new(resources.clone()));
        loops.add(collector::Collector::new(
            resources.clone(),
            loops.progress.clone(),
        ));
        loops.add(namespaces::Namespaces::new(resources.clone()));
        loops.add(projects::Projects::new(resources.clone()));
        loops.add(events::Events::new(resources.clone(), event_age));
        loops.run(stop)
    };
    elector.run(&shutdown, lead).await;
}

/// Controllers that run together.
struct Loops<'a> {
    resources: &'a Resources,
    metrics: &'a Metrics,
    flow: &'a Flow,
    fence: Fence,
    feeds: HashMap<String, Feed>,
    progress: Progress,
    tasks: JoinSet<()>,
}

struct Feed {
    observers: Vec<Arc<dyn Observer>>,
    synced: watch::Sender<bool>,
}

impl<'a> Loops<'a> {
    fn new(resources: &'a Resources, metrics: &'a Metrics, flow: &'a Flow, fence: Fence) -> Self {
        Self {
            resources,
            metrics,
            flow,
            fence,
            feeds: HashMap::new(),
            progress: Progress::default(),
            tasks: JoinSet::new(),
        }
    }

    fn add<C: Controller>(&mut self, controller: C) {
        let looped = Arc::new(Loop::new(
            controller,
            &self.metrics.controllers,
            self.flow.clone(),
        ));
        let mut synced = Vec::new();
        for resource in looped.watched() {
            let feed = self.feeds.entry(resource).or_insert_with(|| Feed {
                observers: Vec::new(),
                synced: watch::Sender::new(false),
            });
            feed.observers.push(looped.clone());
            synced.push(feed.synced.subscribe());
        }
        self.tasks.spawn(looped.run(synced, self.fence.clone()));
    }

    async fn run(mut self, shutdown: CancellationToken) {
        for (resource, feed) in self.feeds {
            let store = self.resources.store.clone();
            let follow = feed::follow(
                store,
                resource,
                feed.observers,
                feed.synced,
                self.progress.clone(),
            );
            self.tasks.spawn(follow);
        }
        shutdown.cancelled().await;
        self.tasks.shutdown().await;
    }
}

/// The place of one object of a kind.
fn target<'a>(kind: &'a Kind, namespace: &'a str, name: &'a str) -> Target<'a> {
    Target {
        kind,
        namespace,
        name,
        subresource: "",
    }
}

/// A served kind, by the store's name of its resource.
fn kind<'a>(resources: &'a Resources, resource: &str) -> Result<&'a Kind, Failure> {
    let mut kinds = resources.kinds.iter();
    kinds
        .find(|kind| kind.resource() == resource)
        .ok_or_else(|| Failure::internal(format!("the server knows no {resource}")))
}

/// None when there is no such object (any more).
fn found(got: Result<Value, Failure>) -> Result<Option<Value>, Failure> {
    match got {
        Ok(object) => Ok(Some(object)),
        Err(failure) if failure.reason == "NotFound" => Ok(None),
        Err(failure) => Err(failure),
    }
}
