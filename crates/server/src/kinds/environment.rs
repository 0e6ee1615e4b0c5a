//! Environments: whose they are, and what the server says of them on the way in.
//!
//! The owner of an environment is its authenticated creator and never changes; host folders are
//! for callers who come through this host's unix socket, since they are opened with the caller's
//! own credentials; only administrators bind an environment to a runner. What an environment leaves
//! out and its project says is the project's, once, at creation.

use super::behaviour::{Admission, Behaviour, Grant, When};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::outlook::Outlook;
use boatyard_api::DEFAULT_NAMESPACE;
use boatyard_api::rules::{FieldError, Reason};
use boatyard_api::words::{FINALIZER_RUNNER, condition};
use boatyard_store::Key;
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(Debug)]
pub(crate) struct Environments;

const ACCESS: &[Grant] = &[
    Grant::local("", &["create"], When::In(DEFAULT_NAMESPACE)),
    Grant::local("", &["list", "watch"], When::Always),
    Grant::local("", &["get", "update", "patch", "delete"], When::OwnOrAbsent),
    Grant::local("finalizers", &["update"], When::Own),
    Grant::local("connect", &["create"], When::Own),
    Grant::local("log", &["create"], When::Own),
    Grant::local("lifecycle", &["create"], When::Own),
    Grant::local("usage", &["create"], When::Own),
    Grant::runner("", &["list", "watch"], When::Selected),
    Grant::runner("", &["get"], When::OwnOrAbsent),
    Grant::runner("", &["patch", "update"], When::Own),
    Grant::runner("status", &["get", "patch", "update"], When::Own),
];

impl Behaviour for Environments {
    fn access(&self) -> &'static [Grant] {
        ACCESS
    }

    fn concerns(&self, caller: &Caller, object: &Value) -> bool {
        match (caller.runner_name(), caller.local) {
            (Some(runner), _) => object["spec"]["runnerName"] == runner,
            (None, Some((uid, _))) => object["spec"]["owner"]["uid"] == uid,
            (None, None) => false,
        }
    }

    fn shows(&self, caller: &Caller, object: &Value) -> bool {
        self.concerns(caller, object)
    }

    fn shows_by(&self) -> &'static [&'static str] {
        &["spec.owner", "spec.runnerName"]
    }

    fn names_are_labels(&self) -> bool {
        true
    }

    fn looks_at(&self, object: &Value) -> Option<Key> {
        let project = object["spec"]["projectName"].as_str()?;
        let namespace = object["metadata"]["namespace"].as_str();
        Some(Key {
            resource: "projects.boatyard.dev".to_owned(),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: project.to_owned(),
        })
    }

    fn first_status(&self, object: &Value, outlook: &Outlook, now: Timestamp) -> Option<Value> {
        if !object["spec"]["runnerName"].is_null() {
            return None;
        }
        Some(waiting(object, NO_RUNNER, outlook.why_not()?, now))
    }

    fn admit(&self, admission: &mut Admission<'_>) -> Result<(), Failure> {
        match admission.old {
            None => {
                from_project(admission.object, admission.seen)?;
                create(admission.caller, admission.object)
            }
            Some(old) => update(admission.caller, admission.object, old),
        }
    }
}

/// Why an environment waits that no runner can be chosen for.
pub(crate) const NO_RUNNER: &str = "NoRunner";

/// The status of an environment that waits to be placed, and why it does.
pub(crate) fn waiting(environment: &Value, reason: &str, why: &str, now: Timestamp) -> Value {
    let conditions = environment["status"]["conditions"].as_array();
    let mut conditions: Vec<Value> = conditions.cloned().unwrap_or_default();
    let since = conditions
        .iter()
        .find(|known| known["type"] == condition::SCHEDULED && known["status"] == "False");
    let since = since.map_or_else(
        || crate::objects::stamp(now),
        |known| known["lastTransitionTime"].clone(),
    );
    conditions.retain(|known| known["type"] != condition::SCHEDULED);
    conditions.push(json!({"type": condition::SCHEDULED, "status": "False", "reason": reason, "message": why, "lastTransitionTime": since}));
    json!({"phase": "Pending", "message": why, "conditions": conditions})
}

const RUNNER_IS_CHOSEN: &str = "only administrators choose the runner; leave spec.runnerName out";

/// Fills in what the environment leaves out and its project says.
fn from_project(object: &mut Value, project: Option<&Value>) -> Result<(), Failure> {
    let Some(wanted) = object["spec"]["projectName"].as_str() else {
        return Ok(());
    };
    let Some(project) = project else {
        let place = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let why = format!(
            "there is no such project in the namespace {place}; make it first, or leave the field out"
        );
        let error = FieldError::because("spec.projectName", Reason::NotFound, wanted, why);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Failure::invalid(
            "Environment",
            boatyard_api::GROUP,
            name,
            &[error],
        ));
    };
    let spec = &mut object["spec"];
    if spec["source"]["folder"].is_null() && spec["source"]["git"].is_null() {
        spec["source"] = project["spec"]["source"].clone();
    }
    if spec["className"].is_null() && !project["spec"]["className"].is_null() {
        spec["className"] = project["spec"]["className"].clone();
    }
    let path = &project["spec"]["devcontainer"]["path"];
    let own = &spec["devcontainer"];
    let other = ["path", "image", "content"];
    if other.iter().all(|field| own[*field].is_null()) && !path.is_null() {
        spec["devcontainer"]["path"] = path.clone();
    }
    Ok(())
}

fn create(caller: &Caller, object: &mut Value) -> Result<(), Failure> {
    let mut owner = json!({"user": caller.user});
    if let Some((uid, gid)) = caller.local {
        owner["uid"] = json!(uid);
        owner["gid"] = json!(gid);
    }
    object["spec"]["owner"] = owner;
    if !object["spec"]["source"]["folder"].is_null() && caller.local.is_none() {
        return Err(Failure::forbidden(
            "a folder of the host can be opened only through the host's unix socket; use a git source, or run boatyard on that host",
        ));
    }
    if !object["spec"]["runnerName"].is_null() && !caller.is_admin() {
        return Err(Failure::forbidden(RUNNER_IS_CHOSEN));
    }
    Ok(())
}

fn update(caller: &Caller, object: &mut Value, old: &Value) -> Result<(), Failure> {
    object["spec"]["owner"] = old["spec"]["owner"].clone();
    if caller.runner_name().is_some() && object["spec"] != old["spec"] {
        return Err(Failure::forbidden("a runner writes status, not spec"));
    }
    // What refers to an owner that is not there is deleted by the server, which a runner may not.
    let owners = |object: &Value| object["metadata"]["ownerReferences"].clone();
    if caller.runner_name().is_some() && owners(object) != owners(old) {
        return Err(Failure::forbidden(
            "a runner does not say whose an environment is",
        ));
    }
    let held = |object: &Value| {
        let finalizers = object["metadata"]["finalizers"].as_array();
        finalizers.is_some_and(|list| list.iter().any(|one| one == FINALIZER_RUNNER))
    };
    if caller.runner_name().is_none() && !caller.is_admin() && held(old) && !held(object) {
        return Err(Failure::forbidden(format!(
            "only the runner removes the finalizer {FINALIZER_RUNNER}, once nothing of the environment is left"
        )));
    }
    if old["spec"]["runnerName"].is_null()
        && !object["spec"]["runnerName"].is_null()
        && !caller.is_admin()
    {
        return Err(Failure::forbidden(RUNNER_IS_CHOSEN));
    }
    Ok(())
}
