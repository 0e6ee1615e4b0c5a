//! Output without end, by way of the whole path from a process inside to a client.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, which say how long answers took"
)]

use boatyard_testkit::{Daemon, wait};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const CONFIG: &str = r#"{"image": "test:latest"}"#;

/// Mebibytes of memory that a process has.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib / 1024
}

/// How long the neighbour takes to answer, longest last.
fn answers(daemon: &Daemon, times: usize) -> Vec<Duration> {
    let mut took: Vec<Duration> = (0..times)
        .map(|_| {
            let began = Instant::now();
            daemon.sh("neighbour", "true").ok();
            began.elapsed()
        })
        .collect();
    took.sort();
    took
}

#[test]
fn output_that_nobody_reads_stops_who_writes_it_and_nobody_else() {
    let daemon = Daemon::start();
    daemon.import_image();
    for name in ["app", "neighbour"] {
        let folder = daemon.project(name, CONFIG);
        daemon.cli(&["up", &folder, "--detach"]).ok();
    }
    let quiet = answers(&daemon, 30);
    let before = resident(daemon.pid());
    // One that reads nothing, one that is stopped while it reads.
    let mut clients: Vec<_> = (0..2)
        .map(|_| {
            let mut yes = daemon.client(&["exec", "app", "--", "sh", "-c", "yes"]);
            yes.stdout(Stdio::piped()).stderr(Stdio::null());
            yes.spawn().unwrap()
        })
        .collect();
    let mut reads = clients[1].stdout.take().unwrap();
    std::thread::spawn(move || {
        // Ends with the client.
        let _ = std::io::copy(&mut reads, &mut std::io::sink());
    });
    let writers = "for yes in $(pidof yes); do cut -d ' ' -f 14,15 /proc/$yes/stat; done";
    wait::until("both to write", || {
        (daemon.sh("app", writers).ok().lines().count() == 2).then_some(())
    });
    let stopped = i32::try_from(clients[1].id()).unwrap();
    let stopped = rustix::process::Pid::from_raw(stopped).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    // They stand when they use no processor any more.
    let mut used = String::new();
    wait::until("both writers to stand", || {
        let now = daemon.sh("app", &format!("{writers}; sleep 0.3")).ok();
        let stand = now == used && now.lines().count() == 2;
        used = now;
        stand.then_some(())
    });
    let busy = answers(&daemon, 30);
    println!(
        "the neighbour's answers: p50 {:.1?}, p99 {:.1?}; before {:.1?}, {:.1?}",
        busy[15], busy[29], quiet[15], quiet[29]
    );
    let grown = resident(daemon.pid()).saturating_sub(before);
    assert!(grown < 64, "the daemon has {grown} MiB more");
    assert_eq!(daemon.sh("app", "echo well").ok(), "well\n");
    for client in &mut clients {
        client.kill().unwrap();
        client.wait().unwrap();
    }
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn a_lifecycle_command_that_never_stops_talking_has_a_log_with_an_end() {
    let daemon = Daemon::start();
    daemon.import_image();
    let talks = r#"{"image": "test:latest", "waitFor": "postCreateCommand",
        "postCreateCommand": "yes boatyard | head -c 150000000"}"#;
    let folder = daemon.project("app", talks);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    let logs: Vec<PathBuf> = std::fs::read_dir(daemon.state().join("envs"))
        .unwrap()
        .flatten()
        .map(|environment| environment.path().join("disk/logs"))
        .collect();
    let kept = size(&logs[0]) >> 20;
    assert!((1..80).contains(&kept), "{kept} MiB of logs");
    assert_eq!(daemon.sh("app", "echo well").ok(), "well\n");
}
