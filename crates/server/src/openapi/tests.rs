//! Documents by their properties.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

fn all() -> Vec<(String, Value)> {
    let documents = Documents::new(&Kinds::default());
    let parse = |kept: &Kept| serde_json::from_slice(kept.bytes()).unwrap();
    let groups = documents.groups.iter();
    let mut all: Vec<(String, Value)> = groups
        .map(|(name, kept)| (name.clone(), parse(kept)))
        .collect();
    all.push(("v2".to_owned(), parse(&documents.v2)));
    all
}

fn visit(value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            see(name, member);
            visit(member, see);
        }),
        Value::Array(items) => items.iter().for_each(|item| visit(item, see)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_to_a_schema() {
    for (name, document) in all() {
        let mut seen = 0;
        visit(&document, &mut |member, value| {
            if member == "$ref" && value.is_string() {
                let pointer = value.as_str().unwrap().strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{name}: {value}");
                seen += 1;
            }
        });
        assert!(seen > 0, "{name}");
    }
}

#[test]
fn operations_have_names_of_their_own_and_parameters_for_every_part_of_their_path() {
    for (name, document) in all() {
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let common = item["parameters"].as_array();
            let named: BTreeSet<&str> = common
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let parts = path.split('/');
            let wanted: BTreeSet<&str> = parts
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            assert_eq!(named, wanted, "{path}");
            for (method, operation) in item.as_object().unwrap() {
                if method != "parameters" {
                    let id = operation["operationId"].as_str().unwrap();
                    assert!(ids.insert(id.to_owned()), "{name}: {id} twice");
                    assert!(operation["responses"]["401"].is_object(), "{id}");
                }
            }
        }
    }
}

#[test]
fn identifiers_and_actions_are_those_that_clients_know() {
    let documents: BTreeMap<String, Value> = all().into_iter().collect();
    let leases = &documents["apis/coordination.k8s.io/v1"]["paths"];
    let many = &leases["/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"];
    let one = &leases["/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"];
    let all = &leases["/apis/coordination.k8s.io/v1/leases"];
    for (operation, id, action) in [
        (&many["get"], "listCoordinationV1NamespacedLease", "list"),
        (&many["post"], "createCoordinationV1NamespacedLease", "post"),
        (
            &many["delete"],
            "deleteCoordinationV1CollectionNamespacedLease",
            "deletecollection",
        ),
        (&one["get"], "readCoordinationV1NamespacedLease", "get"),
        (&one["put"], "replaceCoordinationV1NamespacedLease", "put"),
        (&one["patch"], "patchCoordinationV1NamespacedLease", "patch"),
        (
            &one["delete"],
            "deleteCoordinationV1NamespacedLease",
            "delete",
        ),
        (
            &all["get"],
            "listCoordinationV1LeaseForAllNamespaces",
            "list",
        ),
    ] {
        assert_eq!(operation["operationId"], id);
        assert_eq!(operation["x-kubernetes-action"], action, "{id}");
        let kind = &operation["x-kubernetes-group-version-kind"];
        assert_eq!(
            *kind,
            json!({"group": "coordination.k8s.io", "version": "v1", "kind": "Lease"})
        );
    }
    let status = &documents["api/v1"]["paths"]["/api/v1/namespaces/{name}/status"];
    assert_eq!(status["get"]["operationId"], "readCoreV1NamespaceStatus");
    let forms = one["patch"]["requestBody"]["content"].as_object().unwrap();
    let forms: Vec<&str> = forms.keys().map(String::as_str).collect();
    assert_eq!(
        forms,
        [
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json"
        ]
    );
    let ours = &documents["apis/boatyard.dev/v1"]["paths"];
    let patch = &ours["/apis/boatyard.dev/v1/runners/{name}"]["patch"];
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_null());
}

#[test]
fn well_known_lists_say_how_they_merge() {
    let documents: BTreeMap<String, Value> = all().into_iter().collect();
    let schemas = &documents["apis/boatyard.dev/v1"]["components"]["schemas"];
    let meta = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"];
    assert_eq!(meta["finalizers"]["x-kubernetes-list-type"], "set");
    assert_eq!(
        meta["ownerReferences"]["x-kubernetes-list-map-keys"],
        json!(["uid"])
    );
    let environment = &schemas["dev.boatyard.v1.Environment"]["properties"];
    let conditions = &environment["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
}

#[test]
fn messages_are_written_as_the_protocol_has_it() {
    let document = json!({"swagger": "2.0", "definitions": {"a": {"type": "array", "items": {}, "minItems": 300, "minimum": 1, "x-y": [1]}}});
    let written = gnostic::encode(&document);
    let wanted = [
        b"\x0a\x032.0".as_slice(),
        b"\x4a\x31\x0a\x2f\x0a\x01a\x12\x2a",
        // minimum, minItems, type, items
        b"\x49\0\0\0\0\0\0\xf0\x3f",
        b"\x78\xac\x02",
        b"\xb2\x01\x07\x0a\x05array",
        b"\xba\x01\x02\x0a\x00",
        b"\xfa\x01\x0c\x0a\x03x-y\x12\x05\x12\x03[1]",
    ];
    assert_eq!(written, wanted.concat(), "{written:x?}");
}
