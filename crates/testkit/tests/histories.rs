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
use boatyard_testkit::{Client, Front, Server, wait};
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

/// Runs the clients on `servers` while `disturb` does what it does; how often watchers were cut.
async fn run(
    servers: Vec<Server>,
    seed: u64,
    disturb: impl AsyncFnOnce(Arc<Mutex<Vec<Server>>>, &Mix),
) -> usize {
    eprintln!("BOATYARD_SEED={seed}");
    let front = Front::open(servers.iter().map(Server::address).collect()).await;
    let (token, authority) = servers[0].credentials();
    let mix = Mix::new(Client::of(&front, &token, &authority), seed).await;
    let servers = Arc::new(Mutex::new(servers));
    let ((), history) = tokio::join!(disturb(servers.clone(), &mix), mix.run());
    let written = |call: &&boatyard_testkit::history::Call| {
        matches!(call.told, boatyard_testkit::history::Told::Written(_))
    };
    let count = history.calls.iter().filter(written).count();
    assert!(count > 300, "only {count} writes were answered");
    let violations = boatyard_testkit::history::check(&history);
    assert_eq!(violations, [], "seed {seed}");
    mix.lists()
}

/// Runs them while servers are killed.
async fn run_killing(servers: Vec<Server>) {
    let seed = mix::seed();
    let lists = run(servers, seed, async |servers, mix| {
        kill_now_and_then(servers, mix, 250, seed).await;
    });
    assert_eq!(lists.await, 0, "a watch was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_of_a_server_that_is_killed_saw_can_have_happened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let server = tokio::task::spawn_blocking(move || Server::start(&path, &[]));
    run_killing(vec![server.await.unwrap()]).await;
}

/// Three servers on one database.
fn three(address: &str, folder: &std::path::Path) -> Vec<Server> {
    let start = |name| Server::start(&folder.join(name), &["--database", address]);
    vec![start("a"), start("b"), start("c")]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_of_three_servers_that_are_killed_in_turn_saw_can_have_happened() {
    let folder = tempfile::tempdir().unwrap();
    // Of this thread: the database ends with the one that started it.
    let database = Cluster::start();
    database.create("boatyard");
    run_killing(three(&database.address("boatyard"), folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_saw_while_the_database_was_killed_can_have_happened() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = Cluster::start();
    database.create("boatyard");
    let servers = three(&database.address("boatyard"), folder.path());
    let lists = run(servers, mix::seed(), async |_, mix| {
        for answers in [300, 700, 1200] {
            assert!(mix.answered(answers).await);
            database.kill();
            database.go();
        }
    });
    assert_eq!(lists.await, 0, "a watch was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_saw_while_a_standby_became_the_database_can_have_happened() {
    let folder = tempfile::tempdir().unwrap();
    let mut primary = Cluster::start();
    primary.create("boatyard");
    let standby = primary.standby("second");
    primary.configure("synchronous_standby_names = 'second'\n");
    primary.reload();
    let state = "SELECT sync_state FROM pg_stat_replication";
    wait::until("the standby to follow", || {
        (primary.sql("postgres", state) == "sync").then_some(())
    });
    let (one, other) = (primary.host(), standby.host());
    let hosts = format!("host={}&host={}", one.display(), other.display());
    let address = format!("postgres://postgres@/boatyard?{hosts}");
    let servers = three(&address, folder.path());
    let lists = run(servers, mix::seed(), async |_, mix| {
        assert!(mix.answered(600).await);
        let promoting = || {
            primary.stop("immediate");
            standby.promote();
        };
        mix.cutting(promoting).await;
    });
    // Each once: what came before it is another history.
    assert_eq!(lists.await, mix::WATCHERS);
}
