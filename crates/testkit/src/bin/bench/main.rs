//! The benchmarks: Boatyard and its peers, taking turns in one run.
//!
//! Owns what is compared with what, and how often; `figures` owns the arithmetic and the table.
//! Each round measures every contender once, so that a busy moment of the host meets all of them.
//! Peers run as they come from the distribution, with their defaults, on storage of their own in
//! the same file system. Output is the table of docs/benchmarks.md. `bench [ROUNDS] [GROUP...]`;
//! the groups are `start`, `sandbox`, `exec`, `pull`, `memory`, `create`,
//! `fanout`, `latency`, `contents`, `fleet`, `devcontainer`, `builds` and, only by name, `lag` and `io`.
//!
//! Read next: `figures`, then `starts`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a measuring program for people fails loudly"
)]

mod api;
mod calls;
mod contents;
mod creates;
mod devcontainer;
mod etcd;
mod figures;
mod fleet;
mod hosts;
mod io;
mod lag;
mod memory;
mod podman;
mod process;
mod pulls;
mod sandboxes;
mod starts;
mod tally;
mod watches;

use figures::Table;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

/// Rounds of the quick groups; a pull takes a twentieth of it.
const ROUNDS: usize = 200;
/// Groups without peers.
const ALONE: [&str; 2] = ["lag", "io"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == boatyard_sandbox::SPAWNER_ARGUMENT)
    {
        return boatyard_sandbox::spawner_main();
    }
    if let Some((_, rest)) = arguments
        .split_first()
        .filter(|(first, _)| *first == hosts::ARGUMENT)
    {
        hosts::main(rest);
        return ExitCode::SUCCESS;
    }
    if io::inside(&arguments).is_some() {
        return ExitCode::SUCCESS;
    }
    let given = arguments.first().and_then(|word| word.parse().ok());
    hide_hybrid_hierarchy(&arguments);
    let groups: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|word| word.parse::<usize>().is_err())
        .collect();
    let wanted = |group: &str| groups.is_empty() || groups.contains(&group);
    let rounds = given.unwrap_or(ROUNDS);
    versions(groups.iter().any(|group| !ALONE.contains(group)) || groups.is_empty());
    let mut table = Table::default();
    if wanted("start") || wanted("exec") {
        starts::run(rounds, wanted("start"), wanted("exec"), &mut table);
    }
    if wanted("sandbox") {
        sandboxes::run(rounds, &mut table);
    }
    if wanted("pull") {
        pulls::run((rounds / 20).max(3), &mut table);
    }
    if wanted("create") {
        creates::run((rounds / 20).max(3), &mut table);
    }
    if wanted("fanout") {
        watches::fan_out(rounds, &mut table);
    }
    if wanted("latency") {
        watches::latency(&mut table);
    }
    if wanted("contents") {
        contents::run(&mut table);
    }
    if wanted("fleet") {
        fleet::run(&mut table);
    }
    // Its rounds are keystrokes, and it makes a busy host busier: only when asked for.
    if groups.contains(&"lag") {
        lag::run(given.unwrap_or(lag::KEYSTROKES), &mut table);
    }
    // Likewise, and its rounds are of a minute.
    if groups.contains(&"io") {
        io::run(given.unwrap_or(5), &mut table);
    }
    if wanted("devcontainer") || wanted("builds") {
        let of = [wanted("devcontainer"), wanted("builds")];
        devcontainer::run((rounds / 20).max(3), of, &mut table);
    }
    println!("{table}");
    if wanted("memory") {
        memory::run();
    }
    ExitCode::SUCCESS
}

/// Goes on in a mount namespace where control groups of version 1 alone are seen, when this host
/// has both: crun refuses such a host.
fn hide_hybrid_hierarchy(arguments: &[String]) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let points = |kind: &str| {
        let of_kind = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let of_kind = of_kind
            .filter(|fields| fields[2] == kind)
            .map(|fields| fields[1].to_owned());
        of_kind.collect::<Vec<_>>()
    };
    let (first, second) = (points("cgroup"), points("cgroup2"));
    if first.is_empty() || second.is_empty() {
        return;
    }
    let script = second.iter().fold(String::new(), |script, point| {
        format!("{script}umount {point} && ")
    });
    let error = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            &format!("{script}exec \"$0\" \"$@\""),
        ])
        .arg(std::env::current_exe().unwrap())
        .args(arguments)
        .exec();
    panic!("unshare: {error}");
}

/// Of the host and Boatyard, and of the peers where some take part.
fn versions(peers: bool) {
    let system = rustix::system::uname();
    println!(
        "host: {} {}, {} CPUs",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        std::thread::available_parallelism().unwrap()
    );
    let boatyard = boatyard_testkit::daemon::binary();
    print!("{}", output(Command::new(boatyard).arg("--version")));
    let peers = peers.then_some([
        ("podman", &["--version"][..]),
        ("crun", &["--version"]),
        ("docker-registry", &["--version"]),
        ("tar", &["--version"]),
        ("etcd", &["--version"]),
        (
            "podman",
            &[
                "info",
                "--format",
                "storage of podman: {{.Store.GraphDriverName}}, network: {{.Host.NetworkBackend}}, runtime: {{.Host.OCIRuntime.Name}}",
            ],
        ),
    ]);
    for (program, arguments) in peers.into_iter().flatten() {
        let said = output(Command::new(program).args(arguments));
        println!("{}", said.lines().next().unwrap_or_default());
    }
    println!();
}

/// A folder of this run's own, on the disk that is measured.
fn folder() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("boatyard-bench-").tempdir().unwrap()
}

/// Runs a command that must succeed, and answers what it printed.
fn output(command: &mut Command) -> String {
    let ran = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        ran.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8(ran.stdout).unwrap()
}

/// Runs a command that must succeed, without its output: what it leaves running may hold that open.
fn quiet(command: &mut Command) {
    let ran = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(ran.unwrap().success(), "{command:?}");
}

/// Waits until nothing of a peer runs any more: podman cleans up behind its command's back, and
/// that would be measured as the next contender's.
fn settle() {
    let peers = ["podman", "crun", "netavark"];
    let busy = |pid: &std::path::Path| {
        let read = |name: &str| std::fs::read_to_string(pid.join(name)).unwrap_or_default();
        let stat = read("stat");
        let runs = stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| !rest.starts_with('Z'));
        runs && peers.contains(&read("comm").trim())
    };
    boatyard_testkit::wait::until("the peers to be done", || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        (!processes.map(|entry| entry.path()).any(|pid| busy(&pid))).then_some(())
    });
}
