//! Patches: how each form changes an object.
//!
//! Merge patches and JSON patches are as in their RFCs (7386, 6902); strategic ones are for core
//! kinds alone, with the few lists of theirs that merge by key, and Kubernetes's directives. Pure
//! over JSON; what a JSON patch copies is bounded, since copies of copies double.

use crate::failure::Failure;
use json_patch::PatchOperation;
use serde_json::{Map, Value};

/// Most bytes that the copies of one JSON patch may add.
const MOST_COPIED: usize = 3 * 1024 * 1024;

/// Lists that merge, and by which member of their items; empty for plain values.
const MERGED: [(&str, &str); 4] = [
    ("finalizers", ""),
    ("ownerReferences", "uid"),
    ("conditions", "type"),
    ("managedFields", ""),
];

/// Deepest object that a JSON patch may make: what is stored must be read again.
const DEEPEST: usize = 100;

/// Applies a JSON patch.
pub(crate) fn apply_json(object: &mut Value, patch: &json_patch::Patch) -> Result<(), Failure> {
    let mut copied = 0;
    for (number, operation) in patch.0.iter().enumerate() {
        let (path, value) = match operation {
            PatchOperation::Add(add) => (&add.path, Some(&add.value)),
            PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
            PatchOperation::Move(from) => (&from.path, object.pointer(from.from.as_str())),
            PatchOperation::Copy(from) => {
                let source = object.pointer(from.from.as_str());
                copied += source.map_or(0, |value| value.to_string().len());
                (&from.path, source)
            }
            PatchOperation::Remove(remove) => (&remove.path, None),
            PatchOperation::Test(test) => (&test.path, None),
        };
        let above = path.as_str().matches('/').count();
        if copied > MOST_COPIED || value.is_some_and(|value| above + depth(value) > DEEPEST) {
            return Err(Failure::too_large(MOST_COPIED));
        }
        // In Kubernetes what is not there is null to a test; clients ask so for the lack of something.
        if let PatchOperation::Test(test) = operation
            && test.value.is_null()
            && object.pointer(path.as_str()).is_none()
        {
            continue;
        }
        let one = std::slice::from_ref(operation);
        json_patch::patch(object, one).map_err(|error| Failure {
            code: http::StatusCode::UNPROCESSABLE_ENTITY,
            reason: "Invalid",
            ..Failure::bad_request(format!(
                "the JSON patch does not apply: operation {number} at {path}: {}",
                error.kind
            ))
        })?;
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Applies a strategic merge patch.
pub(crate) fn apply(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(members) = object else {
        return;
    };
    if patch.get("$patch").is_some_and(|word| word == "replace") {
        members.clear();
    }
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        members.retain(|name, _| kept.iter().any(|kept| kept == name));
    }
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let (gone, list) = (value.as_array(), members.get_mut(list));
            if let (Some(gone), Some(Value::Array(list))) = (gone, list) {
                list.retain(|item| !gone.contains(item));
            }
        } else if name.starts_with('$') {
            // Orders of elements, and what was honoured above.
        } else if value.is_null() || value["$patch"] == "delete" {
            members.remove(name);
        } else {
            let slot = members.entry(name).or_insert(Value::Null);
            let key = MERGED.iter().find(|(list, _)| list == name);
            match (value, key) {
                (Value::Array(items), Some((_, key))) => merge_list(slot, items, key),
                _ => apply(slot, value),
            }
        }
    }
}

fn merge_list(slot: &mut Value, items: &[Value], key: &str) {
    if !slot.is_array() || items.iter().any(|item| item["$patch"] == "replace") {
        *slot = Value::Array(Vec::new());
    }
    let Value::Array(list) = slot else { return };
    for item in items {
        let same = |other: &Value| {
            if key.is_empty() {
                other == item
            } else {
                other[key] == item[key]
            }
        };
        if item["$patch"] == "delete" {
            list.retain(|other| !same(other));
        } else if item["$patch"] == "replace" {
            // Honoured above.
        } else if let Some(known) = list.iter_mut().find(|other| same(other)) {
            apply(known, item);
        } else {
            list.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    //! Directives by table.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn strategic_patches_merge_lists_by_key_and_honour_directives() {
        for (object, patch, wanted) in [
            (
                json!({"a": 1, "b": 2}),
                json!({"a": null, "c": {"d": 1}}),
                json!({"b": 2, "c": {"d": 1}}),
            ),
            (
                json!({"finalizers": ["x"]}),
                json!({"finalizers": ["y", "x"]}),
                json!({"finalizers": ["x", "y"]}),
            ),
            (
                json!({"finalizers": ["x", "y"]}),
                json!({"$deleteFromPrimitiveList/finalizers": ["x"], "$setElementOrder/finalizers": ["y"]}),
                json!({"finalizers": ["y"]}),
            ),
            (
                json!({"conditions": [{"type": "A", "status": "True", "m": 1}]}),
                json!({"conditions": [{"type": "A", "status": "False"}, {"type": "B"}]}),
                json!({"conditions": [{"type": "A", "status": "False", "m": 1}, {"type": "B"}]}),
            ),
            (
                json!({"conditions": [{"type": "A"}, {"type": "B"}]}),
                json!({"conditions": [{"type": "A", "$patch": "delete"}]}),
                json!({"conditions": [{"type": "B"}]}),
            ),
            (
                json!({"l": {"a": "1"}}),
                json!({"l": {"$patch": "replace", "b": "2"}}),
                json!({"l": {"b": "2"}}),
            ),
            (
                json!({"l": {"a": "1"}, "k": 1}),
                json!({"l": {"$patch": "delete"}}),
                json!({"k": 1}),
            ),
            (
                json!({"l": {"a": 1, "b": 2}}),
                json!({"l": {"$retainKeys": ["b"]}}),
                json!({"l": {"b": 2}}),
            ),
            (json!({"l": [1, 2]}), json!({"l": [3]}), json!({"l": [3]})),
        ] {
            let mut object = object;
            apply(&mut object, &patch);
            assert_eq!(object, wanted, "{patch}");
        }
    }

    #[test]
    fn copies_of_copies_are_cut_off() {
        let copy = |path| json!({"op": "copy", "from": "/a", "path": path});
        let copies = ["/a/b", "/a/c"].repeat(32).into_iter().map(copy);
        let patch = serde_json::from_value(copies.collect()).unwrap();
        let refused = apply_json(&mut json!({"a": {"x": "y".repeat(1000)}}), &patch);
        assert_eq!(refused.unwrap_err().reason, "RequestEntityTooLarge");
    }
}
