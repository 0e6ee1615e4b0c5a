//! What every write does to an object, whatever its kind: metadata, status, generation, finalizers.
//!
//! Pure over JSON; storing is `resources`'. The conventions are Kubernetes's: a main write cannot
//! change status, a status write changes nothing else, generation counts changes of the spec,
//! an object with finalizers is marked for deletion and goes when the last finalizer does.

use crate::deletion;
use crate::failure::Failure;
use crate::kinds::Kind;
use boatyard_api::rules::{self, FieldError};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

mod owners;

/// Members of metadata that only the server sets.
const OURS: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "selfLink",
];

/// Most bytes of annotations, as in Kubernetes.
const LARGEST_ANNOTATIONS: usize = 256 * 1024;

/// The time as the API writes it: whole seconds.
pub(crate) fn stamp(now: Timestamp) -> Value {
    json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Text at `metadata.<member>`.
pub(crate) fn meta<'a>(object: &'a Value, member: &str) -> &'a str {
    object["metadata"][member].as_str().unwrap_or_default()
}

fn check_envelope(kind: &Kind, object: &mut Value, namespace: &str) -> Result<(), Failure> {
    if !object.is_object() {
        return Err(Failure::bad_request("the body is not an object"));
    }
    for (member, wanted) in [
        ("apiVersion", kind.api_version()),
        ("kind", kind.kind.clone()),
    ] {
        match &object[member] {
            Value::Null => object[member] = json!(wanted),
            Value::String(found) if *found == wanted => {}
            found => {
                return Err(Failure::bad_request(format!(
                    "the object's {member} is {found}, but this path is for {wanted}"
                )));
            }
        }
    }
    if object["metadata"].is_null() {
        object["metadata"] = json!({});
    }
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return Err(Failure::bad_request("metadata is not an object"));
    };
    // As the typed metadata of every client has it: what is empty is not there. An empty list of
    // managers says something of its own.
    let empty = |value: &Value| {
        value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
    };
    metadata
        .retain(|member, value| !value.is_null() && (member == "managedFields" || !empty(value)));
    let errors = check_metadata(metadata);
    if !errors.is_empty() {
        let name = meta(object, "name");
        return Err(Failure::invalid(&kind.kind, &kind.group, name, &errors));
    }
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return Err(Failure::bad_request("metadata is not an object"));
    };
    if kind.namespaced {
        match metadata.get("namespace").and_then(Value::as_str) {
            None | Some("") => drop(metadata.insert("namespace".to_owned(), json!(namespace))),
            Some(found) if found == namespace => {}
            Some(found) => {
                return Err(Failure::bad_request(format!(
                    "the namespace of the object ({found}) does not match the namespace of the request ({namespace})"
                )));
            }
        }
    } else {
        metadata.remove("namespace");
    }
    Ok(())
}

/// Rules of labels, annotations, finalizers and owners; their types are the schema's.
fn check_metadata(metadata: &Map<String, Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |path: &str, value: &str, detail: &str| {
        errors.push(FieldError::invalid(path, value, detail));
    };
    let members = |name: &str| metadata.get(name).and_then(Value::as_object);
    for (key, value) in members("labels").into_iter().flatten() {
        if !rules::is_label_key(key) {
            wrong("metadata.labels", key, "must be a name or domain/name");
        }
        let value = value.as_str().unwrap_or_default();
        if !rules::is_label_value(value) {
            wrong(
                "metadata.labels",
                value,
                "must be at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
            );
        }
    }
    let mut size = 0;
    for (key, value) in members("annotations").into_iter().flatten() {
        if !rules::is_label_key(&key.to_ascii_lowercase()) {
            wrong("metadata.annotations", key, "must be a name or domain/name");
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > LARGEST_ANNOTATIONS {
        let detail = format!("has {size} bytes; at most {LARGEST_ANNOTATIONS} are kept");
        wrong("metadata.annotations", "object", &detail);
    }
    let finalizers = metadata.get("finalizers").map(texts).unwrap_or_default();
    let holds = |wanted: &str| finalizers.iter().any(|finalizer| finalizer == wanted);
    if holds(deletion::ORPHAN) && holds(deletion::FOREGROUND) {
        let both = finalizers.join(", ");
        let detail = "orphan and foregroundDeletion exclude each other";
        wrong("metadata.finalizers", &both, detail);
    }
    for finalizer in &finalizers {
        if !rules::is_label_key(finalizer) {
            wrong("metadata.finalizers", finalizer, "must be domain/name");
        }
    }
    errors.extend(owners::check(metadata.get("ownerReferences")));
    errors.truncate(20);
    errors
}

/// Readies a new object; its kind's defaults and rules come after admission.
pub(crate) fn create(
    kind: &Kind,
    mut object: Value,
    namespace: &str,
    now: Timestamp,
) -> Result<Value, Failure> {
    check_envelope(kind, &mut object, namespace)?;
    if !meta(&object, "resourceVersion").is_empty() {
        return Err(Failure::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let uid = uuid::Uuid::new_v4().to_string();
    if meta(&object, "name").is_empty() {
        let prefix = meta(&object, "generateName");
        if prefix.is_empty() {
            return Err(Failure::invalid(
                &kind.kind,
                &kind.group,
                "",
                &[FieldError::required(
                    "metadata.name",
                    "name or generateName is required",
                )],
            ));
        }
        let name = format!(
            "{}{}",
            // Room for the rest in a name of 63; cut between letters, whatever they are.
            &prefix[..prefix.floor_char_boundary(55)],
            &uid.replace('-', "")[..8]
        );
        object["metadata"]["name"] = json!(name);
    }
    let name = meta(&object, "name").to_owned();
    let strict = kind.behaviour.names_are_labels();
    if !(if strict {
        rules::is_label(&name)
    } else {
        rules::is_name(&name)
    }) {
        let allowed = if strict {
            "lower-case letters, digits and '-', at most 63"
        } else {
            "lower-case letters, digits, '-' and '.', at most 253"
        };
        let detail = format!("must be {allowed}, beginning and ending with a letter or digit");
        return Err(Failure::invalid(
            &kind.kind,
            &kind.group,
            &name,
            &[FieldError::invalid("metadata.name", name.as_str(), detail)],
        ));
    }
    for member in OURS {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove(member);
        }
    }
    object["metadata"]["uid"] = json!(uid);
    object["metadata"]["creationTimestamp"] = stamp(now);
    object["metadata"]["generation"] = json!(1);
    if kind.has_status && !kind.strategic {
        clear_status(&mut object);
    }
    Ok(object)
}

pub(crate) fn clear_status(object: &mut Value) {
    if let Some(members) = object.as_object_mut() {
        members.remove("status");
    }
}

/// An object sent to the path of another.
pub(crate) fn other_name(wanted: &str, name: &str) -> Failure {
    Failure::bad_request(format!(
        "the name of the object ({wanted}) does not match the name in the path ({name})"
    ))
}

/// Readies a changed object: `object` is what it shall be, `old` what is stored.
pub(crate) fn update(
    kind: &Kind,
    mut object: Value,
    old: &Value,
    subresource: &str,
) -> Result<Value, Failure> {
    let (namespace, name) = (
        meta(old, "namespace").to_owned(),
        meta(old, "name").to_owned(),
    );
    check_envelope(kind, &mut object, &namespace)?;
    let wanted = meta(&object, "name");
    if !wanted.is_empty() && wanted != name {
        return Err(other_name(wanted, &name));
    }
    let uid = meta(&object, "uid");
    if !uid.is_empty() && uid != meta(old, "uid") {
        return Err(Failure::conflict(
            &kind.plural,
            &kind.group,
            &name,
            &format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
                meta(old, "uid")
            ),
        ));
    }
    if subresource == "status" {
        let status = object["status"].take();
        object = old.clone();
        object["status"] = status;
        if object["status"].is_null() {
            clear_status(&mut object);
        }
    } else if subresource == "finalize" {
        let finalizers = object["spec"]["finalizers"].take();
        object = old.clone();
        object["spec"]["finalizers"] = finalizers;
    } else {
        kind.behaviour.keep(&mut object, old);
        if kind.has_status {
            match &old["status"] {
                Value::Null => clear_status(&mut object),
                status => object["status"] = status.clone(),
            }
        }
        object["metadata"]["name"] = json!(name);
        for member in OURS {
            match &old["metadata"][member] {
                Value::Null => drop(
                    object["metadata"]
                        .as_object_mut()
                        .and_then(|metadata| metadata.remove(member)),
                ),
                value => object["metadata"][member] = value.clone(),
            }
        }
        if !meta(old, "deletionTimestamp").is_empty() {
            let before = texts(&old["metadata"]["finalizers"]);
            if let Some(fresh) = texts(&object["metadata"]["finalizers"])
                .iter()
                .find(|finalizer| !before.contains(finalizer))
            {
                return Err(Failure::forbidden(format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizer {fresh}"
                )));
            }
        }
    }
    let mut object = kind.prepare(&name, object, Some(old))?;
    if object["spec"] != old["spec"] {
        object["metadata"]["generation"] =
            json!(old["metadata"]["generation"].as_i64().unwrap_or_default() + 1);
    }
    Ok(object)
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// A write of status need not say the rest, which it does not change: it is as it was.
pub(crate) fn complete(object: &mut Value, old: &Value, subresource: &str) {
    if !matches!(subresource, "status" | "finalize") {
        return;
    }
    let (Some(members), Some(old)) = (object.as_object_mut(), old.as_object()) else {
        return;
    };
    for (name, value) in old {
        if name != "status" && members.get(name).is_none_or(Value::is_null) {
            members.insert(name.clone(), value.clone());
        }
    }
}

/// What a deletion does to an object.
pub(crate) enum Deletion {
    /// It goes.
    Remove,
    /// It is marked, and goes when its finalizers have.
    Mark(Value),
    /// It is marked already.
    Waiting,
}

/// Decides what a deletion does.
pub(crate) fn delete(
    kind: &Kind,
    old: &Value,
    options: &deletion::Options,
    now: Timestamp,
) -> Deletion {
    let before = texts(&old["metadata"]["finalizers"]);
    let finalizers = if kind.behaviour.has_dependents() {
        deletion::finalizers(options, &before)
    } else {
        before.clone()
    };
    let mut marked = old.clone();
    let first = meta(old, "deletionTimestamp").is_empty();
    if first {
        kind.behaviour.mark_deleted(&mut marked);
    }
    if finalizers.is_empty() && !kind.behaviour.is_held(&marked) {
        return Deletion::Remove;
    }
    if !first && finalizers == before {
        return Deletion::Waiting;
    }
    if finalizers != before {
        marked["metadata"]["finalizers"] = json!(finalizers);
    }
    if first {
        marked["metadata"]["deletionTimestamp"] = stamp(now);
        marked["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        marked["metadata"]["generation"] =
            json!(old["metadata"]["generation"].as_i64().unwrap_or_default() + 1);
    }
    Deletion::Mark(marked)
}

/// Whether an updated object is marked for deletion and no finalizer holds it any more.
pub(crate) fn is_released(kind: &Kind, object: &Value) -> bool {
    !meta(object, "deletionTimestamp").is_empty()
        && texts(&object["metadata"]["finalizers"]).is_empty()
        && !kind.behaviour.is_held(object)
}

#[cfg(test)]
mod tests;
