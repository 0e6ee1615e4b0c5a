#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;

use bytes::Bytes;

use super::*;
use crate::{Change, Scope};

fn key(number: usize) -> Key {
    Key {
        resource: "boats".to_owned(),
        namespace: (number % 3).to_string(),
        name: format!("boat-{number}"),
    }
}

fn data(number: usize, word: &str) -> Bytes {
    let rest = "what every boat says of itself, and no boat says otherwise; ".repeat(8);
    format!(
        r#"{{"metadata":{{"name":"boat-{number}"}},"spec":{{"word":"{word}","rest":"{rest}"}}}}"#
    )
    .into()
}

fn all() -> Scope {
    Scope {
        resource: "boats".to_owned(),
        namespace: None,
    }
}

fn write(history: &mut History, number: usize, word: &str) {
    let change = match history.at(&key(number)) {
        Some(_) => Change::Updated,
        None => Change::Created,
    };
    let stored = Stored {
        key: key(number),
        revision: Revision(history.revision() + 1),
        data: data(number, word),
    };
    history.apply(change, Arc::new(stored), 0);
}

fn filled(count: usize) -> RwLock<History> {
    let mut history = History::default();
    (0..count).for_each(|number| write(&mut history, number, "first"));
    RwLock::new(history)
}

fn read(history: &RwLock<History>) -> std::sync::RwLockReadGuard<'_, History> {
    history.read().unwrap()
}

fn cold(history: &RwLock<History>) -> usize {
    let live = read(history).live_after(None, usize::MAX);
    let cold = |held: &&Arc<Held>| matches!(&*held.state(), State::Cold(_));
    live.iter().filter(cold).count()
}

/// Contents as they are read.
fn contents(history: &RwLock<History>) -> Vec<(Key, Bytes)> {
    let page = read(history).list(&all(), None, None, None).unwrap();
    let stored = page.stored().into_iter();
    stored.map(|stored| (stored.key, stored.data)).collect()
}

#[test]
fn what_nobody_asks_for_is_packed_and_reads_as_it_was_put_in() {
    let count = MANY + 300;
    let history = filled(count);
    let before = contents(&history);
    sweep(&history);
    assert_eq!(cold(&history), 0, "everything was in use");
    sweep(&history);
    assert!(
        cold(&history) > count - 100,
        "{} of {count}",
        cold(&history)
    );
    assert_eq!(contents(&history), before);
    assert!(cold(&history) > count - 100, "a list warms nothing");
    for number in 0..count {
        let stored = read(&history).get(&key(number)).unwrap();
        assert_eq!(stored.data, data(number, "first"));
        assert_eq!(
            (stored.key.clone(), stored.revision),
            (key(number), Revision(number as u64 + 1))
        );
    }
}

#[test]
fn what_is_packed_is_a_fraction_of_what_was_put_in() {
    let history = filled(MANY + 300);
    sweep(&history);
    sweep(&history);
    let (mut packed, mut whole) = (0, 0);
    for held in read(&history).live_after(None, usize::MAX) {
        if let State::Cold(bytes) = &*held.state() {
            packed += bytes.len();
            whole += data(0, "first").len();
        }
    }
    assert!(packed * 8 < whole, "{packed} of {whole}");
}

#[test]
fn what_is_asked_for_stays_as_it_is() {
    let history = filled(MANY + 300);
    sweep(&history);
    let asked = read(&history).get(&key(7)).unwrap();
    sweep(&history);
    assert!(cold(&history) > 0);
    let again = read(&history).get(&key(7)).unwrap();
    assert!(Arc::ptr_eq(&asked, &again));
}

#[test]
fn few_objects_stay_as_they_are() {
    let history = filled(MANY - 1);
    sweep(&history);
    sweep(&history);
    assert_eq!(cold(&history), 0);
}

#[test]
fn changes_show_what_was_before_packed_or_not() {
    let history = filled(MANY + 300);
    for _ in 0..2 {
        sweep(&history);
    }
    let from = read(&history).revision();
    write(&mut history.write().unwrap(), 40, "second");
    for _ in 0..2 {
        sweep(&history);
    }
    write(&mut history.write().unwrap(), 40, "third");
    let mut entries = VecDeque::new();
    read(&history).after(&all(), None, from, 9, &mut entries);
    let events: Vec<_> = entries.iter().map(|entry| entry.event()).collect();
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event.object.data.clone(), event.previous.clone().unwrap()))
        .collect();
    let word = |word| data(40, word);
    assert_eq!(
        seen,
        [
            (word("second"), word("first")),
            (word("third"), word("second"))
        ]
    );
    let then = Revision(from);
    let page = read(&history).list(&all(), Some(then), None, None).unwrap();
    assert!(page.stored().iter().all(|stored| stored.revision <= then));
}

#[test]
fn what_is_read_at_start_is_packed_at_once() {
    let mut history = History::starting_after(0);
    let count = MANY + 300;
    (0..count).for_each(|number| write(&mut history, number, "first"));
    let history = RwLock::new(history);
    assert!(cold(&history) > 200, "{} of {count}", cold(&history));
    let found = contents(&history);
    assert_eq!(found.len(), count);
    assert!(found.iter().all(|(key, found)| {
        let number = key.name.strip_prefix("boat-").unwrap().parse().unwrap();
        *found == data(number, "first")
    }));
}
