//! The few bodies that kubectl's typed commands send as protobuf, as JSON.
//!
//! `kubectl create namespace`, `kubectl auth can-i` (`--list` too) and `kubectl auth whoami` speak
//! nothing else, and typed clients' deletions carry their options so.
//! Owns the envelope (the magic `k8s\0` and runtime.Unknown) and the fields those commands set;
//! any other kind is refused as 415, answers are always JSON. Field numbers are those of the
//! generated.proto files of Kubernetes's API packages, which never change.

use crate::failure::Failure;
use serde_json::{Map, Value, json};

/// As in `Content-Type`.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// A message's fields that this reader knows.
struct Message(&'static [(u64, &'static str, Type)]);

#[derive(Clone, Copy)]
enum Type {
    Text,
    /// Any number of texts.
    Texts,
    /// `map<string, string>`.
    TextMap,
    Nested(&'static Message),
}

use Type::{Nested, Text, TextMap, Texts};

static METADATA: Message = Message(&[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
]);
static NAMESPACE: Message = Message(&[(1, "metadata", Nested(&METADATA))]);
static SELF_SUBJECT_REVIEW: Message = Message(&[(1, "metadata", Nested(&METADATA))]);
static RESOURCE_ATTRIBUTES: Message = Message(&[
    (1, "namespace", Text),
    (2, "verb", Text),
    (3, "group", Text),
    (4, "version", Text),
    (5, "resource", Text),
    (6, "subresource", Text),
    (7, "name", Text),
    (8, "fieldSelector", Nested(&FIELD_SELECTOR)),
]);
static FIELD_SELECTOR: Message = Message(&[(1, "rawSelector", Text)]);
static NON_RESOURCE_ATTRIBUTES: Message = Message(&[(1, "path", Text), (2, "verb", Text)]);
static ACCESS_SPEC: Message = Message(&[
    (1, "resourceAttributes", Nested(&RESOURCE_ATTRIBUTES)),
    (2, "nonResourceAttributes", Nested(&NON_RESOURCE_ATTRIBUTES)),
]);
static SELF_SUBJECT_ACCESS_REVIEW: Message = Message(&[
    (1, "metadata", Nested(&METADATA)),
    (2, "spec", Nested(&ACCESS_SPEC)),
]);
static SUBJECT_SPEC: Message = Message(&[
    (1, "resourceAttributes", Nested(&RESOURCE_ATTRIBUTES)),
    (2, "nonResourceAttributes", Nested(&NON_RESOURCE_ATTRIBUTES)),
    (3, "user", Text),
    (4, "groups", Texts),
    (6, "uid", Text),
]);
/// Local ones alike.
static SUBJECT_ACCESS_REVIEW: Message = Message(&[
    (1, "metadata", Nested(&METADATA)),
    (2, "spec", Nested(&SUBJECT_SPEC)),
]);
static RULES_SPEC: Message = Message(&[(1, "namespace", Text)]);
static SELF_SUBJECT_RULES_REVIEW: Message = Message(&[
    (1, "metadata", Nested(&METADATA)),
    (2, "spec", Nested(&RULES_SPEC)),
]);
static TYPE_META: Message = Message(&[(1, "apiVersion", Text), (2, "kind", Text)]);

static PRECONDITIONS: Message = Message(&[(1, "uid", Text), (2, "resourceVersion", Text)]);
static DELETE_OPTIONS: Message = Message(&[
    (2, "preconditions", Nested(&PRECONDITIONS)),
    (4, "propagationPolicy", Text),
    (5, "dryRun", Text),
]);

/// Reads a body.
pub(crate) fn decode(body: &[u8]) -> Result<Value, Failure> {
    let malformed = || Failure::bad_request("the body is not Kubernetes protobuf");
    let envelope = body.strip_prefix(b"k8s\0").ok_or_else(malformed)?;
    let (mut meta, mut raw) = (json!({}), &[][..]);
    for field in fields(envelope) {
        match field.ok_or_else(malformed)? {
            (1, bytes) => meta = message(&TYPE_META, bytes).ok_or_else(malformed)?,
            (2, bytes) => raw = bytes,
            _ => {}
        }
    }
    let kind = match (meta["apiVersion"].as_str(), meta["kind"].as_str()) {
        (Some("v1"), Some("Namespace")) => &NAMESPACE,
        (Some("authorization.k8s.io/v1"), Some("SelfSubjectAccessReview")) => {
            &SELF_SUBJECT_ACCESS_REVIEW
        }
        (
            Some("authorization.k8s.io/v1"),
            Some("SubjectAccessReview" | "LocalSubjectAccessReview"),
        ) => &SUBJECT_ACCESS_REVIEW,
        (Some("authorization.k8s.io/v1"), Some("SelfSubjectRulesReview")) => {
            &SELF_SUBJECT_RULES_REVIEW
        }
        (Some("authentication.k8s.io/v1"), Some("SelfSubjectReview")) => &SELF_SUBJECT_REVIEW,
        // Of whatever group the deleted object is.
        (_, Some("DeleteOptions")) => &DELETE_OPTIONS,
        _ => return Err(Failure::media_type(MEDIA_TYPE, "application/json")),
    };
    let mut object = message(kind, raw).ok_or_else(malformed)?;
    for member in ["apiVersion", "kind"] {
        object[member] = meta[member].clone();
    }
    if object["dryRun"].is_string() {
        object["dryRun"] = json!([object["dryRun"]]);
    }
    Ok(object)
}

/// Reads the known fields of a message; empty texts are absent, as Go writes them.
fn message(known: &Message, bytes: &[u8]) -> Option<Value> {
    let mut object = Map::new();
    for field in fields(bytes) {
        let (number, bytes) = field?;
        let Some((_, name, kind)) = known.0.iter().find(|(known, ..)| *known == number) else {
            continue;
        };
        match kind {
            Text => {
                let text = std::str::from_utf8(bytes).ok()?;
                if !text.is_empty() {
                    object.insert((*name).to_owned(), text.into());
                }
            }
            Texts => {
                let text = std::str::from_utf8(bytes).ok()?;
                let list = object.entry(*name).or_insert_with(|| json!([]));
                list.as_array_mut()?.push(text.into());
            }
            Nested(below) => drop(object.insert((*name).to_owned(), message(below, bytes)?)),
            TextMap => {
                let (mut key, mut value) = ("", "");
                for field in fields(bytes) {
                    match field? {
                        (1, bytes) => key = std::str::from_utf8(bytes).ok()?,
                        (2, bytes) => value = std::str::from_utf8(bytes).ok()?,
                        _ => {}
                    }
                }
                let map = object.entry(*name).or_insert_with(|| json!({}));
                map[key] = value.into();
            }
        }
    }
    Some(Value::Object(object))
}

/// Number and bytes of each field; those of fixed size are passed over, None ends a malformed one.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u64, &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let mut take = || {
            let tag = varint(&mut bytes)?;
            let length = match tag & 7 {
                0 => return varint(&mut bytes).map(|_| (0, &[][..])),
                1 => 8,
                2 => usize::try_from(varint(&mut bytes)?).ok()?,
                5 => 4,
                _ => return None,
            };
            let (field, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            Some(if tag & 7 == 2 {
                (tag >> 3, field)
            } else {
                (0, &[][..])
            })
        };
        let taken = take();
        if taken.is_none() {
            bytes = &[];
        }
        Some(taken)
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
