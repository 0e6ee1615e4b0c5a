//! Deletion with dependents, by every propagation policy.

use super::{Kubectl, environment, with_every_kubectl};
use boatyard_testkit::wait;

with_every_kubectl!(deletes_dependents_as_the_policy_says);

/// An environment that another one owns and waits for.
fn dependent(name: &str, uid: &str) -> String {
    environment(name, "child").replace(
        "  labels:",
        &format!(
            "  ownerReferences:
  - {{apiVersion: boatyard.dev/v1, kind: Environment, name: owner, uid: {uid}, controller: true, blockOwnerDeletion: true}}
  labels:"
        ),
    )
}

fn deletes_dependents_as_the_policy_says(kubectl: &mut Kubectl) {
    let make = || {
        kubectl.apply(&environment("owner", "parent"));
        let owner = kubectl.object("env owner");
        let uid = owner["metadata"]["uid"].as_str().unwrap();
        kubectl.apply(&(dependent("one", uid) + &dependent("two", uid)));
    };
    let gone = |what: &str| {
        wait::until(what, || {
            kubectl.ok("get env -o name").is_empty().then_some(())
        });
    };
    // The default, and the same by name: the owner goes, its dependents after it.
    make();
    kubectl.ok("delete env owner");
    gone("the dependents to be collected");
    make();
    kubectl.ok("delete env owner --cascade=background");
    gone("the dependents to be collected");
    // The owner waits for its dependents.
    make();
    let held = r#"patch env one --type=merge -p {"metadata":{"finalizers":["example.dev/hold"]}}"#;
    kubectl.ok(held);
    kubectl.ok("delete env owner --cascade=foreground --wait=false");
    wait::until("the free dependent to go", || {
        (kubectl.run("get env two").code == 1).then_some(())
    });
    let owner = kubectl.object("env owner");
    assert!(
        owner["metadata"]["deletionTimestamp"].is_string(),
        "{owner}"
    );
    assert_eq!(owner["metadata"]["finalizers"][0], "foregroundDeletion");
    kubectl.ok(r#"patch env one --type=merge -p {"metadata":{"finalizers":null}}"#);
    gone("the owner to follow");
    // The dependents stay, and forget their owner.
    make();
    kubectl.ok("delete env owner --cascade=orphan");
    assert_eq!(
        kubectl.ok("get env -o jsonpath={.items[*].metadata.name}"),
        "one two"
    );
    for name in ["one", "two"] {
        let orphan = kubectl.object(&format!("env {name}"));
        assert!(orphan["metadata"]["ownerReferences"].is_null(), "{orphan}");
    }
    kubectl.ok("delete env --all");
    // Whose owner was never there is collected too.
    kubectl.apply(&dependent("lost", "00000000-0000-0000-0000-000000000000"));
    gone("the dependent of nobody to be collected");
}
