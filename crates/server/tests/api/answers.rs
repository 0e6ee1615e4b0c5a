//! How answers are written: syntax, indentation, compression, methods that are not taken, health.

use crate::harness::{CLASSES, ENVIRONMENTS, Server, Who, at};
use boatyard_api::Environment;
use boatyard_store::Store;
use flate2::read::GzDecoder;
use futures::TryStreamExt;
use kube::api::{Api, WatchParams};
use serde_json::{Value, json};
use std::io::Read;

#[tokio::test]
async fn objects_come_as_yaml_where_that_is_preferred() {
    let server = Server::start().await;
    let yaml = [
        ("accept", "application/yaml"),
        ("content-type", "application/yaml"),
    ];
    let text =
        "metadata: {name: one}\nspec: {devcontainer: {image: 'x:1'}, runnerName: elsewhere}\n";
    let made = server
        .tell(&Who::Admin, "POST", ENVIRONMENTS, &yaml, text)
        .await;
    assert_eq!(made.status, 201);
    assert_eq!(made.headers["content-type"], "application/yaml");
    let read: Value = serde_norway::from_str(&made.text).unwrap();
    assert_eq!(read["spec"]["devcontainer"]["image"], "x:1");
    let json = server.get(&at("one")).await.ok();
    for (accept, wanted) in [
        ("application/yaml", "application/yaml"),
        (
            "application/yaml;q=0.5,application/json",
            "application/json",
        ),
        ("application/yaml,*/*", "application/yaml"),
        ("*/*", "application/json"),
    ] {
        let answer = server
            .tell(&Who::Admin, "GET", &at("one"), &[("accept", accept)], "")
            .await;
        assert_eq!(answer.headers["content-type"], wanted, "{accept}");
        let read: Value = serde_norway::from_str(&answer.text).unwrap();
        assert_eq!(read, json);
    }
    // Refusals too.
    let none = server
        .tell(&Who::Admin, "GET", &at("none"), &yaml, "")
        .await;
    let status: Value = serde_norway::from_str(&none.text).unwrap();
    assert_eq!(
        (none.status.as_u16(), &status["reason"]),
        (404, &json!("NotFound"))
    );
    // A stream of documents is nothing that clients know.
    let watch = server
        .tell(
            &Who::Admin,
            "GET",
            &format!("{ENVIRONMENTS}?watch=true"),
            &yaml,
            "",
        )
        .await;
    assert_eq!(watch.status, 406);
}

#[tokio::test]
async fn people_get_indented_json() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    for (query, agent, indented) in [
        ("", "kubectl/v1.36", false),
        ("?pretty=true", "kubectl/v1.36", true),
        ("?pretty=1", "", true),
        ("", "curl/8.1", true),
        ("?pretty=false", "curl/8.1", false),
        ("", "Mozilla/5.0 (X11)", true),
    ] {
        let path = at("one") + query;
        let answer = server
            .tell(&Who::Admin, "GET", &path, &[("user-agent", agent)], "")
            .await;
        assert_eq!(
            answer.text.contains("\n  \"kind\""),
            indented,
            "{query} {agent}"
        );
        assert_eq!(answer.ok()["kind"], "Environment");
    }
}

#[tokio::test]
async fn large_answers_are_compressed_for_who_takes_it() {
    let server = Server::start().await;
    let ask = async |path: &str, coding: &str| {
        let headers = [("accept-encoding", coding)];
        server.raw(&Who::Admin, path, &headers).await
    };
    let (headers, _) = ask(CLASSES, "gzip").await;
    assert!(!headers.contains_key("content-encoding"), "it is small");
    for number in 0..3 {
        let text = "lorem ipsum ".repeat(8000);
        let class = json!({"metadata": {"name": format!("c{number}"), "annotations": {"a": text}}, "spec": {}});
        server.post(CLASSES, class).await.ok();
    }
    for path in [CLASSES, "/openapi/v2", "/openapi/v3/apis/boatyard.dev/v1"] {
        for refused in ["", "identity", "gzip;q=0", "br"] {
            let (headers, _) = ask(path, refused).await;
            assert!(
                !headers.contains_key("content-encoding"),
                "{path} {refused}"
            );
        }
        let (_, whole) = ask(path, "").await;
        let (headers, zipped) = ask(path, "br, gzip;q=0.5").await;
        if whole.len() <= 128 * 1024 {
            continue;
        }
        assert_eq!(headers["content-encoding"], "gzip");
        assert!(
            headers["vary"]
                .to_str()
                .unwrap()
                .contains("Accept-Encoding")
        );
        let mut text = Vec::new();
        GzDecoder::new(&zipped[..]).read_to_end(&mut text).unwrap();
        assert_eq!(text, whole, "{path}");
        assert!(zipped.len() * 3 < whole.len());
    }
    // Indented first, then compressed.
    let (headers, zipped) = ask(&format!("{CLASSES}?pretty=true"), "gzip").await;
    assert_eq!(headers["content-encoding"], "gzip");
    let mut text = String::new();
    GzDecoder::new(&zipped[..])
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("\n  \"kind\""));
}

#[tokio::test]
async fn a_refused_method_is_told_which_are_taken() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let all = "/apis/boatyard.dev/v1/environments".to_owned();
    for (path, allowed) in [
        (all, "GET"),
        (ENVIRONMENTS.to_owned(), "DELETE, GET, POST"),
        (at("one"), "DELETE, GET, PATCH, PUT"),
        (at("one") + "/status", "GET, PATCH, PUT"),
        (at("one") + "/connect", "POST"),
        ("/version".to_owned(), "GET, HEAD"),
        ("/apis".to_owned(), "GET, HEAD"),
        ("/readyz".to_owned(), "GET, HEAD"),
    ] {
        for method in ["OPTIONS", "TRACE", "PROPFIND"] {
            let answer = server.ask(&Who::Admin, method, &path, Value::Null).await;
            assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
            answer.refused(405, "MethodNotAllowed");
        }
    }
    let head = server
        .ask(&Who::Admin, "HEAD", &at("one"), Value::Null)
        .await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (405, ""));
}

#[tokio::test]
async fn health_is_told_to_everybody_check_by_check() {
    let server = Server::start().await;
    let nobody = Who::Tls(None);
    let ask = async |path: &str| server.ask(&nobody, "GET", path, Value::Null).await;
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/readyz/",
        "/readyz/store",
        "/readyz/shutdown",
        "/livez/ping",
        "/healthz/ping",
    ] {
        let answer = ask(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (200, "ok"),
            "{path}"
        );
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }
    let verbose = ask("/readyz?verbose").await.text;
    assert_eq!(
        verbose,
        "[+]ping ok\n[+]store ok\n[+]shutdown ok\nreadyz check passed\n"
    );
    let excluded = ask("/readyz?verbose=true&exclude=store&exclude=magic")
        .await
        .text;
    assert!(
        excluded.contains("[+]store excluded: ok") && excluded.contains("no matches for \"magic\""),
        "{excluded}"
    );
    ask("/readyz/magic").await.refused(404, "NotFound");
    ask("/livez/store").await.refused(404, "NotFound");
    // Without its store it lives, and takes no requests.
    server.store.close().await.unwrap();
    let ready = ask("/readyz").await;
    assert_eq!(ready.status, 500);
    assert_eq!(
        ready.text,
        "[+]ping ok\n[-]store failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n"
    );
    assert_eq!(ask("/readyz/store").await.status, 500);
    assert_eq!(ask("/livez").await.text, "ok");
}

#[tokio::test]
async fn a_clients_requests_and_watches_share_one_connection() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let environments: Api<Environment> = Api::namespaced(server.kube(), "default");
    // Those that come at once before there is a connection may each begin one.
    environments.get("one").await.unwrap();
    let held = async || {
        let metrics = server.get("/metrics").await.text;
        let name = "boatyard_flow_held{what=\"connections\"} ";
        let held = metrics.lines().find_map(|line| line.strip_prefix(name));
        held.unwrap().parse::<u32>().unwrap()
    };
    let before = held().await;
    let mut watches = Vec::new();
    for _ in 0..20 {
        let stream = environments.watch(&WatchParams::default(), "0").await;
        let mut stream = Box::pin(stream.unwrap());
        stream.try_next().await.unwrap().unwrap();
        watches.push(stream);
    }
    let gets = (0..100).map(|_| environments.get("one"));
    for got in futures::future::join_all(gets).await {
        got.unwrap();
    }
    assert_eq!(held().await, before);
}

#[tokio::test]
async fn metrics_are_for_administrators_and_their_labels_are_bounded() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    server.get(&at("one")).await.ok();
    for path in [
        "/nowhere/a",
        "/nowhere/b",
        "/api/v1/invented",
        "/apis/x.io/v1/y",
    ] {
        server.get(path).await.refused(404, "NotFound");
    }
    let watched = format!("{ENVIRONMENTS}?watch=true");
    let mut watch = server.watch(&Who::Admin, &watched).await;
    watch.told().await;
    let text = async || {
        let answer = server.get("/metrics").await;
        assert_eq!(answer.status, 200);
        answer.text
    };
    let metrics = text().await;
    for line in [
        "boatyard_http_requests_total{verb=\"create\",group=\"boatyard.dev\",resource=\"environments\",subresource=\"\",code=\"201\"} 1",
        "boatyard_http_requests_total{verb=\"get\",group=\"boatyard.dev\",resource=\"environments\",subresource=\"\",code=\"200\"} 1",
        "boatyard_http_requests_total{verb=\"get\",group=\"\",resource=\"other\",subresource=\"\",code=\"404\"} 4",
        "boatyard_watches{group=\"boatyard.dev\",resource=\"environments\"} 1",
        "boatyard_http_requests_in_flight{request_kind=\"readOnly\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    for name in [
        "boatyard_store_revision ",
        "boatyard_process_resident_memory_bytes ",
        "boatyard_process_open_fds ",
        "boatyard_process_cpu_seconds_total ",
    ] {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        assert!(line.unwrap().parse::<f64>().unwrap() > 0.0, "{name}");
    }
    assert!(!metrics.contains("nowhere") && !metrics.contains("invented"));
    drop(watch);
    let ended = async {
        while !text()
            .await
            .contains("boatyard_watches{group=\"boatyard.dev\",resource=\"environments\"} 0")
        {
        }
    };
    crate::harness::within(ended).await;
    for who in [Who::User(1000), server.runner()] {
        server
            .ask(&who, "GET", "/metrics", Value::Null)
            .await
            .refused(403, "Forbidden");
    }
    let unknown = server.ask(&Who::Tls(None), "GET", "/metrics", Value::Null);
    unknown.await.refused(401, "Unauthorized");
}
