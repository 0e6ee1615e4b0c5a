//! The checks and the whole suite of tests, with one honest last line.
//!
//! Owns the order (cheap first) and the count. What a test needs is `setup`'s, what it does its
//! own. A test that cannot run here prints `skipped: <why>`, and is counted as skipped, never as
//! passed. Nothing is kept between runs.
//!
//! Read next: `count`.

mod count;

use crate::{floors, licences, process, setup, tidy};
use anyhow::{Context, Result, bail};
pub(crate) use count::Count;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

/// Formatting, lints, floors, tidiness: what must be clean before anything is tested.
pub(crate) fn check(root: &Path) -> Result<()> {
    process::run(process::cargo(root).args(["fmt", "--all", "--check"]))?;
    floors::check(root)?;
    tidy::check(root)?;
    licences::check(root)?;
    process::run(process::cargo(root).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Everything: set-up, checks, all tests. `rest` goes to the test runner.
pub(crate) fn test(root: &Path, rest: &[&str]) -> Result<()> {
    setup::prepare(setup::Purpose::Test)?;
    check(root)?;
    // Tests of several processes start the real binaries. All targets at once, because cargo picks
    // the features of dependencies for all it is asked for: fewer targets would build some twice.
    process::run(process::cargo(root).args(["build", "--workspace", "--all-targets"]))?;
    let nextest = process::succeeds(process::cargo(root).args(["nextest", "--version"]));
    let mut count = Count::default();
    let passed = if nextest {
        let passed = by_nextest(root, rest, &mut count)?;
        // Examples in documentation are libtest's alone; arguments choose among other tests.
        let examples = rest.is_empty();
        passed && (!examples || by_libtest(root, &["--doc", "--quiet"], &mut count)?)
    } else {
        by_libtest(root, rest, &mut count)?
    };
    for skipped in count.said() {
        println!("{skipped}");
    }
    println!("{count}");
    if !passed || count.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

fn by_nextest(root: &Path, rest: &[&str], count: &mut Count) -> Result<bool> {
    // nextest's own folder, whatever cargo's target directory is.
    let report = root.join("target/nextest/default/junit.xml");
    if report.exists() {
        std::fs::remove_file(&report).with_context(|| report.display().to_string())?;
    }
    let mut command = process::cargo(root);
    command
        .args(["nextest", "run", "--workspace", "--no-fail-fast"])
        .args(["--status-level", "slow", "--color", "never"])
        .args(rest)
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo nextest")?;
    let pipe = child.stderr.take().context("cargo nextest has no output")?;
    for line in BufReader::new(pipe).lines() {
        let line = line.context("reading the tests' output")?;
        count.take_summary(&line);
        println!("{line}");
    }
    let status = child.wait().context("waiting for the tests")?;
    // Without a report nothing was run, which the status says.
    count.take_report(&std::fs::read_to_string(&report).unwrap_or_default());
    Ok(status.success())
}

fn by_libtest(root: &Path, rest: &[&str], count: &mut Count) -> Result<bool> {
    // libtest hides the output of tests that pass, and with it the word that one skipped.
    let mut command = process::cargo(root);
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(rest)
        .args(["--", "--show-output"])
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo test")?;
    let pipe = child.stdout.take().context("cargo test has no output")?;
    for line in BufReader::new(pipe).lines() {
        let line = line.context("reading the tests' output")?;
        count.take(&line);
        println!("{line}");
    }
    let status = child.wait().context("waiting for the tests")?;
    Ok(status.success())
}
