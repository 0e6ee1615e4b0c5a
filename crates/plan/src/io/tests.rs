//! Stories, on a disk whose requests wait the longer the more of it is taken.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

const DISK: Device = (254, 0);
const PACE: Duration = Duration::from_millis(500);
const MIB: u64 = 1 << 20;

/// One environment: what it wants of the disk in a second, and whether it floods by requests.
#[derive(Clone, Copy)]
struct Wants {
    bytes: u64,
    requests: u64,
    reads: bool,
}

const fn writes(mib: u64, requests: u64) -> Wants {
    Wants {
        bytes: mib * MIB,
        requests,
        reads: false,
    }
}

const FLOOD: Wants = writes(300, 300);
const SMALL: Wants = writes(1, 100);

/// A disk and what stands between the environments and it.
struct World {
    disks: Disks<&'static str>,
    now: Duration,
    /// How long a request takes while this many bytes are moved in a second.
    wait: fn(u64) -> Duration,
    held: BTreeMap<(&'static str, Device), Limit>,
    /// Moved in all.
    moved: BTreeMap<&'static str, u64>,
}

/// Waits grow with what goes on.
fn queue(moved: u64) -> Duration {
    Duration::from_micros(1000 + moved / MIB * 20)
}

impl World {
    fn new(wait: fn(u64) -> Duration) -> Self {
        Self {
            disks: Disks::default(),
            now: Duration::from_secs(100),
            wait,
            held: BTreeMap::new(),
            moved: BTreeMap::new(),
        }
    }

    fn limit(&self, name: &'static str) -> Option<Limit> {
        self.held.get(&(name, DISK)).copied()
    }

    /// One pace with these at work.
    fn pace(&mut self, working: &[(&'static str, Wants)]) {
        let does = |name, wants: Wants| {
            let limit = self.limit(name).unwrap_or_default();
            let limit = if wants.reads { limit.read } else { limit.write };
            let part = |wants: u64, most: Option<u64>| most.map_or(wants, |most| wants.min(most));
            let bytes = part(wants.bytes, limit.map(|limit| limit.bytes));
            let requests = part(wants.requests, limit.map(|limit| limit.requests));
            Amount {
                bytes: bytes / 2,
                requests: requests / 2,
            }
        };
        let done: Vec<_> = working
            .iter()
            .map(|(name, wants)| (*name, does(name, *wants), wants.reads))
            .collect();
        let wait = (self.wait)(done.iter().map(|(_, done, _)| done.bytes * 2).sum());
        let seen: Vec<_> = done
            .iter()
            .map(|(name, done, reads)| Seen {
                key: *name,
                device: DISK,
                read: if *reads { *done } else { Amount::default() },
                write: if *reads { Amount::default() } else { *done },
                waited: Some(wait * u32::try_from(done.requests).unwrap()),
            })
            .collect();
        for (name, done, _) in done {
            *self.moved.entry(name).or_default() += done.bytes;
        }
        self.now += PACE;
        self.held = self.disks.observe(self.now, PACE, &seen);
    }

    fn paces(&mut self, count: u32, working: &[(&'static str, Wants)]) {
        for _ in 0..count {
            self.pace(working);
        }
    }
}

#[test]
fn a_flood_alone_is_never_held() {
    let mut world = World::new(queue);
    for _ in 0..100 {
        world.pace(&[("flood", FLOOD)]);
        assert!(world.held.is_empty());
    }
    assert!(world.disks.exposed().is_empty());
}

#[test]
fn a_flood_is_held_while_a_neighbour_waits_and_let_go_when_that_is_done() {
    let mut world = World::new(queue);
    world.paces(10, &[("small", SMALL)]);
    world.paces(4, &[("flood", FLOOD), ("small", SMALL)]);
    let limit = world.limit("flood").unwrap().write.unwrap();
    assert!(limit.bytes < 256 * MIB, "{limit:?}");
    assert_eq!(world.limit("flood").unwrap().read, None);
    assert!(world.limit("small").is_none());
    assert_eq!(world.disks.exposed(), ["small"].into());
    // Nobody is there any more: within two paces everything is free.
    world.paces(3, &[("flood", FLOOD)]);
    assert!(world.held.is_empty());
}

#[test]
fn no_more_is_taken_than_is_needed() {
    let mut world = World::new(queue);
    world.paces(10, &[("small", SMALL)]);
    world.moved.clear();
    // A little too long at 300 MiB a second, and no longer at 265.
    let mild = |moved: u64| Duration::from_micros(600 + moved / MIB * 9);
    world.wait = mild;
    world.paces(120, &[("flood", FLOOD), ("small", SMALL)]);
    let kept = world.moved["flood"] * 100 / (60 * FLOOD.bytes);
    assert!((75..100).contains(&kept), "{kept} %");
    assert_eq!(world.moved["small"], 60 * SMALL.bytes);
}

#[test]
fn nobody_is_held_below_half_of_what_it_took() {
    let mut world = World::new(|moved| Duration::from_micros(500 + moved / MIB * 100));
    world.paces(10, &[("small", SMALL)]);
    for _ in 0..100 {
        world.pace(&[("flood", FLOOD), ("small", SMALL)]);
        if let Some(limit) = world.limit("flood") {
            let limit = limit.write.unwrap();
            assert!(limit.bytes >= FLOOD.bytes * 49 / 100, "{limit:?}");
        }
    }
    assert!(world.limit("flood").is_some());
}

#[test]
fn who_was_helped_once_is_protected_from_the_first_moment_the_next_time() {
    let mut world = World::new(queue);
    world.paces(10, &[("small", SMALL)]);
    world.paces(12, &[("flood", FLOOD), ("small", SMALL)]);
    world.paces(10, &[("flood", FLOOD)]);
    assert!(world.held.is_empty());
    world.pace(&[("flood", FLOOD), ("small", SMALL)]);
    let limit = world.limit("flood").unwrap().write.unwrap();
    assert!(limit.bytes <= FLOOD.bytes * 9 / 10, "{limit:?}");
    // One that waits for nothing was never helped.
    let mut world = World::new(|_| Duration::from_millis(1));
    world.paces(10, &[("flood", FLOOD)]);
    world.pace(&[("flood", FLOOD), ("other", SMALL)]);
    assert!(world.held.is_empty());
}

#[test]
fn letting_go_is_tried_the_less_the_more_often_it_was_too_soon() {
    let mut world = World::new(queue);
    world.paces(10, &[("small", SMALL)]);
    let mut free = [0, 0];
    for free in &mut free {
        for _ in 0..600 {
            world.pace(&[("flood", FLOOD), ("small", SMALL)]);
            *free += u32::from(world.held.is_empty());
        }
    }
    assert!(free[0] > 0 && free[1] <= 6, "{free:?}");
    // It is not given away for that: what is held is what was needed.
    let kept = world.moved["flood"] * 100 / (600 * FLOOD.bytes);
    assert!(kept >= 50, "{kept} %");
}

#[test]
fn what_a_flood_takes_is_its_mean_and_not_a_moments() {
    let mut world = World::new(queue);
    // As a disk takes it that has a store before it: a lot at once, then little.
    for pace in 0..60 {
        let now = if pace % 4 == 0 {
            writes(900, 900)
        } else {
            writes(100, 100)
        };
        if pace < 12 {
            world.pace(&[("flood", now)]);
        } else {
            world.pace(&[("flood", now), ("small", SMALL)]);
        }
        if let Some(limit) = world.limit("flood") {
            let bytes = limit.write.unwrap().bytes / MIB;
            // Of the mean, half to twice as much, where it is let go.
            assert!((150..600).contains(&bytes), "{bytes} MiB");
        }
    }
    assert!(world.limit("flood").is_some());
}

#[test]
fn a_hold_that_does_not_help_is_lifted_and_seldom_tried_again() {
    // The disk is slow, or something else is: it does not matter what is moved.
    let mut world =
        World::new(|moved| Duration::from_millis(if moved > 10 * MIB { 40 } else { 1 }));
    world.paces(10, &[("small", SMALL)]);
    world.paces(600, &[("flood", FLOOD), ("small", SMALL)]);
    let kept = world.moved["flood"] * 100 / (300 * FLOOD.bytes);
    assert!(kept >= 92, "{kept} %");
}

#[test]
fn waits_that_are_as_long_without_a_flood_hold_nobody() {
    let mut world = World::new(|_| Duration::from_millis(20));
    world.paces(20, &[("small", SMALL)]);
    for _ in 0..50 {
        world.pace(&[("flood", FLOOD), ("small", SMALL)]);
        assert!(world.held.is_empty());
    }
}

#[test]
fn equals_are_left_alone() {
    let mut world = World::new(queue);
    for _ in 0..50 {
        world.pace(&[("one", FLOOD), ("two", writes(250, 300))]);
        assert!(world.held.is_empty());
    }
}

#[test]
fn all_who_take_much_are_held_and_nobody_else() {
    let mut world = World::new(queue);
    let all = [
        ("one", FLOOD),
        ("two", FLOOD),
        ("middle", writes(70, 100)),
        ("small", SMALL),
    ];
    world.paces(3, &all);
    let held: Vec<_> = world.held.keys().map(|(name, _)| *name).collect();
    assert_eq!(held, ["one", "two"]);
}

#[test]
fn many_small_requests_are_a_flood_and_are_held_by_their_number() {
    let mut world = World::new(|moved| Duration::from_micros(moved / MIB * 500));
    world.paces(10, &[("small", SMALL)]);
    world.paces(3, &[("flood", writes(32, 8000)), ("small", SMALL)]);
    let limit = world.limit("flood").unwrap().write.unwrap();
    assert!(limit.requests <= 6800, "{limit:?}");
}

#[test]
fn one_that_reads_is_held_at_reading_and_when_it_turns_to_writing_at_that_too() {
    let mut world = World::new(|moved| Duration::from_micros(500 + moved / MIB * 100));
    let reads = Wants {
        reads: true,
        ..FLOOD
    };
    world.paces(10, &[("small", SMALL)]);
    world.paces(3, &[("flood", reads), ("small", SMALL)]);
    let limit = world.limit("flood").unwrap();
    assert!(limit.read.is_some() && limit.write.is_none(), "{limit:?}");
    let turned = world.moved["flood"];
    world.paces(12, &[("flood", FLOOD), ("small", SMALL)]);
    assert!(world.moved["flood"] > turned);
    assert!(world.limit("flood").unwrap().write.is_some());
}

#[test]
fn what_the_flood_leaves_off_by_itself_ends_the_hold() {
    let mut world = World::new(queue);
    world.paces(10, &[("small", SMALL)]);
    world.paces(4, &[("flood", FLOOD), ("small", SMALL)]);
    assert!(world.limit("flood").is_some());
    world.paces(8, &[("flood", writes(2, 10)), ("small", SMALL)]);
    assert!(world.held.is_empty(), "{:?}", world.held);
}

#[test]
fn disks_have_nothing_to_do_with_each_other() {
    let mut disks = Disks::default();
    let seen = |key, device, amount: Wants, wait: u32| Seen {
        key,
        device,
        read: Amount::default(),
        write: Amount {
            bytes: amount.bytes / 2,
            requests: amount.requests / 2,
        },
        waited: Some(Duration::from_millis(10) * wait),
    };
    for pace in 1..20 {
        let all = [
            seen("flood", (7, 0), FLOOD, 100),
            seen("small", (8, 0), SMALL, 100),
        ];
        assert!(disks.observe(PACE * pace, PACE, &all).is_empty());
    }
}

#[test]
fn who_is_forgotten_leaves_nothing() {
    let mut world = World::new(queue);
    world.paces(4, &[("flood", FLOOD), ("small", SMALL)]);
    world.paces(130, &[]);
    assert!(world.disks.0.is_empty());
}

/// A disk of so much a second before which a queue stands that takes time to go.
struct Queued {
    rate: u64,
    queue: u64,
}

impl Queued {
    /// One pace beside a flood that wants so much: what it was let do, what was moved, and how long a
    /// request waits.
    fn pace(&mut self, wants: u64) -> (u64, u64, Duration) {
        let at_once = self.rate / 2;
        // Nobody has more under way than two seconds' worth.
        let taken = wants.min(self.rate * 2 + at_once - self.queue);
        let moved = (self.queue + taken).min(at_once);
        self.queue = self.queue + taken - moved;
        let wait = Duration::from_millis(1 + self.queue * 1000 / self.rate);
        (taken, moved, wait)
    }
}

#[test]
fn a_queue_at_the_disk_is_drained_and_the_disk_kept_busy() {
    let mut disk = Queued {
        rate: 100 * MIB,
        queue: 0,
    };
    let mut disks = Disks::default();
    let (mut long, mut moved, mut limit) = (0, 0, None);
    for pace in 0..250 {
        let alone = pace < 10;
        let wants = limit.unwrap_or(disk.rate * 4) / 2;
        let (taken, now, wait) = disk.pace(if alone { 0 } else { wants });
        if !alone {
            long += u32::from(wait > Duration::from_millis(20));
            moved += now;
        }
        let seen = |key, bytes: u64, requests: u64, waited| Seen {
            key,
            device: DISK,
            read: Amount::default(),
            write: Amount { bytes, requests },
            waited: Some(waited),
        };
        let mut all = vec![seen("small", 4 << 10, 5, wait * 5)];
        if !alone {
            all.push(seen("flood", taken, taken >> 19, Duration::ZERO));
        }
        let held = disks.observe(Duration::from_secs(100) + PACE * pace, PACE, &all);
        let held = held.get(&("flood", DISK));
        limit = held.map(|limit| limit.write.unwrap().bytes);
    }
    // The first queue takes twelve, twice; the rest is steps too far.
    assert!(long <= 40, "{long} of 240 paces");
    let kept = moved * 100 / (120 * disk.rate);
    assert!(kept >= 90, "{kept} %");
}
