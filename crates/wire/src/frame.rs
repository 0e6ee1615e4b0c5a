//! Framing: `u32` little-endian payload length, one byte of [`Kind`], the payload.
//!
//! Owns the bytes' shape and nothing of their meaning; JSON is parsed by whoever reads the frame.
//! A frame longer than [`MAX_PAYLOAD`] or of an unknown kind is refused from its header, before
//! anything is allocated. [`Decoder`] does no I/O, so blocking, polled and asynchronous readers
//! share it; after an error the stream has lost its frame boundaries and must be closed.

use std::io::{self, Read, Write};

/// Longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 5;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// JSON [`crate::Request`]; caller → agent, first frame.
    Request = 1,
    /// JSON [`crate::Control`]; caller → agent.
    Control = 2,
    /// Bytes for standard input; caller → agent. An empty payload closes standard input.
    Stdin = 3,
    /// JSON [`crate::Reply`]; agent → caller.
    Reply = 4,
    /// Bytes from standard output; agent → caller.
    Stdout = 5,
    /// Bytes from standard error; agent → caller.
    Stderr = 6,
}

impl Kind {
    /// The kind with this number, if there is one.
    pub const fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Request,
            2 => Self::Control,
            3 => Self::Stdin,
            4 => Self::Reply,
            5 => Self::Stdout,
            6 => Self::Stderr,
            _ => return None,
        })
    }
}

/// A frame that cannot be sent or understood. The stream is unusable afterwards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The length in a header, or of a payload to be sent, is above [`MAX_PAYLOAD`].
    #[error("frame of {length} bytes is longer than the {MAX_PAYLOAD} allowed")]
    Oversize {
        /// Bytes announced.
        length: usize,
    },
    /// A kind this version does not know.
    #[error("frame of unknown kind {kind}: the two ends are of different versions")]
    UnknownKind {
        /// The byte found.
        kind: u8,
    },
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame")]
    Truncated,
    /// Reading or writing failed.
    #[error("frame could not be moved")]
    Io(#[source] io::Error),
}

/// Header of a frame with this payload length.
///
/// # Errors
/// [`Error::Oversize`] above [`MAX_PAYLOAD`].
pub fn encode_header(kind: Kind, payload_len: usize) -> Result<[u8; HEADER_LEN], Error> {
    let oversize = Error::Oversize {
        length: payload_len,
    };
    if payload_len > MAX_PAYLOAD {
        return Err(oversize);
    }
    let length = u32::try_from(payload_len)
        .map_err(|_| oversize)?
        .to_le_bytes();
    Ok([length[0], length[1], length[2], length[3], kind as u8])
}

/// Kind and payload length of a header.
///
/// # Errors
/// [`Error::Oversize`] and [`Error::UnknownKind`].
pub fn decode_header(header: [u8; HEADER_LEN]) -> Result<(Kind, usize), Error> {
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_PAYLOAD {
        return Err(Error::Oversize { length });
    }
    let kind = Kind::from_u8(header[4]).ok_or(Error::UnknownKind { kind: header[4] })?;
    Ok((kind, length))
}

/// Appends a whole frame to a buffer.
///
/// # Errors
/// [`Error::Oversize`]; the buffer is then unchanged.
pub fn encode(kind: Kind, payload: &[u8], into: &mut Vec<u8>) -> Result<(), Error> {
    let header = encode_header(kind, payload.len())?;
    into.reserve(HEADER_LEN + payload.len());
    into.extend_from_slice(&header);
    into.extend_from_slice(payload);
    Ok(())
}

/// Writes a whole frame.
///
/// # Errors
/// [`Error::Oversize`] before anything is written, [`Error::Io`].
pub fn write_frame(to: &mut impl Write, kind: Kind, payload: &[u8]) -> Result<(), Error> {
    let header = encode_header(kind, payload.len())?;
    // One write for small frames: two would be two packets on a TCP stream without delay.
    if payload.len() <= 1024 {
        let mut whole = [0u8; HEADER_LEN + 1024];
        whole[..HEADER_LEN].copy_from_slice(&header);
        whole[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
        return to
            .write_all(&whole[..HEADER_LEN + payload.len()])
            .map_err(Error::Io);
    }
    to.write_all(&header).map_err(Error::Io)?;
    to.write_all(payload).map_err(Error::Io)
}

/// Reads a whole frame, its payload into `payload` (replacing what was there). `None` when the
/// stream ended between frames.
///
/// # Errors
/// [`Error::Oversize`], [`Error::UnknownKind`], [`Error::Truncated`], [`Error::Io`].
pub fn read_frame(from: &mut impl Read, payload: &mut Vec<u8>) -> Result<Option<Kind>, Error> {
    payload.clear();
    let mut header = [0u8; HEADER_LEN];
    let mut filled = 0;
    while filled < HEADER_LEN {
        match from.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(Error::Truncated),
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Io(error)),
        }
    }
    let (kind, length) = decode_header(header)?;
    payload.resize(length, 0);
    from.read_exact(payload).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Error::Truncated
        } else {
            Error::Io(error)
        }
    })?;
    Ok(Some(kind))
}

/// Takes frames out of bytes that arrive in pieces. Holds at most one frame.
///
/// ```
/// use boatyard_wire::frame::{Decoder, Kind, encode};
/// let mut bytes = Vec::new();
/// encode(Kind::Stdin, b"ls\n", &mut bytes)?;
/// let mut decoder = Decoder::default();
/// let mut input = &bytes[..];
/// while let Some((kind, payload)) = decoder.next(&mut input)? {
///     assert_eq!((kind, payload), (Kind::Stdin, &b"ls\n"[..]));
/// }
/// # Ok::<(), boatyard_wire::frame::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    header: [u8; HEADER_LEN],
    header_filled: usize,
    payload: Vec<u8>,
    /// The payload has been handed out and is dropped on the next call.
    taken: bool,
}

impl Decoder {
    /// A decoder at a frame boundary.
    pub fn new() -> Self {
        Self::default()
    }

    /// Consumes bytes from the front of `input` up to the end of the next frame and returns that
    /// frame; `None` when all of `input` was consumed without completing one. Call again with
    /// what is left until it gives `None`.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::UnknownKind`]; every later call fails likewise.
    pub fn next<'a>(&'a mut self, input: &mut &[u8]) -> Result<Option<(Kind, &'a [u8])>, Error> {
        if self.taken {
            self.taken = false;
            self.header_filled = 0;
            self.payload.clear();
            // A large frame does not pin its memory for the life of a quiet stream.
            self.payload.shrink_to(4096);
        }
        let wanted = (HEADER_LEN - self.header_filled).min(input.len());
        let (front, rest) = input.split_at(wanted);
        self.header[self.header_filled..self.header_filled + wanted].copy_from_slice(front);
        self.header_filled += wanted;
        *input = rest;
        if self.header_filled < HEADER_LEN {
            return Ok(None);
        }
        let (kind, length) = decode_header(self.header)?;
        let wanted = (length - self.payload.len()).min(input.len());
        let (front, rest) = input.split_at(wanted);
        self.payload.extend_from_slice(front);
        *input = rest;
        if self.payload.len() < length {
            return Ok(None);
        }
        self.taken = true;
        Ok(Some((kind, &self.payload)))
    }

    /// Whether the bytes so far end at a frame's end, that is, whether the stream may end here.
    pub fn at_boundary(&self) -> bool {
        self.taken || self.header_filled == 0
    }
}

#[cfg(test)]
mod tests;
