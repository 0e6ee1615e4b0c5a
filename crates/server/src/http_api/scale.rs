//! The scale subresource over HTTP.

use super::Handler;
use super::answers::{Body, answer, respond};
use super::operate::{options, patch};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::request::Query;
use crate::resources::{Change, Target};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;

impl Handler {
    /// Answers a request about an object's Scale.
    pub(super) async fn scale(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        query: &Query,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, Failure> {
        let (options, change) = match *request.method() {
            Method::GET => {
                let scale = self.resources.scale(caller, target).await?;
                return Ok(respond(StatusCode::OK, &scale));
            }
            Method::PUT => {
                let (options, scale) = Self::object(query, request, "UpdateOptions").await?;
                (options, Change::Whole(scale))
            }
            _ => {
                let mut options = options(query, request.headers(), "PatchOptions")?;
                let (head, body) = request.into_parts();
                let patch = patch(target.kind, query, &head.headers, &body, &mut options)?;
                (options, Change::Patch(patch))
            }
        };
        let rescaling = self.resources.rescale(caller, target, &change, &options);
        let written = rescaling.await?;
        answer(written, None::<fn(Value) -> Value>)
    }
}
