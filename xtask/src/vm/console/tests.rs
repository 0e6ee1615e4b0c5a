use super::Report;

fn report(lines: &[&str]) -> Report {
    let mut report = Report::default();
    for line in lines {
        report.take(line);
    }
    report
}

const GOOD: [&str; 5] = [
    "vm: up, Linux 6.1.0, cgroup v2 with cpu memory pids\r",
    "vm: run 0-sandbox\r",
    "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\r",
    "vm: exit 0 0-sandbox\r",
    "vm: end\r",
];

#[test]
fn a_run_to_the_end_is_good() {
    let report = report(&GOOD);
    assert_eq!(report.summary(), "3 passed, 0 failed, 1 skipped");
    assert!(report.verdict().is_ok());
}

#[test]
fn a_machine_that_ends_early_has_failed() {
    for length in 0..GOOD.len() {
        assert!(report(&GOOD[..length]).verdict().is_err(), "{length}");
    }
}

#[test]
fn a_failed_test_is_named() {
    let mut lines = GOOD.to_vec();
    lines.insert(2, "test limits_hold ... FAILED\r");
    let error = report(&lines).verdict().err().map(|e| e.to_string());
    assert_eq!(error.as_deref(), Some("failed in the machine: limits_hold"));
}

#[test]
fn a_killed_program_is_named() {
    let mut lines = GOOD.to_vec();
    lines[3] = "vm: exit 137 0-sandbox";
    let error = report(&lines).verdict().err().map(|e| e.to_string());
    assert_eq!(
        error.as_deref(),
        Some("failed in the machine: 0-sandbox ended with 137")
    );
}
