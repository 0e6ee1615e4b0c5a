//! The table refuses what it must and lets pass what it may.

use super::{FLOORS, judge, judge_features, judge_lock};

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

#[test]
fn features_for_tests_are_asked_for_by_the_crates_own_tests_alone() {
    let judged = |asks: &str, text: &str| {
        let manifest = cargo_toml::Manifest::from_slice(text.as_bytes()).unwrap();
        judge_features(asks, &manifest).len()
    };
    let asks = |section: &str| {
        format!(
            "[{section}]\nboatyard-sandbox = {{ path = \".\", features = [\"kill-points\"] }}\n"
        )
    };
    assert_eq!(judged("sandbox", &asks("dev-dependencies")), 0);
    assert_eq!(judged("sandbox", "[features]\nkill-points = []\n"), 0);
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        assert_eq!(judged("runner", &asks(section)), 1, "{section}");
    }
    assert_eq!(judged("the workspace", &asks("workspace.dependencies")), 1);
    assert_eq!(judged("sandbox", &asks("dependencies")), 1);
    assert_eq!(
        judged(
            "sandbox",
            "[features]\ndefault = [\"removable-protections\"]\n"
        ),
        1
    );
    assert_eq!(
        judged(
            "cli",
            "[features]\nx = [\"boatyard-sandbox/removable-protections\"]\n"
        ),
        1
    );
}
