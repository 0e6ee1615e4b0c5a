//! Creating, updating and deleting one object.

use std::sync::Arc;

use super::{boat, create, data, revision};
use crate::{Error, Revision, Store};

pub(super) async fn creates_once(store: Arc<dyn Store>) {
    let made = create(&*store, "a").await;
    assert_eq!(made.revision, Revision(1));
    assert_eq!(made.data, data("a"));
    assert_eq!(store.get(boat("a")).await.unwrap(), Some(made.clone()));
    let again = store.create(boat("a"), data("b")).await;
    assert!(matches!(again, Err(Error::Exists(key)) if key == boat("a")));
    assert_eq!(store.get(boat("a")).await.unwrap(), Some(made));
    assert_eq!(store.get(boat("b")).await.unwrap(), None);
}

pub(super) async fn updates_only_the_expected_revision(store: Arc<dyn Store>) {
    let made = create(&*store, "a").await;
    let updated = store.update(boat("a"), made.revision, data("b")).await;
    let updated = updated.unwrap();
    assert!(updated.revision > made.revision);
    assert_eq!(store.get(boat("a")).await.unwrap(), Some(updated.clone()));
    let stale = store.update(boat("a"), made.revision, data("c")).await;
    match stale {
        Err(Error::Conflict {
            key,
            expected,
            actual,
        }) => {
            assert_eq!(key, boat("a"));
            assert_eq!((expected, actual), (made.revision, updated.revision));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.get(boat("a")).await.unwrap(), Some(updated));
    let missing = store.update(boat("b"), made.revision, data("c")).await;
    assert!(matches!(missing, Err(Error::NotFound(key)) if key == boat("b")));
}

pub(super) async fn deletes_only_the_expected_revision(store: Arc<dyn Store>) {
    let made = create(&*store, "a").await;
    let stale = store.delete(boat("a"), Revision(0), data("x")).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })));
    let gone = store.delete(boat("a"), made.revision, data("last")).await;
    let gone = gone.unwrap();
    assert!(gone.revision > made.revision);
    assert_eq!(gone.data, data("last"));
    assert_eq!(store.get(boat("a")).await.unwrap(), None);
    let again = store.delete(boat("a"), gone.revision, data("last")).await;
    assert!(matches!(again, Err(Error::NotFound(_))));
}

pub(super) async fn recreates_after_a_deletion(store: Arc<dyn Store>) {
    let made = create(&*store, "a").await;
    let gone = store.delete(boat("a"), made.revision, data("last")).await;
    let gone = gone.unwrap();
    // Not even when the deletion itself is forgotten.
    store.compact(gone.revision).await.unwrap();
    let again = create(&*store, "a").await;
    assert!(again.revision > gone.revision);
    let stale = store.update(boat("a"), made.revision, data("b")).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })));
}

pub(super) async fn counts_only_changes(store: Arc<dyn Store>) {
    assert_eq!(revision(&*store).await, Revision(0));
    let made = create(&*store, "a").await;
    let _ = store.create(boat("a"), data("b")).await.unwrap_err();
    let _ = store
        .update(boat("a"), Revision(0), data("b"))
        .await
        .unwrap_err();
    assert_eq!(revision(&*store).await, made.revision);
    let next = create(&*store, "b").await;
    assert_eq!(next.revision, Revision(made.revision.0 + 1));
}
