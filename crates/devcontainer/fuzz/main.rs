//! The fuzzer: libFuzzer around `boatyard_devcontainer::fuzzing`, started by `cargo xtask fuzz`.
//!
//! `main` is libFuzzer's. Which target it feeds is in `BOATYARD_FUZZ_TARGET`.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("BOATYARD_FUZZ_TARGET").unwrap_or_default());

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    assert!(
        boatyard_devcontainer::fuzzing::run(&TARGET, data),
        "BOATYARD_FUZZ_TARGET names no target: {:?}",
        *TARGET
    );
});
