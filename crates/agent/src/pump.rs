//! A task's output on its way to its log: one thread per running task, because a disk may be slow and
//! the log's directory lies in the environment's power.
//!
//! The log gets everything up to a size. The relay goes to the server, which empties it whatever its
//! callers do (a slow one misses output), so that no caller holds the task up.

use crate::mask::Mask;
use boatyard_wire::LOG_DIRECTORY;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::io;
use std::os::fd::OwnedFd;

/// A log ends here.
const LARGEST_LOG: usize = 64 * 1024 * 1024;
const TRUNCATED: &[u8] = b"\n[boatyard: log ends here, 64 MiB is its limit]\n";

/// Starts the thread; gives the relay's reading end, which does not block and ends with the output.
pub(crate) fn start(name: &str, output: OwnedFd, mask: Mask) -> io::Result<OwnedFd> {
    let (relay_read, relay) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&relay_read, true)?;
    rustix::io::ioctl_fionbio(&output, false)?;
    let name = name.to_owned();
    std::thread::Builder::new()
        .name("log".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || pump(&name, &output, relay, mask))?;
    Ok(relay_read)
}

fn pump(name: &str, output: &OwnedFd, relay: OwnedFd, mut mask: Mask) {
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
    let mut chunk = [0u8; 16 * 1024];
    let mut ended = false;
    while !ended {
        let bytes = match rustix::io::read(output, &mut chunk[..]) {
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
        if bytes.is_empty() {
            continue;
        }
        if let Some(open) = &mut log
            && let Err(error) = open.append(bytes)
        {
            let note =
                format!("\n[boatyard: the log ends here: {LOG_DIRECTORY}/{name}.log: {error}]\n");
            pass_on(&mut relay, note.as_bytes());
            log = None;
        }
        pass_on(&mut relay, bytes);
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
