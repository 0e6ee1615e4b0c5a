//! Bodies as kubectl writes them, and broken ones.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&[number << 3 | 2, length], bytes].concat()
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [
        b"k8s\0".to_vec(),
        field(1, &meta),
        field(2, raw),
        field(3, b""),
        field(4, b""),
    ]
    .concat()
}

#[test]
fn reads_a_namespace_with_labels_and_passes_over_what_it_does_not_know() {
    let label = [field(1, b"team"), field(2, b"a")].concat();
    let unknown = [vec![5 << 3, 0x80, 0x01], vec![6 << 3 | 5, 0, 0, 0, 0]].concat();
    let metadata = [field(1, b"web"), field(2, b""), unknown, field(11, &label)].concat();
    let raw = [field(1, &metadata), field(2, b""), field(3, b"")].concat();
    assert_eq!(
        decode(&envelope("v1", "Namespace", &raw)).unwrap(),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web", "labels": {"team": "a"}}})
    );
}

#[test]
fn reads_what_a_review_asks() {
    let attributes = [field(2, b"get"), field(5, b"environments")].concat();
    let raw = field(2, &field(1, &attributes));
    let read = decode(&envelope(
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
        &raw,
    ));
    assert_eq!(
        read.unwrap()["spec"]["resourceAttributes"],
        json!({"verb": "get", "resource": "environments"})
    );
}

#[test]
fn reads_options_of_a_deletion() {
    let preconditions = [field(1, b"an-uid"), field(2, b"7")].concat();
    let raw = [
        vec![1 << 3, 30],
        field(2, &preconditions),
        field(4, b"Background"),
        field(5, b"All"),
    ];
    assert_eq!(
        decode(&envelope("v1", "DeleteOptions", &raw.concat())).unwrap(),
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", "dryRun": ["All"], "preconditions": {"uid": "an-uid", "resourceVersion": "7"}})
    );
}

#[test]
fn every_cut_of_a_body_is_read_or_refused() {
    let whole = envelope("v1", "Namespace", &field(1, &field(1, b"web")));
    for length in 0..whole.len() {
        let _ = decode(&whole[..length]);
        let mut broken = whole.clone();
        broken[length] ^= 0xff;
        let _ = decode(&broken);
    }
    assert_eq!(
        decode(&envelope("v1", "Pod", b"")).unwrap_err().reason,
        "UnsupportedMediaType"
    );
    let endless = [b"k8s\0".to_vec(), vec![0xff; 20]].concat();
    assert_eq!(decode(&endless).unwrap_err().reason, "BadRequest");
}
