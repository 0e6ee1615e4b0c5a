//! Namespaces: what may be made in them, and how they go with all that is in them.

use crate::harness::*;
use futures::future::join_all;
use serde_json::{Value, json};

const NAMESPACES: &str = "/api/v1/namespaces";

fn within_team(name: &str) -> String {
    let path = "/apis/boatyard.dev/v1/namespaces/team/environments";
    if name.is_empty() {
        path.to_owned()
    } else {
        format!("{path}/{name}")
    }
}

async fn make_team(server: &Server, finalizers: Value) -> Value {
    let team = json!({"metadata": {"name": "team", "finalizers": finalizers}});
    server.post(NAMESPACES, team).await.ok()
}

/// Reads a watch until the namespace has gone.
async fn gone(watch: &mut Watch) {
    while watch.told().await != "DELETED team" {}
}

async fn watch_team(server: &Server) -> Watch {
    let path = format!("{NAMESPACES}?watch=true&fieldSelector=metadata.name%3Dteam");
    server.watch(&Who::Admin, &path).await
}

#[tokio::test]
async fn a_namespace_is_active_from_the_start_and_takes_objects() {
    let server = Server::start().await;
    let early = server.post(&within_team(""), environment("one", "a")).await;
    let message = early.refused(404, "NotFound");
    assert!(message.contains("namespaces \"team\""));
    let team = make_team(&server, Value::Null).await;
    assert_eq!(team["status"]["phase"], "Active");
    let label = &team["metadata"]["labels"]["kubernetes.io/metadata.name"];
    assert_eq!(label, "team");
    let made = server.post(&within_team(""), environment("one", "a")).await;
    assert_eq!(made.ok()["metadata"]["namespace"], "team");
    server.get(&at("one")).await.refused(404, "NotFound");
}

#[tokio::test]
async fn a_deleted_namespace_takes_nothing_more_and_goes_after_its_contents() {
    let server = Server::start().await;
    make_team(&server, Value::Null).await;
    let mut held = environment("held", "a");
    held["metadata"]["finalizers"] = json!(["a.io/x"]);
    server.post(&within_team(""), held).await.ok();
    server
        .post(&within_team(""), environment("free", "a"))
        .await
        .ok();
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Environment", "name": "free"}, "reason": "Made"});
    server
        .post("/api/v1/namespaces/team/events", event)
        .await
        .ok();
    let mut contents = server
        .watch(&Who::Admin, &(within_team("") + "?watch=true"))
        .await;
    let mut watch = watch_team(&server).await;

    let marked = server.delete("/api/v1/namespaces/team").await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let late = server
        .post(&within_team(""), environment("late", "a"))
        .await;
    let cause = &late.json["details"]["causes"][0]["reason"];
    assert_eq!(cause, "NamespaceTerminating", "{late:?}");
    assert!(late.refused(403, "Forbidden").contains("being terminated"));
    // The free one goes, the held one is marked and holds the namespace.
    while contents.told().await != "DELETED free" {}
    server.get("/api/v1/namespaces/team").await.ok();
    let held = server.get(&within_team("held")).await.ok();
    let free = json!({"metadata": {"finalizers": null}});
    if held["metadata"]["deletionTimestamp"].is_null() {
        while contents.told().await != "MODIFIED held" {}
    }
    server.patch(&within_team("held"), free).await.ok();
    gone(&mut watch).await;
    let events = server.get("/api/v1/namespaces/team/events").await.ok();
    assert!(names(&events).is_empty());
    make_team(&server, Value::Null).await;
    let empty = server.get(&within_team("")).await.ok();
    assert!(names(&empty).is_empty());
}

#[tokio::test]
async fn a_namespace_with_a_finalizer_waits_for_it() {
    let server = Server::start().await;
    make_team(&server, json!(["a.io/x"])).await;
    let mut watch = watch_team(&server).await;
    server
        .post(&within_team(""), environment("one", "a"))
        .await
        .ok();
    let mut contents = server
        .watch(&Who::Admin, &(within_team("") + "?watch=true"))
        .await;
    server.delete("/api/v1/namespaces/team").await.ok();
    while contents.told().await != "DELETED one" {}
    // Emptied, it is looked at once more for each of these, and stays.
    for number in 0..3 {
        let label = json!({"metadata": {"labels": {"n": number.to_string()}}});
        server.patch("/api/v1/namespaces/team", label).await.ok();
    }
    let before = server.get("/api/v1/namespaces/team").await.ok();
    assert_eq!(before["metadata"]["finalizers"], json!(["a.io/x"]));
    let free = json!({"metadata": {"finalizers": null}});
    server.patch("/api/v1/namespaces/team", free).await.ok();
    gone(&mut watch).await;
}

#[tokio::test]
async fn the_servers_own_namespaces_cannot_be_deleted() {
    let server = Server::start().await;
    for name in ["default", "boatyard-runners", "boatyard-system"] {
        let path = format!("{NAMESPACES}/{name}");
        server.delete(&path).await.refused(403, "Forbidden");
        assert_eq!(server.get(&path).await.ok()["status"]["phase"], "Active");
    }
}

#[tokio::test]
async fn nothing_is_left_in_a_namespace_that_went_while_others_wrote_into_it() {
    let server = Server::start().await;
    for round in 0..20 {
        make_team(&server, Value::Null).await;
        let mut watch = watch_team(&server).await;
        let writers = (0..6).map(async |number: i32| {
            let name = format!("e{round}-{number}");
            let answer = server.post(&within_team(""), environment(&name, "a")).await;
            let code = answer.status.as_u16();
            assert!([201, 403, 404].contains(&code), "{answer:?}");
        });
        let deleter = async { server.delete("/api/v1/namespaces/team").await.ok() };
        tokio::join!(deleter, join_all(writers));
        gone(&mut watch).await;
        let left = server.get(&within_team("")).await.ok();
        assert!(names(&left).is_empty(), "round {round}: {left}");
    }
}

#[tokio::test]
async fn a_namespace_that_waits_says_for_what() {
    let server = Server::start().await;
    let team = make_team(&server, Value::Null).await;
    assert_eq!(team["spec"]["finalizers"], json!(["kubernetes"]));
    // Events and leases are waited for like all else.
    let path = "/api/v1/namespaces/team/events";
    let event = json!({"metadata": {"name": "e", "finalizers": ["a.io/x"]}, "involvedObject": {"namespace": "team"}});
    server.post(path, event).await.ok();
    let mut watch = watch_team(&server).await;
    server.delete("/api/v1/namespaces/team").await.ok();
    let told = loop {
        let event = watch.next().await.unwrap();
        if event["object"]["status"]["conditions"].is_array() {
            break event["object"]["status"].clone();
        }
    };
    let condition = |name: &str| {
        let mut conditions = told["conditions"].as_array().unwrap().iter();
        let found = conditions.find(|condition| condition["type"] == name);
        let found = found.unwrap_or_else(|| panic!("{name} in {told}"));
        (
            found["status"].clone(),
            found["reason"].clone(),
            found["message"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(told["phase"], "Terminating");
    let (status, reason, _) = condition("NamespaceDeletionDiscoveryFailure");
    assert_eq!(
        (status, reason),
        (json!("False"), json!("ResourcesDiscovered"))
    );
    let (status, reason, message) = condition("NamespaceContentRemaining");
    assert_eq!(
        (status, reason),
        (json!("True"), json!("SomeResourcesRemain"))
    );
    assert!(
        message.ends_with("events. has 1 resource instances"),
        "{message}"
    );
    let (status, reason, message) = condition("NamespaceFinalizersRemaining");
    assert_eq!(
        (status, reason),
        (json!("True"), json!("SomeFinalizersRemain"))
    );
    assert!(
        message.ends_with("a.io/x in 1 resource instances"),
        "{message}"
    );
    let free = json!({"metadata": {"finalizers": null}});
    let released = std::time::Instant::now();
    server.patch(&format!("{path}/e"), free).await.ok();
    gone(&mut watch).await;
    // Woken by the event, not by a look now and then.
    assert!(released.elapsed() < std::time::Duration::from_secs(25));
}

#[tokio::test]
async fn only_the_finalize_subresource_writes_a_namespaces_finalizers() {
    let server = Server::start().await;
    let team = make_team(&server, Value::Null).await;
    let path = "/api/v1/namespaces/team";
    let patch = json!({"spec": {"finalizers": []}});
    let patched = server.patch(path, patch).await.ok();
    assert_eq!(patched["spec"]["finalizers"], json!(["kubernetes"]));
    let more = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "labels": {"a": "b"}}, "spec": {"finalizers": ["kubernetes", "a.io/x"]}});
    let finalized = server.put(&format!("{path}/finalize"), more).await.ok();
    assert_eq!(
        finalized["spec"]["finalizers"],
        json!(["kubernetes", "a.io/x"])
    );
    assert!(
        finalized["metadata"]["labels"]["a"].is_null(),
        "nothing else"
    );
    server
        .get(&format!("{path}/finalize"))
        .await
        .refused(405, "MethodNotAllowed");

    // Both must go; who is early takes nothing away.
    let mut watch = watch_team(&server).await;
    server.delete(path).await.ok();
    let ours_gone = |object: &Value| object["spec"]["finalizers"] == json!(["a.io/x"]);
    while !ours_gone(&watch.next().await.unwrap()["object"]) {}
    server.get(path).await.ok();
    let none = json!({"metadata": {"name": "team"}, "spec": {"finalizers": []}});
    server.put(&format!("{path}/finalize"), none).await.ok();
    gone(&mut watch).await;
    assert_ne!(
        make_team(&server, Value::Null).await["metadata"]["uid"],
        team["metadata"]["uid"]
    );
}

#[tokio::test]
async fn what_belongs_to_others_goes_with_its_namespace_whatever_its_finalizers_say_of_dependents()
{
    let server = Server::start().await;
    make_team(&server, Value::Null).await;
    let mut owner = environment("owner", "a");
    owner["metadata"]["finalizers"] = json!(["orphan"]);
    let owner = server.post(&within_team(""), owner).await.ok();
    let mut child = environment("child", "a");
    child["metadata"]["ownerReferences"] = json!([{"apiVersion": "boatyard.dev/v1", "kind": "Environment", "name": "owner", "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]);
    server.post(&within_team(""), child).await.ok();
    let mut watch = watch_team(&server).await;
    server.delete("/api/v1/namespaces/team").await.ok();
    gone(&mut watch).await;
}
