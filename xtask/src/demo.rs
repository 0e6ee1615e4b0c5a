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

const NAME: &str = "hello";
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
    say("opening an environment for examples/hello");
    process::run(
        boatyard()?
            .arg("up")
            .arg(root.join("examples/hello"))
            .args(["--name", NAME, "--detach"]),
    )?;
    say("inside: its own root, its own processes, your files");
    process::run(boatyard()?.args([
        "exec",
        NAME,
        "--",
        "sh",
        "-c",
        "id; head -1 /etc/os-release; make test",
    ]))?;
    process::run(boatyard()?.arg("ls"))?;
    let shown = binary.display();
    println!(
        "
The environment `{NAME}` is running ({} s). Go on with:
  {shown} sh {NAME}        a shell in it
  {shown} exec {NAME} -- apt-get install -y cowsay
  {shown} stop {NAME}      ends its processes, keeps everything written
  {shown} start {NAME}
  {shown} rm {NAME}        deletes it; examples/hello stays
Where things are:
  /var/lib/boatyard             images, environments, the database (root only)
  /run/boatyard/boatyard.sock   the API, for root and the group `boatyard`
  {}   the folder the environment works on",
        began.elapsed().as_secs(),
        root.join("examples/hello").display()
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
