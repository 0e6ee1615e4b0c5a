//! Sizes and warnings by table.

use super::*;

#[test]
fn a_disk_grows_and_is_never_made_smaller() {
    let gib = |count: u64| Some(count << 30);
    for (granted, wanted, bytes, kept) in [
        (None, None, None, None),
        (None, gib(20), gib(20), None),
        (gib(20), gib(20), gib(20), None),
        (gib(20), gib(30), gib(30), None),
        (
            gib(20),
            gib(10),
            gib(20),
            Some("stays at 20 GiB: a disk is not made smaller"),
        ),
        (
            gib(20),
            None,
            gib(20),
            Some("stays at 20 GiB, though its class has no limit"),
        ),
    ] {
        let sized = sized(granted, wanted);
        assert_eq!(sized.bytes, bytes, "{granted:?} {wanted:?}");
        match (sized.kept, kept) {
            (Some(said), Some(kept)) => assert!(said.contains(kept), "{said}"),
            (said, kept) => assert_eq!(said.as_deref(), kept),
        }
    }
}

#[test]
fn the_warning_comes_at_ninety_percent_and_goes_below_eightyfive() {
    let mut said = Vec::new();
    let mut pressure = Pressure::None;
    for (bytes, inodes) in [
        (50, 50),
        (89, 50),
        (90, 50),
        (88, 50),
        (85, 50),
        (84, 50),
        (89, 89),
        (50, 91),
        (50, 86),
        // What is worse is said.
        (95, 86),
        (84, 86),
        (50, 91),
        (50, 84),
    ] {
        let usage = Usage {
            bytes: 100 << 30,
            bytes_free: (100 - bytes) << 30,
            inodes: 1000,
            inodes_free: 1000 - inodes * 10,
        };
        pressure = super::pressure(pressure, &usage);
        said.push(pressure);
    }
    use Pressure::{Bytes, Inodes, None};
    assert_eq!(
        said,
        [
            None, None, Bytes, Bytes, Bytes, None, None, Inodes, Inodes, Bytes, None, Inodes, None
        ]
    );
    // A disk that cannot say how many files it holds has room for them.
    let btrfs = Usage {
        bytes: 100,
        bytes_free: 50,
        ..Usage::default()
    };
    assert_eq!(super::pressure(None, &btrfs), None);
}

#[test]
fn what_is_said_names_what_is_large_and_a_remedy() {
    let usage = Usage {
        bytes: 20 << 30,
        bytes_free: 1 << 30,
        inodes: 1_310_720,
        inodes_free: 1000,
    };
    let largest = [
        ("/var/lib/docker".to_owned(), 12_026_000_000),
        ("/root".to_owned(), 900 << 20),
    ];
    assert_eq!(
        message(Pressure::Bytes, &usage, &largest),
        "its disk of 20 GiB is nearly full; most is in /var/lib/docker (11.2 GiB), /root (900 MiB); remove what is not needed, or give it a class with a larger disk"
    );
    let many = [("/workspaces".to_owned(), 1_200_000)];
    let said = message(Pressure::Inodes, &usage, &many);
    assert!(
        said.contains("1310720 files") && said.contains("/workspaces (1200000 files)"),
        "{said}"
    );
    for pressure in [Pressure::None, Pressure::Inodes, Pressure::Bytes] {
        assert_eq!(Pressure::named(pressure.reason()), Some(pressure));
    }
}

#[test]
fn a_small_disk_keeps_little_for_the_runner() {
    assert_eq!(reserve(20 << 30), 16 << 20);
    assert_eq!(reserve(64 << 20), 4 << 20);
}
