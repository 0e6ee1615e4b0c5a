//! Documents made once and kept: what many clients ask for again and again.
//!
//! Each has the hash of its bytes as its entity tag, so that a client that has it is told so (304)
//! instead of being sent it, and a compressed copy once somebody takes one.

use crate::http_api::{Body, LEAST, full, gzip, takes_gzip};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// One document.
#[derive(Debug)]
pub(crate) struct Kept {
    media: &'static str,
    bytes: Bytes,
    zipped: OnceLock<Bytes>,
    hash: String,
}

impl Kept {
    pub(crate) fn new(media: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let hash = Sha256::digest(&bytes);
        let hash: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        Self {
            media,
            bytes,
            zipped: OnceLock::new(),
            hash,
        }
    }

    /// Hash of the bytes, in hexadecimal.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The document, or 304 for who has it.
    pub(crate) fn answer(&self, asked: &HeaderMap) -> Response<Body> {
        let etag = format!("\"{}\"", self.hash);
        let known = asked.get_all(header::IF_NONE_MATCH).iter();
        let mut known = known
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"));
        let mut response = if known.any(|tag| tag == etag || tag == "*") {
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else if self.bytes.len() > LEAST && takes_gzip(asked) {
            let zipped = self.zipped.get_or_init(|| gzip(&self.bytes));
            let mut response = Response::new(full(zipped.clone()));
            let coding = HeaderValue::from_static("gzip");
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, coding);
            response
        } else {
            Response::new(full(self.bytes.clone()))
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
        headers.insert(
            header::VARY,
            HeaderValue::from_static("Accept, Accept-Encoding"),
        );
        if let Ok(etag) = HeaderValue::try_from(etag) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}
