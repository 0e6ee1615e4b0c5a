//! Clients that send or read slowly or not at all, and floods of frames: their connections end,
//! what they held is others', and the server serves on.

use crate::harness::*;
use boatyard_server::{Bound, Limits};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server that waits for nobody.
async fn impatient() -> Server {
    let short = Duration::from_secs(3);
    Server::limited(Limits {
        idle: short,
        body: short,
        unread: short,
        watches: Bound { each: 1, all: 9 },
        answers: Bound {
            each: 3 << 20,
            all: 9 << 20,
        },
        ..Limits::default()
    })
    .await
}

/// Sends bytes and reads until the server closes.
async fn sent(server: &Server, bytes: &[u8]) -> String {
    let mut socket = server.dial(&Who::User(2001)).await;
    within(socket.write_all(bytes)).await.unwrap();
    let mut answer = Vec::new();
    let _ = within(socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_sends_slowly_or_rests_is_cut_off() {
    let server = impatient().await;
    let begun = format!("POST {ENVIRONMENTS} HTTP/1.1\r\nhost: b\r\n");
    assert_eq!(sent(&server, b"").await, "");
    assert_eq!(sent(&server, b"GET /vers").await, "");
    assert_eq!(sent(&server, begun.as_bytes()).await, "");
    // Idle after an answer.
    let answer = sent(&server, b"GET /version HTTP/1.1\r\nhost: b\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // A second head that never ends.
    let answer = sent(&server, b"GET /version HTTP/1.1\r\nhost: b\r\n\r\nGET /v").await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    // A body that does not come.
    let part = format!("{begun}content-length: 100\r\n\r\n{{\"metadata\"");
    let answer = sent(&server, part.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"reason\":\"Timeout\""), "{answer}");
}

#[tokio::test]
async fn slow_bodies_hold_bytes_of_their_own_and_nobodys_seat() {
    let server = Server::limited(Limits {
        bodies: Bound {
            each: 4 << 20,
            all: 8 << 20,
        },
        ..Limits::default()
    })
    .await;
    let ann = Who::User(2001);
    let head =
        format!("POST {ENVIRONMENTS} HTTP/1.1\r\nhost: b\r\ncontent-length: 3000000\r\n\r\n");
    let mut slow = Vec::new();
    // More than there are seats, and one with most of its body.
    for number in 0..300 {
        let mut socket = server.dial(&ann).await;
        let body = " ".repeat(if number == 0 { 2_999_999 } else { 1000 });
        within(socket.write_all(format!("{head}{body}").as_bytes()))
            .await
            .unwrap();
        slow.push(socket);
    }
    let full = format!("{}{}", environment("two", "a"), " ".repeat(2_000_000));
    within(async {
        // Until the bytes have arrived.
        while server
            .tell(&ann, "POST", ENVIRONMENTS, &[], full.clone())
            .await
            .status
            != 429
        {}
    })
    .await;
    let made = server.tell(
        &Who::User(2002),
        "POST",
        ENVIRONMENTS,
        &[],
        full.replace("two", "other").replace("elsewhere", ""),
    );
    assert_ne!(made.await.status, 429);
    server.environment("one", "a").await;
    drop(slow);
}

#[tokio::test]
async fn who_reads_nothing_is_cut_off_and_holds_nothing_any_more() {
    let server = impatient().await;
    for number in 0..8 {
        let text = "x".repeat(200_000);
        let mut body = environment(&format!("e{number}"), "a");
        body["metadata"]["annotations"] = json!({"text": text});
        server.post(ENVIRONMENTS, body).await.ok();
    }
    let token = server.admin_token();
    // Held whole to be indented; any other list is written out of what is stored.
    let whole = format!("{ENVIRONMENTS}?pretty=true");
    let ask = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: b\r\nauthorization: Bearer {token}\r\n\r\n")
    };
    let listed = async || {
        let answer = server.tell(&Who::Admin, "GET", &whole, &[], "");
        answer.await.status
    };
    let mut unread = server.dial(&Who::Admin).await;
    within(unread.write_all(ask(&whole).as_bytes()))
        .await
        .unwrap();
    // One is counted as long as it is not read; a second beside it is too much.
    within(async { while listed().await != 429 {} }).await;
    within(async { while listed().await != 200 {} }).await;
    let mut rest = Vec::new();
    let _ = within(unread.read_to_end(&mut rest)).await;
    assert!(rest.len() < 1_600_000, "the rest is not kept for it");

    let mut unread = server.dial(&Who::Admin).await;
    within(unread.write_all(ask(&format!("{ENVIRONMENTS}?watch=true")).as_bytes()))
        .await
        .unwrap();
    let short = format!("{ENVIRONMENTS}?watch=true&resourceVersion=1&timeoutSeconds=1");
    within(async { while server.get(&short).await.status != 429 {} }).await;
    within(async { while server.get(&short).await.status != 200 {} }).await;
    drop(unread);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Frames by number.
type Flood<'a> = &'a dyn Fn(u32) -> Vec<u8>;

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn floods_of_frames_end_their_connection_alone() {
    let server = impatient().await;
    let get = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let resets = |number: u32| {
        let stream = 2 * number + 1;
        [
            frame(1, 5, stream, &get),
            frame(3, 0, stream, &[0, 0, 0, 8]),
        ]
        .concat()
    };
    let continued = |number: u32| match number {
        0 => frame(1, 1, 1, &get),
        _ => frame(
            9,
            0,
            1,
            &[[0x40, 1, b'x', 120], [b'y'; 4]].concat().repeat(100),
        ),
    };
    let floods: [(&str, Flood<'_>); 4] = [
        ("rapid reset", &resets),
        ("continuations", &continued),
        ("settings", &|_| frame(4, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("pings", &|_| frame(6, 0, 0, &[0; 8])),
    ];
    for (name, flood) in floods {
        let mut socket = server.dial(&Who::User(2001)).await;
        within(socket.write_all(PREFACE)).await.unwrap();
        let mut number = 0;
        // Nothing is read: the server must not keep its answers for us without end.
        let ended = within(async {
            loop {
                let frames: Vec<u8> = (0..100).flat_map(|more| flood(number + more)).collect();
                if socket.write_all(&frames).await.is_err() {
                    return;
                }
                number += 100;
            }
        });
        ended.await;
        assert!(number < 10_000_000, "{name}");
        server
            .ask(&Who::User(2001), "GET", "/version", Value::Null)
            .await
            .ok();
    }
}
