//! HTTP: from a request to an operation on resources, and back.
//!
//! Reads the path, authenticates, bounds and parses the body once, and writes the answer in the
//! form asked for. It knows no kind by name but the doors of environments and runners.

use crate::discovery;
use crate::failure::Failure;
use crate::identity::{Caller, Tokens};
use crate::kinds::Kind;
use crate::request::{Path, Query, continue_token, parse_path};
use crate::resources::{PageRequest, Patch, Resources, Target, Written};
use crate::table::table;
use crate::watching::{self, WatchOptions};
use boatyard_link::tunnel::Registry;
use boatyard_store::Revision;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Largest body, as in Kubernetes.
const LARGEST: usize = 3 * 1024 * 1024;
/// Deepest JSON or YAML a client may send.
const DEEPEST: usize = 64;
/// Longest a request that is neither watch nor stream may take.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// Everything a request needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) resources: Resources,
    pub(crate) tokens: Tokens,
    pub(crate) tunnels: Registry,
    pub(crate) shutdown: CancellationToken,
}

/// A body of one piece.
pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

fn respond(code: StatusCode, value: &Value) -> Response<Body> {
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

fn wants_table(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept
        .split(',')
        .next()
        .is_some_and(|first| first.contains("as=Table"))
}

fn acceptable(headers: &HeaderMap) -> bool {
    let Some(accept) = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
    else {
        return true;
    };
    accept.is_empty()
        || accept.split(',').any(|kind| {
            ["application/json", "application/*", "*/*"]
                .contains(&kind.split(';').next().unwrap_or_default().trim())
        })
}

/// Refuses what would exhaust the parser's stack or this server's patience.
fn check_depth(text: &[u8]) -> Result<(), Failure> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(Failure::bad_request(format!(
                "the body is nested deeper than {DEEPEST} levels"
            )));
        }
    }
    Ok(())
}

/// Parses a body of the declared type.
fn parse_body(headers: &HeaderMap, body: &[u8]) -> Result<Value, Failure> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/json");
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let text =
        std::str::from_utf8(body).map_err(|_| Failure::bad_request("the body is not UTF-8"))?;
    match kind {
        "application/yaml" | "application/x-yaml" => {
            // Aliases make small bombs: JSON-like data needs none.
            if text.lines().any(|line| {
                line.split_whitespace()
                    .any(|word| word.starts_with('*') || word.starts_with('&'))
            }) {
                return Err(Failure::bad_request(
                    "YAML anchors and aliases are not accepted",
                ));
            }
            serde_norway::from_str(text)
                .map_err(|error| Failure::bad_request(format!("the body is not YAML: {error}")))
        }
        "application/json"
        | "application/merge-patch+json"
        | "application/strategic-merge-patch+json"
        | "application/json-patch+json"
        | "" => {
            check_depth(body)?;
            serde_json::from_str(text)
                .map_err(|error| Failure::bad_request(format!("the body is not JSON: {error}")))
        }
        other => Err(Failure::media_type(
            other,
            "application/json or application/yaml",
        )),
    }
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

    fn authenticate(&self, headers: &HeaderMap, peer: Option<Caller>) -> Result<Caller, Failure> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return peer.ok_or_else(Failure::unauthorized);
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|value| value.strip_prefix("Bearer "));
        token
            .and_then(|token| self.tokens.caller(token.trim()))
            .ok_or_else(Failure::unauthorized)
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
        let caller = self.authenticate(request.headers(), peer)?;
        if !acceptable(request.headers()) && !path.starts_with("/openapi/v2") {
            return Err(Failure::not_acceptable());
        }
        if request.method() == Method::GET
            && let Some(value) = self.about(&path)
        {
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
            "connect" | "log" | "tunnel" => {
                return crate::streams::open(self, &caller, &target, request).await;
            }
            _ => return Err(Failure::no_such_path(&path)),
        }
        if !kind.namespaced && !parsed.namespace.is_empty() {
            return Err(Failure::no_such_path(&path));
        }
        let query = Query::parse(request.uri().query())?;
        if request.method() == Method::GET && parsed.name.is_empty() && query.flag("watch") {
            return self
                .watch(&caller, &target, &query, request.headers())
                .await;
        }
        let answered =
            tokio::time::timeout(DEADLINE, self.operate(&caller, &target, &query, request)).await;
        answered.unwrap_or_else(|_| {
            Err(Failure {
                code: StatusCode::GATEWAY_TIMEOUT,
                reason: "Timeout",
                ..Failure::bad_request("the request took too long")
            })
        })
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

    async fn operate(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let as_table = wants_table(request.headers());
        let shown = |object: &Value| {
            if as_table {
                table(
                    target.kind,
                    std::slice::from_ref(object),
                    &json!({"resourceVersion": object["metadata"]["resourceVersion"]}),
                    self.resources.now(),
                    true,
                )
            } else {
                object.clone()
            }
        };
        let method = request.method().clone();
        match (method, target.name.is_empty()) {
            (Method::GET, false) => Ok(respond(
                StatusCode::OK,
                &shown(&self.resources.get(caller, "get", target).await?),
            )),
            (Method::GET, true) => self.list(caller, target, query, as_table).await,
            (Method::POST, true) => {
                let options = query.write_options()?;
                let (headers, body) = Self::body(request).await?;
                let object = parse_body(&headers, &body)?;
                let written = self
                    .resources
                    .create(caller, target, object, &options)
                    .await?;
                Ok(answer(&written, shown(&written.object)))
            }
            (Method::PUT, false) => {
                let options = query.write_options()?;
                let (headers, body) = Self::body(request).await?;
                let object = parse_body(&headers, &body)?;
                let written = self
                    .resources
                    .update(caller, target, object, &options)
                    .await?;
                Ok(answer(&written, shown(&written.object)))
            }
            (Method::PATCH, false) => {
                let options = query.write_options()?;
                let (headers, body) = Self::body(request).await?;
                let patch = patch(target.kind, &headers, &body)?;
                let written = self
                    .resources
                    .patch(caller, target, &patch, &options)
                    .await?;
                Ok(answer(&written, shown(&written.object)))
            }
            (Method::DELETE, false) => {
                let dry_run = query.write_options()?.dry_run;
                let (headers, body) = Self::body(request).await?;
                let options = if body.is_empty() {
                    json!({})
                } else {
                    parse_body(&headers, &body)?
                };
                let dry_run = dry_run
                    || options["dryRun"]
                        .as_array()
                        .is_some_and(|list| !list.is_empty());
                let (object, gone) = self
                    .resources
                    .delete(caller, target, &options["preconditions"], dry_run)
                    .await?;
                if !gone {
                    return Ok(respond(StatusCode::OK, &object));
                }
                let details = json!({"name": target.name, "group": target.kind.group, "kind": target.kind.plural, "uid": object["metadata"]["uid"]});
                Ok(respond(
                    StatusCode::OK,
                    &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
                ))
            }
            (Method::DELETE, true) => {
                self.resources
                    .authorize(caller, "deletecollection", target, None, None)?;
                let selection = query.selection(target.kind)?;
                let listed = self
                    .resources
                    .list(caller, target, &selection, &PageRequest::default())
                    .await?;
                for object in &listed.items {
                    let (namespace, name) = (
                        crate::objects::meta(object, "namespace"),
                        crate::objects::meta(object, "name"),
                    );
                    let one = Target {
                        namespace,
                        name,
                        ..target.clone()
                    };
                    match self
                        .resources
                        .delete(caller, &one, &Value::Null, query.write_options()?.dry_run)
                        .await
                    {
                        Err(failure) if failure.code != StatusCode::NOT_FOUND => {
                            return Err(failure);
                        }
                        _ => {}
                    }
                }
                Ok(respond(
                    StatusCode::OK,
                    &self.list_object(target.kind, listed.items, listed.revision, None),
                ))
            }
            _ => Err(Failure::method()),
        }
    }

    fn list_object(
        &self,
        kind: &Kind,
        items: Vec<Value>,
        revision: Revision,
        more: Option<(String, u64)>,
    ) -> Value {
        let mut metadata = json!({"resourceVersion": revision.0.to_string()});
        if let Some((token, remaining)) = more {
            metadata["continue"] = json!(token);
            metadata["remainingItemCount"] = json!(remaining);
        }
        json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata, "items": items})
    }

    async fn list(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        query: &Query,
        as_table: bool,
    ) -> Result<Response<Body>, Failure> {
        let listed = self
            .resources
            .list(
                caller,
                target,
                &query.selection(target.kind)?,
                &query.page()?,
            )
            .await?;
        let more = listed
            .next
            .as_ref()
            .map(|next| (continue_token(listed.revision, next), listed.remaining));
        let list = self.list_object(target.kind, listed.items, listed.revision, more);
        if !as_table {
            return Ok(respond(StatusCode::OK, &list));
        }
        let items = list["items"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        Ok(respond(
            StatusCode::OK,
            &table(
                target.kind,
                items,
                &list["metadata"],
                self.resources.now(),
                true,
            ),
        ))
    }

    async fn watch(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        let timeout = match query.get("timeoutSeconds") {
            "" => None,
            text => Some(Duration::from_secs(text.parse().map_err(|_| {
                Failure::bad_request(format!("timeoutSeconds {text:?} is no number"))
            })?)),
        };
        let initial_events = query.flag("sendInitialEvents");
        let unversioned = matches!(query.get("resourceVersion"), "" | "0");
        let options = WatchOptions {
            from: query.revision("resourceVersion")?,
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout,
            initial: initial_events || (unversioned && query.get("sendInitialEvents") != "false"),
            initial_bookmark: initial_events,
            table: wants_table(headers),
        };
        let selection = query.selection(target.kind)?;
        let stream = watching::open(
            &self.resources,
            caller,
            target,
            selection,
            options,
            self.shutdown.clone(),
        )
        .await?;
        let frames = stream.map(|line| line.map(Frame::data));
        let mut response = Response::new(BodyExt::boxed(SyncBody::new(StreamBody::new(frames))));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Ok(response)
    }

    /// `kubectl auth can-i` and `kubectl auth whoami`.
    async fn review(
        &self,
        caller: &Caller,
        path: &Path,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        if request.method() != Method::POST {
            return Err(Failure::method());
        }
        let (headers, body) = Self::body(request).await?;
        let mut review = parse_body(&headers, &body)?;
        if path.plural == "selfsubjectreviews" {
            review["status"] =
                json!({"userInfo": {"username": caller.user, "groups": caller.groups}});
            return Ok(respond(StatusCode::CREATED, &review));
        }
        let asked = review["spec"]["resourceAttributes"].clone();
        let text = |member: &str| asked[member].as_str().unwrap_or_default();
        let kinds = self.resources.kinds.clone();
        let found = kinds.iter().find(|kind| {
            kind.plural == text("resource")
                && (text("group").is_empty() || kind.group == text("group"))
        });
        let decided = found.map(|kind| {
            let target = Target {
                kind,
                namespace: text("namespace"),
                name: text("name"),
                subresource: text("subresource"),
            };
            self.resources
                .authorize(caller, text("verb"), &target, None, None)
        });
        review["status"] = match decided {
            Some(Ok(())) => json!({"allowed": true}),
            Some(Err(failure)) => json!({"allowed": false, "reason": failure.message}),
            None => json!({"allowed": caller.is_admin()}),
        };
        Ok(respond(StatusCode::CREATED, &review))
    }
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

fn answer(written: &Written, shown: Value) -> Response<Body> {
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

fn patch(kind: &Kind, headers: &HeaderMap, body: &[u8]) -> Result<Patch, Failure> {
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    let allowed = if kind.strategic {
        "application/merge-patch+json, application/json-patch+json or application/strategic-merge-patch+json"
    } else {
        "application/merge-patch+json or application/json-patch+json"
    };
    match media {
        "application/merge-patch+json" => Ok(Patch::Merge(parse_body(headers, body)?)),
        "application/strategic-merge-patch+json" if kind.strategic => {
            Ok(Patch::Merge(parse_body(headers, body)?))
        }
        "application/json-patch+json" => {
            let value = parse_body(headers, body)?;
            if value.as_array().is_some_and(|list| list.len() > 10_000) {
                return Err(Failure::too_large(10_000));
            }
            serde_json::from_value(value)
                .map(Patch::Json)
                .map_err(|error| {
                    Failure::bad_request(format!("the body is no JSON patch: {error}"))
                })
        }
        other => Err(Failure::media_type(other, allowed)),
    }
}

#[cfg(test)]
mod tests;
