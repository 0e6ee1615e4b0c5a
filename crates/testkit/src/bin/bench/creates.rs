//! Durable creates: objects that are synced to the disk when their writer hears of them.
//!
//! The store is compared with etcd's put, called in this process; HTTP creates pay in addition for
//! a request, validation and an answer. Every create is of a new key. The store's processor time is
//! this whole process's, clients included.

use crate::api::{ENVIRONMENTS, Server, environment, send};
use crate::etcd::{self, Etcd};
use crate::figures::{Load, Loaded, Table};
use crate::process;
use boatyard_store::sqlite::{Options, SqliteStore};
use boatyard_store::{Key, Store};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// About what an Environment takes.
const OBJECT: usize = 1024;
/// How long each contender creates in each round.
const SPAN: Duration = Duration::from_secs(2);
/// Connections the clients share.
const CONNECTIONS: usize = 8;

static NUMBER: AtomicUsize = AtomicUsize::new(0);

fn number() -> usize {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Makes the function that creates once, for the client of this number.
type Client<'a> = Box<dyn Fn(usize) -> Box<dyn FnMut() -> BoxFuture<'static, ()> + Send> + 'a>;

/// Lets `clients` create one after another each for a while.
async fn load(clients: usize, pid: u32, client: &Client<'_>) -> Load {
    let (before, began) = (process::cpu(pid), Instant::now());
    let mut running = tokio::task::JoinSet::new();
    for number in 0..clients {
        let mut create = client(number);
        running.spawn(async move {
            let mut times = Vec::new();
            while began.elapsed() < SPAN {
                let start = Instant::now();
                create().await;
                times.push(start.elapsed());
            }
            times
        });
    }
    let times = running.join_all().await.concat();
    Load {
        times,
        span: began.elapsed(),
        cpu: process::cpu(pid) - before,
    }
}

pub(crate) fn run(rounds: usize, table: &mut Table) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = crate::folder();
    let etcd = Etcd::start(&folder.path().join("etcd"));
    let server = Server::start(&folder.path().join("server"));
    let store = SqliteStore::open(Options::new(folder.path().join("store/objects"))).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let value = Bytes::from(vec![b'x'; OBJECT]);
    for clients in [1, 64] {
        let connections = CONNECTIONS.min(clients);
        let theirs = runtime.block_on(etcd.connect(connections));
        let ours = runtime.block_on(server.connect(connections));
        let put: Client<'_> = Box::new(|client| {
            let (sender, value) = (theirs.of(client), value.clone());
            Box::new(move || {
                let (mut sender, value) = (sender.clone(), value.clone());
                let key = format!(
                    "/registry/boatyard.dev/environments/default/bench-{}",
                    number()
                );
                Box::pin(async move { etcd::put(&mut sender, &key, &value).await })
            })
        });
        let create: Client<'_> = Box::new(|_| {
            let (store, value) = (store.clone(), value.clone());
            Box::new(move || {
                let (store, value) = (store.clone(), value.clone());
                let key = Key {
                    resource: "environments.boatyard.dev".to_owned(),
                    namespace: "default".to_owned(),
                    name: format!("bench-{}", number()),
                };
                Box::pin(async move { drop(store.create(key, value).await.unwrap()) })
            })
        });
        let post: Client<'_> = Box::new(|client| {
            let sender = ours.of(client);
            Box::new(move || {
                let (mut sender, body) =
                    (sender.clone(), environment(&format!("bench-{}", number())));
                Box::pin(async move { drop(send(&mut sender, "POST", ENVIRONMENTS, body).await) })
            })
        });
        let mut contenders = [
            (Loaded::new("etcd `KV.Put` of 1 KiB, gRPC"), etcd.pid(), put),
            (
                Loaded::new("`Store::create` of 1 KiB, in this process"),
                std::process::id(),
                create,
            ),
            (
                Loaded::new("HTTP create of an Environment"),
                server.pid(),
                post,
            ),
        ];
        for round in 0..=rounds {
            for (loaded, pid, client) in &mut contenders {
                let load = runtime.block_on(load(clients, *pid, client));
                // The first round warms all of them.
                if round > 0 {
                    loaded.add(load);
                }
            }
        }
        let contenders = contenders.map(|(loaded, ..)| loaded);
        table.rates(&format!("Durable creates, {clients} clients"), &contenders);
    }
}
