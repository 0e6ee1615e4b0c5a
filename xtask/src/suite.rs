//! The checks and the whole suite of tests, with one honest last line.
//!
//! Owns the order (cheap first) and the count. What a test needs is `setup`'s, what it does its
//! own. A test that cannot run here prints `skipped: <why>`, and is counted as skipped, never as
//! passed. Nothing is kept between runs.
//!
//! Read next: `count`.

mod count;

use crate::{floors, process, setup, tidy};
use anyhow::{Context, Result, bail};
use count::Count;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

/// Formatting, lints, floors, tidiness: what must be clean before anything is tested.
pub(crate) fn check(root: &Path) -> Result<()> {
    process::run(process::cargo(root).args(["fmt", "--all", "--check"]))?;
    floors::check(root)?;
    tidy::check(root)?;
    licences(root)?;
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

/// `cargo deny` where it is installed; the lock file's bans are held by `deps` in any case.
fn licences(root: &Path) -> Result<()> {
    if process::on_path("cargo-deny") {
        return process::run(process::cargo(root).args([
            "deny",
            "--workspace",
            "check",
            "licenses",
            "bans",
            "sources",
        ]));
    }
    println!(
        "deny: cargo-deny is not installed: licences and sources were not checked, banned packages were (deps)"
    );
    Ok(())
}

/// Everything: set-up, checks, all tests. `rest` goes to the test runner.
pub(crate) fn test(root: &Path, rest: &[&str]) -> Result<()> {
    setup::prepare(setup::Purpose::Test)?;
    check(root)?;
    // Tests of several processes start the real binaries.
    process::run(process::cargo(root).args([
        "build",
        "--package",
        "boatyard-cli",
        "--package",
        "boatyard-agent",
    ]))?;
    let nextest = process::succeeds(process::cargo(root).args(["nextest", "--version"]));
    let mut command = process::cargo(root);
    if nextest {
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--success-output",
            "final",
        ]);
    } else {
        command.args(["test", "--workspace", "--no-fail-fast"]);
    }
    command.args(rest);
    let mut child = if nextest {
        command
            .args(["--color", "never"])
            .stderr(Stdio::piped())
            .spawn()
    } else {
        // libtest hides the output of tests that pass, and with it the word that one skipped.
        command
            .args(["--", "--show-output"])
            .stdout(Stdio::piped())
            .spawn()
    }
    .context("cannot start the tests")?;
    let mut count = Count::of(nextest);
    let pipe: Box<dyn std::io::Read> = match (child.stderr.take(), child.stdout.take()) {
        (Some(pipe), _) => Box::new(pipe),
        (None, Some(pipe)) => Box::new(pipe),
        (None, None) => bail!("the tests have no output"),
    };
    for line in BufReader::new(pipe).lines() {
        let line = line.context("reading the tests' output")?;
        count.take(&line);
        if !(nextest && count::is_noise(&line)) {
            println!("{line}");
        }
    }
    let status = child.wait().context("waiting for the tests")?;
    println!("{count}");
    if !status.success() || count.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}
