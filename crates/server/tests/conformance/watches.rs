//! Watches: what there is, then every change in order, from any version.

use crate::harness::{Who, told, version};
use crate::subject::every;
use serde_json::{Value, json};

#[tokio::test]
async fn a_watch_shows_what_there_is_a_bookmark_and_every_change() {
    every(async |server, subject| {
        subject.labelled(server, "there", "watched").await;
        let query = "watch=true&labelSelector=tier%3Dwatched&allowWatchBookmarks=true";
        let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        let path = format!("{}?{query}&{initial}", subject.all);
        let mut watch = server.watch(&Who::Admin, &path).await;
        assert_eq!(watch.told().await, "ADDED there", "{}", subject.name());
        let bookmark = watch.next().await.unwrap();
        assert_eq!(bookmark["type"], "BOOKMARK", "{}", subject.name());
        let annotations = &bookmark["object"]["metadata"]["annotations"];
        assert_eq!(annotations["k8s.io/initial-events-end"], "true");
        assert_eq!(bookmark["object"]["kind"], subject.kind.kind.as_str());
        let from = version(&bookmark["object"]);

        subject.labelled(server, "new", "watched").await;
        let label = json!({"metadata": {"labels": {"more": "yes"}}});
        server.patch(&subject.at("new"), label).await.ok();
        let away = json!({"metadata": {"labels": {"tier": "elsewhere"}}});
        server.patch(&subject.at("there"), away).await.ok();
        subject.delete(server, "new").await;
        let path = format!("{}?{query}&resourceVersion={from}", subject.all);
        let mut resumed = server.watch(&Who::Admin, &path).await;
        for watch in [&mut watch, &mut resumed] {
            let mut last = from;
            let mut seen = Vec::new();
            while seen.last().is_none_or(|last| last != "DELETED new") {
                let event = watch.next().await.unwrap();
                if event["type"] == "BOOKMARK" {
                    continue;
                }
                assert!(
                    version(&event["object"]) > last,
                    "{}: {event}",
                    subject.name()
                );
                last = version(&event["object"]);
                seen.push(told(&event));
            }
            // What is deleted in two steps is marked before it goes, and controllers write too.
            seen.retain(|event| event != "MODIFIED there");
            seen.dedup();
            let wanted = ["ADDED new", "MODIFIED new", "DELETED there"];
            assert_eq!(seen[..3], wanted, "{}", subject.name());
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_of_what_cannot_be_is_refused() {
    every(async |server, subject| {
        let get = async |query: &str| {
            server
                .get(&format!("{}?watch=true&{query}", subject.all))
                .await
        };
        let bad = get("sendInitialEvents=true").await;
        assert!(
            [400, 422].contains(&bad.status.as_u16()),
            "{}: {bad:?}",
            subject.name()
        );
        let bad = get("resourceVersion=nonsense").await;
        assert!(
            [400, 422].contains(&bad.status.as_u16()),
            "{}: {bad:?}",
            subject.name()
        );
        let ended = get("timeoutSeconds=1&allowWatchBookmarks=true").await;
        let lines: Vec<Value> = ended
            .text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(
            lines.iter().all(|event| event["type"] != "ERROR"),
            "{lines:?}"
        );
    })
    .await;
}
