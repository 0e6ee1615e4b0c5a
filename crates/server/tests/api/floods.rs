//! Floods: too many requests, connections and watches; who sends them is told, nobody else feels it.

use crate::harness::*;
use boatyard_server::{Bound, Limits};
use futures::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/boatyard-runners/leases";

/// As runners write them: `crates/runner/src/objects.rs`.
const LEASE: Duration = Duration::from_secs(40);

/// Checks that an answer tells when to come again, in all the ways clients look for it.
#[track_caller]
fn seconds_until_again(answer: Answer) -> u64 {
    let header = answer.headers["retry-after"].to_str().unwrap().to_owned();
    let details = answer.json["details"]["retryAfterSeconds"].clone();
    answer.refused(429, "TooManyRequests");
    assert_eq!(details.to_string(), header);
    header.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_noisy_client_starves_neither_heartbeats_nor_others() {
    let server = Arc::new(Server::start().await);
    let (noisy, other) = (Who::User(2001), Who::User(2002));
    // Enough for a list to be of the level bulk.
    let there = (0..110).map(|number| format!("there-{number}"));
    join_all(there.map(async |name| server.environment(&name, "a").await)).await;
    let lease = json!({"metadata": {"name": "r1"}, "spec": {"holderIdentity": "r1"}});
    let mut runner = server.client(&server.runner()).await;
    runner.ask("POST", LEASES, lease).await.ok();

    let (refused, listed, made) =
        <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let mut flood = JoinSet::new();
    for number in 0..200 {
        let mut client = server.client(&noisy).await;
        let (refused, listed, made) = (refused.clone(), listed.clone(), made.clone());
        flood.spawn(async move {
            let mut turn = 0;
            loop {
                turn += 1;
                let (method, path, body, counter) = if turn % 4 == 0 {
                    let body = json!({"metadata": {"name": format!("noise-{number}")}, "spec": {}});
                    ("POST", ENVIRONMENTS, body, &made)
                } else {
                    ("GET", ENVIRONMENTS, Value::Null, &listed)
                };
                let answer = client.ask(method, path, body).await;
                if answer.status == 201 {
                    // So that the flood is no larger at its end than at its beginning.
                    let path = at(&format!("noise-{number}"));
                    client.ask("DELETE", &path, Value::Null).await.ok();
                }
                if answer.status.is_success() {
                    counter.fetch_add(1, Relaxed);
                } else {
                    assert!((1..=8).contains(&seconds_until_again(answer)));
                    refused.fetch_add(1, Relaxed);
                }
            }
        });
    }
    within(async {
        while refused.load(Relaxed) == 0 || made.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let (mut beats, mut others) = (Vec::new(), Vec::new());
    let mut client = server.client(&other).await;
    for turn in 0..6 {
        let began = Instant::now();
        let renewed = json!({"spec": {"leaseTransitions": turn}});
        let path = format!("{LEASES}/r1");
        runner.ask("PATCH", &path, renewed).await.ok();
        beats.push(began.elapsed());
        let began = Instant::now();
        let body = json!({"metadata": {"name": format!("calm-{turn}")}, "spec": {}});
        client.ask("POST", ENVIRONMENTS, body).await.ok();
        client
            .ask("GET", &at(&format!("calm-{turn}")), Value::Null)
            .await
            .ok();
        others.push(began.elapsed());
    }
    // A list of the other's is one of many that are waited for, and comes.
    let began = Instant::now();
    let list = client.ask("GET", ENVIRONMENTS, Value::Null).await.ok();
    assert_eq!(names(&list).len(), 6);
    let waited = began.elapsed();
    flood.shutdown().await;
    beats.sort();
    others.sort();
    let noise = [&listed, &made, &refused].map(|count| count.load(Relaxed));
    let told = format!("{beats:?}, {others:?}, {waited:?}, noise {noise:?}");
    // A runner renews at a third of its lease: a heartbeat may take that long and none is missed.
    assert!(beats[5] < LEASE / 3, "{told}");
    assert!(others[5] < LEASE / 3, "{told}");
    // The flood was one: it was both served and refused, all the time.
    assert!(noise.iter().all(|count| *count > 0), "{told}");

    // Who comes again as told gets in.
    let mut client = server.client(&noisy).await;
    within(async {
        loop {
            let answer = client.ask("GET", ENVIRONMENTS, Value::Null).await;
            if answer.status == 200 {
                break;
            }
            let seconds = seconds_until_again(answer);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn connections_of_one_identity_are_bounded_and_others_get_in() {
    let server = Server::limited(Limits {
        connections: Bound { each: 4, all: 8 },
        ..Limits::default()
    })
    .await;
    let ann = Who::User(2001);
    let mut anns = Vec::new();
    for _ in 0..4 {
        let mut client = server.client(&ann).await;
        client.ask("GET", "/version", Value::Null).await.ok();
        anns.push(client);
    }
    let refused = server.ask(&ann, "GET", "/version", Value::Null).await;
    assert_eq!(refused.headers["connection"], "close");
    seconds_until_again(refused);
    server.get("/version").await.ok();
    // Those that are open go on, and one that ends makes room.
    for client in &mut anns {
        client.ask("GET", "/version", Value::Null).await.ok();
    }
    drop(anns.pop());
    within(async {
        while !server
            .ask(&ann, "GET", "/version", Value::Null)
            .await
            .status
            .is_success()
        {}
    })
    .await;
}

#[tokio::test]
async fn thousands_of_watches_of_one_client_are_bounded_and_others_watch_on() {
    let server = Server::limited(Limits {
        watches: Bound { each: 50, all: 80 },
        ..Limits::default()
    })
    .await;
    let ann = Who::User(2001);
    let path = format!("{ENVIRONMENTS}?watch=true&resourceVersion=1");
    let mut watches = Vec::new();
    for _ in 0..50 {
        watches.push(server.watch(&ann, &path).await);
    }
    for _ in 0..20 {
        seconds_until_again(server.ask(&ann, "GET", &path, Value::Null).await);
    }
    let mut others = Vec::new();
    for uid in [2002, 2003, 2004] {
        for _ in 0..10 {
            others.push(server.watch(&Who::User(uid), &path).await);
        }
    }
    // Now all places are taken.
    seconds_until_again(server.get(&path).await);
    let body = json!({"metadata": {"name": "one"}, "spec": {}});
    server.ask(&ann, "POST", ENVIRONMENTS, body).await.ok();
    for watch in &mut watches {
        assert_eq!(watch.told().await, "ADDED one");
    }
    drop(watches);
    within(async {
        while server
            .ask(
                &ann,
                "GET",
                &format!("{path}&timeoutSeconds=1"),
                Value::Null,
            )
            .await
            .status
            != 200
        {}
    })
    .await;
}
