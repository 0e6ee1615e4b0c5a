#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const BASE: u32 = 1_000_000;

/// Every on-disk id is used once, every host id is used once, and all inside ids have one.
fn check(outside: u32, inside: u32) {
    let map = developer(BASE, outside, inside).unwrap();
    let total: u32 = map.iter().map(|(_, _, count)| count).sum();
    assert_eq!(total, ID_RANGE, "{map:?}");
    let host_of = |disk: u32| {
        map.iter()
            .find(|(from, _, count)| (*from..from + count).contains(&disk))
            .map(|(from, to, _)| to + (disk - from))
    };
    assert_eq!(host_of(outside), Some(BASE + inside));
    for other in [0, 1, 999, 1000, 1001, ID_RANGE - 1] {
        if other != inside {
            assert_eq!(host_of(BASE + other), Some(BASE + other), "{other}");
        }
    }
    let mut host: Vec<(u32, u32)> = map.iter().map(|(_, to, count)| (*to, to + count)).collect();
    host.sort_unstable();
    assert!(
        host.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "{host:?}"
    );
    // Host root is never what somebody else inside writes as.
    if outside != 0 {
        assert_eq!(host_of(0), None);
    }
}

#[test]
fn a_developers_map_is_injective_and_complete() {
    for inside in [0, 1, 1000, ID_RANGE - 1] {
        for outside in [0, 1000, 4_000_000] {
            check(outside, inside);
        }
    }
}

#[test]
fn ids_out_of_range_are_refused() {
    assert!(developer(BASE, BASE + 5, 1000).is_err());
    assert!(developer(BASE, 1000, ID_RANGE).is_err());
}

#[test]
fn a_swapped_map_is_a_permutation_of_the_plain_one() {
    assert_eq!(swapped(BASE, None), [(0, BASE, ID_RANGE)]);
    // Root's id is nobody else's, and nonsense swaps nothing.
    for pair in [(0, 5), (5, 5), (5, ID_RANGE)] {
        assert_eq!(swapped(BASE, Some(pair)), [(0, BASE, ID_RANGE)]);
    }
    for (one, other) in [(1234, 2000), (2000, 1234), (1, 2), (1, ID_RANGE - 1)] {
        let map = swapped(BASE, Some((one, other)));
        let host_of = |inside: u32| {
            let line = map
                .iter()
                .find(|(from, _, count)| (*from..from + count).contains(&inside));
            line.map(|(from, to, _)| to + (inside - from)).unwrap()
        };
        for (inside, disk) in [(one, other), (other, one), (0, 0)] {
            assert_eq!(host_of(inside), BASE + disk, "{map:?}");
        }
        let mut host: Vec<u32> = (0..ID_RANGE).map(host_of).collect();
        host.sort_unstable();
        host.dedup();
        assert_eq!(host.len(), ID_RANGE as usize);
    }
}
