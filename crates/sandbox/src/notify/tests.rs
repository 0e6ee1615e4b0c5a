//! What is read of a caller.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn a_callers_ids_are_those_by_which_access_is_judged() {
    let status =
        "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapEff:\t000001ffffffffff\n";
    let ids = Ids {
        uid: 4,
        gid: 8,
        groups: vec![9, 10],
        capabilities: 0x1ff_ffff_ffff,
    };
    assert_eq!(Ids::parse(status), Some(ids));
    assert_eq!(Ids::parse("Uid:\t1\n"), None);
}

#[test]
fn only_own_descriptors_are_taken_by_name() {
    assert_eq!(descriptor(b"/proc/self/fd/6"), Some(6));
    assert_eq!(descriptor(b"/proc/thread-self/fd/12"), Some(12));
    for path in [
        &b"/proc/self/fd/6/x"[..],
        b"/proc/self/fd/",
        b"/proc/self/fd/-1",
        b"/proc/1/fd/6",
        b"/mnt",
        b"\xff",
    ] {
        assert_eq!(descriptor(path), None);
    }
}
