//! HTTP: from a request to an operation on resources, and back.
//!
//! Reads the path, authenticates, bounds and parses the body once, and writes the answer in the
//! form asked for. It knows no kind by name but the doors of environments and runners.

use crate::body;
use crate::deletion;
use crate::discovery;
use crate::failure::Failure;
use crate::identity::{Caller, Tokens};
use crate::kinds::Kind;
use crate::objects::meta;
use crate::request::{Path, Query, continue_token, parse_path};
use crate::resources::{LARGEST, Listed, Patch, Resources, Target, WriteOptions, Written};
use crate::table::{partial, table};
use crate::watching::{self, WatchOptions};
use boatyard_link::tunnel::Registry;
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
fn form(headers: &HeaderMap) -> Result<Form, Failure> {
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
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"))
            .map(|(_, token)| token);
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
            "connect" | "log" | "tunnel" | "token" => {
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

    /// Options and object of a write.
    async fn object(
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<(WriteOptions, Value), Failure> {
        let mut options = query.write_options()?;
        let (headers, body) = Self::body(request).await?;
        let parsed = body::parse(&headers, &body)?;
        options.duplicates = parsed.duplicates;
        Ok((options, parsed.value))
    }

    async fn deletion(
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<deletion::Options, Failure> {
        let (headers, body) = Self::body(request).await?;
        deletion::Options::parse(query, &headers, &body)
    }

    async fn operate(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        query: &Query,
        form: Form,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let rows = query.rows()?;
        let shown = |object: &Value| match form {
            Form::Whole => object.clone(),
            Form::Partial => partial(object),
            Form::Table => table(
                target.kind,
                std::slice::from_ref(object),
                &json!({"resourceVersion": object["metadata"]["resourceVersion"]}),
                self.resources.now(),
                true,
                rows,
            ),
        };
        let method = request.method().clone();
        match (method, target.name.is_empty()) {
            (Method::GET, false) => Ok(respond(
                StatusCode::OK,
                &shown(&self.resources.get(caller, "get", target).await?),
            )),
            (Method::GET, true) => self.list(caller, target, query, form).await,
            (Method::POST, true) => {
                let (options, object) = Self::object(query, request).await?;
                let written = self
                    .resources
                    .create(caller, target, object, &options)
                    .await?;
                Ok(answer(&written, shown(&written.object)))
            }
            (Method::PUT, false) => {
                let (options, object) = Self::object(query, request).await?;
                let written = self
                    .resources
                    .update(caller, target, object, &options)
                    .await?;
                Ok(answer(&written, shown(&written.object)))
            }
            (Method::PATCH, false) => {
                let mut options = query.write_options()?;
                let (headers, body) = Self::body(request).await?;
                let patch = patch(target.kind, &headers, &body, &mut options)?;
                let written = self
                    .resources
                    .patch(caller, target, &patch, &options)
                    .await?;
                Ok(answer(&written, shown(&written.object)))
            }
            (Method::DELETE, false) => {
                let options = Self::deletion(query, request).await?;
                let (object, gone) = self.resources.delete(caller, target, &options).await?;
                if !gone {
                    return Ok(respond(StatusCode::OK, &shown(&object)));
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
                let (selection, page) = (query.selection(target.kind)?, query.page()?);
                let options = Self::deletion(query, request).await?;
                let listed = self
                    .resources
                    .list(caller, target, &selection, &page)
                    .await?;
                for object in &listed.items {
                    let one = Target {
                        namespace: meta(object, "namespace"),
                        name: meta(object, "name"),
                        ..target.clone()
                    };
                    let deleted = self.resources.delete(caller, &one, &options).await;
                    // Gone meanwhile is as good.
                    deleted.map(drop).or_else(|failure| match failure.code {
                        StatusCode::NOT_FOUND => Ok(()),
                        _ => Err(failure),
                    })?;
                }
                let list = self.list_object(target.kind, &listed);
                Ok(respond(StatusCode::OK, &list))
            }
            _ => Err(Failure::method()),
        }
    }

    fn list_object(&self, kind: &Kind, listed: &Listed) -> Value {
        let mut metadata = json!({"resourceVersion": listed.revision.0.to_string()});
        if let Some(next) = &listed.next {
            metadata["continue"] = json!(continue_token(listed.revision, next));
            if let Some(remaining) = listed.remaining {
                metadata["remainingItemCount"] = json!(remaining);
            }
        }
        json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata, "items": listed.items})
    }

    async fn list(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        query: &Query,
        form: Form,
    ) -> Result<Response<Body>, Failure> {
        let (selection, page) = (query.selection(target.kind)?, query.page()?);
        let listed = self
            .resources
            .list(caller, target, &selection, &page)
            .await?;
        let mut list = self.list_object(target.kind, &listed);
        match form {
            Form::Whole => {}
            Form::Partial => {
                list["apiVersion"] = json!("meta.k8s.io/v1");
                list["kind"] = json!("PartialObjectMetadataList");
                list["items"] = listed.items.iter().map(partial).collect();
            }
            Form::Table => {
                list = table(
                    target.kind,
                    &listed.items,
                    &list["metadata"],
                    self.resources.now(),
                    true,
                    query.rows()?,
                );
            }
        }
        Ok(respond(StatusCode::OK, &list))
    }

    async fn watch(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        query: &Query,
        form: Form,
    ) -> Result<Response<Body>, Failure> {
        let timeout = match query.get("timeoutSeconds") {
            "" | "0" => None,
            text => Some(Duration::from_secs(text.parse().map_err(|_| {
                Failure::bad_request(format!("timeoutSeconds {text:?} is no number"))
            })?)),
        };
        let initial_events = query.flag("sendInitialEvents");
        let unversioned = matches!(query.get("resourceVersion"), "" | "0");
        let wanted = query.get("resourceVersionMatch");
        if initial_events && wanted != "NotOlderThan" {
            return Err(Failure::bad_request(
                "sendInitialEvents needs resourceVersionMatch=NotOlderThan",
            ));
        }
        if query.get("sendInitialEvents").is_empty() && !wanted.is_empty() {
            return Err(Failure::bad_request(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        let options = WatchOptions {
            from: query.revision("resourceVersion")?,
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout,
            initial: initial_events || (unversioned && query.get("sendInitialEvents") != "false"),
            initial_bookmark: initial_events && query.flag("allowWatchBookmarks"),
            form,
            rows: query.rows()?,
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
        let mut review = body::parse(&headers, &body)?.value;
        if !review.is_object() {
            return Err(Failure::bad_request("the body is not an object"));
        }
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

fn patch(
    kind: &Kind,
    headers: &HeaderMap,
    bytes: &[u8],
    options: &mut WriteOptions,
) -> Result<Patch, Failure> {
    let allowed = if kind.strategic {
        "application/merge-patch+json, application/json-patch+json or application/strategic-merge-patch+json"
    } else {
        "application/merge-patch+json or application/json-patch+json"
    };
    let media = body::media_type(headers);
    let known = match media {
        "application/merge-patch+json" | "application/json-patch+json" => true,
        "application/strategic-merge-patch+json" => kind.strategic,
        _ => false,
    };
    if !known {
        return Err(Failure::media_type(media, allowed));
    }
    let body::Parsed { value, duplicates } = body::parse(headers, bytes)?;
    options.duplicates = duplicates;
    if media != "application/json-patch+json" {
        if !value.is_object() {
            return Err(Failure::bad_request("the patch is not an object"));
        }
        let strategic = media != "application/merge-patch+json";
        return Ok(if strategic {
            Patch::Strategic(value)
        } else {
            Patch::Merge(value)
        });
    }
    if value.as_array().is_some_and(|list| list.len() > 10_000) {
        return Err(Failure::too_large(10_000));
    }
    serde_json::from_value(value)
        .map(Patch::Json)
        .map_err(|error| Failure::bad_request(format!("the body is no JSON patch: {error}")))
}

#[cfg(test)]
mod tests;
