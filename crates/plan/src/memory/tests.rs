//! By table.
use super::*;

const MIB: u64 = 1 << 20;

#[test]
fn a_builder_goes_before_anything_interactive_and_init_last() {
    let order = [
        Role::Init,
        Role::Shell,
        Role::Server,
        Role::Program,
        Role::Builder,
    ];
    assert!(order.is_sorted_by_key(|role| role.score()));
    assert_eq!(Role::Init.score(), 0, "nothing can be lower");
}

#[test]
fn scores_are_raised_and_returned_but_a_processs_own_stays() {
    for (role, score, wanted) in [
        (Role::Builder, 0, Some(500)),
        (Role::Builder, 300, Some(500)),
        (Role::Builder, 500, None),
        // It asked to be killed first.
        (Role::Builder, 1000, None),
        (Role::Shell, 750, None),
        // Moved back from the builders.
        (Role::Shell, 500, Some(100)),
        (Role::Program, 100, Some(300)),
        (Role::Init, 0, None),
        (Role::Init, 300, Some(0)),
    ] {
        let process = Process {
            pid: 7,
            role,
            score,
        };
        let expected: Vec<(u32, i32)> = wanted.into_iter().map(|score| (7, score)).collect();
        assert_eq!(scores(&[process]), expected, "{role:?} at {score}");
    }
}

#[test]
fn processes_are_looked_at_more_often_while_memory_is_short() {
    let roomy = Host {
        total: 1000,
        available: 500,
    };
    let short = Host {
        total: 1000,
        available: 100,
    };
    let calm = next_look(10, Some(100), &roomy);
    for (used, limit, host) in [(50, Some(100), &roomy), (10, None, &short)] {
        assert!(next_look(used, limit, host) < calm);
    }
    assert_eq!(next_look(1 << 40, None, &roomy), calm);
}

#[test]
fn the_hosts_memory_is_read() {
    let host = Host::parse("MemTotal:       16000 kB\nMemFree: 1 kB\nMemAvailable:    2000 kB\n");
    assert_eq!((host.total, host.available), (16_000 << 10, 2000 << 10));
    assert!(!host.is_short(), "exactly an eighth");
    assert_eq!(Host::parse("nonsense"), Host::default());
}

#[test]
fn memory_comes_back_from_the_longest_idle_first_and_never_below_its_request() {
    let holder = |id, minutes, used, request| Holder {
        id,
        idle: Duration::from_mins(minutes),
        used: used * MIB,
        request: request * MIB,
    };
    let holders = [
        holder("busy", 0, 900, 0),
        holder("short", 5, 300, 280),
        holder("long", 60, 100, 90),
        holder("modest", 90, 50, 64),
    ];
    let host = |available: u64| Host {
        total: 8000 * MIB,
        available: available * MIB,
    };
    assert_eq!(reclaim(&holders, &host(1000)), []);
    assert_eq!(reclaim(&holders, &host(999)), [("long", 10 * MIB)]);
    assert_eq!(
        reclaim(&holders, &host(500)),
        [("long", 10 * MIB), ("short", 20 * MIB)]
    );
    let large = [holder("large", 5, 4000, 0)];
    assert_eq!(
        reclaim(&large, &host(100)),
        [("large", 64 * MIB)],
        "by bites"
    );
}
