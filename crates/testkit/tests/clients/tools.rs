//! Where the clients are, and how one is run to its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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

/// A file beside these tests.
pub(crate) fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
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
    let watchdog = Watchdog::over(&child);
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
    let late = watchdog.call_off();
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

/// Runs a command that tells the test, one word a line, what it should do now, and is told when that
/// is done; the command must succeed.
#[track_caller]
pub(crate) fn converse(command: &mut Command, mut act: impl FnMut(&str)) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let watchdog = Watchdog::over(&child);
    let mut stdin = child.stdin.take().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        act(&line.unwrap());
        writeln!(stdin, "done").unwrap();
    }
    let late = watchdog.call_off();
    let status = child.wait().unwrap();
    assert!(status.success() && !late, "{command:?}: {status}");
}

/// Kills a process that takes too long.
struct Watchdog {
    off: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<bool>,
}

impl Watchdog {
    fn over(child: &Child) -> Self {
        let pid = rustix::process::Pid::from_child(child);
        let (off, called) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let late = called.recv_timeout(PATIENCE).is_err();
            if late {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            late
        });
        Self { off, thread }
    }

    /// Whether it had to kill. To be called before the process is reaped, while its id is its own.
    fn call_off(self) -> bool {
        let _ = self.off.send(());
        self.thread.join().unwrap()
    }
}
