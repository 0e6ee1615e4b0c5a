//! Sets, merging and ownership: by table here, by law in `laws`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod laws;

use super::apply::apply;
use super::compare::compare;
use super::element::{Element, show};
use super::merge::merge;
use super::owners::Owners;
use super::reconcile::reconcile;
use super::set::Set;
use super::typed::{fields, misfits};
use super::types::Ref;
use super::update::{settle, update};
use super::{Write, check_entries, from_agent};
use crate::failure::Failure;
use crate::kinds::Kind;
use jiff::Timestamp;
use serde_json::{Value, json};

/// A schema with a container of each sort.
fn schema() -> Value {
    let text = json!({"type": "string"});
    let item = json!({"type": "object", "properties": {"name": text, "value": text, "more": {"type": "object", "properties": {"a": text, "b": text}}}});
    let port = json!({"type": "object", "properties": {"port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}, "note": text}});
    json!({"type": "object", "properties": {
        "apiVersion": text, "kind": text,
        "metadata": {"type": "object", "properties": {
            "name": text, "namespace": text, "uid": text, "creationTimestamp": text, "resourceVersion": text,
            "labels": {"type": "object", "additionalProperties": text},
            "annotations": {"type": "object", "additionalProperties": text},
            "managedFields": {"type": "array", "items": {"type": "object"}},
        }},
        "spec": {"type": "object", "properties": {
            "text": text, "number": {"type": "integer"}, "flag": {"type": "boolean"},
            "atomic": {"type": "array", "items": text},
            "set": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
            "keyed": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            "ports": {"type": "array", "items": port, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"]},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": text, "b": text}},
            "nested": {"type": "object", "properties": {"a": text, "b": text}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"phase": text}},
    }})
}

fn kind() -> Kind {
    Kind::of_schema(schema())
}

fn at<'a>(kind: &'a Kind, manager: &'static str, second: i64) -> Write<'a> {
    Write {
        kind,
        manager,
        subresource: "",
        now: Timestamp::from_second(second).unwrap(),
    }
}

/// A configuration with a spec.
fn config(spec: Value) -> Value {
    json!({"apiVersion": "boatyard.dev/v1", "kind": "Runner", "metadata": {"name": "x"}, "spec": spec})
}

/// A configuration applied as the server does it, to an object that has an identity then.
fn applied(
    write: &Write<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, Failure> {
    let mut object = apply(write, live, config, force)?;
    object["metadata"]["uid"] = json!("u");
    // As the schema's check does with nulls where none may be.
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
    Ok(match live {
        Some(live) if settle(live, &object) => live.clone(),
        _ => object,
    })
}

/// An object replaced as the server does it.
fn updated(write: &Write<'_>, live: Option<&Value>, new: &Value) -> Value {
    let mut new = new.clone();
    let sent = super::take(&mut new);
    new["metadata"]["uid"] = json!("u");
    let entries = update(write, live, &new, &sent, &Set::default());
    if !entries.is_null() {
        new["metadata"]["managedFields"] = entries;
    }
    new
}

fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array();
    entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let name = entry["manager"].as_str().unwrap().to_owned();
            (name, entry["fieldsV1"].clone())
        })
        .collect()
}

fn set(fields: Value) -> Set {
    Set::decode(&fields).unwrap()
}

#[test]
fn fields_v1_is_read_and_written_as_it_is() {
    for text in [
        r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:keyed":{"k:{\"name\":\"a\"}":{".":{},"f:name":{}}}}}"#,
        r#"{"f:spec":{"f:set":{"v:\"x\"":{},"v:1":{}},"f:atomic":{}}}"#,
        r#"{"f:a":{"i:0":{},"i:10":{}}}"#,
    ] {
        let fields: Value = serde_json::from_str(text).unwrap();
        assert_eq!(set(fields.clone()).encode(), fields, "{text}");
    }
    // What later versions may have is left out; its container is then a member.
    assert_eq!(set(json!({"f:a": {"x:new": {}}})), set(json!({"f:a": {}})));
    for wrong in [
        json!({"a": {}}),
        json!({"f:a": 1}),
        json!({"k:{": {}}),
        json!([]),
    ] {
        assert!(Set::decode(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn elements_are_in_order_and_shown_as_people_read_them() {
    let order = [
        "f:a",
        "f:b",
        "k:{\"a\":1}",
        "k:{\"a\":1,\"b\":0}",
        "k:{\"a\":9}",
        "k:{\"a\":10}",
        "k:{\"a\":\"1\"}",
        "v:1.5",
        "v:2",
        "v:10",
        "v:\"a\"",
        "v:false",
        "v:true",
        "i:2",
        "i:10",
    ]
    .map(|text| Element::parse(text).unwrap());
    assert!(order.is_sorted() && order.iter().is_sorted_by(|a, b| a < b));
    assert_eq!(
        Element::parse("v:1").unwrap(),
        Element::parse("v:1.0").unwrap()
    );
    let path = ["f:spec", "k:{\"b\":true,\"a\":\"x\"}", "v:1", "i:3"];
    let path = path.map(|text| Element::parse(text).unwrap());
    assert_eq!(show(&path), r#".spec[a="x",b=true][=1][3]"#);
}

#[test]
fn the_fields_of_a_value_are_its_leaves_and_items() {
    let of = Ref::compile(&schema());
    for (spec, wanted) in [
        (
            json!({"text": "a", "nested": {"a": "1"}}),
            json!({"f:text": {}, "f:nested": {"f:a": {}}}),
        ),
        (
            json!({"atomic": ["a"], "whole": {"a": "1"}}),
            json!({"f:atomic": {}, "f:whole": {}}),
        ),
        (
            json!({"set": ["b", "a"]}),
            json!({"f:set": {"v:\"a\"": {}, "v:\"b\"": {}}}),
        ),
        (
            json!({"keyed": [{"name": "a", "more": {"a": "1"}}]}),
            json!({"f:keyed": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:more": {"f:a": {}}}}}),
        ),
        (
            json!({"ports": [{"port": 1}]}),
            json!({"f:ports": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}),
        ),
        (
            json!({"free": {"a": {"b": [1, {"c": 2}]}, "n": null}}),
            json!({"f:free": {"f:a": {".": {}, "f:b": {}}, "f:n": {}}}),
        ),
        (json!({"nested": {}}), json!({"f:nested": {}})),
        // Twice the same item: as a whole.
        (
            json!({"keyed": [{"name": "a"}, {"name": "a"}]}),
            json!({"f:keyed": {"k:{\"name\":\"a\"}": {}}}),
        ),
    ] {
        let found = fields(&of, &json!({"spec": spec}));
        assert_eq!(found.encode(), json!({"f:spec": wanted}), "{spec}");
    }
}

#[test]
fn what_does_not_fit_is_told_by_its_path() {
    let of = Ref::compile(&schema());
    for (spec, wanted) in [
        (json!({"text": 1}), ".spec.text: expected string, got 1"),
        (
            json!({"number": "1"}),
            ".spec.number: expected numeric (int or float), got \"1\"",
        ),
        (
            json!({"flag": "x"}),
            ".spec.flag: expected boolean, got \"x\"",
        ),
        (json!({"nested": []}), ".spec.nested: expected map, got []"),
        (
            json!({"set": {"a": 1}}),
            ".spec.set: expected list, got {\"a\":1}",
        ),
        (
            json!({"atomic": ["a", 1]}),
            ".spec.atomic[1]: expected string, got 1",
        ),
        (
            json!({"unknown": 1}),
            ".spec.unknown: field not declared in schema",
        ),
        (
            json!({"set": ["a", "a"]}),
            ".spec.set: duplicate entries for key [=\"a\"]",
        ),
        (
            json!({"set": [["a"]]}),
            ".spec.set: element 0: not supported: associative list with lists as elements",
        ),
        (
            json!({"keyed": [{"name": "a"}, {"name": "a"}]}),
            ".spec.keyed: duplicate entries for key [name=\"a\"]",
        ),
        (
            json!({"keyed": [{"name": "a", "more": {"a": 1}}]}),
            ".spec.keyed[name=\"a\"].more.a: expected string, got 1",
        ),
        (
            json!({"ports": [{"port": 1}, {"port": 1, "protocol": "TCP"}]}),
            ".spec.ports: duplicate entries for key [port=1,protocol=\"TCP\"]",
        ),
        (
            json!({"keyed": [{"value": "a"}]}),
            ".spec.keyed: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
        ),
        (
            json!({"keyed": [null]}),
            ".spec.keyed: element 0: associative list with keys may not have a null element",
        ),
    ] {
        assert_eq!(misfits(&of, &json!({"spec": spec})), [wanted]);
    }
    let fine = json!({"spec": {"text": null, "free": {"a": [1, "x", {}]}, "ports": [{"port": 1}, {"port": 1, "protocol": "UDP"}]}});
    assert!(misfits(&of, &fine).is_empty());
}

#[test]
fn merged_lists_keep_their_order_until_the_configuration_has_another() {
    let of = Ref::compile(&schema());
    for (live, config, wanted) in [
        ("abc", "", "abc"),
        ("", "cab", "cab"),
        ("abc", "b", "abc"),
        ("abc", "d", "abcd"),
        ("abc", "cba", "cba"),
        ("abcd", "cxa", "bcdxa"),
        ("abc", "xb", "axbc"),
        ("ab", "ba", "ba"),
        ("abcde", "eb", "acdeb"),
        ("aab", "b", "aab"),
        ("aab", "ca", "cab"),
    ] {
        let letters = |text: &str| -> Vec<String> { text.chars().map(String::from).collect() };
        let of_set = |text: &str| json!({"spec": {"text": "x", "set": letters(text)}});
        let merged = merge(&of, &of_set(live), &of_set(config));
        let found: String = merged["spec"]["set"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| item.as_str().unwrap())
            .collect();
        assert_eq!(found, wanted, "{live} + {config}");
    }
    let keyed = |items: Value| json!({"spec": {"keyed": items}});
    let live = keyed(json!([{"name": "a", "value": "1"}, {"name": "b", "more": {"a": "1"}}]));
    let change = keyed(json!([{"name": "b", "more": {"b": "2"}}, {"name": "a", "value": "2"}]));
    assert_eq!(
        merge(&of, &live, &change),
        keyed(json!([{"name": "b", "more": {"a": "1", "b": "2"}}, {"name": "a", "value": "2"}]))
    );
}

#[test]
fn a_comparison_tells_what_came_went_and_changed() {
    let of = Ref::compile(&schema());
    let old = json!({"spec": {"text": "a", "set": ["a", "b"], "keyed": [{"name": "a", "value": "1"}, {"name": "b"}], "atomic": ["1"]}});
    let new = json!({"spec": {"text": "b", "set": ["b", "c"], "keyed": [{"name": "a", "value": "2"}], "atomic": ["2"], "nested": {"a": "1"}}});
    let found = compare(&of, &old, &new);
    let below = |spec: Value| json!({ "f:spec": spec });
    assert_eq!(
        found.modified.encode(),
        below(
            json!({"f:text": {}, "f:atomic": {}, "f:keyed": {"k:{\"name\":\"a\"}": {"f:value": {}}}})
        )
    );
    assert_eq!(
        found.added.encode(),
        below(json!({"f:set": {"v:\"c\"": {}}, "f:nested": {".": {}, "f:a": {}}}))
    );
    assert_eq!(
        found.removed.encode(),
        below(
            json!({"f:set": {"v:\"a\"": {}}, "f:keyed": {"k:{\"name\":\"b\"}": {".": {}, "f:name": {}}}})
        )
    );
    // Order is nobody's, and numbers are numbers.
    let same = json!({"spec": {"set": ["b", "a"], "number": 1.0}});
    let shuffled = json!({"spec": {"set": ["a", "b"], "number": 1}});
    assert!(compare(&of, &same, &shuffled).is_empty());
}

#[test]
fn a_writer_owns_what_it_changes_and_others_lose_it() {
    let kind = kind();
    let made = updated(
        &at(&kind, "a", 1),
        None,
        &config(json!({"text": "1", "nested": {"a": "1"}})),
    );
    assert_eq!(
        owners(&made),
        [(
            "a".to_owned(),
            json!({"f:spec": {".": {}, "f:text": {}, "f:nested": {".": {}, "f:a": {}}}})
        )]
    );
    let mut next = made.clone();
    next["spec"]["text"] = json!("2");
    let next = updated(&at(&kind, "b", 2), Some(&made), &next);
    assert_eq!(
        owners(&next),
        [
            (
                "a".to_owned(),
                json!({"f:spec": {".": {}, "f:nested": {".": {}, "f:a": {}}}})
            ),
            ("b".to_owned(), json!({"f:spec": {"f:text": {}}})),
        ]
    );
    assert_eq!(
        next["metadata"]["managedFields"][0]["time"],
        "1970-01-01T00:00:01Z"
    );
    assert_eq!(
        updated(&at(&kind, "c", 3), Some(&next), &next),
        next,
        "nothing changed"
    );
    let mut less = next.clone();
    less["spec"] = json!({"nested": {"a": "1"}});
    let less = updated(&at(&kind, "c", 4), Some(&next), &less);
    assert_eq!(
        owners(&less).len(),
        1,
        "who only removes owns nothing, and b has nothing left"
    );
}

#[test]
fn the_oldest_writers_are_taken_together() {
    let kind = kind();
    let names = [
        "w00", "w01", "w02", "w03", "w04", "w05", "w06", "w07", "w08", "w09", "w10", "w11",
    ];
    let mut object = updated(&at(&kind, "first", 0), None, &config(json!({"free": {}})));
    for (second, name) in (1..).zip(names) {
        let mut next = object.clone();
        next["spec"]["free"][name] = json!(1);
        object = updated(&at(&kind, name, second), Some(&object), &next);
    }
    let found = owners(&object);
    assert_eq!(found.len(), 10);
    let (name, ancient) = &found[0];
    assert_eq!(name, "ancient-changes");
    assert_eq!(
        ancient,
        &json!({"f:spec": {".": {}, "f:free": {".": {}, "f:w00": {}, "f:w01": {}, "f:w02": {}}}})
    );
    assert_eq!(
        object["metadata"]["managedFields"][0]["time"],
        "1970-01-01T00:00:03Z"
    );
}

#[test]
fn clients_may_reset_and_rewrite_who_owns_what() {
    let kind = kind();
    let made = updated(&at(&kind, "a", 1), None, &config(json!({"text": "1"})));
    for reset in [json!([]), json!([{}])] {
        let mut next = made.clone();
        next["metadata"]["managedFields"] = reset;
        let next = updated(&at(&kind, "b", 2), Some(&made), &next);
        assert!(owners(&next).is_empty());
        let mut later = next.clone();
        later["spec"]["text"] = json!("2");
        let later = updated(&at(&kind, "b", 3), Some(&next), &later);
        assert!(owners(&later).is_empty(), "not tracked until an apply");
        let again = applied(
            &at(&kind, "c", 4),
            Some(&later),
            &config(json!({"flag": true})),
            false,
        )
        .unwrap();
        let names: Vec<String> = owners(&again).into_iter().map(|it| it.0).collect();
        assert_eq!(names, ["c", "before-first-apply"]);
    }
    let mut given = made.clone();
    given["metadata"]["managedFields"][0]["manager"] = json!("z");
    given["metadata"]["managedFields"][0]["operation"] = json!("Apply");
    let given = updated(&at(&kind, "b", 2), Some(&made), &given);
    assert_eq!(owners(&given)[0].0, "z");
    // What cannot be read is as if it were not sent.
    for wrong in [
        json!([{"manager": "z", "operation": "Other", "apiVersion": "v1", "fieldsType": "FieldsV1"}]),
        json!([{"manager": "z", "operation": "Apply", "fieldsType": "FieldsV1"}]),
        json!([{"manager": "z", "operation": "Apply", "apiVersion": "v1"}]),
        json!([{"manager": "z", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"x": {}}}]),
    ] {
        let mut next = made.clone();
        next["metadata"]["managedFields"] = wrong;
        assert_eq!(updated(&at(&kind, "b", 2), Some(&made), &next), made);
    }
}

#[test]
fn entries_of_versions_not_served_go_with_the_next_change() {
    let kind = kind();
    let mut made = updated(&at(&kind, "a", 1), None, &config(json!({"text": "1"})));
    made["metadata"]["managedFields"][0]["apiVersion"] = json!("boatyard.dev/v0");
    let mut next = made.clone();
    next["spec"]["flag"] = json!(true);
    let next = updated(&at(&kind, "b", 2), Some(&made), &next);
    assert_eq!(
        owners(&next),
        [("b".to_owned(), json!({"f:spec": {"f:flag": {}}}))]
    );
}

#[test]
fn status_and_the_rest_are_owned_apart() {
    let kind = kind();
    let mut sent = config(json!({"text": "1"}));
    sent["status"] = json!({"phase": "x"});
    let made = updated(&at(&kind, "a", 1), None, &sent);
    assert_eq!(
        owners(&made)[0].1,
        json!({"f:spec": {".": {}, "f:text": {}}})
    );
    let status = Write {
        subresource: "status",
        ..at(&kind, "b", 2)
    };
    let mut next = made.clone();
    next["status"]["phase"] = json!("y");
    let next = updated(&status, Some(&made), &next);
    assert_eq!(
        next["metadata"]["managedFields"][1]["subresource"],
        "status"
    );
    assert_eq!(owners(&next)[1].1, json!({"f:status": {"f:phase": {}}}));
    let scale = Write {
        subresource: "scale",
        ..at(&kind, "s", 3)
    };
    let mut scaled = next.clone();
    scaled["spec"]["number"] = json!(3);
    let scaled = updated(&scale, Some(&next), &scaled);
    assert_eq!(owners(&scaled)[2].1, json!({"f:spec": {"f:number": {}}}));
    let mut wanted = config(json!({"text": "2"}));
    wanted["status"] = json!({"phase": "z"});
    let refused = applied(
        &Write {
            manager: "c",
            ..status
        },
        Some(&next),
        &wanted,
        false,
    );
    assert_eq!(
        refused.unwrap_err().details["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"b\" with subresource \"status\" using boatyard.dev/v1", "field": ".status.phase"}])
    );
    let forced = applied(
        &Write {
            manager: "c",
            ..status
        },
        Some(&next),
        &wanted,
        true,
    )
    .unwrap();
    assert_eq!(
        owners(&forced)[0],
        ("c".to_owned(), json!({"f:status": {"f:phase": {}}}))
    );
}

#[test]
fn what_is_left_out_goes_with_all_that_held_nothing_else() {
    let kind = kind();
    let everything = json!({"text": "1", "nested": {"a": "1"}, "set": ["a", "b"], "keyed": [{"name": "a", "value": "1"}, {"name": "b", "value": "1"}], "atomic": ["a"], "whole": {"a": "1"}, "free": {"x": {"y": 1}}});
    let made = applied(&at(&kind, "a", 1), None, &config(everything), false).unwrap();
    let mut more = made.clone();
    more["spec"]["keyed"][1]["more"] = json!({"a": "1"});
    let items = more["spec"]["keyed"].as_array_mut();
    items.unwrap().push(json!({"name": "c"}));
    more["spec"]["set"] = json!(["a", "b", "c"]);
    let more = updated(&at(&kind, "b", 2), Some(&made), &more);
    let left = applied(
        &at(&kind, "a", 3),
        Some(&more),
        &config(json!({"set": ["b"]})),
        false,
    )
    .unwrap();
    assert_eq!(
        left["spec"],
        json!({"set": ["b", "c"], "keyed": [{"name": "c"}]}),
        "an item goes with its key, whoever has something in it"
    );
    let gone = json!({"apiVersion": "boatyard.dev/v1", "kind": "Runner"});
    let left = applied(&at(&kind, "a", 4), Some(&left), &gone, false).unwrap();
    assert_eq!(left["spec"]["set"], json!(["c"]));
    assert_eq!(left["metadata"]["uid"], "u", "what the server set stays");
    assert_eq!(owners(&left).len(), 1);
}

#[test]
fn a_container_somebody_holds_stays_empty_when_its_last_item_goes() {
    let kind = kind();
    let write = |name, second, live: &Value, spec| {
        updated(&at(&kind, name, second), Some(live), &config(spec))
    };
    let apply = |name, second, live: &Value, spec| {
        applied(&at(&kind, name, second), Some(live), &config(spec), false).unwrap()
    };
    // The updater made the containers; the only item left in them is the applier's.
    for (first, own, emptied) in [
        (
            json!({"set": ["f"]}),
            json!({"set": ["d"]}),
            json!({"set": []}),
        ),
        (
            json!({"keyed": [{"name": "f"}]}),
            json!({"keyed": [{"name": "d"}]}),
            json!({"keyed": []}),
        ),
        (
            json!({"nested": {"a": "1"}}),
            json!({"nested": {"b": "1"}}),
            json!({"nested": {}}),
        ),
    ] {
        let made = updated(&at(&kind, "p", 1), None, &config(first));
        let both = apply("q", 2, &made, own.clone());
        let left = write("p", 3, &both, own);
        let gone = apply("q", 4, &left, json!({}));
        assert_eq!(gone["spec"], emptied);
        let name = emptied.as_object().unwrap().keys().next().unwrap();
        let held = json!({"f:spec": {".": {}, (format!("f:{name}")): {}}});
        assert_eq!(
            owners(&gone),
            [
                ("q".to_owned(), json!({"f:spec": {}})),
                ("p".to_owned(), held)
            ]
        );
    }
}

#[test]
fn atomic_containers_are_replaced_and_owned_whole() {
    let kind = kind();
    let spec = json!({"atomic": ["a", "b"], "whole": {"a": "1", "b": "1"}});
    let made = applied(&at(&kind, "a", 1), None, &config(spec), false).unwrap();
    let other = config(json!({"atomic": ["a"], "whole": {"a": "1"}}));
    let refused = applied(&at(&kind, "b", 2), Some(&made), &other, false).unwrap_err();
    let found: Vec<&Value> = refused.details["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| &cause["field"])
        .collect();
    assert_eq!(found, [".spec.atomic", ".spec.whole"]);
    let next = applied(&at(&kind, "a", 2), Some(&made), &other, false).unwrap();
    assert_eq!(next["spec"], json!({"atomic": ["a"], "whole": {"a": "1"}}));
}

#[test]
fn kubectl_takes_over_what_it_applied_on_its_own_side() {
    let kind = kind();
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let mut sent = config(json!({"text": "1", "number": 1}));
    let last = sent.to_string();
    sent["metadata"]["annotations"][annotation] = json!(last);
    let made = updated(&at(&kind, "kubectl-client-side-apply", 1), None, &sent);
    let wanted = config(json!({"text": "2"}));
    assert!(applied(&at(&kind, "other", 2), Some(&made), &wanted, false).is_err());
    let next = applied(&at(&kind, "kubectl", 2), Some(&made), &wanted, false).unwrap();
    assert_eq!(next["spec"]["text"], "2");
    let kept = next["metadata"]["annotations"][annotation]
        .as_str()
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(kept).unwrap(), wanted);
    // What somebody changed since is in conflict as ever.
    let mut edited = made.clone();
    edited["spec"]["text"] = json!("3");
    let edited = updated(&at(&kind, "kubectl-edit", 2), Some(&made), &edited);
    let refused = applied(
        &at(&kind, "kubectl", 3),
        Some(&edited),
        &config(json!({"text": "2", "number": 2})),
        false,
    );
    assert_eq!(
        refused.unwrap_err().message,
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using boatyard.dev/v1: .spec.text"
    );
}

#[test]
fn a_container_that_became_one_value_is_owned_whole() {
    let granular = set(
        json!({"f:spec": {"f:whole": {".": {}, "f:a": {}}, "f:atomic": {"v:\"a\"": {}}, "f:nested": {"f:a": {}}}}),
    );
    let of = Ref::compile(&schema());
    assert_eq!(
        reconcile(&of, &granular).unwrap().encode(),
        json!({"f:spec": {"f:whole": {}, "f:atomic": {}, "f:nested": {"f:a": {}}}})
    );
    assert!(
        reconcile(
            &of,
            &set(json!({"f:spec": {"f:whole": {}, "f:free": {"f:x": {}}}}))
        )
        .is_none()
    );
}

#[test]
fn names_of_managers_are_bounded_and_come_from_agents() {
    for (agent, wanted) in [
        (
            "kubectl/v1.36.0 (linux/amd64) kubernetes/0000000",
            "kubectl",
        ),
        ("curl", "curl"),
        ("a b\u{7}c/1", "a bc"),
        ("", ""),
    ] {
        assert_eq!(from_agent(agent), wanted);
    }
    assert_eq!(from_agent(&"é".repeat(100)).len(), 128);
    let entry = |name: &str| json!([{"manager": name, "subresource": "s"}]);
    assert!(check_entries(&entry("fine – even é")).is_empty());
    assert_eq!(check_entries(&entry(&"a".repeat(129))).len(), 1);
    let wrong = check_entries(&entry("a\u{200b}"));
    assert_eq!(wrong[0].path, "metadata.managedFields[0].manager");
    assert!(
        wrong[0]
            .message
            .ends_with("invalid character U+200B (at position 1)")
    );
    assert_eq!(Owners::decode(&Value::Null).unwrap(), Owners::default());
}
