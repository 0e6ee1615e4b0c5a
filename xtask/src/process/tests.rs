//! What a nested cargo is told of the outer one.

use super::is_about_a_package;

#[test]
fn a_nested_cargo_keeps_what_the_user_set_and_not_whose_child_it_is() {
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_VERSION", "CARGO_PKG_NAME"] {
        assert!(is_about_a_package(name), "{name}");
    }
    for name in [
        "CARGO_TARGET_DIR",
        "CARGO_HOME",
        "CARGO_BUILD_JOBS",
        "CARGO_TERM_COLOR",
        "PATH",
    ] {
        assert!(!is_about_a_package(name), "{name}");
    }
}
