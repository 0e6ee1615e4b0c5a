//! What a developer runs in an environment that asks much of the kernel: container engines, FUSE,
//! the network's tools, what takes privileges, debuggers.
//!
//! Every program is the distribution's own; images for engines are imported, nothing is fetched.
//! The image is made once per host (`testkit::engines`). Held here is that they work; what they
//! must not reach is held by the sandbox's probes.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "nested/devices.rs"]
mod devices;
#[path = "nested/docker.rs"]
mod docker;
#[path = "nested/network.rs"]
mod network;
#[path = "nested/podman.rs"]
mod podman;
#[path = "nested/privileges.rs"]
mod privileges;
#[path = "nested/storage.rs"]
mod storage;

use boatyard_testkit::{Daemon, archive, engines};

/// A running environment `n` of the engines' image, made by plain `boatyard up`, whose user is
/// [`engines::USER`]; `box.tar` in its workspace is a root filesystem for nested engines.
fn environment() -> Daemon {
    let mut daemon = Daemon::prepare();
    engines::provide(&daemon);
    daemon.run(&[]);
    let config = serde_json::json!({"image": engines::IMAGE, "remoteUser": engines::USER});
    let folder = daemon.project("n", &config.to_string());
    std::fs::write(format!("{folder}/box.tar"), archive::root()).unwrap();
    daemon.cli(&["up", &folder, "--detach"]).ok();
    daemon
}

/// Runs a script whose every command must succeed, as the environment's user.
#[track_caller]
fn user(daemon: &Daemon, script: &str) -> String {
    run(daemon, engines::USER, script)
}

/// The same as root.
#[track_caller]
fn root(daemon: &Daemon, script: &str) -> String {
    run(daemon, "root", script)
}

#[track_caller]
fn run(daemon: &Daemon, user: &str, script: &str) -> String {
    // Both are those of the environment's user, whoever else runs something.
    let own = "PATH=$PATH:/usr/sbin:/sbin; export HOME=$(getent passwd $(id -u) | cut -d: -f6)";
    let script = &format!("{own}\n{script}");
    // A command that hangs fails the test long before the runner of tests gives up.
    let limited = ["timeout", "100", "bash", "-euo", "pipefail", "-c", script];
    let arguments = ["exec", "-u", user, "n", "--"];
    daemon.cli(&[&arguments[..], &limited[..]].concat()).ok()
}

/// A shell function that repeats a command until it succeeds, for at most 20 seconds.
const RETRY: &str =
    "retry() { for _ in $(seq 200); do \"$@\" 2>/dev/null && return; sleep 0.1; done; \"$@\"; }\n";
