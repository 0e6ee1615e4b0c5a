//! Which kills are news.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

fn job() -> Job {
    Job {
        incarnation: 1,
        started_at: Some(time(100)),
        init: 1,
        uids: 1000..2000,
        class: None,
        socket: "/nowhere".into(),
    }
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn kill(second: i64, uid: u32, name: &str) -> Kill {
    Kill {
        micros: 0,
        at: time(second),
        uid,
        name: name.to_owned(),
        bytes: 3 << 20,
        host: false,
    }
}

fn messages(log: &[Kill], told: &[MemoryKill]) -> Vec<String> {
    let limit = Quantity("64Mi".to_owned());
    let fresh = unknown(log.iter(), &job(), told, Some(&limit));
    fresh.into_iter().map(|one| one.message).collect()
}

#[test]
fn a_kill_is_told_to_the_environment_whose_ids_it_had() {
    let log = [
        kill(200, 1000, "cc1plus"),
        kill(200, 2000, "a neighbour's"),
        kill(200, 999, "the host's"),
        // Whoever had these ids before.
        kill(50, 1500, "old"),
    ];
    assert_eq!(
        messages(&log, &[]),
        [
            "cc1plus was killed: it held 3MiB, and the environment had used all of its 64MiB of memory; run less at once, or choose a larger class"
        ]
    );
}

#[test]
fn what_was_told_is_not_told_again_by_the_next_runner() {
    let log = [kill(200, 1000, "a"), kill(300, 1000, "a")];
    let told = unknown(log[..1].iter(), &job(), &[], None);
    // Its clock is a little off.
    let later = [kill(203, 1000, "a"), kill(303, 1000, "a")];
    let fresh = unknown(later.iter(), &job(), &told, None);
    assert_eq!(fresh.len(), 1);
    assert_eq!(fresh[0].at.0, time(303));
    // Two that look the same are two.
    let twice = [kill(200, 1000, "a"), kill(200, 1000, "a")];
    assert_eq!(unknown(twice.iter(), &job(), &told, None).len(), 1);
}

#[test]
fn a_storm_of_kills_is_bounded() {
    let storm: Vec<Kill> = (0..100)
        .map(|number| kill(200 + number, 1000, &format!("p{number}")))
        .collect();
    let fresh = unknown(storm.iter(), &job(), &[], None);
    assert_eq!(fresh.len(), MOST_KILLS);
    assert_eq!(fresh.last().unwrap().process.as_deref(), Some("p99"));
}

#[test]
fn without_the_log_they_are_counted() {
    let (sender, log) = tokio::sync::watch::channel(std::sync::Arc::default());
    let told = |counted| fresh(&log, &job(), &[], counted, None)(time(7));
    assert_eq!(told(3), [], "it can be read and has none");
    drop(sender);
    assert_eq!(told(0), []);
    let one = told(3);
    assert_eq!((one.len(), one[0].process.as_ref()), (1, None));
}
