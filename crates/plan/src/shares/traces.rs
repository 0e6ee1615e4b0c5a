//! What happened in real shells, played again: recorded every 20 ms on a busy machine.
//!
//! A trace is a line `@MILLISECONDS MICROSECONDS-OF-THE-CLASS` per sample, then a line per process
//! that changed, `PID PARENT GROUP SESSION TERMINAL USED USED-BY-ENDED STARTED` (times used in
//! hundredths of a second, the start in milliseconds), and `-PID` for one that is gone.

use super::{Class, Jobs, Move, Process, Sample};
use std::collections::BTreeMap;
use std::time::Duration;

/// The traces begin so long after the start of their host.
const BEGIN: i64 = 3_600_000;
const SHELL: u32 = 10;

/// Where everything went: when, which, where to; and of each process its class in the end.
struct Played {
    moves: Vec<(u64, u32, Class)>,
    /// When the class had used more than the credit of a job and what has come back of it since.
    spent: Option<u64>,
}

fn play(trace: &str) -> Played {
    let ms = |millis: i64| Duration::from_millis(u64::try_from(millis + BEGIN).unwrap());
    let mut jobs = Jobs::default();
    let mut processes: BTreeMap<u32, Process> = BTreeMap::new();
    // The environment's first process, of which the traces know nothing.
    let agent = Process {
        pid: 1,
        parent: 0,
        group: 1,
        session: 1,
        terminal: false,
        used: Duration::ZERO,
        used_by_ended: Duration::ZERO,
        started: Duration::ZERO,
        class: Class::Agent,
    };
    processes.insert(1, agent);
    let mut played = Played {
        moves: Vec::new(),
        spent: None,
    };
    let blocks = trace.split('@').filter(|block| !block.is_empty());
    let mut first = None;
    for block in blocks {
        let mut lines = block.lines();
        let (at, used) = lines.next().unwrap().split_once(' ').unwrap();
        let (at, used): (i64, u64) = (at.parse().unwrap(), used.parse().unwrap());
        for line in lines {
            if let Some(gone) = line.strip_prefix('-') {
                processes.remove(&gone.parse().unwrap());
                continue;
            }
            let numbers: Vec<i64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
            let id = |at: usize| u32::try_from(numbers[at]).unwrap();
            let hundredths =
                |at: usize| Duration::from_millis(u64::try_from(numbers[at] * 10).unwrap());
            let born_in = processes
                .get(&id(1))
                .map_or(Class::Sessions, |parent| parent.class);
            let born_in = if born_in == Class::Agent {
                Class::Sessions
            } else {
                born_in
            };
            let class = processes.get(&id(0)).map_or(born_in, |known| known.class);
            processes.insert(
                id(0),
                Process {
                    pid: id(0),
                    parent: id(1),
                    group: id(2),
                    session: id(3),
                    terminal: numbers[4] != 0,
                    used: hundredths(5),
                    used_by_ended: hundredths(6),
                    started: ms(numbers[7]),
                    class,
                },
            );
        }
        let now = u64::try_from(at).unwrap();
        let first = *first.get_or_insert(used);
        // The command was typed after a tenth of a second.
        let back = now.saturating_sub(100) * 1000 / 10;
        if used - first > 60_000 + back && played.spent.is_none() {
            played.spent = Some(now);
        }
        let sample = Sample {
            now: ms(at),
            read: vec![Class::Agent, Class::Sessions, Class::Builds],
            processes: processes.values().copied().collect(),
            used: [
                Some(Duration::ZERO),
                Some(Duration::from_micros(used)),
                None,
                None,
            ],
        };
        for Move { pid, to } in jobs.observe(&sample) {
            played.moves.push((now, pid, to));
            processes.get_mut(&pid).unwrap().class = to;
        }
    }
    played
}

#[test]
fn builds_are_found_within_fifty_milliseconds_of_spending_their_credit() {
    for (name, trace) in [
        ("make -j8", include_str!("traces/make-j8.txt")),
        ("cargo build", include_str!("traces/cargo-build.txt")),
    ] {
        let played = play(trace);
        let (when, ..) = played.moves[0];
        let spent = played.spent.unwrap();
        assert!(when <= spent + 50, "{name}: {when}, spent at {spent}");
        // All at once: the parent too, so that what it starts later is born there.
        let parent = SHELL + 1;
        assert!(
            played.moves.contains(&(when, parent, Class::Builds)),
            "{name}: {:?}",
            played.moves
        );
        assert!(
            played.moves.iter().all(|(_, pid, _)| *pid != SHELL),
            "{name}: {:?}",
            played.moves
        );
        assert!(
            played.moves.iter().all(|(_, _, to)| *to == Class::Builds),
            "{name}"
        );
    }
}

#[test]
fn an_editor_stays_with_its_shell() {
    let played = play(include_str!("traces/vim.txt"));
    assert_eq!(played.moves, []);
}

#[test]
fn a_storm_of_forks_takes_along_the_shell_that_makes_it() {
    let played = play(include_str!("traces/fork-storm.txt"));
    let of_shell = played.moves.iter().find(|(_, pid, _)| *pid == SHELL);
    let (when, _, to) = of_shell.expect("the shell is what burns");
    assert_eq!(*to, Class::Builds);
    assert!(*when < 1500, "{when}");
}
