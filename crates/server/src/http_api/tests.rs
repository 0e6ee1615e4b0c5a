//! Paths and bodies by table.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

#[test]
fn paths_are_read_as_kubernetes_reads_them() {
    let path = |text: &str| {
        parse_path(text).map(|path| {
            (
                path.group,
                path.namespace,
                path.plural,
                path.name,
                path.subresource,
            )
        })
    };
    let wanted = |g: &str, ns: &str, p: &str, n: &str, s: &str| {
        Some((
            g.to_owned(),
            ns.to_owned(),
            p.to_owned(),
            n.to_owned(),
            s.to_owned(),
        ))
    };
    assert_eq!(
        path("/api/v1/namespaces"),
        wanted("", "", "namespaces", "", "")
    );
    assert_eq!(
        path("/api/v1/namespaces/a"),
        wanted("", "", "namespaces", "a", "")
    );
    assert_eq!(
        path("/api/v1/namespaces/a/status"),
        wanted("", "", "namespaces", "a", "status")
    );
    assert_eq!(
        path("/api/v1/namespaces/a/events/b"),
        wanted("", "a", "events", "b", "")
    );
    assert_eq!(
        path("/apis/g/v1/namespaces/a/environments/e/status"),
        wanted("g", "a", "environments", "e", "status")
    );
    assert_eq!(
        path("/apis/g/v1/runners/r/tunnel"),
        wanted("g", "", "runners", "r", "tunnel")
    );
    assert_eq!(path("/apis/g/v1/runners/r/a/b"), None);
    assert_eq!(path("/api/v1/namespaces/%zz"), None);
}

#[test]
fn bombs_are_refused_before_they_are_parsed() {
    let deep = "[".repeat(100);
    assert!(check_depth(deep.as_bytes()).is_err());
    assert!(check_depth(br#"{"a": "[[[[{{{{\"[["}"#).is_ok());
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/yaml"),
    );
    assert!(parse_body(&headers, b"a: &a [x]\nb: *a").is_err());
    assert!(parse_body(&headers, b"a: 1").is_ok());
}
