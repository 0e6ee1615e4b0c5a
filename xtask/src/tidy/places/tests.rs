//! Listed places may, others may not, and a list does not outlive its files.

use super::{exempt, judge, stale};

#[test]
fn a_call_is_refused_outside_its_places() {
    let clock = concat!("let now = Timestamp", "::now();");
    assert_eq!(judge("crates/plan/src/environment.rs", clock).len(), 1);
    assert!(judge("crates/runner/src/context.rs", clock).is_empty());
    let task = concat!("tokio", "::spawn(async {});");
    assert_eq!(judge("crates/runner/src/context.rs", task).len(), 1);
}

#[test]
fn tests_and_measuring_programs_are_exempt() {
    assert!(exempt("crates/image/tests/pull.rs") && exempt("crates/a/src/b/tests.rs"));
    assert!(!exempt("crates/image/src/pull.rs"));
}

#[test]
fn a_place_without_a_file_is_named() {
    assert!(!stale(&["xtask/src/main.rs".to_owned()]).is_empty());
}
