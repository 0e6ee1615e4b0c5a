//! A watcher: a cursor into the shared history.
//!
//! Owns how changes reach a reader. There is no queue per watcher and so no handover from history
//! to live events: a watcher always reads history after its cursor, a few at a time, and sleeps
//! until its resource changes. Its memory is bounded by a batch. A reader so slow that history
//! has forgotten what it has not seen gets [`Error::Lagged`] and the end, as does every reader of a
//! history that was replaced.
//!
//! It does not filter beyond scope and route (selectors are the server's).
//!
//! Crash behaviour: none, a cursor is the reader's last revision.
//!
//! Read next: `history`.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use futures::stream::{BoxStream, StreamExt};
use tokio::sync::watch;

use crate::history::{Entry, History};
use crate::{Error, Event, Revision, Route, Scope};

/// Changes taken from history at once.
const BATCH: usize = 64;

struct Watcher {
    history: Arc<RwLock<History>>,
    scope: Scope,
    /// Changes of others neither wake it nor are taken.
    route: Option<Route>,
    generation: u64,
    /// All of the scope's changes up to here are in the batch or shown.
    cursor: u64,
    shown: u64,
    batch: VecDeque<Entry>,
    changed: watch::Receiver<u64>,
    over: bool,
}

/// Follows `scope` after `from`, or from now; of it `route` alone, where there is one.
pub(crate) fn open(
    history: &Arc<RwLock<History>>,
    scope: Scope,
    from: Option<Revision>,
    route: Option<Route>,
) -> Result<BoxStream<'static, Result<Event, Error>>, Error> {
    let mut locked = history.write().unwrap_or_else(PoisonError::into_inner);
    let from = from.unwrap_or(Revision(locked.revision()));
    locked.check(from)?;
    let changed = match &route {
        None => Some(locked.subscribe(&scope.resource)),
        Some(route) => locked.subscribe_route(&scope.resource, route),
    };
    // A resource read by too many facets already: all of it, then.
    let route = route.filter(|_| changed.is_some());
    let changed = changed.unwrap_or_else(|| locked.subscribe(&scope.resource));
    let watcher = Watcher {
        changed,
        route,
        history: history.clone(),
        scope,
        generation: locked.generation(),
        cursor: from.0,
        shown: from.0,
        batch: VecDeque::new(),
        over: false,
    };
    drop(locked);
    let stream = futures::stream::unfold(watcher, |mut watcher| async move {
        let item = watcher.next().await?;
        Some((item, watcher))
    });
    Ok(stream.boxed())
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Event, Error>> {
        loop {
            if let Some(entry) = self.batch.pop_front() {
                self.shown = entry.object.revision();
                return Some(Ok(entry.event()));
            }
            if self.over {
                return None;
            }
            // Seen before the read, so that a change during the read wakes it again.
            self.changed.borrow_and_update();
            let closed = {
                let history = self.history.read().unwrap_or_else(PoisonError::into_inner);
                let same = history.generation() == self.generation;
                let batch = &mut self.batch;
                let cursor = same.then(|| {
                    let (scope, route) = (&self.scope, self.route.as_ref());
                    history.after(scope, route, self.cursor, BATCH, batch)
                });
                let Some(cursor) = cursor.flatten() else {
                    self.over = true;
                    return Some(Err(Error::Lagged(Revision(self.shown))));
                };
                self.cursor = cursor;
                history.closed()
            };
            if !self.batch.is_empty() {
                continue;
            }
            // An error: history was replaced, which the next look tells.
            if closed {
                self.over = true;
            } else {
                let _ = self.changed.changed().await;
            }
        }
    }
}
