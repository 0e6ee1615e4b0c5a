//! Decisions by table, and simulations whose clock is a counter.

use super::*;

const SMALL: Settings = Settings {
    seats: 4,
    kept: 4,
    most: 4,
    beside: u32::MAX,
    flow_waiting: 3,
    waiting: 5,
};

fn names(started: Vec<(usize, &'static str)>) -> Vec<&'static str> {
    started.into_iter().map(|(_, name)| name).collect()
}

fn run(queues: &mut Queues<&'static str>, level: usize, flow: &str, seats: u32) {
    let offered = queues.offer(level, flow, seats, || "never");
    assert_eq!(offered, Offer::Run, "{flow}");
}

fn wait(queues: &mut Queues<&'static str>, flow: &str, seats: u32, name: &'static str) -> u64 {
    match queues.offer(0, flow, seats, || name) {
        Offer::Wait(ticket) => ticket,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_flow_with_much_waiting_delays_anothers_request_by_no_more_than_what_runs() {
    let mut queues = Queues::new(&[SMALL], 0);
    for _ in 0..4 {
        run(&mut queues, 0, "noisy", 1);
    }
    for name in ["n1", "n2", "n3"] {
        wait(&mut queues, "noisy", 1, name);
    }
    wait(&mut queues, "quiet", 1, "q1");
    assert_eq!(names(queues.finish(0, "noisy", 1)), ["q1"]);
    assert_eq!(names(queues.finish(0, "quiet", 1)), ["n1"]);
    // It comes again, and again it is next.
    wait(&mut queues, "quiet", 1, "q2");
    assert_eq!(names(queues.finish(0, "noisy", 1)), ["q2"]);
    assert_eq!(names(queues.finish(0, "noisy", 1)), ["n2"]);
}

#[test]
fn what_waits_is_bounded_per_flow_and_per_level() {
    let mut queues = Queues::new(&[SMALL], 0);
    run(&mut queues, 0, "a", 4);
    for name in ["a1", "a2", "a3"] {
        wait(&mut queues, "a", 1, name);
    }
    assert_eq!(queues.offer(0, "a", 1, || "a4"), Offer::Refused);
    wait(&mut queues, "b", 1, "b1");
    wait(&mut queues, "c", 1, "c1");
    assert_eq!(queues.offer(0, "d", 1, || "d1"), Offer::Refused);
    let load = queues.load(0);
    assert_eq!((load.executing, load.waiting, load.refused), (1, 5, 2));
    let started = names(queues.finish(0, "a", 4));
    assert_eq!(started, ["b1", "c1", "a1", "a2"]);
}

#[test]
fn one_that_waits_no_longer_leaves_no_trace() {
    let mut queues = Queues::new(&[SMALL], 0);
    run(&mut queues, 0, "a", 2);
    let wide = wait(&mut queues, "b", 3, "b1");
    wait(&mut queues, "c", 2, "c1");
    // What stood behind the wide one fits without it.
    assert_eq!(names(queues.withdraw(0, "b", wide)), ["c1"]);
    assert!(queues.withdraw(0, "b", wide).is_empty());
    assert!(queues.finish(0, "a", 2).is_empty());
    assert!(queues.finish(0, "c", 2).is_empty());
    assert!(queues.levels[0].flows.is_empty() && queues.levels[0].order.is_empty());
    assert_eq!((queues.executing, queues.load(0)), (0, Load::default()));
}

#[test]
fn a_wide_request_is_not_starved_by_narrow_ones_and_never_waits_for_more_than_there_is() {
    let mut queues = Queues::new(&[SMALL], 0);
    for _ in 0..3 {
        run(&mut queues, 0, "narrow", 1);
    }
    wait(&mut queues, "wide", 10, "w");
    wait(&mut queues, "narrow", 1, "n");
    for _ in 0..2 {
        assert!(queues.finish(0, "narrow", 1).is_empty());
    }
    assert_eq!(names(queues.finish(0, "narrow", 1)), ["w"]);
    assert_eq!(queues.load(0).seats, 4);
    assert_eq!(names(queues.finish(0, "wide", 10)), ["n"]);
}

#[test]
fn idle_seats_are_lent_up_to_what_others_keep_and_owned_ones_are_always_there() {
    let of = |seats, kept, most| Settings {
        seats,
        kept,
        most,
        beside: u32::MAX,
        flow_waiting: 10,
        waiting: 10,
    };
    let mut queues = Queues::new(&[of(4, 3, 8), of(4, 1, 7)], 0);
    let mut ran = 0;
    while queues.offer(1, "bulk", 1, || "b") == Offer::Run {
        ran += 1;
    }
    assert_eq!(ran, 5, "its own four and the one that is not kept");
    for _ in 0..4 {
        run(&mut queues, 0, "urgent", 1);
    }
    assert!(matches!(
        queues.offer(0, "urgent", 1, || "u"),
        Offer::Wait(_)
    ));
    // A borrowed seat that comes free is not lent again while its owner needs it.
    assert!(queues.finish(1, "bulk", 1).is_empty());
    assert_eq!(queues.load(1).seats, 4);
    // Then it is lent to the more urgent, and what is owned is there for its owner.
    assert_eq!(names(queues.finish(1, "bulk", 1)), ["u", "b"]);
}

/// Flows that each keep some requests under way; a request takes `seats` seats for ten ticks.
/// Answers how many of each were served, and the longest wait of each.
fn simulate(flows: &[(&'static str, usize, u32)], ticks: u64) -> Vec<(u64, u64)> {
    struct Running(u64, usize);
    let settings = Settings {
        seats: 10,
        kept: 10,
        most: 10,
        beside: u32::MAX,
        flow_waiting: 1000,
        waiting: 1000,
    };
    let mut queues: Queues<(usize, u64)> = Queues::new(&[settings], 0);
    let mut running: Vec<Running> = Vec::new();
    let mut served = vec![(0, 0); flows.len()];
    let mut under_way = vec![0; flows.len()];
    for now in 0..ticks {
        for (number, (name, many, seats)) in flows.iter().enumerate() {
            while under_way[number] < *many {
                under_way[number] += 1;
                if queues.offer(0, name, *seats, || (number, now)) == Offer::Run {
                    running.push(Running(now + 10, number));
                }
            }
        }
        let (ended, rest): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|Running(end, _)| *end <= now);
        running = rest;
        for Running(_, number) in ended {
            served[number].0 += 1;
            under_way[number] -= 1;
            for (_, (other, since)) in queues.finish(0, flows[number].0, flows[number].2) {
                served[other].1 = served[other].1.max(now - since);
                running.push(Running(now + 10, other));
            }
        }
    }
    served
}

#[test]
fn seats_are_shared_alike_however_many_requests_a_flow_has_and_however_wide_they_are() {
    let served = simulate(&[("noisy", 200, 1), ("quiet", 1, 1)], 10_000);
    // Noisy's many wait for each other; quiet's one waits for what runs, which is ten ticks.
    assert!(served[1].1 <= 10, "{served:?}");
    assert!(served[1].0 >= 480, "{served:?}");

    let served = simulate(&[("narrow", 100, 1), ("wide", 100, 10)], 10_000);
    let seats = [served[0].0, served[1].0 * 10];
    let ratio = seats[0] as f64 / seats[1] as f64;
    assert!((0.5..2.0).contains(&ratio), "{served:?}");
}

#[test]
fn beside_many_who_ask_others_have_few_seats_and_take_theirs_when_fewer_ask_or_when_they_insist() {
    let level = |beside| Settings {
        seats: 40,
        kept: 40,
        most: 40,
        beside,
        flow_waiting: 40,
        waiting: 40,
    };
    // Those who ask are the second.
    let mut queues = Queues::new(&[level(2), level(u32::MAX)], 1);
    let asks = |queues: &mut Queues<&'static str>| run(queues, 1, "ann", 1);
    for _ in 2..MANY {
        asks(&mut queues);
    }
    for _ in 0..3 {
        run(&mut queues, 0, "r1", 1);
    }
    // Who needs no seat asks too.
    queues.pass();
    run(&mut queues, 0, "r1", 1);
    asks(&mut queues);
    let ticket = wait(&mut queues, "r1", 1, "w1");
    wait(&mut queues, "r2", 1, "w2");
    wait(&mut queues, "r1", 1, "w3");
    // Four run: two of them must end before the next begins, the one served least.
    for _ in 0..2 {
        assert_eq!(names(queues.finish(0, "r1", 1)), [""; 0]);
    }
    assert_eq!(names(queues.finish(0, "r1", 1)), ["w2"]);
    // Who waited long goes on; not twice, and not without a seat.
    assert_eq!(queues.insist(0, "r1", ticket), Some("w1"));
    assert_eq!(queues.insist(0, "r1", ticket), None);
    assert_eq!(queues.load(0).seats, 3);
    run(&mut queues, 1, "bob", 1);
    assert_eq!(names(queues.finish(1, "bob", 1)), [""; 0]);
    assert_eq!(names(queues.passed()), ["w3"]);
    assert_eq!(queues.load(0).waiting, 0);
}

#[test]
fn who_insists_runs_only_where_there_are_seats() {
    let narrow = Settings {
        seats: 2,
        kept: 2,
        most: 2,
        beside: 1,
        flow_waiting: 9,
        waiting: 9,
    };
    let wide = Settings {
        seats: 40,
        kept: 40,
        most: 40,
        beside: u32::MAX,
        ..narrow
    };
    let mut queues = Queues::new(&[narrow, wide], 1);
    for _ in 0..MANY {
        run(&mut queues, 1, "ann", 1);
    }
    run(&mut queues, 0, "r1", 1);
    let first = wait(&mut queues, "r1", 1, "w1");
    let second = wait(&mut queues, "r1", 1, "w2");
    assert_eq!(queues.insist(0, "r1", first), Some("w1"));
    assert_eq!(queues.insist(0, "r1", second), None);
    assert_eq!(queues.load(0).waiting, 1);
    assert_eq!(names(queues.finish(0, "r1", 1)), [""; 0]);
    assert_eq!(names(queues.finish(0, "r1", 1)), ["w2"]);
}
