//! OpenAPI: every path, verb, parameter and schema, as version 3 per group and as one version 2.
//!
//! All is made from the registered kinds, once, when somebody first asks, and kept. Version 3 is
//! what `kubectl explain` and current clients read; version 2 is its translation, for clients that
//! know nothing else, as JSON and as the protobuf message those clients ask for.
//!
//! Read next: `schemas`, `operations`, `v2`.

mod gnostic;
mod operations;
mod parameters;
mod schemas;
mod v2;

use crate::discovery::{Kept, group_version};
use crate::failure::Failure;
use crate::http_api::{Accept, Body, full};
use crate::kinds::Kinds;
use crate::reviews::{REVIEWS, VERSION};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How `$ref`s to schemas begin.
const SCHEMAS: &str = "#/components/schemas/";

/// Every OpenAPI document.
#[derive(Debug)]
pub(crate) struct Documents {
    index: Kept,
    /// By what follows `/openapi/v3/`.
    groups: BTreeMap<String, Kept>,
    v2: Kept,
    v2_protobuf: Kept,
}

/// `api/v1` or `apis/group/version`.
fn root(group: &str, version: &str) -> String {
    let root = if group.is_empty() { "api" } else { "apis" };
    format!("{root}/{}", group_version(group, version))
}

impl Documents {
    pub(crate) fn new(kinds: &Kinds) -> Self {
        let schemas = schemas::Schemas::new(kinds);
        let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for kind in kinds.iter() {
            let root = root(&kind.group, &kind.version);
            let group = paths.entry(root.clone()).or_default();
            operations::of_group(group, &root, &kind.group, &kind.version);
            operations::of_kind(group, &root, kind, &schemas);
        }
        for review in &REVIEWS {
            let root = root(review.group, VERSION);
            let group = paths.entry(root.clone()).or_default();
            operations::of_group(group, &root, review.group, VERSION);
            operations::of_review(group, &root, review);
        }
        operations::of_server(paths.entry("version".to_owned()).or_default());
        let (mut groups, mut all) = (BTreeMap::new(), Map::new());
        for (name, paths) in paths {
            let document = document(&paths, schemas.used_by(&paths));
            groups.insert(name, Kept::new("application/json", document.to_string()));
            all.extend(paths);
        }
        let links: Map<String, Value> = groups
            .iter()
            .map(|(name, kept): (&String, &Kept)| {
                let link = format!("/openapi/v3/{name}?hash={}", kept.hash());
                (name.clone(), json!({"serverRelativeURL": link}))
            })
            .collect();
        let index = json!({ "paths": links });
        let old = v2::document(&document(&all, schemas.used_by(&all)));
        Self {
            index: Kept::new("application/json", index.to_string()),
            groups,
            v2_protobuf: Kept::new(PROTOBUF_V2_ANSWER, gnostic::encode(&old)),
            v2: Kept::new("application/json", old.to_string()),
        }
    }

    /// `/openapi/v3`.
    pub(crate) fn index(
        &self,
        accept: &Accept,
        asked: &HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        json_only(accept)?;
        Ok(self.index.answer(asked))
    }

    /// `/openapi/v3/<name>`; a hash in the query says that the answer never changes.
    pub(crate) fn group(
        &self,
        name: &str,
        hash: Option<&str>,
        accept: &Accept,
        asked: &HeaderMap,
    ) -> Option<Result<Response<Body>, Failure>> {
        let kept = self.groups.get(name)?;
        if let Err(failure) = json_only(accept) {
            return Some(Err(failure));
        }
        Some(Ok(match hash {
            // It was made by another version of this server: the newest is somewhere else.
            Some(hash) if hash != kept.hash() => {
                let mut response = Response::new(full(""));
                *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
                let place = format!("/openapi/v3/{name}?hash={}", kept.hash());
                if let Ok(place) = HeaderValue::try_from(place) {
                    response.headers_mut().insert(header::LOCATION, place);
                }
                response
            }
            Some(_) => {
                let mut response = kept.answer(asked);
                let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
                response
                    .headers_mut()
                    .insert(header::CACHE_CONTROL, forever);
                response
            }
            None => kept.answer(asked),
        }))
    }

    /// `/openapi/v2`.
    pub(crate) fn v2(&self, accept: &Accept, asked: &HeaderMap) -> Result<Response<Body>, Failure> {
        let kept = accept.choose(|clause| {
            if clause.get("as").is_some() {
                None
            } else if clause.takes("application/json") {
                Some(&self.v2)
            } else if PROTOBUF_V2.iter().any(|media| clause.takes(media)) {
                Some(&self.v2_protobuf)
            } else {
                None
            }
        })?;
        Ok(kept.answer(asked))
    }
}

/// The names under which clients ask for version 2 as protobuf.
const PROTOBUF_V2: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    PROTOBUF_V2_ANSWER,
];
/// The one of them whose spelling every parser of media types takes.
const PROTOBUF_V2_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Version 3 is served as JSON alone: clients that prefer protobuf name JSON too.
fn json_only(accept: &Accept) -> Result<(), Failure> {
    accept.choose(|clause| {
        (clause.get("as").is_none() && clause.takes("application/json")).then_some(())
    })
}

fn document(paths: &Map<String, Value>, schemas: Map<String, Value>) -> Value {
    let token = json!({"type": "apiKey", "in": "header", "name": "authorization", "description": "Bearer token"});
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Boatyard", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"BearerToken": token}},
        "security": [{"BearerToken": []}],
    })
}

/// Names of the schemas that something refers to.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                found.extend(name.strip_prefix(SCHEMAS).map(str::to_owned));
            }
            for member in members.values() {
                references(member, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                references(item, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
