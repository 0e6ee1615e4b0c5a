//! The annotation of client-side `kubectl apply`, kept true by server-side applies of kubectl.
//!
//! It lets a user change over without conflicts: what kubectl had applied on the client's side and
//! nobody changed since, kubectl may take. As long as the annotation is there it says what was
//! applied last, so that going back works too. Other appliers are not concerned.

use super::compare::compare;
use super::set::Set;
use super::typed::{fields, misfits};
use super::types::Ref;
use serde_json::Value;

/// The applier it is kept for.
pub(crate) const KUBECTL: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
const LARGEST_ANNOTATIONS: usize = 256 * 1024;

fn text(object: &Value) -> Option<&str> {
    let text = object["metadata"]["annotations"][ANNOTATION].as_str()?;
    (!text.is_empty()).then_some(text)
}

fn annotations(object: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    object.pointer_mut("/metadata/annotations")?.as_object_mut()
}

/// Fields that were applied on the client's side and are unchanged.
pub(crate) fn unchanged(of: &Ref, live: &Value) -> Option<Set> {
    let applied: Value = serde_json::from_str(text(live)?).ok()?;
    if applied["apiVersion"] != live["apiVersion"] || !misfits(of, &applied).is_empty() {
        return None;
    }
    let changes = compare(of, &applied, live);
    let applied = fields(of, &applied);
    Some(
        applied
            .difference(&changes.modified)
            .difference(&changes.added)
            .difference(&changes.removed),
    )
}

/// Brings the annotation up to date, where there is one.
pub(crate) fn follow(object: &mut Value, config: &Value) {
    if text(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = annotations(&mut config) {
        annotations.remove(ANNOTATION);
    }
    let Some(annotations) = annotations(object) else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), Value::String(format!("{config}\n")));
    let size: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > LARGEST_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}
