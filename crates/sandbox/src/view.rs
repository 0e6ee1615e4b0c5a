//! A folder of the host as one of its users sees it, served by a process with that user's
//! credentials.
//!
//! Build contexts, local Features and devcontainer.json are read through a [`View`]: a child of the
//! spawner that gave up everything but the user's rights lists, describes, opens and reads links
//! beneath the root it opened, and hands regular files over as descriptors. Symbolic links are read
//! as if that root were `/`. What the user may not read fails as it does for them; a file system
//! that hangs stops that process alone, which is killed when a call's time is over or the handle is
//! dropped.
//!
//! Protocol, over the `SOCK_SEQPACKET` pair on which the spawner was asked: the child answers
//! `Opened` with a pidfd of itself, or the failure, then one [`Answer`] for each [`Ask`], in order;
//! it ends when the other end closes.
//!
//! Not here: which files of a folder matter, and what is done with them (`boatyard-image`'s build).

use crate::error::{Error, Failure};
use crate::protocol::{self, Reply};
use crate::spec::User;
use crate::sys::process;
use crate::{beneath, record};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most entries of one folder.
const MOST_ENTRIES: usize = 1 << 20;

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe, socket or device.
    Other,
}

/// What `stat(2)` says of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 07777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Last change of its content: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of anything.
    pub ctime: (i64, u32),
    /// Device it is on.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Hard links.
    pub links: u64,
}

impl From<&Stat> for Meta {
    #[allow(clippy::useless_conversion, reason = "32 bits on some architectures")]
    fn from(stat: &Stat) -> Self {
        let nanos = |value: u64| u32::try_from(value).unwrap_or(0);
        Self {
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Directory,
                FileType::Symlink => Kind::Symlink,
                _ => Kind::Other,
            },
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            ctime: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
            device: stat.st_dev,
            inode: stat.st_ino,
            links: u64::from(stat.st_nlink),
        }
    }
}

/// What the process is asked.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    List(Vec<u8>),
    Stat { path: Vec<u8>, follow: bool },
    Open(Vec<u8>),
    ReadLink(Vec<u8>),
    Connect(Vec<u8>),
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Entries(Vec<(Vec<u8>, Meta)>),
    Meta(Option<Meta>),
    Link(Vec<u8>),
    /// The descriptor comes with it.
    Opened,
    /// An errno.
    Failed(i32),
}

/// Of whatever hangs.
pub(crate) const SILENT: &str = "the file system does not answer";

/// A folder as a user sees it. Paths are relative to it; all calls block, at most
/// half a minute each.
#[derive(Debug)]
pub struct View {
    socket: Mutex<OwnedFd>,
    process: OwnedFd,
    root: PathBuf,
}

impl Drop for View {
    fn drop(&mut self) {
        // It would end by itself, unless a file system keeps it.
        let _ = rustix::process::pidfd_send_signal(&self.process, rustix::process::Signal::KILL);
    }
}

impl View {
    /// Takes over the requester's end of the socket; None when the process was killed.
    pub(crate) fn connected(
        user: User,
        root: &Path,
        socket: OwnedFd,
    ) -> Result<Option<Self>, Error> {
        let refused = |detail: String| Error::OpenAs {
            path: root.display().to_string(),
            uid: user.uid,
            detail,
        };
        if !readable(&socket) {
            return Err(Error::unanswered(root, SILENT));
        }
        match protocol::receive(socket.as_fd()) {
            Ok(Some((Reply::Opened, mut fds))) => Ok(Some(Self {
                process: fds
                    .pop()
                    .ok_or_else(|| refused("no descriptor came".to_owned()))?,
                socket: Mutex::new(socket),
                root: root.to_owned(),
            })),
            Ok(Some((Reply::Failed(failure), _))) => Err(refused(failure.detail)),
            _ => Ok(None),
        }
    }

    /// The folder, as it was named.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Of the process that serves it, while that lives.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        let info =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.process.as_raw_fd()))
                .ok()?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        pid.trim().parse().ok().filter(|pid| *pid > 0)
    }

    /// Entries of a folder, in no order; links are described themselves.
    ///
    /// # Errors
    /// As of opendir(3) and readdir(3).
    pub fn list(&self, path: &Path) -> io::Result<Vec<(OsString, Meta)>> {
        match self.ask(&Ask::List(bytes(path)))? {
            (Answer::Entries(entries), _) => Ok(entries
                .into_iter()
                .map(|(name, meta)| (OsString::from_vec(name), meta))
                .collect()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// What is at a path; None when nothing is. `follow`: of a link, what it leads to.
    ///
    /// # Errors
    /// As of stat(2).
    pub fn stat(&self, path: &Path, follow: bool) -> io::Result<Option<Meta>> {
        let path = bytes(path);
        match self.ask(&Ask::Stat { path, follow })? {
            (Answer::Meta(meta), _) => Ok(meta),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Opens a regular file for reading; links are followed.
    ///
    /// # Errors
    /// As of open(2); EINVAL when it is no regular file.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        Ok(File::from(self.descriptor(&Ask::Open(bytes(path)))?))
    }

    /// Connects to a unix stream socket.
    ///
    /// # Errors
    /// As of connect(2).
    pub fn connect(&self, path: &Path) -> io::Result<UnixStream> {
        Ok(UnixStream::from(
            self.descriptor(&Ask::Connect(bytes(path)))?,
        ))
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// As of readlink(2).
    pub fn read_link(&self, path: &Path) -> io::Result<OsString> {
        match self.ask(&Ask::ReadLink(bytes(path)))? {
            (Answer::Link(target), _) => Ok(OsString::from_vec(target)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn descriptor(&self, ask: &Ask) -> io::Result<OwnedFd> {
        match self.ask(ask)? {
            (Answer::Opened, Some(fd)) => Ok(fd),
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn ask(&self, ask: &Ask) -> io::Result<(Answer, Option<OwnedFd>)> {
        let gone = || {
            io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the process that reads the folder is gone",
            )
        };
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        protocol::send(socket.as_fd(), ask, &[]).map_err(|_| gone())?;
        if !readable(&socket) {
            // Its late answer would be taken for the next one's.
            let _ =
                rustix::process::pidfd_send_signal(&self.process, rustix::process::Signal::KILL);
            return Err(io::Error::new(io::ErrorKind::TimedOut, SILENT));
        }
        match protocol::receive(socket.as_fd())? {
            Some((Answer::Failed(code), _)) => Err(io::Error::from_raw_os_error(code)),
            Some((answer, mut fds)) => Ok((answer, fds.pop())),
            None => Err(gone()),
        }
    }
}

fn readable(socket: &OwnedFd) -> bool {
    let millis = u32::try_from(DEADLINE.as_millis()).unwrap_or(u32::MAX);
    record::wait_end(socket, Some(millis))
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn unexpected(answer: &Answer) -> io::Error {
    io::Error::other(format!("an answer to another question: {answer:?}"))
}

/// The process: a fresh child of the spawner; never returns.
pub(crate) fn serve(user: User, groups: &[u32], root: &Path, socket: &OwnedFd) -> ! {
    let opened = take_rights(user, groups).and_then(|()| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        let own = rustix::process::pidfd_open(
            rustix::process::getpid(),
            rustix::process::PidfdFlags::empty(),
        )?;
        Ok((root, own))
    });
    let root = match opened {
        Ok((root, own)) => {
            if protocol::send(socket.as_fd(), &Reply::Opened, &[own.as_fd()]).is_err() {
                process::exit_now(1)
            }
            root
        }
        Err(error) => {
            let failure = Failure::new("open", error);
            let _ = protocol::send(socket.as_fd(), &Reply::Failed(failure), &[]);
            process::exit_now(1)
        }
    };
    while let Ok(Some((ask, _))) = protocol::receive::<Ask>(socket.as_fd()) {
        let (answer, fd) = match answer(&root, &ask) {
            Ok(answered) => answered,
            Err(error) => (
                Answer::Failed(error.raw_os_error().unwrap_or(libc::EIO)),
                None,
            ),
        };
        let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
        if protocol::send(socket.as_fd(), &answer, &fds).is_err() {
            break;
        }
    }
    process::exit_now(0)
}

/// Becomes the user, with nothing beside.
pub(crate) fn take_rights(user: User, groups: &[u32]) -> io::Result<()> {
    process::become_user(user.uid, user.gid, groups)?;
    // A process that keeps its capabilities across a change of ids would open everything. Root's
    // own view keeps what makes it root.
    if user.uid != 0 {
        let none = rustix::thread::CapabilitySet::empty();
        rustix::thread::set_capabilities(
            None,
            rustix::thread::CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            },
        )?;
    }
    Ok(())
}

fn answer(root: &OwnedFd, ask: &Ask) -> io::Result<(Answer, Option<OwnedFd>)> {
    let open = |path: &[u8], flags: OFlags| -> rustix::io::Result<OwnedFd> {
        let path = match path {
            b"" => Path::new("."),
            path => Path::new(std::ffi::OsStr::from_bytes(path)),
        };
        beneath::open(root, path, flags, ResolveFlags::IN_ROOT)
    };
    Ok(match ask {
        Ask::List(path) => {
            let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            (Answer::Entries(entries(&directory)?), None)
        }
        Ask::Stat { path, follow } => {
            let mut flags = OFlags::PATH;
            flags.set(OFlags::NOFOLLOW, !follow);
            let meta = match open(path, flags) {
                Err(Errno::NOENT | Errno::NOTDIR) => None,
                opened => Some(Meta::from(&rustix::fs::fstat(opened?)?)),
            };
            (Answer::Meta(meta), None)
        }
        Ask::Open(path) => {
            let file = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            let stat = rustix::fs::fstat(&file)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(Errno::INVAL.into());
            }
            (Answer::Opened, Some(file))
        }
        Ask::ReadLink(path) => {
            let link = open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
            let target = rustix::fs::readlinkat(&link, c"", Vec::new())?;
            (Answer::Link(target.into_bytes()), None)
        }
        Ask::Connect(path) => {
            let place = open(path, OFlags::PATH)?;
            let stream = UnixStream::connect(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
            (Answer::Opened, Some(stream.into()))
        }
    })
}

/// What is in an open folder.
///
/// # Errors
/// As of readdir(3); EOVERFLOW for more entries than anybody needs.
pub fn entries(directory: impl AsFd) -> io::Result<Vec<(Vec<u8>, Meta)>> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if found.len() == MOST_ENTRIES {
            return Err(Errno::OVERFLOW.into());
        }
        match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => found.push((name.to_bytes().to_vec(), Meta::from(&stat))),
            // Removed meanwhile.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
