//! Making and removing objects and namespaces.

use super::{Kubectl, environment, with_every_kubectl};
use serde_json::json;

with_every_kubectl!(
    creates_objects_or_only_tries_to,
    deletes_one_many_and_all,
    a_finalizer_holds_what_is_deleted,
    a_namespace_goes_with_all_that_is_in_it,
);

fn creates_objects_or_only_tries_to(kubectl: &mut Kubectl) {
    let manifest = environment("a", "front");
    let said = kubectl
        .fed("create --dry-run=server -o yaml -f -", &manifest)
        .ok();
    assert!(
        said.contains("\n  uid: ") && said.contains("state: Running"),
        "{said}"
    );
    assert_eq!(kubectl.ok("get env -o name"), "");
    let said = kubectl.fed("create -f -", &manifest).ok();
    assert_eq!(said, "environment.boatyard.dev/a created\n");
    let refused = kubectl.fed("create -f -", &manifest);
    assert_eq!(refused.code, 1);
    assert_eq!(
        refused.stderr,
        "Error from server (AlreadyExists): error when creating \"STDIN\": environments.boatyard.dev \"a\" already exists\n"
    );
    let generated = manifest.replace("name: a", "generateName: made-");
    let said = kubectl.fed("create -o name -f -", &generated).ok();
    assert!(said.starts_with("environment.boatyard.dev/made-"), "{said}");
    // As JSON, and several in a List.
    let item = |name: &str| json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"name": name}, "spec": {"runnerName": "none"}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [item("l1"), item("l2")]});
    kubectl.fed("create -f -", &list.to_string()).ok();
    kubectl.ok("get env l1 l2");
    let refused = kubectl.fed("create -f -", &manifest.replace("name: a", "name: A_1"));
    assert!(
        refused.stderr.contains("metadata.name") && refused.stderr.contains("A_1"),
        "{refused:?}"
    );
    let refused = kubectl.fed(
        "create -f -",
        &manifest.replace("boatyard.dev/v1", "boatyard.dev/v9"),
    );
    assert!(
        refused.stderr.contains("no matches for kind"),
        "{refused:?}"
    );
    let unknown = manifest
        .replace("name: a", "name: b")
        .replace("  runnerName:", "  colour: red\n  runnerName:");
    let strict = if kubectl.minor >= 25 {
        "--validate=strict"
    } else {
        "--validate=true"
    };
    let refused = kubectl.fed(&format!("create {strict} -f -"), &unknown);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("unknown field") && refused.stderr.contains("colour"),
        "{refused:?}"
    );
    if kubectl.minor >= 25 {
        let warned = kubectl.fed("create --validate=warn -f -", &unknown);
        assert!(
            warned
                .stderr
                .contains("Warning: unknown field \"spec.colour\""),
            "{warned:?}"
        );
        warned.ok();
        kubectl.ok("delete env b");
    }
    let ignored = kubectl.fed("create --validate=false -f -", &unknown);
    // One that does not know of the server's own check gets its warning.
    assert!(
        ignored.stderr.is_empty() || kubectl.minor < 25,
        "{ignored:?}"
    );
    ignored.ok();
    assert!(kubectl.object("env b")["spec"].get("colour").is_none());
}

fn deletes_one_many_and_all(kubectl: &mut Kubectl) {
    let manifest: String = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .zip(["t1", "t1", "t2", "t2", "t3", "t3"])
        .map(|(name, tier)| environment(name, tier))
        .collect();
    kubectl.apply(&manifest);
    let left = || kubectl.ok("get env -o jsonpath={.items[*].metadata.name}");
    kubectl.ok("delete env a --dry-run=server");
    assert_eq!(left(), "a b c d e f");
    let said = kubectl.ok("delete env a");
    assert!(
        said.starts_with("environment.boatyard.dev \"a\" deleted"),
        "{said}"
    );
    kubectl.ok("delete env -l tier=t1");
    assert_eq!(left(), "c d e f");
    kubectl.ok("delete env/c env/d --now");
    kubectl.fed("delete -f -", &environment("e", "t3")).ok();
    assert_eq!(left(), "f");
    let missing = kubectl.fails("delete env a");
    assert!(missing.contains("(NotFound)"), "{missing}");
    kubectl.ok("delete env a --ignore-not-found");
    kubectl.apply(&manifest);
    kubectl.ok("delete env --all --wait=false");
    kubectl.ok("delete env --all");
    assert_eq!(left(), "");
    let said = kubectl.ok("delete env --all");
    assert_eq!(said, "No resources found\n");
}

fn a_finalizer_holds_what_is_deleted(kubectl: &mut Kubectl) {
    kubectl.apply(
        &environment("a", "x").replace("  labels:", "  finalizers: [example.dev/hold]\n  labels:"),
    );
    let late = kubectl.fails("delete env a --timeout=1s");
    assert!(late.contains("timed out"), "{late}");
    let object = kubectl.object("env a");
    assert!(
        object["metadata"]["deletionTimestamp"].is_string(),
        "{object}"
    );
    // What is going stays as it was asked to be, and nothing new holds it.
    let refused = kubectl.fails(r#"patch env a --type=merge -p {"metadata":{"finalizers":["example.dev/hold","example.dev/more"]}}"#);
    assert!(refused.contains("finalizers"), "{refused}");
    kubectl.ok(r#"patch env a --type=json -p [{"op":"remove","path":"/metadata/finalizers/0"}]"#);
    kubectl.fails("get env a");
}

fn a_namespace_goes_with_all_that_is_in_it(kubectl: &mut Kubectl) {
    assert_eq!(
        kubectl.ok("create namespace team"),
        "namespace/team created\n"
    );
    assert_eq!(
        kubectl.ok("get ns team -o jsonpath={.status.phase}"),
        "Active"
    );
    let held = environment("held", "x")
        .replace("  labels:", "  finalizers: [example.dev/hold]\n  labels:");
    kubectl
        .fed("apply -n team -f -", &(environment("a", "x") + &held))
        .ok();
    kubectl.ok("delete namespace team --wait=false");
    boatyard_testkit::wait::until("the namespace to be emptied", || {
        (kubectl.run("get env -n team a").code == 1).then_some(())
    });
    assert_eq!(
        kubectl.ok("get ns team -o jsonpath={.status.phase}"),
        "Terminating"
    );
    let refused = kubectl.fed("create -n team -f -", &environment("b", "x"));
    assert!(
        refused.stderr.contains("(Forbidden)") && refused.stderr.contains("being terminated"),
        "{refused:?}"
    );
    kubectl.ok(r#"patch env held -n team --type=merge -p {"metadata":{"finalizers":null}}"#);
    kubectl.sees_go("ns/team");
    let missing = kubectl.fed("create -n team -f -", &environment("b", "x"));
    assert!(
        missing.stderr.contains("namespaces \"team\" not found"),
        "{missing:?}"
    );
    let refused = kubectl.fails("delete ns default");
    assert!(refused.contains("(Forbidden)"), "{refused}");
}
