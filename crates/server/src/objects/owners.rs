//! Rules of ownerReferences, as Kubernetes has them.
//!
//! Whether an owner exists, and where, is nobody's business here: an owner may come later, and what
//! refers to one that never comes is the collector's.

use boatyard_api::rules::FieldError;
use serde_json::Value;

/// What is wrong with the list.
pub(super) fn check(references: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |path: String, value: &Value, detail: &str| {
        errors.push(FieldError::invalid(path, value.clone(), detail));
    };
    let references = references.and_then(Value::as_array);
    let mut controller: Option<&str> = None;
    for (number, reference) in references.into_iter().flatten().enumerate() {
        let path = |member: &str| format!("metadata.ownerReferences[{number}].{member}");
        let text = |member: &str| reference[member].as_str().unwrap_or_default();
        for member in ["kind", "name", "uid"] {
            if text(member).is_empty() {
                wrong(path(member), &reference[member], "must not be empty");
            }
        }
        let version = match text("apiVersion").split('/').collect::<Vec<_>>()[..] {
            [version] | [_, version] => version,
            _ => "",
        };
        if version.is_empty() {
            let path = path("apiVersion");
            wrong(path, &reference["apiVersion"], "version must not be empty");
        }
        // Events go with time, not with what they are about.
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            let path = format!("metadata.ownerReferences[{number}]");
            wrong(
                path,
                reference,
                "an Event is disallowed from being an owner",
            );
        }
        if reference["controller"] == true {
            let name = text("name");
            if let Some(other) = controller {
                let detail = format!(
                    "only one reference can have controller set to true; found it in those to {other} and {name}"
                );
                wrong("metadata.ownerReferences".to_owned(), reference, &detail);
            }
            controller = Some(name);
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    //! By table.
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_with_a_reference_is_named() {
        let good =
            json!({"apiVersion": "boatyard.dev/v1", "kind": "Runner", "name": "r", "uid": "1"});
        let with = |changes: Value| {
            let mut reference = good.clone();
            json_patch::merge(&mut reference, &changes);
            reference
        };
        let controller = with(json!({"controller": true}));
        for (list, wanted) in [
            (json!([good, controller]), vec![]),
            (
                json!([with(json!({"name": ""}))]),
                vec!["metadata.ownerReferences[0].name"],
            ),
            (
                json!([good, with(json!({"uid": ""}))]),
                vec!["metadata.ownerReferences[1].uid"],
            ),
            (
                json!([with(json!({"kind": ""}))]),
                vec!["metadata.ownerReferences[0].kind"],
            ),
            (
                json!([with(json!({"apiVersion": "a/b/c"}))]),
                vec!["metadata.ownerReferences[0].apiVersion"],
            ),
            (
                json!([with(json!({"apiVersion": "a/"}))]),
                vec!["metadata.ownerReferences[0].apiVersion"],
            ),
            (
                json!([with(json!({"apiVersion": "v1", "kind": "Event"}))]),
                vec!["metadata.ownerReferences[0]"],
            ),
            (
                json!([with(json!({"apiVersion": "v1", "kind": "Namespace"}))]),
                vec![],
            ),
            (
                json!([controller, controller]),
                vec!["metadata.ownerReferences"],
            ),
        ] {
            let found = check(Some(&list));
            let paths: Vec<&str> = found.iter().map(|error| error.path.as_str()).collect();
            assert_eq!(paths, wanted, "{list}");
        }
        assert!(check(None).is_empty());
    }
}
