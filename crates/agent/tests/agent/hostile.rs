//! Scarcity and malice: the agent must survive and go on answering.

use crate::harness::{Agent, Call, command, is_root, sh, skipped, wait_for};
use boatyard_wire::Process;
use std::path::PathBuf;

fn resident_kib(agent: &Agent) -> u64 {
    let rollup =
        std::fs::read_to_string(format!("/proc/{}/smaps_rollup", agent.host_pid())).unwrap();
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn callers_that_never_read_cost_little_and_stop_nobody() {
    let agent = Agent::start();
    let deaf: Vec<Call> = (0..20)
        .map(|_| {
            let mut call = agent.exec(command(&["yes"]));
            call.started();
            call
        })
        .collect();
    assert_eq!(agent.sh("exit 5").code(), 5);
    assert!(
        resident_kib(&agent) < 16 * 1024,
        "{} KiB",
        resident_kib(&agent)
    );
    drop(deaf);
    wait_for(|| (agent.sh("pidof yes").code() == 1).then_some(()));
}

#[test]
fn more_callers_than_allowed_are_told() {
    let agent = Agent::start();
    let held: Vec<Call> = (0..256).map(|_| agent.connect()).collect();
    agent.connect().finish().refused("busy");
    drop(held);
    wait_for(|| {
        let outcome = agent.sh("exit 5");
        (outcome.code() == 5).then_some(())
    });
}

#[test]
fn trapped_passwd_stops_only_its_call() {
    let agent = Agent::start_after("mkfifo \"$1/fifo\"; mount --bind \"$1/fifo\" /etc/passwd");
    agent.sh("true").refused("badRequest");
    assert!(matches!(
        agent.ask(&boatyard_wire::Request::Info).finish().last,
        boatyard_wire::Reply::Info { .. }
    ));
}

#[test]
fn covered_proc_and_dev_change_nothing() {
    let agent = Agent::start();
    let cover = agent.sh("mount -t tmpfs none /proc && mkdir /proc/self && printf '#!/bin/sh\\nexit 99' > /proc/self/exe \
        && chmod +x /proc/self/exe && mount -t tmpfs none /dev && mkfifo /dev/null /dev/ptmx");
    assert_eq!(cover.code(), 0, "{cover:?}");
    assert_eq!(agent.sh("exit 5").code(), 5);
    let tty = Some(boatyard_wire::WindowSize { rows: 1, cols: 1 });
    agent
        .exec(Process { tty, ..sh("true") })
        .finish()
        .refused("internal");
    assert_eq!(agent.sh("exit 5").code(), 5);
}

/// A pids cgroup of the test's own; removed at its end.
struct PidsLimit(PathBuf);

impl PidsLimit {
    fn new(agent: &Agent) -> Option<Self> {
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
        let root = roots.iter().find(|root| {
            PathBuf::from(root).join("cgroup.procs").exists()
                && (root.ends_with("pids")
                    || std::fs::read_to_string(format!("{root}/cgroup.controllers"))
                        .is_ok_and(|controllers| controllers.contains("pids")))
        })?;
        let path = PathBuf::from(root).join(format!("boatyard-test-agent-{}", agent.host_pid()));
        std::fs::create_dir(&path).ok()?;
        let limit = Self(path);
        std::fs::write(limit.0.join("cgroup.procs"), agent.host_pid()).unwrap();
        Some(limit)
    }

    fn set(&self, most: &str) {
        std::fs::write(self.0.join("pids.max"), most).unwrap();
    }
}

impl Drop for PidsLimit {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn exhausted_processes_become_an_answer() {
    if !is_root() {
        return skipped("a pids cgroup needs root");
    }
    let mut agent = Agent::start();
    assert_eq!(agent.sh("exit 0").code(), 0);
    let Some(limit) = PidsLimit::new(&agent) else {
        return skipped("no pids cgroup here");
    };
    limit.set("1");
    let message = agent.sh("true");
    assert!(message.refused("busy").contains("limit of processes"));
    let task = boatyard_wire::Request::Task {
        name: "none".into(),
        run: 0,
        process: sh("true"),
    };
    agent.ask(&task).finish().refused("busy");
    // Room for the process but not for the log's thread.
    limit.set("2");
    agent.ask(&task).finish().refused("busy");
    limit.set("max");
    assert_eq!(agent.ask(&task).finish().code(), 0);
    agent
        .ask(&boatyard_wire::Request::Shutdown { grace_millis: 100 })
        .finish();
    assert_eq!(agent.exit_code(), Some(0));
}

#[test]
fn exhausted_descriptors_become_an_answer() {
    if !is_root() {
        return skipped("lowering hard limits for the agent alone needs root");
    }
    let agent = Agent::start_after("ulimit -n 40");
    let held: Vec<Call> = (0..8)
        .map(|_| {
            agent.exec(Process {
                stdin: true,
                ..command(&["cat"])
            })
        })
        .collect();
    let outcomes: Vec<bool> = held
        .into_iter()
        .map(|mut call| {
            let up = matches!(call.reply(), boatyard_wire::Reply::Started { .. });
            if up {
                call.stdin(b"");
                assert_eq!(call.finish().code(), 0);
            }
            up
        })
        .collect();
    assert!(outcomes.contains(&false), "{outcomes:?}");
    assert_eq!(agent.sh("exit 5").code(), 5);
}
