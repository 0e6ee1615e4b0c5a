//! What the server itself decides of an object, from who is asking.
//!
//! The owner of an environment is its authenticated creator and never changes; host folders are
//! for callers who come through this host's unix socket, since they are opened with the caller's
//! own credentials; only administrators bind an environment to a runner.

use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::Kind;
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
