//! The server as a whole: restarts, shutdown, what it tells of itself, and clients that others wrote.

use crate::harness::*;
use boatyard_api::Environment;
use boatyard_api::environment::EnvironmentSpec;
use boatyard_server::{Error, Options, Service};
use boatyard_store::Store;
use boatyard_store::sqlite::{self, SqliteStore};
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use kube::Api;
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::runtime::watcher;
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test]
async fn a_restart_keeps_every_object_and_its_version() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    server.environment("two", "a").await;
    server.delete(&at("two")).await.ok();
    let runner = json!({"metadata": {"name": "r1"}, "spec": {}});
    server.post(RUNNERS, runner).await.ok();
    let paths = [ENVIRONMENTS, CLASSES, RUNNERS, "/api/v1/namespaces"];
    let mut before = Vec::new();
    for path in paths {
        before.push(server.get(path).await.ok()["items"].take());
    }
    let (token, old_admin) = (server.runner_token.clone(), server.admin_token());
    let folder = server.stop().await;

    let server = Server::start_in(folder, |_| {}).await;
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(server.get(path).await.ok()["items"], before, "{path}");
    }
    // Who has a copy of the kubeconfig keeps access; the harness mints the runner's token anew.
    assert_eq!(server.admin_token(), old_admin);
    server.get(CLASSES).await.ok();
    let forgotten = Who::Token(token);
    let refused = server.ask(&forgotten, "GET", CLASSES, Value::Null).await;
    refused.refused(401, "Unauthorized");
    let again = server.post(ENVIRONMENTS, environment("one", "b")).await;
    again.refused(409, "AlreadyExists");
}

#[tokio::test]
async fn a_token_minted_before_a_restart_is_good_after_it() {
    let server = Server::start().await;
    let path = format!("{RUNNERS}/r7/token");
    let minted = server.post(&path, Value::Null).await.ok();
    let token = Who::Token(minted["token"].as_str().unwrap().to_owned());
    let folder = server.stop().await;
    let server = Server::start_in(folder, |_| {}).await;
    server.ask(&token, "GET", CLASSES, Value::Null).await.ok();
    let other = server.ask(
        &token,
        "GET",
        "/apis/boatyard.dev/v1/runners/r1",
        Value::Null,
    );
    other.await.refused(403, "Forbidden");
}

#[tokio::test]
async fn versions_never_go_back_and_watches_go_on_across_restarts() {
    let mut server = Server::start().await;
    let first = server.environment("e0", "a").await;
    let mut last = version(&first);
    for round in 1..4 {
        let name = format!("e{round}");
        last = version(&server.environment(&name, "a").await);
        server.delete(&at(&name)).await.ok();
        let newest = version(&server.get(ENVIRONMENTS).await.ok());
        assert!(newest > last);
        let folder = server.stop().await;
        server = Server::start_in(folder, |_| {}).await;
        let reopened = version(&server.get(ENVIRONMENTS).await.ok());
        assert!(reopened >= newest, "{reopened} after {newest}");
        let next = version(&server.environment(&format!("n{round}"), "a").await);
        assert!(next > newest);
        last = next;
    }
    let path = format!(
        "{ENVIRONMENTS}?watch=true&resourceVersion={}",
        version(&first)
    );
    let mut watch = server.watch(&Who::Admin, &path).await;
    let mut told = Vec::new();
    let mut at = version(&first);
    while at < last {
        let event = watch.next().await.unwrap();
        let now = version(&event["object"]);
        assert!(now > at);
        at = now;
        told.push(crate::harness::told(&event));
    }
    let wanted = (1..4).flat_map(|round| {
        [
            format!("ADDED e{round}"),
            format!("DELETED e{round}"),
            format!("ADDED n{round}"),
        ]
    });
    assert_eq!(told, wanted.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_shutdown_ends_watches_whole_and_takes_no_more() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let mut bodies = Vec::new();
    for who in [
        Who::Admin,
        Who::Tls(Some(format!("Bearer {}", server.admin_token()))),
    ] {
        let mut request = http::Request::new(http_body_util::Full::default());
        *request.uri_mut() = format!("{ENVIRONMENTS}?watch=true").parse().unwrap();
        let mut body = server.send(&who, request).await.into_body();
        let first = within(body.frame()).await.unwrap().unwrap();
        assert!(first.into_data().unwrap().starts_with(b"{"));
        bodies.push(body);
    }
    let (socket, address) = (server.socket(), server.address().to_owned());
    let folder = server.stop().await;
    for mut body in bodies {
        // A connection that is cut ends in an error instead.
        assert!(within(body.frame()).await.is_none(), "the answer is whole");
    }
    assert!(tokio::net::UnixStream::connect(&socket).await.is_err());
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    let server = Server::start_in(folder, |_| {}).await;
    server.get(&at("one")).await.ok();
}

#[tokio::test]
async fn a_second_server_on_a_socket_in_use_is_refused() {
    let server = Server::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("store.db");
    let store = Arc::new(SqliteStore::open(sqlite::Options::new(file)).unwrap());
    let state = elsewhere.path().join("state");
    let mut options = Options::new(state, store);
    options.unix_socket = Some(server.socket());
    let refused = Service::new(options).await.err().unwrap();
    assert!(matches!(refused, Error::Taken(_)), "{refused}");
    let file = server.folder.path().join("store.db");
    assert!(SqliteStore::open(sqlite::Options::new(file)).is_err());
    server.get(ENVIRONMENTS).await.ok();
}

#[tokio::test]
async fn a_store_that_is_gone_is_told_and_answers_no_lie() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    server.store.close().await.unwrap();
    let refused = server.post(ENVIRONMENTS, environment("two", "a")).await;
    refused.refused(503, "ServiceUnavailable");
    let patch = json!({"metadata": {"labels": {"tier": "b"}}});
    let refused = server.patch(&at("one"), patch).await;
    refused.refused(503, "ServiceUnavailable");
    let list = server.get(ENVIRONMENTS).await.ok();
    assert_eq!(list["items"], json!([made]));
}

#[tokio::test]
async fn kube_clients_write_list_and_watch() {
    let server = Server::start().await;
    let api: Api<Environment> = Api::namespaced(server.kube(), "default");
    let spec = EnvironmentSpec {
        runner_name: Some("elsewhere".to_owned()),
        ..EnvironmentSpec::default()
    };
    let made = api
        .create(&PostParams::default(), &Environment::new("one", spec))
        .await
        .unwrap();
    let list = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items, std::slice::from_ref(&made));
    let from = list.metadata.resource_version.unwrap();
    let mut changes = api
        .watch(&WatchParams::default(), &from)
        .await
        .unwrap()
        .boxed();
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let patched = api
        .patch("one", &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    match within(changes.try_next()).await.unwrap().unwrap() {
        WatchEvent::Modified(object) => assert_eq!(object, patched),
        other => panic!("{other:?}"),
    }
    let refused = api
        .create(&PostParams::default(), &made)
        .await
        .expect_err("it has a version");
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 400));
    api.delete("one", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("one").await.unwrap().is_none());
}

#[tokio::test]
async fn kube_watchers_follow_by_either_strategy_over_an_expired_version() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    for config in [
        watcher::Config::default().page_size(1),
        watcher::Config::default().streaming_lists(),
    ] {
        let api: Api<Environment> = Api::namespaced(server.kube(), "default");
        let mut events = watcher(api, config.labels("tier=a")).boxed();
        let mut next = async || within(events.try_next()).await.unwrap().unwrap();
        let name = |object: Environment| object.metadata.name.unwrap();
        assert!(matches!(next().await, watcher::Event::Init));
        match next().await {
            watcher::Event::InitApply(object) => assert_eq!(name(object), "one"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(next().await, watcher::Event::InitDone));
        server.environment("two", "a").await;
        match next().await {
            watcher::Event::Apply(object) => assert_eq!(name(object), "two"),
            other => panic!("{other:?}"),
        }
        let revision = server.store.revision().await.unwrap();
        server.store.compact(revision).await.unwrap();
        let other = json!({"metadata": {"labels": {"tier": "b"}}});
        server.patch(&at("two"), other).await.ok();
        match next().await {
            watcher::Event::Delete(object) => assert_eq!(name(object), "two"),
            other => panic!("{other:?}"),
        }
        server.delete(&at("two")).await.ok();
    }
}

#[tokio::test]
async fn the_server_tells_what_it_serves() {
    let server = Server::start().await;
    let groups = server.get("/apis").await.ok();
    assert_eq!(groups["kind"], "APIGroupList");
    let core = server.get("/api").await.ok();
    assert_eq!(core["versions"], json!(["v1"]));
    let mut served = Vec::new();
    let versions = groups["groups"].as_array().unwrap().iter().map(|group| {
        let version = group["preferredVersion"]["groupVersion"].as_str();
        format!("/apis/{}", version.unwrap())
    });
    for path in versions.chain(["/api/v1".to_owned()]) {
        let list = server.get(&path).await.ok();
        assert_eq!(list["kind"], "APIResourceList");
        assert!(path.ends_with(list["groupVersion"].as_str().unwrap()));
        for resource in list["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap().to_owned();
            // What can be listed is there and lists its kind.
            if resource["verbs"]
                .as_array()
                .unwrap()
                .contains(&json!("list"))
            {
                let found = server.get(&format!("{path}/{name}")).await.ok();
                let kind = format!("{}List", resource["kind"].as_str().unwrap());
                assert_eq!(found["kind"], kind);
            }
            served.push(name);
        }
        if let Some(group) = path
            .strip_prefix("/apis/")
            .and_then(|path| path.split('/').next())
        {
            let one = server.get(&format!("/apis/{group}")).await.ok();
            assert_eq!(one["name"], group);
        }
    }
    served.sort();
    let wanted = "environmentclasses environments environments/connect environments/log environments/status events leases localsubjectaccessreviews namespaces namespaces/finalize namespaces/status runners runners/connect runners/status runners/token runners/tunnel selfsubjectaccessreviews selfsubjectreviews selfsubjectrulesreviews subjectaccessreviews tokenreviews";
    // And whatever else is registered, which tests/conformance holds against discovery.
    for name in wanted.split(' ') {
        assert!(served.iter().any(|served| served == name), "{name}");
    }

    let index = server.get("/openapi/v3").await.ok();
    for (path, link) in index["paths"].as_object().unwrap() {
        let link = link["serverRelativeURL"].as_str().unwrap();
        let document = server.get(link).await.ok();
        assert_eq!(document["openapi"], "3.0.0", "{path}");
        assert!(
            !document["components"]["schemas"]
                .as_object()
                .unwrap()
                .is_empty()
        );
    }
    let ours = server.get("/openapi/v3/apis/boatyard.dev/v1").await.ok();
    let schema = &ours["components"]["schemas"]["dev.boatyard.v1.Environment"];
    let state = &schema["properties"]["spec"]["properties"]["state"];
    assert_eq!(state["enum"], json!(["Running", "Stopped"]));
    let version = server.get("/version").await.ok();
    assert_eq!(version["major"], "1");
}

#[tokio::test]
async fn paths_and_methods_that_are_not_served_are_refused() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    for path in [
        "/nowhere",
        "/api/v2",
        "/api/v1/pods",
        "/apis/nobody.io",
        "/apis/boatyard.dev/v2/environments",
        "/apis/boatyard.dev/v1/environments/one",
        "/apis/boatyard.dev/v1/namespaces/default/runners",
        "/apis/boatyard.dev/v1/namespaces/default/environments/one/scale",
        "/apis/boatyard.dev/v1/namespaces/default/environments/one/status/more",
        "/apis/boatyard.dev/v1/namespaces/default/environments/%2e%2e",
        "/apis/boatyard.dev/v1/namespaces//environments",
        "/openapi/v3/apis/nobody.io/v1",
    ] {
        server.get(path).await.refused(404, "NotFound");
    }
    for (method, path) in [
        ("POST", at("one")),
        ("POST", at("one") + "/status"),
        ("PUT", ENVIRONMENTS.to_owned()),
        ("PATCH", ENVIRONMENTS.to_owned()),
        ("GET", at("one") + "/connect"),
        ("POST", "/version".to_owned()),
        ("DELETE", "/apis".to_owned()),
        ("OPTIONS", ENVIRONMENTS.to_owned()),
    ] {
        let answer = server.ask(&Who::Admin, method, &path, Value::Null).await;
        answer.refused(405, "MethodNotAllowed");
    }
    server.get(&at("one")).await.ok();
}

#[tokio::test]
async fn doors_into_environments_say_why_they_are_shut() {
    let server = Server::start().await;
    let open = async |path: &str, upgrade: bool| {
        let headers = [("connection", "Upgrade"), ("upgrade", "boatyard-stream/1")];
        let headers = if upgrade { &headers[..] } else { &[] };
        server.tell(&Who::Admin, "POST", path, headers, "").await
    };
    let unbound = json!({"metadata": {"name": "unbound"}, "spec": {}});
    server.post(ENVIRONMENTS, unbound).await.ok();
    server.environment("one", "a").await;
    for door in ["connect", "log", "lifecycle", "usage"] {
        let path = |name: &str| format!("{}/{door}", at(name));
        let none = open(&path("none"), true).await;
        none.refused(404, "NotFound");
        let unbound = open(&path("unbound"), true).await;
        assert!(
            unbound
                .refused(503, "ServiceUnavailable")
                .contains("no runner")
        );
        let plain = open(&path("one"), false).await;
        assert!(plain.refused(400, "BadRequest").contains("Upgrade"));
    }
    // A runner that dials in anew is waited for: all at once.
    let doors = [
        at("one") + "/connect",
        at("one") + "/log",
        format!("{RUNNERS}/elsewhere/connect"),
    ];
    for away in join_all(doors.iter().map(|door| open(door, true))).await {
        let message = away.refused(503, "ServiceUnavailable");
        assert!(message.contains("elsewhere"), "{message}");
    }
    let tunnel = open(&format!("{RUNNERS}/r1/tunnel"), true).await;
    tunnel.refused(403, "Forbidden");
}

#[tokio::test]
async fn what_waits_for_a_runner_says_so_and_is_placed_once_one_is_alive() {
    let server = Server::start().await;
    let path = format!("{ENVIRONMENTS}?watch=true&fieldSelector=metadata.name%3Done");
    let mut watch = server.watch(&Who::Admin, &path).await;
    // So large that nothing more can be written of it; the other is placed all the same.
    let large = |size: usize| {
        let variables = (0..26_usize).map(|number| {
            let rest = if number == 0 { size % 26 } else { 0 };
            (format!("A{number:02}"), json!("x".repeat(size / 26 + rest)))
        });
        let variables: serde_json::Map<_, _> = variables.collect();
        json!({"metadata": {"name": "large"}, "spec": {"devcontainer": {"localEnv": variables}}})
    };
    let dry = format!("{ENVIRONMENTS}?dryRun=All");
    // Who manages what, and a first status, are dropped from objects that have no room for them.
    let mut around = server.post(&dry, large(0)).await.ok();
    around.as_object_mut().unwrap().remove("status");
    let metadata = around["metadata"].as_object_mut().unwrap();
    metadata.remove("managedFields");
    let around = around.to_string().len();
    let size = 3 * 1024 * 1024 - around - 20;
    server.post(ENVIRONMENTS, large(size)).await.ok();
    let body = json!({"metadata": {"name": "one"}, "spec": {}});
    server.post(ENVIRONMENTS, body).await.ok();
    let mut until = async |done: &dyn Fn(&Value) -> bool| {
        loop {
            let event = watch.next().await.unwrap();
            if done(&event["object"]) {
                return event["object"].clone();
            }
        }
    };
    let waiting = until(&|object| object["status"]["phase"] == "Pending").await;
    let condition = &waiting["status"]["conditions"][0];
    assert_eq!(condition["type"], "Scheduled");
    assert_eq!(condition["reason"], "NoRunner");

    let runner = server.runner();
    let named = json!({"metadata": {"name": "r1"}, "spec": {}});
    server.ask(&runner, "POST", RUNNERS, named).await.ok();
    #[allow(clippy::disallowed_methods, reason = "the lease is of now")]
    let now = jiff::Timestamp::now().to_string();
    let lease = json!({"metadata": {"name": "r1"}, "spec": {"holderIdentity": "r1", "leaseDurationSeconds": 600, "renewTime": now}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/boatyard-runners/leases";
    server.ask(&runner, "POST", leases, lease).await.ok();
    let bound = until(&|object| object["spec"]["runnerName"] == "r1").await;
    assert_eq!(
        bound["metadata"]["finalizers"],
        json!(["boatyard.dev/runner"])
    );
    server
        .ask(&runner, "GET", &at("one"), Value::Null)
        .await
        .ok();
    // The large one says why it is not.
    let path = format!("{ENVIRONMENTS}?watch=true&fieldSelector=metadata.name%3Dlarge");
    let mut watch = server.watch(&Who::Admin, &path).await;
    loop {
        let event = watch.next().await.unwrap();
        let condition = &event["object"]["status"]["conditions"][0];
        if condition["reason"] == "TooLarge" {
            assert_eq!(condition["type"], "Scheduled");
            assert_eq!(condition["status"], "False");
            break;
        }
    }
}

#[tokio::test]
async fn what_is_made_while_there_is_no_runner_says_so_from_its_first_version() {
    let server = Server::start().await;
    let body = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let dry = format!("{ENVIRONMENTS}?dryRun=All");
    // Known once the controllers have seen that there is none.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while server.post(&dry, body("dry", json!({}))).await.ok()["status"].is_null() {
        assert!(tokio::time::Instant::now() < deadline, "nothing is said");
    }
    let made = server.post(ENVIRONMENTS, body("one", json!({}))).await.ok();
    assert_eq!(made["status"]["phase"], "Pending");
    let condition = &made["status"]["conditions"][0];
    assert_eq!(condition["type"], "Scheduled");
    assert_eq!(condition["status"], "False");
    assert_eq!(condition["reason"], "NoRunner");
    assert_eq!(condition["message"], made["status"]["message"]);
    assert_eq!(
        condition["lastTransitionTime"],
        made["metadata"]["creationTimestamp"]
    );
    let owners = made["metadata"]["managedFields"].as_array().unwrap();
    assert!(
        owners
            .iter()
            .all(|owner| owner["fieldsV1"]["f:status"].is_null()),
        "nobody owns it"
    );
    // One that is bound does not wait, and the client's word counts for nothing.
    let mut bound = body("bound", json!({"runnerName": "elsewhere"}));
    bound["status"] = json!({"phase": "Running"});
    let bound = server.post(ENVIRONMENTS, bound).await.ok();
    assert!(bound.get("status").is_none(), "{bound}");
    // The scheduler has nothing to add.
    let path = format!("{ENVIRONMENTS}?watch=true&fieldSelector=metadata.name%3Done");
    let mut watch = server.watch(&Who::Admin, &path).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["type"], "ADDED");
    assert_eq!(
        first["object"]["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    server
        .patch(
            &format!("{ENVIRONMENTS}/one"),
            json!({"metadata": {"labels": {"x": "y"}}}),
        )
        .await
        .ok();
    let next = watch.next().await.unwrap();
    assert_eq!(
        next["object"]["metadata"]["labels"]["x"], "y",
        "nothing was written between"
    );
}
