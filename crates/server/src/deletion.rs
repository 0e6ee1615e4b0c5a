//! Options of a deletion, as the query and an optional body name them, and what they do to
//! finalizers.
//!
//! What cannot be read is refused: a precondition must never pass for none. What becomes of an
//! object's dependents is said by two finalizers, as in Kubernetes: they are set here, and obeyed and
//! removed by the collector (`controllers::collector`).

use crate::body;
use crate::failure::Failure;
use crate::request::Query;
use boatyard_api::rules::FieldError;
use http::HeaderMap;
use serde_json::Value;

/// Finalizer of an object that goes after its dependents.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object whose dependents are to stay.
pub(crate) const ORPHAN: &str = "orphan";

/// What becomes of dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They go after the object.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// How an object is to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// The object must have this uid.
    pub(crate) uid: Option<String>,
    /// The object must be of this version.
    pub(crate) version: Option<String>,
    pub(crate) dry_run: bool,
    pub(crate) propagation: Option<Propagation>,
}

impl Options {
    /// Reads them; an empty body says nothing.
    pub(crate) fn parse(query: &Query, headers: &HeaderMap, body: &[u8]) -> Result<Self, Failure> {
        let mut options = Self {
            dry_run: query.write_options()?.dry_run,
            ..Self::default()
        };
        let orphan = match query.get("orphanDependents") {
            "" => None,
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            other => {
                return Err(Failure::bad_request(format!(
                    "orphanDependents {other:?} is neither true nor false"
                )));
            }
        };
        let grace = query.get("gracePeriodSeconds");
        if !grace.is_empty() && grace.parse::<i64>().is_err() {
            return Err(Failure::bad_request(format!(
                "gracePeriodSeconds {grace:?} is no number"
            )));
        }
        options.propagation = propagation(query.get("propagationPolicy"), orphan)?;
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
        let grace = &parsed["gracePeriodSeconds"];
        // Nothing here has processes that would need it: accepted, and of no effect.
        if !grace.is_null() && !grace.is_i64() {
            return Err(wrong("gracePeriodSeconds"));
        }
        let orphan = match &parsed["orphanDependents"] {
            Value::Null => None,
            Value::Bool(orphan) => Some(*orphan),
            _ => return Err(wrong("orphanDependents")),
        };
        let policy = text(&parsed["propagationPolicy"], "propagationPolicy")?;
        let named = propagation(&policy.unwrap_or_default(), orphan)?;
        options.propagation = named.or(options.propagation);
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

/// What a policy, or the option that it replaced, says of dependents.
fn propagation(policy: &str, orphan: Option<bool>) -> Result<Option<Propagation>, Failure> {
    let wrong = |error| Failure::invalid("DeleteOptions", "meta.k8s.io", "", &[error]);
    let named = match policy {
        "" => None,
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        "Orphan" => Some(Propagation::Orphan),
        other => {
            let supported = ["Background", "Foreground", "Orphan"];
            let error = FieldError::unsupported("propagationPolicy", other, &supported);
            return Err(wrong(error));
        }
    };
    match (named, orphan) {
        (Some(_), Some(_)) => {
            let detail = "cannot be set beside orphanDependents; leave orphanDependents out";
            Err(wrong(FieldError::invalid(
                "propagationPolicy",
                policy,
                detail,
            )))
        }
        (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (None, Some(false)) => Ok(Some(Propagation::Background)),
        (named, None) => Ok(named),
    }
}

/// The finalizers an object has once it is deleted so. What the deletion says overrides what the
/// finalizers said; without a word, these decide.
pub(crate) fn finalizers(options: &Options, before: &[String]) -> Vec<String> {
    let said = before
        .iter()
        .find_map(|finalizer| match finalizer.as_str() {
            ORPHAN => Some(Propagation::Orphan),
            FOREGROUND => Some(Propagation::Foreground),
            _ => None,
        });
    let others = before
        .iter()
        .filter(|held| ![ORPHAN, FOREGROUND].contains(&held.as_str()));
    let wanted = match options.propagation.or(said) {
        Some(Propagation::Orphan) => Some(ORPHAN),
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Background) | None => None,
    };
    others.cloned().chain(wanted.map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests;
