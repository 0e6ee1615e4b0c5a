//! The caller's SSH agent for one step: a socket in the step's sandbox, each connection to which is
//! carried to the agent as its owner may connect to it.
//!
//! Only bytes pass: the step can use the agent while it runs, as `ssh -A` lets it, and sees no path
//! of the host. Bounded in connections; dropped, it ends them all and waits for its threads.

use super::owner::Owner;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Connections of one step at a time.
const MOST: usize = 32;

/// An SSH agent of the caller's.
pub trait Agent: Send + Sync {
    /// Connects to it, with its owner's rights.
    ///
    /// # Errors
    /// It is not there, or does not answer.
    fn connect(&self) -> io::Result<UnixStream>;
}

/// Connections under way, by number.
#[derive(Default)]
struct Open(Mutex<Vec<(u64, UnixStream)>>);

impl Open {
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<(u64, UnixStream)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listening socket, served until dropped.
pub(super) struct Forwarded {
    path: PathBuf,
    folder: std::fs::File,
    ending: Arc<AtomicBool>,
    open: Arc<Open>,
    thread: Option<JoinHandle<()>>,
}

/// The address of a socket whose path may be longer than an address holds.
fn address(folder: &std::fs::File) -> String {
    format!("/proc/self/fd/{}/agent.sock", folder.as_raw_fd())
}

impl Forwarded {
    pub(super) fn new(
        folder: &Path,
        agent: Arc<dyn Agent>,
        mode: u32,
        owner: Owner,
    ) -> io::Result<Forwarded> {
        let opened = std::fs::File::open(folder)?;
        let listener = UnixListener::bind(address(&opened))?;
        let path = folder.join("agent.sock");
        std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        let (ending, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Open::default()));
        let (until, connections) = (Arc::clone(&ending), Arc::clone(&open));
        let thread = std::thread::spawn(move || serve(&listener, &*agent, &until, &connections));
        Ok(Forwarded {
            path,
            folder: opened,
            ending,
            open,
            thread: Some(thread),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        for (_, stream) in &*self.open.all() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        // Wakes it.
        drop(UnixStream::connect(address(&self.folder)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &UnixListener, agent: &dyn Agent, ending: &AtomicBool, open: &Open) {
    std::thread::scope(|scope| {
        for number in 0.. {
            let Ok((near, _)) = listener.accept() else {
                return;
            };
            if ending.load(Ordering::SeqCst) {
                return;
            }
            let carried = || -> io::Result<()> {
                if open.all().len() >= 2 * MOST {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let far = agent.connect()?;
                let kept = [near.try_clone()?, far.try_clone()?];
                open.all().extend(kept.map(|stream| (number, stream)));
                let (mut asked, mut answered) = (near.try_clone()?, far.try_clone()?);
                let back = scope.spawn(move || {
                    let _ = io::copy(&mut answered, &mut asked);
                    let _ = asked.shutdown(std::net::Shutdown::Both);
                });
                scope.spawn(move || {
                    let (mut near, mut far) = (near, far);
                    let _ = io::copy(&mut near, &mut far);
                    let _ = far.shutdown(std::net::Shutdown::Write);
                    let _ = back.join();
                    open.all().retain(|(other, _)| *other != number);
                });
                // One that came while everything was ended.
                if ending.load(Ordering::SeqCst) {
                    for (_, stream) in &*open.all() {
                        let _ = stream.shutdown(std::net::Shutdown::Both);
                    }
                }
                Ok(())
            };
            if let Err(error) = carried() {
                tracing::info!(%error, "a step's connection to the SSH agent was refused");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    //! Both ways, and to an end.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::{Read as _, Write as _};

    struct Echo(PathBuf);

    impl Agent for Echo {
        fn connect(&self) -> io::Result<UnixStream> {
            UnixStream::connect(&self.0)
        }
    }

    #[test]
    fn bytes_pass_both_ways_and_nothing_is_left_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        let listener = UnixListener::bind(&real).unwrap();
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).unwrap();
            stream.write_all(&word).unwrap();
            // Held until the forwarding ends it.
            assert_eq!(stream.read(&mut word).unwrap(), 0);
        });
        let own = std::fs::metadata(folder.path()).unwrap();
        let owner = Owner {
            uid: std::os::unix::fs::MetadataExt::uid(&own),
            gid: std::os::unix::fs::MetadataExt::gid(&own),
        };
        let inside = folder.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let forwarded = Forwarded::new(&inside, Arc::new(Echo(real)), 0o600, owner).unwrap();
        let mut stream = UnixStream::connect(forwarded.path()).unwrap();
        stream.write_all(b"ping").unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"ping");
        drop(forwarded);
        assert_eq!(stream.read(&mut word).unwrap(), 0);
        echo.join().unwrap();
    }
}
