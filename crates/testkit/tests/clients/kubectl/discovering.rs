//! What the server tells of itself and of the caller.

use super::{Kubectl, with_every_kubectl};

with_every_kubectl!(
    lists_resources_and_versions,
    explains_types_field_by_field,
    says_who_may_do_what,
);

fn lists_resources_and_versions(kubectl: &mut Kubectl) {
    let table = kubectl.ok("api-resources --no-headers");
    let row = |name: &str| -> Vec<&str> {
        let mut rows = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row[0] == name)
            .unwrap_or_else(|| panic!("no {name}: {table}"))
    };
    assert_eq!(
        row("environments"),
        [
            "environments",
            "env",
            "boatyard.dev/v1",
            "true",
            "Environment"
        ]
    );
    assert_eq!(
        row("runners"),
        ["runners", "boatyard.dev/v1", "false", "Runner"]
    );
    assert_eq!(
        row("namespaces"),
        ["namespaces", "ns", "v1", "false", "Namespace"]
    );
    assert_eq!(
        row("leases"),
        ["leases", "coordination.k8s.io/v1", "true", "Lease"]
    );
    let namespaced = kubectl.ok("api-resources --api-group=boatyard.dev -o name --namespaced=true");
    let namespaced: Vec<&str> = namespaced.lines().collect();
    assert!(namespaced.contains(&"environments.boatyard.dev"));
    assert!(!namespaced.contains(&"runners.boatyard.dev"));
    let wide = kubectl.ok("api-resources --api-group=boatyard.dev -o wide");
    for verb in [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ] {
        assert!(wide.contains(verb), "{verb}: {wide}");
    }
    assert!(
        kubectl
            .ok("api-resources --verbs=list,watch -o name")
            .contains("environments.boatyard.dev")
    );
    let versions = kubectl.ok("api-versions");
    for version in ["boatyard.dev/v1", "coordination.k8s.io/v1", "v1"] {
        assert!(versions.lines().any(|line| line == version), "{versions}");
    }
    let version: serde_json::Value = serde_json::from_str(&kubectl.ok("version -o json")).unwrap();
    assert_eq!(version["serverVersion"]["major"], "1", "{version}");
    assert!(
        version["serverVersion"]["gitVersion"]
            .as_str()
            .unwrap()
            .contains("+boatyard.")
    );
    assert_eq!(kubectl.ok("get --raw /healthz"), "ok");
    assert_eq!(kubectl.ok("get --raw /livez"), "ok");
    assert_eq!(kubectl.ok("get --raw /readyz"), "ok");
    let raw = kubectl.ok("get --raw /apis/boatyard.dev/v1/environmentclasses/default");
    let raw: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(raw["kind"], "EnvironmentClass");
    // It asks for the cluster's Services, which there are none of: the resource is not served.
    let refused = kubectl.fails("cluster-info");
    assert!(
        refused.contains("the server doesn't have a resource type \"services\""),
        "{refused}"
    );
}

fn explains_types_field_by_field(kubectl: &mut Kubectl) {
    let text = kubectl.ok("explain environment");
    assert!(
        text.contains("Environment") && text.contains("boatyard.dev"),
        "{text}"
    );
    let text = kubectl.ok("explain env.spec.source.git");
    assert!(
        text.contains("url") && text.contains("-required-"),
        "{text}"
    );
    assert!(text.contains("A git repository"), "{text}");
    let text = kubectl.ok("explain env.status --recursive");
    for field in [
        "conditions",
        "lastTransitionTime",
        "observedGeneration",
        "steps",
    ] {
        assert!(text.contains(field), "{field}: {text}");
    }
    let text = kubectl.ok("explain namespace.status");
    assert!(text.contains("phase"), "{text}");
    kubectl.ok("explain env.metadata.ownerReferences");
    kubectl.ok("explain lease.spec.holderIdentity");
    let missing = kubectl.fails("explain env.spec.nothing");
    assert!(missing.contains("nothing"), "{missing}");
}

fn says_who_may_do_what(kubectl: &mut Kubectl) {
    assert_eq!(kubectl.ok("auth can-i create env"), "yes\n");
    assert_eq!(kubectl.ok("auth can-i delete namespaces/default"), "yes\n");
    if kubectl.minor >= 27 {
        let who = kubectl.ok("auth whoami");
        assert!(
            who.contains("admin") && who.contains("boatyard:admins"),
            "{who}"
        );
    }
    // A runner may do what concerns itself.
    let token = kubectl.place.cli(&["token", "edge"]).ok();
    let token = token.trim();
    let asked = |line: &str| kubectl.run(&format!("--token={token} {line}"));
    let no = asked("auth can-i delete environmentclasses");
    assert!(no.code == 1 && no.stdout.starts_with("no"), "{no:?}");
    assert_eq!(asked("auth can-i get runners/edge").ok(), "yes\n");
    let all = kubectl.ok("auth can-i --list");
    assert!(all.contains("*.*"), "{all}");
    let own = asked("auth can-i --list").ok();
    assert!(
        own.contains("runners.boatyard.dev") && !own.contains("*.*"),
        "{own}"
    );
    let refused = asked("get env");
    assert!(refused.stderr.contains("(Forbidden)"), "{refused:?}");
    let wrong = kubectl.run("--token=byt_wrong get env");
    assert_eq!(wrong.code, 1);
    assert!(
        wrong.stderr.contains("You must be logged in to the server"),
        "{wrong:?}"
    );
}
