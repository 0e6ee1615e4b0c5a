//! Messages between runner, spawner, monitor and init, and how they travel.
//!
//! One request is one datagram of a SOCK_SEQPACKET pair: JSON, or the letter `M` with a memfd when
//! it is long. It carries the end of a fresh pair as first descriptor; whoever serves the request
//! (the spawner, or a monitor it forked) answers there exactly once and closes it. End of file
//! without an answer means that process was killed. So requests need no numbers and never wait
//! for each other.
//!
//! Read next: `spawner`, `monitor`.

use crate::error::Failure;
use crate::protection::Protections;
use crate::spec::{Spec, User};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// What the spawner is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Fork a monitor that starts this sandbox.
    Start(Box<Start>),
    /// Open a path with a user's credentials.
    OpenAs {
        /// Whose.
        user: User,
        /// What.
        path: PathBuf,
    },
    /// Serve a folder with a user's credentials (see [`crate::view`]).
    View {
        /// Whose.
        user: User,
        /// Which.
        root: PathBuf,
        /// As in [`Start`].
        without: Protections,
    },
}

/// Everything a monitor needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) spec: Spec,
    pub(crate) host: HostNames,
    /// Die at the Nth crash point (0: never); counted only with feature `kill-points`.
    pub(crate) kill_at: u32,
    /// Protections it does without; heeded only with feature `removable-protections`.
    pub(crate) without: Protections,
}

/// The runner-wide names a sandbox is made under.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostNames {
    pub(crate) cgroup_root: String,
    pub(crate) interface_prefix: String,
    /// Name of the firewall's table.
    pub(crate) table: String,
    /// Mount layers by path even where the kernel takes descriptors.
    pub(crate) attach_layers: bool,
    /// Where the host's resolvers are listed.
    pub(crate) resolv_conf: PathBuf,
}

/// The one answer to a request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Started(crate::record::Running),
    /// The descriptor comes with it.
    Opened,
    AlreadyRunning,
    Failed(Failure),
}

/// Longest datagram sent inline.
const INLINE: usize = 64 * 1024;

/// A connected pair, both ends close-on-exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends `message` with `fds`.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    if json.len() <= INLINE {
        return send_bytes(socket, &json, fds);
    }
    let memfd = rustix::fs::memfd_create(c"boatyard", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memfd);
    file.write_all(&json)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    let mut all = fds.to_vec();
    all.push(std::os::fd::AsFd::as_fd(&file));
    send_bytes(socket, b"M", &all)
}

/// Sends one datagram.
pub(crate) fn send_bytes(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    loop {
        match rustix::net::sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one message; None at end of file.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((bytes, mut fds)) = receive_bytes(socket)? else {
        return Ok(None);
    };
    if bytes == b"M" {
        let memfd = fds
            .pop()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let mut json = Vec::new();
        File::from(memfd).read_to_end(&mut json)?;
        return Ok(Some((serde_json::from_slice(&json)?, fds)));
    }
    Ok(Some((serde_json::from_slice(&bytes)?, fds)))
}

/// Receives one datagram; None at end of file.
pub(crate) fn receive_bytes(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; INLINE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(received) => break received,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    bytes.truncate(received.bytes);
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(Some((bytes, fds)))
}
