//! What many objects cost: listing them, holding them in memory, reading them at start.
//!
//! Objects are bound to a runner that is not there, so that no controller works on them. etcd is
//! measured twice: as its writers left it, and started again.

use crate::api::{ENVIRONMENTS, Server, environment};
use crate::calls::Connections;
use crate::etcd::{self, Etcd};
use crate::figures::{Table, percentile, shown};
use crate::process;
use boatyard_store::sqlite::{Options, SqliteStore};
use boatyard_store::{Key, Store};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const SOME: usize = 10_000;
const MANY: usize = 100_000;
const CONNECTIONS: usize = 8;

/// An Environment as it is stored once its runner has reported it ready.
fn stored(number: usize) -> String {
    let mut object: serde_json::Value =
        serde_json::from_slice(&environment(&format!("bench-{number}"))).unwrap();
    object["metadata"]["namespace"] = "default".into();
    object["metadata"]["uid"] = format!("{number:08}-0000-4000-8000-000000000000").into();
    object["metadata"]["generation"] = 2.into();
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    object["metadata"]["finalizers"] = serde_json::json!(["boatyard.dev/runner"]);
    object["spec"]["runnerName"] = "elsewhere".into();
    object["spec"]["owner"] = serde_json::json!({"user": "local:0", "uid": 0, "gid": 0});
    object.to_string()
}

/// Puts objects into a store's file, without a server.
async fn fill_store(path: &Path, count: usize) -> usize {
    let store = SqliteStore::open(Options::new(path)).unwrap();
    let store = std::sync::Arc::new(store);
    let mut writers = JoinSet::new();
    for client in 0..256 {
        let store = store.clone();
        writers.spawn(async move {
            let mut bytes = 0;
            for number in (client..count).step_by(256) {
                let key = Key {
                    resource: "environments.boatyard.dev".to_owned(),
                    namespace: "default".to_owned(),
                    name: format!("bench-{number}"),
                };
                let data = stored(number);
                bytes += data.len();
                store.create(key, data.into()).await.unwrap();
            }
            bytes
        });
    }
    let bytes = writers.join_all().await.into_iter().sum();
    store.close().await.unwrap();
    bytes
}

async fn fill_etcd(to: &Connections, count: usize) {
    let mut writers = JoinSet::new();
    for client in 0..256 {
        let mut sender = to.of(client);
        writers.spawn(async move {
            for number in (client..count).step_by(256) {
                let key = format!("/registry/boatyard.dev/environments/default/bench-{number}");
                etcd::put(&mut sender, &key, stored(number).as_bytes()).await;
            }
        });
    }
    writers.join_all().await;
}

/// Waits until a process rests, so that what it does after its start is not missed.
fn at_rest(pid: u32) {
    let mut before = process::cpu(pid);
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = process::cpu(pid);
        if now - before <= Duration::from_millis(40) {
            return;
        }
        before = now;
    }
}

fn mebibytes(kibibytes: u64) -> String {
    format!(
        "{:.1}",
        f64::from(u32::try_from(kibibytes).unwrap()) / 1024.0
    )
}

pub(crate) fn run(table: &mut Table) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = crate::folder();
    let mut memory = Vec::new();
    let mut starts = Vec::new();
    for count in [0, SOME, MANY] {
        let (ours, theirs) = (
            folder.path().join(format!("server-{count}")),
            folder.path().join(format!("etcd-{count}")),
        );
        let bytes = runtime.block_on(fill_store(&ours.join("state/server/boatyard.db"), count));
        let etcd = Etcd::start(&theirs);
        runtime.block_on(async { fill_etcd(&etcd.connect(CONNECTIONS).await, count).await });
        at_rest(etcd.pid());
        let written = process::pss(etcd.pid());
        drop(etcd);
        let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
        let (mut our_cpu, mut their_cpu) = (Vec::new(), Vec::new());
        let (mut server, mut etcd) = (None, None);
        for _ in 0..3 {
            drop((server.take(), etcd.take()));
            let began = Instant::now();
            let started = Etcd::start(&theirs);
            their_times.push(began.elapsed());
            their_cpu.push(process::cpu(started.pid()));
            etcd = Some(started);
            let (started, took) = Server::start_timed(&ours);
            our_cpu.push(process::cpu(started.pid()));
            server = Some(started);
            our_times.push(took);
        }
        let (server, etcd) = (server.unwrap(), etcd.unwrap());
        starts.push(format!(
            "| {count} objects | {} | {} | {} | {} |",
            shown(percentile(&their_times, 50)),
            shown(percentile(&their_cpu, 50)),
            shown(percentile(&our_times, 50)),
            shown(percentile(&our_cpu, 50))
        ));
        at_rest(etcd.pid());
        at_rest(server.pid());
        let mut row = |name: &str, pss: u64| {
            memory.push(format!(
                "| {name} | {count} | {} | {} |",
                mebibytes(bytes as u64 / 1024),
                mebibytes(pss)
            ));
        };
        row("etcd, as its writers left it", written);
        row("etcd, started again", process::pss(etcd.pid()));
        row("Boatyard, started on them", process::pss(server.pid()));
        if count == SOME {
            lists(&runtime, &server, &etcd, table);
            row("Boatyard, after lists", process::pss(server.pid()));
        }
    }
    table.rows(
        "Memory",
        "| | objects | their bytes, MiB | PSS MiB |\n|---|---|---|---|",
        memory,
    );
    table.rows(
        "Until it answers after a start",
        "| | etcd ms | its CPU ms | Boatyard ms | its CPU ms |\n|---|---|---|---|---|",
        starts,
    );
}

fn lists(runtime: &tokio::runtime::Runtime, server: &Server, etcd: &Etcd, table: &mut Table) {
    const TIMES: usize = 20;
    let mut rows = Vec::new();
    let mut row = |name: &str, pid: u32, list: &mut dyn FnMut() -> usize| {
        list();
        let cpu = process::cpu(pid);
        let (mut times, mut bytes) = (Vec::new(), 0);
        for _ in 0..TIMES {
            let began = Instant::now();
            bytes = list();
            times.push(began.elapsed());
        }
        let cpu = (process::cpu(pid) - cpu) / u32::try_from(TIMES).unwrap();
        rows.push(format!(
            "| {name} | {} | {} | {} |",
            mebibytes(bytes as u64 / 1024),
            shown(percentile(&times, 50)),
            shown(cpu)
        ));
    };
    let (to_etcd, to_server) =
        runtime.block_on(async { (etcd.connect(1).await, server.connect(1).await) });
    row("etcd, range of 10,000", etcd.pid(), &mut || {
        runtime.block_on(etcd::range(&mut to_etcd.of(0), "/registry/", "/registry0"))
    });
    let get = |path: String, accept: &'static str| {
        runtime.block_on(async {
            let request =
                http::Request::get(format!("http://boatyard{path}")).header("accept", accept);
            let (head, body, _) = crate::calls::call(
                &mut to_server.of(0),
                request.body(Default::default()).unwrap(),
            )
            .await;
            assert!(head.status.is_success());
            body
        })
    };
    const JSON: &str = "application/json";
    row("list of 10,000 Environments", server.pid(), &mut || {
        get(ENVIRONMENTS.to_owned(), JSON).len()
    });
    row("the same in pages of 500", server.pid(), &mut || {
        let (mut total, mut after) = (0, String::new());
        loop {
            let page = get(format!("{ENVIRONMENTS}?limit=500&continue={after}"), JSON);
            total += page.len();
            // The list's own metadata stands before or after its items.
            let text = std::str::from_utf8(&page).unwrap();
            match text.split_once("\"continue\":\"") {
                Some((_, rest)) => after = rest.split('"').next().unwrap().to_owned(),
                None => return total,
            }
        }
    });
    row(
        "list by spec.runnerName, of none",
        server.pid(),
        &mut || {
            get(
                format!("{ENVIRONMENTS}?fieldSelector=spec.runnerName%3Dnone"),
                JSON,
            )
            .len()
        },
    );
    row("list as a Table", server.pid(), &mut || {
        get(
            ENVIRONMENTS.to_owned(),
            "application/json;as=Table;v=v1;g=meta.k8s.io",
        )
        .len()
    });
    table.rows(
        "List of 10,000",
        "| | MiB | p50 ms | server's CPU ms |\n|---|---|---|---|",
        rows,
    );
}
