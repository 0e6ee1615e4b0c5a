//! Codes are found in both forms, however the formatter broke the line.

use super::found;

#[test]
fn codes_of_calls_and_of_reason_functions_are_found() {
    let text =
        "Failed::lasting(\n    \"DiskGone\", format!(\"x\"))\nFailed::transient(\"Late\", why)
    pub fn reason(&self) -> &'static str {
        match self {
            Error::A | Error::B => \"ImageOdd\",
        }
    }
    fn other() { \"NotACode\" }
";
    let codes: Vec<String> = found(text).into_iter().collect();
    assert_eq!(codes, ["DiskGone", "ImageOdd", "Late"]);
}

#[test]
fn declarations_and_variables_are_no_codes() {
    assert!(
        found("fn lasting(reason: &str) {}\nFailed::lasting(&reason, \"a sentence\")").is_empty()
    );
}
