//! The checker passes histories of a correct store and catches every kind of fault put into one.

use super::*;

/// A small generator of numbers, so that a failing history is the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What a correct store shows to concurrent clients: each call takes effect at one moment between
/// its beginning and its end, and spans of different clients overlap.
fn correct(seed: u64) -> History {
    correct_with(seed, true)
}

fn correct_with(seed: u64, deletions: bool) -> History {
    let mut dice = Dice(seed);
    let (mut history, mut contents) =
        (History::default(), BTreeMap::<String, (u64, String)>::new());
    let (mut revision, mut seen) = (0, Vec::new());
    let mut known: HashMap<String, u64> = HashMap::new();
    for number in 0..400_u64 {
        let moment = 100 + number * 10;
        let key = format!("k{}", dice.roll(4));
        let value = format!("v{number}");
        let current = contents.get(&key).cloned();
        let sort = dice.roll(6);
        let (asked, mut told) = match if deletions || sort != 3 { sort } else { 4 } {
            0 => (
                Asked::Create {
                    value: value.clone(),
                },
                match &current {
                    Some(_) => Told::Exists,
                    None => Told::Written(revision + 1),
                },
            ),
            1 | 2 => {
                let expected = known.get(&key).copied().unwrap_or_default();
                let told = match &current {
                    None => Told::NotFound,
                    Some((at, _)) if *at != expected => Told::Conflict,
                    Some(_) => Told::Written(revision + 1),
                };
                let value = value.clone();
                (Asked::Update { expected, value }, told)
            }
            3 => (
                Asked::Delete,
                match &current {
                    None => Told::NotFound,
                    Some(_) => Told::Deleted,
                },
            ),
            4 => (
                Asked::Get,
                match &current {
                    None => Told::NotFound,
                    Some((at, value)) => Told::Read(*at, value.clone()),
                },
            ),
            _ => {
                let all = contents.iter();
                let items = all.map(|(key, (at, value))| (key.clone(), *at, value.clone()));
                (Asked::List, Told::Listed(revision, items.collect()))
            }
        };
        // Of an answer that was lost nobody knows.
        let lost = dice.roll(12) == 0;
        if let Told::Written(at) = told {
            revision = at;
            let word = match &asked {
                Asked::Create { .. } => Word::Added,
                _ => Word::Modified,
            };
            contents.insert(key.clone(), (at, value.clone()));
            if !lost {
                known.insert(key.clone(), at);
            }
            seen.push(Seen {
                revision,
                word,
                key: key.clone(),
                value,
            });
        } else if told == Told::Deleted {
            revision += 1;
            let (_, value) = contents.remove(&key).unwrap();
            seen.push(Seen {
                revision,
                word: Word::Deleted,
                key: key.clone(),
                value,
            });
        } else if let Told::Read(at, _) = told
            && !lost
        {
            known.insert(key.clone(), at);
        }
        if lost {
            told = Told::Nothing;
        }
        history.calls.push(Call {
            key: if asked == Asked::List {
                String::new()
            } else {
                key
            },
            asked,
            began: moment - dice.roll(50),
            ended: moment + dice.roll(50),
            told,
        });
    }
    for from in [0, revision / 3, revision / 2] {
        history.watchers.push(Watched {
            from,
            to: revision,
            seen: seen
                .iter()
                .filter(|seen| seen.revision > from)
                .cloned()
                .collect(),
        });
    }
    history
}

#[test]
fn correct_histories_pass() {
    for seed in 0..200 {
        assert_eq!(check(&correct(seed)), [], "seed {seed}");
    }
}

/// The same without deletions, where for a while nobody was shown anything and then listed anew; the
/// last call is the list.
fn gapped(seed: u64) -> History {
    let mut history = correct_with(seed, false);
    let seen = history.watchers[0].seen.clone();
    let (cut, again) = (seen.len() / 3, seen.len() * 2 / 3);
    let (cut, again) = (&seen[cut], &seen[again]);
    let mut contents = BTreeMap::new();
    for seen in seen.iter().filter(|seen| seen.revision <= again.revision) {
        contents.insert(seen.key.clone(), (seen.revision, seen.value.clone()));
    }
    let number: u64 = again.value[1..].parse().unwrap();
    let items = contents.into_iter();
    history.calls.push(Call {
        key: String::new(),
        asked: Asked::List,
        began: 100 + number * 10,
        ended: 101 + number * 10,
        told: Told::Listed(
            again.revision,
            items.map(|(key, (at, value))| (key, at, value)).collect(),
        ),
    });
    let mut watchers = Vec::new();
    for watcher in &history.watchers {
        for (from, to) in [(watcher.from, cut.revision), (again.revision, watcher.to)] {
            let shown = |seen: &&Seen| from < seen.revision && seen.revision <= to;
            watchers.push(Watched {
                from,
                to: to.max(from),
                seen: watcher.seen.iter().filter(shown).cloned().collect(),
            });
        }
    }
    history.watchers = watchers;
    history
}

#[test]
fn gaps_that_everybody_listed_anew_after_are_filled_by_what_callers_know() {
    let (mut lost, mut stale) = (0, 0);
    for seed in 0..200 {
        let history = gapped(seed);
        assert_eq!(check(&history), [], "seed {seed}");
        let (cut, again) = (history.watchers[0].to, history.watchers[1].from);
        let within = |at: u64| at > cut && at < again;
        // What was acknowledged in the gap is not in the list after it.
        let mut without = history.clone();
        let acknowledged: std::collections::HashSet<u64> = history
            .calls
            .iter()
            .filter_map(|call| match call.told {
                Told::Written(at) if within(at) => Some(at),
                _ => None,
            })
            .collect();
        if let Told::Listed(_, items) = &mut without.calls.last_mut().unwrap().told
            && let Some(found) = items
                .iter()
                .position(|(_, at, _)| acknowledged.contains(at))
        {
            items.remove(found);
            lost += 1;
            assert_ne!(check(&without), [], "lost, seed {seed}");
        }
        // What was overwritten in the gap is read long after it.
        let overwritten = history.calls.iter().find_map(|call| match &call.asked {
            Asked::Update { expected, .. } => match call.told {
                Told::Written(at) if within(at) => Some((call.key.clone(), *expected)),
                _ => None,
            },
            _ => None,
        });
        let read = overwritten.and_then(|(key, expected)| {
            let told = history.calls.iter().find_map(|call| match &call.told {
                Told::Read(at, value) if *at == expected => Some(value.clone()),
                _ => None,
            });
            Some((key, expected, told?))
        });
        if let Some((key, at, value)) = read {
            let mut history = history.clone();
            history.calls.push(Call {
                key,
                asked: Asked::Get,
                began: 90_000,
                ended: 90_001,
                told: Told::Read(at, value),
            });
            stale += 1;
            assert_ne!(check(&history), [], "stale, seed {seed}");
        }
    }
    assert!(lost > 100 && stale > 50, "{lost} lost, {stale} stale");
}

/// Puts one fault into a history; false when this one has no place for it.
type Fault = fn(&mut History) -> bool;

fn last(history: &mut History, fits: impl Fn(&Call) -> bool) -> Option<&mut Call> {
    history.calls.iter_mut().rev().find(|call| fits(call))
}

#[test]
fn every_fault_put_into_a_history_is_caught() {
    let faults: &[(&str, Fault)] = &[
        ("a lost event", |history| {
            history.watchers[1].seen.remove(7);
            true
        }),
        ("an event lost at the end", |history| {
            history.watchers[1].seen.pop().is_some()
        }),
        ("an event lost to every watcher", |history| {
            // Of an acknowledged write.
            let told = |revision| {
                let mut calls = history.calls.iter();
                calls.any(|call| call.told == Told::Written(revision))
            };
            let seen = &history.watchers[2].seen;
            let Some(lost) = seen.iter().map(|seen| seen.revision).rfind(|at| told(*at)) else {
                return false;
            };
            for watcher in &mut history.watchers {
                watcher.seen.retain(|seen| seen.revision != lost);
            }
            true
        }),
        ("two events the wrong way round", |history| {
            history.watchers[0].seen.swap(20, 21);
            true
        }),
        ("an event shown twice", |history| {
            let again = history.watchers[0].seen[20].clone();
            history.watchers[0].seen.insert(21, again);
            true
        }),
        ("an event of before the watch", |history| {
            let early = history.watchers[0].seen[0].clone();
            history.watchers[2].seen.insert(0, early);
            true
        }),
        ("an event with another value", |history| {
            "x".clone_into(&mut history.watchers[0].seen[20].value);
            true
        }),
        ("an update shown as an addition", |history| {
            let mut seen = history.watchers[0].seen.iter_mut();
            let found = seen.find(|seen| seen.word == Word::Modified);
            found.map(|seen| seen.word = Word::Added).is_some()
        }),
        ("a stale read", |history| {
            // The first version of an object, read again when all else is over.
            let seen = history.watchers[0].seen[0].clone();
            history.calls.push(Call {
                key: seen.key,
                asked: Asked::Get,
                began: 90_000,
                ended: 90_001,
                told: Told::Read(seen.revision, seen.value),
            });
            true
        }),
        ("a read of before a deletion was answered", |history| {
            let Some(deleted) = last(history, |call| call.told == Told::Deleted).cloned() else {
                return false;
            };
            let mut seen = history.watchers[0].seen.iter().rev();
            let gone = seen.find(|seen| seen.word == Word::Deleted && seen.key == deleted.key);
            let Some(gone) = gone.cloned() else {
                return false;
            };
            let mut before = history.watchers[0].seen.iter().rev();
            let before = before.find(|seen| seen.value == gone.value && seen.word != Word::Deleted);
            let told = before.map(|seen| Told::Read(seen.revision, seen.value.clone()));
            let Some(told) = told else { return false };
            history.calls.push(Call {
                key: deleted.key,
                asked: Asked::Get,
                began: 90_000,
                ended: 90_001,
                told,
            });
            true
        }),
        ("a stale list", |history| {
            let lists = |call: &Call| matches!(call.told, Told::Listed(at, _) if at < 20);
            last(history, lists).is_some_and(|call| {
                (call.began, call.ended) = (90_000, 90_001);
                true
            })
        }),
        ("a list that lacks an object", |history| {
            let full =
                |call: &Call| matches!(&call.told, Told::Listed(_, items) if !items.is_empty());
            last(history, full).is_some_and(|call| {
                if let Told::Listed(_, items) = &mut call.told {
                    items.pop();
                }
                true
            })
        }),
        ("an acknowledged write that never was", |history| {
            let call = last(history, |call| call.told == Told::Exists);
            call.map(|call| call.told = Told::Written(50)).is_some()
        }),
        ("a write answered before it was asked for", |history| {
            let written = |call: &Call| matches!(call.told, Told::Written(at) if at > 40);
            last(history, written).is_some_and(|call| {
                (call.began, call.ended) = (1, 2);
                true
            })
        }),
        ("an update over another's", |history| {
            let updated = |call: &Call| {
                matches!(
                    (&call.asked, &call.told),
                    (Asked::Update { .. }, Told::Written(_))
                )
            };
            last(history, updated).is_some_and(|call| {
                if let Asked::Update { expected, .. } = &mut call.asked {
                    *expected -= 1;
                }
                true
            })
        }),
        ("a refused write that happened", |history| {
            let written = |call: &Call| matches!(call.told, Told::Written(_));
            last(history, written).is_some_and(|call| {
                call.told = Told::Conflict;
                true
            })
        }),
        ("a refusal without reason", |history| {
            let missing =
                |call: &Call| call.asked == Asked::Get && matches!(call.told, Told::Read(..));
            let Some(call) = last(history, missing) else {
                return false;
            };
            let fresh = Call {
                key: "never".to_owned(),
                asked: Asked::Create {
                    value: "y".to_owned(),
                },
                told: Told::Exists,
                ..call.clone()
            };
            history.calls.push(fresh);
            true
        }),
        ("a deletion nobody asked for", |history| {
            let seen = &history.watchers[0].seen;
            let Some(key) = seen.iter().find(|seen| seen.word == Word::Deleted) else {
                return false;
            };
            let key = key.key.clone();
            let deletions = |call: &Call| call.asked == Asked::Delete && call.key == key;
            history.calls.retain(|call| !deletions(call));
            true
        }),
    ];
    for (name, fault) in faults {
        let mut put = 0;
        for seed in 0..40 {
            let mut history = correct(seed);
            if fault(&mut history) {
                put += 1;
                assert_ne!(check(&history), [], "{name}, seed {seed}");
            }
        }
        assert!(put > 20, "{name} was put into {put} histories");
    }
}
