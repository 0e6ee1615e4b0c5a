//! Waiting for what will be: `get -w` and `wait`.

use super::{Kubectl, environment, with_every_kubectl};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

with_every_kubectl!(
    watches_changes_as_they_come,
    waits_for_conditions_values_and_deletion
);

fn watches_changes_as_they_come(kubectl: &mut Kubectl) {
    kubectl.apply(&environment("a", "front"));
    let words = "get env -w --no-headers --output-watch-events";
    let mut watch = kubectl
        .command(words.split_whitespace())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = |event: &str, name: &str| {
        let line = lines.next().unwrap().unwrap();
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some(event), "{line}");
        assert!(words.next().unwrap().ends_with(name), "{line}");
    };
    next("ADDED", "a");
    kubectl.apply(&environment("b", "back"));
    next("ADDED", "b");
    kubectl.ok("label env a more=1");
    next("MODIFIED", "a");
    kubectl.ok("delete env b");
    next("DELETED", "b");
    watch.kill().unwrap();
    watch.wait().unwrap();

    // One object, and only what comes after.
    let mut watch = kubectl
        .command(
            "get env a --watch-only --no-headers -o jsonpath={.metadata.labels.step}/"
                .split_whitespace(),
        )
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(watch.stdout.take().unwrap());
    let mut seen = Vec::new();
    // Until the watch has begun nothing tells; a change it missed is made again.
    let labels = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            output.read_until(b'/', &mut seen).unwrap();
            seen
        });
        let mut number = 0;
        while !reading.is_finished() {
            number += 1;
            kubectl.ok(&format!("label --overwrite env a step={number}"));
        }
        String::from_utf8(reading.join().unwrap()).unwrap()
    });
    assert!(
        labels.trim_end_matches('/').parse::<u32>().unwrap() > 0,
        "{labels}"
    );
    watch.kill().unwrap();
    watch.wait().unwrap();
}

fn waits_for_conditions_values_and_deletion(kubectl: &mut Kubectl) {
    kubectl.apply(&environment("a", "front"));
    let late = kubectl.fails("wait --for=condition=Ready env/a --timeout=1s");
    assert!(
        late.contains("timed out waiting for the condition"),
        "{late}"
    );
    std::thread::scope(|scope| {
        let ready = scope.spawn(|| kubectl.ok("wait --for=condition=Ready env/a --timeout=60s"));
        let value = scope.spawn(|| match kubectl.minor {
            23.. => kubectl.ok("wait --for=jsonpath={.status.phase}=Running env/a --timeout=60s"),
            _ => "condition met".to_owned(),
        });
        let status = serde_json::json!({"status": {"phase": "Running", "conditions": [{
            "type": "Ready", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        super::changing::status(kubectl, "a", &status);
        for waited in [ready, value] {
            let said = waited.join().unwrap();
            assert!(said.contains("condition met"), "{said}");
        }
    });
    kubectl.ok("wait --for=condition=Ready=true env --all --timeout=60s");
    kubectl.ok("wait --for=condition=Ready env -l tier=front --timeout=60s");
    std::thread::scope(|scope| {
        let gone = scope.spawn(|| kubectl.sees_go("env/a"));
        kubectl.ok("delete env a --wait=false");
        gone.join().unwrap();
    });
    assert_eq!(kubectl.ok("get env -o name"), "");
}
