//! What the server itself decides of an object, from who is asking.
//!
//! The owner of an environment is its authenticated creator and never changes; host folders are
//! for callers who come through this host's unix socket, since they are opened with the caller's
//! own credentials; only administrators bind an environment to a runner.

use crate::authorize::ANNOTATION_OWNER;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::Kind;
use boatyard_api::words::FINALIZER_RUNNER;
use serde_json::{Value, json};

fn is_environment(kind: &Kind) -> bool {
    kind.group == boatyard_api::GROUP && kind.plural == "environments"
}

/// On creation.
pub(crate) fn create(caller: &Caller, kind: &Kind, object: &mut Value) -> Result<(), Failure> {
    if !is_environment(kind) {
        return Ok(());
    }
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
        return Err(Failure::forbidden(
            "only administrators choose the runner; leave spec.runnerName out",
        ));
    }
    Ok(())
}

/// Says on an event whose it is: the owner's of the environment it speaks of, read in `found`. A
/// runner speaks only of itself and of environments bound to it.
pub(crate) fn event(
    caller: &Caller,
    event: &mut Value,
    found: Option<&Value>,
) -> Result<(), Failure> {
    let about = event["involvedObject"].clone();
    let environment = found.filter(|found| found["metadata"]["uid"] == about["uid"]);
    if let Some(runner) = caller.runner_name() {
        let own = match (about["kind"].as_str(), environment) {
            (Some("Environment"), Some(environment)) => environment["spec"]["runnerName"] == runner,
            // Gone meanwhile; only administrators will see it.
            (Some("Environment"), None) => true,
            (Some("Runner"), _) => about["name"] == runner,
            _ => false,
        };
        if !own {
            return Err(Failure::forbidden(format!(
                "{} may not write events about others",
                caller.user
            )));
        }
    }
    let owner = environment.and_then(|environment| environment["spec"]["owner"]["uid"].as_u64());
    if let Some(annotations) = event["metadata"]["annotations"].as_object_mut() {
        annotations.remove(ANNOTATION_OWNER);
    }
    if let Some(owner) = owner {
        event["metadata"]["annotations"][ANNOTATION_OWNER] = json!(owner.to_string());
    }
    Ok(())
}

/// On every later write.
pub(crate) fn update(
    caller: &Caller,
    kind: &Kind,
    object: &mut Value,
    old: &Value,
) -> Result<(), Failure> {
    if !is_environment(kind) {
        return Ok(());
    }
    object["spec"]["owner"] = old["spec"]["owner"].clone();
    if caller.runner_name().is_some() && object["spec"] != old["spec"] {
        return Err(Failure::forbidden("a runner writes status, not spec"));
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
        return Err(Failure::forbidden(
            "only administrators choose the runner; leave spec.runnerName out",
        ));
    }
    Ok(())
}
