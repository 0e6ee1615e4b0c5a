//! The parsers of what clients send, one entry for each, for a fuzzer.
//!
//! Owns what must hold of any input: an answer, never a panic, and the laws written beside each
//! target. Compiled with the feature `fuzzing` alone and by unit tests, which run every seed and
//! every input that ever broke something (`fuzz/corpus`). The fuzzer is `fuzz/main.rs`, started by
//! `cargo xtask fuzz`.

use crate::body;
use crate::kinds::Kinds;
use crate::managed;
use crate::patches;
use crate::request::{self, Query};
use crate::selectors::{Fields, Labels};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use std::sync::LazyLock;

/// Target and what it does with an input.
type Target = (&'static str, fn(&[u8]));

/// All of them, by name.
pub const TARGETS: [Target; 9] = [
    ("json", |data| drop(parse("application/json", data))),
    ("yaml", yaml),
    ("protobuf", |data| {
        drop(parse("application/vnd.kubernetes.protobuf", data));
    }),
    ("selectors", selectors),
    ("request", request),
    ("jsonpatch", json_patch),
    ("merge", merge),
    ("schema", schema),
    ("managed", managed_fields),
];

static KINDS: LazyLock<Kinds> = LazyLock::new(Kinds::default);

/// Largest input whose time says something about the parser and not about its size.
const LARGEST: usize = 64 * 1024;

/// Feeds an input to a target; false when there is no such target.
#[must_use]
pub fn run(name: &str, data: &[u8]) -> bool {
    let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        return false;
    };
    if data.len() <= LARGEST {
        target(data);
    }
    true
}

fn parse(media: &'static str, data: &[u8]) -> Option<Value> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    body::parse(&headers, data).ok().map(|parsed| parsed.value)
}

fn json(data: &[u8]) -> Option<Value> {
    parse("application/json", data)
}

/// What YAML says can be said in JSON, and is taken there. (Numbers of 17 digits may differ in the
/// last one, so the values are not compared.)
fn yaml(data: &[u8]) {
    if let Some(value) = parse("application/yaml", data) {
        assert!(json(value.to_string().as_bytes()).is_some());
    }
}

/// Two inputs in one, with an empty line between.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let cut = data.windows(2).position(|pair| pair == b"\n\n");
    cut.map_or((data, &[]), |cut| (&data[..cut], &data[cut + 2..]))
}

fn selectors(data: &[u8]) {
    let (selector, object) = halves(data);
    let Ok(selector) = std::str::from_utf8(selector) else {
        return;
    };
    let object = json(object).unwrap_or_default();
    if let Ok(labels) = Labels::parse(selector) {
        labels.matches(&object);
    }
    if let Ok(fields) = Fields::parse(selector, &["spec.runnerName".to_owned()]) {
        fields.matches(&object);
    }
}

/// A path with its query.
fn request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let parsed = request::parse_path(path);
    let Ok(query) = Query::parse(Some(query)) else {
        return;
    };
    let known = parsed.and_then(|path| KINDS.find(&path.group, &path.version, &path.plural));
    if let Some(kind) = known {
        drop(query.selection(kind));
    }
    drop((query.write_options(), query.rows()));
    if let Ok(page) = query.page()
        && let (Some(at), Some(after)) = (page.at, page.after)
    {
        // A token that is taken says what it was made of.
        let token = request::continue_token(Some(at), &after);
        let again = Query::parse(Some(&format!("continue={token}")));
        let again = again.ok().and_then(|query| query.page().ok());
        assert_eq!(again.and_then(|page| page.after), Some(after));
    }
}

/// An object, and a JSON patch of it.
fn json_patch(data: &[u8]) {
    let (object, patch) = halves(data);
    let (Some(mut object), Some(patch)) = (json(object), json(patch)) else {
        return;
    };
    let Ok(patch) = serde_json::from_value(patch) else {
        return;
    };
    if patches::apply_json(&mut object, &patch).is_ok() {
        // What was made can be stored and read again.
        let text = object.to_string();
        let again = serde_json::from_str::<Value>(&text);
        assert!(again.is_ok(), "{again:?} of {text}");
    }
}

/// An object, and a merge patch of it, plain and strategic.
fn merge(data: &[u8]) {
    let (object, patch) = halves(data);
    let (Some(object), Some(patch)) = (json(object), json(patch)) else {
        return;
    };
    let mut strategic = object.clone();
    patches::apply(&mut strategic, &patch);
    let mut plain = object;
    json_patch::merge(&mut plain, &patch);
    // Applied again it changes nothing more.
    let once = plain.clone();
    json_patch::merge(&mut plain, &patch);
    assert_eq!(plain, once);
}

/// An object, checked as every kind, and an older one that it replaces.
fn schema(data: &[u8]) {
    let (new, old) = halves(data);
    let Some(new) = json(new) else { return };
    let old = json(old);
    for kind in KINDS.iter() {
        let mut checked = new.clone();
        let found = kind.structure.check(&mut checked, old.as_ref());
        // What was removed and filled in is known.
        let again = kind.structure.check(&mut checked, old.as_ref());
        assert!(again.unknown.is_empty() || found.unknown.len() >= 20);
    }
}

/// Fields as managers have them, and a configuration merged into an object.
fn managed_fields(data: &[u8]) {
    let (first, second) = halves(data);
    let Some(first) = json(first) else { return };
    if let Ok(fields) = managed::Fields::decode(&first) {
        let again = managed::Fields::decode(&fields.encode());
        assert!(again.is_ok_and(|again| again == fields));
    }
    if managed::check_entries(&first).is_empty() {
        let live = json(second).unwrap_or_default();
        for kind in KINDS.iter() {
            let write = managed::Write {
                kind,
                manager: "fuzz",
                subresource: "",
                now: jiff::Timestamp::UNIX_EPOCH,
            };
            let mut live = live.clone();
            if live.is_object() && live["metadata"].is_object() {
                live["metadata"]["managedFields"] = first.clone();
                drop(managed::apply(&write, Some(&live), &live, false));
            }
        }
    }
    // A configuration that is no object is refused before.
    if let Some(second) = json(second).filter(Value::is_object) {
        for kind in KINDS.iter() {
            let write = managed::Write {
                kind,
                manager: "fuzz",
                subresource: "",
                now: jiff::Timestamp::UNIX_EPOCH,
            };
            drop(managed::apply(&write, None, &second, true));
            // What is stored is an object with metadata.
            if first["metadata"].is_object() {
                drop(managed::apply(&write, Some(&first), &second, true));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Every seed, and every input that broke something once.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_input_kept_is_survived() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, target) in TARGETS {
            let folder = std::fs::read_dir(corpus.join(name)).unwrap();
            let inputs: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
            assert!(!inputs.is_empty(), "{name} has seeds");
            for input in inputs {
                target(&std::fs::read(input).unwrap());
            }
        }
    }
}
