//! Connections that break, backends that are ended, a database that is killed: writers and
//! watchers notice nothing.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures::StreamExt;

use super::super::*;
use super::load::{self, Load, boat, boats};
use super::proxy::Proxy;
use super::{open, patient};
use crate::Change;
use crate::contract::cluster::Cluster;

/// A number below `below`, another one each time.
fn random(below: u64) -> u64 {
    RandomState::new().hash_one(0) % below
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_may_break_at_any_message() {
    let cluster = Cluster::start();
    cluster.create("boats");
    let proxy = Proxy::start(&cluster);
    let store = open(proxy.address("boats")).await;
    let other = open(cluster.address("boats")).await;
    let mut watch = other.watch(boats(), None).await.unwrap();
    let mut own = store.watch(boats(), None).await.unwrap();
    let mut cuts: u64 = 0;
    loop {
        proxy.cut_after(cuts);
        let name = cuts.to_string();
        let data = Bytes::from_static(b"{}");
        let made = store.create(boat(&name), data.clone()).await.unwrap();
        let changed = store.update(boat(&name), made.revision, data.clone());
        let changed = changed.await.unwrap();
        let read = store.get(boat(&name)).await.unwrap();
        assert_eq!(read.as_ref(), Some(&changed));
        let gone = store.delete(boat(&name), changed.revision, data);
        let gone = gone.await.unwrap();
        // Nothing is between them: nothing happened twice.
        assert_eq!(gone.revision.0, 3 * (cuts + 1));
        for (change, stored) in [
            (Change::Created, made),
            (Change::Updated, changed),
            (Change::Deleted, gone),
        ] {
            for watch in [&mut watch, &mut own] {
                let event = watch.next().await.unwrap().unwrap();
                assert_eq!((event.change, &*event.object), (change, &stored));
            }
        }
        if !proxy.is_over() {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 50, "{cuts} messages are too few for three writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stalls_in_a_transaction_stops_the_others_only_for_seconds() {
    let cluster = Cluster::start();
    // Up to and past the last message of a write; a dozen at a time, for the connections' sake.
    for first in [0, 12, 24] {
        let stalls = (first..first + 12).map(|more| stall(&cluster, more));
        futures::future::join_all(stalls).await;
    }
}

/// A server whose connection stalls at the message after `more` further ones of a write, beside
/// another server.
async fn stall(cluster: &Cluster, more: u64) {
    let database = format!("boats{more}");
    cluster.create(&database);
    let proxy = Proxy::start(cluster);
    let store = open(proxy.address(&database)).await;
    let other = patient(cluster.address(&database)).await;
    let data = Bytes::from_static(b"{}");
    store.create(boat("a"), data.clone()).await.unwrap();
    proxy.stall_after(more);
    let (stalled, (blocked, waited)) = tokio::join!(store.create(boat("c"), data.clone()), async {
        while !proxy.is_over() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let started = Instant::now();
        let made = other.create(boat("d"), data.clone()).await;
        (made, started.elapsed())
    });
    blocked.unwrap();
    assert!(waited < Duration::from_secs(30), "{more}: {waited:?}");
    stalled.unwrap();
    assert_eq!(other.revision().await.unwrap(), Revision(3), "{more}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_ended_at_random_under_load_are_not_noticed() {
    let cluster = Cluster::start();
    cluster.create("boats");
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(open(cluster.address("boats")).await));
    }
    let load = Load::start(&stores, true).await;
    for _ in 0..60 {
        load.go_on(random(40)).await;
        cluster.sql(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'boatyard' ORDER BY random() LIMIT 2",
        );
    }
    load.go_on(50).await;
    let (answered, seen) = load.end().await;
    assert!(answered.len() > 500, "{}", answered.len());
    load::compare(cluster.address("boats"), Revision(0), &answered, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_killed_and_started_again_is_waited_for() {
    let mut cluster = Cluster::start();
    cluster.create("boats");
    let mut stores = Vec::new();
    for _ in 0..2 {
        stores.push(Arc::new(patient(cluster.address("boats")).await));
    }
    let load = Load::start(&stores, true).await;
    for round in 0..6 {
        load.go_on(100 + random(100)).await;
        if round % 2 == 0 {
            cluster.kill();
        } else {
            cluster.stop("immediate");
        }
        // What memory holds is served meanwhile.
        let page = stores[0].list(boats(), Some(Revision(1)), None, None).await;
        assert_eq!(page.unwrap().items.len(), 1);
        cluster.go();
    }
    load.go_on(50).await;
    let (answered, seen) = load.end().await;
    load::compare(cluster.address("boats"), Revision(0), &answered, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stays_away_is_named_and_comes_back() {
    let mut cluster = Cluster::start();
    cluster.create("boats");
    let mut options = Options::new(cluster.address("boats"));
    options.patience = Duration::from_millis(300);
    let store = PostgresStore::open(options).await.unwrap();
    let data = Bytes::from_static(b"{}");
    let made = store.create(boat("a"), data.clone()).await.unwrap();
    let mut watch = store.watch(boats(), Some(made.revision)).await.unwrap();
    cluster.stop("immediate");
    // Until it has tried to reach it once, it only knows that nobody answers.
    loop {
        let read = store.get(boat("a")).await.unwrap_err().to_string();
        if read.contains("cannot be reached") {
            break;
        }
        assert!(read.contains("did not answer in time"), "{read}");
    }
    let refused = store.create(boat("b"), data.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
    let page = store.list(boats(), Some(made.revision), None, None).await;
    assert_eq!(page.unwrap().items.len(), 1);
    cluster.go();
    let made = loop {
        match store.create(boat("c"), data.clone()).await {
            Ok(made) => break made,
            Err(Error::Unavailable { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(*watch.next().await.unwrap().unwrap().object, made);
    store.close().await.unwrap();
    assert!(watch.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_forgotten_on_all_servers_by_whichever_is_first() {
    let cluster = Cluster::start();
    cluster.create("boats");
    let mut stores = Vec::new();
    for _ in 0..3 {
        let mut options = Options::new(cluster.address("boats"));
        options.history_rows = 64;
        options.history_bytes = 1 << 30;
        stores.push(Arc::new(PostgresStore::open(options).await.unwrap()));
    }
    let load = Load::start(&stores, true).await;
    load.go_on(2000).await;
    let (answered, _) = load.end().await;
    let last = Revision(answered.len() as u64 + 1);
    let rows: u64 = cluster
        .sql("boats", "SELECT count(*) FROM boatyard.versions")
        .parse()
        .unwrap();
    assert!(rows < 200, "{rows}");
    for store in stores {
        assert_eq!(store.revision().await.unwrap(), last);
        let old = store.watch(boats(), Some(Revision(1))).await;
        assert!(matches!(old.err(), Some(Error::Compacted { .. })));
        store.close().await.unwrap();
    }
    // What is left is whole.
    let store = open(cluster.address("boats")).await;
    assert_eq!(store.revision().await.unwrap(), last);
}
