//! Ten thousand environments, created in a burst, on two hundred simulated hosts.
//!
//! Measures the server with everything that works on it: creates as they are accepted, placement,
//! the runners' watches and their reports, until every environment is ready. The hosts are `hosts`.
//! In truth they are machines of their own. Here they share the processors, of which they get what
//! the server and those who ask leave (they run at the lowest priority), and their disks are memory,
//! so that their files wait for no flush of the server's.
//!
//! Who looks on is a client like others: a watch that was cut begins again with a list.

use crate::api::{ENVIRONMENTS, Server, send};
use crate::calls::{Connections, begin};
use crate::figures::{Table, percentile, shown};
use crate::{hosts, process};
use boatyard_testkit::simulated;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const ENVIRONMENTS_COUNT: usize = 10_000;
const RUNNERS: usize = 200;
/// Processes that hold the hosts: each environment keeps descriptors of its own.
const PROCESSES: usize = 4;
const CLIENTS: usize = 64;
/// Longest until all are ready.
const DEADLINE: Duration = Duration::from_secs(300);
const RUNNER_OBJECTS: &str = "/apis/boatyard.dev/v1/runners";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/boatyard-runners/leases";

/// Killed when dropped.
struct Hosts(Child);

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_hosts(folder: &Path, socket: &Path, first: usize, count: usize) -> Hosts {
    let log = std::fs::File::create(folder.join(format!("hosts-{first}.log"))).unwrap();
    let mut command = Command::new("nice");
    command
        .args(["-n", "19"])
        .arg(std::env::current_exe().unwrap());
    command.arg(hosts::ARGUMENT).arg(folder).arg(socket);
    let child = command
        .args([first.to_string(), count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    Hosts(child.unwrap())
}

fn environment(name: &str) -> Bytes {
    format!(r#"{{"apiVersion":"boatyard.dev/v1","kind":"Environment","metadata":{{"name":"{name}"}},"spec":{{"devcontainer":{{"image":"{}"}}}}}}"#, simulated::IMAGE).into()
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// What was seen of the environments, and when first.
#[derive(Default)]
struct Seen {
    ready: HashMap<String, Instant>,
    bound: HashMap<String, (String, Instant)>,
    events: usize,
    /// Watches that were cut because events came faster than they were read.
    cuts: usize,
}

impl Seen {
    fn note(&mut self, object: &Value, at: Instant) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(runner) = object["spec"]["runnerName"].as_str()
            && !self.bound.contains_key(name)
        {
            self.bound.insert(name.to_owned(), (runner.to_owned(), at));
        }
        if is_ready(object) && !self.ready.contains_key(name) {
            self.ready.insert(name.to_owned(), at);
        }
    }
}

/// A list, and a watch of what comes after it.
async fn follow(connections: &Connections, seen: &mut Seen) -> Incoming {
    let mut sender = connections.of(0);
    let listed = send(&mut sender, "GET", ENVIRONMENTS, Bytes::new()).await;
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    let at = Instant::now();
    for object in listed["items"].as_array().unwrap() {
        seen.note(object, at);
    }
    let version = listed["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("http://boatyard{ENVIRONMENTS}?watch=true&resourceVersion={version}");
    let request = Request::get(path).body(Full::default()).unwrap();
    begin(&mut sender, request).await.into_body()
}

pub(crate) fn run(table: &mut Table) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = crate::folder();
    let disks = tempfile::Builder::new()
        .prefix("boatyard-bench-")
        .tempdir_in("/dev/shm")
        .unwrap();
    let server = Server::start(&folder.path().join("server"));
    let socket = folder.path().join("server/socket");
    let rows = runtime.block_on(async {
        let connections = server.connect(8).await;
        let mut sender = connections.of(0);
        for number in 0..RUNNERS {
            let path = format!("{RUNNER_OBJECTS}/{}/token", hosts::name(number));
            let minted = send(&mut sender, "POST", &path, Bytes::new()).await;
            let minted: Value = serde_json::from_slice(&minted).unwrap();
            std::fs::write(
                hosts::token(disks.path(), number),
                minted["token"].as_str().unwrap(),
            )
            .unwrap();
        }
        let share = RUNNERS / PROCESSES;
        let processes: Vec<Hosts> = (0..PROCESSES)
            .map(|process| start_hosts(disks.path(), &socket, process * share, share))
            .collect();
        let cpu_of_hosts = || {
            processes
                .iter()
                .map(|hosts| process::cpu(hosts.0.id()))
                .sum::<Duration>()
        };
        let began = Instant::now();
        for path in [RUNNER_OBJECTS, LEASES] {
            loop {
                let listed = send(&mut sender, "GET", path, Bytes::new()).await;
                let listed: Value = serde_json::from_slice(&listed).unwrap();
                if listed["items"]
                    .as_array()
                    .is_some_and(|items| items.len() >= RUNNERS)
                {
                    break;
                }
                assert!(began.elapsed() < DEADLINE, "the runners did not come");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let mut seen = Seen::default();
        let mut watch = follow(&connections, &mut seen).await;
        let (cpu, cpu_hosts, began) = (process::cpu(server.pid()), cpu_of_hosts(), Instant::now());
        let mut writers = JoinSet::new();
        for client in 0..CLIENTS {
            let mut sender = connections.of(1 + client % 7);
            writers.spawn(async move {
                let mut sent = Vec::new();
                for number in (client..ENVIRONMENTS_COUNT).step_by(CLIENTS) {
                    let name = format!("sim-{number}");
                    let at = Instant::now();
                    send(&mut sender, "POST", ENVIRONMENTS, environment(&name)).await;
                    sent.push((name, at));
                }
                (sent, Instant::now())
            });
        }
        let watching = async {
            let mut rest = Vec::new();
            while seen.ready.len() < ENVIRONMENTS_COUNT {
                let frame = tokio::time::timeout(DEADLINE, watch.frame()).await;
                let frame = frame.unwrap_or_else(|_| {
                    panic!("{} of {ENVIRONMENTS_COUNT} became ready", seen.ready.len())
                });
                let Some(frame) = frame else {
                    rest.clear();
                    watch = follow(&connections, &mut seen).await;
                    continue;
                };
                rest.extend_from_slice(&frame.unwrap().into_data().unwrap());
                let at = Instant::now();
                let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
                    continue;
                };
                for line in rest[..end].split(|byte| *byte == b'\n') {
                    let event: Value = serde_json::from_slice(line).unwrap();
                    // Cut: the watch ends now.
                    if event["type"] == "ERROR" {
                        assert_eq!(event["object"]["code"], 410, "{event}");
                        seen.cuts += 1;
                        continue;
                    }
                    seen.events += 1;
                    seen.note(&event["object"], at);
                }
                rest.drain(..=end);
            }
            seen
        };
        let Seen {
            ready,
            bound,
            events,
            cuts,
        } = tokio::time::timeout(DEADLINE, watching)
            .await
            .expect("not all became ready");
        let took = began.elapsed();
        let (cpu, cpu_hosts) = (process::cpu(server.pid()) - cpu, cpu_of_hosts() - cpu_hosts);
        let written = writers.join_all().await;
        let accepted = written.iter().map(|(_, end)| *end - began).max().unwrap();
        let sent: HashMap<String, Instant> =
            written.into_iter().flat_map(|(sent, _)| sent).collect();
        let mut per_runner: HashMap<&str, usize> = HashMap::new();
        for (runner, _) in bound.values() {
            *per_runner.entry(runner).or_default() += 1;
        }
        let times: Vec<Duration> = sent.iter().map(|(name, at)| ready[name] - *at).collect();
        let binding: Vec<Duration> = sent
            .iter()
            .map(|(name, at)| bound[name].1.saturating_duration_since(*at))
            .collect();
        let count = u32::try_from(ENVIRONMENTS_COUNT).unwrap();
        let row = |name: &str, value: String| format!("| {name} | {value} |");
        vec![
            row(
                "creates accepted, a second",
                format!("{:.0}", f64::from(count) / accepted.as_secs_f64()),
            ),
            row(
                "all created after, s",
                format!("{:.1}", accepted.as_secs_f64()),
            ),
            row("all ready after, s", format!("{:.1}", took.as_secs_f64())),
            row(
                "from create to bound, p50 / p99 ms",
                format!(
                    "{} / {}",
                    shown(percentile(&binding, 50)),
                    shown(percentile(&binding, 99))
                ),
            ),
            row(
                "from create to ready, p50 / p99 ms",
                format!(
                    "{} / {}",
                    shown(percentile(&times, 50)),
                    shown(percentile(&times, 99))
                ),
            ),
            row(
                "environments per runner, least / most",
                format!(
                    "{} / {}",
                    per_runner.values().min().unwrap(),
                    per_runner.values().max().unwrap()
                ),
            ),
            row("events of environments", events.to_string()),
            row(
                "watches of who looked on, cut for reading slowly",
                cuts.to_string(),
            ),
            row(
                "server's CPU per environment, ms",
                format!("{:.2}", (cpu / count).as_secs_f64() * 1e3),
            ),
            row(
                "hosts' CPU per environment, ms",
                format!("{:.2}", (cpu_hosts / count).as_secs_f64() * 1e3),
            ),
            row(
                "server's PSS at the end, MiB",
                format!("{}", process::pss(server.pid()) / 1024),
            ),
        ]
    });
    table.rows(
        "10,000 environments on 200 simulated runners",
        "| | |\n|---|---|",
        rows,
    );
}
