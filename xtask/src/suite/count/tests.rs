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
fn a_summary_is_read_once_with_its_failures() {
    let line = "     Summary [   2.01s] 10 tests run: 8 passed (1 slow), 2 failed, 3 skipped";
    let mut count = Count::default();
    count.take_summary(line);
    count.take_summary(line);
    count.take_summary("test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured");
    assert_eq!(count.to_string(), "8 passed, 2 failed, 3 skipped");
}

#[test]
fn a_test_that_says_it_skipped_did_not_pass() {
    assert_eq!(
        count(&[
            "skipped: no podman",
            "test result: ok. 2 passed; 0 failed; 0 ignored"
        ]),
        "1 passed, 0 failed, 1 skipped"
    );
}

#[test]
fn skips_are_found_in_nextests_report() {
    let mut count = Count::default();
    count.take_summary("Summary [ 1s] 3 tests run: 3 passed, 0 skipped");
    count.take_report(
        "<testcase name=\"a\"><system-out>\nrunning 1 test\n</system-out>
<system-err>SKIPPED: no /dev/fuse\n</system-err></testcase>
<testcase name=\"b\"><system-out>skipped: no podman
an entry was skipped: it is old</system-out></testcase>",
    );
    assert_eq!(
        count.said(),
        ["SKIPPED: no /dev/fuse", "skipped: no podman"]
    );
    assert_eq!(count.to_string(), "1 passed, 0 failed, 2 skipped");
}
