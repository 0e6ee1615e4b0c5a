//! `wire`'s frames over asynchronous streams.
//!
//! A codec for [`tokio_util::codec::Framed`], so that reading a frame may be cancelled without
//! losing bytes, and [`Channel`], the caller's end of one call to an agent. Nothing here decides
//! what a reply means. A peer that breaks the framing is an error and the stream is dropped.

use boatyard_wire::frame::{HEADER_LEN, Kind, MAX_PAYLOAD};
use boatyard_wire::{Control, Reply, Request};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Decoder, Encoder, Framed};

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it carries.
    pub kind: Kind,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Bytes,
}

/// Why a stream of frames ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream failed.
    #[error("the connection to the environment broke")]
    Io(#[from] std::io::Error),
    /// The peer sent something that is no frame.
    #[error("the environment's agent sent a malformed frame ({0})")]
    Malformed(&'static str),
    /// The peer sent JSON that is no message.
    #[error("the environment's agent sent a message that is not understood")]
    Message(#[from] serde_json::Error),
}

/// Encodes and decodes [`Frame`]s.
#[derive(Debug, Default)]
pub struct Codec;

fn kind(byte: u8) -> Option<Kind> {
    [
        Kind::Request,
        Kind::Control,
        Kind::Stdin,
        Kind::Reply,
        Kind::Stdout,
        Kind::Stderr,
    ]
    .into_iter()
    .find(|kind| *kind as u8 == byte)
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = Error;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, Error> {
        let Some(header) = source.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [a, b, c, d, kind_byte] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > MAX_PAYLOAD {
            return Err(Error::Malformed("too long"));
        }
        let kind = kind(kind_byte).ok_or(Error::Malformed("unknown kind"))?;
        if source.len() < HEADER_LEN + length {
            source.reserve(HEADER_LEN + length - source.len());
            return Ok(None);
        }
        source.advance(HEADER_LEN);
        Ok(Some(Frame {
            kind,
            payload: source.split_to(length).freeze(),
        }))
    }
}

impl Encoder<Frame> for Codec {
    type Error = Error;

    fn encode(&mut self, frame: Frame, target: &mut BytesMut) -> Result<(), Error> {
        let length = u32::try_from(frame.payload.len())
            .ok()
            .filter(|n| *n as usize <= MAX_PAYLOAD);
        let length = length.ok_or(Error::Malformed("too long"))?;
        target.reserve(HEADER_LEN + frame.payload.len());
        target.put_u32_le(length);
        target.put_u8(frame.kind as u8);
        target.extend_from_slice(&frame.payload);
        Ok(())
    }
}

/// What an agent sends.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// Bytes from standard output.
    Stdout(Bytes),
    /// Bytes from standard error.
    Stderr(Bytes),
    /// A control message.
    Reply(Reply),
}

/// The sending half of a [`Channel`].
#[derive(Debug)]
pub struct Sender<S>(SplitSink<Framed<S, Codec>, Frame>);

/// The receiving half of a [`Channel`].
#[derive(Debug)]
pub struct Receiver<S>(SplitStream<Framed<S, Codec>>);

/// The caller's end of one call to an agent.
#[derive(Debug)]
pub struct Channel;

impl Channel {
    /// Sends `request` as the first frame and returns both halves.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(
        stream: S,
        request: &Request,
    ) -> Result<(Sender<S>, Receiver<S>), Error> {
        let (sink, stream) = Framed::new(stream, Codec).split();
        let mut sender = Sender(sink);
        sender
            .send(Kind::Request, serde_json::to_vec(request)?.into())
            .await?;
        Ok((sender, Receiver(stream)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    async fn send(&mut self, kind: Kind, payload: Bytes) -> Result<(), Error> {
        self.0.send(Frame { kind, payload }).await
    }

    /// Sends bytes for standard input; an empty slice is ignored (see [`Sender::close_stdin`]).
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for chunk in bytes.chunks(MAX_PAYLOAD) {
            self.send(Kind::Stdin, Bytes::copy_from_slice(chunk))
                .await?;
        }
        Ok(())
    }

    /// Half-closes standard input.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn close_stdin(&mut self) -> Result<(), Error> {
        self.send(Kind::Stdin, Bytes::new()).await
    }

    /// Sends a control message.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn control(&mut self, control: Control) -> Result<(), Error> {
        self.send(Kind::Control, serde_json::to_vec(&control)?.into())
            .await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Receiver<S> {
    /// The next thing the agent sends; None when it closed the stream.
    ///
    /// # Errors
    /// When the stream breaks or the agent does not speak the protocol.
    pub async fn next(&mut self) -> Result<Option<Incoming>, Error> {
        let Some(frame) = self.0.next().await.transpose()? else {
            return Ok(None);
        };
        Ok(Some(match frame.kind {
            Kind::Stdout => Incoming::Stdout(frame.payload),
            Kind::Stderr => Incoming::Stderr(frame.payload),
            Kind::Reply => Incoming::Reply(serde_json::from_slice(&frame.payload)?),
            Kind::Request | Kind::Control | Kind::Stdin => {
                return Err(Error::Malformed("wrong direction"));
            }
        }))
    }
}
