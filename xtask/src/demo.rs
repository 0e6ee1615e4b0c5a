//! What Boatyard does, shown on the real binary from nothing.
//!
//! Owns the order of the show: set-up, build, a base image from the distribution's mirror, an
//! environment from `examples/hello`, commands in it, where things are. It uses only the verbs a
//! user has. Run again, or killed and run again, it finds what is there and takes seconds.
//!
//! Read next: README.md, which goes on from here.

use crate::{process, setup};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Names tried in turn: an environment of another checkout keeps its own.
const NAMES: &[&str] = &["hello", "hello-2", "hello-3", "hello-4", "hello-5"];
const IMAGE: &str = "debian:bookworm";

pub(crate) fn run(root: &Path) -> Result<()> {
    let began = Instant::now();
    setup::prepare(setup::Purpose::Demo)?;
    say("building the binary `boatyard`");
    process::run(process::cargo(root).args(["build", "--package", "boatyard-cli"]))?;
    let binary = binary(root)?;
    let as_root = || process::as_root(&binary.to_string_lossy());

    // The first word to the daemon also starts it where none runs.
    say("a base image debian:bookworm from the distribution's mirror (about a minute, once)");
    process::run(as_root()?.args(["image", "bootstrap", IMAGE, "--if-missing"]))?;
    // Who may speak to the daemon as oneself does, so that files made inside are one's own.
    let alone = process::succeeds(Command::new(&binary).arg("ls"));
    let boatyard = || match alone {
        true => Ok(Command::new(&binary)),
        false => as_root(),
    };
    let folder = root.join("examples/hello");
    let quoted = format!("\"{}\"", folder.display());
    let mut names = NAMES.iter().copied();
    let name = loop {
        let name = names
            .next()
            .context("every name for this demo is taken by another checkout: see `boatyard ls`")?;
        let found = boatyard()?
            .args(["get", "environments", name, "-o", "json"])
            .output();
        let found = found.with_context(|| format!("{} does not run", binary.display()))?;
        if !found.status.success() || String::from_utf8_lossy(&found.stdout).contains(&quoted) {
            break name;
        }
    };
    say("opening an environment for examples/hello");
    process::run(
        boatyard()?
            .arg("up")
            .arg(&folder)
            .args(["--name", name, "--detach"]),
    )?;
    say("inside: its own root, its own processes, your files");
    process::run(boatyard()?.args([
        "exec",
        name,
        "--",
        "sh",
        "-c",
        "id; head -1 /etc/os-release; make test",
    ]))?;
    process::run(boatyard()?.arg("ls"))?;
    let shown = binary.display();
    println!(
        "
The environment `{name}` is running ({} s). Go on with:
  {shown} sh {name}        a shell in it
  {shown} exec {name} -- apt-get install -y cowsay
  {shown} stop {name}      ends its processes, keeps everything written
  {shown} start {name}
  {shown} rm {name}        deletes it; examples/hello stays
Where things are:
  /var/lib/boatyard             images, environments, the database (root only)
  /run/boatyard/boatyard.sock   the API, for root and the group `boatyard`
  {}   the folder the environment works on",
        began.elapsed().as_secs(),
        folder.display()
    );
    Ok(())
}

fn say(what: &str) {
    println!("\ndemo: {what}");
}

/// The binary that cargo has just built, wherever its target directory is.
fn binary(root: &Path) -> Result<PathBuf> {
    let target = process::target(root);
    let binary = target.join("debug/boatyard");
    Command::new(&binary)
        .arg("--version")
        .output()
        .with_context(|| format!("{} does not run", binary.display()))?;
    Ok(binary)
}
