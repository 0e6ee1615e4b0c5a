//! Callers: who is who at each door, and that nobody reaches beyond what is the caller's.

use crate::harness::*;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ANN: Who = Who::User(2001);
const BOB: Who = Who::User(2002);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/boatyard-runners/leases";

/// The caller's name, as the server knows it.
async fn whoami(server: &Server, who: &Who) -> Value {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = server.ask(who, "POST", path, json!({})).await.ok();
    review["status"]["userInfo"].clone()
}

fn bound(name: &str, runner: &str) -> Value {
    json!({"metadata": {"name": name, "finalizers": ["boatyard.dev/runner"]}, "spec": {"runnerName": runner}})
}

fn bearer(token: &str) -> Who {
    Who::Tls(Some(format!("Bearer {token}")))
}

#[tokio::test]
async fn each_door_knows_its_callers() {
    let server = Server::start().await;
    let over_tls = bearer(&server.admin_token());
    for who in [&Who::Admin, &over_tls] {
        assert_eq!(whoami(&server, who).await["username"], "admin");
    }
    let lower = Who::Tls(Some(format!("bearer {}", server.admin_token())));
    assert_eq!(whoami(&server, &lower).await["username"], "admin");
    let root = whoami(&server, &Who::User(0)).await;
    assert_eq!(root["username"], "local:0");
    let groups = root["groups"].as_array().unwrap();
    assert!(groups.contains(&json!("boatyard:admins")));
    let ann = whoami(&server, &ANN).await;
    assert_eq!(ann["username"], "local:2001");
    let groups = ann["groups"].as_array().unwrap();
    assert!(!groups.contains(&json!("boatyard:admins")));
    for who in [server.runner(), bearer(&server.runner_token)] {
        let runner = whoami(&server, &who).await;
        assert_eq!(runner["username"], "system:runner:r1");
    }
    let kubeconfig = server.folder.path().join("state/admin.kubeconfig");
    let mode = std::fs::metadata(kubeconfig).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn who_cannot_say_who_it_is_gets_nothing() {
    let server = Server::start().await;
    let token = server.admin_token();
    let cut = &token[..token.len() - 1];
    for value in [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some("Bearer wrong".to_owned()),
        Some(format!("Bearer {cut}")),
        Some(format!("Bearer {token}x")),
        Some(format!("Basic {token}")),
        Some(token.clone()),
    ] {
        let who = Who::Tls(value);
        for path in [ENVIRONMENTS, "/api", "/version", "/openapi/v3", "/nowhere"] {
            let answer = server.ask(&who, "GET", path, Value::Null).await;
            answer.refused(401, "Unauthorized");
        }
        let made = server.ask(&who, "POST", ENVIRONMENTS, environment("one", "a"));
        made.await.refused(401, "Unauthorized");
    }
    // A wrong token is wrong on the socket, too, whoever root is.
    let wrong = Who::Token("wrong".to_owned());
    let answer = server.ask(&wrong, "GET", ENVIRONMENTS, Value::Null).await;
    answer.refused(401, "Unauthorized");
    let alive = server.ask(&Who::Tls(None), "GET", "/healthz", Value::Null);
    assert_eq!(alive.await.text, "ok");
    assert!(names(&server.get(ENVIRONMENTS).await.ok()).is_empty());
}

#[tokio::test]
async fn tls_speaks_only_tls_and_with_a_certificate_of_its_authority() {
    let server = Server::start().await;
    let other = Server::start().await;
    let trusted = server.handshake(&server).await;
    assert!(trusted.is_ok(), "{trusted:?}");
    let error = server.handshake(&other).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let mut plain = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = within(plain.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"));
}

#[tokio::test]
async fn a_local_user_has_environments_of_the_users_own_and_no_others() {
    let server = Server::start().await;
    server.environment("admins", "a").await;
    let body = json!({"metadata": {"name": "anns"}, "spec": {"owner": {"user": "local:2002", "uid": 2002}, "source": {"folder": {"path": "/home/ann"}}}});
    let made = server.ask(&ANN, "POST", ENVIRONMENTS, body).await.ok();
    let owner = &made["spec"]["owner"];
    assert_eq!(owner["user"], "local:2001");
    assert_eq!(owner["uid"], 2001);
    let label = json!({"metadata": {"labels": {"a": "b"}}});

    for name in ["anns", "admins"] {
        let before = server.get(&at(name)).await.ok();
        for (method, body) in [
            ("GET", Value::Null),
            ("PATCH", label.clone()),
            ("PUT", environment(name, "b")),
            ("DELETE", Value::Null),
        ] {
            let answer = server.ask(&BOB, method, &at(name), body).await;
            answer.refused(403, "Forbidden");
        }
        for door in ["connect", "log", "lifecycle", "usage"] {
            let path = format!("{}/{door}", at(name));
            let answer = server.ask(&BOB, "POST", &path, Value::Null).await;
            answer.refused(403, "Forbidden");
        }
        let after = server.get(&at(name)).await.ok();
        assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
    }
    server.ask(&ANN, "GET", &at("anns"), Value::Null).await.ok();
    let changed = server.ask(&ANN, "PATCH", &at("anns"), label).await.ok();
    assert_eq!(changed["metadata"]["labels"]["a"], "b");
    let theft = json!({"spec": {"owner": {"user": "local:2002", "uid": 2002}}});
    let kept = server.ask(&ANN, "PATCH", &at("anns"), theft).await.ok();
    assert_eq!(kept["spec"]["owner"]["uid"], 2001);
    server
        .ask(&ANN, "DELETE", &at("anns"), Value::Null)
        .await
        .ok();
}

#[tokio::test]
async fn a_local_user_changes_nothing_that_is_the_administrators() {
    let server = Server::start().await;
    let body = |name: &str| json!({"metadata": {"name": name}, "spec": {}});
    server
        .ask(&ANN, "POST", ENVIRONMENTS, body("anns"))
        .await
        .ok();
    server
        .post("/api/v1/namespaces", json!({"metadata": {"name": "team"}}))
        .await
        .ok();
    server
        .post(RUNNERS, json!({"metadata": {"name": "r1"}, "spec": {}}))
        .await
        .ok();
    let spec = json!({"spec": {}});
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let bind = json!({"spec": {"runnerName": "r1"}});
    let status = json!({"status": {"phase": "Running"}});
    let class = format!("{CLASSES}/default");
    let anns = at("anns");
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {}});
    for (method, path, body) in [
        (
            "POST",
            "/apis/boatyard.dev/v1/namespaces/team/environments",
            body("far"),
        ),
        ("POST", ENVIRONMENTS, environment("bound", "a")),
        ("PATCH", &anns, bind),
        ("PATCH", &format!("{anns}/status"), status),
        ("DELETE", ENVIRONMENTS, Value::Null),
        ("POST", CLASSES, body("own")),
        ("PATCH", &class, label.clone()),
        ("DELETE", &class, Value::Null),
        ("POST", RUNNERS, body("own")),
        ("PATCH", &format!("{RUNNERS}/r1"), spec),
        ("POST", &format!("{RUNNERS}/r1/token"), Value::Null),
        ("POST", &format!("{RUNNERS}/r1/tunnel"), Value::Null),
        (
            "POST",
            "/api/v1/namespaces",
            json!({"metadata": {"name": "own"}}),
        ),
        ("PATCH", "/api/v1/namespaces/team", label),
        ("DELETE", "/api/v1/namespaces/team", Value::Null),
        ("POST", EVENTS, event),
        ("GET", LEASES, Value::Null),
        ("POST", LEASES, body("r1")),
    ] {
        let answer = server.ask(&ANN, method, path, body).await;
        let message = answer.refused(403, "Forbidden");
        assert!(!message.is_empty(), "{method} {path}");
    }
    // To build of own files: what else is asked there, the runner refuses.
    let connect = format!("{RUNNERS}/r1/connect");
    let answer = server.ask(&ANN, "POST", &connect, Value::Null).await;
    answer.refused(400, "BadRequest");
    for path in [
        CLASSES,
        &class,
        RUNNERS,
        "/api/v1/namespaces",
        EVENTS,
        "/version",
        "/apis",
    ] {
        server.ask(&ANN, "GET", path, Value::Null).await.ok();
    }
    let namespaces = server.get("/api/v1/namespaces").await.ok();
    assert_eq!(
        names(&namespaces),
        ["boatyard-runners", "boatyard-system", "default", "team"]
    );
}

#[tokio::test]
async fn the_runners_finalizer_is_not_the_owners_to_remove() {
    let server = Server::start().await;
    let body = json!({"metadata": {"name": "anns"}, "spec": {}});
    server.ask(&ANN, "POST", ENVIRONMENTS, body).await.ok();
    let bind =
        json!({"metadata": {"finalizers": ["boatyard.dev/runner"]}, "spec": {"runnerName": "r1"}});
    server.patch(&at("anns"), bind).await.ok();
    let free = json!({"metadata": {"finalizers": null}});
    let marked = server
        .ask(&ANN, "DELETE", &at("anns"), Value::Null)
        .await
        .ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let refused = server.ask(&ANN, "PATCH", &at("anns"), free.clone()).await;
    refused.refused(403, "Forbidden");
    let runner = server.runner();
    server.ask(&runner, "PATCH", &at("anns"), free).await.ok();
    server.get(&at("anns")).await.refused(404, "NotFound");
}

#[tokio::test]
async fn events_are_seen_by_the_owner_of_what_they_are_about() {
    let server = Server::start().await;
    let mut watches = Vec::new();
    for who in [ANN, BOB] {
        watches.push(server.watch(&who, &format!("{EVENTS}?watch=true")).await);
    }
    for (who, name) in [(&ANN, "anns"), (&BOB, "bobs")] {
        let body = json!({"metadata": {"name": name}, "spec": {}});
        let made = server.ask(who, "POST", ENVIRONMENTS, body).await.ok();
        server
            .patch(&at(name), json!({"spec": {"runnerName": "r1"}}))
            .await
            .ok();
        // Whose it is is the server's to say.
        let event = json!({"metadata": {"name": format!("{name}-event"), "annotations": {"boatyard.dev/owner-uid": "2002"}},
            "involvedObject": {"kind": "Environment", "name": name, "namespace": "default", "uid": made["metadata"]["uid"]}, "reason": "Pulled", "message": "secret"});
        server
            .ask(&server.runner(), "POST", EVENTS, event)
            .await
            .ok();
    }
    for (who, own, other) in [(&ANN, "anns", "bobs"), (&BOB, "bobs", "anns")] {
        let list = server.ask(who, "GET", EVENTS, Value::Null).await.ok();
        assert_eq!(names(&list), [format!("{own}-event")]);
        let event = |name: &str| format!("{EVENTS}/{name}-event");
        server.ask(who, "GET", &event(own), Value::Null).await.ok();
        let refused = server.ask(who, "GET", &event(other), Value::Null).await;
        refused.refused(403, "Forbidden");
    }
    assert_eq!(watches[0].told().await, "ADDED anns-event");
    assert_eq!(watches[1].told().await, "ADDED bobs-event");
    let all = server.get(EVENTS).await.ok();
    assert_eq!(names(&all), ["anns-event", "bobs-event"]);
    // Of a namesake that is no more, nobody but the administrator hears.
    let stale = json!({"metadata": {"name": "stale"}, "involvedObject": {"kind": "Environment", "name": "anns", "uid": "earlier"}});
    server
        .ask(&server.runner(), "POST", EVENTS, stale)
        .await
        .ok();
    let refused = server
        .ask(&ANN, "GET", &format!("{EVENTS}/stale"), Value::Null)
        .await;
    refused.refused(403, "Forbidden");
}

#[tokio::test]
async fn a_runner_has_itself_its_lease_and_what_is_bound_to_it() {
    let server = Server::start().await;
    let runner = server.runner();
    server.post(ENVIRONMENTS, bound("mine", "r1")).await.ok();
    server.post(ENVIRONMENTS, bound("theirs", "r2")).await.ok();
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let status = json!({"status": {"phase": "Running"}});
    let named = |name: &str| json!({"metadata": {"name": name}, "spec": {}});
    let r1 = format!("{RUNNERS}/r1");
    let lease = json!({"metadata": {"name": "r1"}, "spec": {"holderIdentity": "r1"}});
    let mine =
        json!({"metadata": {"name": "e1"}, "involvedObject": {"kind": "Runner", "name": "r1"}});
    for (method, path, body) in [
        ("POST", RUNNERS, named("r1")),
        ("GET", &r1, Value::Null),
        (
            "PATCH",
            &format!("{r1}/status"),
            json!({"status": {"version": "1"}}),
        ),
        ("POST", LEASES, lease.clone()),
        (
            "PATCH",
            &format!("{LEASES}/r1"),
            json!({"spec": {"leaseDurationSeconds": 40}}),
        ),
        ("GET", &at("mine"), Value::Null),
        ("PATCH", &format!("{}/status", at("mine")), status.clone()),
        ("PATCH", &at("mine"), label.clone()),
        ("GET", CLASSES, Value::Null),
        ("POST", EVENTS, mine),
    ] {
        server.ask(&runner, method, path, body).await.ok();
    }
    let r2 = format!("{RUNNERS}/r2");
    server.post(RUNNERS, named("r2")).await.ok();
    let mut lease2 = lease.clone();
    lease2["metadata"]["name"] = json!("r2");
    server.post(LEASES, lease2.clone()).await.ok();
    let about = |name: &str, kind: &str, of: &str| json!({"metadata": {"name": name}, "involvedObject": {"kind": kind, "name": of}});
    let theirs = server.get(&at("theirs")).await.ok();
    let mut of_theirs = about("e2", "Environment", "theirs");
    of_theirs["involvedObject"]["uid"] = theirs["metadata"]["uid"].clone();
    lease2["metadata"]["name"] = json!("r3");
    for (method, path, body) in [
        ("POST", RUNNERS, named("r3")),
        ("GET", RUNNERS, Value::Null),
        ("GET", &r2, Value::Null),
        ("PATCH", &r2, label.clone()),
        (
            "PATCH",
            &format!("{r2}/status"),
            json!({"status": {"version": "1"}}),
        ),
        ("DELETE", &r1, Value::Null),
        ("DELETE", RUNNERS, Value::Null),
        ("POST", &format!("{r1}/token"), Value::Null),
        ("POST", &format!("{r2}/token"), Value::Null),
        ("POST", &format!("{r2}/tunnel"), Value::Null),
        ("GET", LEASES, Value::Null),
        ("POST", LEASES, lease2),
        ("PATCH", &format!("{LEASES}/r2"), label.clone()),
        (
            "POST",
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            lease,
        ),
        ("GET", &at("theirs"), Value::Null),
        ("PATCH", &at("theirs"), label.clone()),
        ("PATCH", &format!("{}/status", at("theirs")), status),
        ("POST", ENVIRONMENTS, bound("own", "r1")),
        ("DELETE", &at("mine"), Value::Null),
        ("DELETE", ENVIRONMENTS, Value::Null),
        ("PATCH", &at("mine"), json!({"spec": {"state": "Stopped"}})),
        (
            "PATCH",
            &at("mine"),
            json!({"spec": {"devcontainer": {"image": "evil"}}}),
        ),
        ("POST", &format!("{}/connect", at("mine")), Value::Null),
        ("POST", CLASSES, named("own")),
        ("GET", "/api/v1/namespaces", Value::Null),
        ("GET", EVENTS, Value::Null),
        ("POST", EVENTS, about("e3", "Runner", "r2")),
        ("POST", EVENTS, about("e4", "Namespace", "default")),
        ("POST", EVENTS, of_theirs),
    ] {
        let answer = server.ask(&runner, method, path, body).await;
        assert_eq!(answer.status.as_u16(), 403, "{method} {path}: {answer:?}");
    }
    let kept = server.get(&at("mine")).await.ok();
    assert_eq!(kept["spec"]["state"], "Running");
    assert_eq!(kept["metadata"]["generation"], 1);
    // By a status write a runner changes nothing of the spec either.
    let both = json!({"spec": {"state": "Stopped"}, "status": {"phase": "Failed"}});
    let path = format!("{}/status", at("mine"));
    let _ = server.ask(&runner, "PATCH", &path, both).await;
    let kept = server.get(&at("mine")).await.ok();
    assert_eq!(kept["spec"]["state"], "Running");
    assert_eq!(server.get(&at("theirs")).await.ok(), theirs);
}

#[tokio::test]
async fn a_runner_watches_itself_and_no_other() {
    let server = Server::start().await;
    let path = |query: &str| format!("{RUNNERS}?watch=true&{query}");
    let own = path("fieldSelector=metadata.name%3Dr1");
    let mut watch = server.watch(&server.runner(), &own).await;
    for name in ["r0", "r1", "r2"] {
        let body = json!({"metadata": {"name": name}, "spec": {}});
        server.post(RUNNERS, body).await.ok();
    }
    assert_eq!(watch.told().await, "ADDED r1");
    let drained = json!({"spec": {"unschedulable": true}});
    for name in ["r2", "r1"] {
        let runner = format!("{RUNNERS}/{name}");
        server.patch(&runner, drained.clone()).await.ok();
    }
    assert_eq!(watch.told().await, "MODIFIED r1");
    for query in [
        "",
        "fieldSelector=metadata.name%3Dr2",
        "fieldSelector=metadata.name!%3Dr2",
        "fieldSelector=metadata.name%3Dr2,metadata.name%3Dr1",
    ] {
        let answer = server
            .ask(&server.runner(), "GET", &path(query), Value::Null)
            .await;
        assert_eq!(answer.status.as_u16(), 403, "{query}");
    }
}

#[tokio::test]
async fn a_fresh_token_of_a_runner_ends_the_earlier_one() {
    let server = Server::start().await;
    let path = format!("{RUNNERS}/r1/token");
    let first = server.runner();
    whoami(&server, &first).await;
    let minted = server.post(&path, Value::Null).await.ok();
    let second = Who::Token(minted["token"].as_str().unwrap().to_owned());
    let answer = server.ask(&first, "GET", CLASSES, Value::Null).await;
    answer.refused(401, "Unauthorized");
    assert_eq!(
        whoami(&server, &second).await["username"],
        "system:runner:r1"
    );
    let other = server
        .post(&format!("{RUNNERS}/r2/token"), Value::Null)
        .await;
    other.ok();
    whoami(&server, &second).await;
    for name in ["a%2Fb", "..%2Fadmin", "%2e%2e", "R1"] {
        let answer = server
            .post(&format!("{RUNNERS}/{name}/token"), Value::Null)
            .await;
        answer.refused(404, "NotFound");
    }
    assert_eq!(whoami(&server, &Who::Admin).await["username"], "admin");
    // Nothing in the store is a token.
    let store = std::fs::read(server.folder.path().join("store.db")).unwrap();
    let log = std::fs::read(server.folder.path().join("store.db-wal")).unwrap();
    for token in [minted["token"].as_str().unwrap(), &server.admin_token()] {
        let token = token.as_bytes();
        for kept in [&store, &log] {
            assert!(!kept.windows(token.len()).any(|found| found == token));
        }
    }
}

#[tokio::test]
async fn a_folder_of_the_host_is_for_callers_of_the_hosts_socket() {
    let server = Server::start().await;
    let body = |name: &str| json!({"metadata": {"name": name}, "spec": {"source": {"folder": {"path": "/home/ann/code"}}}});
    for who in [Who::Admin, bearer(&server.admin_token())] {
        let refused = server.ask(&who, "POST", ENVIRONMENTS, body("far")).await;
        let message = refused.refused(403, "Forbidden");
        assert!(message.contains("unix socket"));
    }
    for (who, name) in [(ANN, "anns"), (Who::User(0), "roots")] {
        server
            .ask(&who, "POST", ENVIRONMENTS, body(name))
            .await
            .ok();
    }
    let relative = json!({"metadata": {"name": "up"}, "spec": {"source": {"folder": {"path": "/home/ann/../bob"}}}});
    let refused = server.ask(&ANN, "POST", ENVIRONMENTS, relative).await;
    refused.refused(422, "Invalid");
}

#[tokio::test]
async fn can_i_answers_as_the_deed_would() {
    let server = Server::start().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (who, verb, resource, allowed) in [
        (&Who::Admin, "delete", "environments", true),
        (&ANN, "create", "environments", true),
        (&ANN, "delete", "environmentclasses", false),
        (&ANN, "list", "environmentclasses", true),
        (&ANN, "list", "leases", false),
        (&server.runner(), "create", "environments", false),
    ] {
        let group = if resource == "leases" {
            "coordination.k8s.io"
        } else {
            "boatyard.dev"
        };
        let asked = json!({"spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource, "namespace": "default"}}});
        let review = server.ask(who, "POST", path, asked).await.ok();
        assert_eq!(
            review["status"]["allowed"], allowed,
            "{who:?} {verb} {resource}"
        );
    }
}

#[tokio::test]
async fn a_backup_is_for_administrators() {
    let server = Server::start().await;
    for who in [server.runner(), Who::User(1000), Who::Tls(None)] {
        let refused = server.ask(&who, "GET", "/backup", Value::Null).await;
        assert!([401, 403].contains(&refused.status.as_u16()), "{refused:?}");
    }
    let given = server.get("/backup").await;
    assert_eq!(given.status, 200);
    let read = boatyard_store::archive::Backup::read(&mut given.text.as_bytes()).unwrap();
    assert!(
        read.objects
            .iter()
            .any(|object| object.key.name == "default")
    );
}
