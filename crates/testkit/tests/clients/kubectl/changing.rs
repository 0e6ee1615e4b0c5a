//! Changing objects that are there: edit, label, annotate, patch, replace.

use super::{Kubectl, environment, with_every_kubectl};
use crate::tools;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

with_every_kubectl!(
    labels_and_annotates,
    edits_in_an_editor,
    patches_in_every_way_the_kind_takes,
    replaces_objects_and_minds_their_version,
);

/// Writes an environment's status as its runner does; kubectl before 1.24 cannot.
pub(super) fn status(kubectl: &Kubectl, name: &str, status: &Value) {
    let body = kubectl.place.file("status.json", &status.to_string());
    let token = kubectl.ok("config view --raw -o jsonpath={.users[0].user.token}");
    let url = format!(
        "https://{}/apis/boatyard.dev/v1/namespaces/default/environments/{name}/status",
        kubectl.place.server.address()
    );
    let mut curl = std::process::Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--request",
        "PATCH",
    ])
    .arg("--cacert")
    .arg(kubectl.place.server.state().join("ca.crt"))
    .args(["--header", "Content-Type: application/merge-patch+json"])
    .args(["--header", &format!("Authorization: Bearer {token}")])
    .args(["--data", &format!("@{body}"), &url]);
    tools::run(&mut curl, "").ok();
}

fn labels_and_annotates(kubectl: &mut Kubectl) {
    kubectl.apply(&(environment("a", "front") + &environment("b", "front")));
    kubectl.ok("label env a b extra=1");
    let refused = kubectl.fails("label env a extra=2");
    assert!(refused.contains("--overwrite"), "{refused}");
    kubectl.ok("label --overwrite env a extra=2");
    kubectl.ok("label env b extra-");
    kubectl.ok("label env -l tier=front all=yes");
    kubectl.ok("annotate env --all note=hello");
    let (a, b) = (kubectl.object("env a"), kubectl.object("env b"));
    assert_eq!(
        a["metadata"]["labels"],
        json!({"tier": "front", "extra": "2", "all": "yes"})
    );
    assert_eq!(
        b["metadata"]["labels"],
        json!({"tier": "front", "all": "yes"})
    );
    assert_eq!(a["metadata"]["annotations"]["note"], "hello");
    // The metadata is not what the environment should be.
    assert_eq!(a["metadata"]["generation"], 1);
    let version = &a["metadata"]["resourceVersion"];
    let refused = kubectl.fails("label env a late=1 --resource-version=1");
    assert!(refused.contains("Conflict"), "{refused}");
    kubectl.ok(&format!(
        "label env a late=1 --resource-version={}",
        version.as_str().unwrap()
    ));
    let refused = kubectl.fails("label env a UPPER/x/y=1");
    assert!(!refused.is_empty());
    kubectl.ok("label namespace default core=1");
    kubectl.ok("annotate envclass default core=1");
}

fn edits_in_an_editor(kubectl: &mut Kubectl) {
    kubectl.apply(&environment("a", "front"));
    let edit = |what: &str, script: &str| {
        let editor = kubectl
            .place
            .file("editor.sh", &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = kubectl.command(what.split_whitespace());
        tools::run(command.env("KUBE_EDITOR", editor), "")
    };
    let said = edit("edit env a", "sed -i 's/image:1/image:2/' \"$1\"").ok();
    assert_eq!(said, "environment.boatyard.dev/a edited\n");
    let object = kubectl.object("env a");
    assert_eq!(object["spec"]["devcontainer"]["image"], "example/image:2");
    assert_eq!(object["metadata"]["generation"], 2);
    let said = edit("edit env a", "true");
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.stderr, "Edit cancelled, no changes made.\n");
    // What the server refuses is shown in the editor again, which gives up.
    let seen = kubectl.place.folder().join("seen");
    let script = format!(
        "if grep -q 'not valid' \"$1\"; then cp \"$1\" {}; else sed -i 's/state: Running/state: Sleeping/' \"$1\"; fi",
        seen.display()
    );
    let refused = edit("edit env a", &script);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("is invalid"), "{refused:?}");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("# * spec.state: "), "{seen}");
    assert_eq!(kubectl.object("env a")["metadata"]["generation"], 2);
    let said = edit(
        "edit namespace default",
        "sed -i 's/^metadata:/metadata:\\n  annotations: {by: editor}/' \"$1\"",
    )
    .ok();
    assert_eq!(said, "namespace/default edited\n");
    assert_eq!(
        kubectl.object("ns default")["metadata"]["annotations"]["by"],
        "editor"
    );
}

fn patches_in_every_way_the_kind_takes(kubectl: &mut Kubectl) {
    kubectl.apply(&environment("a", "front"));
    kubectl.ok(r#"patch env a --type=merge -p {"spec":{"state":"Stopped"},"metadata":{"labels":{"tier":null}}}"#);
    let object = kubectl.object("env a");
    assert_eq!(object["spec"]["state"], "Stopped");
    assert_eq!(object["spec"]["runnerName"], "none");
    assert!(object["metadata"]["labels"].is_null(), "{object}");
    kubectl.ok(r#"patch env a --type=json -p [{"op":"test","path":"/spec/state","value":"Stopped"},{"op":"replace","path":"/spec/state","value":"Running"}]"#);
    let again = r#"patch env a --type=json -p [{"op":"test","path":"/spec/state","value":"Stopped"},{"op":"remove","path":"/spec/state"}]"#;
    assert!(!kubectl.fails(again).is_empty());
    assert_eq!(
        kubectl.ok(r#"patch env a --type=merge -p {"spec":{"state":"Running"}}"#),
        "environment.boatyard.dev/a patched (no change)\n"
    );
    // Without a type kubectl sends a strategic merge patch, which custom kinds do not take.
    let refused = kubectl.fails(r#"patch env a -p {"spec":{"state":"Stopped"}}"#);
    assert!(
        refused.contains("application/strategic-merge-patch+json"),
        "{refused}"
    );
    kubectl.ok(r#"patch namespace default -p {"metadata":{"labels":{"core":"1"}}}"#);
    assert_eq!(
        kubectl.object("ns default")["metadata"]["labels"]["core"],
        "1"
    );
    let refused = kubectl.fails(r#"patch env a --type=merge -p {"spec":{"state":"Asleep"}}"#);
    assert!(
        refused.contains("spec.state") && refused.contains("Asleep"),
        "{refused}"
    );
    let refused = kubectl.fails(r#"patch env nowhere --type=merge -p {}"#);
    assert!(refused.contains("NotFound"), "{refused}");
    if kubectl.minor >= 24 {
        kubectl.ok(
            r#"patch env a --subresource=status --type=merge -p {"status":{"phase":"Running"}}"#,
        );
        let object = kubectl.object("env a");
        assert_eq!(object["status"]["phase"], "Running");
        assert_eq!(object["spec"]["state"], "Running");
    }
    // Status is not written through the object itself.
    kubectl.ok(r#"patch env a --type=merge -p {"status":{"phase":"Failed"}}"#);
    assert_ne!(kubectl.object("env a")["status"]["phase"], "Failed");
}

fn replaces_objects_and_minds_their_version(kubectl: &mut Kubectl) {
    kubectl.apply(&environment("a", "front"));
    let mut object = kubectl.object("env a");
    let stale = object.to_string();
    object["spec"]["state"] = json!("Stopped");
    let said = kubectl.fed("replace -f -", &object.to_string()).ok();
    assert_eq!(said, "environment.boatyard.dev/a replaced\n");
    let refused = kubectl.fed("replace -f -", &stale);
    assert!(refused.stderr.contains("(Conflict)"), "{refused:?}");
    assert!(
        refused.stderr.contains("the object has been modified"),
        "{refused:?}"
    );
    // Without a version it is replaced whatever it is; what is left out is gone.
    kubectl.fed("replace -f -", &environment("a", "back")).ok();
    let replaced = kubectl.object("env a");
    assert_eq!(replaced["spec"]["state"], "Running");
    assert_eq!(replaced["metadata"]["labels"], json!({"tier": "back"}));
    assert_eq!(replaced["metadata"]["uid"], object["metadata"]["uid"]);
    assert_eq!(
        replaced["metadata"]["creationTimestamp"],
        object["metadata"]["creationTimestamp"]
    );
    let refused = kubectl.fed("replace -f -", &environment("b", "back"));
    assert!(refused.stderr.contains("(NotFound)"), "{refused:?}");
    kubectl
        .fed("replace --force -f -", &environment("a", "front"))
        .ok();
    assert_ne!(
        kubectl.object("env a")["metadata"]["uid"],
        object["metadata"]["uid"]
    );
}
