//! Lines as the two runners print them.

use super::Count;

fn count(lines: &[&str]) -> String {
    let mut count = Count::default();
    for line in lines {
        count.take(line);
    }
    count.to_string()
}

#[test]
fn results_of_all_binaries_are_added() {
    let line = "test result: ok. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s";
    assert_eq!(count(&[line, line]), "6 passed, 2 failed, 4 skipped");
}

#[test]
fn a_summary_is_read_with_its_failures() {
    assert_eq!(
        count(&["     Summary [   2.01s] 10 tests run: 8 passed (1 slow), 2 failed, 3 skipped"]),
        "8 passed, 2 failed, 3 skipped"
    );
}

#[test]
fn a_test_that_says_it_skipped_did_not_pass() {
    assert_eq!(
        count(&[
            "skipped: no podman",
            "Summary [ 1s] 2 tests run: 2 passed, 0 skipped"
        ]),
        "1 passed, 0 failed, 1 skipped"
    );
}

#[test]
fn results_of_single_tests_are_not_added_to_a_summary() {
    let mut count = Count {
        only_summary: true,
        ..Count::default()
    };
    count.take("Summary [ 1s] 1 test run: 1 passed, 0 skipped");
    count.take("    test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 10 filtered out");
    assert_eq!(count.to_string(), "1 passed, 0 failed, 0 skipped");
}
