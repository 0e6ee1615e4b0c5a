//! Who may do what: one trait, and the built-in rules behind it.
//!
//! Administrators may do everything; others what the kind grants their class of callers: a local
//! user what concerns environments of the user's own; a runner what concerns itself and the
//! environments bound to it, as Kubernetes's node authorizer has it. The object is part of the
//! question where there is one, so that ownership can decide.
//!
//! Read next: `kinds::behaviour`, where grants are, and the kinds' own files.

use crate::identity::Caller;
use crate::kinds::{Kind, When, Who};
use serde_json::Value;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) caller: &'a Caller,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub(crate) verb: &'a str,
    pub(crate) kind: &'a Kind,
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
        if attributes.caller.is_admin() || granted(attributes) {
            return Decision::Allow;
        }
        let Attributes {
            caller,
            verb,
            kind,
            subresource,
            namespace,
            name,
            ..
        } = attributes;
        let what = if subresource.is_empty() {
            kind.plural.clone()
        } else {
            format!("{}/{subresource}", kind.plural)
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

/// The class a caller is of; a runner on this host is that runner and no user.
fn class(caller: &Caller) -> Option<Who> {
    if caller.runner_name().is_some() {
        Some(Who::Runner)
    } else {
        caller.local.map(|_| Who::Local)
    }
}

fn granted(a: &Attributes<'_>) -> bool {
    let class = class(a.caller);
    a.kind
        .access()
        .iter()
        .filter(|grant| {
            Some(grant.who) == class
                && grant.subresource == a.subresource
                && grant.verbs.contains(&a.verb)
        })
        .any(|grant| holds(grant.when, a))
}

fn holds(when: When, a: &Attributes<'_>) -> bool {
    let own = |object| a.kind.behaviour.concerns(a.caller, object);
    let named = || a.caller.runner_name() == Some(a.name);
    match when {
        When::Always => true,
        When::Own => a.object.is_some_and(own),
        When::OwnOrAbsent => a.object.is_none_or(own),
        When::In(namespace) => a.namespace == namespace,
        When::Named => named(),
        When::NamedIn(namespace) => a.namespace == namespace && named(),
        When::Selected => {
            a.selected_runner.is_some() && a.selected_runner == a.caller.runner_name()
        }
    }
}

/// Whether a caller may see an object in a list or watch: local users see environments of their
/// own, and events about them.
pub(crate) fn may_see(caller: &Caller, kind: &Kind, object: &Value) -> bool {
    caller.is_admin() || kind.behaviour.shows(caller, object)
}

#[cfg(test)]
mod tests;
