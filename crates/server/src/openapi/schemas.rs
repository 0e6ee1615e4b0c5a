//! Named schemas: of every kind and its list, and of what all requests and answers share.
//!
//! Kubernetes's own types are described by k8s-openapi, ours by their derive. Names are those of
//! Kubernetes, since clients look some of them up; ours begin with the group read backwards.

use super::{SCHEMAS, references};
use crate::kinds::{Kind, Kinds, annotate};
use crate::reviews::{REVIEWS, VERSION};
use k8s_openapi::api::authentication::v1 as authentication;
use k8s_openapi::api::authorization::v1 as authorization;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::apimachinery::pkg::version::Info;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Where the schemas of metadata and of answers live.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// A reference to one of [`META`]'s.
pub(super) fn meta(name: &str) -> Value {
    refer(&format!("{META}.{name}"))
}

pub(super) fn refer(name: &str) -> Value {
    json!({"$ref": format!("{SCHEMAS}{name}")})
}

/// A reference with words of its own: beside a `$ref` nothing else counts.
fn described(reference: &Value, description: &str) -> Value {
    json!({"allOf": [reference], "description": description})
}

/// All schemas, by name.
pub(super) struct Schemas(Map<String, Value>);

fn extend_kind(schema: &mut Value, kinds: &[(&str, &str, &str)]) {
    let list = kinds.iter();
    let list = list
        .map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}));
    schema["x-kubernetes-group-version-kind"] = list.collect();
}

/// Name of a kind's schema.
pub(super) fn name_of(kind: &Kind) -> String {
    if kind.definition.is_some() {
        // As Kubernetes names them: by the first word of the group.
        let group = kind
            .group
            .split('.')
            .next()
            .filter(|group| !group.is_empty());
        return format!(
            "io.k8s.api.{}.{}.{}",
            group.unwrap_or("core"),
            kind.version,
            kind.kind
        );
    }
    let mut words: Vec<&str> = kind.group.split('.').collect();
    words.reverse();
    format!("{}.{}.{}", words.join("."), kind.version, kind.kind)
}

/// Name of a review's schema.
pub(super) fn name_of_review(group: &str, kind: &str) -> String {
    let group = group.split('.').next().unwrap_or_default();
    format!("io.k8s.api.{group}.{VERSION}.{kind}")
}

impl Schemas {
    pub(super) fn new(kinds: &Kinds) -> Self {
        let mut generator = SchemaSettings::openapi3().into_generator();
        fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
            let _ = generator.subschema_for::<T>();
        }
        add::<meta::ObjectMeta>(&mut generator);
        add::<meta::ListMeta>(&mut generator);
        add::<meta::Status>(&mut generator);
        add::<meta::DeleteOptions>(&mut generator);
        add::<meta::APIResourceList>(&mut generator);
        add::<Info>(&mut generator);
        add::<authentication::SelfSubjectReview>(&mut generator);
        add::<authentication::TokenReview>(&mut generator);
        add::<authorization::LocalSubjectAccessReview>(&mut generator);
        add::<authorization::SelfSubjectAccessReview>(&mut generator);
        add::<authorization::SelfSubjectRulesReview>(&mut generator);
        add::<authorization::SubjectAccessReview>(&mut generator);
        for kind in kinds.iter() {
            if let Some(definition) = kind.definition {
                let _ = definition(&mut generator);
            }
        }
        let mut schemas = generator.take_definitions(true);
        schemas.values_mut().for_each(annotate);
        for kind in kinds.iter() {
            let name = name_of(kind);
            if kind.definition.is_none() {
                let mut schema = kind.schema.clone();
                schema["properties"]["metadata"] =
                    described(&meta("ObjectMeta"), "Metadata that every object has.");
                schemas.insert(name.clone(), schema);
            }
            let list = list(&kind.kind, &name, &schemas);
            for (name, word, mut schema) in [
                (name.clone(), kind.kind.clone(), schemas[&name].clone()),
                (format!("{name}List"), format!("{}List", kind.kind), list),
            ] {
                extend_kind(&mut schema, &[(&kind.group, &kind.version, &word)]);
                schemas.insert(name, schema);
            }
        }
        for review in &REVIEWS {
            if let Some(schema) = schemas.get_mut(&name_of_review(review.group, review.kind)) {
                extend_kind(schema, &[(review.group, VERSION, review.kind)]);
            }
        }
        let groups: BTreeSet<(&str, &str)> = kinds
            .iter()
            .map(|kind| (kind.group.as_str(), kind.version.as_str()))
            .collect();
        let event = json!({
            "type": "object", "description": "One change of a watched collection.",
            "required": ["type", "object"],
            "properties": {
                "type": {"type": "string", "description": "ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."},
                "object": {"type": "object", "description": "The object as it is now, before it was deleted, or a Status if the watch failed.", "x-kubernetes-preserve-unknown-fields": true},
            },
        });
        schemas.insert(format!("{META}.WatchEvent"), event);
        for (name, all) in [
            ("DeleteOptions", true),
            ("WatchEvent", true),
            ("Status", false),
            ("APIResourceList", false),
        ] {
            if let Some(schema) = schemas.get_mut(&format!("{META}.{name}")) {
                let of = groups.iter().filter(|(group, _)| all || group.is_empty());
                let of: Vec<_> = of
                    .map(|(group, version)| (*group, *version, name))
                    .collect();
                extend_kind(schema, &of);
            }
        }
        let patch = json!({"type": "object", "description": "The changed part of an object, in the form that the content type names."});
        schemas.insert(format!("{META}.Patch"), patch);
        let operation = json!({
            "type": "object", "required": ["op", "path"],
            "properties": {
                "op": {"type": "string", "enum": ["add", "copy", "move", "remove", "replace", "test"]},
                "path": {"type": "string"}, "from": {"type": "string"}, "value": {"nullable": true},
            },
        });
        schemas.insert(
            "dev.boatyard.JSONPatch".to_owned(),
            json!({"type": "array", "description": "Operations of RFC 6902, applied in order.", "items": operation}),
        );
        let token = json!({
            "type": "object", "required": ["token"],
            "properties": {"token": {"type": "string", "description": "What the runner joins with."}},
        });
        schemas.insert("dev.boatyard.Token".to_owned(), token);
        Self(schemas)
    }

    /// Those that `paths` need, directly or through others.
    pub(super) fn used_by(&self, paths: &Map<String, Value>) -> Map<String, Value> {
        let mut wanted = BTreeSet::new();
        for path in paths.values() {
            references(path, &mut wanted);
        }
        let mut used = Map::new();
        while let Some(name) = wanted.pop_first() {
            if let Some(schema) = self.0.get(&name).filter(|_| !used.contains_key(&name)) {
                references(schema, &mut wanted);
                used.insert(name, schema.clone());
            }
        }
        used
    }

    pub(super) fn has_status(&self, name: &str) -> bool {
        self.0[name]["properties"]["status"].is_object()
    }
}

fn list(kind: &str, name: &str, schemas: &Map<String, Value>) -> Value {
    let text = |member: &str| {
        // In the words of the kind itself.
        let description = schemas[name]["properties"][member]["description"].clone();
        json!({"type": "string", "description": description})
    };
    json!({
        "type": "object", "description": format!("{kind}List is a list of {kind} objects."),
        "required": ["items"],
        "properties": {
            "apiVersion": text("apiVersion"),
            "kind": text("kind"),
            "metadata": described(&meta("ListMeta"), "Where the list stands in time, and how to go on with it."),
            "items": {"type": "array", "description": format!("The objects of kind {kind}."), "items": refer(name)},
        },
    })
}
