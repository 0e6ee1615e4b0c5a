//! Watches one at a time.

use std::sync::Arc;

use futures::{FutureExt, StreamExt};

use super::{boat, boats, create, data, key, revision};
use crate::{Change, Error, Event, Facet, Revision, Route, Scope, Store, Stored};

fn created(object: &Stored) -> Event {
    Event {
        change: Change::Created,
        object: object.clone().into(),
        previous: None,
    }
}

pub(super) async fn shows_changes_after_a_revision(store: Arc<dyn Store>) {
    let first = create(&*store, "a").await;
    let updated = store.update(boat("a"), first.revision, data("b")).await;
    let updated = updated.unwrap();
    let deleted = store.delete(boat("a"), updated.revision, data("last"));
    let deleted = deleted.await.unwrap();
    let watch = store.watch(boats(), Some(first.revision)).await.unwrap();
    let live = create(&*store, "c").await;
    let events: Vec<Event> = watch.take(3).map(Result::unwrap).collect().await;
    let expected = [
        Event {
            change: Change::Updated,
            object: updated.clone().into(),
            previous: Some(first.data),
        },
        Event {
            change: Change::Deleted,
            object: deleted.into(),
            previous: Some(updated.data),
        },
        created(&live),
    ];
    assert_eq!(events, expected);
    let mut all = store.watch(boats(), Some(Revision(0))).await.unwrap();
    let event = all.next().await.unwrap().unwrap();
    assert_eq!(event.object.revision, Revision(1));
}

pub(super) async fn shows_changes_from_now_on(store: Arc<dyn Store>) {
    create(&*store, "a").await;
    let mut watch = store.watch(boats(), None).await.unwrap();
    assert!(watch.next().now_or_never().is_none());
    let later = create(&*store, "b").await;
    assert_eq!(watch.next().await.unwrap().unwrap(), created(&later));
}

pub(super) async fn keeps_to_its_scope(store: Arc<dyn Store>) {
    let scope = Scope {
        resource: "boats".to_owned(),
        namespace: Some("harbour".to_owned()),
    };
    let mut watch = store.watch(scope, None).await.unwrap();
    for key in [key("boats", "lake", "a"), key("cranes", "harbour", "a")] {
        store.create(key, data("x")).await.unwrap();
    }
    let seen = create(&*store, "a").await;
    assert_eq!(watch.next().await.unwrap().unwrap(), created(&seen));
    assert!(watch.next().now_or_never().is_none());
}

pub(super) async fn refuses_revisions_forgotten_or_to_come(store: Arc<dyn Store>) {
    for name in ["a", "b", "c"] {
        create(&*store, name).await;
    }
    let future = store.watch(boats(), Some(Revision(4))).await;
    assert!(matches!(future.err(), Some(Error::Future { .. })));
    store.compact(Revision(2)).await.unwrap();
    let old = store.watch(boats(), Some(Revision(1))).await;
    assert!(matches!(old.err(), Some(Error::Compacted { .. })));
    let mut watch = store.watch(boats(), Some(Revision(2))).await.unwrap();
    let event = watch.next().await.unwrap().unwrap();
    assert_eq!(event.object.revision, Revision(3));
}

pub(super) async fn survives_compaction_of_what_it_has_seen(store: Arc<dyn Store>) {
    let mut watch = store.watch(boats(), None).await.unwrap();
    create(&*store, "a").await;
    watch.next().await.unwrap().unwrap();
    // Changes it does not cover are forgotten beyond its position.
    for number in 0..10 {
        let key = key("cranes", "harbour", &number.to_string());
        store.create(key, data("x")).await.unwrap();
    }
    store.compact(revision(&*store).await).await.unwrap();
    let later = create(&*store, "b").await;
    assert_eq!(watch.next().await.unwrap().unwrap(), created(&later));
}

pub(super) async fn cuts_off_a_slow_reader(store: Arc<dyn Store>) {
    const CHANGES: usize = 3000;
    let mut watch = store.watch(boats(), None).await.unwrap();
    let names: Vec<String> = (0..CHANGES).map(|number| number.to_string()).collect();
    let creates = names.iter().map(|name| create(&*store, name));
    futures::future::join_all(creates).await;
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.object.revision, Revision(1));
    store.compact(revision(&*store).await).await.unwrap();
    let mut last = first.object.revision;
    let cut = loop {
        match watch.next().await.unwrap() {
            Ok(event) => {
                assert_eq!(event.object.revision.0, last.0 + 1);
                last = event.object.revision;
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(cut, Error::Lagged(at) if at == last), "{cut}");
    assert!(watch.next().await.is_none());
}

/// Objects whose text begins with a letter.
fn beginning_with(letter: u8) -> Route {
    let at = data("").len() - 2;
    Route {
        facet: Facet {
            name: "letter".into(),
            read: Arc::new(move |data| data.get(at).copied().map(u64::from)),
        },
        value: u64::from(letter),
    }
}

pub(super) async fn shows_a_route_what_begins_and_ceases_to_be_its(store: Arc<dyn Store>) {
    let early = create(&*store, "x0").await;
    let route = |letter| store.watch_route(boats(), Some(Revision(0)), beginning_with(letter));
    let (mut xs, mut ys) = (route(b'x').await.unwrap(), route(b'y').await.unwrap());
    create(&*store, "z").await;
    let at = store.update(boat("x0"), early.revision, data("y0")).await;
    let at = at.unwrap().revision;
    let gone = store.delete(boat("x0"), at, data("y0")).await.unwrap();
    let own = create(&*store, "x1").await;
    // Others may come, its own must.
    let until = async |events: &mut futures::stream::BoxStream<'static, Result<Event, Error>>,
                       last| {
        let mut seen = Vec::new();
        while seen.last() != Some(&last) {
            let event: Event = events.next().await.unwrap().unwrap();
            seen.push(event.object.revision);
        }
        assert!(seen.is_sorted(), "{seen:?}");
        seen
    };
    let seen = until(&mut xs, own.revision).await;
    assert!([early.revision, at].iter().all(|own| seen.contains(own)));
    let seen = until(&mut ys, gone.revision).await;
    assert!(seen.contains(&at), "{seen:?}");
}

pub(super) async fn lets_a_route_sleep_while_what_is_not_its_is_forgotten(store: Arc<dyn Store>) {
    let route = |letter| store.watch_route(boats(), None, beginning_with(letter));
    let (mut xs, mut slow) = (route(b'x').await.unwrap(), route(b'x').await.unwrap());
    for number in 0..10 {
        create(&*store, &format!("y{number}")).await;
    }
    store.compact(revision(&*store).await).await.unwrap();
    let own = create(&*store, "x").await;
    assert_eq!(xs.next().await.unwrap().unwrap(), created(&own));
    // Of what was its own it is told that it missed it.
    store.compact(revision(&*store).await).await.unwrap();
    let cut = slow.next().await.unwrap();
    assert!(matches!(cut, Err(Error::Lagged(_))), "{cut:?}");
}
