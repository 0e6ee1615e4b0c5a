//! What controllers see of the store: each resource is listed and watched once for all of them.
//!
//! Owns following a resource without gap: a list, the changes after it, and a new list when the
//! watch was cut. It keeps no objects: each controller indexes what it decides by, and is asked
//! after a new list which keys it knows, so that what went unseen is told as missing. Everything a
//! controller is shown may be old by the time it acts; it reads again then.

use super::{Observer, Seen};
use boatyard_store::{Change, Error, Key, Scope, Store, Stored};
use futures::StreamExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Objects read at once; between two such reads other tasks run.
const CHUNK: usize = 512;
/// How long a feed rests before it lists anew.
const AGAIN: Duration = Duration::from_secs(1);

/// Follows one resource for as long as it is polled.
pub(super) async fn follow(
    store: Arc<dyn Store>,
    resource: String,
    observers: Vec<Arc<dyn Observer>>,
    synced: watch::Sender<bool>,
) {
    loop {
        let cut = once(store.as_ref(), &resource, &observers, &synced).await;
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
) -> Result<(), Error> {
    let scope = Scope {
        resource: resource.to_owned(),
        namespace: None,
    };
    let mut missing: HashSet<Key> = HashSet::new();
    for observer in observers {
        missing.extend(observer.known(resource));
    }
    let (mut at, mut after) = (None, None);
    loop {
        let page = store.list(scope.clone(), at, after, Some(CHUNK)).await?;
        at = Some(page.revision);
        for stored in &page.items {
            missing.remove(&stored.key);
            show(observers, &Seen::Listed(stored));
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
    synced.send_replace(true);
    let mut events = store.watch(scope, at).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        let stored: &Stored = &event.object;
        show(
            observers,
            &match event.change {
                Change::Deleted => Seen::Deleted(stored),
                Change::Created | Change::Updated => Seen::Changed(stored),
            },
        );
    }
    Ok(())
}

fn show(observers: &[Arc<dyn Observer>], seen: &Seen<'_>) {
    for observer in observers {
        observer.seen(seen);
    }
}
