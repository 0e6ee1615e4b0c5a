//! Reading a request: bounds of its head, and its body whole.
//!
//! Everything here happens before a request takes a place among those that run (`flow`): a client
//! that sends slowly holds its own connection and the bytes counted for it, and nobody's seat.
//! What is in a body is `body`'s.

use super::Handler;
use crate::failure::Failure;
use crate::flow::Held;
use crate::identity::Caller;
use crate::resources::LARGEST;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Longest path with its query: longer than the longest selector with every byte escaped.
const LONGEST_URI: usize = 32 * 1024;
/// Most headers, and most bytes of them.
const MOST_HEADERS: usize = 128;
const LARGEST_HEADERS: usize = 32 * 1024;

/// Fails when a request's line or headers are too long.
pub(super) fn check_head<B>(request: &Request<B>) -> Result<(), Failure> {
    let refused = |code, reason, message: String| Failure {
        code,
        reason,
        ..Failure::bad_request(message)
    };
    let uri = request.uri();
    if uri.path().len() + uri.query().map_or(0, str::len) > LONGEST_URI {
        return Err(refused(
            StatusCode::URI_TOO_LONG,
            "RequestURITooLong",
            format!("the path with its query is longer than {LONGEST_URI} bytes"),
        ));
    }
    let headers = request.headers();
    let size = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    if headers.len() > MOST_HEADERS || size.sum::<usize>() > LARGEST_HEADERS {
        return Err(refused(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "RequestHeaderFieldsTooLarge",
            format!(
                "the request has more than {MOST_HEADERS} headers or {LARGEST_HEADERS} bytes of them"
            ),
        ));
    }
    Ok(())
}

impl Handler {
    /// A request with its body, bounded in size, in time, and together with what its identity
    /// sends beside it. A GET's body means nothing and is left unread.
    pub(super) async fn whole(
        &self,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Result<(Request<Bytes>, Held), Failure> {
        let (parts, body) = request.into_parts();
        let held = || self.flow.bodies.take(&caller.user, 0);
        if parts.method == Method::GET {
            let held = held().ok_or_else(crowded)?;
            return Ok((Request::from_parts(parts, Bytes::new()), held));
        }
        let encodings = parts.headers.get_all(header::CONTENT_ENCODING);
        if encodings.iter().any(|encoding| encoding != "identity") {
            return Err(Failure {
                code: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                reason: "UnsupportedMediaType",
                ..Failure::bad_request("a compressed body is not supported; send it as it is")
            });
        }
        // Declared to be too large, it is not read at all.
        if body.size_hint().lower() > u64::try_from(LARGEST).unwrap_or(u64::MAX) {
            return Err(Failure::too_large(LARGEST));
        }
        let mut held = held().ok_or_else(crowded)?;
        let read = tokio::time::timeout(self.flow.limits.body, collect(body, &mut held));
        let body = read.await.unwrap_or_else(|_| {
            Err(Failure {
                code: StatusCode::REQUEST_TIMEOUT,
                reason: "Timeout",
                ..Failure::bad_request("the body did not come in time")
            })
        })?;
        Ok((Request::from_parts(parts, body), held))
    }
}

fn crowded() -> Failure {
    Failure::too_many("too many bytes of bodies are under way", 1)
}

async fn collect(mut body: Incoming, held: &mut Held) -> Result<Bytes, Failure> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::bad_request("the body ended early"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + rest.len() + data.len() > LARGEST {
            return Err(Failure::too_large(LARGEST));
        }
        if !held.more(data.len()) {
            return Err(crowded());
        }
        // Most bodies are of one piece, which is not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}
