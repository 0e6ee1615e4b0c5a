//! Small pieces of speaking to the API that several verbs need.

use crate::failure::Failure;
use boatyard_api::Environment;
use boatyard_api::environment::{Phase, WantedState};
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

/// Environments of a namespace.
pub(crate) fn environments(client: &Client, namespace: &str) -> Api<Environment> {
    Api::namespaced(client.clone(), namespace)
}

/// One environment, or a sentence naming what there is.
pub(crate) async fn environment(
    api: &Api<Environment>,
    name: &str,
) -> Result<Environment, Failure> {
    if let Some(found) = api.get_opt(name).await? {
        return Ok(found);
    }
    let names: Vec<String> = api
        .list(&ListParams::default())
        .await?
        .iter()
        .map(|other| other.name_any())
        .collect();
    let there = if names.is_empty() {
        "there is none; open one with `boatyard up`".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    };
    Err(Failure::new(format!("there is no environment {name}")).hint(there))
}

/// Changes an environment's spec.
pub(crate) async fn patch_spec(
    api: &Api<Environment>,
    name: &str,
    spec: &Value,
) -> Result<Environment, Failure> {
    let patch = serde_json::json!({ "spec": spec });
    Ok(api
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?)
}

/// Watches one environment, starting with how it is now: calls `seen` with every version until it
/// says stop; None when the environment is gone.
pub(crate) async fn follow<T>(
    api: &Api<Environment>,
    name: &str,
    mut seen: impl FnMut(&Environment) -> Option<T>,
) -> Result<Option<T>, Failure> {
    loop {
        let Some(now) = api.get_opt(name).await? else {
            return Ok(None);
        };
        if let Some(outcome) = seen(&now) {
            return Ok(Some(outcome));
        }
        let version = now.resource_version().unwrap_or_default();
        let mut events = api
            .watch(
                &WatchParams::default().fields(&format!("metadata.name={name}")),
                &version,
            )
            .await?
            .boxed();
        while let Ok(Some(event)) = events.try_next().await {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    if let Some(outcome) = seen(&object) {
                        return Ok(Some(outcome));
                    }
                }
                WatchEvent::Deleted(_) => return Ok(None),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(_) => break,
            }
        }
    }
}

/// Whether the status speaks of the newest spec.
pub(crate) fn current(object: &Environment) -> bool {
    let observed = object
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    observed.is_some() && observed == object.metadata.generation
}

/// Phase of the newest spec; None while the status still speaks of an older one.
pub(crate) fn phase(object: &Environment) -> Option<Phase> {
    object
        .status
        .as_ref()
        .filter(|_| current(object))
        .map(|status| status.phase)
}

/// Why nobody needs to wait for this state any longer: somebody else wants another by now.
pub(crate) fn superseded(object: &Environment, wanted: WantedState) -> Option<Failure> {
    if object.spec.state == wanted {
        return None;
    }
    let name = object.name_any();
    Some(match object.spec.state {
        WantedState::Stopped => Failure::new(format!("environment {name} was stopped meanwhile"))
            .hint(format!("to have it run: boatyard start {name}")),
        WantedState::Running => Failure::new(format!("environment {name} was started meanwhile"))
            .hint(format!("to have it stop: boatyard stop {name}")),
    })
}

/// The runner's message about an environment.
pub(crate) fn message(object: &Environment) -> String {
    let message = object
        .status
        .as_ref()
        .and_then(|status| status.message.clone());
    message.unwrap_or_else(|| "no reason was given".to_owned())
}
