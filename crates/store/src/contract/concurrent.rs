//! Many writers, readers and watchers at once.

use std::sync::Arc;

use futures::StreamExt;

use super::{boat, boats, create, data, revision};
use crate::{Error, Event, Revision, Store};

pub(super) async fn lets_one_of_many_writers_win(store: Arc<dyn Store>) {
    for round in 0..20_u32 {
        let name = round.to_string();
        let creates = (0..16_u32).map(|writer| {
            let (store, key) = (store.clone(), boat(&name));
            async move { store.create(key, data(writer.to_string())).await }
        });
        let results = together(creates).await;
        let won: Vec<_> = results.iter().flatten().collect();
        assert_eq!(won.len(), 1);
        assert_eq!(store.get(boat(&name)).await.unwrap().as_ref(), Some(won[0]));
        let expected = won[0].revision;
        let updates = (0..16_u32).map(|writer| {
            let (store, key) = (store.clone(), boat(&name));
            async move {
                let data = data(format!("update {writer}"));
                store.update(key, expected, data).await
            }
        });
        let results = together(updates).await;
        let won: Vec<_> = results.iter().flatten().collect();
        assert_eq!(won.len(), 1);
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            match error {
                Error::Conflict { actual, .. } => assert_eq!(*actual, won[0].revision),
                other => panic!("{other:?}"),
            }
        }
    }
}

pub(super) async fn gives_every_watcher_the_same_history(store: Arc<dyn Store>) {
    const WRITERS: u32 = 8;
    const EACH: u32 = 50;
    let total = (WRITERS * EACH * 2) as usize;
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        async move {
            for number in 0..EACH {
                let made = create(&*store, &format!("{writer}-{number}")).await;
                let gone = store.delete(made.key, made.revision, data("gone"));
                gone.await.unwrap();
            }
        }
    });
    let watchers = (0..4).map(|_| {
        let store = store.clone();
        async move {
            let mut events: Vec<Event> = Vec::new();
            while events.len() < total {
                // Each few events a new watch takes over where the last one stopped.
                let from = events
                    .last()
                    .map_or(Revision(0), |last| last.object.revision);
                let watch = store.watch(boats(), Some(from)).await.unwrap();
                let some = watch.take(37.min(total - events.len()));
                events.extend(some.map(Result::unwrap).collect::<Vec<_>>().await);
            }
            events
        }
    });
    let (histories, ()) = tokio::join!(together(watchers), async {
        together(writers).await;
    });
    for history in &histories {
        let revisions = history.iter().map(|event| event.object.revision.0);
        assert!(revisions.eq(1..=total as u64));
        assert_eq!(history, &histories[0]);
    }
}

pub(super) async fn reads_what_was_answered(store: Arc<dyn Store>) {
    let writers = (0..8_u32).map(|writer| {
        let store = store.clone();
        async move {
            let mut stored = create(&*store, &writer.to_string()).await;
            for number in 0..50_u32 {
                let next = data(number.to_string());
                let next = store.update(stored.key.clone(), stored.revision, next);
                let next = next.await.unwrap();
                assert!(next.revision > stored.revision);
                stored = next;
                let read = store.get(stored.key.clone()).await.unwrap();
                assert_eq!(read.as_ref(), Some(&stored));
                let page = store.list(boats(), None, None, None).await.unwrap();
                assert!(page.revision >= stored.revision);
                assert!(page.stored().contains(&stored));
                assert!(revision(&*store).await >= stored.revision);
            }
        }
    });
    together(writers).await;
}

pub(super) async fn never_shows_an_older_version(store: Arc<dyn Store>) {
    let mut stored = create(&*store, "a").await;
    let readers = (0..4).map(|_| {
        let store = store.clone();
        async move {
            let mut seen = Revision(0);
            while seen.0 < 200 {
                let read = store.get(boat("a")).await.unwrap().unwrap();
                assert!(read.revision >= seen);
                seen = read.revision;
                tokio::task::yield_now().await;
            }
        }
    });
    let (_, ()) = tokio::join!(together(readers), async {
        while stored.revision.0 < 200 {
            let next = store.update(boat("a"), stored.revision, data("x"));
            stored = next.await.unwrap();
        }
    });
}

/// Runs them as tasks of their own and hands back what they returned.
async fn together<F>(futures: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}
