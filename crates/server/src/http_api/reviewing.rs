//! Reviews: questions of a caller about itself, answered by the authorizer and never stored.

use super::Handler;
use super::answers::{Body, respond};
use crate::body;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::request::Path;
use crate::resources::Target;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

impl Handler {
    /// `kubectl auth can-i` and `kubectl auth whoami`.
    pub(super) async fn review(
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
