//! Server-side apply and managed fields, as clients meet them.

use crate::harness::*;
use serde_json::{Value, json};

const APPLY: (&str, &str) = ("content-type", "application/apply-patch+yaml");

/// Applies a configuration to an environment as a manager.
async fn apply(server: &Server, name: &str, manager: &str, config: Value) -> Answer {
    let path = format!("{}?fieldManager={manager}", at(name));
    let body = config.to_string();
    server
        .tell(&Who::Admin, "PATCH", &path, &[APPLY], body)
        .await
}

/// A configuration of an environment, bound elsewhere so that nobody else writes it.
fn config(name: &str, rest: Value) -> Value {
    let mut config = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"name": name}, "spec": {"runnerName": "elsewhere"}});
    json_patch::merge(&mut config, &rest);
    config
}

/// The fields of a manager: (operation, FieldsV1).
fn owned<'a>(object: &'a Value, manager: &str, subresource: &str) -> Option<(&'a str, &'a Value)> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let entry = entries.iter().find(|entry| {
        entry["manager"] == manager
            && entry["subresource"].as_str().unwrap_or_default() == subresource
    })?;
    assert_eq!(entry["apiVersion"], "boatyard.dev/v1");
    assert_eq!(entry["fieldsType"], "FieldsV1");
    Some((entry["operation"].as_str().unwrap(), &entry["fieldsV1"]))
}

fn managers(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array();
    let names = entries.into_iter().flatten();
    names
        .map(|entry| entry["manager"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn apply_creates_changes_and_changes_nothing() {
    let server = Server::start().await;
    let labelled = config("one", json!({"metadata": {"labels": {"a": "1"}}}));
    let answer = apply(&server, "one", "alice", labelled.clone()).await;
    assert_eq!(answer.status.as_u16(), 201, "{answer:?}");
    let made = answer.ok();
    assert_eq!(made["spec"]["className"], "default");
    assert_eq!(
        owned(&made, "alice", "").unwrap(),
        (
            "Apply",
            &json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:runnerName": {}}})
        ),
        "defaults and what the server sets are nobody's"
    );
    let again = apply(&server, "one", "alice", labelled).await;
    assert_eq!(again.status.as_u16(), 200);
    assert_eq!(again.ok(), made, "not even the time changes");
    let changed = config("one", json!({"metadata": {"labels": {"a": "2", "b": "1"}}}));
    let changed = apply(&server, "one", "alice", changed).await.ok();
    assert!(version(&changed) > version(&made));
    assert_eq!(changed["metadata"]["labels"], json!({"a": "2", "b": "1"}));
}

#[tokio::test]
async fn what_is_left_out_goes_unless_somebody_else_has_it() {
    let server = Server::start().await;
    let labels = |labels| config("one", json!({"metadata": {"labels": labels}}));
    apply(&server, "one", "alice", labels(json!({"a": "1", "b": "1"})))
        .await
        .ok();
    let shared = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"labels": {"b": "1"}}});
    apply(&server, "one", "bob", shared).await.ok();
    let patched = json!({"metadata": {"labels": {"c": "1"}}});
    server.patch(&at("one"), patched).await.ok();
    let left = apply(&server, "one", "alice", labels(json!({}))).await.ok();
    assert_eq!(left["metadata"]["labels"], json!({"b": "1", "c": "1"}));
    assert_eq!(
        owned(&left, "bob", "").unwrap().1,
        &json!({"f:metadata": {"f:labels": {"f:b": {}}}})
    );
    let nothing = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment"});
    let left = apply(&server, "one", "bob", nothing).await.ok();
    assert_eq!(left["metadata"]["labels"], json!({"c": "1"}));
    assert_eq!(managers(&left), ["alice", "unknown"]);
}

#[tokio::test]
async fn conflicts_name_owners_and_fields_and_can_be_forced() {
    let server = Server::start().await;
    apply(
        &server,
        "one",
        "alice",
        config("one", json!({"metadata": {"labels": {"a": "1"}}})),
    )
    .await
    .ok();
    let patch = json!({"metadata": {"annotations": {"x": "1"}}});
    let path = at("one") + "?fieldManager=kubectl-edit";
    server.patch(&path, patch).await.ok();
    let wanted = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"labels": {"a": "2"}, "annotations": {"x": "2"}}});
    let answer = apply(&server, "one", "bob", wanted.clone()).await;
    assert_eq!(
        answer.json["details"]["causes"],
        json!([
            {"reason": "FieldManagerConflict", "message": "conflict with \"alice\"", "field": ".metadata.labels.a"},
            {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using boatyard.dev/v1", "field": ".metadata.annotations.x"},
        ])
    );
    assert_eq!(
        answer.refused(409, "Conflict"),
        "Apply failed with 2 conflicts: conflicts with \"alice\":\n- .metadata.labels.a\nconflicts with \"kubectl-edit\" using boatyard.dev/v1:\n- .metadata.annotations.x"
    );
    let one = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"labels": {"a": "2"}}});
    assert_eq!(
        apply(&server, "one", "bob", one)
            .await
            .refused(409, "Conflict"),
        "Apply failed with 1 conflict: conflict with \"alice\": .metadata.labels.a"
    );
    let forced = apply(&server, "one", "bob&force=true", wanted).await.ok();
    assert_eq!(forced["metadata"]["labels"]["a"], "2");
    assert_eq!(
        owned(&forced, "alice", "").unwrap().1,
        &json!({"f:spec": {"f:runnerName": {}}})
    );
    assert_eq!(
        owned(&forced, "kubectl-edit", "").unwrap().1,
        &json!({"f:metadata": {"f:annotations": {}}}),
        "who made the map has it still"
    );
    let patch = json!({"metadata": {"labels": {"a": "3"}, "annotations": {"x": "3"}}});
    let path = at("one") + "?fieldManager=dave";
    let taken = server.patch(&path, patch).await.ok();
    assert_eq!(
        managers(&taken),
        ["alice", "dave", "kubectl-edit"],
        "who has nothing left goes"
    );
}
