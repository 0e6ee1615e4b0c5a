//! Bytes on their way to a descriptor that may not take them now. Whoever fills a [`Buffer`] looks
//! at its length first: it does not bound itself.

use rustix::io::{self, Errno};
use std::os::fd::AsFd;

/// A queue of bytes.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vector to append to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        if self.start > 0 && self.start >= self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Writes what the descriptor takes now. `Ok(false)` when something is left.
    pub(crate) fn flush(&mut self, to: impl AsFd) -> io::Result<bool> {
        while let Some(rest) = self.bytes.get(self.start..).filter(|rest| !rest.is_empty()) {
            match io::write(&to, rest) {
                // A terminal whose input queue is full says 0.
                Ok(0) | Err(Errno::AGAIN) => return Ok(false),
                Ok(written) => self.start += written,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.start = 0;
        // Quiet connections hold no memory.
        self.bytes.shrink_to(4096);
        Ok(true)
    }
}
