//! Giving a client of this host the connected socket itself, instead of carrying its bytes.
//!
//! A stream to an environment of a runner in the server's own process leads from one unix socket to
//! another. Carried, every keystroke waits for the server to be let in, there and back, and the
//! stream ends with the server. So the server hands the far end over (`SCM_RIGHTS`, unix(7)): the
//! client asks with [`HEADER`], the server agrees with the same, the client says that it reads, by a
//! byte, and gets a byte with the socket. The HTTP connection stays open beside it and says how long
//! the client lives; that it ends says nothing.
//!
//! Not here: who may have the stream, which the server has decided before, and what it carries.
//! Nothing is stored. Who dies between two steps leaves a connection that ends.

use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{Interest, ReadBuf};
use tokio::net::UnixStream;

/// Of a request: the client takes a socket. Of an answer: it gets one.
pub const HEADER: &str = "boatyard-handover";
/// What the client sends when its HTTP implementation no longer reads.
pub const READY: u8 = b'?';
const GIVEN: u8 = b'!';

/// The connection that sockets are handed over on, as the server keeps it with a request: another
/// descriptor of it.
#[derive(Clone, Debug)]
pub struct Line(pub Arc<OwnedFd>);

impl Line {
    /// Sends a socket. Call it when [`READY`] was read.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn give(&self, socket: impl AsFd) -> io::Result<()> {
        let sockets = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let sent = rustix::net::sendmsg(
            &*self.0,
            &[IoSlice::new(&[GIVEN])],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        sent.map(drop).map_err(io::Error::from)
    }
}

/// Receives a socket on a connection, of which `line` is another descriptor; whoever else reads it
/// must have stopped.
///
/// # Errors
/// When the server is gone, or sends something else.
pub(crate) async fn take(line: OwnedFd) -> io::Result<UnixStream> {
    let line = stream(line)?;
    let socket = line.async_io(Interest::READABLE, || receive(&line)).await?;
    stream(socket)
}

fn stream(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

fn receive(line: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let (length, socket) = receive_with(line, &mut byte)?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let socket = socket.filter(|_| byte == [GIVEN]);
    socket.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Reads bytes, and a descriptor if one comes with them.
fn receive_with(line: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(line, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    let mut given = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut given) => given.next(),
        _ => None,
    });
    Ok((received.bytes, given.next()))
}

/// What the far end of a socket that was handed over gave last.
#[derive(Clone, Debug, Default)]
pub struct Given(Arc<Mutex<Option<OwnedFd>>>);

impl Given {
    /// Takes it.
    #[must_use]
    pub fn take(&self) -> Option<OwnedFd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Reads from the socket, as [`tokio::io::AsyncRead::poll_read`] does, and keeps what comes besides.
    pub(crate) fn poll_read(
        &self,
        socket: &UnixStream,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(socket.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match socket.try_io(Interest::READABLE, || receive_with(socket, unfilled)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok((length, given)) => {
                    if given.is_some() {
                        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = given;
                    }
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn fd(stream: &UnixStream) -> OwnedFd {
        stream.as_fd().try_clone_to_owned().unwrap()
    }

    #[tokio::test]
    async fn a_socket_is_handed_over_and_speaks_when_the_giver_is_gone() {
        let (server, client) = UnixStream::pair().unwrap();
        let (far, mut environment) = UnixStream::pair().unwrap();
        let giving = async {
            Line(Arc::new(fd(&server))).give(&far).unwrap();
            drop((server, far));
        };
        let (taken, ()) = tokio::join!(take(fd(&client)), giving);
        let mut taken = taken.unwrap();
        taken.write_all(b"to").await.unwrap();
        environment.write_all(b"fro").await.unwrap();
        let mut read = [0; 2];
        environment.read_exact(&mut read).await.unwrap();
        assert_eq!(read, *b"to");
        drop(environment);
        let mut rest = Vec::new();
        taken.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"fro");
    }

    #[tokio::test]
    async fn a_giver_that_dies_or_says_something_else_is_an_error() {
        let (server, client) = UnixStream::pair().unwrap();
        let line = fd(&client);
        drop(server);
        let kind = take(line).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::UnexpectedEof);
        let (mut server, client) = UnixStream::pair().unwrap();
        server.write_all(b"!").await.unwrap();
        let kind = take(fd(&client)).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::InvalidData, "no socket came with it");
    }
}
