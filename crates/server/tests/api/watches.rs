//! Watches: that each change is shown once, in order, to whom it concerns, and how they end.

use crate::harness::*;
use boatyard_server::Limits;
use boatyard_store::Store;
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NO_START: &str =
    "resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";

async fn watch(server: &Server, query: &str) -> Watch {
    let path = format!("{ENVIRONMENTS}?watch=true&{query}");
    server.watch(&Who::Admin, &path).await
}

async fn label(server: &Server, name: &str, tier: &str) -> Value {
    let label = json!({"metadata": {"labels": {"tier": tier}}});
    server.patch(&at(name), label).await.ok()
}

#[tokio::test]
async fn every_change_since_a_version_is_shown_once_and_in_order() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    let changed = label(&server, "one", "b").await;
    let from = format!("resourceVersion={}", version(&made));
    let mut watch = watch(&server, &from).await;
    let event = watch.next().await.unwrap();
    assert_eq!(event, json!({"type": "MODIFIED", "object": changed}));
    let status = json!({"status": {"phase": "Running"}});
    server.patch(&(at("one") + "/status"), status).await.ok();
    assert_eq!(watch.told().await, "MODIFIED one");
    // Others' collections and writes that change nothing are not told.
    server
        .post("/api/v1/namespaces", json!({"metadata": {"name": "team"}}))
        .await
        .ok();
    let there = "/apis/boatyard.dev/v1/namespaces/team/environments";
    server.post(there, environment("far", "a")).await.ok();
    label(&server, "one", "b").await;
    server.environment("two", "a").await;
    assert_eq!(watch.told().await, "ADDED two");
    server.delete(&at("one")).await.ok();
    let gone = watch.next().await.unwrap();
    assert_eq!(told(&gone), "DELETED one");
    let deletion = version(&gone["object"]);
    let list = server.get(ENVIRONMENTS).await.ok();
    assert_eq!(
        deletion,
        version(&list),
        "a deletion has a version of its own"
    );
    assert_eq!(gone["object"]["metadata"]["labels"]["tier"], "b");
}

#[tokio::test]
async fn a_watch_of_no_version_begins_with_what_there_is() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    server.environment("two", "b").await;
    for query in ["", "resourceVersion=0", "resourceVersion="] {
        let mut watch = watch(&server, query).await;
        let first = watch.next().await.unwrap();
        assert_eq!(first, json!({"type": "ADDED", "object": made}), "{query}");
        assert_eq!(watch.told().await, "ADDED two");
    }
    let mut quiet = watch(&server, NO_START).await;
    server.environment("three", "a").await;
    assert_eq!(quiet.told().await, "ADDED three");
}

#[tokio::test]
async fn a_streamed_list_ends_with_a_marked_bookmark_and_goes_on() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    server.environment("two", "b").await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=tier%3Da";
    let mut streamed = watch(&server, query).await;
    assert_eq!(streamed.told().await, "ADDED one");
    let mark = streamed.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["kind"], "Environment");
    let annotations = &mark["object"]["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
    let list = server.get(ENVIRONMENTS).await.ok();
    assert_eq!(version(&mark["object"]), version(&list));
    server.environment("three", "a").await;
    assert_eq!(streamed.told().await, "ADDED three");

    // Of an empty collection it is the first thing said.
    let path = format!("{RUNNERS}?watch=true&{query}");
    let mut empty = server.watch(&Who::Admin, &path).await;
    assert_eq!(empty.told().await, "BOOKMARK -");
    let without = query.replace("&allowWatchBookmarks=true", "");
    let mut without = watch(&server, &without).await;
    assert_eq!(without.told().await, "ADDED one");
    assert_eq!(without.told().await, "ADDED three");
    server.environment("four", "a").await;
    assert_eq!(without.told().await, "ADDED four");
}

#[tokio::test]
async fn a_version_too_old_or_not_yet_come_is_told_as_expired() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    label(&server, "one", "b").await;
    let revision = server.store.revision().await.unwrap();
    server.store.compact(revision).await.unwrap();
    for from in [version(&made), revision.0 + 1000] {
        let mut watch = watch(&server, &format!("resourceVersion={from}")).await;
        let event = watch.next().await.unwrap();
        assert_eq!(event["type"], "ERROR");
        assert_eq!(event["object"]["kind"], "Status");
        assert_eq!(event["object"]["code"], 410);
        assert_eq!(event["object"]["reason"], "Expired");
        assert_eq!(watch.next().await, None);
    }
    let mut watch = watch(&server, &format!("resourceVersion={}", revision.0)).await;
    label(&server, "one", "c").await;
    assert_eq!(watch.told().await, "MODIFIED one");
}

#[tokio::test]
async fn what_begins_to_match_is_added_and_what_ceases_to_is_deleted() {
    let server = Server::start().await;
    server.environment("one", "b").await;
    server.environment("two", "b").await;
    let query = format!("{NO_START}&labelSelector=tier%3Da");
    let mut labels = watch(&server, &query).await;
    let query = format!("{NO_START}&fieldSelector=status.phase%3DRunning");
    let mut fields = watch(&server, &query).await;

    let entered = label(&server, "one", "a").await;
    let event = labels.next().await.unwrap();
    assert_eq!(event, json!({"type": "ADDED", "object": entered}));
    let status = at("one") + "/status";
    let phase = |phase: &str| json!({"status": {"phase": phase}});
    server.patch(&status, phase("Running")).await.ok();
    assert_eq!(labels.told().await, "MODIFIED one");
    assert_eq!(fields.told().await, "ADDED one");
    let left = label(&server, "one", "b").await;
    let event = labels.next().await.unwrap();
    assert_eq!(told(&event), "DELETED one");
    assert_eq!(version(&event["object"]), version(&left));
    assert_eq!(fields.told().await, "MODIFIED one");
    server.patch(&status, phase("Stopped")).await.ok();
    assert_eq!(fields.told().await, "DELETED one");

    // Gone while it does not match: nothing is said of it.
    server.delete(&at("one")).await.ok();
    label(&server, "two", "a").await;
    server.delete(&at("two")).await.ok();
    assert_eq!(labels.told().await, "ADDED two");
    assert_eq!(labels.told().await, "DELETED two");
}

#[tokio::test]
async fn a_watch_ends_in_time_with_a_bookmark_where_to_go_on() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    let from = format!("resourceVersion={}", version(&made));
    let bounded = format!("{from}&timeoutSeconds=1");
    let mut bare = watch(&server, &bounded).await;
    let mut marked = watch(&server, &format!("{bounded}&allowWatchBookmarks=true")).await;
    let mut boundless = watch(&server, &format!("{from}&timeoutSeconds=0")).await;
    // Of another kind: only a bookmark can tell that the watch is past it.
    let path = format!("{CLASSES}/default");
    let other = server
        .patch(&path, json!({"spec": {"description": "x"}}))
        .await
        .ok();
    let mark = marked.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert!(version(&mark["object"]) >= version(&made));
    assert_eq!(marked.next().await, None);
    assert_eq!(bare.next().await, None);
    let again = format!("resourceVersion={}", version(&mark["object"]));
    let mut again = watch(&server, &again).await;
    let next = label(&server, "one", "b").await;
    assert!(version(&next) > version(&other));
    assert_eq!(again.told().await, "MODIFIED one");
    assert_eq!(boundless.told().await, "MODIFIED one");
}

#[tokio::test]
async fn nothing_is_lost_between_a_list_and_its_watch_while_others_write() {
    let server = Server::start().await;
    let writers = join_all((0..6).map(async |writer: i32| {
        for turn in 0..8 {
            let name = format!("w{writer}-{turn}");
            server.environment(&name, "a").await;
            label(&server, &name, if turn % 3 == 0 { "b" } else { "a" }).await;
            if turn % 4 == 1 {
                server.delete(&at(&name)).await.ok();
            }
        }
    }));
    let watchers = join_all((0..6).map(async |number: i32| {
        // Each begins at a moment of its own, between writes.
        while names(&server.get(ENVIRONMENTS).await.ok()).len() < usize::try_from(number).unwrap() {
        }
        let selector = if number % 2 == 0 {
            ""
        } else {
            "&labelSelector=tier%3Da"
        };
        let path = format!("{ENVIRONMENTS}?limit=500{selector}");
        let list = server.get(&path).await.ok();
        let mut known: BTreeMap<String, u64> = BTreeMap::new();
        for item in list["items"].as_array().unwrap() {
            let name = item["metadata"]["name"].as_str().unwrap();
            known.insert(name.to_owned(), version(item));
        }
        let mut last = version(&list);
        let query = format!("resourceVersion={last}{selector}");
        let mut watch = watch(&server, &query).await;
        loop {
            let event = watch.next().await.unwrap();
            let (name, at) = (
                event["object"]["metadata"]["name"].as_str().unwrap(),
                version(&event["object"]),
            );
            assert!(at > last, "{at} after {last}");
            last = at;
            if name == "last" {
                return (number, known);
            }
            let before = match event["type"].as_str().unwrap() {
                "ADDED" => known.insert(name.to_owned(), at).is_none(),
                "MODIFIED" => known.insert(name.to_owned(), at).is_some(),
                "DELETED" => known.remove(name).is_some(),
                other => panic!("{other}"),
            };
            assert!(before, "{} was known wrongly", told(&event));
        }
    }));
    let writing = async {
        writers.await;
        let list = server.get(ENVIRONMENTS).await.ok();
        server.environment("last", "a").await;
        list
    };
    let (list, watched) = tokio::join!(writing, watchers);
    for (number, known) in watched {
        let items = list["items"].as_array().unwrap().iter();
        let wanted =
            items.filter(|item| number % 2 == 0 || item["metadata"]["labels"]["tier"] == "a");
        let wanted: BTreeMap<String, u64> = wanted
            .map(|item| {
                (
                    item["metadata"]["name"].as_str().unwrap().to_owned(),
                    version(item),
                )
            })
            .collect();
        assert_eq!(known, wanted, "watcher {number}");
    }
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut_and_told_to_list_again() {
    // Not for being slow: for what is no longer known.
    let server = Server::limited(Limits {
        unread: std::time::Duration::from_secs(600),
        ..Limits::default()
    })
    .await;
    let made = server.environment("one", "a").await;
    let mut slow = watch(&server, &format!("resourceVersion={}", version(&made))).await;
    let text = "x".repeat(20_000);
    let write = async |number: i32| {
        let patch = json!({"metadata": {"annotations": {"n": format!("{number}{text}")}}});
        server.patch(&at("one"), patch).await.ok();
    };
    for turn in 0..30 {
        join_all((0..8).map(|number| write(turn * 8 + number))).await;
    }
    let revision = server.store.revision().await.unwrap();
    server.store.compact(revision).await.unwrap();
    let mut last = version(&made);
    loop {
        let event = slow.next().await.expect("it is told why it ends");
        if event["type"] == "ERROR" {
            assert_eq!(event["object"]["code"], 410);
            break;
        }
        assert_eq!(version(&event["object"]), last + 1, "no gap before the cut");
        last += 1;
    }
    assert!(last < revision.0);
    assert_eq!(slow.next().await, None);
}

#[tokio::test]
async fn tables_and_metadata_are_watched_in_their_form() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    server.environment("two", "b").await;
    let open = async |form: &str| {
        let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let accept = format!("application/json;as={form};v=v1;g=meta.k8s.io");
        server
            .watch_as(&Who::Admin, &format!("{ENVIRONMENTS}?{query}"), &accept)
            .await
    };
    let mut tables = open("Table").await;
    let first = tables.next().await.unwrap();
    assert_eq!(first["type"], "ADDED");
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "one");
    assert_eq!(
        first["object"]["rows"][0]["object"]["metadata"],
        made["metadata"]
    );
    let second = tables.next().await.unwrap();
    assert_eq!(second["object"]["rows"][0]["cells"][0], "two");
    assert_eq!(
        second["object"]["columnDefinitions"],
        json!([]),
        "told once"
    );

    let mut partial = open("PartialObjectMetadata").await;
    let first = partial.next().await.unwrap();
    let wanted = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": made["metadata"]});
    assert_eq!(first, json!({"type": "ADDED", "object": wanted}));
    assert_eq!(partial.told().await, "ADDED two");
    let mark = partial.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["kind"], "PartialObjectMetadata");
    let annotations = &mark["object"]["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn nobody_watches_what_is_anothers() {
    let server = Server::start().await;
    let (ann, bob) = (Who::User(2001), Who::User(2002));
    let path = format!("{ENVIRONMENTS}?watch=true");
    let mut anns = server.watch(&ann, &path).await;
    let everywhere = "/apis/boatyard.dev/v1/environments?watch=true";
    let mut bobs = server.watch(&bob, everywhere).await;
    let bound = format!("{path}&fieldSelector=spec.runnerName%3Dr1");
    let mut runners = server.watch(&server.runner(), &bound).await;

    for (who, name) in [(&ann, "ann"), (&bob, "bob")] {
        let body = json!({"metadata": {"name": name}, "spec": {}});
        server.ask(who, "POST", ENVIRONMENTS, body).await.ok();
        server.environment(&format!("beside-{name}"), "a").await;
    }
    let until = async |watch: &mut Watch, wanted: &str, own: &str| {
        loop {
            let told = watch.told().await;
            assert!(told.ends_with(own), "{told}");
            if told == wanted {
                return;
            }
        }
    };
    until(&mut bobs, "ADDED bob", " bob").await;
    server.delete(&at("ann")).await.ok();
    until(&mut anns, "DELETED ann", " ann").await;
    // Bound only now, it begins to be the runner's business.
    let bind = json!({"spec": {"runnerName": "r1"}});
    server.patch(&at("bob"), bind).await.ok();
    assert_eq!(runners.told().await, "ADDED bob");

    for query in ["", "&fieldSelector=spec.runnerName%3Delsewhere"] {
        let path = format!("{path}{query}");
        let refused = server
            .ask(&server.runner(), "GET", &path, Value::Null)
            .await;
        refused.refused(403, "Forbidden");
    }
    let leases = "/apis/coordination.k8s.io/v1/namespaces/boatyard-runners/leases?watch=true";
    for who in [&ann, &server.runner()] {
        let refused = server.ask(who, "GET", leases, Value::Null).await;
        refused.refused(403, "Forbidden");
    }
}

#[tokio::test]
async fn a_watch_that_makes_no_sense_is_refused() {
    let server = Server::start().await;
    for query in [
        "resourceVersion=new",
        "timeoutSeconds=soon",
        "timeoutSeconds=-1",
        "labelSelector=a%20b",
        "fieldSelector=spec.class%3Da",
        "includeObject=Half",
    ] {
        let path = format!("{ENVIRONMENTS}?watch=true&{query}");
        server.get(&path).await.refused(400, "BadRequest");
    }
    // Clients switch on this one, and list the old way.
    for query in [
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
    ] {
        let path = format!("{ENVIRONMENTS}?watch=true&{query}");
        server.get(&path).await.refused(422, "Invalid");
    }
}
