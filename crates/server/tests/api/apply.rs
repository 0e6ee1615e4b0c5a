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
    // By time, in seconds, before name.
    let mut left = managers(&taken);
    left.sort();
    assert_eq!(
        left,
        ["alice", "dave", "kubectl-edit"],
        "who has nothing left goes"
    );
}

#[tokio::test]
async fn what_no_apply_may_say_is_refused() {
    let server = Server::start().await;
    let fine = config("one", json!({}));
    let send = async |query: &str, config: &Value| {
        let path = format!("{}{query}", at("one"));
        server
            .tell(&Who::Admin, "PATCH", &path, &[APPLY], config.to_string())
            .await
    };
    let message = send("", &fine).await.refused(422, "Invalid");
    assert!(
        message.contains("fieldManager: Required value: is required for apply patch"),
        "{message}"
    );
    for query in [
        format!("?fieldManager={}", "a".repeat(129)),
        "?fieldManager=a%07".to_owned(),
    ] {
        send(&query, &fine).await.refused(422, "Invalid");
        let made = server
            .post(&format!("{ENVIRONMENTS}{query}"), environment("two", "a"))
            .await;
        let message = made.refused(422, "Invalid");
        assert!(message.contains("fieldManager"), "{message}");
    }
    send("?fieldManager=a&force=yes", &fine)
        .await
        .refused(400, "BadRequest");
    server.environment("there", "a").await;
    let forced = server
        .patch(&(at("there") + "?force=true"), json!({}))
        .await;
    let message = forced.refused(422, "Invalid");
    assert!(
        message.contains("may not be specified for non-apply patch"),
        "{message}"
    );
    for (change, wanted) in [
        (
            json!({"kind": null}),
            "invalid object type: boatyard.dev/v1, Kind=",
        ),
        (
            json!({"apiVersion": "v1"}),
            "invalid object type: /v1, Kind=Environment",
        ),
        (
            json!({"kind": "Runner"}),
            "invalid object type: boatyard.dev/v1, Kind=Runner",
        ),
        (
            json!({"metadata": {"managedFields": []}}),
            "metadata.managedFields must be nil",
        ),
        (
            json!({"spec": {"className": 1}}),
            ".spec.className: expected string, got 1",
        ),
        (
            json!({"spec": {"unknown": 1}}),
            ".spec.unknown: field not declared in schema",
        ),
        (json!({"spec": []}), ".spec: expected map, got []"),
        (
            json!({"metadata": {"finalizers": ["a.io/b", "a.io/b"]}}),
            ".metadata.finalizers: duplicate entries for key [=\"a.io/b\"]",
        ),
        (
            json!({"metadata": {"name": "two"}}),
            "does not match the name",
        ),
        (
            json!({"metadata": {"namespace": "other"}}),
            "does not match the namespace",
        ),
    ] {
        for validation in ["Ignore", "Strict"] {
            let query = format!("?fieldManager=a&fieldValidation={validation}");
            let refused = send(&query, &config("one", change.clone())).await;
            let message = refused.refused(400, "BadRequest");
            assert!(message.contains(wanted), "{change}: {message}");
        }
    }
    let uid = config("one", json!({"metadata": {"uid": "1"}}));
    let message = send("?fieldManager=a", &uid).await.refused(409, "Conflict");
    assert!(
        message.contains("no existing object was found"),
        "{message}"
    );
    let version = config("one", json!({"metadata": {"resourceVersion": "1"}}));
    send("?fieldManager=a", &version)
        .await
        .refused(409, "Conflict");
    let status = format!("{}/status?fieldManager=a", at("one"));
    let absent = server.tell(&Who::Admin, "PATCH", &status, &[APPLY], fine.to_string());
    absent.await.refused(404, "NotFound");
    assert_eq!(server.get(&at("one")).await.status.as_u16(), 404);
    let nameless = config("one", json!({"metadata": {"name": null}}));
    let message = send("?fieldManager=a", &nameless).await;
    let message = message.refused(422, "Invalid");
    assert!(message.contains("metadata.name"), "{message}");
    // Rules hold for what is applied as for everything.
    let broken = config("one", json!({"spec": {"state": "Sleeping"}}));
    send("?fieldManager=a", &broken)
        .await
        .refused(422, "Invalid");
}

#[tokio::test]
async fn yaml_is_taken_dry_runs_store_nothing_and_members_given_twice_are_told() {
    let server = Server::start().await;
    let send = async |query: &str, body: &str| {
        let path = format!("{}?fieldManager=a{query}", at("one"));
        let body = body.to_owned();
        server
            .tell(&Who::Admin, "PATCH", &path, &[APPLY], body)
            .await
    };
    let yaml = "apiVersion: boatyard.dev/v1\nkind: Environment\nmetadata:\n  name: one\n  labels: {a: \"1\"}\nspec:\n  runnerName: elsewhere\n";
    let dry = send("&dryRun=All", yaml).await;
    assert_eq!(dry.status.as_u16(), 201);
    assert_eq!(managers(&dry.json), ["a"]);
    assert_eq!(server.get(&at("one")).await.status.as_u16(), 404);
    let made = send("", yaml).await.ok();
    let again = send("&dryRun=All", &yaml.replace("\"1\"", "\"2\""))
        .await
        .ok();
    assert_eq!(again["metadata"]["labels"]["a"], "2");
    assert_eq!(server.get(&at("one")).await.ok(), made);
    // Escapes that YAML does not know are JSON's.
    let json = r#"{"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"annotations": {"x": "\ud83d\ude00"}}, "spec": {"runnerName": "elsewhere"}}"#;
    assert_eq!(
        send("", json).await.ok()["metadata"]["annotations"]["x"],
        "😀"
    );
    let twice = yaml.replace("  name: one\n", "  name: one\n  name: one\n");
    let warned = send("", &twice).await;
    assert!(
        warned.headers["warning"]
            .to_str()
            .unwrap()
            .contains("metadata.name")
    );
    warned.ok();
    let message = send("&fieldValidation=Strict", &twice)
        .await
        .refused(400, "BadRequest");
    assert!(
        message.contains("duplicate field \"metadata.name\""),
        "{message}"
    );
    send("", "a: [").await.refused(400, "BadRequest");
    send("", "[]").await.refused(400, "BadRequest");
    let cbor = [("content-type", "application/apply-patch+cbor")];
    let cbor = server
        .tell(&Who::Admin, "PATCH", &at("one"), &cbor, "x")
        .await;
    cbor.refused(415, "UnsupportedMediaType");
}

#[tokio::test]
async fn a_version_in_the_configuration_must_be_the_newest() {
    let server = Server::start().await;
    let made = apply(&server, "one", "a", config("one", json!({})))
        .await
        .ok();
    let stale = made["metadata"]["resourceVersion"].clone();
    let pinned = |text: &str, version: &Value| {
        config(
            "one",
            json!({"metadata": {"resourceVersion": version, "labels": {"x": text}}}),
        )
    };
    let next = apply(&server, "one", "a", pinned("1", &stale)).await.ok();
    apply(&server, "one", "a", pinned("2", &stale))
        .await
        .refused(409, "Conflict");
    assert_eq!(server.get(&at("one")).await.ok(), next);
    let uid = config("one", json!({"metadata": {"uid": "another"}}));
    apply(&server, "one", "a", uid)
        .await
        .refused(409, "Conflict");
}

#[tokio::test]
async fn every_write_is_tracked_under_its_name() {
    let server = Server::start().await;
    let json = ("content-type", "application/json");
    let agent = ("user-agent", "tool/v1 (linux) other/2");
    let body = environment("one", "a").to_string();
    let made = server
        .tell(&Who::Admin, "POST", ENVIRONMENTS, &[json, agent], body)
        .await
        .ok();
    let (operation, fields) = owned(&made, "tool", "").unwrap();
    assert_eq!(operation, "Update");
    assert_eq!(fields["f:spec"]["f:runnerName"], json!({}));
    assert_eq!(
        fields["f:spec"]["f:className"],
        json!({}),
        "defaults are the writer's"
    );
    assert_eq!(
        fields["f:spec"]["f:owner"],
        Value::Null,
        "what the server decides is not"
    );
    assert_eq!(
        fields["f:metadata"],
        json!({"f:labels": {".": {}, "f:tier": {}}})
    );
    let mut next = made.clone();
    next["metadata"]["labels"]["tier"] = json!("b");
    let path = at("one") + "?fieldManager=replacer";
    let next = server.put(&path, next).await.ok();
    // In the order of their times, which are of whole seconds, and then of their names.
    let mut known = managers(&next);
    known.sort_unstable();
    assert_eq!(known, ["replacer", "tool"]);
    let status = format!("{}/status?fieldManager=teller", at("one"));
    let everything = json!({"metadata": {"labels": {"x": "y"}, "managedFields": [{}]}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let told = server.patch(&status, everything).await.ok();
    assert_eq!(managers(&told).len(), 3);
    let (_, fields) = owned(&told, "teller", "status").unwrap();
    assert_eq!(
        fields.as_object().unwrap().len(),
        1,
        "status alone: {fields}"
    );
    assert_eq!(
        fields["f:status"]["f:conditions"]["k:{\"type\":\"Ready\"}"]["f:status"],
        json!({})
    );
    let same = json!({"metadata": {"labels": {"tier": "b"}}});
    let same = server
        .patch(&(at("one") + "?fieldManager=nobody"), same)
        .await
        .ok();
    assert_eq!(same, told, "what changes nothing is nobody's");
    let mut long = told.clone();
    long["metadata"]["managedFields"][0]["manager"] = json!("a".repeat(129));
    let message = server.put(&at("one"), long).await.refused(422, "Invalid");
    assert!(
        message.contains("metadata.managedFields[0].manager"),
        "{message}"
    );
    let mut reset = told.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    let reset = server.put(&at("one"), reset).await.ok();
    assert!(reset["metadata"].get("managedFields").is_none());
}

#[tokio::test]
async fn status_is_applied_apart_and_lists_merge_by_their_keys() {
    let server = Server::start().await;
    apply(
        &server,
        "one",
        "a",
        config("one", json!({"metadata": {"finalizers": ["a.io/x"]}})),
    )
    .await
    .ok();
    let condition = |name: &str, state: &str| json!({"type": name, "status": state, "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = async |manager: &str, conditions: Value| {
        let path = format!("{}/status?fieldManager={manager}", at("one"));
        let body = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"name": "one", "labels": {"no": "no"}}, "spec": {"state": "Stopped"}, "status": {"conditions": conditions}});
        server
            .tell(&Who::Admin, "PATCH", &path, &[APPLY], body.to_string())
            .await
    };
    let told = status("p", json!([condition("Ready", "True")])).await.ok();
    assert_eq!(told["spec"]["state"], "Running");
    assert!(told["metadata"].get("labels").is_none());
    let told = status("q", json!([condition("Other", "True")])).await.ok();
    let kinds = |object: &Value| -> Vec<String> {
        let list = object["status"]["conditions"].as_array().unwrap().iter();
        list.map(|one| one["type"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(kinds(&told), ["Ready", "Other"]);
    let refused = status("q", json!([condition("Ready", "False")])).await;
    assert_eq!(
        refused.json["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"p\" with subresource \"status\"", "field": ".status.conditions[type=\"Ready\"].status"}])
    );
    refused.refused(409, "Conflict");
    let left = status("q", json!([])).await.ok();
    assert_eq!(kinds(&left), ["Ready"]);
    let more = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"finalizers": ["a.io/y"], "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": "u"}]}});
    let more = apply(&server, "one", "b", more).await.ok();
    assert_eq!(more["metadata"]["finalizers"], json!(["a.io/x", "a.io/y"]));
    assert_eq!(
        owned(&more, "b", "").unwrap().1,
        &json!({"f:metadata": {"f:finalizers": {"v:\"a.io/y\"": {}}, "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}}}})
    );
}

#[tokio::test]
async fn kubectl_moves_from_its_own_side_to_the_servers() {
    let server = Server::start().await;
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let mut sent = config("one", json!({"metadata": {"labels": {"a": "1", "b": "1"}}}));
    let last = sent.to_string();
    sent["metadata"]["annotations"] = json!({annotation: last});
    let path = format!("{ENVIRONMENTS}?fieldManager=kubectl-client-side-apply");
    let made = server.post(&path, sent).await.ok();
    // What kubectl's migration sends: its entry made an applier's, on the version it saw.
    let mut entries = made["metadata"]["managedFields"].clone();
    entries[0]["operation"] = json!("Apply");
    entries[0]["manager"] = json!("kubectl");
    let migration = |version: &Value| {
        json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ])
    };
    server
        .patch(&at("one"), migration(&json!("1")))
        .await
        .refused(409, "Conflict");
    let version = &made["metadata"]["resourceVersion"];
    let moved = server.patch(&at("one"), migration(version)).await.ok();
    assert_eq!(owned(&moved, "kubectl", "").unwrap().0, "Apply");
    assert_eq!(managers(&moved), ["kubectl"]);
    let wanted = config(
        "one",
        json!({"metadata": {"labels": {"a": "2"}, "annotations": {annotation: "x"}}}),
    );
    let applied = apply(&server, "one", "kubectl", wanted).await.ok();
    assert_eq!(applied["metadata"]["labels"], json!({"a": "2"}));
    let kept = applied["metadata"]["annotations"][annotation]
        .as_str()
        .unwrap();
    let kept: Value = serde_json::from_str(kept).unwrap();
    assert_eq!(kept["metadata"]["labels"], json!({"a": "2"}));
    assert_eq!(kept["metadata"]["annotations"], json!({}));
}

#[tokio::test]
async fn many_appliers_at_once_make_one_object_that_has_it_all() {
    let server = Server::start().await;
    let names: Vec<String> = (0..12).map(|number| format!("m{number}")).collect();
    let all = names.iter().map(|name| {
        let labels = json!({"metadata": {"labels": {name: "1"}}});
        apply(&server, "one", name, config("one", labels))
    });
    let answers = futures::future::join_all(all).await;
    let created = answers
        .iter()
        .filter(|answer| answer.status.as_u16() == 201);
    assert_eq!(created.count(), 1);
    for answer in answers {
        answer.ok();
    }
    let object = server.get(&at("one")).await.ok();
    assert_eq!(object["metadata"]["labels"].as_object().unwrap().len(), 12);
    assert_eq!(
        managers(&object).len(),
        12,
        "appliers are not taken together"
    );
    assert_eq!(object["metadata"]["generation"], 1);
}

#[tokio::test]
async fn what_is_being_deleted_takes_no_new_finalizers_by_apply() {
    let server = Server::start().await;
    let held = config("one", json!({"metadata": {"finalizers": ["a.io/x"]}}));
    apply(&server, "one", "a", held.clone()).await.ok();
    server.delete(&at("one")).await.ok();
    let labelled = json!({"metadata": {"finalizers": ["a.io/x"], "labels": {"a": "1"}}});
    apply(&server, "one", "a", config("one", labelled))
        .await
        .ok();
    let more = json!({"metadata": {"finalizers": ["a.io/x", "a.io/y"]}});
    let refused = apply(&server, "one", "a", config("one", more)).await;
    assert!(!refused.status.is_success());
    apply(&server, "one", "a", config("one", json!({})))
        .await
        .ok();
    assert_eq!(
        server.get(&at("one")).await.status.as_u16(),
        404,
        "let go by leaving it out"
    );
}

#[tokio::test]
async fn core_kinds_are_applied_too_and_nobody_is_told_of_nothing() {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/team?fieldManager=gitops";
    let team = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "labels": {"a": "1"}}});
    let send = async || {
        server
            .tell(&Who::Admin, "PATCH", path, &[APPLY], team.to_string())
            .await
    };
    let made = send().await;
    assert_eq!(made.status.as_u16(), 201);
    let made = made.ok();
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:metadata": {"f:labels": {"f:a": {}}}})
    );
    let watched = format!(
        "/api/v1/namespaces?watch=true&resourceVersion={}",
        version(&made)
    );
    let mut watch = server.watch(&Who::Admin, &watched).await;
    assert_eq!(send().await.ok(), made);
    server
        .patch(
            "/api/v1/namespaces/team",
            json!({"metadata": {"labels": {"b": "1"}}}),
        )
        .await
        .ok();
    let event = watch.next().await.unwrap();
    assert_eq!(
        event["object"]["metadata"]["labels"]["b"], "1",
        "the first change since"
    );
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/team/leases/l?fieldManager=me";
    let lease = server
        .tell(&Who::Admin, "PATCH", path, &[APPLY], lease.to_string())
        .await
        .ok();
    assert_eq!(
        lease["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:spec": {"f:holderIdentity": {}}})
    );
}

#[tokio::test]
async fn only_who_may_patch_and_create_may_apply() {
    let server = Server::start().await;
    let path = format!("{}?fieldManager=a", at("one"));
    let body = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"name": "one"}, "spec": {}});
    let send = async |who: &Who, path: &str, body: &Value| {
        server
            .tell(who, "PATCH", path, &[APPLY], body.to_string())
            .await
    };
    send(&server.runner(), &path, &body)
        .await
        .refused(403, "Forbidden");
    let made = send(&Who::User(1000), &path, &body).await;
    assert_eq!(made.status.as_u16(), 201);
    assert_eq!(made.json["spec"]["owner"]["uid"], 1000);
    send(&Who::User(1001), &path, &body)
        .await
        .refused(403, "Forbidden");
    let bound = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "spec": {"runnerName": "r1"}});
    send(&Who::User(1000), &path, &bound)
        .await
        .refused(403, "Forbidden");
    let class = json!({"apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass", "metadata": {"name": "big"}, "spec": {}});
    let path = format!("{CLASSES}/big?fieldManager=a");
    send(&Who::User(1000), &path, &class)
        .await
        .refused(403, "Forbidden");
    assert_eq!(
        server.get(&format!("{CLASSES}/big")).await.status.as_u16(),
        404
    );
}
