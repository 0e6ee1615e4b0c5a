//! HTTP: from a request to an operation on resources, and back.
//!
//! Reads the path, authenticates, bounds and parses the body once. It knows no kind by name but
//! the doors of environments and runners.
//!
//! Read next: `operate`, `answers`, `reviews`.

mod answers;
mod operate;
mod reviews;

pub(crate) use answers::{Body, Form, full, refuse};

use crate::discovery;
use crate::failure::Failure;
use crate::identity::{Caller, Tokens};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::request::{Query, parse_path};
use crate::resources::{LARGEST, Resources, Target};
use answers::{form, respond};
use boatyard_link::tunnel::Registry;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longest a request that is neither watch nor stream may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Everything a request needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) resources: Resources,
    pub(crate) metrics: Metrics,
    pub(crate) tokens: Tokens,
    pub(crate) tunnels: Registry,
    pub(crate) peers: Peers,
    pub(crate) shutdown: CancellationToken,
}

impl Handler {
    /// Answers one request; `peer` is who the socket says it is.
    pub(crate) async fn handle(
        &self,
        request: Request<Incoming>,
        peer: Option<Caller>,
    ) -> Response<Body> {
        match self.route(request, peer).await {
            Ok(response) => response,
            Err(failure) => refuse(&failure),
        }
    }

    async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<Caller>,
    ) -> Result<Caller, Failure> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return peer.ok_or_else(Failure::unauthorized);
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"))
            .map(|(_, token)| token);
        let token = token.ok_or_else(Failure::unauthorized)?;
        let known = self.tokens.caller(token.trim()).await;
        let known = known.map_err(|error| Failure::unavailable(error.to_string()))?;
        known.ok_or_else(Failure::unauthorized)
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        peer: Option<Caller>,
    ) -> Result<Response<Body>, Failure> {
        let path = request.uri().path().to_owned();
        if ["/healthz", "/livez", "/readyz"].contains(&path.as_str()) {
            self.resources
                .store
                .revision()
                .await
                .map_err(|error| Failure::unavailable(error.to_string()))?;
            return Ok(Response::new(full("ok")));
        }
        let caller = self.authenticate(request.headers(), peer).await?;
        let form = form(request.headers())?;
        if let Some(value) = self.about(&path) {
            if request.method() != Method::GET {
                return Err(Failure::method());
            }
            return Ok(respond(StatusCode::OK, &value));
        }
        let parsed = parse_path(&path).ok_or_else(|| Failure::no_such_path(&path))?;
        if ["selfsubjectaccessreviews", "selfsubjectreviews"].contains(&parsed.plural.as_str()) {
            return self.review(&caller, &parsed, request).await;
        }
        let kinds = self.resources.kinds.clone();
        let kind = kinds
            .find(&parsed.group, &parsed.version, &parsed.plural)
            .ok_or_else(|| Failure::no_such_path(&path))?;
        let target = Target {
            kind,
            namespace: &parsed.namespace,
            name: &parsed.name,
            subresource: &parsed.subresource,
        };
        match parsed.subresource.as_str() {
            "" => {}
            "status" if kind.has_status => {}
            "connect" | "log" | "relay" | "tunnel" | "token" => {
                return crate::streams::open(self, &caller, &target, request).await;
            }
            _ => return Err(Failure::no_such_path(&path)),
        }
        if !kind.namespaced && !parsed.namespace.is_empty() {
            return Err(Failure::no_such_path(&path));
        }
        let whole = parsed.namespace.is_empty() && kind.namespaced;
        if whole && !parsed.name.is_empty() {
            return Err(Failure::no_such_path(&path));
        }
        // All namespaces at once can be read only.
        if whole && request.method() != Method::GET {
            return Err(Failure::method());
        }
        let query = Query::parse(request.uri().query())?;
        if request.method() == Method::GET && parsed.name.is_empty() && query.flag("watch") {
            return self.watch(&caller, &target, &query, form).await;
        }
        let answered = tokio::time::timeout(
            DEADLINE,
            self.operate(&caller, &target, &query, form, request),
        )
        .await;
        answered.unwrap_or_else(|_| Err(Failure::timeout("the request took too long")))
    }

    /// What the server tells of itself.
    fn about(&self, path: &str) -> Option<Value> {
        let kinds = &self.resources.kinds;
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["version"] => Some(discovery::version()),
            ["api"] => Some(discovery::core_versions()),
            ["apis"] => Some(discovery::api_groups(kinds)),
            ["api", version] => discovery::resources(kinds, "", version),
            ["apis", group] => discovery::api_group(kinds, group),
            ["apis", group, version] => discovery::resources(kinds, group, version),
            ["openapi", "v3"] => Some(discovery::openapi_index(kinds)),
            ["openapi", "v3", rest @ ..] => discovery::openapi(kinds, &rest.join("/")),
            _ => None,
        }
    }

    async fn body(request: Request<Incoming>) -> Result<(HeaderMap, Bytes), Failure> {
        let (parts, body) = request.into_parts();
        let collected = Limited::new(body, LARGEST).collect().await;
        let bytes = collected.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                Failure::too_large(LARGEST)
            } else {
                Failure::bad_request("the body ended early")
            }
        })?;
        Ok((parts.headers, bytes.to_bytes()))
    }
}

#[cfg(test)]
mod tests;
