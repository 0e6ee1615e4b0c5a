//! Somebody at a terminal: `boatyard sh` on a pseudo-terminal, keystroke by keystroke.

use crate::Daemon;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long what is waited for may take, by emulation too.
const DEADLINE: Duration = Duration::from_secs(120);

/// An open shell in an environment.
pub struct Typist {
    terminal: OwnedFd,
    child: Child,
    /// What was read and not asked for yet.
    screen: Vec<u8>,
}

impl Typist {
    /// Opens a shell and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn sit_down(daemon: &Daemon, environment: &str) -> Self {
        let terminal =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
                .unwrap();
        rustix::pty::grantpt(&terminal).unwrap();
        rustix::pty::unlockpt(&terminal).unwrap();
        let name = rustix::pty::ptsname(&terminal, Vec::new()).unwrap();
        let open = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            Stdio::from(rustix::fs::open(&name, flags, Mode::empty()).unwrap())
        };
        let mut command = daemon.client(&["sh", environment]);
        command.stdin(open()).stdout(open()).stderr(open());
        let child = command.spawn().unwrap();
        let mut typist = Self {
            terminal,
            child,
            screen: Vec::new(),
        };
        typist.line("echo rea''dy");
        typist.wait_for(b"ready");
        typist
    }

    /// Types a line.
    ///
    /// # Panics
    /// When the terminal is closed.
    pub fn line(&mut self, line: &str) {
        self.write(line.as_bytes());
        self.write(b"\r");
    }

    /// Types one key and waits for its echo; says how long that took.
    ///
    /// # Panics
    /// When there is none.
    pub fn key(&mut self, key: u8) -> Duration {
        self.screen.clear();
        let began = Instant::now();
        self.write(&[key]);
        self.wait_for(&[key]);
        began.elapsed()
    }

    /// Throws away what was typed on this line.
    ///
    /// # Panics
    /// When the terminal is closed.
    pub fn clear_line(&mut self) {
        // Control-U, and what the shell writes to wipe the line out.
        self.write(&[21]);
        while self.read(Duration::from_millis(60)) {}
        self.screen.clear();
    }

    /// Waits until this text has been shown, and forgets what came before its end.
    ///
    /// # Panics
    /// When it is not.
    pub fn wait_for(&mut self, text: &[u8]) {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self
                .screen
                .windows(text.len())
                .position(|window| window == text)
            {
                self.screen.drain(..at + text.len());
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && self.read(left),
                "{:?} was not shown, but {:?}",
                String::from_utf8_lossy(text),
                String::from_utf8_lossy(&self.screen)
            );
        }
    }

    /// Waits until the client has ended by itself; says with which code.
    ///
    /// # Panics
    /// When it does not.
    pub fn ended(mut self) -> Option<i32> {
        // Whoever does not read its terminal holds it up.
        while self.read(DEADLINE) {}
        self.child.wait().unwrap().code()
    }

    fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let written = rustix::io::write(&self.terminal, bytes).unwrap();
            bytes = &bytes[written..];
        }
    }

    /// Reads what comes within a time; false when nothing does.
    fn read(&mut self, within: Duration) -> bool {
        let mut ready = [PollFd::new(&self.terminal, PollFlags::IN)];
        let timeout = Timespec::try_from(within).unwrap();
        if poll(&mut ready, Some(&timeout)) != Ok(1) {
            return false;
        }
        let mut bytes = [0; 4096];
        match rustix::io::read(&self.terminal, &mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.screen.extend_from_slice(&bytes[..read]);
                true
            }
        }
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
