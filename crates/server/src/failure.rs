//! Failures as the API tells them: Status objects with Kubernetes's codes and reasons.

use boatyard_api::rules::FieldError;
use http::StatusCode;
use serde_json::{Value, json};

/// `environments.boatyard.dev`, `namespaces`.
fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

/// A failed request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// HTTP status.
    pub code: StatusCode,
    /// Reason clients switch on.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
    /// `details` of the Status.
    pub details: Value,
    /// For a method that is refused: those that are taken.
    pub allow: &'static str,
    /// For a list that expired: the token to go on with, as things are now.
    pub continues: Option<String>,
}

impl Failure {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
            allow: "",
            continues: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "who are you? give a bearer token, or connect through the host's unix socket",
        )
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// With the cause by which controllers know that trying again is in vain.
    pub(crate) fn terminating(namespace: &str) -> Self {
        let cause = json!({"reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"), "field": "metadata.namespace"});
        Self {
            details: json!({"name": namespace, "kind": "namespaces", "causes": [cause]}),
            ..Self::forbidden(format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            ))
        }
    }

    pub(crate) fn no_such_path(path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("the server has nothing at {path}"),
        )
    }

    pub(crate) fn not_found(plural: &str, group: &str, name: &str) -> Self {
        let code = StatusCode::NOT_FOUND;
        Self::of_object(code, "NotFound", (plural, group, name), "not found")
    }

    pub(crate) fn exists(plural: &str, group: &str, name: &str) -> Self {
        let code = StatusCode::CONFLICT;
        Self::of_object(
            code,
            "AlreadyExists",
            (plural, group, name),
            "already exists",
        )
    }

    fn of_object(
        code: StatusCode,
        reason: &'static str,
        (plural, group, name): (&str, &str, &str),
        what: &str,
    ) -> Self {
        let kind = qualified(plural, group);
        Self {
            details: json!({"name": name, "group": group, "kind": plural}),
            ..Self::new(code, reason, format!("{kind} \"{name}\" {what}"))
        }
    }

    pub(crate) fn conflict(plural: &str, group: &str, name: &str, why: &str) -> Self {
        let kind = qualified(plural, group);
        let message = format!("Operation cannot be fulfilled on {kind} \"{name}\": {why}");
        Self {
            details: json!({"name": name, "group": group, "kind": plural}),
            ..Self::new(StatusCode::CONFLICT, "Conflict", message)
        }
    }

    pub(crate) fn invalid(kind: &str, group: &str, name: &str, errors: &[FieldError]) -> Self {
        let causes: Vec<Value> = errors.iter().map(|error| json!({"reason": error.reason.word(), "message": error.message, "field": error.path})).collect();
        let list: Vec<String> = errors
            .iter()
            .map(|error| match error.path.as_str() {
                "" => error.message.clone(),
                path => format!("{path}: {}", error.message),
            })
            .collect();
        let whole = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let list = match list.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{whole} \"{name}\" is invalid: {list}");
        let details = json!({"name": name, "group": group, "kind": kind, "causes": causes});
        Self {
            details,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
        }
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("the body is larger than {limit} bytes"),
        )
    }

    /// Beyond what one client, or all, may have under way: to be tried again.
    pub(crate) fn too_many(message: impl Into<String>, seconds: usize) -> Self {
        Self {
            details: json!({"retryAfterSeconds": seconds}),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
        }
    }

    pub(crate) fn media_type(found: &str, allowed: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            format!("the content type {found} is not supported here; use {allowed}"),
        )
    }

    pub(crate) fn not_acceptable() -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            "only application/json and application/yaml are served here",
        )
    }

    pub(crate) fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            message,
        )
    }

    /// No room to store more. It says nothing of when to try again: somebody has to make room.
    pub(crate) fn full(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "InsufficientStorage",
            message,
        )
    }

    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// As a Status object.
    #[must_use]
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if let Some(token) = &self.continues {
            status["metadata"]["continue"] = json!(token);
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}
