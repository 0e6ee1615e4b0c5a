//! The rules by matrix.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::kinds::Kinds;
use boatyard_api::words::NAMESPACE_RUNNERS;
use serde_json::json;

fn allowed(
    caller: &Caller,
    verb: &str,
    path: (&str, &str, &str),
    names: (&str, &str),
    object: Option<&Value>,
    selected: Option<&str>,
) -> bool {
    let kinds = Kinds::default();
    let attributes = Attributes {
        caller,
        verb,
        kind: kinds.find(path.0, "v1", path.1).unwrap(),
        subresource: path.2,
        namespace: names.0,
        name: names.1,
        object,
        selected_runner: selected,
    };
    Rules.authorize(&attributes) == Decision::Allow
}

fn runner() -> Caller {
    Caller {
        user: "system:runner:r1".into(),
        groups: vec!["system:runners".into()],
        local: None,
        good: None,
    }
}

const ENVIRONMENTS: (&str, &str, &str) = ("boatyard.dev", "environments", "");
const STATUS: (&str, &str, &str) = ("boatyard.dev", "environments", "status");

#[test]
fn a_runner_touches_only_what_is_its_own() {
    let (mine, other) = (
        json!({"spec": {"runnerName": "r1"}}),
        json!({"spec": {"runnerName": "r2"}}),
    );
    let r = runner();
    assert!(allowed(
        &r,
        "patch",
        STATUS,
        ("default", "e"),
        Some(&mine),
        None
    ));
    assert!(!allowed(
        &r,
        "patch",
        STATUS,
        ("default", "e"),
        Some(&other),
        None
    ));
    assert!(!allowed(
        &r,
        "get",
        ENVIRONMENTS,
        ("default", "e"),
        Some(&other),
        None
    ));
    assert!(!allowed(
        &r,
        "delete",
        ENVIRONMENTS,
        ("default", "e"),
        Some(&mine),
        None
    ));
    assert!(!allowed(
        &r,
        "create",
        ENVIRONMENTS,
        ("default", "e"),
        None,
        None
    ));
    assert!(allowed(
        &r,
        "watch",
        ENVIRONMENTS,
        ("", ""),
        None,
        Some("r1")
    ));
    assert!(!allowed(&r, "watch", ENVIRONMENTS, ("", ""), None, None));
    assert!(!allowed(
        &r,
        "list",
        ENVIRONMENTS,
        ("", ""),
        None,
        Some("r2")
    ));
    let runners = ("boatyard.dev", "runners", "");
    assert!(allowed(&r, "get", runners, ("", "r1"), None, None));
    assert!(!allowed(&r, "get", runners, ("", "r2"), None, None));
    let leases = ("coordination.k8s.io", "leases", "");
    assert!(allowed(
        &r,
        "patch",
        leases,
        (NAMESPACE_RUNNERS, "r1"),
        None,
        None
    ));
    assert!(!allowed(
        &r,
        "patch",
        leases,
        (NAMESPACE_RUNNERS, "r2"),
        None,
        None
    ));
    assert!(!allowed(
        &r,
        "get",
        ("", "namespaces", ""),
        ("", "default"),
        None,
        None
    ));
}

#[test]
fn a_local_user_touches_only_environments_of_the_users_own() {
    let user = Caller::local(1000, 1000);
    let (mine, other) = (
        json!({"spec": {"owner": {"uid": 1000}}}),
        json!({"spec": {"owner": {"uid": 1001}}}),
    );
    let connect = ("boatyard.dev", "environments", "connect");
    assert!(allowed(
        &user,
        "create",
        connect,
        ("default", "e"),
        Some(&mine),
        None
    ));
    assert!(!allowed(
        &user,
        "create",
        connect,
        ("default", "e"),
        Some(&other),
        None
    ));
    assert!(!allowed(
        &user,
        "delete",
        ENVIRONMENTS,
        ("default", "e"),
        Some(&other),
        None
    ));
    assert!(!allowed(
        &user,
        "patch",
        STATUS,
        ("default", "e"),
        Some(&mine),
        None
    ));
    assert!(!allowed(
        &user,
        "create",
        ("boatyard.dev", "environmentclasses", ""),
        ("", "c"),
        None,
        None
    ));
    // What they get there is the runner's to bound.
    assert!(allowed(
        &user,
        "create",
        ("boatyard.dev", "runners", "connect"),
        ("", "local"),
        None,
        None
    ));
    assert!(!allowed(
        &user,
        "create",
        ("boatyard.dev", "runners", "token"),
        ("", "local"),
        None,
        None
    ));
    let kinds = Kinds::default();
    let environments = kinds.find("boatyard.dev", "v1", "environments").unwrap();
    assert!(may_see(&user, environments, &mine) && !may_see(&user, environments, &other));
}

#[test]
fn root_through_the_socket_is_an_administrator_and_nobody_is_nobody() {
    assert!(allowed(
        &Caller::local(0, 0),
        "delete",
        ("", "namespaces", ""),
        ("", "x"),
        None,
        None
    ));
    let nobody = Caller {
        user: "x".into(),
        groups: vec![],
        local: None,
        good: None,
    };
    assert!(!allowed(
        &nobody,
        "get",
        ENVIRONMENTS,
        ("default", "e"),
        None,
        None
    ));
}
