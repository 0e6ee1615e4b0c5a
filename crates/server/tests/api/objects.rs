//! One object: what each verb does to it, and what the server keeps for itself.

use crate::harness::*;
use futures::future::join_all;
use serde_json::{Value, json};

#[tokio::test]
async fn a_created_object_is_read_back_with_what_the_server_sets() {
    let server = Server::start().await;
    let mut sent = environment("one", "a");
    sent["metadata"]["uid"] = json!("mine");
    sent["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    sent["metadata"]["generation"] = json!(7);
    sent["spec"]["owner"] = json!({"user": "somebody else", "uid": 1});
    sent["status"] = json!({"phase": "Running"});
    let answer = server.post(ENVIRONMENTS, sent).await;
    assert_eq!(answer.status.as_u16(), 201);
    let made = answer.ok();
    assert_eq!(made["apiVersion"], "boatyard.dev/v1");
    assert_eq!(made["kind"], "Environment");
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    let created = made["metadata"]["creationTimestamp"].as_str().unwrap();
    assert!(created > "2026" && created.len() == 20, "{created}");
    assert_eq!(made["spec"]["owner"], json!({"user": "admin"}));
    assert_eq!(made["spec"]["className"], "default");
    assert!(made.get("status").is_none(), "{made}");
    assert_eq!(server.get(&at("one")).await.ok(), made);
}

#[tokio::test]
async fn a_namesake_is_refused_and_changes_nothing() {
    let server = Server::start().await;
    let first = server.environment("one", "a").await;
    let answer = server.post(ENVIRONMENTS, environment("one", "b")).await;
    assert_eq!(answer.json["details"]["name"], "one");
    let message = answer.refused(409, "AlreadyExists");
    assert!(message.contains("environments.boatyard.dev \"one\""));
    assert_eq!(server.get(&at("one")).await.ok(), first);
}

#[tokio::test]
async fn generation_counts_changes_of_the_spec_and_version_every_change() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    let generation = |object: &Value| object["metadata"]["generation"].as_i64().unwrap();
    let labelled = json!({"metadata": {"labels": {"x": "y"}}});
    let labelled = server.patch(&at("one"), labelled).await.ok();
    assert_eq!(generation(&labelled), 1);
    assert!(version(&labelled) > version(&made));
    let stopped = json!({"spec": {"state": "Stopped"}});
    let changed = server.patch(&at("one"), stopped.clone()).await.ok();
    assert_eq!(generation(&changed), 2);
    assert!(version(&changed) > version(&labelled));
    // What changes nothing writes nothing.
    assert_eq!(server.patch(&at("one"), stopped).await.ok(), changed);
    assert_eq!(
        server.put(&at("one"), changed.clone()).await.ok(),
        changed,
        "a replacement by the same"
    );
    let status = json!({"status": {"phase": "Running"}});
    let told = server.patch(&(at("one") + "/status"), status).await.ok();
    assert_eq!(generation(&told), 2);
    assert!(version(&told) > version(&changed));
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let everything = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"state": "Stopped"}, "status": {"phase": "Running", "message": "up"}});
    let status = at("one") + "/status";
    let told = server.patch(&status, everything.clone()).await.ok();
    assert_eq!(told["status"]["message"], "up");
    assert_eq!(told["spec"]["state"], "Running");
    assert!(told["metadata"]["labels"].get("x").is_none());

    let wanted = json!({"spec": {"state": "Stopped"}, "status": {"phase": "Failed"}});
    let changed = server.patch(&at("one"), wanted).await.ok();
    assert_eq!(changed["spec"]["state"], "Stopped");
    assert_eq!(changed["status"], told["status"]);

    let mut replaced = changed.clone();
    replaced["status"] = json!({"phase": "Pending"});
    replaced["metadata"]["labels"]["z"] = json!("1");
    let replaced = server.put(&at("one"), replaced).await.ok();
    assert_eq!(replaced["metadata"]["labels"]["z"], "1");
    assert_eq!(replaced["status"], told["status"]);
    assert_eq!(server.get(&status).await.ok(), replaced);

    // Status alone, without what it does not change.
    let bare = json!({"metadata": {"name": "one"}, "status": {"phase": "Failed"}});
    let bare = server.put(&status, bare).await.ok();
    assert_eq!(bare["status"]["phase"], "Failed");
    for part in ["spec", "apiVersion", "kind"] {
        assert_eq!(bare[part], replaced[part]);
    }
    assert_eq!(bare["metadata"]["labels"], replaced["metadata"]["labels"]);

    let mut gone = replaced.clone();
    gone["metadata"]["resourceVersion"] = bare["metadata"]["resourceVersion"].clone();
    gone["status"] = Value::Null;
    let gone = server.put(&status, gone).await.ok();
    assert!(gone.get("status").is_none(), "{gone}");
    let class = format!("{CLASSES}/default/status");
    server.get(&class).await.refused(404, "NotFound");
}

#[tokio::test]
async fn patches_of_every_form_do_as_their_standards_say() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let merge = json!({"metadata": {"labels": {"tier": null, "b": "2"}}});
    let merged = server.patch(&at("one"), merge).await.ok();
    assert_eq!(merged["metadata"]["labels"], json!({"b": "2"}));

    let pointed = json!([
        {"op": "test", "path": "/metadata/labels/b", "value": "2"},
        {"op": "add", "path": "/metadata/labels/c~1d", "value": "3"},
        {"op": "move", "from": "/metadata/labels/b", "path": "/metadata/labels/e"},
    ]);
    let pointed = server.patch(&at("one"), pointed).await.ok();
    let labels = json!({"c/d": "3", "e": "2"});
    assert_eq!(pointed["metadata"]["labels"], labels);

    let failing = json!([
        {"op": "remove", "path": "/metadata/labels/e"},
        {"op": "test", "path": "/metadata/uid", "value": "another"},
    ]);
    let failed = server.patch(&at("one"), failing).await;
    let message = failed.refused(422, "Invalid");
    assert!(message.contains("operation 1 at /metadata/uid"));
    assert_eq!(server.get(&at("one")).await.ok(), pointed);

    let nothing = server
        .patch(&at("two"), json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    nothing.refused(404, "NotFound");
}

#[tokio::test]
async fn strategic_patches_are_for_core_kinds_alone() {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/team";
    let media = "application/strategic-merge-patch+json";
    let team = json!({"metadata": {"name": "team", "finalizers": ["a.io/x"]}});
    server.post("/api/v1/namespaces", team).await.ok();
    let tell = async |path: &str, media: &str, patch: Value| {
        let headers = [("content-type", media)];
        let body = patch.to_string();
        server
            .tell(&Who::Admin, "PATCH", path, &headers, body)
            .await
    };
    let more = json!({"metadata": {"finalizers": ["a.io/y"], "labels": {"a": "b"}}});
    let more = tell(path, media, more).await.ok();
    let both = json!(["a.io/x", "a.io/y"]);
    assert_eq!(more["metadata"]["finalizers"], both);
    let less = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a.io/x"]}});
    let less = tell(path, media, less).await.ok();
    assert_eq!(less["metadata"]["finalizers"], json!(["a.io/y"]));
    assert_eq!(less["metadata"]["labels"]["a"], "b");

    server.environment("one", "a").await;
    for media in [
        media,
        "application/apply-patch+cbor",
        "application/json",
        "text/plain",
    ] {
        let refused = tell(&at("one"), media, json!({})).await;
        let message = refused.refused(415, "UnsupportedMediaType");
        assert!(message.contains("application/merge-patch+json"));
    }
}

#[tokio::test]
async fn a_write_on_a_stale_version_is_a_conflict_whatever_its_form() {
    let server = Server::start().await;
    let stale = server.environment("one", "a").await;
    let label = |text: &str| json!({"metadata": {"labels": {"by": text}}});
    let newer = server.patch(&at("one"), label("first")).await.ok();

    let mut wanted = stale.clone();
    wanted["metadata"]["labels"]["by"] = json!("second");
    let put = server.put(&at("one"), wanted.clone()).await;
    let details = json!({"name": "one", "group": "boatyard.dev", "kind": "environments"});
    assert_eq!(put.json["details"], details);
    let message = put.refused(409, "Conflict");
    assert!(
        message.contains("environments.boatyard.dev \"one\""),
        "{message}"
    );
    let mut merge = label("second");
    merge["metadata"]["resourceVersion"] = stale["metadata"]["resourceVersion"].clone();
    let patch = server.patch(&at("one"), merge.clone()).await;
    patch.refused(409, "Conflict");
    let pointed = json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": stale["metadata"]["resourceVersion"]}]);
    let patch = server.patch(&at("one"), pointed).await;
    patch.refused(409, "Conflict");
    assert_eq!(server.get(&at("one")).await.ok(), newer);

    merge["metadata"]["resourceVersion"] = newer["metadata"]["resourceVersion"].clone();
    let merged = server.patch(&at("one"), merge).await.ok();
    assert_eq!(merged["metadata"]["labels"]["by"], "second");
    wanted["metadata"]["resourceVersion"] = Value::Null;
    wanted["metadata"]["labels"]["by"] = json!("third");
    let put = server.put(&at("one"), wanted).await.ok();
    assert_eq!(put["metadata"]["labels"]["by"], "third");
}

#[tokio::test]
async fn writers_that_name_no_version_all_get_through() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    let patches = (0..12).map(async |number: i32| {
        let annotation = json!({"metadata": {"annotations": {format!("n{number}"): "x"}}});
        server.patch(&at("one"), annotation).await.ok();
    });
    join_all(patches).await;
    let all = server.get(&at("one")).await.ok();
    let annotations = all["metadata"]["annotations"].as_object().unwrap();
    assert_eq!(annotations.len(), 12);

    let puts = (0..12).map(async |number: i32| {
        let mut wanted = made.clone();
        wanted["metadata"]["resourceVersion"] = Value::Null;
        wanted["metadata"]["labels"]["by"] = json!(number.to_string());
        version(&server.put(&at("one"), wanted).await.ok())
    });
    let mut versions = join_all(puts).await;
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 12, "each wrote a version of its own");
}

#[tokio::test]
async fn finalizers_hold_a_deleted_object_until_the_last_has_gone() {
    let server = Server::start().await;
    let mut held = environment("one", "a");
    held["metadata"]["finalizers"] = json!(["a.io/x", "a.io/y"]);
    server.post(ENVIRONMENTS, held).await.ok();
    let marked = server.delete(&at("one")).await.ok();
    assert_eq!(marked["kind"], "Environment");
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["generation"], 2);
    assert_eq!(server.delete(&at("one")).await.ok(), marked, "once more");

    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let fresh = finalizers(json!(["a.io/x", "a.io/y", "a.io/z"]));
    let refused = server.patch(&at("one"), fresh).await;
    assert!(refused.refused(403, "Forbidden").contains("a.io/z"));
    let alive = json!({"metadata": {"deletionTimestamp": null}});
    let alive = server.patch(&at("one"), alive).await.ok();
    assert!(alive["metadata"]["deletionTimestamp"].is_string());
    let status = json!({"status": {"phase": "Deleting"}});
    let told = server.patch(&(at("one") + "/status"), status).await.ok();
    assert_eq!(told["status"]["phase"], "Deleting");
    let namesake = server.post(ENVIRONMENTS, environment("one", "b")).await;
    namesake.refused(409, "AlreadyExists");

    let less = finalizers(json!(["a.io/y"]));
    server.patch(&at("one"), less).await.ok();
    server.get(&at("one")).await.ok();
    let last = server.patch(&at("one"), finalizers(Value::Null)).await.ok();
    assert_eq!(last["metadata"]["name"], "one");
    server.get(&at("one")).await.refused(404, "NotFound");
    let again = server.environment("one", "b").await;
    assert_ne!(again["metadata"]["uid"], last["metadata"]["uid"]);
}

#[tokio::test]
async fn a_deletion_happens_only_on_its_preconditions() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    let delete = async |body: Value| server.ask(&Who::Admin, "DELETE", &at("one"), body).await;
    for (member, value) in [("uid", "another"), ("resourceVersion", "1")] {
        let refused = delete(json!({"preconditions": {member: value}})).await;
        let message = refused.refused(409, "Conflict");
        assert!(message.contains(member) && message.contains(value));
    }
    // What cannot be read must not pass for no precondition.
    for unreadable in [
        json!({"preconditions": {"uid": 5}}),
        json!({"preconditions": "uid"}),
        json!({"kind": "Environment"}),
        json!({"dryRun": "All"}),
        json!({"propagationPolicy": "Sideways"}),
        json!({"propagationPolicy": 1}),
        json!([]),
        json!("x"),
        json!(5),
    ] {
        let answer = delete(unreadable.clone()).await;
        assert!(answer.status.is_client_error(), "{unreadable}: {answer:?}");
    }
    assert_eq!(server.get(&at("one")).await.ok(), made);
    let (uid, version) = (
        &made["metadata"]["uid"],
        &made["metadata"]["resourceVersion"],
    );
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": uid, "resourceVersion": version}});
    let gone = delete(options).await.ok();
    assert_eq!(gone["kind"], "Status");
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"]["uid"], *uid);
    delete(Value::Null).await.refused(404, "NotFound");
}

#[tokio::test]
async fn every_propagation_policy_deletes_and_no_other_does() {
    let server = Server::start().await;
    for policy in ["Background", "Foreground", "Orphan"] {
        server.environment("one", "a").await;
        let path = format!("{ENVIRONMENTS}?watch=true&resourceVersion=0");
        let mut watch = server.watch(&Who::Admin, &path).await;
        let path = format!("{}?propagationPolicy={policy}", at("one"));
        server.delete(&path).await.ok();
        while watch.told().await != "DELETED one" {}
        server.environment("one", "a").await;
        let options = json!({"kind": "DeleteOptions", "propagationPolicy": policy});
        let deleted = server.ask(&Who::Admin, "DELETE", &at("one"), options).await;
        deleted.ok();
        while watch.told().await != "DELETED one" {}
        server.get(&at("one")).await.refused(404, "NotFound");
    }
    server.environment("one", "a").await;
    let path = format!("{}?propagationPolicy=Sideways", at("one"));
    let message = server.delete(&path).await.refused(422, "Invalid");
    assert!(message.contains("Sideways"));
    server.get(&at("one")).await.ok();
}

#[tokio::test]
async fn names_are_made_from_a_prefix() {
    let server = Server::start().await;
    let long = "x".repeat(80);
    let mut seen = std::collections::BTreeSet::new();
    for prefix in ["web-", "web-", long.as_str()] {
        let mut wanted = environment("", "a");
        wanted["metadata"]["generateName"] = json!(prefix);
        let made = server.post(ENVIRONMENTS, wanted).await.ok();
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with(&prefix[..prefix.len().min(55)]), "{name}");
        assert!(name.len() > prefix.len().min(55) && name.len() <= 63);
        server.get(&at(&name)).await.ok();
        seen.insert(name);
    }
    assert_eq!(seen.len(), 3);
    let nameless = server.post(ENVIRONMENTS, json!({"spec": {}})).await;
    let cause = &nameless.json["details"]["causes"][0];
    assert_eq!(cause["reason"], "FieldValueRequired");
    nameless.refused(422, "Invalid");
    let mut bad = environment("", "a");
    bad["metadata"]["generateName"] = json!("Web_");
    server.post(ENVIRONMENTS, bad).await.refused(422, "Invalid");
}

#[tokio::test]
async fn a_dry_run_answers_as_the_write_would_and_leaves_no_trace() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    let mut held = environment("held", "a");
    held["metadata"]["finalizers"] = json!(["a.io/x"]);
    let held = server.post(ENVIRONMENTS, held).await.ok();
    let dry = |path: &str| format!("{path}?dryRun=All");

    let into = dry(ENVIRONMENTS);
    let created = server.post(&into, environment("two", "a")).await;
    assert_eq!(created.status.as_u16(), 201);
    assert!(created.ok()["metadata"]["uid"].is_string());
    let twice = server.post(&into, environment("one", "a")).await;
    twice.refused(409, "AlreadyExists");
    let bad = json!({"metadata": {"name": "three"}, "spec": {"state": "Sideways"}});
    let bad = server.post(&into, bad).await;
    bad.refused(422, "Invalid");
    let patch = json!({"spec": {"state": "Stopped"}});
    let patched = server.patch(&dry(&at("one")), patch).await.ok();
    assert_eq!(patched["spec"]["state"], "Stopped");
    assert_eq!(patched["metadata"]["generation"], 2);
    let deleted = server.delete(&dry(&at("one"))).await.ok();
    assert_eq!(deleted["status"], "Success");
    let options = json!({"kind": "DeleteOptions", "dryRun": ["All"]});
    let marked = server
        .ask(&Who::Admin, "DELETE", &at("held"), options)
        .await
        .ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let odd = server.delete(&format!("{}?dryRun=Some", at("one"))).await;
    odd.refused(400, "BadRequest");

    let list = server.get(ENVIRONMENTS).await.ok();
    assert_eq!(list["items"], json!([held, made]));
    assert_eq!(version(&list), version(&held), "nothing was written");
}

#[tokio::test]
async fn unknown_fields_are_refused_told_or_dropped_as_asked() {
    let server = Server::start().await;
    let mut sent = environment("one", "a");
    sent["spec"]["colour"] = json!("red");
    sent["metadata"]["mood"] = json!("good");
    let path = |validation: &str| format!("{ENVIRONMENTS}?fieldValidation={validation}");
    let strict = server.post(&path("Strict"), sent.clone()).await;
    let message = strict.refused(400, "BadRequest");
    assert!(
        message.contains("unknown field \"spec.colour\""),
        "{message}"
    );
    assert!(message.contains("unknown field \"metadata.mood\""));
    server.get(&at("one")).await.refused(404, "NotFound");

    for (query, warnings) in [("Warn", 2), ("", 2), ("Ignore", 0)] {
        let answer = server.post(&path(query), sent.clone()).await;
        let told: Vec<_> = answer.headers.get_all("warning").iter().collect();
        assert_eq!(told.len(), warnings, "{query}: {told:?}");
        assert!(
            told.iter()
                .all(|told| told.to_str().unwrap().starts_with("299 - \"unknown field"))
        );
        let made = answer.ok();
        assert!(made["spec"].get("colour").is_none());
        server.delete(&at("one")).await.ok();
    }
    let odd = server.post(&path("Loose"), sent).await;
    odd.refused(400, "BadRequest");

    server.environment("one", "a").await;
    let patch = json!({"spec": {"colour": "red"}});
    let path = format!("{}?fieldValidation=Strict", at("one"));
    let strict = server.patch(&path, patch).await;
    strict.refused(400, "BadRequest");
}

#[tokio::test]
async fn what_is_wrong_is_told_field_by_field() {
    let server = Server::start().await;
    let annotations = json!({"a": "x".repeat(300_000)});
    for (mut wrong, fields) in [
        (
            json!({"spec": {"state": "Sideways"}}),
            vec![("spec.state", "FieldValueNotSupported")],
        ),
        (
            json!({"spec": {"state": 5}}),
            vec![("spec.state", "FieldValueTypeInvalid")],
        ),
        (json!({}), vec![("spec", "FieldValueRequired")]),
        (json!({"spec": []}), vec![("spec", "FieldValueTypeInvalid")]),
        (
            json!({"spec": {"source": {"git": {}}}}),
            vec![("spec.source.git.url", "FieldValueRequired")],
        ),
        (
            json!({"spec": {"source": {"git": {"url": "-x", "ref": "-y"}}}}),
            vec![
                ("spec.source.git.ref", "FieldValueInvalid"),
                ("spec.source.git.url", "FieldValueInvalid"),
            ],
        ),
        (
            json!({"spec": {"devcontainer": {"path": "../x"}}}),
            vec![("spec.devcontainer.path", "FieldValueInvalid")],
        ),
        (
            json!({"metadata": {"labels": {"a": "b c"}}, "spec": {}}),
            vec![("metadata.labels", "FieldValueInvalid")],
        ),
        (
            json!({"metadata": {"labels": {"a": 5}}, "spec": {}}),
            vec![("metadata.labels.a", "FieldValueTypeInvalid")],
        ),
        (
            json!({"metadata": {"annotations": annotations}, "spec": {}}),
            vec![("metadata.annotations", "FieldValueInvalid")],
        ),
        (
            json!({"metadata": {"finalizers": ["a b"]}, "spec": {}}),
            vec![("metadata.finalizers", "FieldValueInvalid")],
        ),
    ] {
        wrong["metadata"]["name"] = json!("one");
        let answer = server.post(ENVIRONMENTS, wrong.clone()).await;
        let causes = answer.json["details"]["causes"].as_array();
        let causes: Vec<_> = causes
            .unwrap_or_else(|| panic!("{fields:?}: {}", answer.text))
            .iter()
            .map(|cause| {
                (
                    cause["field"].as_str().unwrap(),
                    cause["reason"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(causes, fields);
        assert_eq!(answer.json["details"]["kind"], "Environment");
        assert_eq!(answer.json["details"]["name"], "one");
        answer.refused(422, "Invalid");
    }
    for name in ["One", "a.b", "-a", "a-", "a/b", &"x".repeat(64)] {
        let answer = server.post(ENVIRONMENTS, environment(name, "a")).await;
        let message = answer.refused(422, "Invalid");
        assert!(
            message.contains("metadata.name: Invalid value: "),
            "{message}"
        );
    }
    let list = server.get(ENVIRONMENTS).await.ok();
    assert!(names(&list).is_empty());
}

#[tokio::test]
async fn what_is_fixed_at_creation_stays() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    for (change, code, reason) in [
        (
            json!({"spec": {"source": {"git": {"url": "https://a.io/b"}}}}),
            422,
            "Invalid",
        ),
        (json!({"spec": {"runnerName": "another"}}), 422, "Invalid"),
        (json!({"spec": {"runnerName": null}}), 422, "Invalid"),
        (json!({"metadata": {"uid": "another"}}), 409, "Conflict"),
        (json!({"metadata": {"name": "two"}}), 400, "BadRequest"),
        (
            json!({"metadata": {"namespace": "another"}}),
            400,
            "BadRequest",
        ),
        (json!({"kind": "Runner"}), 400, "BadRequest"),
        (json!({"apiVersion": "boatyard.dev/v2"}), 400, "BadRequest"),
    ] {
        let answer = server.patch(&at("one"), change.clone()).await;
        assert_eq!(answer.status.as_u16(), code, "{change}");
        answer.refused(code, reason);
    }
    let ours = json!({"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9, "deletionTimestamp": "2001-01-01T00:00:00Z", "selfLink": "x"}, "spec": {"owner": {"user": "me"}}});
    let kept = server.patch(&at("one"), ours).await.ok();
    assert_eq!(kept, made);
}

#[tokio::test]
async fn an_object_cannot_be_patched_beyond_what_a_body_may_have() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let text = "x".repeat(125_000);
    let grow = |name: &str| {
        let variables = (0..12).map(|number| (format!("{name}{number:02}"), json!(text)));
        let variables: serde_json::Map<_, _> = variables.collect();
        json!({"spec": {"devcontainer": {"localEnv": variables}}})
    };
    server.patch(&at("one"), grow("A")).await.ok();
    let before = server.get(&at("one")).await.text;
    let grown = server.patch(&at("one"), grow("B")).await;
    // 3,000,000 bytes and the rest still fit.
    assert_eq!(grown.status.as_u16(), 200);
    let grown = server.patch(&at("one"), grow("C")).await;
    grown.refused(413, "RequestEntityTooLarge");
    let after = server.get(&at("one")).await.text;
    assert!(after.len() > before.len() && after.len() <= 3 << 20);
}

#[tokio::test]
async fn a_json_patch_tests_by_null_that_something_is_not_there() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let hold = json!([
        {"op": "test", "path": "/metadata/finalizers", "value": null},
        {"op": "add", "path": "/metadata/finalizers", "value": ["example.dev/hold"]},
    ]);
    let held = server
        .ask(&Who::Admin, "PATCH", &at("one"), hold.clone())
        .await
        .ok();
    assert_eq!(held["metadata"]["finalizers"], json!(["example.dev/hold"]));
    let again = server.ask(&Who::Admin, "PATCH", &at("one"), hold).await;
    again.refused(422, "Invalid");
}
