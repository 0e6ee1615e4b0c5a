//! Lists, their pages and their snapshots.

use std::sync::Arc;

use super::{boat, boats, create, data, key, names, revision};
use crate::{Error, Revision, Scope, Store, Stored};

pub(super) async fn lists_in_key_order_within_the_scope(store: Arc<dyn Store>) {
    let keys = [
        key("boats", "b", "1"),
        key("boats", "a", "2"),
        key("boats", "a", "1"),
        key("boats", "ab", "0"),
        key("boat", "a", "1"),
        key("boatss", "a", "1"),
        key("boats", "", "0"),
    ];
    for key in keys {
        store.create(key, data("x")).await.unwrap();
    }
    let page = store.list(boats(), None, None, None).await.unwrap();
    let stored = page.stored();
    let found: Vec<(&str, &str)> = stored
        .iter()
        .map(|item| (item.key.namespace.as_str(), item.key.name.as_str()))
        .collect();
    let all = [("", "0"), ("a", "1"), ("a", "2"), ("ab", "0"), ("b", "1")];
    assert_eq!(found, all);
    assert_eq!(page.revision, revision(&*store).await);
    assert_eq!((page.next, page.remaining), (None, 0));
    let scope = Scope {
        resource: "boats".to_owned(),
        namespace: Some("a".to_owned()),
    };
    let page = store.list(scope, None, None, None).await.unwrap();
    assert_eq!(names(&page.stored()), ["1", "2"]);
}

pub(super) async fn pages_through_one_snapshot_while_others_write(store: Arc<dyn Store>) {
    let mut expected: Vec<Stored> = Vec::new();
    for number in 0..50 {
        expected.push(create(&*store, &format!("{:02}", number * 2)).await);
    }
    let (mut at, mut after, mut found) = (None, None, Vec::new());
    let mut turn: usize = 0;
    loop {
        let page = store.list(boats(), at, after, Some(7)).await.unwrap();
        at = Some(page.revision);
        found.extend(page.stored());
        assert_eq!(page.remaining, 50 - found.len() as u64);
        // Before, at and behind the position: made, changed, deleted, made again.
        create(&*store, &format!("{:02}", turn * 2 + 1)).await;
        create(&*store, &format!("{:02}", 99 - turn * 2)).await;
        let victim = &expected[49 - turn];
        let victim = store.delete(victim.key.clone(), victim.revision, data("gone"));
        victim.await.unwrap();
        if turn.is_multiple_of(2) {
            let victim = expected[49 - turn].key.clone();
            store.create(victim, data("again")).await.unwrap();
        }
        let changed = &expected[25 - turn];
        let changed = store.update(changed.key.clone(), changed.revision, data("changed"));
        changed.await.unwrap();
        turn += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(found, expected);
    assert_eq!(turn, 8);
}

pub(super) async fn refuses_revisions_forgotten_or_to_come(store: Arc<dyn Store>) {
    for name in ["a", "b", "c"] {
        create(&*store, name).await;
    }
    let future = store.list(boats(), Some(Revision(4)), None, None).await;
    assert!(matches!(
        future,
        Err(Error::Future {
            asked: Revision(4),
            current: Revision(3)
        })
    ));
    let future = store.compact(Revision(4)).await;
    assert!(matches!(future, Err(Error::Future { .. })));
    store.compact(Revision(2)).await.unwrap();
    store.compact(Revision(1)).await.unwrap();
    let old = store.list(boats(), Some(Revision(1)), None, None).await;
    assert!(matches!(
        old,
        Err(Error::Compacted {
            asked: Revision(1),
            oldest: Revision(2)
        })
    ));
    let page = store.list(boats(), Some(Revision(2)), None, None).await;
    assert_eq!(names(&page.unwrap().stored()), ["a", "b"]);
    assert!(store.get(boat("a")).await.unwrap().is_some());
}
