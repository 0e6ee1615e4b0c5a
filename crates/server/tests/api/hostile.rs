//! Requests no honest client sends: each gets its Status, and the server is as it was.

use crate::harness::*;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends bytes as they are, and reads until the server closes.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut socket = server.dial(&Who::Admin).await;
    // The server may close before it has read all.
    let _ = within(socket.write_all(bytes)).await;
    let mut answer = Vec::new();
    let _ = within(socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request with the administrator's token that asks for the connection to be closed.
fn request(server: &Server, line: &str, headers: &str, body: &str) -> Vec<u8> {
    let token = server.admin_token();
    let head =
        format!("{line}\r\nhost: b\r\nauthorization: Bearer {token}\r\nconnection: close\r\n");
    format!("{head}{headers}\r\n{body}").into_bytes()
}

/// Code and reason of the only answer.
#[track_caller]
fn told(answer: &str) -> (u16, String) {
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let status: Value = serde_json::from_str(body).unwrap_or_default();
    let reason = status["reason"].as_str().unwrap_or("-").to_owned();
    (
        code.unwrap_or_else(|| panic!("no answer in {answer:?}")),
        reason,
    )
}

/// Resident memory in KiB and open descriptors of this process, which the server is in.
fn held() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let size = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (size, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

#[tokio::test]
async fn heads_that_are_too_large_malformed_or_ambiguous_are_refused() {
    let server = Server::start().await;
    let list = format!("GET {ENVIRONMENTS} HTTP/1.1");
    let post = format!("POST {ENVIRONMENTS} HTTP/1.1");
    let many: String = (0..150)
        .map(|number| format!("x-{number}: y\r\n"))
        .collect();
    let long = format!("x: {}\r\n", "y".repeat(40_000));
    let uri = |size: usize| format!("GET {ENVIRONMENTS}?x={} HTTP/1.1", "y".repeat(size));
    let rows: Vec<(String, &str, &str, u16, &str)> = vec![
        (list.clone(), "", "", 200, "-"),
        (uri(40_000), "", "", 414, "RequestURITooLong"),
        (list.clone(), &many, "", 431, "RequestHeaderFieldsTooLarge"),
        (list.clone(), &long, "", 431, "RequestHeaderFieldsTooLarge"),
        (
            "BREW / HTTP/1.1".to_owned(),
            "",
            "",
            405,
            "MethodNotAllowed",
        ),
        (
            format!("BREW {ENVIRONMENTS} HTTP/1.1"),
            "",
            "",
            405,
            "MethodNotAllowed",
        ),
        (
            format!("TRACE {ENVIRONMENTS} HTTP/1.1"),
            "",
            "",
            405,
            "MethodNotAllowed",
        ),
        (format!("GET {ENVIRONMENTS} HTTP/1.0"), "", "", 200, "-"),
        // What HTTP itself forbids is refused before anybody asks who it is.
        (uri(100_000), "", "", 414, "-"),
        (uri(200_000), "", "", 431, "-"),
        (format!("GET  {ENVIRONMENTS} HTTP/1.1"), "", "", 400, "-"),
        (
            post.clone(),
            "content-length: 2\r\ncontent-length: 3\r\n",
            "{}",
            400,
            "-",
        ),
        (post.clone(), "content-length: -2\r\n", "{}", 400, "-"),
        (post.clone(), "transfer-encoding: gzip\r\n", "{}", 400, "-"),
        (
            post.replace("1.1", "1.0"),
            "transfer-encoding: chunked\r\n",
            "0\r\n\r\n",
            400,
            "-",
        ),
        (list.clone(), "x y: z\r\n", "", 400, "-"),
        (list.clone(), "x: a\0b\r\n", "", 400, "-"),
    ];
    for (line, headers, body, code, reason) in rows {
        let answer = raw(&server, &request(&server, &line, headers, body)).await;
        let line = &line[..line.len().min(80)];
        let headers = &headers[..headers.len().min(80)];
        assert_eq!(told(&answer), (code, reason.to_owned()), "{line} {headers}");
    }
}

#[tokio::test]
async fn bodies_are_judged_before_they_are_read_and_never_taken_for_requests() {
    let server = Server::start().await;
    let post = format!("POST {ENVIRONMENTS} HTTP/1.1");
    // Refused by what it declares: not told to go on, and nothing is waited for.
    let huge = "expect: 100-continue\r\ncontent-length: 10000000000\r\n";
    let answer = raw(&server, &request(&server, &post, huge, "")).await;
    assert_eq!(told(&answer), (413, "RequestEntityTooLarge".to_owned()));
    // One that may go on is told so.
    let body = environment("one", "a").to_string();
    let expects = format!("expect: 100-continue\r\ncontent-length: {}\r\n", body.len());
    let answer = raw(&server, &request(&server, &post, &expects, &body)).await;
    assert!(
        answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 "),
        "{answer}"
    );
    for (headers, body, code, reason) in [
        (
            "content-encoding: gzip\r\ncontent-length: 2\r\n",
            "{}".to_owned(),
            415,
            "UnsupportedMediaType",
        ),
        (
            "content-encoding: identity\r\ncontent-length: 1\r\n",
            "{".to_owned(),
            400,
            "BadRequest",
        ),
        (
            "transfer-encoding: chunked\r\n",
            "zz\r\n{}\r\n0\r\n\r\n".to_owned(),
            400,
            "BadRequest",
        ),
        (
            "transfer-encoding: chunked\r\n",
            "ffffffffffffffffff\r\n{}".to_owned(),
            400,
            "BadRequest",
        ),
        (
            "transfer-encoding: chunked\r\n",
            format!("300001\r\n{}\r\n0\r\n\r\n", " ".repeat(0x30_0001)),
            413,
            "RequestEntityTooLarge",
        ),
    ] {
        let answer = raw(&server, &request(&server, &post, headers, &body)).await;
        assert_eq!(told(&answer), (code, reason.to_owned()), "{headers}");
    }
    // Two lengths at once: chunks count, and what follows them on a connection to be closed is lost.
    let smuggled = request(
        &server,
        "DELETE /apis/boatyard.dev/v1/namespaces/default/environments/one HTTP/1.1",
        "",
        "",
    );
    let smuggled = String::from_utf8(smuggled).unwrap();
    let both = format!(
        "content-length: {}\r\ntransfer-encoding: chunked\r\n",
        smuggled.len() + 5
    );
    let answer = raw(
        &server,
        &request(&server, &post, &both, &format!("0\r\n\r\n{smuggled}")),
    )
    .await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    server.get(&at("one")).await.ok();
}

#[tokio::test]
async fn paths_and_queries_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    for (query, code) in [
        ("limit=-1", 400),
        ("limit=99999999999999999999999", 400),
        ("limit=1e3", 400),
        ("limit=18446744073709551615", 200),
        ("resourceVersion=18446744073709551616", 400),
        ("resourceVersion=-1", 400),
        ("resourceVersion=0x10", 400),
        ("continue=!!!", 400),
        ("continue=AAAA", 400),
        ("continue=eyJhdCI6MX0", 400),
        ("labelSelector=%ff", 400),
        ("labelSelector=%0", 400),
        ("labelSelector=a%00b", 400),
        ("fieldSelector=%00=x", 400),
        ("labelSelector=a%20in%20(((((((", 400),
        ("%ff=x", 400),
        ("labelSelector=", 200),
        ("&&&=&=", 200),
    ] {
        let answer = server.get(&format!("{ENVIRONMENTS}?{query}")).await;
        assert_eq!(answer.status.as_u16(), code, "{query}: {answer:?}");
        if code != 200 {
            answer.refused(code, "BadRequest");
        }
    }
    // As long and with as many terms as is taken, and more.
    let terms = |many: usize| vec!["a!=b"; many].join(",");
    let path = |selector: &str| format!("{ENVIRONMENTS}?labelSelector={selector}");
    server.get(&path(&terms(1600))).await.ok();
    server
        .get(&path(&terms(2000)))
        .await
        .refused(400, "BadRequest");
    let value = "x".repeat(64);
    server
        .get(&path(&format!("a={value}")))
        .await
        .refused(400, "BadRequest");
    for name in ["%00", "%ff", "a%2fb", "%2e%2e", "a%0ab", "%e2%80%ae"] {
        let answer = server.get(&at(name)).await;
        answer.refused(404, "NotFound");
    }
}

#[tokio::test]
async fn a_server_that_was_sent_all_of_this_is_as_it_was() {
    let server = Server::start().await;
    server.environment("one", "a").await;
    let path = at("one");
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let wide = format!("[{}1]", "1,".repeat(500_000));
    let labels: serde_json::Map<String, Value> = (0..20_000)
        .map(|number| (format!("l{number}"), "x".repeat(64).into()))
        .collect();
    let labels = serde_json::json!({"metadata": {"labels": labels}}).to_string();
    let tests: Value = (0..10_000)
        .map(|_| serde_json::json!({"op": "test", "path": "/kind", "value": "x"}))
        .collect();
    let laughs: String = (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
        let below = format!("*a{},", level - 1).repeat(9);
        text + &format!("a{level}: &a{level} [{below}]\n")
    });
    let round = async || {
        for (method, path, media, body, code) in [
            ("POST", ENVIRONMENTS, "application/json", deep.as_str(), 400),
            ("POST", ENVIRONMENTS, "application/json", &wide, 400),
            ("POST", ENVIRONMENTS, "application/yaml", &laughs, 400),
            (
                "PATCH",
                path.as_str(),
                "application/merge-patch+json",
                &labels,
                422,
            ),
            (
                "PATCH",
                &path,
                "application/json-patch+json",
                &tests.to_string(),
                422,
            ),
            ("PATCH", &path, "application/merge-patch+json", &deep, 400),
        ] {
            let headers = [("content-type", media)];
            let answer = server.tell(&Who::Admin, method, path, &headers, body.to_owned());
            let answer = answer.await;
            assert_eq!(
                answer.status.as_u16(),
                code,
                "{method} {media}: {}",
                answer.text
            );
            assert_eq!(answer.json["kind"], "Status");
        }
        // Applied, what is no object is no configuration.
        for body in ["[]", "5", "null", "text", "metadata: 5", "metadata: []"] {
            let headers = [("content-type", "application/apply-patch+yaml")];
            let path = format!("{path}?fieldManager=x");
            let answer = server.tell(&Who::Admin, "PATCH", &path, &headers, body);
            let answer = answer.await;
            assert!(matches!(answer.status.as_u16(), 400 | 422), "{answer:?}");
        }
        let line = format!("POST {ENVIRONMENTS} HTTP/1.1");
        for _ in 0..20 {
            let headers = "content-length: 10000000000\r\n";
            raw(&server, &request(&server, &line, headers, "{")).await;
        }
    };
    // Once, for what is kept for good: caches, threads, what the allocator holds.
    round().await;
    let before = held();
    for _ in 0..3 {
        round().await;
    }
    // Connections close a moment after their answers.
    within(async {
        while held().1 > before.1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let after = held();
    assert!(after.0 < before.0 + 64 * 1024, "{before:?}, then {after:?}");
    server.get(&path).await.ok();
}
