//! A connection's way out: what is written within one turn of it goes to the socket at once, and a
//! socket whose other end takes nothing for a while fails.
//!
//! HTTP/2 flushes after every frame of some size: a change to the hundred watches of one connection
//! would be a hundred system calls, and as many TLS records. So [`Patient`], which the HTTP
//! implementation writes to, keeps a little, and [`Outlet`], which the owner of the connection holds,
//! sends it when the connection has been polled. When it sent something just before, others are
//! about to add more: then only once nothing else of this thread is ready to run, so that it goes
//! together. What is larger than that goes through as it is.
//!
//! Reading has no deadline here: a watch has nothing to say for hours. What waits to be written is
//! bounded by the HTTP implementation's buffers and by [`KEPT`]; without a deadline a client that
//! never reads would hold them, and its place, for ever. An upgraded connection is a stream between
//! two programs, whose receiver may rest as long as it likes: nothing is kept of it, nobody would
//! send it.

use futures::task::AtomicWaker;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes kept at most before they are written.
const KEPT: usize = 64 * 1024;
/// Writes from this size on are not worth a copy.
const LARGE: usize = 16 * 1024;
/// After a time without any, the first write is sent at once.
const CALM: Duration = Duration::from_micros(500);
/// What a connection that rests keeps of its buffer.
const RESTING: usize = 4 * 1024;

/// What the HTTP implementation reads and writes.
pub(super) struct Patient<S>(Arc<Mutex<Socket<S>>>);

/// Sends what was kept.
pub(super) struct Outlet<S> {
    socket: Arc<Mutex<Socket<S>>>,
    turn: Arc<Turn>,
}

/// Comes when what was ready to run has run.
#[derive(Default)]
struct Turn {
    asked: AtomicBool,
    come: AtomicBool,
    connection: AtomicWaker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.come.store(true, Ordering::Release);
        self.connection.wake();
    }
}

struct Socket<S> {
    socket: S,
    patience: Duration,
    upgraded: Arc<AtomicBool>,
    /// Since something waits to be written.
    until: Option<Pin<Box<Sleep>>>,
    kept: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// Something was written since the socket was last flushed.
    owed: bool,
    /// A write was not taken, and will be tried again.
    refused: bool,
    /// When the outlet sent last.
    sent: Option<Instant>,
}

/// Both ends of a connection's way out.
pub(super) fn patient<S>(
    socket: S,
    patience: Duration,
    upgraded: Arc<AtomicBool>,
) -> (Patient<S>, Outlet<S>) {
    let socket = Arc::new(Mutex::new(Socket {
        socket,
        patience,
        upgraded,
        until: None,
        kept: Vec::new(),
        written: 0,
        owed: false,
        refused: false,
        sent: None,
    }));
    let outlet = Outlet {
        socket: socket.clone(),
        turn: Arc::default(),
    };
    (Patient(socket), outlet)
}

impl<S> Socket<S> {
    fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Relaxed)
    }

    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() || self.is_upgraded() {
            self.until = None;
            return polled;
        }
        let patience = self.patience;
        let until = self
            .until
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        match until.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the other end does not read",
            ))),
        }
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    /// Writes out what is kept.
    fn poll_empty(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.kept.len() {
            let rest = &self.kept[self.written..];
            let polled = Pin::new(&mut self.socket).poll_write(context, rest);
            match ready!(self.judge(context, polled))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                some => self.written += some,
            }
        }
        self.kept.clear();
        self.kept.shrink_to(RESTING);
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_through(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(context))?;
        let polled = Pin::new(&mut self.socket).poll_flush(context);
        // Nothing to flush is no progress of a write that waits.
        if polled.is_pending() || !self.refused {
            ready!(self.judge(context, polled))?;
        }
        self.owed = false;
        Poll::Ready(Ok(()))
    }

    /// Takes a write of several slices.
    fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size = slices.iter().map(|slice| slice.len()).sum();
        let polled = self.poll_some(context, slices, size);
        self.refused = polled.is_pending();
        polled
    }

    fn poll_some(
        &mut self,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
        size: usize,
    ) -> Poll<io::Result<usize>> {
        let large = size >= LARGE || self.is_upgraded();
        if large || self.kept.len() + size > KEPT {
            ready!(self.poll_empty(context))?;
        }
        self.owed = true;
        if large {
            let polled = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
            return self.judge(context, polled);
        }
        for slice in slices {
            self.kept.extend_from_slice(slice);
        }
        Poll::Ready(Ok(size))
    }
}

impl<S> Patient<S> {
    fn lock(&self) -> MutexGuard<'_, Socket<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Outlet<S> {
    /// Polls a connection, and sends when it has nothing more to do.
    pub(super) fn poll<C: Future>(
        &self,
        connection: Pin<&mut C>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if connection.poll(context).is_ready() {
            return Poll::Ready(());
        }
        // An error ends the connection.
        self.poll_send(context).map(drop)
    }

    fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if !socket.owed || socket.is_upgraded() {
            return Poll::Pending;
        }
        let turn = &self.turn;
        let calm = socket.sent.is_none_or(|sent| sent.elapsed() > CALM);
        if calm && !turn.asked.load(Ordering::Relaxed) {
            ready!(socket.poll_through(context))?;
            socket.sent = Some(Instant::now());
            return Poll::Pending;
        }
        turn.connection.register(context.waker());
        if !turn.asked.swap(true, Ordering::Relaxed) {
            let waker = turn.clone().into();
            let mut others = std::pin::pin!(tokio::task::yield_now());
            let _ = others.as_mut().poll(&mut Context::from_waker(&waker));
            return Poll::Pending;
        }
        if !turn.come.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        ready!(socket.poll_through(context))?;
        socket.sent = Some(Instant::now());
        turn.come.store(false, Ordering::Relaxed);
        turn.asked.store(false, Ordering::Relaxed);
        Poll::Pending
    }

    /// Sends what a connection that has ended left; of an upgraded one nothing.
    pub(super) async fn end(self) {
        let _ = std::future::poll_fn(|context| {
            let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
            match socket.is_upgraded() || !socket.owed {
                true => Poll::Ready(Ok(())),
                false => socket.poll_through(context),
            }
        })
        .await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_take(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_take(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is kept counts as flushed: the outlet sends it. Of an upgraded connection nothing is.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.lock();
        if socket.is_upgraded() {
            return socket.poll_through(context);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.lock();
        ready!(socket.poll_empty(context))?;
        let polled = Pin::new(&mut socket.socket).poll_shutdown(context);
        socket.judge(context, polled)
    }
}

#[cfg(test)]
mod tests;
