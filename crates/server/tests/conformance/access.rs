//! Who may do what: every kind, every verb, every class of callers, as the kind's grants say.

use crate::harness::{Answer, Server, Who};
use crate::subject::{Subject, every};
use boatyard_server::kinds::{Grant, When, Who as Class};
use serde_json::{Value, json};

/// Sends the request that a verb stands for. Nothing is changed by it.
async fn send(
    server: &Server,
    subject: &Subject<'_>,
    who: &Who,
    verb: &str,
    status: bool,
) -> Answer {
    let one = if status {
        subject.status_at("others")
    } else {
        subject.at("others")
    };
    let (method, path, body) = match verb {
        "get" => ("GET", one, Value::Null),
        "list" => ("GET", subject.all.clone(), Value::Null),
        "watch" => (
            "GET",
            format!("{}?watch=true&timeoutSeconds=1", subject.all),
            Value::Null,
        ),
        "create" => (
            "POST",
            format!("{}?dryRun=All", subject.all),
            subject.first("another"),
        ),
        "update" => ("PUT", format!("{one}?dryRun=All"), subject.first("others")),
        "patch" => (
            "PATCH",
            format!("{one}?dryRun=All"),
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        "delete" => ("DELETE", format!("{one}?dryRun=All"), Value::Null),
        _ => ("DELETE", format!("{}?dryRun=All", subject.all), Value::Null),
    };
    server.ask(who, method, &path, body).await
}

/// Whether a grant holds for an object in the default namespace that is none of the caller's. Verbs
/// of collections are about no object: what is in them is thinned.
fn holds(grant: &Grant, verb: &str) -> bool {
    match grant.when {
        When::Always => true,
        When::OwnOrAbsent if ["list", "watch", "create"].contains(&verb) => true,
        When::In(namespace) => namespace == "default",
        When::Own | When::OwnOrAbsent | When::Named | When::NamedIn(_) | When::Selected => false,
    }
}

#[tokio::test]
async fn everybody_may_what_the_kind_grants_and_nothing_else() {
    every(async |server, subject| {
        subject.create(server, "others").await;
        let nobody = Who::Tls(None);
        let forged = Who::Tls(Some("Bearer nonsense".to_owned()));
        let callers = [
            (Who::User(1000), Class::Local),
            (server.runner(), Class::Runner),
        ];
        for status in [false, true] {
            let subresource = if status { "status" } else { "" };
            let verbs = subject.kind.verbs().iter().copied();
            let verbs = verbs.filter(|verb| !status || ["get", "update", "patch"].contains(verb));
            for verb in verbs.filter(|_| !status || subject.kind.has_status) {
                for who in [&nobody, &forged] {
                    let answer = send(server, subject, who, verb, status).await;
                    subject.refused(answer, 401, "Unauthorized");
                }
                let admin = send(server, subject, &Who::Admin, verb, status).await;
                assert!(
                    admin.status.is_success(),
                    "{} {verb}: {admin:?}",
                    subject.name()
                );
                for (who, class) in &callers {
                    let mut grants = subject.kind.access().iter().filter(|grant| {
                        grant.who == *class
                            && grant.subresource == subresource
                            && grant.verbs.contains(&verb)
                    });
                    let granted = grants.any(|grant| holds(grant, verb));
                    let answer = send(server, subject, who, verb, status).await;
                    let message = answer.json["message"].as_str().unwrap_or_default();
                    let denied = answer.status == 403
                        && message.contains(&format!(" may not {verb} {}", subject.name()));
                    let about = format!(
                        "{class:?} {verb} {}/{subresource}: {answer:?}",
                        subject.name()
                    );
                    // A list that may be had only as selected, and objects of others.
                    assert_eq!(denied, !granted, "{about}");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn reviews_answer_as_requests_do() {
    every(async |server, subject| {
        for who in [Who::User(1000), server.runner(), Who::Admin] {
            for verb in ["list", "watch"] {
                let review = json!({"spec": {"resourceAttributes": {"group": subject.kind.group, "version": "v1",
                    "resource": subject.kind.plural, "verb": verb, "namespace": if subject.kind.namespaced { "default" } else { "" }}}});
                let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
                let answer = server.ask(&who, "POST", path, review).await.ok();
                let done = send(server, subject, &who, verb, false).await;
                let allowed = done.status != 403;
                assert_eq!(answer["status"]["allowed"], allowed, "{who:?} {verb} {}", subject.name());
            }
        }
    })
    .await;
}
