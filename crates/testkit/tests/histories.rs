//! Random clients on real servers that are killed meanwhile: whether what they saw can have happened.
//!
//! Clients write, read and list a few objects through one address, watchers follow and reconnect
//! where they were; servers are killed with SIGKILL after a number of answers and started again.
//! The checker is `boatyard_testkit::history`. A failing run is repeated by its seed, `BOATYARD_SEED`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[path = "histories/mix.rs"]
mod mix;

use boatyard_store::contract::cluster::Cluster;
use boatyard_testkit::{Front, Server};
use mix::{Mix, Randomness};
use std::sync::{Arc, Mutex};

/// Kills one of the servers at every `pace` answers, and starts the one before again.
async fn kill_now_and_then(servers: Arc<Mutex<Vec<Server>>>, mix: &Mix, pace: u64, seed: u64) {
    let mut dice = Randomness::new(seed);
    let mut answers = 0;
    loop {
        answers += pace;
        if !mix.answered(answers).await {
            return;
        }
        let at = dice.below(servers.lock().unwrap().len());
        servers.lock().unwrap()[at].kill();
        let alone = servers.lock().unwrap().len() == 1;
        // With others left, it stays away for a while.
        answers += if alone { 0 } else { pace / 2 };
        let ended = !alone && !mix.answered(answers).await;
        let servers = servers.clone();
        let again = tokio::task::spawn_blocking(move || servers.lock().unwrap()[at].again());
        again.await.unwrap();
        if ended {
            return;
        }
    }
}

async fn run(servers: Vec<Server>, pace: u64) {
    let seed = mix::seed();
    eprintln!("BOATYARD_SEED={seed}");
    let front = Front::open(servers.iter().map(Server::address).collect()).await;
    let (token, authority) = servers[0].credentials();
    let mix = Mix::new(&front, token, &authority, seed).await;
    let servers = Arc::new(Mutex::new(servers));
    let killing = kill_now_and_then(servers.clone(), &mix, pace, seed);
    let ((), history) = tokio::join!(killing, mix.run());
    let written = |call: &&boatyard_testkit::history::Call| {
        matches!(call.told, boatyard_testkit::history::Told::Written(_))
    };
    let count = history.calls.iter().filter(written).count();
    assert!(count > 300, "only {count} writes were answered");
    let violations = boatyard_testkit::history::check(&history);
    assert_eq!(violations, [], "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_of_a_server_that_is_killed_saw_can_have_happened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let server = tokio::task::spawn_blocking(move || Server::start(&path, &[]));
    run(vec![server.await.unwrap()], 250).await;
}

/// Three servers on one database.
fn three(database: &Cluster, folder: &std::path::Path) -> Vec<Server> {
    database.create("boatyard");
    let address = database.address("boatyard");
    let start = |name| Server::start(&folder.join(name), &["--database", &address]);
    vec![start("a"), start("b"), start("c")]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_of_three_servers_that_are_killed_in_turn_saw_can_have_happened() {
    let folder = tempfile::tempdir().unwrap();
    // Of this thread: the database ends with the one that started it.
    let database = Cluster::start();
    run(three(&database, folder.path()), 250).await;
}
