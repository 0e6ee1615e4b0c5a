//! Options of a deletion, as the query and an optional body name them.
//!
//! What cannot be read is refused: a precondition must never pass for none. Every propagation
//! policy is taken and does the same, since no object has dependents that the server removes.

use crate::body;
use crate::failure::Failure;
use crate::request::Query;
use boatyard_api::rules::FieldError;
use http::HeaderMap;
use serde_json::Value;

/// How an object is to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// The object must have this uid.
    pub(crate) uid: Option<String>,
    /// The object must be of this version.
    pub(crate) version: Option<String>,
    pub(crate) dry_run: bool,
}

impl Options {
    /// Reads them; an empty body says nothing.
    pub(crate) fn parse(query: &Query, headers: &HeaderMap, body: &[u8]) -> Result<Self, Failure> {
        let dry_run = query.write_options()?.dry_run;
        check_policy(query.get("propagationPolicy"))?;
        let mut options = Self {
            dry_run,
            ..Self::default()
        };
        if body.is_empty() {
            return Ok(options);
        }
        let parsed = body::parse(headers, body)?.value;
        let wrong = |member: &str| {
            let message = format!("the body is no DeleteOptions: {member} is malformed");
            Failure::bad_request(message)
        };
        if !parsed.is_object() {
            return Err(wrong("the whole"));
        }
        let text = |value: &Value, member: &str| match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(wrong(member)),
        };
        if text(&parsed["kind"], "kind")?.is_some_and(|kind| kind != "DeleteOptions") {
            return Err(wrong("kind"));
        }
        let policy = text(&parsed["propagationPolicy"], "propagationPolicy")?;
        check_policy(&policy.unwrap_or_default())?;
        let preconditions = &parsed["preconditions"];
        if !preconditions.is_null() && !preconditions.is_object() {
            return Err(wrong("preconditions"));
        }
        options.uid = text(&preconditions["uid"], "preconditions.uid")?;
        let version = &preconditions["resourceVersion"];
        options.version = text(version, "preconditions.resourceVersion")?;
        match &parsed["dryRun"] {
            Value::Null => {}
            Value::Array(words) if words.iter().all(|word| word == "All") => {
                options.dry_run |= !words.is_empty();
            }
            _ => return Err(wrong("dryRun")),
        }
        Ok(options)
    }
}

fn check_policy(policy: &str) -> Result<(), Failure> {
    if ["", "Background", "Foreground", "Orphan"].contains(&policy) {
        return Ok(());
    }
    let supported = ["Background", "Foreground", "Orphan"];
    let error = FieldError::unsupported("propagationPolicy", policy, &supported);
    Err(Failure::invalid(
        "DeleteOptions",
        "meta.k8s.io",
        "",
        &[error],
    ))
}
