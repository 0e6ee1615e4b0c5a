//! What becomes of dependents when their owners go: every policy, several owners, races, restarts.

use crate::harness::*;
use futures::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

const NAMESPACES: &str = "/api/v1/namespaces";

fn reference(owner: &Value, blocks: bool) -> Value {
    let metadata = &owner["metadata"];
    json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"], "uid": metadata["uid"], "blockOwnerDeletion": blocks})
}

fn dependent(name: &str, owners: &[Value]) -> Value {
    let mut object = environment(name, "a");
    object["metadata"]["ownerReferences"] = json!(owners);
    object
}

fn held(mut object: Value) -> Value {
    object["metadata"]["finalizers"] = json!(["a.io/x"]);
    object
}

async fn make(server: &Server, object: Value) -> Value {
    server.post(ENVIRONMENTS, object).await.ok()
}

async fn release(server: &Server, name: &str) {
    let free = json!({"metadata": {"finalizers": null}});
    server.patch(&at(name), free).await.ok();
}

async fn delete_as(server: &Server, name: &str, policy: &str) -> Value {
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
    let answer = server.ask(&Who::Admin, "DELETE", &at(name), options).await;
    answer.ok()
}

/// Waits until an object is as wanted; None once it is gone.
async fn until(
    server: &Server,
    collection: &str,
    name: &str,
    wanted: impl Fn(Option<&Value>) -> bool,
) {
    let path = format!("{collection}?watch=true&fieldSelector=metadata.name%3D{name}");
    let mut watch = server.watch(&Who::Admin, &path).await;
    let now = server.get(&format!("{collection}/{name}")).await;
    if wanted(now.status.is_success().then_some(&now.json)) {
        return;
    }
    loop {
        let event = watch.next().await.expect("the watch goes on");
        let object = (event["type"] != "DELETED").then_some(&event["object"]);
        if wanted(object) {
            return;
        }
    }
}

async fn gone(server: &Server, name: &str) {
    until(server, ENVIRONMENTS, name, |object| object.is_none()).await;
}

/// Waits until the collector has looked at everything there was.
async fn settled(server: &Server) {
    for _ in 0..2 {
        let mut nobody = environment("nobody", "a");
        nobody["metadata"]["ownerReferences"] = json!([{"apiVersion": "boatyard.dev/v1", "kind": "Runner", "name": "none", "uid": "none"}]);
        make(server, nobody).await;
        gone(server, "nobody").await;
    }
}

async fn owners(server: &Server, name: &str) -> Vec<String> {
    let object = server.get(&at(name)).await.ok();
    let references = object["metadata"]["ownerReferences"].as_array();
    let names = references.into_iter().flatten();
    names
        .map(|owner| owner["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn in_the_background_dependents_follow_their_owner_generation_by_generation() {
    let server = Server::start().await;
    let a = server.environment("a", "a").await;
    let b = make(&server, dependent("b", &[reference(&a, true)])).await;
    make(&server, dependent("c", &[reference(&b, false)])).await;
    make(&server, held(dependent("d", &[reference(&a, true)]))).await;
    // The default, too.
    let status = server.delete(&at("a")).await.ok();
    assert_eq!(status["status"], "Success");
    gone(&server, "b").await;
    gone(&server, "c").await;
    until(&server, ENVIRONMENTS, "d", |object| {
        object.is_none_or(|object| object["metadata"]["deletionTimestamp"].is_string())
    })
    .await;
    release(&server, "d").await;
    gone(&server, "d").await;
}

#[tokio::test]
async fn in_the_foreground_the_owner_goes_after_those_that_block_it_and_waits_for_no_others() {
    let server = Server::start().await;
    let a = server.environment("a", "a").await;
    make(&server, held(dependent("blocks", &[reference(&a, true)]))).await;
    make(&server, held(dependent("holds", &[reference(&a, false)]))).await;
    make(&server, dependent("free", &[reference(&a, true)])).await;
    let marked = delete_as(&server, "a", "Foreground").await;
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    gone(&server, "free").await;
    settled(&server).await;
    server.get(&at("a")).await.ok();
    release(&server, "blocks").await;
    gone(&server, "blocks").await;
    gone(&server, "a").await;
    let holds = server.get(&at("holds")).await.ok();
    assert!(holds["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test]
async fn in_the_foreground_generations_go_the_youngest_first() {
    let server = Server::start().await;
    let a = server.environment("a", "a").await;
    let b = make(&server, dependent("b", &[reference(&a, true)])).await;
    make(&server, held(dependent("c", &[reference(&b, true)]))).await;
    let path = format!("{ENVIRONMENTS}?watch=true");
    let mut watch = server.watch(&Who::Admin, &path).await;
    delete_as(&server, "a", "Foreground").await;
    until(&server, ENVIRONMENTS, "b", |object| {
        object
            .is_some_and(|object| object["metadata"]["finalizers"] == json!(["foregroundDeletion"]))
    })
    .await;
    release(&server, "c").await;
    let mut order = Vec::new();
    while order.len() < 3 {
        let told = watch.told().await;
        if let Some(name) = told.strip_prefix("DELETED ") {
            order.push(name.to_owned());
        }
    }
    assert_eq!(order, ["c", "b", "a"]);
}

#[tokio::test]
async fn orphans_stay_and_keep_their_other_owners() {
    let server = Server::start().await;
    let a = server.environment("a", "a").await;
    let z = server.environment("z", "a").await;
    make(&server, dependent("b", &[reference(&a, true)])).await;
    make(
        &server,
        dependent("c", &[reference(&a, false), reference(&z, false)]),
    )
    .await;
    let marked = delete_as(&server, "a", "Orphan").await;
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
    gone(&server, "a").await;
    settled(&server).await;
    assert!(owners(&server, "b").await.is_empty());
    assert_eq!(owners(&server, "c").await, ["z"]);
}

#[tokio::test]
async fn the_old_option_for_orphans_is_honoured_in_query_and_body() {
    let server = Server::start().await;
    for (name, query, body, stays) in [
        ("a", "?orphanDependents=true", Value::Null, true),
        ("b", "", json!({"orphanDependents": true}), true),
        ("c", "?orphanDependents=false", Value::Null, false),
        (
            "d",
            "?gracePeriodSeconds=7",
            json!({"gracePeriodSeconds": 30}),
            false,
        ),
    ] {
        let owner = server.environment(name, "a").await;
        let child = format!("{name}-child");
        make(&server, dependent(&child, &[reference(&owner, true)])).await;
        let path = format!("{}{query}", at(name));
        server.ask(&Who::Admin, "DELETE", &path, body).await.ok();
        gone(&server, name).await;
        if stays {
            settled(&server).await;
            assert!(owners(&server, &child).await.is_empty());
        } else {
            gone(&server, &child).await;
        }
    }
    server.environment("e", "a").await;
    let both = json!({"propagationPolicy": "Orphan", "orphanDependents": true});
    let refused = server.ask(&Who::Admin, "DELETE", &at("e"), both).await;
    refused.refused(422, "Invalid");
    server.get(&at("e")).await.ok();
}

#[tokio::test]
async fn finalizers_of_the_object_say_what_a_deletion_does_not_and_a_second_deletion_changes_it() {
    let server = Server::start().await;
    let mut a = environment("a", "a");
    a["metadata"]["finalizers"] = json!(["orphan"]);
    let a = make(&server, a).await;
    make(&server, dependent("b", &[reference(&a, true)])).await;
    server.delete(&at("a")).await.ok();
    gone(&server, "a").await;
    settled(&server).await;
    assert!(owners(&server, "b").await.is_empty());

    let c = server.environment("c", "a").await;
    make(&server, held(dependent("d", &[reference(&c, true)]))).await;
    delete_as(&server, "c", "Foreground").await;
    settled(&server).await;
    let status = delete_as(&server, "c", "Background").await;
    assert_eq!(status["status"], "Success");
    server.get(&at("c")).await.refused(404, "NotFound");
    let mut both = environment("e", "a");
    both["metadata"]["finalizers"] = json!(["orphan", "foregroundDeletion"]);
    server
        .post(ENVIRONMENTS, both)
        .await
        .refused(422, "Invalid");
}

#[tokio::test]
async fn one_with_several_owners_goes_with_the_last_and_refers_to_none_that_is_gone() {
    let server = Server::start().await;
    let a = server.environment("a", "a").await;
    let b = server.environment("b", "a").await;
    make(
        &server,
        dependent("c", &[reference(&a, true), reference(&b, true)]),
    )
    .await;
    server.delete(&at("a")).await.ok();
    until(&server, ENVIRONMENTS, "c", |object| {
        let references = object.map(|object| &object["metadata"]["ownerReferences"]);
        references.is_some_and(|references| references.as_array().unwrap().len() == 1)
    })
    .await;
    assert_eq!(owners(&server, "c").await, ["b"]);
    server.delete(&at("b")).await.ok();
    gone(&server, "c").await;
    // One that another owns does not hold up a deletion in the foreground.
    let d = server.environment("d", "a").await;
    let e = server.environment("e", "a").await;
    make(
        &server,
        dependent("f", &[reference(&d, true), reference(&e, true)]),
    )
    .await;
    delete_as(&server, "d", "Foreground").await;
    gone(&server, "d").await;
    assert_eq!(owners(&server, "f").await, ["e"]);
}

#[tokio::test]
async fn an_owner_is_known_by_its_uid_and_those_of_unknown_kinds_are_left_alone() {
    let server = Server::start().await;
    let first = server.environment("a", "a").await;
    make(&server, held(dependent("old", &[reference(&first, true)]))).await;
    server.delete(&at("a")).await.ok();
    let again = server.environment("a", "a").await;
    make(&server, dependent("new", &[reference(&again, true)])).await;
    let foreign = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "uid": "1"});
    make(
        &server,
        dependent("foreign", std::slice::from_ref(&foreign)),
    )
    .await;
    let late =
        json!({"apiVersion": "boatyard.dev/v2", "kind": "Environment", "name": "a", "uid": "1"});
    make(&server, dependent("late", &[late])).await;
    make(
        &server,
        dependent("both", &[foreign, reference(&first, true)]),
    )
    .await;
    release(&server, "old").await;
    gone(&server, "old").await;
    settled(&server).await;
    for stays in ["new", "foreign", "late", "both"] {
        let object = server.get(&at(stays)).await.ok();
        assert!(object["metadata"]["deletionTimestamp"].is_null(), "{stays}");
    }
}

#[tokio::test]
async fn owners_across_namespaces_are_none_and_an_event_says_so() {
    let server = Server::start().await;
    let team = json!({"metadata": {"name": "team"}});
    server.post(NAMESPACES, team).await.ok();
    let path = "/apis/boatyard.dev/v1/namespaces/team/environments";
    let owner = server.post(path, environment("a", "a")).await.ok();
    make(&server, dependent("b", &[reference(&owner, true)])).await;
    gone(&server, "b").await;
    server.get(&format!("{path}/a")).await.ok();
    let runner = json!({"metadata": {"name": "r9", "ownerReferences": [reference(&owner, false)]}, "spec": {}});
    server.post(RUNNERS, runner).await.ok();
    settled(&server).await;
    server.get(&format!("{RUNNERS}/r9")).await.ok();
    let events = server.get(EVENTS).await.ok();
    let told = |name: &str| {
        let events = events["items"].as_array().unwrap().iter();
        let mut about = events.filter(|event| event["involvedObject"]["name"] == name);
        let event = about.next().expect("an event");
        assert_eq!(event["reason"], "OwnerRefInvalidNamespace");
        assert_eq!(event["type"], "Warning");
        assert!(about.next().is_none(), "once");
    };
    told("b");
    told("r9");
    // Owners outside namespaces may own what is inside.
    let class = json!({"metadata": {"name": "big"}, "spec": {}});
    let class = server.post(CLASSES, class).await.ok();
    make(&server, dependent("c", &[reference(&class, true)])).await;
    settled(&server).await;
    server.get(&at("c")).await.ok();
    server.delete(&format!("{CLASSES}/big")).await.ok();
    gone(&server, "c").await;
}

#[tokio::test]
async fn those_that_own_each_other_go_too() {
    let server = Server::start().await;
    for (policy, all) in [
        ("Background", false),
        ("Foreground", false),
        ("Foreground", true),
    ] {
        let names = ["a", "b", "c"];
        let mut made = Vec::new();
        for name in names {
            made.push(server.environment(name, "a").await);
        }
        for (number, name) in names.iter().enumerate() {
            let owner = reference(&made[(number + 2) % 3], true);
            let patch = json!({"metadata": {"ownerReferences": [owner]}});
            server.patch(&at(name), patch).await.ok();
        }
        if all {
            // All at once, so that each waits for the next before any is looked at.
            join_all(names.iter().map(|name| {
                let path = format!("{}?propagationPolicy={policy}", at(name));
                let server = &server;
                async move { server.delete(&path).await }
            }))
            .await;
        } else {
            delete_as(&server, "a", policy).await;
        }
        for name in names {
            gone(&server, name).await;
        }
    }
    let own = server.environment("own", "a").await;
    let patch = json!({"metadata": {"ownerReferences": [reference(&own, true)]}});
    server.patch(&at("own"), patch).await.ok();
    delete_as(&server, "own", "Foreground").await;
    gone(&server, "own").await;
}

#[tokio::test]
async fn dependents_made_while_their_owner_is_deleted_are_treated_as_its_deletion_says() {
    let server = Server::start().await;
    for policy in ["Background", "Foreground", "Orphan"] {
        for round in 0..4 {
            let name = format!("{}-{round}", policy.to_lowercase());
            let owner = server.environment(&name, "a").await;
            let owned = reference(&owner, true);
            let child = |number: i32| format!("{name}-{number}");
            for number in 0..5 {
                make(
                    &server,
                    dependent(&child(number), std::slice::from_ref(&owned)),
                )
                .await;
            }
            let making = (5..15).map(|number| {
                make(
                    &server,
                    dependent(&child(number), std::slice::from_ref(&owned)),
                )
            });
            tokio::join!(join_all(making), delete_as(&server, &name, policy));
            gone(&server, &name).await;
            // Those made before the deletion was asked for are all the same; of the others some
            // came too late to be orphaned.
            for number in 0..5 {
                if policy == "Orphan" {
                    settled(&server).await;
                    assert!(owners(&server, &child(number)).await.is_empty());
                } else {
                    gone(&server, &child(number)).await;
                }
            }
            for number in 5..15 {
                if policy == "Orphan" {
                    until(&server, ENVIRONMENTS, &child(number), |object| {
                        object.is_none_or(|object| {
                            object["metadata"]["ownerReferences"]
                                .as_array()
                                .is_none_or(Vec::is_empty)
                        })
                    })
                    .await;
                } else {
                    gone(&server, &child(number)).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_restart_in_the_midst_of_deletions_loses_none() {
    let server = Server::start().await;
    let a = server.environment("a", "a").await;
    make(&server, held(dependent("b", &[reference(&a, true)]))).await;
    delete_as(&server, "a", "Foreground").await;
    let c = server.environment("c", "a").await;
    for number in 0..50 {
        make(
            &server,
            dependent(&format!("c{number}"), &[reference(&c, false)]),
        )
        .await;
    }
    server.delete(&at("c")).await.ok();
    let store = server.store.clone();
    let folder = server.kill().await;
    let server = Server::start_on(folder, store.clone(), store, |_| {}).await;
    for number in 0..50 {
        gone(&server, &format!("c{number}")).await;
    }
    server.get(&at("a")).await.ok();
    until(&server, ENVIRONMENTS, "b", |object| {
        object.is_some_and(|object| object["metadata"]["deletionTimestamp"].is_string())
    })
    .await;
    release(&server, "b").await;
    gone(&server, "a").await;
}

#[tokio::test]
async fn a_collection_is_deleted_as_the_policy_says() {
    let server = Server::start().await;
    for (policy, stays) in [
        ("Background", false),
        ("Foreground", false),
        ("Orphan", true),
    ] {
        let mut children = Vec::new();
        for name in ["x", "y"] {
            let owner = server.environment(&format!("{name}-owner"), "owner").await;
            let child = format!("{name}-{}", policy.to_lowercase());
            make(&server, dependent(&child, &[reference(&owner, true)])).await;
            children.push(child);
        }
        let path = format!("{ENVIRONMENTS}?labelSelector=tier%3Downer&propagationPolicy={policy}");
        server.delete(&path).await.ok();
        gone(&server, "x-owner").await;
        gone(&server, "y-owner").await;
        for child in children {
            if stays {
                settled(&server).await;
                assert!(owners(&server, &child).await.is_empty());
            } else {
                gone(&server, &child).await;
            }
        }
    }
}

#[tokio::test]
async fn references_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let good = json!({"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": "1", "controller": true});
    for (changes, path) in [
        (json!({"uid": ""}), "metadata.ownerReferences[0].uid"),
        (json!({"uid": null}), "metadata.ownerReferences[0].uid"),
        (
            json!({"apiVersion": ""}),
            "metadata.ownerReferences[0].apiVersion",
        ),
        (json!({"kind": "Event"}), "metadata.ownerReferences[0]"),
    ] {
        let mut bad = good.clone();
        for (member, value) in changes.as_object().unwrap() {
            bad[member] = value.clone();
        }
        let refused = server.post(ENVIRONMENTS, dependent("a", &[bad])).await;
        assert_eq!(refused.json["details"]["causes"][0]["field"], path);
        refused.refused(422, "Invalid");
    }
    let two = dependent("a", &[good.clone(), good]);
    server.post(ENVIRONMENTS, two).await.refused(422, "Invalid");
}

#[tokio::test]
async fn an_event_goes_when_it_was_not_seen_for_its_age() {
    let server = Server::start().await;
    let store = server.store.clone();
    let folder = server.leave().await;
    let age =
        |options: &mut boatyard_server::Options| options.event_age = Duration::from_secs(3600);
    let server = Server::start_on(folder, store.clone(), store.clone(), age).await;
    let event = |name: &str, seen: &str| json!({"metadata": {"name": name}, "involvedObject": {}, "lastTimestamp": seen});
    server
        .post(EVENTS, event("old", "2020-01-01T00:00:00Z"))
        .await
        .ok();
    let fresh = json!({"metadata": {"name": "fresh"}, "involvedObject": {}});
    server.post(EVENTS, fresh).await.ok();
    let folder = server.leave().await;
    let server = Server::start_on(folder, store.clone(), store.clone(), age).await;
    until(&server, EVENTS, "old", |object| object.is_none()).await;
    server.get(&format!("{EVENTS}/fresh")).await.ok();
    let folder = server.leave().await;
    let short = |options: &mut boatyard_server::Options| options.event_age = Duration::from_secs(1);
    let server = Server::start_on(folder, store.clone(), store, short).await;
    until(&server, EVENTS, "fresh", |object| object.is_none()).await;
}

#[tokio::test]
async fn nobody_holds_up_the_deletion_of_what_is_anothers() {
    let server = Server::start().await;
    let own = json!({"metadata": {"name": "own"}, "spec": {}});
    let own = server
        .ask(&Who::User(1000), "POST", ENVIRONMENTS, own)
        .await
        .ok();
    let foreign = server.environment("foreign", "a").await;
    let class = server.get(&format!("{CLASSES}/default")).await.ok();
    let unknown = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "uid": "1", "blockOwnerDeletion": true});
    for (name, owner, allowed) in [
        ("a", reference(&own, true), true),
        ("b", reference(&foreign, true), false),
        ("c", reference(&foreign, false), true),
        ("d", reference(&class, true), false),
        ("e", unknown, false),
    ] {
        let made =
            json!({"metadata": {"name": name, "ownerReferences": [owner.clone()]}, "spec": {}});
        let made = server
            .ask(&Who::User(1000), "POST", ENVIRONMENTS, made)
            .await;
        if allowed {
            made.ok();
        } else {
            let message = made.refused(403, "Forbidden");
            assert!(message.contains("blockOwnerDeletion"), "{message}");
        }
        // Nor later.
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        let patched = server
            .ask(&Who::User(1000), "PATCH", &at("own"), patch)
            .await;
        assert_eq!(patched.status.is_success(), allowed, "{patched:?}");
        let none = json!({"metadata": {"ownerReferences": null}});
        server
            .ask(&Who::User(1000), "PATCH", &at("own"), none)
            .await
            .ok();
    }
}

#[tokio::test]
async fn a_runner_has_no_environment_deleted_by_giving_it_an_owner_that_is_gone() {
    let server = Server::start().await;
    let bound = json!({"metadata": {"name": "bound"}, "spec": {"runnerName": "r1"}});
    server.post(ENVIRONMENTS, bound).await.ok();
    let owner =
        json!({"apiVersion": "boatyard.dev/v1", "kind": "Runner", "name": "none", "uid": "none"});
    let patch = json!({"metadata": {"ownerReferences": [owner]}});
    let refused = server
        .ask(&server.runner(), "PATCH", &at("bound"), patch)
        .await;
    refused.refused(403, "Forbidden");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    server
        .ask(&server.runner(), "PATCH", &at("bound"), label)
        .await
        .ok();
}
