//! Declaring what should be: client-side apply, diff, kustomize, prune.

use super::{Kubectl, environment, with_every_kubectl};
use serde_json::json;

with_every_kubectl!(
    applies_creates_changes_and_leaves_alone,
    tells_the_difference_before_applying,
    applies_what_kustomize_makes,
    prunes_what_is_no_longer_declared,
);

fn applies_creates_changes_and_leaves_alone(kubectl: &mut Kubectl) {
    let manifest = environment("a", "front");
    assert_eq!(
        kubectl.apply(&manifest),
        "environment.boatyard.dev/a created\n"
    );
    assert_eq!(
        kubectl.apply(&manifest),
        "environment.boatyard.dev/a unchanged\n"
    );
    let tried = manifest.replace("image:1", "image:9");
    kubectl.fed("apply --dry-run=server -f -", &tried).ok();
    assert_eq!(
        kubectl.object("env a")["spec"]["devcontainer"]["image"],
        "example/image:1"
    );
    // Others' fields stay; what the manifest had and has no more goes.
    kubectl.ok("label env a by=other");
    kubectl.ok(r#"patch env a --type=merge -p {"spec":{"restartedAt":"once"}}"#);
    let changed = manifest
        .replace("tier: front", "team: core")
        .replace("image:1", "image:2");
    assert_eq!(
        kubectl.apply(&changed),
        "environment.boatyard.dev/a configured\n"
    );
    let object = kubectl.object("env a");
    assert_eq!(
        object["metadata"]["labels"],
        json!({"by": "other", "team": "core"})
    );
    assert_eq!(object["spec"]["devcontainer"]["image"], "example/image:2");
    assert_eq!(object["spec"]["restartedAt"], "once");
    let annotation =
        &object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert!(annotation.as_str().unwrap().contains("image:2"), "{object}");
    let last = kubectl.ok("apply view-last-applied env a");
    assert!(last.contains("image: example/image:2"), "{last}");
    let manifest = kubectl.place.file("a.yaml", &changed);
    kubectl.ok(&format!("apply set-last-applied -f {manifest}"));
    // A core kind, by strategic merge patch.
    let namespace = |labels: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: team, labels: {{{labels}}}}}\n")
    };
    assert_eq!(
        kubectl.apply(&namespace("a: b, c: d")),
        "namespace/team created\n"
    );
    assert_eq!(
        kubectl.apply(&namespace("a: b, c: d")),
        "namespace/team unchanged\n"
    );
    assert_eq!(
        kubectl.apply(&namespace("a: e")),
        "namespace/team configured\n"
    );
    let labels = kubectl.object("ns team")["metadata"]["labels"].clone();
    assert_eq!(
        (&labels["a"], labels.get("c")),
        (&json!("e"), None),
        "{labels}"
    );
    // Twice in one go, from a folder and by URL of neither: order and count are kubectl's.
    kubectl.place.file("many/1.yaml", &environment("m1", "x"));
    kubectl.place.file(
        "many/2.yaml",
        &(environment("m2", "x") + &environment("m3", "x")),
    );
    let folder = kubectl.place.folder().join("many");
    let said = kubectl.ok(&format!("apply -f {}", folder.display()));
    assert_eq!(
        said.lines()
            .filter(|line| line.ends_with(" created"))
            .count(),
        3,
        "{said}"
    );
    kubectl.ok(&format!("delete -f {}", folder.display()));
    let refused = kubectl.fed(
        "apply -f -",
        &environment("a", "x").replace("spec:", "spec:\n  state: Sleeping"),
    );
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("Sleeping"), "{refused:?}");
}

fn tells_the_difference_before_applying(kubectl: &mut Kubectl) {
    let manifest = environment("a", "front");
    let fresh = kubectl.fed("diff -f -", &manifest);
    assert_eq!(fresh.code, 1, "{fresh:?}");
    assert!(fresh.stdout.contains("+kind: Environment"), "{fresh:?}");
    assert_eq!(kubectl.ok("get env -o name"), "", "diff only looks");
    kubectl.apply(&manifest);
    let same = kubectl.fed("diff -f -", &manifest);
    assert_eq!((same.code, same.stdout.as_str()), (0, ""), "{same:?}");
    let changed = kubectl.fed("diff -f -", &manifest.replace("image:1", "image:2"));
    assert_eq!(changed.code, 1, "{changed:?}");
    assert!(
        changed.stdout.contains("-    image: example/image:1")
            && changed.stdout.contains("+    image: example/image:2")
            && changed.stdout.contains("generation: 2"),
        "{changed:?}"
    );
    assert_eq!(kubectl.object("env a")["metadata"]["generation"], 1);
}

fn applies_what_kustomize_makes(kubectl: &mut Kubectl) {
    kubectl
        .place
        .file("base/environment.yaml", &environment("web", "front"));
    kubectl
        .place
        .file("base/kustomization.yaml", "resources: [environment.yaml]\n");
    let overlay = kubectl.place.file(
        "overlay/kustomization.yaml",
        "resources: [../base]
namePrefix: dev-
namespace: default
commonAnnotations: {made: by-kustomize}
patches:
- target: {kind: Environment}
  patch: |-
    - op: replace
      path: /spec/devcontainer/image
      value: example/image:3
",
    );
    // kubectl 1.20 carries a kustomize that knows older words only.
    if kubectl.minor < 21 {
        kubectl.place.file(
            "overlay/image.yaml",
            "- {op: replace, path: /spec/devcontainer/image, value: example/image:3}\n",
        );
        let text = std::fs::read_to_string(&overlay).unwrap();
        let older = "patchesJson6902:
- target: {group: boatyard.dev, version: v1, kind: Environment, name: web}
  path: image.yaml
";
        let text = text.replace("resources:", "bases:");
        let text = text.split("patches:").next().unwrap().to_owned() + older;
        std::fs::write(&overlay, text).unwrap();
    }
    let folder = overlay.trim_end_matches("/kustomization.yaml");
    assert_eq!(
        kubectl.ok(&format!("apply -k {folder}")),
        "environment.boatyard.dev/dev-web created\n"
    );
    let object = kubectl.object("env dev-web");
    assert_eq!(object["spec"]["devcontainer"]["image"], "example/image:3");
    assert_eq!(object["metadata"]["annotations"]["made"], "by-kustomize");
    let made = kubectl.ok(&format!("kustomize {folder}"));
    assert_eq!(
        kubectl.apply(&made),
        "environment.boatyard.dev/dev-web unchanged\n"
    );
    let same = kubectl.run(&format!("diff -k {folder}"));
    assert_eq!(same.code, 0, "{same:?}");
    kubectl.ok(&format!("delete -k {folder}"));
}

fn prunes_what_is_no_longer_declared(kubectl: &mut Kubectl) {
    let word = if kubectl.minor >= 26 {
        "--prune-allowlist"
    } else {
        "--prune-whitelist"
    };
    let apply = |manifest: &str| {
        let line = format!(
            "apply --prune -l owner=gitops {word}=boatyard.dev/v1/Environment {word}=boatyard.dev/v1/EnvironmentClass -f -"
        );
        kubectl.fed(&line, manifest).ok()
    };
    let declared = |name: &str| environment(name, "x").replace("tier: x", "owner: gitops");
    let class = "apiVersion: boatyard.dev/v1\nkind: EnvironmentClass\nmetadata: {name: small, labels: {owner: gitops}}\nspec: {}\n";
    apply(&(declared("a") + &declared("b") + class));
    // Neither made by apply nor labelled: not ours to prune.
    kubectl.fed("create -f -", &declared("made")).ok();
    kubectl.apply(&environment("other", "x"));
    let said = apply(&declared("b"));
    assert!(said.contains("environment.boatyard.dev/a pruned"), "{said}");
    assert!(
        said.contains("environmentclass.boatyard.dev/small pruned"),
        "{said}"
    );
    assert_eq!(
        kubectl.ok("get env -o jsonpath={.items[*].metadata.name}"),
        "b made other"
    );
    assert_eq!(
        kubectl.ok("get envclass -o name"),
        "environmentclass.boatyard.dev/default\n"
    );
}
