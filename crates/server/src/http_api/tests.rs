//! Paths and bodies by table.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use http::{HeaderValue, header};

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
    for bad in [
        "%zz",
        "%+5",
        "%2",
        "%ff",
        "/environments",
        "../environments",
        "%2e%2e",
        "",
    ] {
        assert_eq!(path(&format!("/api/v1/namespaces/{bad}/x")), None, "{bad}");
    }
    assert_eq!(path("//api/v1/namespaces"), None);
    assert_eq!(
        path("/api/v1/namespaces/a%2Fb"),
        wanted("", "", "namespaces", "a/b", "")
    );
}

#[test]
fn accepts_what_clients_send() {
    let form = |accept: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        super::form(&Accept::of(&headers))
            .ok()
            .map(|(form, _)| form)
    };
    assert_eq!(
        form("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
        Some(Form::Table)
    );
    assert_eq!(
        form("application/vnd.kubernetes.protobuf,application/json"),
        Some(Form::Whole)
    );
    assert_eq!(form("*/*"), Some(Form::Whole));
    assert_eq!(
        form("application/json;as=PartialObjectMetadataList;v=v1"),
        Some(Form::Partial)
    );
    for refused in [
        "garbage",
        ";;;,,",
        "text/html",
        "application/json;as=Picture",
    ] {
        assert_eq!(form(refused), None, "{refused}");
    }
}
