//! Environments made at once, and where they go.

use crate::harness::*;
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/boatyard-runners/leases";
const RUNNERS_MADE: usize = 8;
const MADE: usize = 240;

async fn runner(server: &Server, name: &str) {
    let object = json!({"metadata": {"name": name}, "spec": {}});
    server.post(RUNNERS, object).await.ok();
    #[allow(clippy::disallowed_methods, reason = "the lease is of now")]
    let now = jiff::Timestamp::now().to_string();
    let lease = json!({"metadata": {"name": name}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 600, "renewTime": now}});
    server.post(LEASES, lease).await.ok();
}

async fn burst(server: &Server, prefix: &str) {
    let making = (0..MADE).map(|number| {
        let object = json!({"metadata": {"name": format!("{prefix}{number}")}, "spec": {}});
        async move { server.post(ENVIRONMENTS, object).await.ok() }
    });
    let made: Vec<Value> = futures::stream::iter(making)
        .buffer_unordered(16)
        .collect()
        .await;
    assert_eq!(made.len(), MADE);
}

/// Waits until so many are bound; how many each runner has.
async fn bound(server: &Server, wanted: usize) -> BTreeMap<String, usize> {
    let mut watch = server
        .watch(&Who::Admin, &format!("{ENVIRONMENTS}?watch=true"))
        .await;
    let mut runners: BTreeMap<String, String> = BTreeMap::new();
    while runners.len() < wanted {
        let event = watch.next().await.unwrap();
        let object = &event["object"];
        if let Some(runner) = object["spec"]["runnerName"].as_str() {
            let name = object["metadata"]["name"].as_str().unwrap();
            let before = runners.insert(name.to_owned(), runner.to_owned());
            assert!(before.is_none_or(|before| before == runner), "bound once");
        }
    }
    let mut counts = BTreeMap::new();
    for runner in runners.into_values() {
        *counts.entry(runner).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_burst_is_spread_evenly_over_the_runners_whether_they_were_there_before_or_come_after() {
    let server = Server::start().await;
    // Waiting for a runner, all of them.
    burst(&server, "early").await;
    for number in 0..RUNNERS_MADE {
        runner(&server, &format!("r{number}")).await;
    }
    let early = bound(&server, MADE).await;
    assert_eq!(early.values().sum::<usize>(), MADE, "{early:?}");
    // The first may have had much before the others came: the rest goes to these.
    burst(&server, "late").await;
    let all = bound(&server, 2 * MADE).await;
    assert_eq!(all.len(), RUNNERS_MADE, "{all:?}");
    let least = all.values().min().copied().unwrap_or_default();
    for (runner, count) in &all {
        let before = early.get(runner).copied().unwrap_or_default();
        let took = *count > before;
        assert!(!took || *count <= least + 1, "{runner}: {early:?} {all:?}");
    }
}

#[tokio::test]
async fn what_the_controllers_do_is_counted() {
    let server = Server::start().await;
    runner(&server, "r1").await;
    let object = json!({"metadata": {"name": "one"}, "spec": {}});
    server.post(ENVIRONMENTS, object).await.ok();
    bound(&server, 1).await;
    let text = server.get("/metrics").await.text;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("{name} in {text}"));
        line.trim().parse::<f64>().unwrap()
    };
    assert!((value("boatyard_controllers_leading") - 1.0).abs() < f64::EPSILON);
    let of_scheduler = "{controller=\"scheduler\"}";
    assert!(
        value(&format!(
            "boatyard_controller_activations_total{of_scheduler}"
        )) >= 1.0
    );
    assert!(
        value(&format!(
            "boatyard_controller_queue_seconds_count{of_scheduler}"
        )) >= 1.0
    );
}
