//! The table refuses what it must and lets pass what it may.

use super::{FLOORS, judge, judge_lock};

fn faults(name: &str, imports: &[&str]) -> Vec<String> {
    FLOORS
        .iter()
        .filter(|floor| floor.name == name)
        .flat_map(|floor| judge(floor, imports.iter().copied()))
        .collect()
}

#[test]
fn an_import_from_a_floor_above_is_refused_with_its_reason() {
    let faults = faults("plan", &["boatyard-api", "boatyard-runner", "tokio"]);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("may import only [api]"));
    assert!(faults[1].contains("tested by tables"));
}

#[test]
fn nobody_imports_the_test_harness() {
    assert_eq!(faults("cli", &["boatyard-testkit"]).len(), 1);
}

#[test]
fn a_crate_may_name_itself_for_its_own_test_features() {
    assert!(faults("sandbox", &["boatyard-sandbox"]).is_empty());
}

#[test]
fn banned_packages_are_found_by_whole_name() {
    assert_eq!(judge_lock("name = \"openssl-sys\"\n").len(), 1);
    assert!(judge_lock("name = \"openssl-sys-not\"\n").is_empty());
}
