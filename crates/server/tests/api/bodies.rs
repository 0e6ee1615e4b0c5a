//! Bodies and headers: what is read, what is refused and how, and that refusing costs little.

use crate::harness::*;
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");
const YAML: (&str, &str) = ("content-type", "application/yaml");
const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");
const JSON_PATCH: (&str, &str) = ("content-type", "application/json-patch+json");

const ONE: &str = "
# A comment, as people write them.
metadata:
  name: one
  labels: {tier: a}
  annotations:
    text: |
      two
      lines
    number: '5'
spec:
  devcontainer:
    image: \"test:latest\"
  runnerName: elsewhere
";

#[tokio::test]
async fn yaml_and_json_are_read_as_declared() {
    let server = Server::start().await;
    for (media, body) in [
        ("application/yaml", ONE.to_owned()),
        ("application/x-yaml; charset=utf-8", ONE.to_owned()),
        // JSON is YAML, too.
        ("application/yaml", environment("one", "a").to_string()),
        ("application/json", environment("one", "a").to_string()),
        (
            "application/json;charset=UTF-8",
            environment("one", "a").to_string(),
        ),
        ("", environment("one", "a").to_string()),
    ] {
        let headers = [("content-type", media)];
        let made = server.tell(&Who::Admin, "POST", ENVIRONMENTS, &headers, body);
        let made = made.await.ok();
        assert_eq!(made["metadata"]["labels"], json!({"tier": "a"}), "{media}");
        assert_eq!(made["spec"]["devcontainer"]["image"], "test:latest");
        server.delete(&at("one")).await.ok();
    }
    let path = at("one");
    let made = server.tell(&Who::Admin, "POST", ENVIRONMENTS, &[YAML], ONE.to_owned());
    let made = made.await.ok();
    let annotations = &made["metadata"]["annotations"];
    assert_eq!(*annotations, json!({"text": "two\nlines\n", "number": "5"}));
    let put = ONE.replace("tier: a", "tier: b");
    let put = server.tell(&Who::Admin, "PUT", &path, &[YAML], put).await;
    assert_eq!(put.ok()["metadata"]["labels"]["tier"], "b");
    let options = format!("preconditions: {{uid: {}}}", made["metadata"]["uid"]);
    let deleted = server.tell(&Who::Admin, "DELETE", &path, &[YAML], options);
    deleted.await.ok();
    let bare = server.tell(
        &Who::Admin,
        "POST",
        ENVIRONMENTS,
        &[],
        environment("one", "a").to_string(),
    );
    bare.await.ok();
}

#[tokio::test]
async fn what_is_declared_otherwise_is_unsupported() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let body = environment("two", "a").to_string();
    let path = at("one");
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/cbor",
        "json",
    ] {
        for (method, path) in [
            ("POST", ENVIRONMENTS),
            ("PUT", &path),
            ("PATCH", &path),
            ("DELETE", &path),
            ("DELETE", ENVIRONMENTS),
        ] {
            let headers = [("content-type", media)];
            let answer = server.tell(&Who::Admin, method, path, &headers, body.clone());
            let message = answer.await.refused(415, "UnsupportedMediaType");
            assert!(message.contains("application/"), "{message}");
        }
    }
    let unknown = ("content-type", "application/vnd.kubernetes.protobuf");
    let pod = [&b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod"[..]].concat();
    let answer = server
        .tell(&Who::Admin, "POST", ENVIRONMENTS, &[unknown], pod)
        .await;
    answer.refused(415, "UnsupportedMediaType");
    // A patch's form is declared by its type: neither a plain object's nor YAML's is one.
    for (media, body) in [(JSON, "{}"), (YAML, "{}"), (("content-type", ""), "{}")] {
        let answer = server
            .tell(&Who::Admin, "PATCH", &path, &[media], body)
            .await;
        answer.refused(415, "UnsupportedMediaType");
    }
    assert_eq!(names(&server.get(ENVIRONMENTS).await.ok()), ["one"]);
}

#[tokio::test]
async fn kubectls_protobuf_makes_namespaces() {
    let server = Server::start().await;
    let field = |number: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).unwrap();
        [&[number << 3 | 2, length], bytes].concat()
    };
    let meta = [field(1, b"v1"), field(2, b"Namespace")].concat();
    let namespace = field(1, &field(1, b"team"));
    let body = [b"k8s\0".to_vec(), field(1, &meta), field(2, &namespace)].concat();
    let media = ("content-type", "application/vnd.kubernetes.protobuf");
    let accept = (
        "accept",
        "application/vnd.kubernetes.protobuf,application/json",
    );
    let path = "/api/v1/namespaces";
    let headers = [media, accept];
    let made = server.tell(&Who::Admin, "POST", path, &headers, body);
    let made = made.await.ok();
    assert_eq!(made["metadata"]["name"], "team");
    // A deletion's preconditions hold in this form as well.
    let meta = [field(1, b"v1"), field(2, b"DeleteOptions")].concat();
    let options = field(2, &field(1, b"another"));
    let body = [b"k8s\0".to_vec(), field(1, &meta), field(2, &options)].concat();
    let path = "/api/v1/namespaces/team";
    let kept = server
        .tell(&Who::Admin, "DELETE", path, &[media], body)
        .await;
    kept.refused(409, "Conflict");
    let kept = server.get(path).await.ok();
    assert!(kept["metadata"].get("deletionTimestamp").is_none());
}

#[tokio::test]
async fn bodies_have_a_greatest_size() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let path = at("one");
    let most = 3 * 1024 * 1024;
    let around = environment("two", "a").to_string();
    // White space is as good as anything to fill a body.
    let full = format!("{around}{}", " ".repeat(most - around.len()));
    let over = format!("{full} ");
    for (method, path) in [
        ("POST", ENVIRONMENTS),
        ("PUT", &path),
        ("DELETE", &path),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        ),
    ] {
        let answer = server.tell(&Who::Admin, method, path, &[JSON], over.clone());
        answer.await.refused(413, "RequestEntityTooLarge");
    }
    let answer = server.tell(&Who::Admin, "PATCH", &path, &[MERGE], over.clone());
    answer.await.refused(413, "RequestEntityTooLarge");
    let answer = server.tell(&Who::Admin, "POST", ENVIRONMENTS, &[JSON], full);
    answer.await.ok();
    assert_eq!(names(&server.get(ENVIRONMENTS).await.ok()), ["one", "two"]);
}

#[tokio::test]
async fn bombs_of_every_form_are_refused_and_the_server_goes_on() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    let path = at("one");
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{},", level - 1).repeat(9);
        laughs += &format!("a{level}: &a{level} [{below}]\n");
    }
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let wide = format!("[{}1]", "1,".repeat(1_400_000));
    for (method, path, media, body) in [
        ("POST", ENVIRONMENTS, YAML, laughs),
        ("POST", ENVIRONMENTS, YAML, deep("[", "]")),
        ("POST", ENVIRONMENTS, YAML, deep("{a: ", "}")),
        ("POST", ENVIRONMENTS, YAML, "- ".repeat(100_000)),
        ("POST", ENVIRONMENTS, JSON, deep("[", "]")),
        ("POST", ENVIRONMENTS, JSON, deep("{\"a\":", "}")),
        ("POST", ENVIRONMENTS, JSON, wide.clone()),
        ("PUT", &path, JSON, deep("{\"a\":", "}")),
        ("PATCH", &path, MERGE, deep("{\"a\":", "}")),
        ("DELETE", &path, JSON, deep("[", "]")),
        ("DELETE", &path, JSON, wide),
    ] {
        let headers = [media];
        let answer = server.tell(&Who::Admin, method, path, &headers, body);
        answer.await.refused(400, "BadRequest");
    }
    // Each copy doubles what is there.
    let copy = |to: &str| json!({"op": "copy", "from": "/metadata", "path": to});
    let copies: Value = ["/metadata/a", "/metadata/b"]
        .repeat(40)
        .into_iter()
        .map(copy)
        .collect();
    let answer = server.patch(&path, copies).await;
    answer.refused(413, "RequestEntityTooLarge");
    let many: Value = (0..20_000)
        .map(|_| json!({"op": "test", "path": "", "value": 1}))
        .collect();
    let answer = server.patch(&path, many).await;
    answer.refused(413, "RequestEntityTooLarge");
    assert_eq!(server.get(&path).await.ok(), made);
}

#[tokio::test]
async fn what_is_no_object_is_a_bad_request_wherever_it_is_sent() {
    let server = Server::start().await;
    let made = server.environment("one", "a").await;
    let path = at("one");
    let status = at("one") + "/status";
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for body in [
        &b"{"[..],
        b"{\"metadata\": {\"name\": \"x\"}} {}",
        b"null",
        b"[]",
        b"5",
        b"\"text\"",
        b"{\"metadata\": \"\xff\xfe\"}",
        b"not json",
        b"{\"metadata\": 1e999}",
        b"\0\0\0",
    ] {
        for (method, path, media) in [
            ("POST", ENVIRONMENTS, JSON),
            ("POST", "/api/v1/namespaces", JSON),
            ("POST", EVENTS, JSON),
            ("POST", review, JSON),
            ("PUT", &path, JSON),
            ("PUT", &status, JSON),
            ("PATCH", &path, MERGE),
            ("DELETE", &path, JSON),
            ("DELETE", ENVIRONMENTS, JSON),
        ] {
            let answer = server.tell(&Who::Admin, method, path, &[media], body).await;
            answer.refused(400, "BadRequest");
        }
    }
    for (method, path, media) in [
        ("POST", ENVIRONMENTS, JSON),
        ("POST", ENVIRONMENTS, YAML),
        ("PUT", &path, JSON),
        ("PATCH", &path, MERGE),
        ("PATCH", &path, JSON_PATCH),
    ] {
        let answer = server.tell(&Who::Admin, method, path, &[media], "").await;
        answer.refused(400, "BadRequest");
    }
    for body in [
        r#"{}"#,
        r#"[{"op": "fly", "path": ""}]"#,
        r#"[{"op": "add"}]"#,
        r#"[{"op": "add", "path": "x", "value": 1}]"#,
    ] {
        let answer = server
            .tell(&Who::Admin, "PATCH", &path, &[JSON_PATCH], body)
            .await;
        answer.refused(400, "BadRequest");
    }
    // Patches that make something else of an object.
    for (value, code) in [(json!([]), 400), (json!(null), 400), (json!({}), 422)] {
        let replaced = json!([{"op": "replace", "path": "", "value": value}]);
        let answer = server.patch(&path, replaced).await;
        assert_eq!(answer.status.as_u16(), code, "{value}: {answer:?}");
    }
    for patch in [
        json!({"metadata": []}),
        json!({"metadata": {"labels": 5}}),
        json!({"spec": null}),
        json!({"spec": "x"}),
    ] {
        let answer = server.patch(&path, patch).await;
        answer.refused(422, "Invalid");
    }
    assert_eq!(server.get(&path).await.ok(), made);
}

#[tokio::test]
async fn members_given_twice_are_told() {
    let server = Server::start().await;
    let body = r#"{"metadata": {"name": "one", "name": "two"}, "spec": {"state": "Stopped", "state": "Running"}}"#;
    let strict = format!("{ENVIRONMENTS}?fieldValidation=Strict");
    let answer = server
        .tell(&Who::Admin, "POST", &strict, &[JSON], body)
        .await;
    let message = answer.refused(400, "BadRequest");
    assert!(
        message.contains("duplicate field \"metadata.name\""),
        "{message}"
    );
    let answer = server
        .tell(&Who::Admin, "POST", ENVIRONMENTS, &[JSON], body)
        .await;
    assert_eq!(answer.headers.get_all("warning").iter().count(), 2);
    let made = answer.ok();
    assert_eq!(made["metadata"]["name"], "two");
    assert_eq!(made["spec"]["state"], "Running");
    let yaml = "metadata: {name: three}\nspec: {}\nspec: {state: Stopped}\n";
    let answer = server
        .tell(&Who::Admin, "POST", &strict, &[YAML], yaml)
        .await;
    assert!(
        answer
            .refused(400, "BadRequest")
            .contains("duplicate field \"spec\"")
    );
}

#[tokio::test]
async fn only_json_is_served_and_whoever_takes_it_gets_it() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let path = at("one");
    let watched = format!("{ENVIRONMENTS}?watch=true");
    for accept in [
        "text/html",
        "application/cbor",
        "application/json;q=0",
        "application/vnd.kubernetes.protobuf",
        "application/json;as=Chart;v=v1;g=meta.k8s.io",
    ] {
        for path in [ENVIRONMENTS, &path, &watched] {
            let headers = [("accept", accept)];
            let answer = server.tell(&Who::Admin, "GET", path, &headers, "").await;
            answer.refused(406, "NotAcceptable");
        }
        // Before anything is done.
        let headers = [("accept", accept)];
        let answer = server
            .tell(&Who::Admin, "DELETE", &path, &headers, "")
            .await;
        answer.refused(406, "NotAcceptable");
    }
    for accept in [
        "",
        "*/*",
        "application/json",
        "application/*",
        "application/json;stream=watch",
        "application/vnd.kubernetes.protobuf, application/json",
        "text/html, application/xml;q=0.9, */*;q=0.8",
        "application/json;as=Chart;v=v1;g=meta.k8s.io,application/json",
    ] {
        let headers = [("accept", accept)];
        let answer = server.tell(&Who::Admin, "GET", &path, &headers, "").await;
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.ok()["kind"], "Environment", "{accept}");
    }
}
