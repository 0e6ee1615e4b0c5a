//! Parameters of requests: their types, what they may be and what they do.

use serde_json::{Value, json};

fn query(name: &str, schema: Value, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": schema})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn words(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn number() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn path(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": text()})
}

/// Of every path.
pub(super) fn pretty() -> Value {
    query(
        "pretty",
        text(),
        "If 'true', the answer is indented for people. Defaults to 'false' unless the user-agent is a browser or a command-line HTTP tool (curl and wget).",
    )
}

pub(super) fn namespace() -> Value {
    path("namespace", "Namespace that the object lives in.")
}

pub(super) fn name(kind: &str) -> Value {
    path("name", &format!("Name of the {kind}."))
}

fn dry_run() -> Value {
    query(
        "dryRun",
        words(&["All"]),
        "With All, everything is checked and answered as if it were done, and nothing is stored.",
    )
}

/// Of every write of an object.
pub(super) fn writing() -> Vec<Value> {
    vec![
        dry_run(),
        query(
            "fieldManager",
            json!({"type": "string", "maxLength": 128}),
            "Name of whoever makes the change, at most 128 printable characters; the fields written are recorded as this manager's. Required to apply.",
        ),
        query(
            "fieldValidation",
            words(&["Ignore", "Strict", "Warn"]),
            "What happens to fields that are unknown or given twice. Ignore: they are dropped silently. Warn: they are dropped and a warning is sent for each (the default). Strict: the request is refused with 400, naming all of them.",
        ),
    ]
}

/// Of patches besides.
pub(super) fn patching() -> Vec<Value> {
    let mut parameters = writing();
    parameters.push(query(
        "force",
        flag(),
        "Take over fields that conflict because another manager has set them. Only for apply.",
    ));
    parameters
}

/// Of deletions.
pub(super) fn deleting() -> Vec<Value> {
    vec![
        dry_run(),
        query(
            "gracePeriodSeconds",
            number(),
            "Seconds the object gets to end by itself. Objects of this server end as soon as their finalizers are gone.",
        ),
        query(
            "orphanDependents",
            flag(),
            "Deprecated: use propagationPolicy. Whether dependent objects are left behind.",
        ),
        query(
            "propagationPolicy",
            words(&["Background", "Foreground", "Orphan"]),
            "What happens to dependent objects. Orphan: they stay. Background: they are deleted afterwards. Foreground: they are deleted first.",
        ),
    ]
}

/// Of choosing from a collection.
pub(super) fn selecting() -> Vec<Value> {
    vec![
        query(
            "fieldSelector",
            text(),
            "Only objects whose fields match, such as metadata.name=x. Which fields a kind knows is its own.",
        ),
        query(
            "labelSelector",
            text(),
            "Only objects whose labels match, such as tier=front,stage!=dev or stage in (a,b).",
        ),
    ]
}

fn paging() -> Vec<Value> {
    vec![
        query(
            "limit",
            number(),
            "Most objects in one answer. If there are more, metadata.continue of the answer leads to the rest, as all was at the time of the first answer.",
        ),
        query(
            "continue",
            text(),
            "metadata.continue of the answer before, with the same other parameters. If that time is no longer kept the answer is 410 with another token, which leads to the rest as it is now.",
        ),
        query(
            "resourceVersion",
            text(),
            "How old the answer may be, or from when on changes are watched; see resourceVersionMatch.",
        ),
        query(
            "resourceVersionMatch",
            words(&["Exact", "NotOlderThan"]),
            "How resourceVersion binds a list: exactly that version, or that one or any later.",
        ),
        query(
            "timeoutSeconds",
            number(),
            "How long the request may last; a watch ends in good order then.",
        ),
    ]
}

/// Of lists and watches.
pub(super) fn listing() -> Vec<Value> {
    let mut parameters = selecting();
    parameters.extend(paging());
    parameters.extend([
        query(
            "watch",
            flag(),
            "Send changes as they happen, one WatchEvent a line, from resourceVersion on.",
        ),
        query(
            "allowWatchBookmarks",
            flag(),
            "Send events of type BOOKMARK, which carry nothing but the version reached.",
        ),
        query(
            "sendInitialEvents",
            flag(),
            "Begin a watch with an ADDED event for every object there is, then a bookmark with the annotation k8s.io/initial-events-end. Needs resourceVersionMatch=NotOlderThan.",
        ),
    ]);
    parameters
}

/// Of deleting what was chosen.
pub(super) fn deleting_many() -> Vec<Value> {
    let mut parameters = deleting();
    parameters.extend(selecting());
    parameters.extend(paging());
    parameters
}
