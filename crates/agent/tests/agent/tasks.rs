//! Tasks: once per name, without their caller.

use crate::harness::{Agent, Call, Outcome, sh, until, wait_for, wait_for_file};
use boatyard_wire::{LINGER, LOG_DIRECTORY, Process, Reply, Request, TaskState};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::time::Instant;

fn task(agent: &Agent, name: &str, process: Process) -> Call {
    agent.ask(&Request::Task {
        name: name.into(),
        run: 0,
        process,
    })
}

fn tasks(agent: &Agent) -> BTreeMap<String, TaskState> {
    match agent.ask(&Request::Tasks).finish().last {
        Reply::Tasks { tasks } => tasks,
        other => panic!("{other:?}"),
    }
}

fn log(agent: &Agent, name: &str) -> Outcome {
    agent.sh(&format!("cat {LOG_DIRECTORY}/{name}.log"))
}

#[test]
fn output_goes_to_the_caller_and_the_log_in_order() {
    let agent = Agent::start();
    let outcome = task(
        &agent,
        "post-create",
        sh("echo one; echo two >&2; echo three; exit 3"),
    )
    .finish();
    assert_eq!(outcome.text(), "one\ntwo\nthree\n");
    assert_eq!(outcome.code(), 3);
    assert_eq!(log(&agent, "post-create").text(), "one\ntwo\nthree\n");
}

#[test]
fn task_survives_its_caller_and_runs_once() {
    let agent = Agent::start();
    let runs = agent.path("runs");
    let go = agent.path("go");
    let script = format!(
        "echo run >> {}; echo begun; {}; echo over; exit 6",
        runs.display(),
        until(&go)
    );
    let mut first = task(&agent, "once", sh(&script));
    let pid = first.started();
    first.read_until("begun");
    drop(first);

    let mut second = task(&agent, "once", sh("echo something else"));
    assert_eq!(second.started(), pid);
    assert_eq!(tasks(&agent)["once"].exit_code, None);
    std::fs::write(&go, "").unwrap();
    let outcome = second.finish();
    assert_eq!((outcome.text(), outcome.code()), ("over\n", 6));

    let third = task(&agent, "once", sh("echo something else")).finish();
    assert_eq!((third.text(), third.code(), third.pid), ("", 6, None));
    assert_eq!(tasks(&agent)["once"].exit_code, Some(6));
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
    assert_eq!(log(&agent, "once").text(), "begun\nover\n");
}

#[test]
fn several_callers_see_one_task() {
    let agent = Agent::start();
    let go = agent.path("go");
    let script = format!("{}; seq 1 1000", until(&go));
    let mut callers: Vec<Call> = (0..5)
        .map(|_| task(&agent, "shared", sh(&script)))
        .collect();
    for caller in &mut callers {
        caller.started();
    }
    std::fs::write(&go, "").unwrap();
    for caller in callers {
        let outcome = caller.finish();
        assert!(outcome.text().starts_with("1\n2\n") && outcome.text().ends_with("\n1000\n"));
    }
}

#[test]
fn caller_that_never_reads_holds_no_task_up() {
    let agent = Agent::start();
    let done = agent.path("done");
    let script = format!("head -c 20000000 /dev/zero; echo end > {}", done.display());
    let mut deaf = task(&agent, "loud", sh(&script));
    deaf.started();
    wait_for_file(&done);
    wait_for(|| {
        let size = agent.sh(&format!("stat -c %s {LOG_DIRECTORY}/loud.log"));
        (size.text() == "20000000\n").then_some(())
    });
    wait_for(|| tasks(&agent)["loud"].exit_code);
    // What it missed is said, and the result still comes.
    let outcome = deaf.finish();
    assert_eq!(outcome.code(), 0);
    assert!(outcome.stdout.len() < 20_000_000);
}

#[test]
fn task_that_cannot_start_leaves_its_name_free() {
    let agent = Agent::start();
    let missing = Process {
        argv: vec!["no-such-program".into()],
        ..Process::default()
    };
    task(&agent, "again", missing).finish().refused("notFound");
    assert!(tasks(&agent).is_empty());
    assert_eq!(task(&agent, "again", sh("exit 2")).finish().code(), 2);
}

#[test]
fn names_that_are_no_names_are_refused() {
    let agent = Agent::start();
    for name in [
        "",
        "..",
        ".hidden",
        "a/b",
        "Upper",
        "nul\0",
        "spa ce",
        &"x".repeat(65),
    ] {
        task(&agent, name, sh("true"))
            .finish()
            .refused("badRequest");
    }
    assert_eq!(task(&agent, &"x".repeat(64), sh("true")).finish().code(), 0);
}

#[test]
fn background_process_keeps_the_log_but_not_the_task() {
    let agent = Agent::start();
    let go = agent.path("go");
    let script = format!("({}; echo late) & echo main", until(&go));
    let outcome = task(&agent, "forks", sh(&script)).finish();
    assert_eq!(outcome.text(), "main\n");
    std::fs::write(&go, "").unwrap();
    wait_for(|| (log(&agent, "forks").text() == "main\nlate\n").then_some(()));
}

#[test]
fn a_log_that_is_slow_holds_the_result_and_loses_nothing() {
    let agent = Agent::start();
    let go = agent.path("go");
    let script = format!("{}; seq 1 1000; exit 7", until(&go));
    let mut slow = task(&agent, "slow", sh(&script));
    let inside = slow.started();
    let threads = format!("/proc/{}/task", agent.host_pid());
    let log = wait_for(|| {
        let threads = std::fs::read_dir(&threads).unwrap().flatten();
        let is_log = |path: &std::path::Path| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "log\n")
        };
        let mut found = threads.filter(|thread| is_log(&thread.path()));
        found.next()?.file_name().to_str()?.parse().ok()
    });
    let log = Pid::from_raw(log);
    ptrace::seize(log, Options::empty()).unwrap();
    ptrace::interrupt(log).unwrap();
    waitpid(log, Some(WaitPidFlag::__WALL)).unwrap();

    std::fs::write(&go, "").unwrap();
    agent.until_ended(inside);
    let ended = Instant::now();
    while ended.elapsed() < 4 * LINGER {
        assert_eq!(tasks(&agent)["slow"].exit_code, None);
    }
    ptrace::detach(log, None).unwrap();
    let outcome = slow.finish();
    assert_eq!(outcome.code(), 7);
    assert!(outcome.text().starts_with("1\n2\n") && outcome.text().ends_with("\n1000\n"));
}

#[test]
fn a_background_process_that_never_stops_talking_keeps_no_result() {
    let agent = Agent::start();
    let outcome = task(&agent, "talks", sh("echo main; yes & exit 8")).finish();
    assert_eq!(outcome.code(), 8);
    assert!(outcome.text().contains("main\n"));
}

#[test]
fn link_at_the_logs_name_is_not_followed() {
    let agent = Agent::start();
    let target = agent.path("target");
    std::fs::write(&target, "precious\n").unwrap();
    let outcome = agent.sh(&format!(
        "mkdir -p {LOG_DIRECTORY}; ln -s {0} {LOG_DIRECTORY}/linked.log",
        target.display()
    ));
    assert_eq!(outcome.code(), 0);
    task(&agent, "linked", sh("echo over")).finish();
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious\n");
    assert_eq!(log(&agent, "linked").text(), "over\n");
}

#[test]
fn full_disk_stops_the_log_not_the_task() {
    let agent = Agent::start_after(&format!(
        "mkdir -p {LOG_DIRECTORY}; mount -t tmpfs -o size=64k none {LOG_DIRECTORY}"
    ));
    let outcome = task(&agent, "fills", sh("head -c 300000 /dev/zero; exit 4")).finish();
    assert_eq!(outcome.code(), 4);
    let tail = String::from_utf8_lossy(&outcome.stdout).contains("[boatyard: the log ends here");
    assert!(tail, "the caller is told");
}
