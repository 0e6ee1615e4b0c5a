//! A connection whose events are counted and not read.
//!
//! A thousand readers in this process take as much of the processors as the server that is
//! measured, and hide it: in truth they are on machines of their own. Here what arrives is looked at
//! as HTTP/2 frames, and each of data that is no mere beginning counts. Nothing is acknowledged
//! meanwhile: the windows are larger than anything sent, and a ping may wait for half a minute.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Length of a frame's head.
const HEAD: usize = 9;
/// Data from this size on is an event: gRPC may send a message's five leading bytes by themselves.
const EVENT: usize = 200;

/// Events of some connections.
#[derive(Default)]
pub(crate) struct Tally {
    counting: AtomicBool,
    missing: AtomicUsize,
    all: Notify,
}

impl Tally {
    /// From now on so many are waited for, and nothing is read any more.
    pub(crate) fn expect(&self, events: usize) {
        let missing = self.missing.swap(events, Ordering::Relaxed);
        assert_eq!(
            missing, 0,
            "events that nobody waited for, or that did not come"
        );
        self.counting.store(true, Ordering::Release);
    }

    /// Until they have come.
    pub(crate) async fn all(&self) {
        self.all.notified().await;
    }

    fn count(&self) {
        let before = self.missing.fetch_sub(1, Ordering::Relaxed);
        assert_ne!(before, 0, "an event too many");
        if before == 1 {
            self.all.notify_one();
        }
    }
}

/// A stream that is read until its tally begins.
pub(crate) struct Counted<S> {
    stream: S,
    tally: Arc<Tally>,
    buffer: Vec<u8>,
    /// Of the next frame's head, what has come.
    head: Vec<u8>,
    /// Bytes of the frame that are still to come.
    rest: usize,
}

impl<S> Counted<S> {
    pub(crate) fn new(stream: S, tally: &Arc<Tally>) -> Self {
        Self {
            stream,
            tally: tally.clone(),
            buffer: vec![0; 256 << 10],
            head: Vec::new(),
            rest: 0,
        }
    }

    fn look(&mut self, size: usize) {
        let mut at = 0;
        while at < size {
            if self.rest > 0 {
                let some = self.rest.min(size - at);
                self.rest -= some;
                at += some;
                continue;
            }
            self.head.push(self.buffer[at]);
            at += 1;
            if self.head.len() == HEAD {
                let length = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]);
                self.rest = usize::try_from(length).unwrap();
                if self.head[3] == 0 && self.rest >= EVENT {
                    self.tally.count();
                }
                self.head.clear();
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.tally.counting.load(Ordering::Acquire) {
            let mut read = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            let size = read.filled().len();
            if size == 0 {
                return Poll::Ready(Ok(()));
            }
            this.look(size);
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
