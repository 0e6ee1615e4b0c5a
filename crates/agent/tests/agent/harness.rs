//! Starts agents and talks to them. Needs `unshare`, and root for what concerns users and cgroups;
//! without root a user namespace stands in and the tests that need more say so.

use boatyard_wire::frame::{self, Kind};
use boatyard_wire::{Control, Process, Reply, Request};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No answer takes longer, whatever else the machine does.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Agent {
    pub(crate) directory: tempfile::TempDir,
    socket: PathBuf,
    pub(crate) child: Child,
}

impl Agent {
    /// As PID 1.
    pub(crate) fn start() -> Self {
        Self::start_after("")
    }

    /// As PID 1 of namespaces in which this shell script ran before (`$1` is the test's directory).
    pub(crate) fn start_after(preparation: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]);
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["sh", "-ec"]);
        command.arg(format!(
            "mount -t tmpfs none /var/log\n{preparation}\nexec \"$0\" 3<&0 </dev/null"
        ));
        Self::launch(command)
    }

    /// Not as PID 1, but as the reaper of its descendants.
    pub(crate) fn start_as_subreaper() -> Self {
        let mut command = Command::new("sh");
        command.args(["-ec", "exec \"$0\" 3<&0 </dev/null"]);
        Self::launch(command)
    }

    fn launch(mut command: Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let child = command
            .arg(env!("CARGO_BIN_EXE_boatyard-agent"))
            .arg(directory.path())
            .env("BASE", "from the agent")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .spawn()
            .unwrap();
        Self {
            directory,
            socket,
            child,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn connect(&self) -> Call {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Call { stream }
    }

    pub(crate) fn ask(&self, request: &Request) -> Call {
        let mut call = self.connect();
        call.send(Kind::Request, &serde_json::to_vec(request).unwrap());
        call
    }

    pub(crate) fn exec(&self, process: Process) -> Call {
        self.ask(&Request::Exec(process))
    }

    /// Runs a shell script to its end.
    pub(crate) fn sh(&self, script: &str) -> Outcome {
        self.exec(sh(script)).finish()
    }

    /// Waits for the end of a process, by its id inside.
    pub(crate) fn until_ended(&self, pid: i32) {
        let lives = format!("test -d /proc/{pid}");
        wait_for(|| (self.sh(&lives).code() == 1).then_some(()));
    }

    /// The agent's id outside: the child of `unshare`.
    pub(crate) fn host_pid(&self) -> String {
        let own = self.child.id();
        wait_for(|| {
            std::fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .find_map(|entry| {
                    let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
                    let (_, rest) = stat.rsplit_once(')')?;
                    let parent = rest.split_whitespace().nth(1)?;
                    (parent == own.to_string()).then(|| entry.file_name().into_string().ok())?
                })
        })
    }

    /// Waits for the agent's own end.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        wait_for(|| self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says loudly that a test did not run.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Shell words that wait for a file.
pub(crate) fn until(file: &Path) -> String {
    format!("until test -e {}; do sleep 0.02; done", file.display())
}

pub(crate) fn sh(script: &str) -> Process {
    command(&["sh", "-c", script])
}

pub(crate) fn command(argv: &[&str]) -> Process {
    Process {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        ..Process::default()
    }
}

/// Polls until there is a value; a deadline instead of a sleep of hopeful length.
pub(crate) fn wait_for<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub(crate) fn wait_for_file(path: &Path) -> String {
    wait_for(|| {
        std::fs::read_to_string(path)
            .ok()
            .filter(|text| text.ends_with('\n'))
    })
}

pub(crate) struct Call {
    pub(crate) stream: UnixStream,
}

/// All that a call gave.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) pid: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) last: Reply,
}

impl Outcome {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub(crate) fn code(&self) -> i32 {
        self.last.exit_code().unwrap()
    }

    #[track_caller]
    pub(crate) fn refused(&self, expected: &str) -> &str {
        match &self.last {
            Reply::Error { reason, message } if reason == expected => message,
            other => panic!("expected {expected}, got {other:?}"),
        }
    }
}

impl Call {
    pub(crate) fn send(&mut self, kind: Kind, payload: &[u8]) {
        frame::write_frame(&mut self.stream, kind, payload).unwrap();
    }

    pub(crate) fn stdin(&mut self, bytes: &[u8]) {
        self.send(Kind::Stdin, bytes);
    }

    pub(crate) fn control(&mut self, control: Control) {
        self.send(Kind::Control, &serde_json::to_vec(&control).unwrap());
    }

    pub(crate) fn next(&mut self) -> Option<(Kind, Vec<u8>)> {
        let mut payload = Vec::new();
        let kind = frame::read_frame(&mut self.stream, &mut payload).unwrap()?;
        Some((kind, payload))
    }

    pub(crate) fn reply(&mut self) -> Reply {
        let (kind, payload) = self.next().expect("a reply");
        assert_eq!(kind, Kind::Reply, "{:?}", String::from_utf8_lossy(&payload));
        serde_json::from_slice(&payload).unwrap()
    }

    /// A reply and what came with its first byte.
    pub(crate) fn reply_with_descriptor(&mut self) -> (Reply, Option<OwnedFd>) {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.stream,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        );
        let length = received.unwrap().bytes;
        let given = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut given) => given.next(),
            _ => None,
        });
        let mut payload = Vec::new();
        let kind = frame::read_frame(&mut &bytes[..length], &mut payload).unwrap();
        assert_eq!(kind, Some(Kind::Reply));
        (serde_json::from_slice(&payload).unwrap(), given)
    }

    #[track_caller]
    pub(crate) fn started(&mut self) -> i32 {
        match self.reply() {
            Reply::Started { pid } => pid,
            other => panic!("not started: {other:?}"),
        }
    }

    /// Reads output until it contains the text.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let (kind, payload) = self.next().unwrap_or_else(|| panic!("ended with {seen:?}"));
            assert_ne!(
                kind,
                Kind::Reply,
                "{:?} after {seen:?}",
                String::from_utf8_lossy(&payload)
            );
            seen.push_str(&String::from_utf8_lossy(&payload));
        }
        seen
    }

    /// Reads to the end of the stream, which follows the last reply.
    pub(crate) fn finish(mut self) -> Outcome {
        let mut outcome = Outcome {
            pid: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            last: Reply::Done,
        };
        let mut replies = Vec::new();
        while let Some((kind, payload)) = self.next() {
            match kind {
                Kind::Stdout => outcome.stdout.extend(payload),
                Kind::Stderr => outcome.stderr.extend(payload),
                Kind::Reply => match serde_json::from_slice(&payload).unwrap() {
                    Reply::Started { pid } => outcome.pid = Some(pid),
                    last => replies.push(last),
                },
                other => panic!("an agent sends no {other:?}"),
            }
        }
        assert_eq!(replies.len(), 1, "{replies:?}");
        outcome.last = replies.remove(0);
        outcome
    }
}
