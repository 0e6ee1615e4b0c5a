//! What the server tells of itself: paths, discovery, schemas, version, health.

use super::accept::Accept;
use super::answers::{Body, full, respond, streamed};
use super::encoding::Wanted;
use super::{Handler, allowing};
use crate::authorize::Decision;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::Kinds;
use crate::{discovery, openapi};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;
use std::sync::{Arc, OnceLock};

/// Documents, made when first asked for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    discovery: OnceLock<discovery::Documents>,
    openapi: OnceLock<openapi::Documents>,
}

impl Published {
    fn discovery(&self, kinds: &Kinds) -> &discovery::Documents {
        let make = || discovery::Documents::new(kinds);
        self.0.discovery.get_or_init(make)
    }

    fn openapi(&self, kinds: &Kinds) -> &openapi::Documents {
        let make = || openapi::Documents::new(kinds);
        self.0.openapi.get_or_init(make)
    }
}

/// Paths besides those of discovery.
const PATHS: [&str; 13] = [
    "/backup",
    "/healthz",
    "/healthz/ping",
    "/healthz/store",
    "/livez",
    "/livez/ping",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/readyz",
    "/readyz/shutdown",
    "/readyz/store",
    "/version",
];

/// What of a request such an answer depends on.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    pub(super) accept: &'a Accept,
}

impl Handler {
    /// The answer, when the path is one of these.
    pub(super) fn about(
        &self,
        asked: &Asked<'_>,
        wanted: &mut Wanted,
    ) -> Option<Result<Response<Body>, Failure>> {
        let kinds = &self.resources.kinds;
        let Asked {
            path,
            accept,
            headers,
            ..
        } = asked;
        let path = path.strip_suffix('/').unwrap_or(path);
        let reads = [Method::GET, Method::HEAD].contains(asked.method);
        let answer = match path {
            "" => self.paths(accept, wanted),
            "/version" => accept.plain().map(|syntax| {
                wanted.syntax = syntax;
                respond(StatusCode::OK, &discovery::version())
            }),
            "/openapi/v2" => self.published.openapi(kinds).v2(accept, headers),
            "/openapi/v3" => self.published.openapi(kinds).index(accept, headers),
            _ => {
                if let Some(name) = path.strip_prefix("/openapi/v3/") {
                    let query = asked.query.unwrap_or_default().split('&');
                    let hash = query.filter_map(|pair| pair.strip_prefix("hash=")).next();
                    let openapi = self.published.openapi(kinds);
                    openapi.group(name, hash, accept, headers)?
                } else {
                    let discovery = self.published.discovery(kinds);
                    let answer = discovery.answer(path, accept, headers)?;
                    wanted.syntax = accept.plain().unwrap_or_default();
                    answer
                }
            }
        };
        Some(if reads {
            answer
        } else {
            Err(allowing("GET, HEAD"))
        })
    }

    /// `/metrics`, for who may have it.
    pub(super) async fn metrics(
        &self,
        caller: &Caller,
        method: &Method,
    ) -> Result<Response<Body>, Failure> {
        let authorizer = self.resources.authorizer();
        if let Decision::Deny(why) = authorizer.authorize_path(caller, "get", "/metrics") {
            return Err(Failure::forbidden(why));
        }
        if ![Method::GET, Method::HEAD].contains(method) {
            return Err(allowing("GET, HEAD"));
        }
        // Without its store the server tells the rest.
        if let Ok(revision) = self.resources.store.revision().await {
            self.measures.revision(revision.0);
        }
        let text = self.metrics.text();
        let text = text.map_err(|error| Failure::internal(error.to_string()))?;
        let mut response = Response::new(full(text));
        let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let media = HeaderValue::from_static(media);
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        Ok(response)
    }

    /// `/backup`: everything in the store, for administrators.
    pub(super) async fn backup(
        &self,
        caller: &Caller,
        method: &Method,
    ) -> Result<Response<Body>, Failure> {
        let authorizer = self.resources.authorizer();
        if let Decision::Deny(why) = authorizer.authorize_path(caller, "get", "/backup") {
            return Err(Failure::forbidden(why));
        }
        if ![Method::GET, Method::HEAD].contains(method) {
            return Err(allowing("GET, HEAD"));
        }
        let snapshot = self.resources.store.snapshot().await;
        let snapshot = snapshot.map_err(|error| Failure::unavailable(error.to_string()))?;
        // Cut short where a line cannot be written: whoever reads it misses the end.
        let lines = snapshot.lines().map_while(Result::ok);
        Ok(streamed("application/jsonl", futures::stream::iter(lines)))
    }

    /// `/`: which paths there are.
    fn paths(&self, accept: &Accept, wanted: &mut Wanted) -> Result<Response<Body>, Failure> {
        wanted.syntax = accept.plain()?;
        let discovery = self.published.discovery(&self.resources.kinds);
        let mut paths: Vec<&str> = discovery.paths().chain(PATHS).collect();
        paths.sort_unstable();
        Ok(respond(StatusCode::OK, &json!({ "paths": paths })))
    }
}
