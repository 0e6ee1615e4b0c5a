//! Server-side apply: managers share an object, field by field.

use super::{Kubectl, environment, with_every_kubectl};
use serde_json::{Value, json};

with_every_kubectl!(
    applies_server_side_and_minds_other_managers,
    moves_from_client_side_to_server_side,
);

/// By name: entries are ordered by the second they were made in before that.
fn managers(object: &Value) -> Vec<(&str, &str)> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let mut managers: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry["manager"].as_str().unwrap(),
                entry["operation"].as_str().unwrap(),
            )
        })
        .collect();
    managers.sort_unstable();
    managers
}

/// An environment with what newer kubectls leave out of what they print.
fn whole(kubectl: &Kubectl, name: &str) -> Value {
    let path = format!("get --raw /apis/boatyard.dev/v1/namespaces/default/environments/{name}");
    serde_json::from_str(&kubectl.ok(&path)).unwrap()
}

fn applies_server_side_and_minds_other_managers(kubectl: &mut Kubectl) {
    let manifest = environment("a", "front");
    let apply = |more: &str, manifest: &str| {
        kubectl.fed(&format!("apply --server-side {more} -f -"), manifest)
    };
    let said = apply("", &manifest).ok();
    assert_eq!(said, "environment.boatyard.dev/a serverside-applied\n");
    let object = whole(kubectl, "a");
    assert_eq!(managers(&object), [("kubectl", "Apply")]);
    assert!(object["metadata"]["annotations"].is_null(), "{object}");
    apply("", &manifest).ok();
    assert_eq!(
        whole(kubectl, "a")["metadata"]["resourceVersion"],
        object["metadata"]["resourceVersion"]
    );
    // Another manager may add, but not change what is the first's.
    let other = |image: &str| {
        format!(
            "apiVersion: boatyard.dev/v1\nkind: Environment\nmetadata: {{name: a, labels: {{by: other}}}}\nspec: {{devcontainer: {{image: {image}}}}}\n"
        )
    };
    apply("--field-manager=other", &other("example/image:1")).ok();
    let refused = apply("--field-manager=other", &other("example/image:2"));
    assert_eq!(refused.code, 1, "{refused:?}");
    for wanted in [
        "conflict with \"kubectl\"",
        ".spec.devcontainer.image",
        "--force-conflicts",
    ] {
        assert!(refused.stderr.contains(wanted), "{wanted}: {refused:?}");
    }
    apply(
        "--field-manager=other --force-conflicts",
        &other("example/image:2"),
    )
    .ok();
    let object = whole(kubectl, "a");
    assert_eq!(object["spec"]["devcontainer"]["image"], "example/image:2");
    assert_eq!(
        object["metadata"]["labels"],
        json!({"by": "other", "tier": "front"})
    );
    // What a manager leaves out goes, unless another has it too.
    let less = "apiVersion: boatyard.dev/v1\nkind: Environment\nmetadata: {name: a}\nspec: {}\n";
    apply("--field-manager=other", less).ok();
    let object = whole(kubectl, "a");
    assert_eq!(object["metadata"]["labels"], json!({"tier": "front"}));
    assert!(
        object["spec"]["devcontainer"]["image"].is_null(),
        "{object}"
    );
    let tried = apply("--dry-run=server", &manifest.replace("front", "back")).ok();
    assert!(tried.contains("server dry run"), "{tried}");
    assert_eq!(whole(kubectl, "a")["metadata"]["labels"]["tier"], "front");
    // kubectl 1.20's diff has the manager of its other commands, and knows no other.
    let differs = kubectl.fed(
        "diff --server-side --force-conflicts -f -",
        &manifest.replace("front", "back"),
    );
    if kubectl.minor >= 21 {
        assert_eq!(differs.code, 1, "{differs:?}");
        assert!(differs.stdout.contains("+    tier: back"), "{differs:?}");
    }
    // Writes that are no apply have their manager too.
    kubectl.ok("label --overwrite env a tier=back");
    let refused = apply("", &manifest);
    assert!(
        refused.stderr.contains(".metadata.labels.tier"),
        "{refused:?}"
    );
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {a: b}}\n";
    apply("", namespace).ok();
    assert_eq!(kubectl.object("ns team")["metadata"]["labels"]["a"], "b");
}

fn moves_from_client_side_to_server_side(kubectl: &mut Kubectl) {
    let manifest = environment("a", "front");
    kubectl.apply(&manifest);
    let apply =
        |manifest: &str| kubectl.fed("apply --server-side --force-conflicts -f -", manifest);
    apply(&manifest).ok();
    // What only the client-side manifest had would stay for ever, if it had not been taken over.
    let less = manifest.replace("  labels: {tier: front}\n", "");
    apply(&less).ok();
    let object = whole(kubectl, "a");
    if kubectl.minor >= 26 {
        assert!(object["metadata"]["labels"].is_null(), "{object}");
        // The second keeps the annotation that client-side apply goes on from.
        let both = [("kubectl", "Apply"), ("kubectl-last-applied", "Apply")];
        assert_eq!(managers(&object), both);
        // And back again.
        let said = kubectl.apply(&manifest);
        assert_eq!(said, "environment.boatyard.dev/a configured\n");
    }
    assert_eq!(object["spec"]["devcontainer"]["image"], "example/image:1");
}
