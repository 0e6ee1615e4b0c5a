//! The benchmarks, beside their peers in one run.
//!
//! Owns finding them: the program `bench` of the test harness. What is measured and how is
//! written there; results are kept in docs/benchmarks.md by hand, losses included.
//!
//! Read next: docs/benchmarks.md.

use crate::{process, setup};
use anyhow::Result;
use std::path::Path;

/// Sets up and runs the benchmark of the test harness with `rest` as its arguments.
pub(crate) fn run(root: &Path, rest: &[&str]) -> Result<()> {
    setup::prepare(setup::Purpose::Bench)?;
    process::run(process::cargo(root).args(["build", "--release", "--package", "boatyard-cli"]))?;
    process::run(
        process::cargo(root)
            .args([
                "run",
                "--release",
                "--package",
                "boatyard-testkit",
                "--bin",
                "bench",
                "--",
            ])
            .args(rest),
    )
}
