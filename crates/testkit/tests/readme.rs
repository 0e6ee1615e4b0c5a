//! The README's repository with an app and a database, opened with the README's own words.
//!
//! The configuration, the Compose file and the commands are read from README.md. The images and the
//! Feature it names come from a registry on loopback under their own names: Debian, a Redis that is
//! built of Debian's package, and the Feature as its authors publish it.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::{Daemon, Ran, Registry, development};
use std::path::Path;
use std::process::{Command, Stdio};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");

/// The indented block that begins with this line, without its indentation.
fn block(text: &str, first: &str) -> String {
    let lines = text.lines().skip_while(|line| *line != first);
    let lines = lines.take_while(|line| line.starts_with("    "));
    let block: String = lines.map(|line| format!("{}\n", &line[4..])).collect();
    assert!(!block.is_empty(), "README.md has no block of {first:?}");
    block
}

/// Needs what a distribution's mirror gives.
#[test]
fn an_app_and_its_database_come_up_as_the_readme_says() {
    let text = std::fs::read_to_string(README).unwrap();
    let (_, text) = text
        .split_once("### A repository with a devcontainer.json")
        .unwrap();
    let configuration = block(text, "    {");
    let compose = block(text, "    services:");
    let commands = block(
        text,
        "    boatyard up                       # pulls, installs Features, starts db, then app, then a shell",
    );

    let registry = Registry::start();
    let mut daemon = Daemon::prepare();
    development::provide(&daemon);
    let mirrors = ["docker.io", "ghcr.io"].map(|name| registry.mirror(name));
    daemon.run(&["--mirror", &mirrors[0], "--mirror", &mirrors[1]]);

    // What the registries have.
    let redis = daemon.folder().join("redis");
    std::fs::create_dir(&redis).unwrap();
    let dockerfile = format!(
        "FROM {}\nRUN apt-get update -q && apt-get install -qy --no-install-recommends redis-server\nCMD redis-server --protected-mode no\n",
        development::IMAGE
    );
    std::fs::write(redis.join("Dockerfile"), dockerfile).unwrap();
    daemon
        .cli(&["build", redis.to_str().unwrap(), "-t", "redis:7"])
        .ok();
    for (name, repository) in [
        ("redis:7", "library/redis:7"),
        (development::IMAGE, "library/debian:bookworm"),
    ] {
        let archive = daemon.folder().join("image.tar");
        daemon
            .cli(&["image", "export", name, archive.to_str().unwrap()])
            .ok();
        registry.push(&format!("oci-archive:{}", archive.display()), repository);
    }
    daemon.cli(&["image", "rm", "redis:7"]).ok();
    let features = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/features/python");
    let published = daemon.cli(&[
        "devcontainer",
        "features",
        "publish",
        features.to_str().unwrap(),
        "--registry",
        registry.address(),
        "--namespace",
        "devcontainers/features",
    ]);
    published.ok();

    // The repository.
    let folder = daemon.project("project", &configuration);
    std::fs::write(
        Path::new(&folder).join(".devcontainer/compose.yaml"),
        compose,
    )
    .unwrap();
    std::fs::write(Path::new(&folder).join("requirements.txt"), "").unwrap();
    for line in commands.lines() {
        let line = line.split(" #").next().unwrap().trim();
        let line = line.replace("NAME", "project");
        let direct = daemon.boatyard(&[]);
        let words = format!("boatyard() {{ \"$BIN\" \"$@\"; }}; {line}");
        let mut shell = Command::new("sh");
        shell.args(["-ec", &words]).current_dir(&folder);
        shell.env("BIN", direct.get_program()).stdin(Stdio::null());
        for (name, value) in direct.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        let ran = Ran::from(shell.output().unwrap());
        let log = daemon.cli(&["logs", "project"]).stdout;
        assert_eq!(ran.code, 0, "{line}: {ran:?}\n{log}");
    }
    // What the configuration asks for was done.
    daemon.sh("project", "~/venv/bin/pip --version").ok();
}
