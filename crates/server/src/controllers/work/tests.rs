//! A controller that does as it is told, under a clock that stands still unless it is waited for.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::Limits;
use crate::controllers::Seen;
use crate::metrics::Metrics;
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::task::JoinSet;

type Log = Arc<Mutex<Vec<(&'static str, Duration)>>>;

/// Fails or panics so often for each key, then succeeds.
struct Told {
    begun: Instant,
    fails: Mutex<HashMap<&'static str, u32>>,
    panics: Mutex<HashMap<&'static str, u32>>,
    takes: Duration,
    at_once: usize,
    running: Mutex<usize>,
    most: Arc<Mutex<usize>>,
    log: Log,
}

impl Told {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            fails: Mutex::default(),
            panics: Mutex::default(),
            takes: Duration::ZERO,
            at_once: 1,
            running: Mutex::default(),
            most: Arc::default(),
            log: Log::default(),
        }
    }
}

fn count(of: &Mutex<HashMap<&'static str, u32>>, key: &str) -> bool {
    let mut counts = of.lock().unwrap();
    let left = counts.get_mut(key).filter(|left| **left > 0);
    left.map(|left| *left -= 1).is_some()
}

impl Controller for Told {
    type Key = &'static str;

    fn name(&self) -> &'static str {
        "told"
    }

    fn watched(&self) -> Vec<String> {
        Vec::new()
    }

    fn concurrency(&self) -> usize {
        self.at_once
    }

    fn observe(&self, _: &Seen<'_>, _: &mut dyn FnMut(Self::Key)) {}

    fn resync(&self, wake: &mut dyn FnMut(Self::Key)) {
        ["a", "b", "c"].into_iter().for_each(wake);
    }

    async fn activate(&self, key: &Self::Key) -> Result<Outcome, Failure> {
        self.log.lock().unwrap().push((*key, self.begun.elapsed()));
        {
            let mut running = self.running.lock().unwrap();
            *running += 1;
            let mut most = self.most.lock().unwrap();
            *most = (*most).max(*running);
        }
        if self.takes > Duration::ZERO {
            tokio::time::sleep(self.takes).await;
        }
        *self.running.lock().unwrap() -= 1;
        assert!(!count(&self.panics, key), "told to panic");
        if count(&self.fails, key) {
            return Err(Failure::internal("told to fail"));
        }
        Ok(Outcome::Done)
    }
}

/// Runs for a while; the text of the metrics afterwards.
async fn run(told: Told, time: Duration) -> String {
    let metrics = Metrics::new();
    let looped = Arc::new(Loop::new(
        told,
        &metrics.controllers,
        Flow::new(Limits::default()),
    ));
    let mut tasks = JoinSet::new();
    tasks.spawn(looped.run(Vec::new(), Fence::open()));
    tokio::time::sleep(time).await;
    tasks.shutdown().await;
    metrics.text().unwrap()
}

fn millis(log: &Log, key: &str) -> Vec<u128> {
    let log = log.lock().unwrap();
    let of_key = log.iter().filter(|(found, _)| *found == key);
    of_key.map(|(_, at)| at.as_millis()).collect()
}

fn says(text: &str, wanted: &str) {
    assert!(text.lines().any(|line| line == wanted), "{wanted}\n{text}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_activation_comes_again_after_rests_that_grow_and_others_do_not_wait() {
    let told = Told::new();
    told.fails.lock().unwrap().insert("a", 3);
    let log = told.log.clone();
    let text = run(told, Duration::from_secs(10)).await;
    assert_eq!(millis(&log, "a"), [0, 100, 300, 700]);
    assert_eq!(millis(&log, "b"), [0]);
    says(
        &text,
        "boatyard_controller_activations_total{controller=\"told\"} 6",
    );
    says(
        &text,
        "boatyard_controller_failures_total{controller=\"told\"} 3",
    );
    says(
        &text,
        "boatyard_controller_retries_total{controller=\"told\"} 3",
    );
    says(
        &text,
        "boatyard_controller_activation_seconds_count{controller=\"told\"} 6",
    );
    says(
        &text,
        "boatyard_controller_queue_depth{controller=\"told\"} 0",
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_activation_and_nothing_else() {
    let told = Told::new();
    told.panics.lock().unwrap().insert("b", 2);
    let log = told.log.clone();
    let text = run(told, Duration::from_secs(10)).await;
    assert_eq!(millis(&log, "b"), [0, 100, 300]);
    assert_eq!(millis(&log, "c"), [0]);
    says(
        &text,
        "boatyard_controller_panics_total{controller=\"told\"} 2",
    );
}

#[tokio::test(start_paused = true)]
async fn everything_is_looked_at_again_now_and_then() {
    let told = Told::new();
    let log = told.log.clone();
    run(told, RESYNC * 2 + Duration::from_secs(1)).await;
    let rests = [0, RESYNC.as_millis(), 2 * RESYNC.as_millis()];
    assert_eq!(millis(&log, "a"), rests);
}

#[tokio::test(start_paused = true)]
async fn no_more_activations_run_at_once_than_the_controller_says() {
    for (at_once, wanted) in [(1, 1), (2, 2), (8, 3)] {
        let mut told = Told::new();
        told.takes = Duration::from_secs(1);
        told.at_once = at_once;
        let most = told.most.clone();
        run(told, Duration::from_secs(10)).await;
        assert_eq!(*most.lock().unwrap(), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_looked_at_before_everything_watched_has_been_listed() {
    let told = Told::new();
    let log = told.log.clone();
    let looped = Arc::new(Loop::new(
        told,
        &Metrics::new().controllers,
        Flow::new(Limits::default()),
    ));
    let feeds = [watch::Sender::new(false), watch::Sender::new(false)];
    let mut tasks = JoinSet::new();
    let synced = feeds.iter().map(watch::Sender::subscribe).collect();
    tasks.spawn(looped.run(synced, Fence::open()));
    for feed in feeds {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(log.lock().unwrap().is_empty());
        feed.send_replace(true);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(millis(&log, "a"), [10_000]);
}
