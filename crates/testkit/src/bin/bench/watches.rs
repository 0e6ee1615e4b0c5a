//! Watches: one change to a thousand watchers, and how late an event is while others write.
//!
//! A change is timed from before it is sent until the last watcher has read it; what the thousand
//! readers cost is in both contenders' times, the servers' own processor time stands beside them.

use crate::api::{ENVIRONMENTS, Server, environment, send};
use crate::calls::{Connections, begin};
use crate::etcd::{self, Etcd};
use crate::figures::{Load, Loaded, Table};
use crate::process;
use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

const WATCHERS: usize = 1000;
const CONNECTIONS: usize = 8;
/// Objects there are while events are timed.
const OBJECTS: usize = 10_000;
/// Between two writes: 200 a second.
const PACE: Duration = Duration::from_millis(5);
/// Writes that are timed.
const WRITES: usize = 2_000;
/// Longest until every watcher has a change.
const DEADLINE: Duration = Duration::from_secs(60);
/// Stands before the number of a write in what is written.
const MARK: &[u8] = b"write-";

/// One watch of either side.
enum Watch {
    Theirs(etcd::Watch),
    Ours(Incoming),
}

impl Watch {
    /// Everything up to the end of an event.
    async fn next(&mut self) -> Bytes {
        let body = match self {
            Self::Theirs(watch) => return watch.next().await,
            Self::Ours(body) => body,
        };
        let mut line = BytesMut::new();
        while !line.ends_with(b"\n") {
            let frame = body.frame().await.expect("the watch ended").unwrap();
            line.extend_from_slice(&frame.into_data().unwrap());
        }
        line.freeze()
    }
}

async fn ours(connections: &Connections, client: usize) -> Watch {
    // After the newest version: without the objects there are.
    let mut sender = connections.of(client);
    let listed = send(
        &mut sender,
        "GET",
        &format!("{ENVIRONMENTS}?limit=1"),
        Bytes::new(),
    )
    .await;
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    let version = listed["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("http://boatyard{ENVIRONMENTS}?watch=true&resourceVersion={version}");
    let request = Request::get(path).body(Full::default()).unwrap();
    let response = begin(&mut sender, request).await;
    assert_eq!(response.status(), 200);
    Watch::Ours(response.into_body())
}

async fn theirs(connections: &Connections, client: usize) -> Watch {
    Watch::Theirs(etcd::Watch::open(&mut connections.of(client), "/registry/", "/registry0").await)
}

fn annotated(text: &str) -> Bytes {
    format!(r#"{{"metadata":{{"annotations":{{"example.com/note":"{text}"}}}}}}"#).into()
}

/// One change to all watchers.
pub(crate) fn fan_out(rounds: usize, table: &mut Table) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = crate::folder();
    let etcd = Etcd::start(&folder.path().join("etcd"));
    let server = Server::start(&folder.path().join("server"));
    let mut contenders = [
        Loaded::new("etcd, 1,000 watch streams"),
        Loaded::new("Boatyard, 1,000 HTTP watches"),
    ];
    runtime.block_on(async {
        let (to_etcd, to_server) = (
            etcd.connect(CONNECTIONS).await,
            server.connect(CONNECTIONS).await,
        );
        let mut sender = to_server.of(0);
        send(&mut sender, "POST", ENVIRONMENTS, bound("seen")).await;
        let seen = [(); 2].map(|()| Arc::new((AtomicUsize::new(0), Notify::new())));
        let mut readers = JoinSet::new();
        for client in 0..WATCHERS {
            let watches = [
                theirs(&to_etcd, client).await,
                ours(&to_server, client).await,
            ];
            for (mut watch, seen) in watches.into_iter().zip(seen.clone()) {
                readers.spawn(async move {
                    loop {
                        watch.next().await;
                        if seen.0.fetch_add(1, Ordering::Relaxed) + 1 == WATCHERS {
                            seen.1.notify_one();
                        }
                    }
                });
            }
        }
        let value = environment("seen");
        let path = format!("{ENVIRONMENTS}/seen");
        for round in 0..=rounds {
            for (side, pid) in [etcd.pid(), server.pid()].into_iter().enumerate() {
                seen[side].0.store(0, Ordering::Relaxed);
                let (cpu, began) = (process::cpu(pid), Instant::now());
                if side == 0 {
                    etcd::put(&mut to_etcd.of(0), "/registry/environments/seen", &value).await;
                } else {
                    send(&mut sender, "PATCH", &path, annotated(&round.to_string())).await;
                }
                let all = tokio::time::timeout(DEADLINE, seen[side].1.notified()).await;
                all.expect("a watcher did not see the change");
                let took = began.elapsed();
                if round > 0 {
                    let cpu = process::cpu(pid) - cpu;
                    contenders[side].add(Load {
                        times: vec![took],
                        span: took,
                        cpu,
                    });
                }
            }
        }
        readers.shutdown().await;
    });
    table.rates("One change to 1,000 watchers", &contenders);
}

/// An Environment that no scheduler looks at.
fn bound(name: &str) -> Bytes {
    let mut object: serde_json::Value = serde_json::from_slice(&environment(name)).unwrap();
    object["spec"]["runnerName"] = "elsewhere".into();
    object.to_string().into()
}

/// Makes the objects that are there while others are written.
async fn fill(to_etcd: &Connections, to_server: &Connections) {
    let mut writers = JoinSet::new();
    for client in 0..64 {
        let (mut etcd, mut server) = (to_etcd.of(client), to_server.of(client));
        writers.spawn(async move {
            for number in (client..OBJECTS).step_by(64) {
                let name = format!("bench-{number}");
                etcd::put(&mut etcd, &format!("/registry/{name}"), &bound(&name)).await;
                send(&mut server, "POST", ENVIRONMENTS, bound(&name)).await;
            }
        });
    }
    writers.join_all().await;
}

/// The numbers after the marks; several events may come at once.
fn numbers(events: &[u8]) -> impl Iterator<Item = usize> {
    let marks = events.windows(MARK.len()).enumerate();
    let marks = marks.filter(|(_, some)| *some == MARK);
    marks.map(|(at, _)| {
        let digits = events[at + MARK.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
    })
}

/// From a write's sending to the event's arrival, at a steady pace of writes.
pub(crate) fn latency(table: &mut Table) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = crate::folder();
    let etcd = Etcd::start(&folder.path().join("etcd"));
    let server = Server::start(&folder.path().join("server"));
    let mut contenders = [Loaded::new("etcd"), Loaded::new("Boatyard")];
    runtime.block_on(async {
        let (to_etcd, to_server) = (
            etcd.connect(CONNECTIONS).await,
            server.connect(CONNECTIONS).await,
        );
        fill(&to_etcd, &to_server).await;
        // A quarter each, taking turns.
        for turn in 0..8 {
            let side = turn % 2;
            let (mut watch, pid) = match side {
                0 => (theirs(&to_etcd, 0).await, etcd.pid()),
                _ => (ours(&to_server, 0).await, server.pid()),
            };
            let (cpu, began) = (process::cpu(pid), Instant::now());
            let (arrived, mut arrivals) = mpsc::channel(WRITES);
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                loop {
                    let event = watch.next().await;
                    let at = Instant::now();
                    for number in numbers(&event) {
                        arrived.send((number, at)).await.unwrap();
                    }
                }
            });
            let mut sent = Vec::new();
            let mut pace = tokio::time::interval(PACE);
            for number in 0..WRITES / 4 {
                pace.tick().await;
                sent.push(Instant::now());
                let name = format!("bench-{}", number * 7919 % OBJECTS);
                // No text twice: a write that changes nothing is no event.
                let text = format!("write-{}.", turn * WRITES + number);
                let (mut etcd, mut server) = (to_etcd.of(number), to_server.of(number));
                tasks.spawn(async move {
                    if side == 0 {
                        let value = [bound(&name), text.into()].concat();
                        etcd::put(&mut etcd, &format!("/registry/{name}"), &value).await;
                    } else {
                        let path = format!("{ENVIRONMENTS}/{name}");
                        send(&mut server, "PATCH", &path, annotated(&text)).await;
                    }
                });
            }
            let mut times = Vec::new();
            while times.len() < sent.len() {
                let arrived = tokio::time::timeout(DEADLINE, arrivals.recv()).await;
                let (number, at) = arrived.expect("an event did not come").unwrap();
                times.push(at - sent[number - turn * WRITES]);
            }
            let span = began.elapsed();
            contenders[side].add(Load {
                times,
                span,
                cpu: process::cpu(pid) - cpu,
            });
            tasks.shutdown().await;
        }
    });
    table.rates(
        "From a write to its event, 10,000 objects, 200 writes a second",
        &contenders,
    );
}
