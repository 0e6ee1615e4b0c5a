//! The contract on a real PostgreSQL, with one store and with several on one database.

#![allow(clippy::unwrap_used, reason = "tests")]

mod breaks;
mod failover;
mod load;
mod proxy;
mod refusals;
mod tls;

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::contract::{self, cluster::Cluster};

async fn open(address: String) -> PostgresStore {
    PostgresStore::open(Options::new(address)).await.unwrap()
}

/// The same of one that waits for a database that is started again, however long that takes.
async fn patient(address: String) -> PostgresStore {
    let mut options = Options::new(address);
    options.patience = std::time::Duration::from_secs(60);
    PostgresStore::open(options).await.unwrap()
}

/// Hands each call to the next of several stores.
struct Several {
    stores: Vec<PostgresStore>,
    turn: AtomicU32,
}

impl Several {
    async fn open(address: &str, count: usize) -> Self {
        let mut stores = Vec::new();
        for _ in 0..count {
            stores.push(open(address.to_owned()).await);
        }
        let turn = AtomicU32::new(0);
        Self { stores, turn }
    }

    fn next(&self) -> &PostgresStore {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        &self.stores[turn % self.stores.len()]
    }
}

impl Store for Several {
    fn create(&self, key: Key, data: Bytes) -> BoxFuture<'_, Result<Stored, Error>> {
        self.next().create(key, data)
    }

    fn update(
        &self,
        key: Key,
        expected: Revision,
        data: Bytes,
    ) -> BoxFuture<'_, Result<Stored, Error>> {
        self.next().update(key, expected, data)
    }

    fn delete(
        &self,
        key: Key,
        expected: Revision,
        last: Bytes,
    ) -> BoxFuture<'_, Result<Stored, Error>> {
        self.next().delete(key, expected, last)
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Stored>, Error>> {
        self.next().get(key)
    }

    fn list(
        &self,
        scope: Scope,
        at: Option<Revision>,
        after: Option<Key>,
        limit: Option<usize>,
    ) -> BoxFuture<'_, Result<Page, Error>> {
        self.next().list(scope, at, after, limit)
    }

    fn watch(
        &self,
        scope: Scope,
        from: Option<Revision>,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Event, Error>>, Error>> {
        self.next().watch(scope, from)
    }

    fn watch_route(
        &self,
        scope: Scope,
        from: Option<Revision>,
        route: Route,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Event, Error>>, Error>> {
        self.next().watch_route(scope, from, route)
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        self.next().revision()
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, Error>> {
        self.next().snapshot()
    }

    fn compact(&self, upto: Revision) -> BoxFuture<'_, Result<(), Error>> {
        self.next().compact(upto)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.next().close()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_stores_on_one_database_are_as_one() {
    let cluster = Cluster::start();
    let count = AtomicU32::new(0);
    for servers in [2, 3] {
        contract::concurrently(|| async {
            let name = format!("boats{}", count.fetch_add(1, Ordering::Relaxed));
            cluster.create(&name);
            Arc::new(Several::open(&cluster.address(&name), servers).await) as Arc<dyn Store>
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    let cluster = Cluster::start();
    let count = AtomicU32::new(0);
    contract::all(|| async {
        let name = format!("boats{}", count.fetch_add(1, Ordering::Relaxed));
        cluster.create(&name);
        Arc::new(open(cluster.address(&name)).await) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_restored_into_an_empty_database_alone() {
    let cluster = Cluster::start();
    for name in ["from", "into"] {
        cluster.create(name);
    }
    let from = open(cluster.address("from")).await;
    let snapshot = contract::worth_a_backup(&from).await;
    let address = cluster.address("into");
    restore(&address, snapshot.clone()).await.unwrap();
    let store = open(address.clone()).await;
    contract::restored(&store, &snapshot).await;
    let again = restore(&address, snapshot).await;
    assert!(matches!(again, Err(Error::NotEmpty(_))), "{again:?}");
    from.close().await.unwrap();
    store.close().await.unwrap();
}
