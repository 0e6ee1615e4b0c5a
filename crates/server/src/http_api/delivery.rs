//! Answers on their way: in pieces, and counted until the client has taken them.
//!
//! A connection takes a piece when it has sent what it had, so that one that is not read holds one
//! answer, counted for its identity, and no copy of it. Streams of watches pass as they are: they
//! are made piece by piece.

use super::Handler;
use super::answers::{Body, refuse};
use crate::failure::Failure;
use crate::flow::Held;
use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What is handed over at once; answers no larger are not counted.
const PIECE: usize = 64 * 1024;

impl Handler {
    /// Counts an answer for whoever it is for.
    pub(super) fn deliver(&self, who: Option<&str>, response: Response<Body>) -> Response<Body> {
        let size = response.body().size_hint().exact();
        let size = size.and_then(|size| usize::try_from(size).ok());
        let (Some(who), Some(size)) = (who, size.filter(|size| *size > PIECE)) else {
            return response;
        };
        let Some(held) = self.flow.answers.take(who, size) else {
            return refuse(&Failure::too_many(
                "too many bytes of answers are not yet read",
                2,
            ));
        };
        response.map(|body| {
            Delivery {
                body,
                piece: Bytes::new(),
                _held: held,
            }
            .boxed()
        })
    }
}

struct Delivery {
    body: Body,
    /// What of the body's last frame is not handed over yet.
    piece: Bytes,
    _held: Held,
}

impl http_body::Body for Delivery {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.piece.is_empty() {
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.piece = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return other,
            }
        }
        let piece = this.piece.split_to(PIECE.min(this.piece.len()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(rest) => {
                SizeHint::with_exact(rest + u64::try_from(self.piece.len()).unwrap_or_default())
            }
            None => SizeHint::default(),
        }
    }
}
