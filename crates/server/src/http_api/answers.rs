//! Answers: how what was found, and what went wrong, is written.
//!
//! Which form is wanted is `accept`'s, syntax and compression are `encoding`'s.

use crate::failure::Failure;
use crate::resources::Written;
use crate::stored::Versioned;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use std::convert::Infallible;

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// A body of one piece.
pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

pub(super) fn respond(code: StatusCode, value: &Value) -> Response<Body> {
    written(code, value.to_string())
}

/// An answer of JSON that is written out already.
fn written(code: StatusCode, json: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(json));
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// A failure as a response.
pub(crate) fn refuse(failure: &Failure) -> Response<Body> {
    let mut response = respond(failure.code, &failure.status());
    let headers = response.headers_mut();
    if !failure.allow.is_empty() {
        headers.insert(header::ALLOW, HeaderValue::from_static(failure.allow));
    }
    if let Some(seconds) = failure.details["retryAfterSeconds"].as_u64() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if failure.code == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer realm=\"boatyard\"");
        headers.insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// The head of an answer alone, with the length its body would have.
pub(super) fn bare(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(size) = body.size_hint().exact() {
        parts.headers.insert(header::CONTENT_LENGTH, size.into());
    }
    Response::from_parts(parts, full(""))
}

/// A written object, in the form `shown` gives it; none for the whole object as it is stored.
pub(super) fn answer(
    result: Written,
    shown: Option<impl FnOnce(Value) -> Value>,
) -> Result<Response<Body>, Failure> {
    let code = if result.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = match (shown, result.stored) {
        (Some(shown), _) => respond(code, &shown(result.object)),
        (None, None) => respond(code, &result.object),
        (None, Some(stored)) => {
            let mut whole = Vec::new();
            Versioned::new(stored.data, stored.revision)?.write(&mut whole);
            written(code, whole)
        }
    };
    for warning in &result.warnings {
        if let Ok(value) = HeaderValue::try_from(format!(
            "299 - \"{}\"",
            warning.replace('\\', "\\\\").replace('"', "\\\"")
        )) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    Ok(response)
}

/// An answer whose body comes in pieces.
pub(super) fn streamed<S>(media: &'static str, pieces: S) -> Response<Body>
where
    S: futures::Stream<Item = Bytes> + Send + 'static,
{
    let frames = pieces.map(|piece| Ok(Frame::data(piece)));
    let mut response = Response::new(BodyExt::boxed(SyncBody::new(StreamBody::new(frames))));
    let media = HeaderValue::from_static(media);
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

/// Makes a body shareable: hyper polls it from one task at a time anyway.
struct SyncBody<B>(std::sync::Mutex<std::pin::Pin<Box<B>>>);

impl<B> SyncBody<B> {
    fn new(body: B) -> Self {
        Self(std::sync::Mutex::new(Box::pin(body)))
    }
}

impl<B: http_body::Body<Data = Bytes, Error = Infallible>> http_body::Body for SyncBody<B> {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self
            .get_mut()
            .0
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        body.as_mut().poll_frame(context)
    }
}
