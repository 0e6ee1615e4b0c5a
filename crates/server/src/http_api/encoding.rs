//! The last step of an answer: its syntax, and gzip where the client takes it.
//!
//! Answers are made as JSON; whoever wants YAML or indented JSON pays for having it written anew.
//! Streams are left as they are: what cannot be held whole is neither. A list is no such stream
//! ([`Ends`]): for who wants it otherwise it is held whole.

use super::accept::Syntax;
use super::answers::{Body, full};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::Value;
use std::io::Write;

/// Smallest answer worth compressing, as in Kubernetes.
pub(crate) const LEAST: usize = 128 * 1024;

/// How an answer is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) syntax: Syntax,
    pub(super) pretty: bool,
    pub(super) gzip: bool,
}

impl Wanted {
    /// All but the syntax, which is negotiated with the form.
    pub(super) fn of(headers: &HeaderMap, query: Option<&str>) -> Self {
        let asked = query.unwrap_or_default().split('&');
        let asked = asked.filter_map(|pair| pair.strip_prefix("pretty=")).next();
        let pretty = match asked {
            Some(value) => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
            // A person is reading.
            None => headers
                .get(header::USER_AGENT)
                .and_then(|agent| agent.to_str().ok())
                .is_some_and(|agent| {
                    let people = ["curl", "Wget", "Mozilla/5.0"];
                    people.iter().any(|name| agent.starts_with(name))
                }),
        };
        Self {
            syntax: Syntax::Json,
            pretty,
            gzip: takes_gzip(headers),
        }
    }
}

/// Whether `Accept-Encoding` names gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        named && !refused
    })
}

/// Compresses; quickly rather than well.
pub(crate) fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

/// Marks an answer that is written out as it is read, and soon ends: a list, no watch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends;

/// Writes an answer as it is wanted.
pub(super) async fn finish(response: Response<Body>, wanted: Wanted) -> Response<Body> {
    let plain = response.headers().get(header::CONTENT_TYPE)
        == Some(&HeaderValue::from_static("application/json"));
    let whole = response.body().size_hint().exact();
    let size = match whole.and_then(|size| usize::try_from(size).ok()) {
        Some(size) => size,
        None if response.extensions().get::<Ends>().is_some() => usize::MAX,
        None => return response,
    };
    let rewrite = plain && size > 0 && (wanted.pretty || wanted.syntax == Syntax::Yaml);
    let encoded = response.headers().contains_key(header::CONTENT_ENCODING);
    let compress = wanted.gzip && !encoded && size > LEAST;
    if !rewrite && !compress {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(collected) = body.collect().await;
    let mut bytes = collected.to_bytes();
    if rewrite {
        bytes = written(&bytes, wanted.syntax);
        if wanted.syntax == Syntax::Yaml {
            let media = HeaderValue::from_static("application/yaml");
            parts.headers.insert(header::CONTENT_TYPE, media);
        }
    }
    if compress && bytes.len() > LEAST {
        let original = bytes.clone();
        // Milliseconds of computing: not among those that wait for sockets.
        if let Ok(zipped) = tokio::task::spawn_blocking(move || gzip(&original)).await {
            bytes = zipped;
            let coding = HeaderValue::from_static("gzip");
            parts.headers.insert(header::CONTENT_ENCODING, coding);
            let vary = HeaderValue::from_static("Accept-Encoding");
            parts.headers.append(header::VARY, vary);
        }
    }
    Response::from_parts(parts, full(bytes))
}

/// JSON as YAML or as indented JSON.
fn written(bytes: &Bytes, syntax: Syntax) -> Bytes {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return bytes.clone();
    };
    let text = match syntax {
        Syntax::Yaml => serde_norway::to_string(&value).ok(),
        Syntax::Json => serde_json::to_string_pretty(&value)
            .ok()
            .map(|text| text + "\n"),
    };
    text.map_or_else(|| bytes.clone(), Bytes::from)
}
