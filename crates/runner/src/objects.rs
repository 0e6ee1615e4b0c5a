//! Speaking to the API about environments, classes, leases and events.
//!
//! Writes status and nothing else of an Environment (but its own finalizer); a conflict or a lost
//! connection is answered by the next activation. The newest status wins: older ones that were
//! not written yet are skipped, and those on the way of a start, which follow each other within
//! milliseconds, are written together: each write is durable and wakes everybody who watches.
//! Few of one runner are on their way at once; while a server is slow, what waits is overtaken
//! here by what is newer instead of queueing there.

use crate::failure::Failed;
use crate::status;
use boatyard_api::environment::{EnvironmentStatus, Phase, ResourcesStatus};
use boatyard_api::words::{FINALIZER_RUNNER, NAMESPACE_RUNNERS, condition};
use boatyard_api::{Environment, EnvironmentClass, EnvironmentClassSpec, Runner, RunnerStatus};
use boatyard_link::token::Token;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, watch};

/// Name under which the runner's writes are recorded.
const FIELD_MANAGER: &str = "boatyard-runner";
/// How often a runner proves it is alive.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);
/// After how long without proof it counts as dead.
pub(crate) const LEASE_SECONDS: i32 = 40;
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(15);
/// Most statuses, with their events, that one runner writes at once.
const WRITES: usize = 4;
/// How long a status that others are about to follow waits for them.
const GATHER: Duration = Duration::from_millis(25);

/// Runs a request with a deadline.
pub(crate) async fn timely<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    let answered = tokio::time::timeout(DEADLINE, request).await;
    let answered = answered.map_err(|_| {
        Failed::transient(
            "ServerSilent",
            "the server did not answer in time; it will be asked again",
        )
    })?;
    answered.map_err(|error| Failed::transient("ServerRefused", crate::failure::chain(&error)))
}

fn api(client: &Client, object: &Environment) -> Api<Environment> {
    Api::namespaced(
        client.clone(),
        object.namespace().as_deref().unwrap_or_default(),
    )
}

/// A class.
pub(crate) async fn class(client: &Client, name: &str) -> Result<EnvironmentClassSpec, Failed> {
    let classes: Api<EnvironmentClass> = Api::all(client.clone());
    let class = timely(classes.get_opt(name)).await?;
    let class = class.ok_or_else(|| {
        Failed::lasting(
            "ClassNotFound",
            format!(
                "there is no EnvironmentClass {name}; create it or name another in spec.className"
            ),
        )
    })?;
    Ok(class.spec)
}

/// Puts the runner's finalizer on an environment that lacks it: the scheduler does when it binds.
pub(crate) async fn hold(client: &Client, object: &Environment) -> Result<(), Failed> {
    let held = object
        .finalizers()
        .iter()
        .any(|name| name == FINALIZER_RUNNER);
    if held || object.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let add = if object.finalizers().is_empty() {
        json!({"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER_RUNNER]})
    } else {
        json!({"op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER_RUNNER})
    };
    patch_metadata(client, object, &[add]).await
}

/// Lets go of an environment of which nothing is left here.
pub(crate) async fn release(client: &Client, object: &Environment) -> Result<(), Failed> {
    let api = api(client, object);
    // The list may have changed since: take our entry out of the one that is there.
    for _ in 0..8 {
        let now = timely(api.get_opt(&object.name_any())).await?;
        let Some(now) = now.filter(|now| now.uid() == object.uid()) else {
            return Ok(());
        };
        let ours = now
            .finalizers()
            .iter()
            .position(|name| name == FINALIZER_RUNNER);
        let Some(ours) = ours else { return Ok(()) };
        let path = format!("/metadata/finalizers/{ours}");
        let test = json!({"op": "test", "path": path, "value": FINALIZER_RUNNER});
        let remove = json!({"op": "remove", "path": path});
        if patch_metadata(client, &now, &[test, remove]).await.is_ok() {
            return Ok(());
        }
    }
    Err(Failed::transient(
        "ServerRefused",
        "the environment's finalizers changed under every attempt to release it",
    ))
}

/// Applies a JSON patch to exactly this object, never to a namesake made meanwhile.
async fn patch_metadata(
    client: &Client,
    object: &Environment,
    operations: &[Value],
) -> Result<(), Failed> {
    let mut patch = vec![json!({"op": "test", "path": "/metadata/uid", "value": object.uid()})];
    patch.extend_from_slice(operations);
    let path = format!(
        "/apis/boatyard.dev/v1/namespaces/{}/environments/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    );
    let body = serde_json::to_vec(&patch).map_err(|error| Failed::internal(&error))?;
    let request = http::Request::patch(path)
        .header("content-type", "application/json-patch+json")
        .body(body)
        .map_err(|error| Failed::internal(&error))?;
    timely(client.request::<Value>(request)).await.map(|_| ())
}

/// Whose turn it is to write a status: first come, first served; nobody's while the server does not
/// know this runner.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    free: Arc<Semaphore>,
    token: Option<Token>,
}

impl Turns {
    /// Those of the bearer of a token.
    pub(crate) fn of(token: Option<Token>) -> Self {
        let free = Arc::new(Semaphore::new(WRITES));
        Self { free, token }
    }

    async fn next(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        if let Some(token) = &self.token {
            token.good().await;
        }
        self.free.acquire().await
    }

    fn are_none(&self) -> bool {
        self.token.as_ref().is_some_and(Token::is_refused)
    }
}

/// Writes the newest status whenever it changes, until the sender is gone; posts an event when
/// the phase does.
pub(crate) async fn write_status(
    client: Client,
    turns: Turns,
    object: Environment,
    mut newest: watch::Receiver<EnvironmentStatus>,
    mut used: watch::Receiver<Option<ResourcesStatus>>,
) {
    let api = api(&client, &object);
    let mut written = object.status.clone().unwrap_or_default();
    let mut last = false;
    while !last {
        tokio::select! {
            changed = newest.changed() => {
                last = changed.is_err() || gathered(&mut newest).await.is_err();
            }
            Ok(()) = used.changed() => last = gathered(&mut newest).await.is_err(),
        }
        let turn = turns.next().await;
        let status = newest.borrow_and_update().clone();
        let status = status::with_resources(status, used.borrow_and_update().as_ref());
        if status == written || status == EnvironmentStatus::default() {
            continue;
        }
        let mut patch = serde_json::to_value(&status).unwrap_or_default();
        let before = serde_json::to_value(&written).unwrap_or_default();
        clear_absent(&mut patch, &before);
        // The uid keeps a namesake made meanwhile from getting this status.
        let patch = json!({"metadata": {"uid": object.uid()}, "status": patch});
        match timely(api.patch_status(&object.name_any(), &writing(), &Patch::Merge(&patch))).await
        {
            Ok(_) => {
                if status.phase != written.phase {
                    phase_event(&client, &object, &status).await;
                }
                disk_event(&client, &object, &status, &written).await;
                written = status;
            }
            Err(error) if last => tracing::debug!(%error, "the last status was not written"),
            Err(error) => {
                let gone = timely(api.get_opt(&object.name_any()))
                    .await
                    .is_ok_and(|now| now.is_none_or(|now| now.uid() != object.uid()));
                if gone {
                    return;
                }
                drop(turn);
                if !turns.are_none() {
                    tracing::info!(%error, "the status was not written; trying again");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                newest.mark_changed();
            }
        }
    }
}

/// Waits for what follows a status, for as long as it is one on the way; an error when there will
/// be no more.
async fn gathered(
    newest: &mut watch::Receiver<EnvironmentStatus>,
) -> Result<(), watch::error::RecvError> {
    let arrived = |status: &EnvironmentStatus| {
        !matches!(
            status.phase,
            Phase::Pending | Phase::Preparing | Phase::Starting | Phase::Stopping
        )
    };
    let arrival = newest.wait_for(arrived);
    match tokio::time::timeout(GATHER, arrival).await {
        Ok(arrived) => arrived.map(drop),
        Err(_) => Ok(()),
    }
}

/// Patches tell whose they are.
fn writing() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// So do creations.
fn creating() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// A merge patch removes a field only when it says null, at any depth.
fn clear_absent(patch: &mut Value, before: &Value) {
    if let (Some(patch), Some(before)) = (patch.as_object_mut(), before.as_object()) {
        for (key, before) in before {
            clear_absent(patch.entry(key).or_insert(Value::Null), before);
        }
    }
}

async fn phase_event(client: &Client, object: &Environment, status: &EnvironmentStatus) {
    let kind = if status.phase == Phase::Failed {
        "Warning"
    } else {
        "Normal"
    };
    let failed = status.conditions.iter().find(|one| {
        one.status == "False" && one.reason != "NotYet" && one.type_ != condition::DISK_PRESSURE
    });
    let reason = match (status.phase, failed) {
        (Phase::Failed, Some(condition)) => condition.reason.clone(),
        (phase, _) => format!("{phase:?}"),
    };
    let message = status
        .message
        .clone()
        .unwrap_or_else(|| format!("the environment is {:?}", status.phase));
    event(client, object, kind, &reason, &message).await;
}

/// An event when its disk becomes nearly full, and when it has room again.
async fn disk_event(
    client: &Client,
    object: &Environment,
    now: &EnvironmentStatus,
    before: &EnvironmentStatus,
) {
    fn pressed(status: &EnvironmentStatus) -> Option<&Condition> {
        let mut conditions = status.conditions.iter();
        conditions.find(|one| one.type_ == condition::DISK_PRESSURE)
    }
    let before = pressed(before).is_some_and(|condition| condition.status == "True");
    let Some(now) = pressed(now).filter(|now| (now.status == "True") != before) else {
        return;
    };
    let kind = if before { "Normal" } else { "Warning" };
    event(client, object, kind, &now.reason, &now.message).await;
}

/// Posts an event about an environment; losing one is logged and harmless.
#[allow(
    clippy::disallowed_methods,
    reason = "events carry the time they were posted"
)]
pub(crate) async fn event(
    client: &Client,
    object: &Environment,
    kind: &str,
    reason: &str,
    message: &str,
) {
    let namespace = object.namespace().unwrap_or_default();
    let now = Time(Timestamp::now());
    let event = Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}.", object.name_any())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(Environment::api_version(&()).into_owned()),
            kind: Some(Environment::kind(&()).into_owned()),
            name: Some(object.name_any()),
            namespace: Some(namespace.clone()),
            uid: object.uid(),
            ..ObjectReference::default()
        },
        type_: Some(kind.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        source: Some(EventSource {
            component: Some(FIELD_MANAGER.to_owned()),
            host: None,
        }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    };
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    if let Err(error) = timely(events.create(&creating(), &event)).await {
        tracing::debug!(%error, "an event was not written");
    }
}

/// Says what this runner is, making its object when it has none.
pub(crate) async fn register(
    client: &Client,
    name: &str,
    status: &RunnerStatus,
) -> Result<(), Failed> {
    let runners: Api<Runner> = Api::all(client.clone());
    if timely(runners.get_opt(name)).await?.is_none() {
        timely(runners.create(
            &creating(),
            &Runner::new(name, boatyard_api::RunnerSpec::default()),
        ))
        .await?;
    }
    let patch = json!({ "status": status });
    timely(runners.patch_status(name, &writing(), &Patch::Merge(&patch)))
        .await
        .map(|_| ())
}

/// Renews the runner's Lease, making it when there is none.
pub(crate) async fn heartbeat(client: &Client, name: &str, now: Timestamp) -> Result<(), Failed> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE_RUNNERS);
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": MicroTime(now)});
    let patch = json!({ "spec": spec });
    match timely(leases.patch(name, &writing(), &Patch::Merge(&patch))).await {
        Ok(_) => Ok(()),
        // It is there, so that was not the reason.
        Err(refused) if timely(leases.get_opt(name)).await?.is_some() => Err(refused),
        Err(_) => {
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": NAMESPACE_RUNNERS}, "spec": spec});
            let lease = serde_json::from_value(lease).map_err(|error| Failed::internal(&error))?;
            timely(leases.create(&creating(), &lease)).await.map(|_| ())
        }
    }
}

#[cfg(test)]
mod tests;
