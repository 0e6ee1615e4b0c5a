//! Events: whose they are, which is whose environment they speak of.

use super::behaviour::{Admission, Behaviour, Grant, READS, When};
use crate::failure::Failure;
use crate::identity::Caller;
use boatyard_store::Key;
use serde_json::{Value, json};

/// Annotation of events about environments: the host user id of the environment's owner.
const ANNOTATION_OWNER: &str = "boatyard.dev/owner-uid";

const ACCESS: &[Grant] = &[
    Grant::local("", READS, When::OwnOrAbsent),
    Grant::runner("", &["create"], When::Always),
];

#[derive(Debug)]
pub(crate) struct Events;

impl Behaviour for Events {
    fn access(&self) -> &'static [Grant] {
        ACCESS
    }

    /// Whether an event is about an environment of a local user, or about none.
    fn concerns(&self, caller: &Caller, event: &Value) -> bool {
        caller.local.is_some_and(|(uid, _)| {
            event["involvedObject"]["kind"] != "Environment"
                || event["metadata"]["annotations"][ANNOTATION_OWNER] == uid.to_string().as_str()
        })
    }

    fn has_dependents(&self) -> bool {
        false
    }

    fn shows(&self, caller: &Caller, event: &Value) -> bool {
        self.concerns(caller, event)
    }

    fn shows_by(&self) -> &'static [&'static str] {
        &["involvedObject.kind"]
    }

    fn looks_at(&self, event: &Value) -> Option<Key> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(Key {
            resource: "environments.boatyard.dev".to_owned(),
            namespace: text(&event["metadata"]["namespace"]),
            name: text(&event["involvedObject"]["name"]),
        })
    }

    /// Says on an event whose it is: the owner's of the environment it speaks of. A runner speaks
    /// only of itself and of environments bound to it.
    fn admit(&self, admission: &mut Admission<'_>) -> Result<(), Failure> {
        if admission.old.is_some() {
            return Ok(());
        }
        let (caller, event) = (admission.caller, &mut *admission.object);
        let about = event["involvedObject"].clone();
        let environment = admission
            .seen
            .filter(|seen| seen["metadata"]["uid"] == about["uid"]);
        if let Some(runner) = caller.runner_name() {
            let own = match (about["kind"].as_str(), environment) {
                (Some("Environment"), Some(environment)) => {
                    environment["spec"]["runnerName"] == runner
                }
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
        let owner =
            environment.and_then(|environment| environment["spec"]["owner"]["uid"].as_u64());
        let annotations = event.pointer_mut("/metadata/annotations");
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.remove(ANNOTATION_OWNER);
        }
        if let Some(owner) = owner {
            event["metadata"]["annotations"][ANNOTATION_OWNER] = json!(owner.to_string());
        }
        Ok(())
    }
}
