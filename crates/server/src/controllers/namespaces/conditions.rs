//! What still holds a namespace, as conditions of its status.
//!
//! Types, reasons and messages are those of Kubernetes's namespace controller: people and programs
//! look for them when a namespace stays Terminating.

use crate::failure::Failure;
use crate::kinds::Kind;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is left in a namespace after everything in it was deleted.
#[derive(Debug, Default)]
pub(super) struct Remaining {
    /// How many of each resource.
    objects: BTreeMap<String, usize>,
    /// How many each finalizer holds.
    finalizers: BTreeMap<String, usize>,
    failures: Vec<Failure>,
}

/// Type, reason and message while all is well.
const WELL: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

impl Remaining {
    pub(super) fn note(&mut self, kind: &Kind, object: &Value) {
        let resource = format!("{}.{}", kind.plural, kind.group);
        *self.objects.entry(resource).or_default() += 1;
        let held = object["metadata"]["finalizers"].as_array();
        for finalizer in held.into_iter().flatten().filter_map(Value::as_str) {
            *self.finalizers.entry(finalizer.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn failed(&mut self, failure: &Failure) {
        self.failures.push(failure.clone());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The first of the deletions that failed.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failures.first().cloned()
    }

    /// What is wrong with a type of condition: reason and message.
    fn wrong(&self, condition: &str) -> Option<(&str, String)> {
        let told = |counts: &BTreeMap<String, usize>, between: &str, after: &str| {
            let each = counts.iter();
            let each = each.map(|(what, count)| format!("{what} {between} {count} {after}"));
            each.collect::<Vec<_>>().join(", ")
        };
        match condition {
            "NamespaceDeletionContentFailure" => {
                let first = self.failures.first()?;
                let message = format!(
                    "Failed to delete all resource types, {} remaining: {first}",
                    self.failures.len()
                );
                Some(("ContentDeletionFailed", message))
            }
            "NamespaceContentRemaining" if !self.objects.is_empty() => {
                let list = told(&self.objects, "has", "resource instances");
                Some((
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {list}"),
                ))
            }
            "NamespaceFinalizersRemaining" if !self.finalizers.is_empty() => {
                let list = told(&self.finalizers, "in", "resource instances");
                let message =
                    format!("Some content in the namespace has finalizers remaining: {list}");
                Some(("SomeFinalizersRemain", message))
            }
            _ => None,
        }
    }

    /// The conditions, with the times of those that did not change.
    pub(super) fn conditions(&self, before: &Value, now: Timestamp) -> Value {
        let before = before.as_array().map(Vec::as_slice).unwrap_or_default();
        let of = |condition: &str| before.iter().find(|known| known["type"] == condition);
        let ours = WELL.iter().map(|&(condition, reason, message)| {
            let (status, reason, message) = match self.wrong(condition) {
                Some((reason, message)) => ("True", reason, message),
                None => ("False", reason, message.to_owned()),
            };
            let unchanged = of(condition).filter(|known| known["status"] == status);
            let since = unchanged.map(|known| known["lastTransitionTime"].clone());
            let since = since.unwrap_or_else(|| crate::objects::stamp(now));
            json!({"type": condition, "status": status, "lastTransitionTime": since, "reason": reason, "message": message})
        });
        let others = before.iter().filter(|known| {
            let known = known["type"].as_str().unwrap_or_default();
            !WELL.iter().any(|(condition, _, _)| *condition == known)
        });
        others.cloned().chain(ours).collect()
    }
}
