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

#[tokio::test(start_paused = true)]
async fn requests_of_classes_are_set_aside_and_follow_the_class() {
    let mut index = with(&["r1"]);
    let now = Instant::now();
    let memory = |memory| Amount {
        cpu_millis: 0,
        memory,
    };
    let host = Amount {
        cpu_millis: 4000,
        memory: 100,
    };
    assert!(index.provides("r1", Some(host)) && !index.provides("r1", Some(host)));
    assert!(index.class("half", Some(memory(50))));
    assert!(!index.class("half", Some(memory(50))), "as before");
    for place in ["one", "two"] {
        index.asks(&name(place), Some("half"));
        assert_eq!(index.choose(&name(place), now), Ok("r1".to_owned()));
        assert!(!index.note(&name(place), false, Some("r1")));
    }
    let three = name("three");
    index.asks(&three, Some("half"));
    index.note(&three, true, None);
    assert!(index.choose(&three, now).unwrap_err().contains("requests"));
    // The class asks for less: so do those that are bound.
    assert!(index.class("half", Some(memory(30))));
    assert_eq!(index.choose(&three, now), Ok("r1".to_owned()));
    index.take_back(&three, "r1");
    index.asks(&three, Some("large"));
    assert!(index.class("large", Some(memory(60))));
    assert!(index.choose(&three, now).is_err());
    assert!(index.note(&name("one"), false, None), "there is room");
    index.asks(&name("one"), None);
    assert_eq!(index.choose(&three, now), Ok("r1".to_owned()));
    // One without requests goes anywhere.
    assert_eq!(index.choose(&name("four"), now), Ok("r1".to_owned()));
}
