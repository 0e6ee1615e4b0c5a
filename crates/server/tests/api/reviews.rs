//! Reviews: what callers are told they may do, and that it is so.

use crate::harness::{ENVIRONMENTS, Server, Who, at};
use serde_json::{Value, json};

const ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const SUBJECT: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const LOCAL: &str = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const MYSELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn can(server: &Server, who: &Who, attributes: Value) -> bool {
    let member = if attributes["path"].is_null() {
        "resourceAttributes"
    } else {
        "nonResourceAttributes"
    };
    let review = json!({"spec": {member: attributes}});
    let answer = server.ask(who, "POST", ACCESS, review).await;
    assert_eq!(answer.status, 201);
    let answer = answer.ok();
    assert_eq!(answer["kind"], "SelfSubjectAccessReview");
    answer["status"]["allowed"].as_bool().unwrap()
}

fn on(verb: &str, plural: &str, name: &str) -> Value {
    json!({"verb": verb, "group": "boatyard.dev", "resource": plural, "namespace": "default", "name": name})
}

#[tokio::test]
async fn callers_are_told_what_they_may_do() {
    let server = Server::start().await;
    let user = Who::User(1000);
    server
        .ask(
            &user,
            "POST",
            ENVIRONMENTS,
            json!({"metadata": {"name": "mine"}, "spec": {}}),
        )
        .await
        .ok();
    server
        .ask(
            &Who::User(1001),
            "POST",
            ENVIRONMENTS,
            json!({"metadata": {"name": "theirs"}, "spec": {}}),
        )
        .await
        .ok();
    let runner = server.runner();
    for (who, attributes, wanted) in [
        (
            &Who::Admin,
            json!({"verb": "*", "group": "*", "resource": "*"}),
            true,
        ),
        (
            &Who::Admin,
            json!({"verb": "get", "resource": "pods"}),
            true,
        ),
        (
            &Who::Admin,
            json!({"verb": "get", "path": "/metrics"}),
            true,
        ),
        (
            &user,
            json!({"verb": "*", "group": "*", "resource": "*"}),
            false,
        ),
        (
            &user,
            json!({"verb": "get", "resource": "pods", "namespace": "default"}),
            false,
        ),
        (
            &user,
            json!({"verb": "*", "group": "boatyard.dev", "resource": "environments", "namespace": "default"}),
            false,
        ),
        (
            &user,
            json!({"verb": "get", "resource": "environments", "namespace": "default"}),
            false,
        ),
        (&user, on("create", "environments", ""), true),
        (&user, on("delete", "environments", ""), true),
        (&user, on("delete", "environments", "mine"), true),
        (&user, on("delete", "environments", "theirs"), false),
        (&user, on("deletecollection", "environments", ""), false),
        (&user, on("create", "environmentclasses", ""), false),
        (
            &user,
            json!({"verb": "create", "group": "authorization.k8s.io", "resource": "selfsubjectaccessreviews"}),
            true,
        ),
        (
            &user,
            json!({"verb": "create", "group": "authorization.k8s.io", "resource": "subjectaccessreviews"}),
            false,
        ),
        (
            &user,
            json!({"verb": "get", "path": "/apis/boatyard.dev"}),
            true,
        ),
        (&user, json!({"verb": "get", "path": "/metrics"}), false),
        (&runner, on("get", "runners", "r1"), true),
        (&runner, on("get", "runners", "r2"), false),
        (&runner, on("list", "environments", ""), false),
        (
            &runner,
            json!({"verb": "list", "group": "boatyard.dev", "resource": "environments", "fieldSelector": {"requirements": [{"key": "spec.runnerName", "operator": "In", "values": ["r1"]}]}}),
            true,
        ),
        (
            &runner,
            json!({"verb": "list", "group": "boatyard.dev", "resource": "environments", "fieldSelector": {"rawSelector": "spec.runnerName=r2"}}),
            false,
        ),
    ] {
        assert_eq!(
            can(&server, who, attributes.clone()).await,
            wanted,
            "{who:?} {attributes}"
        );
    }
    // And it is so.
    server
        .ask(&user, "DELETE", &at("theirs"), Value::Null)
        .await
        .refused(403, "Forbidden");
    server
        .ask(&user, "DELETE", &at("mine"), Value::Null)
        .await
        .ok();
}

#[tokio::test]
async fn rules_are_listed_with_their_limits() {
    let server = Server::start().await;
    let ask = async |who: &Who, namespace: &str| {
        let review = json!({"spec": {"namespace": namespace}});
        server.ask(who, "POST", RULES, review).await.ok()["status"].clone()
    };
    let admin = ask(&Who::Admin, "default").await;
    assert_eq!(admin["incomplete"], false);
    assert_eq!(
        admin["resourceRules"],
        json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}])
    );
    let creates = |status: &Value| {
        let rules = status["resourceRules"].as_array().unwrap().clone();
        rules.iter().any(|rule| {
            rule["resources"] == json!(["environments"]) && rule["verbs"] == json!(["create"])
        })
    };
    let user = Who::User(1000);
    let here = ask(&user, "default").await;
    assert!(creates(&here) && !creates(&ask(&user, "elsewhere").await));
    assert_eq!(here["incomplete"], true);
    assert!(
        here["evaluationError"]
            .as_str()
            .unwrap()
            .contains("environments: only of the caller's own")
    );
    let runner = ask(&server.runner(), "default").await;
    let named = runner["resourceRules"]
        .as_array()
        .unwrap()
        .iter()
        .any(|rule| rule["resourceNames"] == json!(["r1"]));
    assert!(named);
    let none = server.post(RULES, json!({"spec": {}})).await;
    assert!(none.refused(422, "Invalid").contains("spec.namespace"));
}

#[tokio::test]
async fn administrators_ask_about_others_and_nobody_else_does() {
    let server = Server::start().await;
    let about = |user: &str, groups: Value, verb: &str| json!({"spec": {"user": user, "groups": groups, "resourceAttributes": on(verb, "environments", "")}});
    for (user, groups, verb, wanted) in [
        ("local:1000", json!([]), "create", true),
        ("local:1000", json!([]), "deletecollection", false),
        ("local:0", json!([]), "deletecollection", true),
        ("alice", json!([]), "create", false),
        (
            "alice",
            json!(["boatyard:admins"]),
            "deletecollection",
            true,
        ),
    ] {
        for path in [SUBJECT, LOCAL] {
            let answer = server
                .post(path, about(user, groups.clone(), verb))
                .await
                .ok();
            assert_eq!(answer["status"]["allowed"], wanted, "{user} {verb}");
        }
    }
    let review = about("local:0", json!([]), "get");
    for path in [SUBJECT, LOCAL, TOKENS] {
        for who in [Who::User(1000), server.runner()] {
            server
                .ask(&who, "POST", path, review.clone())
                .await
                .refused(403, "Forbidden");
        }
    }
    let elsewhere = LOCAL.replace("default", "elsewhere");
    server
        .post(&elsewhere, review.clone())
        .await
        .refused(422, "Invalid");
    server
        .post(
            SUBJECT,
            json!({"spec": {"resourceAttributes": on("get", "runners", "")}}),
        )
        .await
        .refused(422, "Invalid");
}

#[tokio::test]
async fn tokens_and_callers_are_named() {
    let server = Server::start().await;
    let known = server
        .post(TOKENS, json!({"spec": {"token": server.runner_token}}))
        .await
        .ok();
    assert_eq!(known["status"]["authenticated"], true);
    assert_eq!(known["status"]["user"]["username"], "system:runner:r1");
    let unknown = server
        .post(TOKENS, json!({"spec": {"token": "guess"}}))
        .await
        .ok();
    assert_eq!(unknown["status"]["authenticated"], false);
    let me = server
        .ask(&Who::User(1000), "POST", MYSELF, json!({}))
        .await
        .ok();
    assert_eq!(me["status"]["userInfo"]["username"], "local:1000");
    assert_eq!(
        (&me["kind"], &me["apiVersion"]),
        (
            &json!("SelfSubjectReview"),
            &json!("authentication.k8s.io/v1")
        )
    );
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let (resource, path) = (
        on("get", "runners", ""),
        json!({"verb": "get", "path": "/"}),
    );
    for spec in [
        json!({}),
        json!({"resourceAttributes": resource, "nonResourceAttributes": path}),
    ] {
        let answer = server.post(ACCESS, json!({"spec": spec})).await;
        assert!(answer.refused(422, "Invalid").contains("exactly one"));
    }
    for body in [
        json!([]),
        json!({"spec": {"resourceAttributes": 5}}),
        json!({"kind": "Lease"}),
    ] {
        server.post(ACCESS, body).await.refused(400, "BadRequest");
    }
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let answer = server.ask(&Who::Admin, method, ACCESS, json!({})).await;
        assert_eq!(answer.headers["allow"], "POST");
        answer.refused(405, "MethodNotAllowed");
    }
    for path in [
        format!("{ACCESS}/one"),
        ACCESS.replace("v1/", "v1/namespaces/default/"),
        LOCAL.replace("namespaces/default/", ""),
    ] {
        server.post(&path, json!({})).await.refused(404, "NotFound");
    }
}
