//! The other end of the terminal inside, where the agent's own socket was handed over: it gives that end
//! too, and what is typed and shown passes nobody.
//!
//! Whoever is root inside may have taken the agent's place. What it gives is used only when the kernel
//! says that it is a pseudo terminal's end: its reads then cannot hang as those of a file whose file
//! system is a program of theirs.

use crate::failure::Failure;
use boatyard_link::handover::Given;
use boatyard_wire::LINGER;
use rustix::fs::{AtFlags, FileType, StatxFlags};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes read at once: the kernel keeps no more of a terminal.
const CHUNK: usize = 4096;
/// Of /dev/ptmx, Documentation/admin-guide/devices.txt.
const PTMX: (u32, u32) = (5, 2);

/// One end of a pseudo terminal.
#[derive(Debug)]
pub(super) struct Terminal(AsyncFd<OwnedFd>);

#[allow(
    deprecated,
    reason = "an owned descriptor cannot change under the reactor, and the replacement is unsafe"
)]
fn watched(end: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(end)
}

fn is_pseudo_terminal(end: &OwnedFd) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(end, c"", flags, StatxFlags::TYPE).is_ok_and(|found| {
        FileType::from_raw_mode(found.stx_mode.into()) == FileType::CharacterDevice
            && (found.stx_rdev_major, found.stx_rdev_minor) == PTMX
    })
}

impl Terminal {
    /// What came with [`boatyard_wire::Reply::Terminal`].
    pub(super) fn take(given: Option<Given>) -> Result<Self, Failure> {
        let end = given
            .and_then(|given| given.take())
            .filter(is_pseudo_terminal);
        let end = end.ok_or_else(|| {
            Failure::new("the environment's agent gave no terminal; restart the environment")
                .code(125)
        })?;
        rustix::io::ioctl_fionbio(&end, true).map_err(io::Error::from)?;
        Ok(Self(watched(end)?))
    }

    /// The next bytes shown there; None when nobody has it any more.
    async fn read(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; CHUNK];
        let read = |end: &OwnedFd| Ok(rustix::io::read(end, &mut buffer)?);
        // EIO: the last user of the other end is gone.
        let length = self.0.async_io(Interest::READABLE, read).await.ok()?;
        buffer.truncate(length);
        (length > 0).then_some(buffer)
    }

    /// The next bytes of one that may be none, for which this waits for ever.
    pub(super) async fn read_some(of: Option<&Self>) -> Option<Vec<u8>> {
        match of {
            Some(terminal) => terminal.read().await,
            None => std::future::pending().await,
        }
    }

    /// The same of writing.
    pub(super) async fn write_some(of: Option<&Self>, bytes: &[u8]) -> io::Result<usize> {
        match of {
            Some(terminal) => terminal.write(bytes).await,
            None => std::future::pending().await,
        }
    }

    /// Types as much as is taken at once, when something is.
    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let write = |end: &OwnedFd| match rustix::io::write(end, bytes)? {
            // Its queue is full.
            0 => Err(io::ErrorKind::WouldBlock.into()),
            written => Ok(written),
        };
        self.0.async_io(Interest::WRITABLE, write).await
    }

    /// What is still shown after the end: all of it, or where something goes on in the background what
    /// comes within [`LINGER`].
    pub(super) async fn rest(
        &self,
        mut show: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let end = tokio::time::Instant::now() + LINGER;
        while let Ok(Some(bytes)) = tokio::time::timeout_at(end, self.read()).await {
            show(&bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};

    fn pseudo_terminal() -> (OwnedFd, std::fs::File) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let end = openpt(flags).unwrap();
        grantpt(&end).unwrap();
        unlockpt(&end).unwrap();
        let name = rustix::pty::ptsname(&end, Vec::new()).unwrap();
        let other = std::fs::File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap());
        (end, other.unwrap())
    }

    #[test]
    fn what_is_no_terminal_is_not_taken_for_one() {
        let (end, other) = pseudo_terminal();
        assert!(is_pseudo_terminal(&end));
        assert!(!is_pseudo_terminal(&other.into()));
        let file = |path| std::fs::File::open(path).unwrap().into();
        assert!(!is_pseudo_terminal(&file("/dev/null")));
        assert!(!is_pseudo_terminal(&file("/proc/self/stat")));
        let (read, _write) = std::io::pipe().unwrap();
        assert!(!is_pseudo_terminal(&read.into()));
    }

    #[tokio::test]
    async fn what_is_typed_waits_for_room_and_what_is_shown_is_read_to_its_end() {
        let (end, mut other) = pseudo_terminal();
        rustix::io::ioctl_fionbio(&end, true).unwrap();
        let mut modes = rustix::termios::tcgetattr(&other).unwrap();
        modes.make_raw();
        rustix::termios::tcsetattr(&other, rustix::termios::OptionalActions::Now, &modes).unwrap();
        let terminal = Terminal(watched(end).unwrap());
        let typed: Vec<u8> = (0..300_000_u32)
            .map(|number| number.to_le_bytes()[0])
            .collect();
        let wanted = typed.clone();
        let reading = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut read = vec![0; wanted.len()];
            other.read_exact(&mut read).unwrap();
            assert!(read == wanted);
            other.write_all(&read).unwrap();
        });
        let mut rest = typed.as_slice();
        while !rest.is_empty() {
            let written = terminal.write(rest).await.unwrap();
            rest = &rest[written..];
        }
        let mut shown = Vec::new();
        while let Some(bytes) = terminal.read().await {
            shown.extend(bytes);
        }
        assert!(shown == typed);
        reading.join().unwrap();
    }
}
