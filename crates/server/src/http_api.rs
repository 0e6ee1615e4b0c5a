//! HTTP: from a request to an operation on resources, and back.
//!
//! Reads the path, authenticates, bounds and parses the body once. It knows no kind by name but
//! the doors of environments and runners.
//!
//! Read next: `reading`, `operate`, `answers`, `about`, `reviewing`.

mod about;
mod accept;
mod answers;
mod delivery;
mod encoding;
mod health;
mod measures;
mod operate;
mod reading;
mod reviewing;
mod scale;

pub(crate) use about::Published;
pub(crate) use accept::{Accept, Form};
pub(crate) use answers::{Body, full, refuse};
pub(crate) use encoding::{LEAST, gzip, takes_gzip};
pub(crate) use measures::Measures;

use crate::failure::Failure;
use crate::flow::{self, Flow, Held};
use crate::identity::{Caller, Tokens};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::request::{Query, parse_path};
use crate::resources::{Resources, Target};
use crate::reviews;
use about::Asked;
use accept::{Syntax, form};
use boatyard_link::tunnel::Registry;
use bytes::Bytes;
use encoding::{Wanted, finish};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::sync::{Arc, OnceLock};
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
    pub(crate) flow: Flow,
    pub(crate) published: Published,
    pub(crate) measures: Measures,
    pub(crate) shutdown: CancellationToken,
}

/// Refuses a method, and says which are taken.
pub(crate) fn allowing(methods: &'static str) -> Failure {
    Failure {
        allow: methods,
        ..Failure::method()
    }
}

impl Handler {
    /// Answers one request; `peer` is who the socket says it is, `connection` what the connection
    /// counts as, once its first request has said whose it is.
    pub(crate) async fn handle(
        &self,
        request: Request<Incoming>,
        peer: Option<Caller>,
        connection: &OnceLock<Held>,
    ) -> Response<Body> {
        let mut wanted = Wanted::of(request.headers(), request.uri().query());
        let head = request.method() == Method::HEAD;
        let started = self.measures.start(&self.resources.kinds, &request);
        let routed = self.route(request, peer, connection, &mut wanted).await;
        let mut response = routed.unwrap_or_else(|failure| {
            let mut response = refuse(&failure);
            // One too many is not kept for more requests.
            if failure.code == StatusCode::TOO_MANY_REQUESTS && connection.get().is_none() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            response
        });
        let place = response.extensions_mut().remove::<Arc<flow::Permit>>();
        let response = finish(response, wanted).await;
        drop(place);
        let response = if head {
            answers::bare(response)
        } else {
            self.deliver(connection.get().map(Held::who), response)
        };
        self.measures.end(started, response)
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
        connection: &OnceLock<Held>,
        wanted: &mut Wanted,
    ) -> Result<Response<Body>, Failure> {
        let path = request.uri().path().to_owned();
        let (method, query) = (request.method(), request.uri().query());
        if let Some(answer) = self.health(method, &path, query).await {
            return answer;
        }
        reading::check_head(&request)?;
        let caller = self.authenticate(request.headers(), peer).await?;
        if connection.get().is_none() {
            let counted = self.flow.connections.take(&caller.user, 1);
            let counted = counted.ok_or_else(|| {
                Failure::too_many(
                    "too many connections are open; use one for many requests",
                    5,
                )
            })?;
            // Of two first requests at once, one counts.
            drop(connection.set(counted));
        }
        let accept = Accept::of(request.headers());
        let asked = Asked {
            method,
            path: &path,
            query,
            headers: request.headers(),
            accept: &accept,
        };
        if path.trim_end_matches('/') == "/metrics" {
            return self.metrics(&caller, method).await;
        }
        if path.trim_end_matches('/') == "/backup" {
            return self.backup(&caller, method).await;
        }
        if let Some(answer) = self.about(&asked, wanted) {
            return answer;
        }
        let (form, syntax) = form(&accept)?;
        wanted.syntax = syntax;
        let parsed = parse_path(&path).ok_or_else(|| Failure::no_such_path(&path))?;
        if let Some(review) = reviews::find(&parsed.group, &parsed.version, &parsed.plural) {
            let (request, _held) = self.whole(&caller, request).await?;
            let _place = self.flow.admit(&caller, &flow::Asked::default()).await?;
            return self.review(&caller, review, &parsed, request).await;
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
            "scale" if kind.scale.is_some() => {}
            "finalize" if kind.behaviour.has_finalize() => {}
            "connect" | "log" | "lifecycle" | "usage" | "relay" | "tunnel" | "token" => {
                let asked = flow::Asked {
                    group: &parsed.group,
                    plural: &parsed.plural,
                    ..flow::Asked::default()
                };
                // No place is held while a runner is waited for: open streams are a ledger's.
                drop(self.flow.admit(&caller, &asked).await?);
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
        let methods = match (whole, parsed.name.is_empty(), target.subresource) {
            (true, ..) => "GET",
            (_, true, _) => "DELETE, GET, POST",
            (_, _, "finalize") => "PUT",
            (_, _, "status" | "scale") => "GET, PATCH, PUT",
            _ => "DELETE, GET, PATCH, PUT",
        };
        if !methods
            .split(", ")
            .any(|known| known == request.method().as_str())
        {
            return Err(allowing(methods));
        }
        let query = Query::parse(request.uri().query())?;
        let watched =
            request.method() == Method::GET && parsed.name.is_empty() && query.flag("watch");
        let collection = parsed.name.is_empty()
            && match *request.method() {
                Method::GET => !watched || Self::begins_with_all(&query),
                ref method => method == Method::DELETE,
            };
        let asked = flow::Asked {
            group: &parsed.group,
            plural: &parsed.plural,
            collection,
            objects: self.examined(&target, &query),
        };
        if watched {
            if syntax != Syntax::Json {
                return Err(Failure::not_acceptable());
            }
            // The beginning of a watch is a request; what follows is counted with the watches.
            let _place = self.flow.admit(&caller, &asked).await?;
            return self.watch(&caller, &target, &query, form).await;
        }
        let answered = tokio::time::timeout(DEADLINE, async {
            // Whole before it takes a place: who sends slowly takes nobody's.
            let (request, _held) = self.whole(&caller, request).await?;
            let place = self.flow.admit(&caller, &asked).await?;
            let answered = self.operate(&caller, &target, &query, form, request);
            let mut response = answered.await?;
            // Until it is written as wanted.
            response.extensions_mut().insert(Arc::new(place));
            Ok(response)
        })
        .await;
        answered.unwrap_or_else(|_| Err(Failure::timeout("the request took too long")))
    }

    /// How many objects a list will have to look at, when that is known.
    fn examined(&self, target: &Target<'_>, query: &Query) -> Option<usize> {
        let resource = target.kind.resource();
        let size = self.flow.size(&resource, target.namespace);
        let selected = [query.get("labelSelector"), query.get("fieldSelector")] != ["", ""];
        match query.get("limit").parse::<usize>() {
            // Selectors thin a page: more is read to fill it.
            Ok(limit) if limit > 0 && !selected => Some(size.unwrap_or(limit).min(limit)),
            _ => size,
        }
    }

    /// Headers and body of a request that has come whole.
    async fn body(request: Request<Bytes>) -> Result<(HeaderMap, Bytes), Failure> {
        let (parts, body) = request.into_parts();
        Ok((parts.headers, body))
    }
}

#[cfg(test)]
mod tests;
