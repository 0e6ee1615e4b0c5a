//! What every store does, as checks over a factory of stores.
//!
//! Owns the meaning of [`Store`] beyond its types. An implementation's test calls [`all`] with a
//! function that makes an empty store; what is particular to it (files, kills) it tests itself.
//!
//! Read next: [`crate::Store`].

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

pub mod cluster;
mod concurrent;
mod reads;
mod watches;
mod writes;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::archive::Backup;
use crate::{Error, Item, Key, Revision, Scope, Store, Stored};

/// Runs every check, each on a store of its own.
///
/// # Panics
/// When the store breaks the contract.
pub async fn all<F, S>(make: F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn Store>>,
{
    writes::creates_once(make().await).await;
    writes::updates_only_the_expected_revision(make().await).await;
    writes::deletes_only_the_expected_revision(make().await).await;
    writes::recreates_after_a_deletion(make().await).await;
    writes::counts_only_changes(make().await).await;
    reads::lists_in_key_order_within_the_scope(make().await).await;
    reads::pages_through_one_snapshot_while_others_write(make().await).await;
    reads::refuses_revisions_forgotten_or_to_come(make().await).await;
    watches::shows_changes_after_a_revision(make().await).await;
    watches::shows_changes_from_now_on(make().await).await;
    watches::keeps_to_its_scope(make().await).await;
    watches::refuses_revisions_forgotten_or_to_come(make().await).await;
    watches::survives_compaction_of_what_it_has_seen(make().await).await;
    watches::cuts_off_a_slow_reader(make().await).await;
    watches::shows_a_route_what_begins_and_ceases_to_be_its(make().await).await;
    watches::lets_a_route_sleep_while_what_is_not_its_is_forgotten(make().await).await;
    concurrently(make).await;
}

/// The checks of many clients at once; each also holds when the store it is given hands every call
/// to another of several stores on one database.
///
/// # Panics
/// When the store breaks the contract.
pub async fn concurrently<F, S>(make: F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn Store>>,
{
    concurrent::lets_one_of_many_writers_win(make().await).await;
    concurrent::gives_every_watcher_the_same_history(make().await).await;
    concurrent::reads_what_was_answered(make().await).await;
    concurrent::never_shows_an_older_version(make().await).await;
}

/// Fills a store, and gives what it then holds.
///
/// # Panics
/// When the snapshot is not what is there.
pub async fn worth_a_backup(store: &dyn Store) -> Backup {
    for number in 0..20 {
        let stored = create(store, &format!("boat{number}")).await;
        if number % 3 == 0 {
            let data = data("again");
            store
                .update(stored.key, stored.revision, data)
                .await
                .unwrap();
        } else if number % 5 == 0 {
            let last = stored.data.clone();
            store
                .delete(stored.key, stored.revision, last)
                .await
                .unwrap();
        }
    }
    let snapshot = store.snapshot().await.unwrap();
    let listed = store.list(boats(), None, None, None).await.unwrap();
    assert_eq!(snapshot.whole().objects, listed.stored());
    assert_eq!(snapshot.revision, listed.revision);
    // It has the store's own objects, none of them unpacked, and keeps them as they were.
    let one = |(one, other): (&Item, &Item)| Arc::ptr_eq(&one.0, &other.0);
    assert!(snapshot.objects.iter().zip(&listed.items).all(one));
    let whole = snapshot.whole();
    let last = whole.objects.last().unwrap();
    store
        .update(last.key.clone(), last.revision, data("later"))
        .await
        .unwrap();
    let lines: Vec<Bytes> = snapshot.lines().map(Result::unwrap).collect();
    let backup = Backup::read(&mut &lines.concat()[..]).unwrap();
    assert_eq!(backup, whole);
    backup
}

/// Checks that a store holds what was restored, that nobody can read on from before, and that it
/// takes writes.
///
/// # Panics
/// When it does not.
pub async fn restored(store: &dyn Store, snapshot: &Backup) {
    let found = store.snapshot().await.unwrap().whole();
    assert_eq!(found.objects, snapshot.objects);
    assert!(found.revision > snapshot.revision);
    // What was written after the backup was lost with the old store, and a client may have seen it.
    for seen in [snapshot.revision, Revision(snapshot.revision.0 + 1000)] {
        let refused = store.watch(boats(), Some(seen)).await.err();
        assert!(
            matches!(refused, Some(Error::Compacted { .. })),
            "{refused:?}"
        );
    }
    let mut events = store.watch(boats(), None).await.unwrap();
    let stored = create(store, "new").await;
    assert_eq!(stored.revision.0, found.revision.0 + 1);
    let event = futures::StreamExt::next(&mut events)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*event.object, stored);
}

fn key(resource: &str, namespace: &str, name: &str) -> Key {
    Key {
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn boat(name: &str) -> Key {
    key("boats", "harbour", name)
}

fn boats() -> Scope {
    Scope {
        resource: "boats".to_owned(),
        namespace: None,
    }
}

fn data(text: impl AsRef<str>) -> Bytes {
    Bytes::from(format!("{{\"text\":\"{}\"}}", text.as_ref()))
}

async fn create(store: &dyn Store, name: &str) -> Stored {
    store.create(boat(name), data(name)).await.unwrap()
}

async fn revision(store: &dyn Store) -> Revision {
    store.revision().await.unwrap()
}

fn names(items: &[Stored]) -> Vec<&str> {
    items.iter().map(|item| item.key.name.as_str()).collect()
}
