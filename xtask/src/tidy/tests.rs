//! Each rule catches its fault and nothing else.

use super::judge;

#[test]
fn a_file_in_order_has_no_fault() {
    assert!(judge("crates/api/src/word.rs", "//! Owns words.\n").is_empty());
}

#[test]
fn missing_docs_length_and_empty_names_are_faults() {
    assert_eq!(judge("crates/api/src/word.rs", "fn a() {}\n").len(), 1);
    assert_eq!(
        judge("crates/api/src/word.rs", &"//! Long.\n".repeat(801)).len(),
        1
    );
    assert_eq!(judge("crates/api/src/utils.rs", "//! Owns all.\n").len(), 1);
    assert_eq!(
        judge("crates/api/src/word/mod.rs", "//! Owns words.\n").len(),
        1
    );
}

#[test]
fn processes_start_only_in_listed_places() {
    let text = concat!("//! Owns words.\nfn a() { Command", "::new(\"x\"); }\n");
    assert_eq!(judge("crates/api/src/word.rs", text).len(), 1);
    assert!(judge("crates/image/src/bootstrap.rs", text).is_empty());
    assert!(judge("crates/image/tests/pull.rs", text).is_empty());
}

#[test]
fn unsafe_stands_only_in_the_sandboxs_system_calls() {
    let text = concat!("//! Owns words.\nfn a() { unsafe", " { b() } }\n");
    assert_eq!(judge("crates/api/src/word.rs", text).len(), 1);
    assert!(judge("crates/sandbox/src/sys/process.rs", text).is_empty());
}
