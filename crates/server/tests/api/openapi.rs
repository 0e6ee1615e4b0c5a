//! OpenAPI as clients fetch it.

use crate::harness::{ENVIRONMENTS, Server, Who};
use serde_json::{Value, json};

const PROTOBUF_V2: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

#[tokio::test]
async fn a_link_with_its_hash_never_changes_and_an_old_one_leads_to_the_new() {
    let server = Server::start().await;
    let index = server.get("/openapi/v3").await.ok();
    let paths = index["paths"].as_object().unwrap();
    for group in [
        "api/v1",
        "apis/boatyard.dev/v1",
        "apis/coordination.k8s.io/v1",
        "apis/authorization.k8s.io/v1",
        "version",
    ] {
        assert!(paths.contains_key(group), "{group}");
    }
    for link in paths.values() {
        let link = link["serverRelativeURL"].as_str().unwrap();
        let (path, hash) = link.split_once("?hash=").unwrap();
        let fresh = server.get(link).await;
        assert_eq!(fresh.headers["etag"], format!("\"{hash}\""));
        let cache = fresh.headers["cache-control"].to_str().unwrap();
        assert!(cache.contains("immutable"), "{cache}");
        let document = fresh.ok();
        let bare = server.get(path).await;
        assert!(!bare.headers.contains_key("cache-control"));
        assert_eq!(bare.ok(), document);
        let old = server.get(&format!("{path}?hash=0123")).await;
        assert_eq!(old.status, 301);
        assert_eq!(old.headers["location"], link);
    }
}

#[tokio::test]
async fn protobuf_is_served_of_version_2_alone() {
    let server = Server::start().await;
    let ask = async |path: &str, accept: &str| {
        let headers = [("accept", accept)];
        server.tell(&Who::Admin, "GET", path, &headers, "").await
    };
    let v3 = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    let refused = ask("/openapi/v3/api/v1", v3).await;
    assert_eq!(refused.status, 406);
    let json = ask("/openapi/v3/api/v1", &format!("{v3},application/json")).await;
    assert_eq!(json.headers["content-type"], "application/json");
    let (old, bytes) = server
        .raw(&Who::Admin, "/openapi/v2", &[("accept", PROTOBUF_V2)])
        .await;
    assert_eq!(
        old["content-type"],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    assert!(bytes.starts_with(b"\x0a\x032.0"), "{:?}", &bytes[..20]);
    let (plain, bytes) = server
        .raw(
            &Who::Admin,
            "/openapi/v2",
            &[("accept", "application/json")],
        )
        .await;
    assert_eq!(plain["content-type"], "application/json");
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(document["swagger"], "2.0");
    let patch = &document["paths"]["/apis/boatyard.dev/v1/namespaces/{namespace}/environments/{name}"]
        ["patch"];
    let named = |name: &str| {
        patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == name)
    };
    assert!(named("dryRun") && named("fieldValidation") && named("body"));
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "boatyard.dev", "version": "v1", "kind": "Environment"})
    );
}

/// Follows references and checks what a schema says of types, required members and enumerations.
fn fits(document: &Value, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let found = document.pointer(&reference[1..]).ok_or(reference)?;
        return fits(document, found, value, path);
    }
    for all in schema["allOf"].as_array().into_iter().flatten() {
        fits(document, all, value, path)?;
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let found: Vec<_> = any
            .iter()
            .map(|one| fits(document, one, value, path))
            .collect();
        if found.iter().all(Result::is_err) {
            return Err(format!("{found:?}"));
        }
    }
    if value.is_null() && schema["nullable"] == true {
        return Ok(());
    }
    let wanted = schema["type"].as_str().unwrap_or_default();
    let right = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    if !right {
        return Err(format!("{path}: {value} is no {wanted}"));
    }
    if let Some(allowed) = schema["enum"]
        .as_array()
        .filter(|allowed| !allowed.contains(value))
    {
        return Err(format!("{path}: {value} is none of {allowed:?}"));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        let name = required.as_str().unwrap_or_default();
        if value.get(name).is_none() {
            return Err(format!("{path}.{name} is missing"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let below = &schema["properties"][name];
        let below = if below.is_null() {
            &schema["additionalProperties"]
        } else {
            below
        };
        let known = !below.is_null()
            || schema["properties"].is_null()
            || schema["x-kubernetes-preserve-unknown-fields"] == true;
        if !known && wanted == "object" {
            return Err(format!("{path}.{name} is not in the schema"));
        }
        fits(document, below, member, &format!("{path}.{name}"))?;
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        fits(
            document,
            &schema["items"],
            item,
            &format!("{path}[{number}]"),
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn answers_are_as_their_schemas_say() {
    let server = Server::start().await;
    let events = "/api/v1/namespaces/default/events";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let made = [
        (
            "apis/boatyard.dev/v1",
            ENVIRONMENTS,
            "/apis/boatyard.dev/v1/namespaces/{namespace}/environments",
            json!({"metadata": {"name": "one", "labels": {"a": "b"}, "finalizers": ["example.com/held"]}, "spec": {"devcontainer": {"image": "x"}}}),
        ),
        (
            "apis/boatyard.dev/v1",
            "/apis/boatyard.dev/v1/environmentclasses",
            "",
            json!({"metadata": {"name": "one"}, "spec": {"resources": {"cpu": "1"}}}),
        ),
        (
            "apis/boatyard.dev/v1",
            "/apis/boatyard.dev/v1/runners",
            "",
            json!({"metadata": {"name": "one"}, "spec": {}}),
        ),
        (
            "api/v1",
            "/api/v1/namespaces",
            "",
            json!({"metadata": {"name": "one"}}),
        ),
        (
            "api/v1",
            events,
            "/api/v1/namespaces/{namespace}/events",
            json!({"metadata": {"name": "one"}, "involvedObject": {"kind": "Runner", "name": "x", "namespace": "default"}, "eventTime": "2026-01-02T03:04:05.000006Z", "reason": "R", "message": "m", "type": "Normal"}),
        ),
        (
            "apis/coordination.k8s.io/v1",
            leases,
            "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
            json!({"metadata": {"name": "one"}, "spec": {"holderIdentity": "x", "leaseDurationSeconds": 5, "renewTime": "2026-01-02T03:04:05.000006Z"}}),
        ),
    ];
    for (group, path, template, object) in made {
        let template = if template.is_empty() { path } else { template };
        let document = server.get(&format!("/openapi/v3/{group}")).await.ok();
        let check = |path: &str, method: &str, answer: crate::harness::Answer| {
            let responses = &document["paths"][path][method]["responses"];
            let response = match &responses[answer.status.as_str()] {
                Value::Null => &responses["default"],
                known => known,
            };
            let schema = &response["content"]["application/json"]["schema"];
            assert!(schema.is_object(), "{path} {method} {}", answer.status);
            fits(&document, schema, &answer.json, method).unwrap();
        };
        let one = format!("{template}/{{name}}");
        check(template, "post", server.post(path, object.clone()).await);
        check(template, "post", server.post(path, object).await);
        check(
            template,
            "post",
            server
                .post(path, json!({"metadata": {"name": "?"}, "spec": 5}))
                .await,
        );
        check(template, "get", server.get(path).await);
        let item = format!("{path}/one");
        let stored = server.get(&item).await;
        let again = stored.json.clone();
        check(&one, "get", stored);
        check(&one, "put", server.put(&item, again).await);
        check(
            &one,
            "patch",
            server
                .patch(&item, json!({"metadata": {"labels": {"c": "d"}}}))
                .await,
        );
        check(&one, "get", server.get(&format!("{path}/none")).await);
        if document["paths"][format!("{one}/status")].is_object() {
            let status = server.get(&format!("{item}/status")).await;
            check(&format!("{one}/status"), "get", status);
        }
        check(&one, "delete", server.delete(&item).await);
        if template == path {
            continue;
        }
        check(template, "delete", server.delete(path).await);
    }
}
