//! The neighbour, asked from the host: it starts a small program and answers.

use boatyard_sandbox::spec::Spec;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A neighbour that does not answer for so long is taken to be dead.
const HANG: Duration = Duration::from_secs(30);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);

/// How a neighbour is asked.
pub(crate) struct Neighbour(PathBuf);

impl Neighbour {
    pub(crate) fn of(spec: &Spec) -> Self {
        Self(spec.state.join("agent.sock"))
    }

    /// Asks once; fails the test when there is no answer or it cannot start a program.
    pub(crate) fn answers(&self) {
        ask(&self.0, "echo well").unwrap_or_else(|error| panic!("the neighbour: {error}"));
    }

    /// What its shell prints when it runs this.
    pub(crate) fn says(&self, script: &str) -> String {
        tell(&self.0, script).unwrap_or_else(|error| panic!("the neighbour: {error}"))
    }
}

fn tell(socket: &Path, script: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(HANG))?;
    stream.write_all(script.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// How long it takes to say that it is well.
fn ask(socket: &Path, question: &str) -> std::io::Result<Duration> {
    let began = Instant::now();
    let said = tell(socket, question)?;
    if said != "well\n" {
        return Err(std::io::Error::other(said));
    }
    Ok(began.elapsed())
}

/// The neighbour's answers, timed until the attack has ended.
pub(crate) struct Pulse {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Pulse {
    pub(crate) fn start(spec: &Spec, question: &'static str) -> Self {
        let socket = Neighbour::of(spec).0;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut times = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                times.push(
                    ask(&socket, question).unwrap_or_else(|error| panic!("the neighbour: {error}")),
                );
                std::thread::park_timeout(PAUSE);
            }
            times
        });
        Self { stop, thread }
    }

    /// Ends it and answers the times as text.
    pub(crate) fn end(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let mut times = self.thread.join().unwrap();
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        format!(
            "{} of them, p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
            times.len(),
            at(50),
            at(99),
            at(100)
        )
    }
}
