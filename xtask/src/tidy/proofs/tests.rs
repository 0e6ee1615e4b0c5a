//! A document that names what is not there is caught; one that does not is left alone.

use super::judge;

fn faults(text: &str) -> Vec<String> {
    let there = ["crates/a/tests/x.rs", "crates/a/tests/y.rs"];
    judge(
        text,
        |path| there.contains(&path),
        |path| {
            path.ends_with("x.rs")
                .then(|| "fn kills_leave_nothing() {}".to_owned())
        },
    )
}

#[test]
fn tests_that_exist_are_no_fault() {
    assert!(faults("| a | `crates/a/tests/x.rs`: `kills_leave_nothing` |").is_empty());
}

#[test]
fn a_missing_test_and_a_missing_file_are_named() {
    assert_eq!(
        faults("`crates/a/tests/x.rs`: `was_renamed_long_ago`; `crates/a/tests/z.rs`"),
        [
            "crates/a/tests/x.rs has no test was_renamed_long_ago",
            "there is no crates/a/tests/z.rs"
        ]
    );
}

#[test]
fn a_sibling_file_is_found_beside_the_one_before() {
    assert_eq!(
        faults("`crates/a/tests/x.rs`: `kills_leave_nothing`; `y.rs`: `is_not_in_there`").len(),
        1
    );
}

#[test]
fn words_that_only_look_like_names_are_left_alone() {
    assert!(
        faults("`user_ns_clone` is a setting; `docs/adr/YYYY-MM-DD-slug.md` a form").is_empty()
    );
}
