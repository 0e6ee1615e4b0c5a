//! Collections: pages, selectors, forms, versions, and who sees what of them.

use crate::harness::*;
use boatyard_store::{Revision, Store};
use serde_json::{Value, json};

async fn seven(server: &Server) {
    for (name, tier) in [
        ("a1", "a"),
        ("a2", "a"),
        ("b1", "b"),
        ("b2", "b"),
        ("c1", "c"),
        ("c2", "c"),
        ("d1", "d"),
    ] {
        server.environment(name, tier).await;
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

#[tokio::test]
async fn all_pages_of_a_list_show_one_moment() {
    let server = Server::start().await;
    seven(&server).await;
    let first = server.get(&format!("{ENVIRONMENTS}?limit=3")).await.ok();
    assert_eq!(first["kind"], "EnvironmentList");
    assert_eq!(first["apiVersion"], "boatyard.dev/v1");
    assert_eq!(names(&first), ["a1", "a2", "b1"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 4);

    server.delete(&at("b2")).await.ok();
    server.environment("b3", "b").await;
    let later = json!({"metadata": {"labels": {"tier": "z"}}});
    server.patch(&at("c2"), later).await.ok();

    let next = text(&first["metadata"]["continue"]).to_owned();
    let path = format!("{ENVIRONMENTS}?limit=3&continue={next}");
    let second = server.get(&path).await.ok();
    assert_eq!(names(&second), ["b2", "c1", "c2"]);
    assert_eq!(second["items"][2]["metadata"]["labels"]["tier"], "c");
    assert_eq!(version(&second), version(&first));
    assert_eq!(second["metadata"]["remainingItemCount"], 1);
    let next = text(&second["metadata"]["continue"]);
    let path = format!("{ENVIRONMENTS}?limit=3&continue={next}");
    let third = server.get(&path).await.ok();
    assert_eq!(names(&third), ["d1"]);
    assert!(third["metadata"].get("continue").is_none());

    let now = server.get(ENVIRONMENTS).await.ok();
    assert_eq!(names(&now), ["a1", "a2", "b1", "b3", "c1", "c2", "d1"]);
    assert!(version(&now) > version(&first));
    let exact = server.get(&format!("{ENVIRONMENTS}?limit=7")).await.ok();
    assert!(exact["metadata"].get("continue").is_none());
}

#[tokio::test]
async fn pages_are_full_whatever_the_selector_leaves_out() {
    let server = Server::start().await;
    seven(&server).await;
    let selected = format!("{ENVIRONMENTS}?labelSelector=tier+in+(a,c)&limit=2");
    let first = server.get(&selected).await.ok();
    assert_eq!(names(&first), ["a1", "a2"]);
    let remaining = first["metadata"].get("remainingItemCount");
    assert!(remaining.is_none(), "it would count what is not selected");
    let next = text(&first["metadata"]["continue"]);
    let second = server.get(&format!("{selected}&continue={next}")).await;
    let second = second.ok();
    assert_eq!(names(&second), ["c1", "c2"]);
    // What is left matches nothing: an empty page may follow, and it is the last.
    let next = text(&second["metadata"]["continue"]);
    let third = server.get(&format!("{selected}&continue={next}")).await;
    let third = third.ok();
    assert!(names(&third).is_empty());
    assert!(third["metadata"].get("continue").is_none());
}

#[tokio::test]
async fn a_token_that_is_too_old_malformed_or_of_another_list_is_refused() {
    let server = Server::start().await;
    seven(&server).await;
    let first = server.get(&format!("{ENVIRONMENTS}?limit=3")).await.ok();
    let next = text(&first["metadata"]["continue"]).to_owned();
    for path in [
        format!("{ENVIRONMENTS}?limit=3&continue=x{next}"),
        format!("{ENVIRONMENTS}?limit=3&continue=%21"),
        format!("{ENVIRONMENTS}?limit=3&continue={next}&resourceVersion=5"),
        format!("{RUNNERS}?limit=3&continue={next}"),
        format!("/apis/boatyard.dev/v1/namespaces/boatyard-runners/environments?continue={next}"),
        format!("{ENVIRONMENTS}?limit=-1"),
        format!("{ENVIRONMENTS}?limit=many"),
    ] {
        server.get(&path).await.refused(400, "BadRequest");
    }
    server.environment("e1", "e").await;
    let path = format!("{ENVIRONMENTS}?limit=3&continue={next}");
    assert_eq!(names(&server.get(&path).await.ok()).len(), 3);
    let revision = server.store.revision().await.unwrap();
    server.store.compact(revision).await.unwrap();
    server.get(&path).await.refused(410, "Expired");
}

#[tokio::test]
async fn selectors_choose_by_labels_and_fields() {
    let server = Server::start().await;
    seven(&server).await;
    let bare = json!({"metadata": {"name": "bare", "labels": {"x.io/y": "1"}}, "spec": {"runnerName": "r1"}, "status": {}});
    server.post(ENVIRONMENTS, bare).await.ok();
    let status = json!({"status": {"phase": "Running"}});
    server.patch(&(at("b1") + "/status"), status).await.ok();
    for (query, wanted) in [
        ("labelSelector=tier%3Da", "a1 a2"),
        ("labelSelector=tier%3D%3Da", "a1 a2"),
        ("labelSelector=tier!%3Da,tier", "b1 b2 c1 c2 d1"),
        ("labelSelector=tier+in+(a,d)", "a1 a2 d1"),
        ("labelSelector=tier%20notin%20(a,b,c)", "bare d1"),
        ("labelSelector=!tier", "bare"),
        ("labelSelector=x.io/y", "bare"),
        ("labelSelector=tier%3Da,tier%3Db", ""),
        ("fieldSelector=metadata.name%3Db1", "b1"),
        (
            "fieldSelector=metadata.name!%3Db1,metadata.namespace%3Ddefault&labelSelector=tier%3Db",
            "b2",
        ),
        ("fieldSelector=spec.runnerName%3Dr1", "bare"),
        ("fieldSelector=status.phase%3DRunning", "b1"),
        ("fieldSelector=metadata.namespace%3Dother", ""),
    ] {
        let list = server.get(&format!("{ENVIRONMENTS}?{query}")).await.ok();
        assert_eq!(names(&list).join(" "), wanted, "{query}");
    }
    for bad in [
        "labelSelector=tier+in+(a",
        "labelSelector=%3Da",
        "labelSelector=a%20b",
        "fieldSelector=spec.class%3Da",
        "fieldSelector=metadata.name",
        "labelSelector=%ff",
    ] {
        let answer = server.get(&format!("{ENVIRONMENTS}?{bad}")).await;
        answer.refused(400, "BadRequest");
    }
    let long = format!("{ENVIRONMENTS}?labelSelector={}", "a,".repeat(5000));
    server.get(&long).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn tables_have_columns_and_what_of_the_objects_was_asked() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let as_table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let get = async |path: &str| {
        let headers = [("accept", as_table)];
        let answer = server.tell(&Who::Admin, "GET", path, &headers, "").await;
        answer.ok()
    };
    let table = get(ENVIRONMENTS).await;
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
    assert!(version(&table) > 0);
    let columns = table["columnDefinitions"].as_array().unwrap();
    let heads: Vec<&str> = columns.iter().map(|column| text(&column["name"])).collect();
    assert_eq!(heads[..2], ["Name", "Phase"]);
    let row = &table["rows"][0];
    assert_eq!(row["cells"].as_array().unwrap().len(), columns.len());
    assert_eq!(row["cells"][0], "one");
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(row["object"]["metadata"]["name"], "one");
    assert!(row["object"].get("spec").is_none());

    let one = get(&at("one")).await;
    assert_eq!(one["kind"], "Table");
    let told = |table: &Value| {
        let mut row = table["rows"][0].clone();
        // It counts seconds.
        let age = heads.iter().position(|head| *head == "Age").unwrap();
        row["cells"][age].take();
        row
    };
    assert_eq!(told(&one), told(&table));
    let whole = get(&format!("{ENVIRONMENTS}?includeObject=Object")).await;
    assert_eq!(whole["rows"][0]["object"]["kind"], "Environment");
    assert!(whole["rows"][0]["object"]["spec"].is_object());
    let none = get(&format!("{ENVIRONMENTS}?includeObject=None")).await;
    assert!(none["rows"][0]["object"].is_null());
    let odd = format!("{ENVIRONMENTS}?includeObject=Half");
    server.get(&odd).await.refused(400, "BadRequest");
    let page = get(&format!("{CLASSES}?limit=1")).await;
    assert_eq!(page["rows"][0]["cells"][0], "default");
}

#[tokio::test]
async fn metadata_alone_is_served_of_every_answer_that_has_an_object() {
    let server = Server::start().await;
    let mut held = environment("one", "a");
    held["metadata"]["finalizers"] = json!(["a.io/x"]);
    let whole = server.post(ENVIRONMENTS, held).await.ok();
    let tell = async |method: &str, path: &str, form: &str, body: Value| {
        let accept = format!("application/json;as={form};v=v1;g=meta.k8s.io");
        let media = "application/merge-patch+json";
        let headers = [("accept", accept.as_str()), ("content-type", media)];
        let body = body.to_string();
        let answer = server.tell(&Who::Admin, method, path, &headers, body);
        answer.await.ok()
    };
    let form = "PartialObjectMetadataList";
    let list = tell("GET", ENVIRONMENTS, form, Value::Null).await;
    assert_eq!(list["kind"], form);
    assert_eq!(list["apiVersion"], "meta.k8s.io/v1");
    let partial = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": whole["metadata"]});
    assert_eq!(list["items"], json!([partial]));
    let form = "PartialObjectMetadata";
    assert_eq!(tell("GET", &at("one"), form, Value::Null).await, partial);
    let label = json!({"metadata": {"labels": {"b": "c"}}});
    let patched = tell("PATCH", &at("one"), form, label).await;
    assert_eq!(patched["kind"], form);
    assert_eq!(patched["metadata"]["labels"]["b"], "c");
    assert!(patched.get("spec").is_none());
    let headers = [(
        "accept",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    )];
    let path = at("one");
    let deleted = server.tell(&Who::Admin, "DELETE", &path, &headers, "");
    let deleted = deleted.await.ok();
    assert_eq!(deleted["kind"], form);
    assert!(deleted["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test]
async fn a_list_is_of_the_version_asked_for() {
    let server = Server::start().await;
    let first = server.environment("one", "a").await;
    server.environment("two", "a").await;
    let then = version(&first);
    let get = async |query: String| server.get(&format!("{ENVIRONMENTS}?{query}")).await;
    let exact = format!("resourceVersion={then}&resourceVersionMatch=Exact");
    let old = get(exact.clone()).await.ok();
    assert_eq!(names(&old), ["one"]);
    assert_eq!(version(&old), then);
    for query in [
        format!("resourceVersion={then}&resourceVersionMatch=NotOlderThan"),
        format!("resourceVersion={then}"),
        "resourceVersion=0".to_owned(),
    ] {
        assert_eq!(names(&get(query).await.ok()), ["one", "two"]);
    }
    let future = then + 1000;
    get(format!("resourceVersion={future}"))
        .await
        .refused(504, "Timeout");
    let malformed = get("resourceVersion=new".to_owned()).await;
    malformed.refused(400, "BadRequest");
    for bad in [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=Nearly",
        "resourceVersion=1&resourceVersionMatch=Exact&continue=x",
        "sendInitialEvents=true",
    ] {
        let refused = get(bad.to_owned()).await.refused(422, "Invalid");
        assert!(
            refused.starts_with("ListOptions.meta.k8s.io \"\" is invalid"),
            "{refused}"
        );
    }
    // Pages of a version are of exactly that version.
    let page = get(format!("resourceVersion={then}&limit=5")).await.ok();
    assert_eq!(page["metadata"]["resourceVersion"], then.to_string());
    server.store.compact(Revision(then + 1)).await.unwrap();
    get(exact).await.refused(410, "Expired");
}

#[tokio::test]
async fn a_collection_is_deleted_as_far_as_the_selector_reaches() {
    let server = Server::start().await;
    seven(&server).await;
    let mut held = environment("a3", "a");
    held["metadata"]["finalizers"] = json!(["a.io/x"]);
    server.post(ENVIRONMENTS, held).await.ok();
    let delete = async |query: &str, body: Value| {
        let path = format!("{ENVIRONMENTS}?{query}");
        server.ask(&Who::Admin, "DELETE", &path, body).await
    };
    let tier_a = "labelSelector=tier%3Da";
    let bad = delete("labelSelector=tier+in+(a", Value::Null).await;
    bad.refused(400, "BadRequest");
    delete(&format!("{tier_a}&dryRun=All"), Value::Null)
        .await
        .ok();
    let options = json!({"kind": "DeleteOptions", "dryRun": ["All"]});
    delete(tier_a, options).await.ok();
    let wrong = json!({"preconditions": {"uid": "another"}});
    delete(tier_a, wrong).await.refused(409, "Conflict");
    assert_eq!(names(&server.get(ENVIRONMENTS).await.ok()).len(), 8);

    let deleted = delete(tier_a, Value::Null).await.ok();
    assert_eq!(deleted["kind"], "EnvironmentList");
    assert_eq!(names(&deleted), ["a1", "a2", "a3"]);
    let left = server.get(ENVIRONMENTS).await.ok();
    assert_eq!(names(&left), ["a3", "b1", "b2", "c1", "c2", "d1"]);
    let held = &left["items"][0]["metadata"]["deletionTimestamp"];
    assert!(held.is_string());
    delete("limit=3", Value::Null).await.ok();
    let left = server.get(ENVIRONMENTS).await.ok();
    assert_eq!(names(&left), ["a3", "c1", "c2", "d1"]);
    delete("", Value::Null).await.ok();
    assert_eq!(names(&server.get(ENVIRONMENTS).await.ok()), ["a3"]);
}

#[tokio::test]
async fn each_caller_lists_what_is_the_callers() {
    let server = Server::start().await;
    server.environment("bound", "a").await;
    let of_r1 = json!({"metadata": {"name": "mine"}, "spec": {"runnerName": "r1"}});
    server.post(ENVIRONMENTS, of_r1).await.ok();
    let (ann, bob) = (Who::User(2001), Who::User(2002));
    for (who, name) in [
        (&ann, "ann1"),
        (&ann, "ann2"),
        (&ann, "ann3"),
        (&bob, "bob1"),
    ] {
        let body = json!({"metadata": {"name": name}, "spec": {}});
        server.ask(who, "POST", ENVIRONMENTS, body).await.ok();
    }
    let list = async |who: &Who, query: &str| {
        let path = format!("{ENVIRONMENTS}{query}");
        server.ask(who, "GET", &path, Value::Null).await
    };
    let everywhere = "/apis/boatyard.dev/v1/environments";
    assert_eq!(names(&list(&Who::Admin, "").await.ok()).len(), 6);
    let all = list(&ann, "").await.ok();
    assert_eq!(names(&all), ["ann1", "ann2", "ann3"]);
    assert_eq!(names(&list(&bob, "").await.ok()), ["bob1"]);
    assert!(names(&list(&Who::User(2003), "").await.ok()).is_empty());
    let all = server.ask(&bob, "GET", everywhere, Value::Null).await.ok();
    assert_eq!(names(&all), ["bob1"]);

    // A page tells neither the number nor, by its token, the name of anything hidden.
    let page = list(&ann, "?limit=2").await.ok();
    assert_eq!(names(&page), ["ann1", "ann2"]);
    assert!(page["metadata"].get("remainingItemCount").is_none());
    let next = text(&page["metadata"]["continue"]);
    let last = list(&ann, &format!("?limit=2&continue={next}")).await.ok();
    assert_eq!(names(&last), ["ann3"]);
    assert!(last["metadata"].get("continue").is_none());

    let runner = server.runner();
    list(&runner, "").await.refused(403, "Forbidden");
    let others = list(&runner, "?fieldSelector=spec.runnerName%3Delsewhere").await;
    others.refused(403, "Forbidden");
    let own = list(&runner, "?fieldSelector=spec.runnerName%3Dr1").await;
    assert_eq!(names(&own.ok()), ["mine"]);
}

#[tokio::test]
async fn all_namespaces_are_read_at_once_and_written_one_by_one() {
    let server = Server::start().await;
    let everywhere = "/apis/boatyard.dev/v1/environments";
    let team = json!({"metadata": {"name": "team"}});
    server.post("/api/v1/namespaces", team).await.ok();
    server.environment("one", "a").await;
    let there = "/apis/boatyard.dev/v1/namespaces/team/environments";
    server.post(there, environment("one", "b")).await.ok();
    let list = server.get(everywhere).await.ok();
    assert_eq!(names(&list), ["one", "one"]);
    assert_eq!(list["items"][1]["metadata"]["namespace"], "team");
    let path = format!("{everywhere}?fieldSelector=metadata.namespace%3Dteam");
    assert_eq!(names(&server.get(&path).await.ok()), ["one"]);
    let page = server.get(&format!("{everywhere}?limit=1")).await.ok();
    let next = text(&page["metadata"]["continue"]);
    let path = format!("{everywhere}?limit=1&continue={next}");
    let rest = server.get(&path).await.ok();
    assert_eq!(rest["items"][0]["metadata"]["namespace"], "team");

    let made = server.post(everywhere, environment("two", "a")).await;
    made.refused(405, "MethodNotAllowed");
    let gone = server.delete(everywhere).await;
    gone.refused(405, "MethodNotAllowed");
    let named = server.get(&format!("{everywhere}/one")).await;
    named.refused(404, "NotFound");
}

#[tokio::test]
async fn a_pager_whose_time_is_no_longer_kept_goes_on_with_things_as_they_are() {
    let server = Server::start().await;
    for name in ["a", "b", "c", "d"] {
        server.environment(name, "x").await;
    }
    let get = async |query: &str| server.get(&format!("{ENVIRONMENTS}?{query}")).await;
    let first = get("limit=2").await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    server.delete(&at("c")).await.ok();
    let last = version(&server.environment("e", "x").await);
    server.store.compact(Revision(last)).await.unwrap();
    let expired = get(&format!("limit=2&continue={token}")).await;
    let fresh = expired.json["metadata"]["continue"]
        .as_str()
        .unwrap()
        .to_owned();
    expired.refused(410, "Expired");
    let second = get(&format!("limit=1&continue={fresh}")).await.ok();
    assert_eq!(names(&second), ["d"]);
    // From there on it is one snapshot again.
    let token = second["metadata"]["continue"].as_str().unwrap().to_owned();
    server.environment("f", "x").await;
    let third = get(&format!("limit=2&continue={token}")).await.ok();
    assert_eq!(names(&third), ["e"]);
    assert!(third["metadata"]["continue"].is_null());
}
