//! Watches: one change to a thousand watchers, and how late an event is while others write.
//!
//! A change is timed from before it is sent until it has arrived for the last watcher. That it has is
//! counted without being read (`tally`), the servers' own processor time stands beside it.

use crate::api::{ENVIRONMENTS, Server, environment, send};
use crate::calls::{Connections, begin};
use crate::etcd::{self, Etcd};
use crate::figures::{Load, Loaded, Table};
use crate::process;
use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
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
        let (put_by, patched_by) = (etcd.connect(1).await, server.connect(1).await);
        let mut sender = patched_by.of(0);
        send(&mut sender, "POST", ENVIRONMENTS, bound("seen")).await;
        let mut watches = Vec::new();
        for client in 0..WATCHERS {
            watches.push(theirs(&to_etcd, client).await);
            watches.push(ours(&to_server, client).await);
        }
        let value = environment("seen");
        let path = format!("{ENVIRONMENTS}/seen");
        let sides = [
            (etcd.pid(), &to_etcd.tally),
            (server.pid(), &to_server.tally),
        ];
        for round in 0..=rounds {
            for (side, (pid, tally)) in sides.into_iter().enumerate() {
                tally.expect(WATCHERS);
                let (cpu, began) = (process::cpu(pid), Instant::now());
                if side == 0 {
                    let mut sender = put_by.of(0);
                    etcd::put(&mut sender, "/registry/environments/seen", &value).await;
                } else {
                    send(&mut sender, "PATCH", &path, annotated(&round.to_string())).await;
                }
                let all = tokio::time::timeout(DEADLINE, tally.all()).await;
                all.expect("a watcher was not sent the change");
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
        drop(watches);
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
