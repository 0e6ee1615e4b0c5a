//! Standbys promoted, with and without the last writes, and databases set back: nothing answered
//! is lost where replication is synchronous, and nobody goes on from what is gone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;

use super::super::*;
use super::load::{Load, boat, boats};
use super::{open, patient};
use crate::contract::cluster::Cluster;

/// Both clusters, wherever the primary is.
fn either(one: &Cluster, other: &Cluster) -> String {
    let (one, other) = (one.host(), other.host());
    let hosts = format!("host={}&host={}", one.display(), other.display());
    format!("postgres://postgres@/boats?{hosts}")
}

fn wait(condition: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !condition() {
        assert!(since.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_synchronous_standby_promoted_under_load_has_all_that_was_answered() {
    let mut primary = Cluster::start();
    primary.create("boats");
    let standby = primary.standby("second");
    primary.configure("synchronous_standby_names = 'second'\n");
    primary.reload();
    let state = "SELECT sync_state FROM pg_stat_replication";
    wait(|| primary.sql("postgres", state) == "sync");
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(patient(either(&primary, &standby)).await));
    }
    let load = Load::start(&stores, false).await;
    load.go_on(300).await;
    primary.stop("immediate");
    standby.promote();
    load.go_on(300).await;
    // At most what was under way may have an outcome nobody knows.
    assert!(load.unavailable.load(Ordering::Relaxed) <= 12);
    // The former primary comes back by itself, as one: nobody falls for it.
    primary.go();
    standby.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'boatyard'",
    );
    load.go_on(300).await;
    primary.stop("immediate");
    let (answered, seen) = load.end().await;
    // What the log says of before the promotion is forgotten; each object is at its last answer.
    let fresh = open(standby.address("boats")).await;
    let page = fresh.list(boats(), None, None, None).await.unwrap();
    assert!(page.revision > Revision(1_000_000_000));
    let contents: std::collections::BTreeMap<_, _> = page
        .stored()
        .into_iter()
        .map(|item| (item.key.name, (item.revision.0, item.data)))
        .collect();
    let mut last = std::collections::BTreeMap::new();
    for (revision, (change, name, data)) in answered {
        last.insert(name, (change, revision, data));
    }
    assert_eq!(last.len(), 12);
    for (name, (change, revision, data)) in last {
        match contents.get(&name) {
            None => assert_eq!(change, crate::Change::Deleted, "{name} is lost"),
            Some(found) => assert_eq!(found, &(revision, data), "{name}"),
        }
    }
    // Each watcher was told once to list again, and knows what is there.
    for seen in seen {
        assert_eq!(seen.relists, 1);
        assert_eq!(seen.contents, contents);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_that_lost_writes_is_noticed_and_nobody_goes_on_from_them() {
    let mut primary = Cluster::start();
    primary.create("boats");
    let standby = primary.standby("second");
    let store = open(either(&primary, &standby)).await;
    let data = Bytes::from_static(b"{}");
    let kept = store.create(boat("kept"), data.clone()).await.unwrap();
    let written = primary.sql("postgres", "SELECT pg_current_wal_lsn()");
    let there = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
    wait(|| standby.sql("postgres", &there) == "t");
    // It stops following.
    standby.configure("primary_conninfo = ''\n");
    standby.reload();
    wait(|| standby.sql("postgres", "SELECT count(*) FROM pg_stat_wal_receiver") == "0");
    let lost = store.create(boat("lost"), data.clone()).await.unwrap();
    let mut watch = store.watch(boats(), Some(kept.revision)).await.unwrap();
    assert_eq!(*watch.next().await.unwrap().unwrap().object, lost);
    primary.stop("immediate");
    standby.promote();
    assert_eq!(store.get(boat("lost")).await.unwrap(), None);
    assert_eq!(store.get(boat("kept")).await.unwrap(), Some(kept.clone()));
    let end = watch.next().await.unwrap();
    assert!(matches!(end, Err(Error::Lagged(at)) if at == lost.revision));
    assert!(watch.next().await.is_none());
    // As many writes as were lost, and more: nobody can mistake one for another.
    for name in ["x", "y", "z"] {
        let made = store.create(boat(name), data.clone()).await.unwrap();
        assert!(made.revision > Revision(1_000_000_000));
    }
    let fresh = open(standby.address("boats")).await;
    for store in [&store, &fresh] {
        for from in [kept.revision, lost.revision] {
            let resumed = store.watch(boats(), Some(from)).await;
            assert!(matches!(resumed.err(), Some(Error::Compacted { .. })));
            let listed = store.list(boats(), Some(from), None, None).await;
            assert!(matches!(listed.err(), Some(Error::Compacted { .. })));
        }
    }
    // What is older than the promotion is changed as before.
    let changed = store.update(boat("kept"), kept.revision, data).await;
    assert!(changed.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_set_back_behind_a_servers_back_is_noticed() {
    let cluster = Cluster::start();
    cluster.create("boats");
    let store = open(cluster.address("boats")).await;
    let other = open(cluster.address("boats")).await;
    let data = Bytes::from_static(b"{}");
    for name in ["a", "b", "c"] {
        store.create(boat(name), data.clone()).await.unwrap();
    }
    let set_back = "BEGIN; DELETE FROM boatyard.versions WHERE revision = 3;
        UPDATE boatyard.header SET revision = 2; COMMIT";
    let mut watch = other.watch(boats(), None).await.unwrap();
    cluster.sql("boats", set_back);
    // By a reader and by a writer at once: one new epoch begins.
    let (read, made) = tokio::join!(other.get(boat("c")), store.create(boat("d"), data.clone()));
    assert_eq!(read.unwrap(), None);
    let made = made.unwrap().revision.0;
    assert!((1_000_000_000..1_999_999_999).contains(&made), "{made}");
    assert!(matches!(watch.next().await, Some(Err(Error::Lagged(_)))));
    // As far as before, but with other contents.
    let diverged = "UPDATE boatyard.header SET chain = chain # 1";
    cluster.sql("boats", diverged);
    let made = store.create(boat("e"), data).await.unwrap().revision.0;
    assert!(made > 2_000_000_000, "{made}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_dump_begins_a_new_history() {
    let cluster = Cluster::start();
    cluster.create("boats");
    let store = open(cluster.address("boats")).await;
    let data = Bytes::from_static(b"{}");
    let made = store.create(boat("a"), data.clone()).await.unwrap();
    store.close().await.unwrap();
    // As `pg_restore` makes it: the same rows in another database.
    cluster.sql("postgres", "CREATE DATABASE copy TEMPLATE boats");
    cluster.sql("copy", "CREATE TABLE copied AS TABLE boatyard.versions");
    cluster.sql(
        "copy",
        "DROP TABLE boatyard.versions; ALTER TABLE copied SET SCHEMA boatyard;
            ALTER TABLE boatyard.copied RENAME TO versions;
            ALTER TABLE boatyard.versions ADD PRIMARY KEY (revision)",
    );
    let copy = open(cluster.address("copy")).await;
    assert_eq!(copy.get(boat("a")).await.unwrap(), Some(made.clone()));
    let resumed = copy.watch(boats(), Some(made.revision)).await;
    assert!(matches!(resumed.err(), Some(Error::Compacted { .. })));
    let next = copy.create(boat("b"), data).await.unwrap();
    assert_eq!(next.revision, Revision(1_000_000_002));
}
