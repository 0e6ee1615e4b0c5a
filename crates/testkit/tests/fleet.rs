//! A fleet that converges while the servers that lead it are killed.
//!
//! Three servers on one database behind one address, real runners on simulated hosts, environments
//! made in a burst. The server that runs the controllers is killed with SIGKILL twice. What is
//! asserted is what a user counts on: everything made becomes ready, on one runner each, and no two
//! servers ever ran the controllers at once.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_store::contract::cluster::Cluster;
use boatyard_testkit::simulated::{Hosts, IMAGE};
use boatyard_testkit::{Client, Front, Server};
use futures::StreamExt;
use futures::future::join_all;
use jiff::Timestamp;
use kube::core::{DynamicObject, WatchEvent};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const ENVIRONMENTS: &str = "/apis/boatyard.dev/v1/namespaces/default/environments";
const RUNNERS: &str = "/apis/boatyard.dev/v1/runners";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/boatyard-system/leases";
const HOSTS: usize = 20;
const COUNT: usize = 300;
/// Clients that make them.
const CLIENTS: usize = 8;
/// How many are ready when the leader is killed.
const KILLS: [usize; 2] = [60, 180];
const DEADLINE: Duration = Duration::from_secs(150);

/// What a watch of everything was shown.
#[derive(Default)]
struct Seen {
    ready: BTreeSet<String>,
    /// Every runner an environment was ever bound to.
    runners: BTreeMap<String, BTreeSet<String>>,
    deleted: Vec<String>,
}

impl Seen {
    fn note(&mut self, object: &DynamicObject) {
        let name = object.metadata.name.clone().unwrap();
        let conditions = object.data["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        if let Some(runner) = object.data["spec"]["runnerName"].as_str() {
            let runners = self.runners.entry(name.clone()).or_default();
            runners.insert(runner.to_owned());
        }
        if ready {
            self.ready.insert(name);
        }
    }
}

/// Shows every change of a collection after the version to `shown`, over servers that go.
async fn follow(
    client: &Client,
    path: &str,
    mut version: String,
    mut shown: impl FnMut(&WatchEvent<DynamicObject>),
) {
    loop {
        let path = format!("{path}?watch=true&resourceVersion={version}");
        if let Some(mut events) = client.watch(&path).await {
            while let Some(event) = events.next().await {
                match &event {
                    WatchEvent::Added(object)
                    | WatchEvent::Modified(object)
                    | WatchEvent::Deleted(object) => {
                        version = object.metadata.resource_version.clone().unwrap();
                    }
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(status) => panic!("a watch was cut: {status:?}"),
                }
                shown(&event);
            }
        }
        client.ready().await;
    }
}

async fn version(client: &Client, path: &str) -> String {
    let listed = client.get(path).await;
    listed["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Makes an environment, however often it takes.
async fn make(client: &Client, name: &str) {
    let object = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment",
        "metadata": {"name": name}, "spec": {"devcontainer": {"image": IMAGE}}});
    loop {
        match client
            .send("POST", ENVIRONMENTS, Some(object.clone()))
            .await
        {
            Some((201, _)) => return,
            // The answer to an earlier attempt was lost.
            Some((409, answer)) if answer["reason"] == "AlreadyExists" => return,
            Some((code, answer)) if code < 500 && code != 429 => panic!("{code}: {answer}"),
            _ => client.ready().await,
        }
    }
}

/// One version of the Lease on the controllers.
#[derive(Debug)]
struct Held {
    holder: String,
    acquired: Timestamp,
    renewed: Timestamp,
    lasts: i64,
}

fn held(object: &DynamicObject) -> Option<Held> {
    let spec = &object.data["spec"];
    let time = |name: &str| spec[name].as_str()?.parse().ok();
    Some(Held {
        holder: spec["holderIdentity"].as_str()?.to_owned(),
        acquired: time("acquireTime")?,
        renewed: time("renewTime")?,
        lasts: spec["leaseDurationSeconds"].as_i64()?,
    })
}

/// Whether a server says that it runs the controllers.
async fn leads(client: &Client) -> bool {
    let metrics = client.text("GET", "/metrics", None).await;
    let metrics = metrics.map(|(_, text)| String::from_utf8(text).unwrap());
    metrics.is_some_and(|text| {
        text.lines()
            .any(|line| line.ends_with("controllers_leading 1"))
    })
}

/// How often another took over.
fn changes(lease: &[Held]) -> usize {
    let pairs = lease.windows(2);
    pairs
        .filter(|pair| pair[0].holder != pair[1].holder)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_environment_becomes_ready_though_the_leading_server_is_killed_twice() {
    let folder = tempfile::tempdir().unwrap();
    let database = Cluster::start();
    database.create("boatyard");
    let address = database.address("boatyard");
    let start = |name| Server::start(&folder.path().join(name), &["--database", &address]);
    let servers = vec![start("a"), start("b"), start("c")];
    let front = Front::open(servers.iter().map(Server::address).collect()).await;
    let (token, authority) = servers[0].credentials();
    let client = Client::of(&front, &token, &authority);
    let alone: Vec<Client> = servers
        .iter()
        .map(|server| Client::new(server.address(), &token, &authority))
        .collect();
    let ids: Vec<String> = servers
        .iter()
        .map(|server| std::fs::read_to_string(server.state().join("server-id")).unwrap())
        .collect();
    let servers = Arc::new(Mutex::new(servers));

    let mut hosts = Hosts::open(folder.path(), "all").await;
    for number in 0..HOSTS {
        let name = format!("host-{number}");
        let path = format!("{RUNNERS}/{name}/token");
        let (code, minted) = client.send("POST", &path, None).await.unwrap();
        assert_eq!(code, 200, "{minted}");
        hosts.start(&name, client.endpoint(minted["token"].as_str().unwrap()));
    }

    let (environments, leases) = (
        version(&client, ENVIRONMENTS).await,
        version(&client, LEASES).await,
    );
    let (count, changed) = (watch::Sender::new(0), watch::Sender::new(0));
    // The first to lead may be killed before it renews its lease.
    let first = client.get(&format!("{LEASES}/controllers")).await;
    let first: DynamicObject = serde_json::from_value(first).unwrap();
    let (mut seen, mut lease) = (Seen::default(), Vec::from_iter(held(&first)));
    // Times at which two servers said that they lead.
    let doubled = Mutex::new(Vec::new());
    {
        let watching = follow(&client, ENVIRONMENTS, environments, |event| match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                seen.note(object);
                count.send_replace(seen.ready.len());
            }
            WatchEvent::Deleted(object) => seen.deleted.extend(object.metadata.name.clone()),
            _ => {}
        });
        let electing = follow(&client, LEASES, leases, |event| {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
                && object.metadata.name.as_deref() == Some("controllers")
            {
                lease.extend(held(object));
                changed.send_replace(changes(&lease));
            }
        });
        let asking = async {
            loop {
                let leading = join_all(alone.iter().map(leads)).await;
                if leading.iter().filter(|leads| **leads).count() > 1 {
                    doubled.lock().unwrap().push(Timestamp::now());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let making = join_all((0..CLIENTS).map(async |number| {
            let client = client.apart();
            for number in (number..COUNT).step_by(CLIENTS) {
                make(&client, &format!("env-{number}")).await;
            }
        }));
        let killing = async {
            for ready in KILLS {
                let mut so_far = count.subscribe();
                so_far.wait_for(|so_far| *so_far >= ready).await.unwrap();
                let lease = client.get(&format!("{LEASES}/controllers")).await;
                let holder = lease["spec"]["holderIdentity"].as_str().unwrap();
                let leader = ids
                    .iter()
                    .position(|id| holder.contains(id.trim()))
                    .unwrap();
                servers.lock().unwrap()[leader].kill();
                // It comes back when another leads.
                let took_over = async {
                    while !join_all(alone.iter().map(leads)).await.contains(&true) {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                };
                took_over.await;
                let servers = servers.clone();
                let again =
                    tokio::task::spawn_blocking(move || servers.lock().unwrap()[leader].again());
                again.await.unwrap();
            }
        };
        let all = async {
            let mut so_far = count.subscribe();
            tokio::join!(making, killing);
            so_far.wait_for(|so_far| *so_far == COUNT).await.unwrap();
            // The watch may tell later than the servers did.
            let mut led = changed.subscribe();
            led.wait_for(|led| *led >= KILLS.len()).await.unwrap();
        };
        let began = Instant::now();
        let ended = tokio::select! {
            ended = tokio::time::timeout(DEADLINE, all) => ended.is_ok(),
            () = async { tokio::join!(watching, electing, asking); } => false,
        };
        assert!(
            ended,
            "{} of {COUNT} are ready after {:?}",
            *count.borrow(),
            began.elapsed()
        );
    }

    // Nothing is lost, or was ever elsewhere.
    let listed = client.get(ENVIRONMENTS).await;
    let items = listed["items"].as_array().unwrap();
    let names: BTreeSet<&str> = items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    let wanted: Vec<String> = (0..COUNT).map(|number| format!("env-{number}")).collect();
    assert_eq!(names, wanted.iter().map(String::as_str).collect());
    assert_eq!(seen.deleted, Vec::<String>::new());
    for (name, runners) in &seen.runners {
        assert_eq!(runners.len(), 1, "{name} was bound to {runners:?}");
    }
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for item in items {
        let runner = item["spec"]["runnerName"].as_str().unwrap();
        *shares.entry(runner).or_default() += 1;
    }
    assert_eq!(shares.len(), HOSTS, "{shares:?}");

    // One led at a time: who took over waited until the other's lease had run out.
    assert_eq!(*doubled.lock().unwrap(), [], "two servers led at once");
    for pair in lease.windows(2) {
        if pair[0].holder == pair[1].holder {
            assert_eq!(pair[0].acquired, pair[1].acquired);
            continue;
        }
        let over = pair[0].renewed + Duration::from_secs(pair[0].lasts.unsigned_abs());
        assert!(pair[1].acquired >= over, "{pair:?}");
    }
    assert_eq!(changes(&lease), KILLS.len(), "{lease:?}");
    hosts.end().await;
}
