//! Creating, replacing and patching: versions, generations, status apart.

use crate::harness::{Who, names, version};
use crate::subject::{Subject, every};
use serde_json::{Value, json};

#[tokio::test]
async fn an_object_is_created_read_replaced_patched_and_deleted() {
    every(async |server, subject| {
        let at = subject.at("one");
        let created = subject.create(server, "one").await;
        let metadata = &created["metadata"];
        assert_eq!(metadata["name"], "one");
        assert_eq!(created["kind"], subject.kind.kind.as_str());
        assert_eq!(created["apiVersion"], subject.kind.api_version());
        for member in ["uid", "resourceVersion", "creationTimestamp"] {
            assert!(metadata[member].is_string(), "{}: {member}", subject.name());
        }
        let read = server.get(&at).await.ok();
        assert_eq!(read["metadata"]["uid"], metadata["uid"]);
        let list = server.get(&subject.all).await.ok();
        assert_eq!(list["kind"], format!("{}List", subject.kind.kind));
        assert!(names(&list).contains(&"one"));
        let again = server.post(&subject.all, subject.first("one")).await;
        let message = subject.refused(again, 409, "AlreadyExists");
        assert!(message.ends_with("\"one\" already exists"), "{message}");

        let label = |object: &mut Value| object["metadata"]["labels"] = json!({"a": "b"});
        let (stale, replaced) = subject.rewrite(server, "one", label).await;
        assert_eq!(replaced["metadata"]["labels"]["a"], "b");
        assert!(version(&replaced) > version(&stale));
        let refused = server.put(&at, {
            let mut stale = stale;
            stale["metadata"]["labels"] = json!({"a": "c"});
            stale["metadata"]["resourceVersion"] = json!("1");
            stale
        });
        subject.refused(refused.await, 409, "Conflict");

        let merge = json!({"metadata": {"labels": {"a": null, "c": "d"}}});
        let patched = server.patch(&at, merge).await.ok();
        assert_eq!(patched["metadata"]["labels"]["c"], "d");
        assert!(patched["metadata"]["labels"]["a"].is_null());
        let json_patch = json!([{"op": "test", "path": "/metadata/labels/c", "value": "d"},
            {"op": "replace", "path": "/metadata/labels/c", "value": "e"}]);
        let patched = server.patch(&at, json_patch).await.ok();
        assert_eq!(patched["metadata"]["labels"]["c"], "e");
        let strategic = server.tell(
            &Who::Admin,
            "PATCH",
            &at,
            &[("content-type", "application/strategic-merge-patch+json")],
            json!({"metadata": {"labels": {"c": "f"}}}).to_string(),
        );
        let strategic = strategic.await;
        if subject.kind.strategic {
            assert_eq!(strategic.ok()["metadata"]["labels"]["c"], "f");
        } else {
            subject.refused(strategic, 415, "UnsupportedMediaType");
        }
        subject.delete(server, "one").await;
        let missing = server.get(&at).await;
        let message = subject.refused(missing, 404, "NotFound");
        assert_eq!(
            message,
            format!("{} \"one\" not found", subject.kind.resource())
        );
        let absent = server.patch(&at, json!({"metadata": {"labels": {"a": "b"}}}));
        subject.refused(absent.await, 404, "NotFound");
    })
    .await;
}

#[tokio::test]
async fn a_sample_may_become_the_other_and_generation_counts_that() {
    every(async |server, subject| {
        let first = subject.create(server, "grows").await;
        let mut second = subject.second("grows");
        second["metadata"]["resourceVersion"] = Value::Null;
        let second = server.put(&subject.at("grows"), second).await.ok();
        let generation = |object: &Value| object["metadata"]["generation"].as_i64();
        if first["spec"] != second["spec"] {
            assert_eq!(generation(&second), generation(&first).map(|one| one + 1), "{}", subject.name());
        }
        // Nothing changed: nothing is written.
        let (before, same) = subject.rewrite(server, "grows", |_| {}).await;
        assert_eq!(version(&same), version(&before), "{}", subject.name());
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        let labelled = server.patch(&subject.at("grows"), label).await.ok();
        assert_eq!(generation(&labelled), generation(&second));
        assert!(version(&labelled) > version(&second));
        // What the server sets is not the client's to set.
        let ours = json!({"metadata": {"uid": second["metadata"]["uid"], "generation": 77, "creationTimestamp": "2001-01-01T00:00:00Z"}});
        let kept = server.patch(&subject.at("grows"), ours).await.ok();
        assert_eq!(generation(&kept), generation(&second));
        assert_eq!(kept["metadata"]["creationTimestamp"], second["metadata"]["creationTimestamp"]);
        let other = json!({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}});
        let refused = server.patch(&subject.at("grows"), other).await;
        subject.refused(refused, 409, "Conflict");
        let renamed = json!({"metadata": {"name": "shrinks"}});
        let refused = server.patch(&subject.at("grows"), renamed).await;
        assert!([400, 422].contains(&refused.status.as_u16()), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    every(async |server, subject| {
        if !subject.kind.has_status {
            let status = server.get(&subject.status_at("x")).await;
            assert_eq!(status.status, 404, "{}", subject.name());
            return;
        }
        let object = subject.create(server, "apart").await;
        let wanted = subject.samples[1]["status"].clone();
        assert!(
            wanted.is_object(),
            "the sample of {} has no status",
            subject.name()
        );
        let mut whole = object.clone();
        whole["metadata"]["resourceVersion"] = Value::Null;
        whole["status"] = wanted.clone();
        let written = server.put(&subject.at("apart"), whole.clone()).await.ok();
        assert_ne!(written["status"], wanted, "{}", subject.name());
        whole["metadata"]["labels"]["smuggled"] = json!("yes");
        if subject.kind.namespaced {
            whole["spec"] = subject.second("apart")["spec"].clone();
        }
        let written = server.put(&subject.status_at("apart"), whole).await.ok();
        assert_eq!(
            Subject::wanted(&written),
            Subject::wanted(&object),
            "{}",
            subject.name()
        );
        assert!(written["metadata"]["labels"]["smuggled"].is_null());
        assert_eq!(
            written["metadata"]["generation"],
            object["metadata"]["generation"]
        );
        for (member, value) in wanted.as_object().unwrap() {
            assert_eq!(
                &written["status"][member],
                value,
                "{} {member}",
                subject.name()
            );
        }
        let read = server.get(&subject.status_at("apart")).await.ok();
        assert!(read["status"].is_object());
        let patch = json!({"status": wanted});
        server.patch(&subject.status_at("apart"), patch).await.ok();
    })
    .await;
}

#[tokio::test]
async fn names_are_made_and_bad_ones_refused() {
    every(async |server, subject| {
        let mut object = subject.first("x");
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("name");
        let nameless = server.post(&subject.all, object.clone()).await;
        subject.refused(nameless, 422, "Invalid");
        object["metadata"]["generateName"] = json!("made-");
        let made = server.post(&subject.all, object.clone()).await.ok();
        let other = server.post(&subject.all, object).await.ok();
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name(&made).starts_with("made-") && name(&made) != name(&other));
        for bad in [
            "Upper",
            "under_score",
            "-dash",
            "dash-",
            "a/b",
            "",
            &"a".repeat(254),
        ] {
            let answer = server.post(&subject.all, subject.first(bad)).await;
            let message = subject.refused(answer, 422, "Invalid");
            assert!(message.contains("metadata.name"), "{message}");
        }
        for (member, value) in [
            ("labels", json!({"a b": "c"})),
            ("labels", json!({"a": "b c"})),
            ("annotations", json!({"/": "x"})),
            ("finalizers", json!(["no finalizer"])),
        ] {
            let mut object = subject.first("bad");
            object["metadata"][member] = value;
            let message = subject.refused(server.post(&subject.all, object).await, 422, "Invalid");
            assert!(
                message.contains(&format!("metadata.{member}: Invalid value: ")),
                "{message}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_of_any_verb_changes_nothing() {
    every(async |server, subject| {
        let dry = |path: &str| format!("{path}?dryRun=All");
        let made = server.post(&dry(&subject.all), subject.first("dry")).await;
        assert_eq!(made.status, 201, "{}: {made:?}", subject.name());
        assert!(made.json["metadata"]["uid"].is_string());
        subject.refused(server.get(&subject.at("dry")).await, 404, "NotFound");
        let object = subject.create(server, "dry").await;
        let again = server.post(&dry(&subject.all), subject.first("dry")).await;
        subject.refused(again, 409, "AlreadyExists");
        let mut changed = object.clone();
        changed["metadata"]["labels"] = json!({"dry": "yes"});
        changed["metadata"]["resourceVersion"] = Value::Null;
        let put = server.put(&dry(&subject.at("dry")), changed).await.ok();
        assert_eq!(put["metadata"]["labels"]["dry"], "yes");
        let label = json!({"metadata": {"labels": {"dry": "yes"}}});
        server.patch(&dry(&subject.at("dry")), label).await.ok();
        server.delete(&dry(&subject.at("dry"))).await.ok();
        if subject.kind.verbs().contains(&"deletecollection") {
            server.delete(&dry(&subject.all)).await.ok();
        }
        let kept = server.get(&subject.at("dry")).await.ok();
        assert_eq!(kept["metadata"]["uid"], object["metadata"]["uid"]);
        assert!(kept["metadata"]["labels"]["dry"].is_null());
        assert!(kept["metadata"]["deletionTimestamp"].is_null());
        let bad = server
            .post(&format!("{}?dryRun=Some", subject.all), subject.first("x"))
            .await;
        assert!([400, 422].contains(&bad.status.as_u16()), "{bad:?}");
    })
    .await;
}

#[tokio::test]
async fn an_apply_creates_owns_conflicts_and_is_forced() {
    every(async |server, subject| {
        let apply = async |path: &str, manager: &str, mut object: Value, more: &str| {
            object["apiVersion"] = json!(subject.kind.api_version());
            object["kind"] = json!(subject.kind.kind);
            let path = format!("{path}?fieldManager={manager}{more}");
            let media = [("content-type", "application/apply-patch+yaml")];
            server
                .tell(&Who::Admin, "PATCH", &path, &media, object.to_string())
                .await
        };
        let at = subject.at("applied");
        let mut object = subject.first("applied");
        object["metadata"]["labels"]["team"] = json!("a");
        let made = apply(&at, "one", object.clone(), "").await;
        assert_eq!(made.status, 201, "{}: {made:?}", subject.name());
        let managed = made.json["metadata"]["managedFields"].as_array().unwrap();
        let mut own = managed.iter().filter(|entry| entry["manager"] == "one");
        let own = own.next().expect("the applier owns what it applied");
        assert_eq!(own["operation"], "Apply");
        assert!(own["fieldsV1"]["f:metadata"]["f:labels"]["f:team"].is_object());
        let before = version(&made.json);
        let again = apply(&at, "one", object, "").await.ok();
        let managed = |object: &Value| object["metadata"]["managedFields"].clone();
        if !subject.kind.has_status {
            assert_eq!(version(&again), before, "{}", subject.name());
            assert_eq!(managed(&again), managed(&made.json));
        }
        let label = |team: &str| json!({"metadata": {"name": "applied", "labels": {"team": team}}});
        let taken = apply(&at, "two", label("b"), "").await;
        let message = subject.refused(taken, 409, "Conflict");
        assert!(
            message.contains("\"one\"") && message.contains(".metadata.labels.team"),
            "{message}"
        );
        let forced = apply(&at, "two", label("b"), "&force=true").await.ok();
        assert_eq!(forced["metadata"]["labels"]["team"], "b");
        let nobody = apply(&at, "", label("b"), "").await;
        assert!([400, 422].contains(&nobody.status.as_u16()), "{nobody:?}");
        if subject.kind.has_status {
            let status =
                json!({"metadata": {"name": "applied"}, "status": subject.samples[1]["status"]});
            let path = subject.status_at("applied");
            let written = apply(&path, "three", status, "&force=true").await.ok();
            let entries = managed(&written);
            let mut entries = entries.as_array().unwrap().iter();
            assert!(
                entries
                    .any(|entry| entry["manager"] == "three" && entry["subresource"] == "status")
            );
        }
    })
    .await;
}
