//! Being PID 1: orphans, the end, and what else the agent answers.

use crate::harness::{Agent, sh, wait_for};
use boatyard_wire::frame::Kind;
use boatyard_wire::{Reply, Request};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

fn shutdown(grace_millis: u64) -> Request {
    Request::Shutdown { grace_millis }
}

fn zombies(agent: &Agent) -> String {
    agent
        .sh("grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l")
        .text()
        .trim()
        .to_owned()
}

#[test]
fn thousands_of_orphans_are_reaped() {
    let agent = Agent::start();
    let outcome = agent.sh("i=0; while [ $i -lt 3000 ]; do (: & ) ; i=$((i+1)); done");
    assert_eq!(outcome.code(), 0);
    wait_for(|| (zombies(&agent) == "0").then_some(()));
}

#[test]
fn shutdown_ends_willing_processes_at_once() {
    let mut agent = Agent::start();
    let marker = agent.path("terminated");
    let mut call = agent.exec(sh(&format!(
        "trap 'echo bye; touch {}; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
        marker.display()
    )));
    call.started();
    call.read_until("ready");
    let outcome = agent.ask(&shutdown(50_000)).finish();
    assert_eq!(
        outcome.last,
        Reply::Exit {
            code: 0,
            signal: None
        }
    );
    assert!(marker.exists());
    assert!(call.finish().text().contains("bye"));
    assert_eq!(agent.exit_code(), Some(0));
}

#[test]
fn shutdown_kills_the_stubborn_after_the_grace() {
    let mut agent = Agent::start();
    let mut call = agent.exec(sh(
        "trap '' TERM HUP INT; echo ready; while :; do sleep 0.05; done",
    ));
    call.started();
    call.read_until("ready");
    let outcome = agent.ask(&shutdown(300)).finish();
    assert_eq!(outcome.code(), 0);
    assert_eq!(
        call.finish().last,
        Reply::Exit {
            code: 137,
            signal: Some(9)
        }
    );
    assert_eq!(agent.exit_code(), Some(0));
}

#[test]
fn shutdown_of_an_empty_environment_is_immediate() {
    let mut agent = Agent::start();
    assert_eq!(agent.ask(&shutdown(60_000)).finish().code(), 0);
    assert_eq!(agent.exit_code(), Some(0));
}

#[test]
fn nothing_new_starts_during_shutdown() {
    let agent = Agent::start();
    let mut call = agent.exec(sh(
        "trap 'echo termed' TERM; echo ready; while :; do sleep 0.05; done",
    ));
    call.started();
    call.read_until("ready");
    let _pending = agent.ask(&shutdown(60_000));
    call.read_until("termed");
    agent.sh("true").refused("busy");
}

#[test]
fn sigterm_is_a_shutdown() {
    let mut agent = Agent::start();
    let mut call = agent.exec(sh(
        "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done",
    ));
    call.started();
    call.read_until("ready");
    let pid = agent.host_pid().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(call.finish().code(), 0);
    assert_eq!(agent.exit_code(), Some(0));
}

#[test]
fn works_without_being_pid_1() {
    let mut agent = Agent::start_as_subreaper();
    let own = agent.child.id();
    // The orphan comes to the agent, not to the host's init.
    let outcome = agent.sh("(sleep 1000 & echo $!) ");
    let orphan = outcome.text().trim().to_owned();
    let parent = wait_for(|| {
        let status = std::fs::read_to_string(format!("/proc/{orphan}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:\t"))?;
        (line == own.to_string()).then_some(own)
    });
    assert_eq!(parent, own);
    assert_eq!(agent.ask(&shutdown(10_000)).finish().code(), 0);
    assert_eq!(agent.exit_code(), Some(0));
    assert!(!std::path::Path::new(&format!("/proc/{orphan}")).exists());
}

#[test]
fn info_counts_processes() {
    let agent = Agent::start();
    let Reply::Info {
        version, processes, ..
    } = agent.ask(&Request::Info).finish().last
    else {
        panic!("no info");
    };
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(processes, 0);
}

#[test]
fn tcp_connections_are_copied() {
    let agent = Agent::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut call = agent.ask(&Request::Connect {
        address: "127.0.0.1".into(),
        port,
    });
    let (mut peer, _) = listener.accept().unwrap();
    assert_eq!(call.started(), 0);
    call.stdin(b"question");
    call.stdin(b"");
    let mut question = String::new();
    peer.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    peer.write_all(&vec![b'a'; 1_000_000]).unwrap();
    drop(peer);
    let outcome = call.finish();
    assert_eq!((outcome.stdout.len(), outcome.code()), (1_000_000, 0));

    drop(listener);
    let refused = agent
        .ask(&Request::Connect {
            address: "127.0.0.1".into(),
            port,
        })
        .finish();
    refused.refused("notFound");
    let name = agent
        .ask(&Request::Connect {
            address: "localhost".into(),
            port,
        })
        .finish();
    name.refused("badRequest");
}

#[test]
fn nonsense_gets_an_answer() {
    let agent = Agent::start();
    for (kind, payload) in [
        (Kind::Request, &b"{}"[..]),
        (Kind::Request, b"\xff\xfe"),
        (Kind::Request, br#"{"type":"fly"}"#),
        (Kind::Stdin, b"early"),
        (Kind::Stdout, b"backwards"),
    ] {
        let mut call = agent.connect();
        call.send(kind, payload);
        call.finish().refused("badRequest");
    }
    let mut call = agent.connect();
    call.stream.write_all(&[255; 64]).unwrap();
    call.finish().refused("badRequest");
    assert_eq!(agent.sh("exit 0").code(), 0);
}
