//! The index by what it is told.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::time::Duration;

fn name(name: &str) -> Name {
    Name {
        namespace: "default".into(),
        name: name.into(),
    }
}

fn until(seconds: u64, renewed: &str) -> Option<LeaseFacts> {
    Some(LeaseFacts {
        renewed: renewed.to_owned(),
        until: Instant::now() + Duration::from_secs(seconds),
    })
}

fn with(runners: &[&str]) -> Index {
    let mut index = Index::default();
    for runner in runners {
        index.register(runner, Some(false), Instant::now());
        index.lease(runner, until(40, "a"), Instant::now());
    }
    index
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_spread_before_any_of_it_is_seen_written() {
    let mut index = with(&["r1", "r2", "r3"]);
    let mut counts: HashMap<String, usize> = HashMap::new();
    for number in 0..300 {
        let runner = index.choose(&name(&number.to_string()), Instant::now());
        *counts.entry(runner.unwrap()).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 100), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_choice_counts_once_when_it_is_seen_and_not_when_it_is_taken_back() {
    let mut index = with(&["r1", "r2"]);
    let (one, two) = (name("one"), name("two"));
    assert_eq!(index.choose(&one, Instant::now()), Ok("r1".to_owned()));
    index.note(&one, false, Some("r1"));
    // Seen: a late failure takes nothing back.
    index.take_back(&one, "r1");
    assert_eq!(index.choose(&two, Instant::now()), Ok("r2".to_owned()));
    index.take_back(&two, "r2");
    assert_eq!(index.choose(&two, Instant::now()), Ok("r2".to_owned()));
    // Somebody else bound it elsewhere.
    index.note(&two, false, Some("r1"));
    assert_eq!(
        index.choose(&name("three"), Instant::now()),
        Ok("r2".to_owned())
    );
    for gone in ["one", "two", "three"] {
        index.note(&name(gone), false, None);
    }
    assert!(index.bound.is_empty() && index.names.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_runs_out_without_an_event_ends_the_candidate() {
    let mut index = with(&["r1"]);
    assert!(index.choose(&name("one"), Instant::now()).is_ok());
    tokio::time::advance(Duration::from_secs(41)).await;
    let why = index.choose(&name("two"), Instant::now()).unwrap_err();
    assert!(why.contains("alive"), "{why}");
    // The same renewal seen again is no sign of life, a new one is.
    assert!(!index.lease("r1", until(40, "a"), Instant::now()));
    assert!(index.choose(&name("two"), Instant::now()).is_err());
    assert!(index.lease("r1", until(40, "b"), Instant::now()));
    assert!(index.choose(&name("two"), Instant::now()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_looked_at_again_only_when_it_may_help() {
    let now = Instant::now();
    let mut index = Index::default();
    assert!(index.register("r1", Some(false), now), "told why otherwise");
    assert!(index.lease("r1", until(40, "a"), now), "alive");
    assert!(!index.lease("r1", until(40, "b"), now), "still alive");
    assert!(!index.register("r1", Some(false), now), "as before");
    assert!(index.register("r1", Some(true), now));
    assert!(index.register("r1", None, now), "gone");
    index.note(&name("one"), true, None);
    assert_eq!(index.waiting().collect::<Vec<_>>(), [name("one")]);
    index.note(&name("one"), false, Some("r1"));
    assert_eq!(index.waiting().count(), 0);
}
