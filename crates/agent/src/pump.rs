//! A task's output on its way to its log: one thread per running task, because a disk may be slow and
//! the log's directory lies in the environment's power.
//!
//! The log gets everything up to a size. The relay goes to the server, which empties it whatever its
//! callers do (a slow one misses output), so that no caller holds the task up. [`Flow`] tells when what
//! a task had written by its end is there: a thread that waits for its disk loses nothing.

use crate::mask::Mask;
use boatyard_wire::LOG_DIRECTORY;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A log ends here.
const LARGEST_LOG: usize = 64 * 1024 * 1024;
const TRUNCATED: &[u8] = b"\n[boatyard: log ends here, 64 MiB is its limit]\n";
/// What is taken at once.
const CHUNK: usize = 16 * 1024;

/// How far a task's output has come.
#[derive(Debug)]
pub(crate) struct Flow {
    output: OwnedFd,
    /// Something may have been taken that is not passed on yet.
    is_carrying: AtomicBool,
    /// How often something was taken and passed on.
    rounds: AtomicU64,
}

/// A moment in a [`Flow`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

impl Flow {
    /// Now.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.rounds.load(Ordering::SeqCst))
    }

    /// Whether all that had been written by then is in the relay, and in the log as far as that goes;
    /// whatever was written since.
    pub(crate) fn has_passed(&self, mark: Mark) -> bool {
        let left = rustix::io::ioctl_fionread(&self.output).unwrap_or(0);
        // In this order: what is no longer in the pipe was taken while the other was set.
        if left == 0 && !self.is_carrying.load(Ordering::SeqCst) {
            return true;
        }
        // One round may have been under way; each one after it takes a chunk or all there is.
        let room = rustix::pipe::fcntl_getpipe_size(&self.output).unwrap_or(usize::MAX);
        let rounds = self.rounds.load(Ordering::SeqCst).saturating_sub(mark.0);
        usize::try_from(rounds).is_ok_and(|rounds| rounds > room.div_ceil(CHUNK))
    }
}

/// Starts the thread; gives the relay's reading end, which does not block and ends with the output.
pub(crate) fn start(name: &str, output: OwnedFd, mask: Mask) -> io::Result<(OwnedFd, Arc<Flow>)> {
    let (relay_read, relay) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&relay_read, true)?;
    rustix::io::ioctl_fionbio(&output, false)?;
    let name = name.to_owned();
    let flow = Arc::new(Flow {
        output,
        // Until it has a log.
        is_carrying: AtomicBool::new(true),
        rounds: AtomicU64::new(0),
    });
    let carried = flow.clone();
    std::thread::Builder::new()
        .name("log".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || pump(&name, &carried, relay, mask))?;
    Ok((relay_read, flow))
}

fn pump(name: &str, flow: &Flow, relay: OwnedFd, mut mask: Mask) {
    let mut relay = Some(relay);
    let mut log = match Log::create(name) {
        Ok(log) => Some(log),
        Err(error) => {
            let note = format!(
                "[boatyard: this output has no log: {LOG_DIRECTORY}/{name}.log: {error}]\n"
            );
            pass_on(&mut relay, note.as_bytes());
            None
        }
    };
    // On the stack: an allocation here would give the thread an arena of its own.
    let mut chunk = [0u8; CHUNK];
    let mut ended = false;
    while !ended {
        flow.is_carrying.store(false, Ordering::SeqCst);
        let mut polled = [PollFd::new(&flow.output, PollFlags::IN)];
        // An error shows in the read.
        let _ = rustix::event::poll(&mut polled, None);
        flow.is_carrying.store(true, Ordering::SeqCst);
        let bytes = match rustix::io::read(&flow.output, &mut chunk[..]) {
            Ok(length) if length > 0 => chunk.get(..length).unwrap_or_default(),
            Err(Errno::INTR) => continue,
            Ok(_) | Err(_) => {
                ended = true;
                &[]
            }
        };
        let masked;
        let bytes = match (mask.is_needed(), ended) {
            (false, _) => bytes,
            (true, false) => {
                masked = mask.feed(bytes);
                &masked
            }
            (true, true) => {
                masked = mask.end();
                &masked
            }
        };
        if !bytes.is_empty()
            && let Some(open) = &mut log
            && let Err(error) = open.append(bytes)
        {
            let note =
                format!("\n[boatyard: the log ends here: {LOG_DIRECTORY}/{name}.log: {error}]\n");
            pass_on(&mut relay, note.as_bytes());
            log = None;
        }
        pass_on(&mut relay, bytes);
        flow.rounds.fetch_add(1, Ordering::SeqCst);
    }
}

/// Until the server has dropped the task.
fn pass_on(relay: &mut Option<OwnedFd>, bytes: &[u8]) {
    if let Some(open) = relay
        && write_all(open, bytes).is_err()
    {
        *relay = None;
    }
}

fn write_all(to: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

struct Log {
    file: OwnedFd,
    room: usize,
}

impl Log {
    /// A new file in place of the last run's. Never follows a link at the name, never writes to what
    /// it has not made itself.
    fn create(name: &str) -> rustix::io::Result<Self> {
        let directory_flags =
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory = match rustix::fs::open(LOG_DIRECTORY, directory_flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                let parent = LOG_DIRECTORY
                    .rsplit_once('/')
                    .map_or("/", |(parent, _)| parent);
                for path in ["/var", parent, LOG_DIRECTORY] {
                    let _ = rustix::fs::mkdir(path, Mode::from_raw_mode(0o755));
                }
                rustix::fs::open(LOG_DIRECTORY, directory_flags, Mode::empty())?
            }
            other => other?,
        };
        let file_name = format!("{name}.log");
        match rustix::fs::unlinkat(&directory, &file_name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &file_name, flags, Mode::from_raw_mode(0o644))?;
        let found = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        Ok(Self {
            file,
            room: LARGEST_LOG,
        })
    }

    fn append(&mut self, bytes: &[u8]) -> rustix::io::Result<()> {
        if self.room == 0 {
            return Ok(());
        }
        let kept = bytes.get(..self.room.min(bytes.len())).unwrap_or_default();
        write_all(&self.file, kept)?;
        self.room -= kept.len();
        if self.room == 0 {
            write_all(&self.file, TRUNCATED)?;
        }
        Ok(())
    }
}
