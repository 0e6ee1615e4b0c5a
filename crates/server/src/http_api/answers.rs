//! Answers: in which form objects are wanted, and how what was found is written.

use crate::failure::Failure;
use crate::resources::Written;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use serde_json::Value;
use std::convert::Infallible;

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// A body of one piece.
pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

pub(super) fn respond(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// A failure as a response.
pub(crate) fn refuse(failure: &Failure) -> Response<Body> {
    respond(failure.code, &failure.status())
}

/// In which form objects are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    /// Rows and columns.
    Table,
    /// Metadata alone.
    Partial,
}

/// The first form in `Accept` that is served.
pub(super) fn form(headers: &HeaderMap) -> Result<Form, Failure> {
    let accept: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter(|value| !value.trim().is_empty())
        .collect();
    if accept.is_empty() {
        return Ok(Form::Whole);
    }
    let forms = accept.iter().flat_map(|value| value.split(','));
    let served = forms.filter_map(|wanted| {
        let mut parts = wanted.split(';').map(str::trim);
        if !["application/json", "application/*", "*/*"].contains(&parts.next()?) {
            return None;
        }
        match parts.find_map(|part| part.strip_prefix("as=")) {
            None => Some(Form::Whole),
            Some("Table") => Some(Form::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Form::Partial),
            Some(_) => None,
        }
    });
    served
        .into_iter()
        .next()
        .ok_or_else(Failure::not_acceptable)
}

pub(super) fn answer(written: &Written, shown: Value) -> Response<Body> {
    let mut response = respond(
        if written.created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
        &shown,
    );
    for warning in &written.warnings {
        if let Ok(value) = HeaderValue::try_from(format!(
            "299 - \"{}\"",
            warning.replace('\\', "\\\\").replace('"', "\\\"")
        )) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// Makes a body shareable: hyper polls it from one task at a time anyway.
pub(super) struct SyncBody<B>(std::sync::Mutex<std::pin::Pin<Box<B>>>);

impl<B> SyncBody<B> {
    pub(super) fn new(body: B) -> Self {
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
