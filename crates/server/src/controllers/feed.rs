//! What controllers see of the store: each resource is listed and watched once for all of them.
//!
//! Owns following a resource without gap: a list, the changes after it, and a new list when the
//! watch was cut. It keeps no objects: each controller indexes what it decides by, and is asked
//! after a new list which keys it knows, so that what went unseen is told as missing. Everything a
//! controller is shown may be old by the time it acts; it reads again then.

use super::{Observer, Seen};
use boatyard_store::{Change, Error, Key, Revision, Scope, Store, Stored};
use futures::{FutureExt, StreamExt};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Objects read at once; between two such reads other tasks run.
const CHUNK: usize = 512;
/// How long a feed rests before it lists anew.
const AGAIN: Duration = Duration::from_secs(1);

/// How often a feed that has nothing to show notes how far it is.
const SETTLE: Duration = Duration::from_secs(20);

/// How far each feed has shown its resource's changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<Mutex<HashMap<String, Revision>>>);

impl Progress {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Revision>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a list: of a history that was replaced, earlier progress says nothing.
    pub(super) fn begin(&self, resource: &str, revision: Revision) {
        self.known().insert(resource.to_owned(), revision);
    }

    pub(super) fn reach(&self, resource: &str, revision: Revision) {
        let mut known = self.known();
        if let Some(reached) = known.get_mut(resource) {
            *reached = revision.max(*reached);
        }
    }

    /// Whether every change of a resource up to a revision has been shown to all who watch it. The
    /// store must have told somebody here of that revision already.
    pub(super) async fn has_shown(
        &self,
        store: &dyn Store,
        resource: &str,
        revision: Revision,
    ) -> Result<bool, Error> {
        let reached = self.known().get(resource).copied();
        let Some(reached) = reached else {
            return Ok(false);
        };
        if reached >= revision {
            return Ok(true);
        }
        // A watch that is opened anew reads history: it has something now, or there is nothing.
        let scope = everywhere(resource);
        match store.watch(scope, Some(reached)).await {
            Ok(mut events) => match events.next().now_or_never() {
                None => {
                    self.reach(resource, revision);
                    Ok(true)
                }
                Some(_) => Ok(false),
            },
            // History is gone; the feed lists anew, or notes soon how far it is.
            Err(Error::Compacted { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn everywhere(resource: &str) -> Scope {
    Scope {
        resource: resource.to_owned(),
        namespace: None,
    }
}

/// Follows one resource for as long as it is polled.
pub(super) async fn follow(
    store: Arc<dyn Store>,
    resource: String,
    observers: Vec<Arc<dyn Observer>>,
    synced: watch::Sender<bool>,
    progress: Progress,
) {
    loop {
        let cut = once(store.as_ref(), &resource, &observers, &synced, &progress).await;
        match cut {
            Ok(()) => tracing::debug!(resource, "a feed ended; listing again"),
            Err(error @ (Error::Lagged(_) | Error::Compacted { .. })) => {
                tracing::info!(resource, %error, "a feed fell behind; listing again");
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(resource, error, "a feed was cut; listing again");
            }
        }
        // A store that ends every watch at once must not make this spin.
        tokio::time::sleep(AGAIN).await;
    }
}

async fn once(
    store: &dyn Store,
    resource: &str,
    observers: &[Arc<dyn Observer>],
    synced: &watch::Sender<bool>,
    progress: &Progress,
) -> Result<(), Error> {
    let scope = everywhere(resource);
    let mut missing: HashSet<Key> = HashSet::new();
    for observer in observers {
        missing.extend(observer.known(resource));
    }
    let (mut at, mut after) = (None, None);
    loop {
        let page = store.list(scope.clone(), at, after, Some(CHUNK)).await?;
        at = Some(page.revision);
        for item in &page.items {
            let stored = item.stored();
            missing.remove(&stored.key);
            show(observers, &Seen::Listed(&stored));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
        tokio::task::yield_now().await;
    }
    for key in &missing {
        show(observers, &Seen::Missing(key));
    }
    for observer in observers {
        observer.relisted(resource);
    }
    let listed = at.unwrap_or_default();
    progress.begin(resource, listed);
    synced.send_replace(true);
    let mut events = store.watch(scope, Some(listed)).await?;
    // A revision of some time ago: every change up to it has reached `events` by now.
    let mut settled = listed;
    let mut settle = tokio::time::interval(SETTLE);
    settle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            _ = settle.tick() => {
                progress.reach(resource, settled);
                settled = store.revision().await?;
                continue;
            }
        };
        let Some(event) = event.transpose()? else {
            return Ok(());
        };
        let stored: &Stored = &event.object;
        show(
            observers,
            &match event.change {
                Change::Deleted => Seen::Deleted(stored),
                Change::Created | Change::Updated => Seen::Changed(stored),
            },
        );
        progress.reach(resource, stored.revision);
    }
}

fn show(observers: &[Arc<dyn Observer>], seen: &Seen<'_>) {
    for observer in observers {
        observer.seen(seen);
    }
}

#[cfg(test)]
mod tests;
