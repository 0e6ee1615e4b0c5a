//! What a caller could do: the answers to `kubectl auth can-i`, one by one or as a list.
//!
//! Told from the grants that decide, so that telling and deciding cannot part; where a grant
//! depends on an object that is not known yet, it is told with its limit.

use super::{Attributes, Decision, class, granted, grants, refusal};
use crate::identity::Caller;
use crate::kinds::{Kinds, When};
use crate::reviews::REVIEWS;

/// How it would be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreseen {
    pub(crate) allowed: bool,
    /// Why not, or with which limit.
    pub(crate) reason: String,
}

/// Verbs on resources of a group, all names where there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourceRule {
    pub(crate) verbs: Vec<String>,
    pub(crate) group: String,
    /// With the subresource behind a slash.
    pub(crate) resource: String,
    pub(crate) names: Vec<String>,
}

/// All that a caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) resources: Vec<ResourceRule>,
    /// Patterns of paths that may be read.
    pub(crate) paths: Vec<String>,
    /// Verbs on these paths.
    pub(crate) path_verbs: Vec<String>,
    /// What else must hold, when something must.
    pub(crate) limits: String,
}

/// Paths that everybody may read who is somebody; `*` at an end is whatever follows.
const PATHS: [&str; 15] = [
    "/",
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/healthz/*",
    "/livez",
    "/livez/*",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/readyz/*",
    "/version",
    "/version/*",
];
const PATH_VERBS: [&str; 2] = ["get", "head"];

const OWN: &str = "only of the caller's own";

pub(super) fn foresee(a: &Attributes<'_>) -> Foreseen {
    let allowed = |reason: &str| Foreseen {
        allowed: true,
        reason: reason.to_owned(),
    };
    if a.caller.is_admin() {
        return allowed("an administrator may do everything");
    }
    if granted(a) {
        return allowed("");
    }
    // Of an object that is named it is known whether it exists and whose it is.
    let unknown = a.name.is_empty() && a.object.is_none();
    let limited = |when: When| unknown && matches!(when, When::Own | When::OwnOrAbsent);
    if grants(a).any(limited) {
        return allowed(OWN);
    }
    Foreseen {
        allowed: false,
        reason: refusal(a),
    }
}

pub(super) fn authorize_path(caller: &Caller, verb: &str, path: &str) -> Decision {
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => path == *pattern,
    };
    let read = PATH_VERBS.contains(&verb) && PATHS.iter().any(fits);
    let somebody = class(caller).is_some();
    if caller.is_admin() || (somebody && read) {
        return Decision::Allow;
    }
    Decision::Deny(format!("{} may not {verb} path {path:?}", caller.user))
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(super) fn known(kinds: &Kinds, caller: &Caller, namespace: &str) -> Known {
    if caller.is_admin() {
        let rule = ResourceRule {
            verbs: texts(&["*"]),
            group: "*".to_owned(),
            resource: "*".to_owned(),
            names: Vec::new(),
        };
        return Known {
            resources: vec![rule],
            paths: texts(&["*"]),
            path_verbs: texts(&["*"]),
            limits: String::new(),
        };
    }
    let (mut resources, mut limits) = (Vec::new(), Vec::new());
    for review in REVIEWS.iter().filter(|review| review.open) {
        resources.push(ResourceRule {
            verbs: texts(&["create"]),
            group: review.group.to_owned(),
            resource: review.plural.to_owned(),
            names: Vec::new(),
        });
    }
    let class = class(caller);
    for kind in kinds.iter() {
        for grant in kind
            .access()
            .iter()
            .filter(|grant| Some(grant.who) == class)
        {
            let runner = || {
                caller
                    .runner_name()
                    .map(str::to_owned)
                    .into_iter()
                    .collect()
            };
            let names: Vec<String> = match grant.when {
                When::In(place) | When::NamedIn(place) if place != namespace => continue,
                When::Named | When::NamedIn(_) => runner(),
                When::Always | When::In(_) | When::Own | When::OwnOrAbsent | When::Selected => {
                    Vec::new()
                }
            };
            let resource = if grant.subresource.is_empty() {
                kind.plural.clone()
            } else {
                format!("{}/{}", kind.plural, grant.subresource)
            };
            let limit = match grant.when {
                When::Own | When::OwnOrAbsent => OWN,
                When::Selected => "only selected by the field spec.runnerName",
                _ => "",
            };
            if !limit.is_empty() {
                let verbs = grant.verbs.join(", ");
                limits.push(format!("{verbs} of {resource}: {limit}"));
            }
            resources.push(ResourceRule {
                verbs: texts(grant.verbs),
                group: kind.group.clone(),
                resource,
                names,
            });
        }
    }
    Known {
        resources,
        paths: if class.is_some() {
            texts(&PATHS)
        } else {
            Vec::new()
        },
        path_verbs: texts(&PATH_VERBS),
        limits: limits.join("; "),
    }
}

#[cfg(test)]
mod tests {
    //! Telling and deciding compared.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::{Authorizer, Rules};
    use super::*;
    use crate::discovery::VERBS;
    use boatyard_api::DEFAULT_NAMESPACE;
    use boatyard_api::words::NAMESPACE_RUNNERS;

    fn covers(rule: &ResourceRule, verb: &str, group: &str, resource: &str, name: &str) -> bool {
        let any = |known: &str, asked: &str| known == "*" || known == asked;
        rule.verbs.iter().any(|known| any(known, verb))
            && any(&rule.group, group)
            && any(&rule.resource, resource)
            && (rule.names.is_empty() || rule.names.iter().any(|known| known == name))
    }

    #[test]
    fn what_is_listed_is_what_is_decided_for_every_kind_verb_and_caller() {
        let kinds = Kinds::default();
        let nobody = Caller::named("somebody@example.com", &[]);
        let runner = Caller::named("system:runner:r1", &["system:runners".to_owned()]);
        let callers = [
            Caller::local(0, 0),
            Caller::local(1000, 1000),
            runner,
            nobody,
        ];
        let subresources = ["", "status", "connect", "log", "tunnel", "token", "scale"];
        let mut allowed = 0;
        for caller in &callers {
            for namespace in ["", DEFAULT_NAMESPACE, NAMESPACE_RUNNERS, "elsewhere"] {
                let known = Rules.known(&kinds, caller, namespace);
                for (kind, verb) in kinds
                    .iter()
                    .flat_map(|kind| VERBS.iter().map(move |verb| (kind, verb)))
                {
                    for (subresource, name) in subresources
                        .iter()
                        .flat_map(|one| [(one, ""), (one, "r1"), (one, "r2")])
                    {
                        let attributes = Attributes {
                            caller,
                            verb,
                            kind,
                            subresource,
                            namespace,
                            name,
                            object: None,
                            selected_runner: caller.runner_name(),
                        };
                        let resource = if subresource.is_empty() {
                            kind.plural.clone()
                        } else {
                            format!("{}/{subresource}", kind.plural)
                        };
                        let listed = known
                            .resources
                            .iter()
                            .any(|rule| covers(rule, verb, &kind.group, &resource, name));
                        let foreseen = Rules.foresee(&attributes).allowed;
                        let decided = Rules.authorize(&attributes) == Decision::Allow;
                        let case = format!(
                            "{} {verb} {resource} {name:?} in {namespace:?}",
                            caller.user
                        );
                        // Of a name that nothing stands at, nothing is the caller's own.
                        let own = grants(&attributes).all(|when| when == When::Own);
                        if name.is_empty() || !own {
                            assert_eq!(foreseen, listed, "{case}");
                        }
                        assert!(foreseen || !decided, "{case}");
                        allowed += u32::from(foreseen);
                    }
                }
            }
        }
        assert!(allowed > 100, "{allowed}");
    }

    #[test]
    fn paths_are_told_as_they_are_decided() {
        let user = Caller::local(1000, 1000);
        let root = Caller::local(0, 0);
        let allows = |caller: &Caller, path: &str| {
            Rules.authorize_path(caller, "get", path) == Decision::Allow
        };
        for path in PATHS.map(|path| path.replace('*', "x")) {
            assert!(allows(&user, &path) && allows(&root, &path), "{path}");
        }
        for path in ["/metrics", "/metrics/x", "/apisx", "/x", "", "*"] {
            assert!(!allows(&user, path) && allows(&root, path), "{path}");
        }
        assert_ne!(Rules.authorize_path(&user, "post", "/api"), Decision::Allow);
        assert_ne!(
            Rules.authorize_path(&Caller::named("x", &[]), "get", "/api"),
            Decision::Allow
        );
    }
}
