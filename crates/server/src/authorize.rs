//! Who may do what: one trait, and the built-in rules behind it.
//!
//! Administrators may do everything; others what the kind grants their class of callers: a local
//! user what concerns environments of the user's own; a runner what concerns itself and the
//! environments bound to it, as Kubernetes's node authorizer has it. The object is part of the
//! question where there is one, so that ownership can decide.
//!
//! Read next: `kinds::behaviour`, where grants are, and the kinds' own files; `foresight`, which
//! tells from the same grants what a caller could do.

mod foresight;

pub(crate) use foresight::{Foreseen, Known};

use crate::identity::Caller;
use crate::kinds::{Kind, Kinds, When, Who};
use crate::reviews::Review;
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

/// Decides, and tells beforehand how it would.
pub(crate) trait Authorizer: Send + Sync + 'static {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// How it would decide of some object that is not known yet, and with which limit.
    fn foresee(&self, attributes: &Attributes<'_>) -> Foreseen;

    /// Whether a caller may have a path that is no resource, such as `/metrics`.
    fn authorize_path(&self, caller: &Caller, verb: &str, path: &str) -> Decision;

    /// Whether a caller may ask such a question.
    fn authorize_review(&self, caller: &Caller, review: &Review) -> Decision;

    /// All that a caller may do in a namespace.
    fn known(&self, kinds: &Kinds, caller: &Caller, namespace: &str) -> Known;
}

/// The built-in rules.
#[derive(Debug, Default)]
pub(crate) struct Rules;

impl Authorizer for Rules {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.caller.is_admin() || granted(attributes) {
            return Decision::Allow;
        }
        Decision::Deny(refusal(attributes))
    }

    fn foresee(&self, attributes: &Attributes<'_>) -> Foreseen {
        foresight::foresee(attributes)
    }

    fn authorize_path(&self, caller: &Caller, verb: &str, path: &str) -> Decision {
        foresight::authorize_path(caller, verb, path)
    }

    fn authorize_review(&self, caller: &Caller, review: &Review) -> Decision {
        if review.open || caller.is_admin() {
            return Decision::Allow;
        }
        Decision::Deny(format!("{} may not create {}", caller.user, review.plural))
    }

    fn known(&self, kinds: &Kinds, caller: &Caller, namespace: &str) -> Known {
        foresight::known(kinds, caller, namespace)
    }
}

fn refusal(attributes: &Attributes<'_>) -> String {
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
    format!("{} may not {verb} {what}{whom}{place}", caller.user)
}

/// The class a caller is of; a runner on this host is that runner and no user.
fn class(caller: &Caller) -> Option<Who> {
    if caller.runner_name().is_some() {
        Some(Who::Runner)
    } else {
        caller.local.map(|_| Who::Local)
    }
}

/// What is granted to the caller's class of this verb, each under its own condition.
fn grants(a: &Attributes<'_>) -> impl Iterator<Item = When> {
    let (class, subresource, verb) = (class(a.caller), a.subresource, a.verb);
    let of = a.kind.access().iter().filter(move |grant| {
        Some(grant.who) == class && grant.subresource == subresource && grant.verbs.contains(&verb)
    });
    of.map(|grant| grant.when)
}

fn granted(a: &Attributes<'_>) -> bool {
    grants(a).any(|when| holds(when, a))
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
