//! The benchmarks, beside their peers in one run.
//!
//! Owns finding them: every example of the workspace named `bench`. What is measured and how is
//! written there; results are kept in docs/benchmarks.md by hand, losses included.
//!
//! Read next: docs/benchmarks.md.

use crate::{process, setup};
use anyhow::{Result, bail};
use std::path::Path;

/// Sets up and runs the benchmark of the test harness with `rest` as its arguments.
pub(crate) fn run(root: &Path, rest: &[&str]) -> Result<()> {
    setup::prepare(setup::Purpose::Bench)?;
    if !root.join("crates/testkit/examples/bench.rs").is_file() {
        bail!("there is no benchmark yet: crates/testkit/examples/bench.rs is missing");
    }
    process::run(process::cargo(root).args(["build", "--release", "--package", "boatyard-cli"]))?;
    process::run(
        process::cargo(root)
            .args([
                "run",
                "--release",
                "--package",
                "boatyard-testkit",
                "--example",
                "bench",
                "--",
            ])
            .args(rest),
    )
}
