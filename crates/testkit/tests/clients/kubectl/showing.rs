//! Looking at objects: every output format, selection, paging, events.

use super::changing::status;
use super::{Kubectl, environment, with_every_kubectl};
use serde_json::json;

with_every_kubectl!(
    prints_objects_in_every_format,
    selects_by_labels_fields_and_namespaces,
    reads_long_lists_page_by_page,
    describes_an_object_with_its_events,
);

fn prints_objects_in_every_format(kubectl: &mut Kubectl) {
    kubectl.apply(&(environment("a", "front") + &environment("b", "back")));
    status(kubectl, "a", &json!({"status": {"phase": "Running"}}));
    let lines = |line: &str| -> Vec<Vec<String>> {
        let text = kubectl.ok(line);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        text.lines().map(words).collect()
    };
    let table = lines("get environments");
    assert_eq!(table[0][..2], ["NAME", "PHASE"]);
    assert_eq!(table[0].last().unwrap(), "AGE");
    assert_eq!(table[1][..2], ["a", "Running"]);
    assert_eq!(table.len(), 3);
    let wide = lines("get env -o wide");
    assert_eq!(wide[0].last().unwrap(), "AGE");
    assert!(wide[0].contains(&"RUNNER".to_owned()), "{wide:?}");
    assert!(wide[1].contains(&"none".to_owned()), "{wide:?}");
    let labelled = lines("get env --show-labels --no-headers -L tier");
    assert_eq!(labelled[1].last().unwrap(), "tier=back");
    assert_eq!(labelled[1][labelled[1].len() - 2], "back");
    assert_eq!(
        kubectl.ok("get environment.v1.boatyard.dev/a env/b -o name"),
        "environment.boatyard.dev/a\nenvironment.boatyard.dev/b\n"
    );
    assert_eq!(
        kubectl.ok("get env --sort-by={.metadata.labels.tier} -o name"),
        "environment.boatyard.dev/b\nenvironment.boatyard.dev/a\n"
    );
    assert_eq!(
        lines("get env -o custom-columns=N:.metadata.name,I:.spec.devcontainer.image,X:.spec.x"),
        [
            ["N", "I", "X"],
            ["a", "example/image:1", "<none>"],
            ["b", "example/image:1", "<none>"]
        ]
    );
    assert_eq!(
        kubectl.ok("get env -o jsonpath={range.items[*]}{.metadata.name}={.spec.state},{end}"),
        "a=Running,b=Running,"
    );
    assert_eq!(
        kubectl.ok("get env -o go-template={{range.items}}{{.kind}}.{{end}}"),
        "Environment.Environment."
    );
    let one = kubectl.object("env a");
    assert_eq!(one["apiVersion"], "boatyard.dev/v1");
    assert_eq!(one["metadata"]["generation"], 1);
    let list = kubectl.object("env");
    assert_eq!(list["kind"], "List");
    assert_eq!(list["items"][0], one);
    let yaml = kubectl.ok("get env a -o yaml");
    assert!(yaml.contains("\n  runnerName: none\n"), "{yaml}");
    // What is printed can be applied again.
    kubectl.fed("apply -f -", &yaml).ok();
    let both = kubectl.ok("get boatyard");
    assert!(
        both.contains("environment.boatyard.dev/a")
            && both.contains("environmentclass.boatyard.dev/default"),
        "{both}"
    );
    let missing = kubectl.fails("get env nowhere");
    assert_eq!(
        missing,
        "Error from server (NotFound): environments.boatyard.dev \"nowhere\" not found\n"
    );
    assert_eq!(kubectl.ok("get env nowhere --ignore-not-found"), "");
    let unknown = kubectl.fails("get nothings");
    assert!(unknown.contains("the server doesn't have a resource type \"nothings\""));
}

fn selects_by_labels_fields_and_namespaces(kubectl: &mut Kubectl) {
    kubectl.ok("create namespace team");
    kubectl.apply(&(environment("a", "front") + &environment("b", "back")));
    kubectl
        .fed("apply -n team -f -", &environment("c", "front"))
        .ok();
    let names = |line: &str| {
        kubectl.ok(&format!(
            "get env -o jsonpath={{.items[*].metadata.name}} {line}"
        ))
    };
    assert_eq!(names("-l tier=front"), "a");
    assert_eq!(names("-A -l tier=front"), "a c");
    assert_eq!(names("-A -l tier!=front"), "b");
    assert_eq!(
        kubectl.ok_with(
            "get env -A -o name -l",
            "tier in (front,back),tier notin (back)"
        ),
        "environment.boatyard.dev/a\nenvironment.boatyard.dev/c\n"
    );
    assert_eq!(names("-l !tier"), "");
    assert_eq!(names("--field-selector=metadata.name=b"), "b");
    assert_eq!(names("-A --field-selector=metadata.namespace=team"), "c");
    assert_eq!(names("-A --field-selector=spec.runnerName=none"), "a b c");
    assert_eq!(names("-A --field-selector=spec.runnerName!=none"), "");
    assert_eq!(names("-n team"), "c");
    let refused = kubectl.fails("get env --field-selector=spec.secret=1");
    assert!(
        refused.contains("BadRequest") && refused.contains("spec.secret"),
        "{refused}"
    );
    let refused = kubectl.fails("get env -l tier==front==back");
    assert!(!refused.is_empty());
}

fn reads_long_lists_page_by_page(kubectl: &mut Kubectl) {
    let manifest: String = (0..7)
        .map(|number| environment(&format!("e{number}"), "x"))
        .collect();
    kubectl.apply(&manifest);
    let all = kubectl.ok("get env -o name");
    assert_eq!(all.lines().count(), 7);
    assert_eq!(kubectl.ok("get env -o name --chunk-size=2"), all);
    assert_eq!(
        kubectl
            .ok("get env --no-headers --chunk-size=3")
            .lines()
            .count(),
        7
    );
    let traced = kubectl.run("get env -o name --chunk-size=2 -v=8");
    assert!(traced.stderr.contains("continue="), "it did not page");
}

fn describes_an_object_with_its_events(kubectl: &mut Kubectl) {
    kubectl.apply(&environment("a", "front"));
    let object = kubectl.object("env a");
    let uid = object["metadata"]["uid"].as_str().unwrap();
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a.1"},
        "involvedObject": {"apiVersion": "boatyard.dev/v1", "kind": "Environment", "namespace": "default", "name": "a", "uid": uid},
        "reason": "Started", "message": "it runs", "type": "Normal",
        "source": {"component": "runner"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1,
    });
    kubectl.fed("create -f -", &event.to_string()).ok();
    let text = kubectl.ok("describe env a");
    for wanted in [
        "Name:         a\n",
        "Labels:       tier=front\n",
        "Runner Name:",
        "example/image:1",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let events = text.split("Events:").nth(1).unwrap();
    assert!(
        events.contains("Started") && events.contains("it runs"),
        "{text}"
    );
    let listed = kubectl.ok("get events");
    assert!(listed.contains("it runs"), "{listed}");
    let namespace = kubectl.ok("describe namespace default");
    assert!(namespace.contains("Status:       Active"), "{namespace}");
    if kubectl.minor >= 23 {
        let events = kubectl.ok("events --for=environment/a");
        assert!(events.contains("it runs"), "{events}");
    }
}
