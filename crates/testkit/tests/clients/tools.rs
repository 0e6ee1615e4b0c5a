//! Where the clients are, and how one is run to its end.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use boatyard_testkit::Ran;

/// Longest any client may take for what one test asks of it, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the set-up installed under this name.
pub(crate) fn tool(name: &str) -> PathBuf {
    let path = tools().join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask setup test`",
        path.display()
    );
    path
}

/// The folder of the clients.
pub(crate) fn tools() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap();
    PathBuf::from(home).join(".cache/boatyard/tools")
}

/// Runs a command, giving it `input`; one that does not end in time is killed and fails the test.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A client that reads nothing closes the pipe.
    let feeding = std::thread::spawn(move || {
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    });
    let pid = rustix::process::Pid::from_child(&child);
    let (ended, end) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let late = end.recv_timeout(PATIENCE).is_err();
        if late {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        late
    });
    let mut errors = child.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        errors.read_to_end(&mut text).unwrap();
        text
    });
    let mut stdout = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut stdout)
        .unwrap();
    let stderr = reading.join().unwrap();
    // Not reaped before nobody kills by its id any more.
    let _ = ended.send(());
    let late = waiting.join().unwrap();
    let status = child.wait().unwrap();
    feeding.join().unwrap();
    let ran = Ran::from(std::process::Output {
        status,
        stdout,
        stderr,
    });
    assert!(!late, "{command:?} did not end: {ran:?}");
    ran
}
