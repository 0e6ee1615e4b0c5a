//! Conventions by example.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::kinds::Kinds;

fn environment(kinds: &Kinds) -> &Kind {
    kinds.find("boatyard.dev", "v1", "environments").unwrap()
}

fn created(kind: &Kind) -> Value {
    let object = json!({"metadata": {"name": "a"}, "spec": {}, "status": {"phase": "Running"}});
    let object = create(kind, object, "default", Timestamp::UNIX_EPOCH).unwrap();
    kind.prepare("a", object, None).unwrap()
}

#[test]
fn create_sets_what_is_the_servers_and_drops_status() {
    let kinds = Kinds::default();
    let object = created(environment(&kinds));
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(
        object["metadata"]["creationTimestamp"],
        "1970-01-01T00:00:00Z"
    );
    assert_eq!(object["metadata"]["namespace"], "default");
    assert_eq!(object["spec"]["className"], "default");
    assert!(object["status"].is_null());
    let other = create(
        environment(&kinds),
        json!({"metadata": {"generateName": "x-"}, "spec": {}}),
        "default",
        Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    assert!(meta(&other, "name").starts_with("x-") && meta(&other, "name").len() == 10);
}

#[test]
fn metadata_keeps_nothing_empty() {
    let kinds = Kinds::default();
    let kind = environment(&kinds);
    let empties = json!({"name": "a", "labels": {}, "annotations": null, "finalizers": [], "ownerReferences": []});
    let object = json!({"metadata": empties, "spec": {}});
    let object = create(kind, object, "default", Timestamp::UNIX_EPOCH).unwrap();
    let members = object["metadata"].as_object().unwrap();
    for (member, value) in members {
        assert!(value.is_string() || value.is_number(), "{member}: {value}");
    }
    let mut old = object;
    old["metadata"]["labels"] = json!({"a": "b"});
    let mut wanted = old.clone();
    wanted["metadata"]["labels"] = json!({});
    let object = update(kind, wanted, &old, "").unwrap();
    assert!(object["metadata"].get("labels").is_none(), "{object}");
}

#[test]
fn spec_and_status_writes_do_not_touch_each_other() {
    let kinds = Kinds::default();
    let kind = environment(&kinds);
    let old = created(kind);
    let mut wanted = old.clone();
    wanted["spec"]["state"] = json!("Stopped");
    wanted["status"] = json!({"phase": "Running"});
    let main = update(kind, wanted.clone(), &old, "").unwrap();
    assert!(main["status"].is_null());
    assert_eq!(main["metadata"]["generation"], 2);
    let status = update(kind, wanted, &old, "status").unwrap();
    assert_eq!(
        (&status["spec"]["state"], &status["status"]["phase"]),
        (&json!("Running"), &json!("Running"))
    );
    assert_eq!(status["metadata"]["generation"], 1);
}

#[test]
fn finalizers_hold_a_deleted_object() {
    let kinds = Kinds::default();
    let kind = environment(&kinds);
    let mut old = created(kind);
    assert!(matches!(
        delete(
            kind,
            &old,
            &deletion::Options::default(),
            Timestamp::UNIX_EPOCH
        ),
        Deletion::Remove
    ));
    old["metadata"]["finalizers"] = json!(["a/b"]);
    let Deletion::Mark(marked) = delete(
        kind,
        &old,
        &deletion::Options::default(),
        Timestamp::UNIX_EPOCH,
    ) else {
        panic!("not marked")
    };
    assert!(!is_released(kind, &marked));
    let mut more = marked.clone();
    more["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
    assert_eq!(update(kind, more, &marked, "").unwrap_err().code, 403);
    let mut released = marked.clone();
    released["metadata"]["finalizers"] = json!([]);
    assert!(is_released(
        kind,
        &update(kind, released, &marked, "").unwrap()
    ));
}

#[test]
fn a_namesake_with_another_uid_is_a_conflict() {
    let kinds = Kinds::default();
    let kind = environment(&kinds);
    let old = created(kind);
    let mut other = old.clone();
    other["metadata"]["uid"] = json!("0");
    assert_eq!(
        update(kind, other, &old, "status").unwrap_err().reason,
        "Conflict"
    );
}
