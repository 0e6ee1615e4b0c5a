//! Lists: selectors, pages, versions.

use crate::harness::{names, version};
use crate::subject::every;
use serde_json::Value;

fn lookup<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, member| &value[member])
}

#[tokio::test]
async fn labels_select_by_every_operator() {
    every(async |server, subject| {
        for (name, tier) in [("a", "one"), ("b", "two"), ("c", "two")] {
            subject.labelled(server, name, tier).await;
        }
        for (selector, wanted) in [
            ("tier%3Done", vec!["a"]),
            ("tier!%3Done,tier", vec!["b", "c"]),
            ("tier%20in%20(one,two)", vec!["a", "b", "c"]),
            ("tier%20notin%20(two),tier", vec!["a"]),
            ("!tier,tier", vec![]),
        ] {
            let list = server
                .get(&format!("{}?labelSelector={selector}", subject.all))
                .await
                .ok();
            assert_eq!(names(&list), wanted, "{} {selector}", subject.name());
        }
        let bad = server
            .get(&format!("{}?labelSelector=a%20b", subject.all))
            .await;
        subject.refused(bad, 400, "BadRequest");
    })
    .await;
}

#[tokio::test]
async fn every_declared_field_selects_and_no_other_does() {
    every(async |server, subject| {
        subject.create(server, "chosen").await;
        // What the server sets by itself comes in its time; the rest is there.
        let object = server.get(&subject.at("chosen")).await.ok();
        let declared = subject.kind.selectable.iter().map(String::as_str);
        for path in declared.chain(["metadata.name", "metadata.namespace"]) {
            let value = match lookup(&object, path) {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            for (operator, wanted) in [("%3D", true), ("%3D%3D", true), ("!%3D", false)] {
                let path = format!("{}?fieldSelector={path}{operator}{encoded}", subject.all);
                let list = server.get(&path).await.ok();
                let found = names(&list).contains(&"chosen");
                assert_eq!(found, wanted, "{} {path}", subject.name());
            }
        }
        let bad = server
            .get(&format!("{}?fieldSelector=spec.nothing%3Dx", subject.all))
            .await;
        let message = subject.refused(bad, 400, "BadRequest");
        assert!(message.contains("spec.nothing"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn pages_show_everything_once_as_of_one_version() {
    every(async |server, subject| {
        for name in ["p1", "p2", "p3", "p4"] {
            subject.labelled(server, name, "page").await;
        }
        let all = server.get(&subject.all).await.ok();
        let mut wanted: Vec<String> = names(&all).into_iter().map(str::to_owned).collect();
        let (mut seen, mut next, mut at) = (Vec::new(), String::new(), None);
        loop {
            let page = server
                .get(&format!("{}?limit=2&continue={next}", subject.all))
                .await
                .ok();
            assert!(names(&page).len() <= 2);
            seen.extend(names(&page).into_iter().map(str::to_owned));
            assert_eq!(
                *at.get_or_insert(version(&page)),
                version(&page),
                "{}",
                subject.name()
            );
            if next.is_empty() {
                // Made after the first page: in none.
                subject.create(server, "p0").await;
            }
            match page["metadata"]["continue"].as_str() {
                Some(more) if !more.is_empty() => {
                    next = more.bytes().map(|byte| format!("%{byte:02X}")).collect();
                }
                _ => break,
            }
        }
        wanted.sort();
        seen.sort();
        assert_eq!(seen, wanted, "{}", subject.name());
        let bad = server
            .get(&format!("{}?limit=2&continue=nonsense", subject.all))
            .await;
        assert_eq!(bad.status, 400, "{bad:?}");
    })
    .await;
}

#[tokio::test]
async fn lists_are_as_of_the_version_asked_for() {
    every(async |server, subject| {
        subject.create(server, "v1").await;
        let before = server.get(&subject.all).await.ok();
        let at = version(&before);
        subject.create(server, "v2").await;
        let list = async |query: String| server.get(&format!("{}?{query}", subject.all)).await;
        let exact = list(format!("resourceVersion={at}&resourceVersionMatch=Exact"))
            .await
            .ok();
        assert!(
            names(&exact).contains(&"v1") && !names(&exact).contains(&"v2"),
            "{}",
            subject.name()
        );
        assert_eq!(version(&exact), at);
        for query in [
            "resourceVersion=0".to_owned(),
            format!("resourceVersion={at}&resourceVersionMatch=NotOlderThan"),
            String::new(),
        ] {
            let fresh = list(query.clone()).await.ok();
            assert!(version(&fresh) >= at, "{query}");
            assert!(names(&fresh).contains(&"v2"), "{query}");
        }
        let future = list(format!(
            "resourceVersion={}&resourceVersionMatch=NotOlderThan",
            at + 1_000_000
        ))
        .await;
        subject.refused(future, 504, "Timeout");
        let bad = list("resourceVersionMatch=Exact".to_owned()).await;
        assert!([400, 422].contains(&bad.status.as_u16()), "{bad:?}");
    })
    .await;
}
