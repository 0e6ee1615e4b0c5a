//! Bodies by table.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use http::HeaderValue;
use serde_json::json;
use std::time::{Duration, Instant};

fn body(media: &'static str, text: &str) -> Result<Parsed, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    parse(&headers, text.as_bytes())
}

fn yaml(text: &str) -> Result<Parsed, Failure> {
    body("application/yaml", text)
}

#[test]
fn members_given_twice_are_named_and_the_last_one_counts() {
    let text = r#"{"a": 1, "b": {"c": [{"d": 1, "d": 2}], "c2": 0}, "a": 3}"#;
    let parsed = body("application/json", text).unwrap();
    assert_eq!(parsed.duplicates, ["b.c[0].d", "a"]);
    assert_eq!(
        parsed.value,
        json!({"a": 3, "b": {"c": [{"d": 2}], "c2": 0}})
    );
    assert_eq!(yaml("a: 1\na: 2\n").unwrap().duplicates, ["a"]);
}

#[test]
fn yaml_is_read_whatever_its_line_ends_and_signs_in_text() {
    let parsed = yaml("a: &x [1, two]\r\nb: *x\r\nc: '*not &an *alias'\r\nd: run a && b * c\r\n");
    assert_eq!(
        parsed.unwrap().value,
        json!({"a": [1, "two"], "b": [1, "two"], "c": "*not &an *alias", "d": "run a && b * c"})
    );
    assert_eq!(
        yaml("t: 2026-01-01\nn: ~\n").unwrap().value,
        json!({"t": "2026-01-01", "n": null})
    );
    for bad in ["a: .nan", "a: [", "a: 1\n---\nb: 2", "? [x]\n: y"] {
        assert!(yaml(bad).is_err(), "{bad}");
    }
}

#[test]
fn bombs_are_refused_quickly() {
    let began = Instant::now();
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        laughs.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [below.as_str(); 10].join(",")
        ));
    }
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        ["*a"; 1000].join(",")
    );
    let deep = "[".repeat(3 << 20);
    let braces = "{a: ".repeat(700_000);
    let indented: String = (0..2000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    for text in [&laughs, &long, &deep, &braces, &indented] {
        let refused = yaml(text).unwrap_err();
        assert_eq!(refused.code, http::StatusCode::BAD_REQUEST);
    }
    for text in [&deep, &"{\"a\":".repeat(100_000)] {
        assert!(body("application/json", text).is_err());
    }
    assert!(body("application/json", r#"{"a": "[[[[{{{{\"[["}"#).is_ok());
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn what_is_neither_text_nor_whole_is_refused() {
    let headers = HeaderMap::new();
    for bad in [
        &b"{\"a\": \"\xff\"}"[..],
        b"{",
        b"{} {}",
        b"",
        b"{\"a\": 1e999}",
    ] {
        let refused = parse(&headers, bad).unwrap_err();
        assert_eq!(refused.reason, "BadRequest", "{bad:?}");
    }
    let refused = body("text/plain", "{}").unwrap_err();
    assert_eq!(refused.reason, "UnsupportedMediaType");
}
