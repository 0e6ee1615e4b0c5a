//! Processes with a terminal.

use crate::harness::{Agent, command, sh, wait_for};
use boatyard_wire::{Control, LINGER, LONGEST_NOTICE, Process, Reply, Request, WindowSize};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::tcgetwinsize;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Instant;

fn on_terminal(process: Process) -> Process {
    Process {
        tty: Some(WindowSize { rows: 31, cols: 97 }),
        stdin: true,
        ..process
    }
}

#[test]
fn size_is_set_and_changes() {
    let agent = Agent::start();
    let mut call = agent.exec(on_terminal(sh(
        "stty size; read line; stty size; echo $TERM",
    )));
    call.started();
    call.read_until("31 97");
    call.control(Control::Resize(WindowSize {
        rows: 50,
        cols: 132,
    }));
    call.stdin(b"\n");
    let outcome = call.finish();
    assert!(
        outcome.text().contains("50 132\r\nxterm-256color\r\n"),
        "{}",
        outcome.text()
    );
}

#[test]
fn resize_signals_the_program() {
    let agent = Agent::start();
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut call = agent.exec(on_terminal(sh(script)));
    call.started();
    call.read_until("ready");
    call.control(Control::Resize(WindowSize { rows: 7, cols: 8 }));
    assert!(call.finish().text().contains("7 8"));
}

#[test]
fn interrupt_key_interrupts() {
    let agent = Agent::start();
    let mut call = agent.exec(on_terminal(sh(
        "tty >/dev/null && echo ready; exec sleep 1000",
    )));
    call.started();
    call.read_until("ready");
    call.stdin(b"\x03");
    let outcome = call.finish();
    assert_eq!(outcome.code(), 130);
}

#[test]
fn closed_input_is_end_of_file() {
    let agent = Agent::start();
    let mut call = agent.exec(on_terminal(sh("stty -echo; echo ready; cat; echo over")));
    call.started();
    call.read_until("ready");
    call.stdin(b"line\n");
    call.stdin(b"");
    let outcome = call.finish();
    assert!(
        outcome.text().contains("line\r\nover"),
        "{}",
        outcome.text()
    );
    assert_eq!(outcome.code(), 0);
}

#[test]
fn shell_has_job_control() {
    let agent = Agent::start();
    let mut call = agent.exec(on_terminal(command(&["bash", "--norc", "-i"])));
    call.started();
    call.stdin(b"sleep 1000 & jobs; kill %1; echo do''ne; exit 5\n");
    let outcome = call.finish();
    assert!(
        outcome.text().contains("[1]") && outcome.text().contains("done"),
        "{}",
        outcome.text()
    );
    assert!(
        !outcome.text().contains("no job control"),
        "{}",
        outcome.text()
    );
    assert_eq!(outcome.code(), 5);
}

#[test]
fn all_output_before_the_end_arrives() {
    let agent = Agent::start();
    for _ in 0..10 {
        let call = agent.exec(on_terminal(sh("stty raw; seq 1 20000")));
        let outcome = call.finish();
        assert!(
            outcome.text().ends_with("19999\n20000\n"),
            "{}",
            outcome.stdout.len()
        );
    }
}

#[test]
fn a_caller_that_rests_gets_all_that_was_written_before_the_end() {
    let agent = Agent::start();
    let count = agent.path("count");
    // Writes until nobody takes more, and is ended then.
    let script = format!(
        "timeout -s INT 1 dd if=/dev/zero bs=1000 2> {}",
        count.display()
    );
    let mut call = agent.exec(on_terminal(sh(&script)));
    let pid = call.started();
    agent.until_ended(pid);
    let ended = Instant::now();
    while ended.elapsed() < 2 * LINGER {
        agent.sh("true");
    }
    let outcome = call.finish();
    let said = std::fs::read_to_string(count).unwrap();
    let line = said.lines().find(|line| line.contains(" bytes ")).unwrap();
    let (bytes, _) = line.split_once(' ').unwrap();
    assert_eq!(outcome.stdout.len().to_string(), bytes, "{said}");
}

#[test]
fn caller_that_goes_takes_terminal_programs_along() {
    let agent = Agent::start();
    let mut call = agent.exec(on_terminal(sh("echo ready; sleep 1000; sleep 1000")));
    let pid = call.started();
    call.read_until("ready");
    drop(call);
    agent.until_ended(pid);
    wait_for(|| (agent.sh("pidof sleep").code() == 1).then_some(()));
}

fn read_until(terminal: &mut std::fs::File, text: Option<&str>) -> String {
    let mut seen = String::new();
    wait_for(|| {
        let mut bytes = [0; 4096];
        match terminal.read(&mut bytes) {
            Ok(length) => seen.push_str(std::str::from_utf8(&bytes[..length]).unwrap()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Its last user is gone.
            Err(error) => {
                assert!(text.is_none(), "{error} after {seen:?}");
                return Some(());
            }
        }
        text.filter(|text| seen.contains(text)).map(drop)
    });
    seen
}

#[test]
fn a_caller_that_asks_gets_the_terminal_itself_and_the_agent_is_not_in_between() {
    let agent = Agent::start();
    let script = "stty size; read line; stty size; read line; echo \"got $line\"; exit 3";
    let mut call = agent.exec(Process {
        hand_over: true,
        ..on_terminal(sh(script))
    });
    let (reply, terminal) = call.reply_with_descriptor();
    assert!(
        matches!(reply, Reply::Terminal { pid } if pid > 1),
        "{reply:?}"
    );
    let mut terminal = std::fs::File::from(terminal.unwrap());
    read_until(&mut terminal, Some("31 97"));
    call.control(Control::Resize(WindowSize { rows: 7, cols: 8 }));
    // The size is changed by the agent: what it is when the line comes would be anybody's guess.
    wait_for(|| (tcgetwinsize(&terminal).unwrap().ws_row == 7).then_some(()));
    terminal.write_all(b"\n").unwrap();
    read_until(&mut terminal, Some("7 8"));
    let pid = Pid::from_raw(agent.host_pid().parse().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    terminal.write_all(b"word\n").unwrap();
    let seen = read_until(&mut terminal, None);
    kill_process(pid, Signal::CONT).unwrap();
    assert!(seen.ends_with("got word\r\n"), "{seen:?}");
    let outcome = call.finish();
    assert_eq!((outcome.code(), outcome.text()), (3, ""));
}

#[test]
fn without_a_terminal_there_is_nothing_to_hand_over() {
    let agent = Agent::start();
    let outcome = agent.exec(Process {
        hand_over: true,
        ..sh("echo out; exit 4")
    });
    let outcome = outcome.finish();
    assert!(outcome.pid.is_some());
    assert_eq!((outcome.code(), outcome.text()), (4, "out\n"));
}

#[test]
fn a_notice_is_one_plain_line_on_every_terminal_and_nowhere_else() {
    let agent = Agent::start();
    let mut terminal = agent.exec(on_terminal(sh("echo ready; read line; echo over")));
    terminal.started();
    terminal.read_until("ready");
    let mut pipes = agent.exec(Process {
        stdin: true,
        ..sh("echo ready; read line; echo over")
    });
    pipes.started();
    pipes.read_until("ready");
    let text = format!("boatyard: \x1b[2Jcc1plus\nwas killed{}", "x".repeat(1000));
    let told = agent.ask(&Request::Notice { text }).finish();
    assert_eq!(told.last, Reply::Done);
    terminal.stdin(b"\n");
    let seen = terminal.finish();
    let line = String::from_utf8(seen.stderr).unwrap();
    assert!(
        line.starts_with("\r\nboatyard: [2Jcc1pluswas killedxxx") && line.ends_with("x\r\n"),
        "{line:?}"
    );
    assert_eq!(line.chars().count(), LONGEST_NOTICE + 4);
    assert!(seen.stdout.ends_with(b"over\r\n"), "what it writes stays");
    pipes.stdin(b"\n");
    let seen = pipes.finish();
    assert_eq!((seen.text(), seen.stderr.len()), ("over\n", 0));
}
