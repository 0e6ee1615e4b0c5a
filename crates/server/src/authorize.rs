//! Who may do what: one trait, and the built-in rules behind it.
//!
//! Administrators may do everything; a local user what concerns environments of the user's own; a
//! runner what concerns itself and the environments bound to it, as Kubernetes's node authorizer
//! has it. The object is part of the question where there is one, so that ownership can decide.

use crate::identity::Caller;
use boatyard_api::words::NAMESPACE_RUNNERS;
use serde_json::Value;

/// Annotation of events about environments: the host user id of the environment's owner.
pub(crate) const ANNOTATION_OWNER: &str = "boatyard.dev/owner-uid";

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) caller: &'a Caller,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// The stored object, where the verb is about one and it exists.
    pub(crate) object: Option<&'a Value>,
    /// `spec.runnerName` that a list's or watch's selector demands.
    pub(crate) selected_runner: Option<&'a str>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    /// With the reason, for the caller.
    Deny(String),
}

/// Decides.
pub(crate) trait Authorizer: Send + Sync + 'static {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// The built-in rules.
#[derive(Debug, Default)]
pub(crate) struct Rules;

impl Authorizer for Rules {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let allowed = if attributes.caller.is_admin() {
            true
        } else if let Some(runner) = attributes.caller.runner_name() {
            runner_may(runner, attributes)
        } else if let Some((uid, _)) = attributes.caller.local {
            local_may(uid, attributes)
        } else {
            false
        };
        if allowed {
            return Decision::Allow;
        }
        let Attributes {
            caller,
            verb,
            plural,
            subresource,
            namespace,
            name,
            ..
        } = attributes;
        let what = if subresource.is_empty() {
            (*plural).to_owned()
        } else {
            format!("{plural}/{subresource}")
        };
        let place = if namespace.is_empty() {
            String::new()
        } else {
            format!(" in the namespace {namespace:?}")
        };
        let whom = if name.is_empty() {
            String::new()
        } else {
            format!(" {name:?}")
        };
        Decision::Deny(format!(
            "{} may not {verb} {what}{whom}{place}",
            caller.user
        ))
    }
}

fn reads(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

fn runner_may(runner: &str, a: &Attributes<'_>) -> bool {
    let bound = || {
        a.object
            .is_some_and(|object| object["spec"]["runnerName"] == runner)
    };
    match (a.group, a.plural, a.subresource) {
        ("boatyard.dev", "runners", "" | "status") => {
            a.name == runner && matches!(a.verb, "get" | "create" | "update" | "patch" | "watch")
        }
        ("boatyard.dev", "runners", "tunnel") => a.name == runner,
        ("coordination.k8s.io", "leases", "") => {
            a.namespace == NAMESPACE_RUNNERS
                && a.name == runner
                && matches!(a.verb, "get" | "create" | "update" | "patch")
        }
        ("boatyard.dev", "environments", "") if matches!(a.verb, "list" | "watch") => {
            a.selected_runner == Some(runner)
        }
        // A get of what does not exist tells nothing; whose it is decides otherwise.
        ("boatyard.dev", "environments", "") => {
            matches!(a.verb, "get" | "patch" | "update")
                && (bound() || (a.verb == "get" && a.object.is_none()))
        }
        ("boatyard.dev", "environments", "status") => {
            matches!(a.verb, "get" | "patch" | "update") && bound()
        }
        ("boatyard.dev", "environmentclasses", "") => reads(a.verb),
        ("", "events", "") => a.verb == "create",
        _ => false,
    }
}

fn local_may(uid: u32, a: &Attributes<'_>) -> bool {
    let own = || {
        a.object
            .is_some_and(|object| object["spec"]["owner"]["uid"] == uid)
    };
    match (a.group, a.plural, a.subresource) {
        ("boatyard.dev", "environments", "") => match a.verb {
            "create" => a.namespace == boatyard_api::DEFAULT_NAMESPACE,
            "list" | "watch" => true,
            "deletecollection" => false,
            _ => a.object.is_none() || own(),
        },
        ("boatyard.dev", "environments", "connect" | "log") => own(),
        ("boatyard.dev", "environmentclasses" | "runners", "") | ("", "namespaces", "") => {
            reads(a.verb)
        }
        ("", "events", "") => reads(a.verb) && a.object.is_none_or(|event| concerns(uid, event)),
        _ => false,
    }
}

/// Whether an event is about an environment of a local user, or about none.
fn concerns(uid: u32, event: &Value) -> bool {
    event["involvedObject"]["kind"] != "Environment"
        || event["metadata"]["annotations"][ANNOTATION_OWNER] == uid.to_string().as_str()
}

/// Whether a caller may see an object in a list or watch: local users see environments of their
/// own, and events about them.
pub(crate) fn may_see(caller: &Caller, group: &str, plural: &str, object: &Value) -> bool {
    let about = match (group, plural) {
        ("boatyard.dev", "environments") => &object["spec"],
        ("", "events") => object,
        _ => return true,
    };
    if caller.is_admin() {
        return true;
    }
    match (caller.runner_name(), caller.local) {
        (Some(runner), _) => about["runnerName"] == runner,
        (None, Some((uid, _))) if plural == "events" => concerns(uid, object),
        (None, Some((uid, _))) => about["owner"]["uid"] == uid,
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests;
