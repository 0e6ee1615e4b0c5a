//! Rows.
use super::*;
use boatyard_api::environment::EnvironmentStatus;

#[test]
fn a_row_says_use_limit_and_why_it_is_slowed() {
    let mut environment = Environment::new("hull", Default::default());
    environment.status = Some(EnvironmentStatus {
        phase: Phase::Running,
        ..EnvironmentStatus::default()
    });
    assert_eq!(
        row(&environment, None),
        ["hull", "Running", "-", "-", "-", "-", ""]
    );
    let live = Live {
        resources: serde_json::from_value(json!({
            "cpu": "2",
            "slowed": [{"reason": "CpuLimit", "message": "builds held at 90% of 2 processors"}],
        }))
        .unwrap_or_default(),
        cpu_millis: 1805,
        memory_bytes: 3 << 20,
        pids: 7,
        pressure: None,
    };
    assert_eq!(
        row(&environment, Some(&live)),
        [
            "hull",
            "Running",
            "1.80/2",
            "3Mi",
            "7",
            "-",
            "builds held at 90% of 2 processors"
        ]
    );
}
