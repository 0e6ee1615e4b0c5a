//! Bytes put together against trees put together.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use boatyard_store::{Change, Key, Stored};
use serde_json::json;

fn whole(data: &str) -> Value {
    let mut bytes = Vec::new();
    Versioned::new(Bytes::copy_from_slice(data.as_bytes()), Revision(7))
        .unwrap()
        .write(&mut bytes);
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn the_version_is_put_where_parsing_would_put_it() {
    for data in [
        r#"{"metadata":{"name":"a"}}"#,
        r#"{"metadata":{}}"#,
        r#"{"metadata": {"name":"spaced"} }"#,
        r#"{"apiVersion":"v1","kind":"metadata","metadata":{"name":"a"},"spec":{}}"#,
        r#"{"a":{"metadata":{"name":"inner"}},"b":["\"metadata\":{"],"c":"\\","metadata":{"name":"outer"}}"#,
        r#"{"a\"":"\"metadata\":{","metadata":{"name":"ü","labels":{"x":"{"}}}"#,
        r#"{"spec":{}}"#,
        "{}",
    ] {
        assert_eq!(
            whole(data),
            parse(data.as_bytes(), Revision(7)).unwrap(),
            "{data}"
        );
    }
    assert!(Versioned::new(Bytes::from_static(b"{\"metadata\""), Revision(1)).is_err());
}

#[test]
fn a_list_is_the_same_in_however_many_parts() {
    for (count, parts) in [(0, 1), (1, 1), (3, 1), (400, 2)] {
        let text = "x".repeat(200);
        let object = |number: usize| json!({"metadata": {"name": number.to_string(), "labels": {"x": text}}});
        let items = (0..count)
            .map(|number| Versioned::new(object(number).to_string().into(), Revision(9)).unwrap());
        let head = json!({"kind": "BoatList"});
        let write = |item: Versioned, part: &mut Vec<u8>| item.write(part);
        let written: Vec<Bytes> = list(&head, "items", items.collect(), write).collect();
        assert_eq!(written.len(), parts);
        let whole: Value = serde_json::from_slice(&written.concat()).unwrap();
        assert_eq!(whole["kind"], "BoatList");
        assert_eq!(whole["items"].as_array().unwrap().len(), count);
        for (number, item) in whole["items"].as_array().unwrap().iter().enumerate() {
            assert_eq!(item["metadata"]["name"], number.to_string());
            assert_eq!(item["metadata"]["resourceVersion"], "9");
        }
    }
}

#[test]
fn an_outline_has_its_paths_and_nothing_else() {
    let outline = Outline::of([
        "metadata.labels",
        "metadata.name",
        "status.phase",
        "spec.owner",
    ]);
    let object = json!({"metadata": {"name": "a", "uid": "u", "labels": {"x": "y"}}, "status": null,
        "spec": {"owner": {"uid": 0, "more": [1, "2"]}, "other": [{"phase": 1}]}, "kind": "K"});
    assert_eq!(
        outline.read(object.to_string().as_bytes()).unwrap(),
        json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "status": null,
            "spec": {"owner": {"uid": 0, "more": [1, "2"]}}})
    );
    for paths in [["a", "a.b"], ["a.b", "a"]] {
        let object = json!({"a": {"b": 1, "c": 2}});
        let outlined = Outline::of(paths).read(object.to_string().as_bytes());
        assert_eq!(outlined.unwrap(), object);
    }
    for odd in ["[1]", "1", "-1", "1.5", "true", "\"x\"", "null"] {
        let object = format!("{{\"status\":{odd}}}");
        assert_eq!(
            outline.read(object.as_bytes()).unwrap(),
            json!({"status": null})
        );
    }
    assert!(outline.read(b"{").is_err());
}

fn event(revision: u64, text: &str) -> Event {
    let object = json!({"metadata": {"name": "a", "annotations": {"text": text}}});
    Event {
        change: Change::Updated,
        object: Arc::new(Stored {
            key: Key {
                resource: "boats".to_owned(),
                namespace: String::new(),
                name: "a".to_owned(),
            },
            revision: Revision(revision),
            data: object.to_string().into(),
        }),
        previous: None,
    }
}

#[test]
fn watchers_of_one_event_share_its_bytes_and_no_others() {
    let shared = Shared::default();
    let newest = 3 * u64::try_from(KEPT).unwrap();
    let one = shared.shown(&event(newest, "new")).line(Word::Modified);
    let other = shared.shown(&event(newest, "new")).line(Word::Modified);
    assert_eq!(one.as_ptr(), other.as_ptr());
    // In the same place, from before; it does not take it.
    let before = newest - u64::try_from(KEPT).unwrap();
    let old = shared.shown(&event(before, "old")).line(Word::Added);
    let told: Value = serde_json::from_slice(&old).unwrap();
    assert_eq!(told["type"], "ADDED");
    assert_eq!(
        told["object"]["metadata"]["resourceVersion"],
        before.to_string()
    );
    assert_eq!(told["object"]["metadata"]["annotations"]["text"], "old");
    let again = shared.shown(&event(newest, "new")).line(Word::Modified);
    assert_eq!(one.as_ptr(), again.as_ptr());
}

#[test]
fn large_events_are_not_kept() {
    let shared = Shared::default();
    let text = "x".repeat(LARGEST);
    let line = shared.shown(&event(1, &text)).line(Word::Added);
    assert_ne!(
        line.as_ptr(),
        shared.shown(&event(1, &text)).line(Word::Added).as_ptr()
    );
}

#[test]
fn a_sieve_passes_what_has_the_value_now_or_had_it() {
    let known = ["spec.runnerName".to_owned()];
    let outline = Arc::new(Outline::of(["spec.runnerName"]));
    let sieve = |selector: &str| {
        Sieve::new(
            &Fields::parse(selector, &known).unwrap(),
            &outline,
            &Shared::default(),
        )
    };
    assert!(sieve("spec.runnerName!=a").is_none());
    let sieve = sieve("spec.runnerName=a").unwrap();
    let bound =
        |runner: Option<&str>| Bytes::from(json!({"spec": {"runnerName": runner}}).to_string());
    for (number, (before, now, passes)) in (1..).zip([
        (None, "a", true),
        (None, "b", false),
        (Some(Some("a")), "b", true),
        (Some(None), "b", false),
        (Some(None), "a", true),
    ]) {
        let mut event = event(number, "");
        event.previous = before.map(bound);
        Arc::get_mut(&mut event.object).unwrap().data = bound(Some(now));
        assert_eq!(sieve.passes(&event), passes, "{before:?} {now}");
    }
}

#[test]
fn a_route_never_sleeps_through_what_its_sieve_lets_pass() {
    let paths = ["spec.runnerName".to_owned(), "spec.count".to_owned()];
    let objects = [
        json!({"spec": {"runnerName": "r1", "count": 1}}),
        json!({"spec": {"runnerName": "r2", "count": true}}),
        json!({"spec": {"runnerName": "", "count": "1"}}),
        json!({"spec": {"runnerName": null}}),
        json!({"spec": {}}),
        json!({"metadata": {"name": "r1"}}),
    ];
    let (mut passed, mut slept) = (0, 0);
    for selector in [
        "spec.runnerName=r1",
        "spec.runnerName=r2",
        "spec.runnerName=",
        "spec.runnerName=nobody",
        "spec.count=1",
        "spec.count=true",
    ] {
        let fields = Fields::parse(selector, &paths).unwrap();
        let outline = Arc::new(Outline::of(paths.iter().map(String::as_str)));
        let sieve = Sieve::new(&fields, &outline, &Shared::default()).unwrap();
        let route = sieve.route();
        for (revision, object) in (1..).zip(&objects) {
            let stored = Stored {
                key: Key {
                    resource: "tests".to_owned(),
                    namespace: String::new(),
                    name: "one".to_owned(),
                },
                revision: Revision(revision),
                data: object.to_string().into(),
            };
            let read = (route.facet.read)(&stored.data);
            let event = Event {
                change: Change::Created,
                object: Arc::new(stored),
                previous: None,
            };
            if sieve.passes(&event) {
                passed += 1;
                assert_eq!(read, Some(route.value), "{selector} of {object}");
            } else if read.is_some_and(|read| read != route.value) {
                slept += 1;
            }
        }
    }
    // Of those that do not pass it sleeps through all.
    assert_eq!(passed + slept, 6 * objects.len());
    assert!(passed >= 8, "{passed}");
    // What cannot be read is everybody's.
    let fields = Fields::parse("spec.runnerName=r1", &paths).unwrap();
    let outline = Arc::new(Outline::of(["spec.runnerName"]));
    let route = Sieve::new(&fields, &outline, &Shared::default())
        .unwrap()
        .route();
    assert_eq!((route.facet.read)(b"{\"spec\""), None);
    // A selection that demands nothing has no sieve.
    let fields = Fields::parse("spec.runnerName!=r1", &paths).unwrap();
    assert!(Sieve::new(&fields, &outline, &Shared::default()).is_none());
}
