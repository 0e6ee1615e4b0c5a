//! Bodies: unknown and duplicate fields, wrong kinds, wrong places, too much.

use crate::harness::Who;
use crate::subject::every;
use serde_json::{Value, json};

#[tokio::test]
async fn unknown_and_duplicate_fields_are_refused_told_or_dropped_as_asked() {
    every(async |server, subject| {
        let mut unknown = subject.first("strict");
        unknown["bogus"] = json!(1);
        let twice = {
            let text = subject.first("strict").to_string();
            text.replacen('{', "{\"metadata\":{\"name\":\"strict\"},", 1)
        };
        for (body, told) in [
            (unknown.to_string(), "unknown field \"bogus\""),
            (twice, "duplicate field \"metadata\""),
        ] {
            let post = async |validation: &str| {
                let path = format!("{}?dryRun=All&fieldValidation={validation}", subject.all);
                let json = [("content-type", "application/json")];
                server
                    .tell(&Who::Admin, "POST", &path, &json, body.clone())
                    .await
            };
            let refused = subject.refused(post("Strict").await, 400, "BadRequest");
            assert!(
                refused.contains("strict decoding error") && refused.contains(told),
                "{refused}"
            );
            let warned = post("Warn").await;
            let warning = warned
                .headers
                .get("warning")
                .map(|text| text.to_str().unwrap().to_owned());
            let warning = warning.unwrap_or_default();
            assert!(
                warning.starts_with("299 ") && warning.contains(&told.replace('"', "\\\"")),
                "{} {warning}",
                subject.name()
            );
            assert!(warned.ok()["bogus"].is_null());
            let ignored = post("Ignore").await;
            assert!(!ignored.headers.contains_key("warning"));
            assert!(ignored.ok()["bogus"].is_null());
            let bad = post("Sometimes").await;
            assert!([400, 422].contains(&bad.status.as_u16()), "{bad:?}");
        }
        subject.create(server, "strict").await;
        let path = format!("{}?fieldValidation=Strict", subject.at("strict"));
        let patched = server.patch(&path, json!({"bogus": 1})).await;
        assert!([400, 422].contains(&patched.status.as_u16()), "{patched:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_of_another_kind_or_place_is_refused() {
    every(async |server, subject| {
        for (member, value) in [("kind", "Nonsense"), ("apiVersion", "example.com/v1")] {
            let mut object = subject.first("wrong");
            object[member] = json!(value);
            let message =
                subject.refused(server.post(&subject.all, object).await, 400, "BadRequest");
            assert!(message.contains(value), "{message}");
        }
        for body in ["", "[]", "3", "null", "{", "{\"a\":", "\u{1}"] {
            let json = [("content-type", "application/json")];
            let answer = server
                .tell(&Who::Admin, "POST", &subject.all, &json, body)
                .await;
            subject.refused(answer, 400, "BadRequest");
        }
        let strange = [("content-type", "text/strange")];
        let answer = server
            .tell(&Who::Admin, "POST", &subject.all, &strange, "{}")
            .await;
        subject.refused(answer, 415, "UnsupportedMediaType");
        let (cluster, resource) = match subject.all.split_once("/namespaces/default") {
            Some((before, after)) => (format!("{before}{after}"), after.to_owned()),
            None => (subject.all.clone(), String::new()),
        };
        if subject.kind.namespaced {
            let mut object = subject.first("wrong");
            object["metadata"]["namespace"] = json!("boatyard-runners");
            subject.refused(server.post(&subject.all, object).await, 400, "BadRequest");
            let before = subject
                .all
                .trim_end_matches(&resource)
                .trim_end_matches("default");
            let nowhere = format!("{before}nowhere{resource}");
            subject.refused(
                server.post(&nowhere, subject.first("wrong")).await,
                404,
                "NotFound",
            );
            let everywhere = server.post(&cluster, subject.first("wrong")).await;
            subject.refused(everywhere, 405, "MethodNotAllowed");
            let list = server.get(&cluster).await.ok();
            assert!(list["items"].is_array(), "{}", subject.name());
        } else {
            let plural = &subject.kind.plural;
            let inside = subject
                .all
                .replace(plural, &format!("namespaces/default/{plural}"));
            let answer = server.post(&inside, subject.first("wrong")).await;
            assert_eq!(answer.status, 404, "{}: {answer:?}", subject.name());
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_too_large_or_of_a_wrong_type_is_refused() {
    every(async |server, subject| {
        let mut large = subject.first("large");
        large["metadata"]["annotations"] = json!({"a": "x".repeat(4 << 20)});
        let refused = server.post(&subject.all, large).await;
        subject.refused(refused, 413, "RequestEntityTooLarge");
        let mut large = subject.first("large");
        large["metadata"]["annotations"] = json!({"a": "x".repeat(300 << 10)});
        subject.refused(server.post(&subject.all, large).await, 422, "Invalid");
        for (pointer, value) in [
            ("labels", json!([])),
            ("labels", json!({"a": 1})),
            ("name", json!(7)),
            ("finalizers", json!("a")),
        ] {
            let mut object = subject.first("typed");
            object["metadata"][pointer] = value;
            let message = subject.refused(server.post(&subject.all, object).await, 422, "Invalid");
            assert!(
                message.contains(&format!("metadata.{pointer}")),
                "{message}"
            );
        }
        // Every member of the sample by a value of another type.
        for (member, value) in subject.first("typed").as_object().unwrap() {
            let mut object = subject.first("typed");
            object[member] = if value.is_object() {
                json!("text")
            } else {
                json!({})
            };
            let answer = server.post(&subject.all, object).await;
            assert!(
                [400, 422].contains(&answer.status.as_u16()),
                "{} {member}: {answer:?}",
                subject.name()
            );
        }
        let yaml = serde_norway::to_string(&subject.first("yaml")).unwrap();
        let media = [("content-type", "application/yaml")];
        let made = server
            .tell(&Who::Admin, "POST", &subject.all, &media, yaml)
            .await
            .ok();
        assert_eq!(made["metadata"]["name"], "yaml");
        let _: Value = made;
    })
    .await;
}
