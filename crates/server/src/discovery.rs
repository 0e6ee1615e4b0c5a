//! What the server tells of itself: groups, resources, schemas, version.

use crate::kinds::{Kind, Kinds};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

fn verbs() -> Value {
    json!([
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch"
    ])
}

/// Groups of reviews: questions that are answered and never stored.
const REVIEWS: [&str; 2] = ["authorization.k8s.io", "authentication.k8s.io"];

fn groups(kinds: &Kinds) -> BTreeMap<&str, &str> {
    kinds
        .iter()
        .filter(|kind| !kind.group.is_empty())
        .map(|kind| (kind.group.as_str(), kind.version.as_str()))
        .collect()
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

fn group(name: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version})
}

/// `/apis`.
pub(crate) fn api_groups(kinds: &Kinds) -> Value {
    let mut list: Vec<Value> = groups(kinds)
        .into_iter()
        .map(|(name, version)| group(name, version))
        .collect();
    list.extend(REVIEWS.map(|name| group(name, "v1")));
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
}

/// `/apis/<group>`.
pub(crate) fn api_group(kinds: &Kinds, name: &str) -> Option<Value> {
    let reviews = REVIEWS.contains(&name).then_some("v1");
    let version = groups(kinds).get(name).copied().or(reviews);
    version.map(|version| group(name, version))
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub(crate) fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for kind in kinds
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        let mut entry = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs(), "shortNames": kind.short_names, "categories": kind.categories});
        if let Some(entry) = entry.as_object_mut() {
            entry.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
        }
        list.push(entry);
        if kind.has_status {
            list.push(json!({"name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced, "kind": kind.kind, "verbs": ["get", "patch", "update"]}));
        }
    }
    match group {
        "authorization.k8s.io" => list.push(json!({"name": "selfsubjectaccessreviews", "singularName": "selfsubjectaccessreview", "namespaced": false, "kind": "SelfSubjectAccessReview", "verbs": ["create"]})),
        "authentication.k8s.io" => list.push(json!({"name": "selfsubjectreviews", "singularName": "selfsubjectreview", "namespaced": false, "kind": "SelfSubjectReview", "verbs": ["create"]})),
        _ => {}
    }
    let name = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    (!list.is_empty()).then(|| json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": list}))
}

/// `/version`.
pub(crate) fn version() -> Value {
    // kubectl compares this with its own: the machinery's version, with ours beside it.
    json!({"major": "1", "minor": "36", "gitVersion": format!("v1.36.0+boatyard.{}", env!("CARGO_PKG_VERSION")), "platform": "linux", "goVersion": "", "compiler": "", "gitCommit": "", "gitTreeState": "", "buildDate": ""})
}

/// `/openapi/v3`.
pub(crate) fn openapi_index(kinds: &Kinds) -> Value {
    let mut paths = Map::new();
    for kind in kinds.iter() {
        let path = path_of(kind);
        let link = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(path, json!({"serverRelativeURL": link}));
    }
    json!({ "paths": paths })
}

fn path_of(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("api/{}", kind.version)
    } else {
        format!("apis/{}/{}", kind.group, kind.version)
    }
}

/// `/openapi/v3/<path>`: schemas, and the paths with the parameters kubectl looks for.
pub(crate) fn openapi(kinds: &Kinds, wanted: &str) -> Option<Value> {
    let (mut schemas, mut paths) = (Map::new(), Map::new());
    for kind in kinds.iter().filter(|kind| path_of(kind) == wanted) {
        let mut reversed: Vec<&str> = kind
            .group
            .split('.')
            .filter(|part| !part.is_empty())
            .collect();
        reversed.reverse();
        let prefix = if kind.group.is_empty() {
            "io.k8s.api.core".to_owned()
        } else {
            reversed.join(".")
        };
        let name = format!("{prefix}.{}.{}", kind.version, kind.kind);
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        schemas.insert(name, kind.schema.clone());
        let collection = if kind.namespaced {
            format!(
                "/{}/namespaces/{{namespace}}/{}",
                path_of(kind),
                kind.plural
            )
        } else {
            format!("/{}/{}", path_of(kind), kind.plural)
        };
        let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let parameter = |name: &str, place: &str, required: bool| json!({"name": name, "in": place, "required": required, "schema": {"type": "string"}});
        let mut common: Vec<Value> = if kind.namespaced {
            vec![parameter("namespace", "path", true)]
        } else {
            Vec::new()
        };
        let writes: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation"]
            .iter()
            .map(|name| parameter(name, "query", false))
            .collect();
        let content = json!({"application/json": {"schema": reference}});
        let responses = json!({"200": {"description": "OK", "content": content}});
        let operation = |action: &str, parameters: &[Value], body: bool| {
            let mut operation = json!({"operationId": format!("{action}{}", kind.kind), "responses": responses, "parameters": parameters, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk});
            if body {
                operation["requestBody"] = json!({"content": content, "required": true});
            }
            operation
        };
        paths.insert(collection.clone(), json!({"parameters": common, "get": operation("list", &[], false), "post": operation("post", &writes, true)}));
        common.push(parameter("name", "path", true));
        let patch_content = json!({"application/merge-patch+json": {"schema": {"type": "object"}}, "application/json-patch+json": {"schema": {"type": "array", "items": {"type": "object"}}}});
        let mut patch = operation("patch", &writes, false);
        patch["requestBody"] = json!({"content": patch_content, "required": true});
        paths.insert(
            format!("{collection}/{{name}}"),
            json!({"parameters": common, "get": operation("get", &[], false), "put": operation("put", &writes, true), "patch": patch, "delete": operation("delete", &[], false)}),
        );
    }
    (!schemas.is_empty()).then(|| json!({"openapi": "3.0.0", "info": {"title": "Boatyard", "version": env!("CARGO_PKG_VERSION")}, "paths": paths, "components": {"schemas": schemas}}))
}
