//! Answering reviews: who may do what, in the words of the one authorizer.
//!
//! Questions about oneself are everybody's, those about others administrators'. Nothing is stored.

use super::answers::{Body, respond};
use super::{Handler, allowing};
use crate::authorize::{Attributes, Decision, Foreseen};
use crate::body;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::request::Path;
use crate::resources::Target;
use crate::reviews::{Review, VERSION};
use crate::selectors::Fields;
use boatyard_api::rules::FieldError;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::authentication::v1::TokenReviewSpec;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReviewSpec, SubjectAccessReviewSpec,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

impl Handler {
    /// Answers one.
    pub(super) async fn review(
        &self,
        caller: &Caller,
        review: &Review,
        path: &Path,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, Failure> {
        let beside = !path.name.is_empty() || !path.subresource.is_empty();
        if beside || review.namespaced == path.namespace.is_empty() {
            return Err(Failure::no_such_path(request.uri().path()));
        }
        if request.method() != Method::POST {
            return Err(allowing("POST"));
        }
        let authorizer = self.resources.authorizer();
        if let Decision::Deny(why) = authorizer.authorize_review(caller, review) {
            return Err(Failure::forbidden(why));
        }
        let (headers, body) = Self::body(request).await?;
        let mut asked = body::parse(&headers, &body)?.value;
        envelope(review, &mut asked)?;
        let status = match review.kind {
            "SelfSubjectReview" => json!({"userInfo": user(caller)}),
            "TokenReview" => {
                let spec: TokenReviewSpec = spec(review, &asked)?;
                let found = self.tokens.caller(spec.token.trim()).await;
                match found.map_err(|error| Failure::unavailable(error.to_string()))? {
                    Some(found) => json!({"authenticated": true, "user": user(&found)}),
                    None => {
                        json!({"authenticated": false, "error": "the token is not known here", "user": {}})
                    }
                }
            }
            "SelfSubjectRulesReview" => {
                let spec: SelfSubjectRulesReviewSpec = spec(review, &asked)?;
                let namespace = spec.namespace.unwrap_or_default();
                if namespace.is_empty() {
                    let message = "the namespace whose rules are asked for";
                    return Err(wrong(
                        review,
                        FieldError::required("spec.namespace", message),
                    ));
                }
                self.rules(caller, &namespace)
            }
            "SelfSubjectAccessReview" => {
                let spec: SelfSubjectAccessReviewSpec = spec(review, &asked)?;
                let about = about(
                    review,
                    spec.resource_attributes,
                    spec.non_resource_attributes,
                )?;
                told(self.access(caller, about).await?)
            }
            _ => {
                let spec: SubjectAccessReviewSpec = spec(review, &asked)?;
                let (user, groups) = (
                    spec.user.unwrap_or_default(),
                    spec.groups.unwrap_or_default(),
                );
                if user.is_empty() && groups.is_empty() {
                    let message = "at least one of user or group must be specified";
                    return Err(wrong(review, FieldError::invalid("spec.user", "", message)));
                }
                let about = about(
                    review,
                    spec.resource_attributes,
                    spec.non_resource_attributes,
                )?;
                if review.namespaced {
                    let named = match &about {
                        About::Resource(resource) => resource.namespace.as_deref(),
                        About::Path(_) => None,
                    };
                    if named != Some(&path.namespace) {
                        let message =
                            format!("must be the namespace of the request, {:?}", path.namespace);
                        let field = "spec.resourceAttributes.namespace";
                        return Err(wrong(
                            review,
                            FieldError::invalid(field, named.unwrap_or_default(), message),
                        ));
                    }
                }
                told(self.access(&Caller::named(&user, &groups), about).await?)
            }
        };
        asked["status"] = status;
        Ok(respond(StatusCode::CREATED, &asked))
    }

    async fn access(&self, caller: &Caller, about: About) -> Result<Foreseen, Failure> {
        let authorizer = self.resources.authorizer();
        let resource = match about {
            About::Resource(resource) => resource,
            About::Path(path) => {
                let (verb, path) = (path.verb.unwrap_or_default(), path.path.unwrap_or_default());
                return Ok(foreseen(authorizer.authorize_path(caller, &verb, &path)));
            }
        };
        let [group, plural, version, verb, namespace, name, subresource] = [
            &resource.group,
            &resource.resource,
            &resource.version,
            &resource.verb,
            &resource.namespace,
            &resource.name,
            &resource.subresource,
        ]
        .map(|text| text.as_deref().unwrap_or_default());
        let kinds = self.resources.kinds.clone();
        let found = kinds.iter().find(|kind| {
            kind.group == group
                && kind.plural == plural
                && (matches!(version, "" | "*") || kind.version == version)
        });
        let Some(kind) = found else {
            // Reviews are no stored kind; what is unknown is nobody's but administrators'.
            let mut reviews = crate::reviews::REVIEWS.iter();
            let review =
                reviews.find(|one| (one.group, one.plural, verb) == (group, plural, "create"));
            return Ok(
                match review.map(|review| authorizer.authorize_review(caller, review)) {
                    Some(decision) => foreseen(decision),
                    None if caller.is_admin() => foreseen(Decision::Allow),
                    None => foreseen(Decision::Deny(format!(
                        "{} may not {verb} {plural}",
                        caller.user
                    ))),
                },
            );
        };
        let target = Target {
            kind,
            namespace,
            name,
            subresource,
        };
        let object = if name.is_empty() {
            None
        } else {
            self.resources.stored(&target).await?
        };
        let selector = resource.field_selector.unwrap_or_default();
        let raw = Fields::parse(&selector.raw_selector.unwrap_or_default(), &kind.selectable)?;
        let required = selector.requirements.unwrap_or_default();
        let required = required.iter().find_map(|one| {
            match (
                one.key.as_str(),
                one.operator.as_str(),
                one.values.as_deref(),
            ) {
                ("spec.runnerName", "In", Some([only])) => Some(only.as_str()),
                _ => None,
            }
        });
        let attributes = Attributes {
            caller,
            verb,
            kind,
            subresource,
            namespace,
            name,
            object: object.as_ref(),
            selected_runner: required.or_else(|| raw.demands("spec.runnerName")),
        };
        Ok(authorizer.foresee(&attributes))
    }

    fn rules(&self, caller: &Caller, namespace: &str) -> Value {
        let kinds = &self.resources.kinds;
        let known = self.resources.authorizer().known(kinds, caller, namespace);
        let resources = known.resources.iter().map(|rule| {
            let mut told = json!({"verbs": rule.verbs, "apiGroups": [rule.group], "resources": [rule.resource]});
            if !rule.names.is_empty() {
                told["resourceNames"] = json!(rule.names);
            }
            told
        });
        let paths = match known.paths.as_slice() {
            [] => json!([]),
            paths => json!([{"verbs": known.path_verbs, "nonResourceURLs": paths}]),
        };
        let resources: Vec<Value> = resources.collect();
        let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": !known.limits.is_empty()});
        if !known.limits.is_empty() {
            status["evaluationError"] = json!(known.limits);
        }
        status
    }
}

/// What an access review is about.
enum About {
    Resource(Box<ResourceAttributes>),
    Path(NonResourceAttributes),
}

fn about(
    review: &Review,
    resource: Option<ResourceAttributes>,
    path: Option<NonResourceAttributes>,
) -> Result<About, Failure> {
    match (resource, path) {
        (Some(resource), None) => Ok(About::Resource(Box::new(resource))),
        (None, Some(path)) if !review.namespaced => Ok(About::Path(path)),
        _ => {
            let message =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(wrong(
                review,
                FieldError::invalid("spec.resourceAttributes", "", message),
            ))
        }
    }
}

fn wrong(review: &Review, error: FieldError) -> Failure {
    Failure::invalid(review.kind, review.group, "", &[error])
}

/// Completes the kind, which must be the path's.
fn envelope(review: &Review, asked: &mut Value) -> Result<(), Failure> {
    if !asked.is_object() {
        return Err(Failure::bad_request("the body is not an object"));
    }
    let version = format!("{}/{VERSION}", review.group);
    for (member, wanted) in [("apiVersion", version.as_str()), ("kind", review.kind)] {
        let found = &asked[member];
        if !found.is_null() && found != wanted {
            return Err(Failure::bad_request(format!(
                "the object's {member} is {found}, but this path is for {wanted}"
            )));
        }
        asked[member] = json!(wanted);
    }
    if !asked["metadata"].is_object() {
        asked["metadata"] = json!({});
    }
    Ok(())
}

fn spec<T: DeserializeOwned>(review: &Review, asked: &Value) -> Result<T, Failure> {
    let spec = match &asked["spec"] {
        Value::Null => json!({}),
        spec => spec.clone(),
    };
    serde_json::from_value(spec).map_err(|error| {
        Failure::bad_request(format!("the body is no {}: spec: {error}", review.kind))
    })
}

fn user(caller: &Caller) -> Value {
    json!({"username": caller.user, "groups": caller.groups})
}

fn foreseen(decision: Decision) -> Foreseen {
    match decision {
        Decision::Allow => Foreseen {
            allowed: true,
            reason: String::new(),
        },
        Decision::Deny(reason) => Foreseen {
            allowed: false,
            reason,
        },
    }
}

fn told(foreseen: Foreseen) -> Value {
    let mut status = json!({"allowed": foreseen.allowed});
    if !foreseen.reason.is_empty() {
        status["reason"] = json!(foreseen.reason);
    }
    status
}
