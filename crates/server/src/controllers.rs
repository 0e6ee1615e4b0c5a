//! The server's control loops: placing environments, emptying namespaces, forgetting old events.
//!
//! Each activation re-reads what it acts on; a watch event or a timer only wakes it. They write
//! through the same operations as clients, with an identity of their own.

use crate::deletion;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::objects::meta;
use crate::resources::{PageRequest, Patch, Resources, Selection, Target, WriteOptions};
use boatyard_api::words::{FINALIZER_RUNNER, NAMESPACE_RUNNERS, condition};
use boatyard_plan::placement::{Candidate, choose};
use boatyard_store::Scope;
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long events are kept.
const EVENT_SECONDS: i64 = 3600;
/// How often everything is looked at without being woken.
const RESYNC: Duration = Duration::from_secs(30);
/// How long a loop rests after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs all control loops until shutdown.
pub(crate) async fn run(resources: Resources, shutdown: CancellationToken) {
    tokio::join!(
        looped(
            "scheduler",
            &[
                "environments.boatyard.dev",
                "runners.boatyard.dev",
                "leases.coordination.k8s.io"
            ],
            &resources,
            &shutdown,
            place
        ),
        looped(
            "namespaces",
            &["namespaces", "environments.boatyard.dev"],
            &resources,
            &shutdown,
            empty_namespaces
        ),
        looped("events", &[], &resources, &shutdown, forget_events),
    );
}

/// Activates `controller` at start, on every change of the watched resources, and now and then.
async fn looped<F>(
    name: &str,
    watched: &[&str],
    resources: &Resources,
    shutdown: &CancellationToken,
    controller: impl Fn(Resources) -> F,
) where
    F: Future<Output = Result<(), Failure>>,
{
    loop {
        let opened = futures::future::try_join_all(watched.iter().map(|resource| {
            let scope = Scope {
                resource: (*resource).to_owned(),
                namespace: None,
            };
            resources.store.watch(scope, None)
        }));
        let mut changes = match opened.await {
            Ok(streams) => futures::stream::select_all(streams).boxed(),
            Err(_) => futures::stream::empty().boxed(),
        };
        loop {
            let pause = match controller(resources.clone()).await {
                Ok(()) => RESYNC,
                Err(failure) => {
                    tracing::info!(controller = name, %failure, "an activation failed; trying again");
                    AGAIN
                }
            };
            let cut = tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => false,
                change = changes.next(), if !watched.is_empty() => !matches!(change, Some(Ok(_))),
            };
            if cut {
                break;
            }
        }
        // A store that ends every watch at once must not make this loop spin.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn all(
    resources: &Resources,
    group: &str,
    plural: &str,
    namespace: &str,
) -> Result<Vec<Value>, Failure> {
    let kinds = resources.kinds.clone();
    let kind = kinds
        .find(group, "v1", plural)
        .ok_or_else(|| Failure::internal("an unknown kind"))?;
    let target = Target {
        kind,
        namespace,
        name: "",
        subresource: "",
    };
    let listed = resources
        .list(
            &Caller::internal("controller"),
            &target,
            &Selection::default(),
            &PageRequest::default(),
        )
        .await?;
    Ok(listed.items)
}

/// Binds environments without a runner to one.
async fn place(resources: Resources) -> Result<(), Failure> {
    let environments = all(&resources, "boatyard.dev", "environments", "").await?;
    let unbound: Vec<&Value> = environments
        .iter()
        .filter(|environment| {
            environment["spec"]["runnerName"].is_null()
                && meta(environment, "deletionTimestamp").is_empty()
        })
        .collect();
    if unbound.is_empty() {
        return Ok(());
    }
    let runners = all(&resources, "boatyard.dev", "runners", "").await?;
    let leases = all(
        &resources,
        "coordination.k8s.io",
        "leases",
        NAMESPACE_RUNNERS,
    )
    .await?;
    let now = resources.now();
    let mut candidates: Vec<Candidate> = runners
        .iter()
        .map(|runner| {
            let name = meta(runner, "name");
            let lease = leases.iter().find(|lease| meta(lease, "name") == name);
            Candidate {
                name: name.to_owned(),
                alive: lease.is_some_and(|lease| alive(lease, now)),
                unschedulable: runner["spec"]["unschedulable"] == true,
                environments: environments
                    .iter()
                    .filter(|environment| environment["spec"]["runnerName"] == name)
                    .count(),
            }
        })
        .collect();
    let mut outcome = Ok(());
    for environment in unbound {
        let (patch, subresource) = match choose(&candidates) {
            Ok(runner) => {
                if let Some(candidate) = candidates
                    .iter_mut()
                    .find(|candidate| candidate.name == runner)
                {
                    candidate.environments += 1;
                }
                let mut finalizers: Vec<Value> = environment["metadata"]["finalizers"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                finalizers.push(json!(FINALIZER_RUNNER));
                (
                    json!({"metadata": {"finalizers": finalizers, "resourceVersion": environment["metadata"]["resourceVersion"]}, "spec": {"runnerName": runner}}),
                    "",
                )
            }
            Err(why) => (waiting(environment, &why, now), "status"),
        };
        // One that cannot be written must not keep the others waiting.
        outcome = write(&resources, environment, patch, subresource)
            .await
            .and(outcome);
    }
    outcome
}

fn alive(lease: &Value, now: Timestamp) -> bool {
    let renewed = lease["spec"]["renewTime"]
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok());
    let seconds = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(40);
    renewed.is_some_and(|renewed| now.duration_since(renewed).as_secs() < seconds)
}

fn waiting(environment: &Value, why: &str, now: Timestamp) -> Value {
    let conditions = environment["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let since = conditions
        .iter()
        .find(|known| known["type"] == condition::SCHEDULED && known["status"] == "False");
    let since = since.map_or_else(
        || crate::objects::stamp(now),
        |known| known["lastTransitionTime"].clone(),
    );
    let mut kept: Vec<Value> = conditions
        .into_iter()
        .filter(|known| known["type"] != condition::SCHEDULED)
        .collect();
    kept.push(json!({"type": condition::SCHEDULED, "status": "False", "reason": "NoRunner", "message": why, "lastTransitionTime": since}));
    json!({"status": {"phase": "Pending", "message": why, "conditions": kept}})
}

async fn write(
    resources: &Resources,
    object: &Value,
    patch: Value,
    subresource: &str,
) -> Result<(), Failure> {
    let kinds = resources.kinds.clone();
    let kind = kinds
        .find("boatyard.dev", "v1", "environments")
        .ok_or_else(|| Failure::internal("an unknown kind"))?;
    let target = Target {
        kind,
        namespace: meta(object, "namespace"),
        name: meta(object, "name"),
        subresource,
    };
    let written = resources
        .patch(
            &Caller::internal("scheduler"),
            &target,
            &Patch::Merge(patch),
            &WriteOptions::default(),
        )
        .await;
    match written {
        // Somebody was faster: the change wakes the next activation.
        Err(failure) if failure.reason == "Conflict" || failure.reason == "NotFound" => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

/// Deletes what is in namespaces that are being deleted, then the namespaces.
async fn empty_namespaces(resources: Resources) -> Result<(), Failure> {
    for namespace in all(&resources, "", "namespaces", "").await? {
        if meta(&namespace, "deletionTimestamp").is_empty() {
            continue;
        }
        let kinds = resources.kinds.clone();
        let mut left = 0;
        for kind in kinds.iter().filter(|kind| kind.namespaced) {
            for object in all(
                &resources,
                &kind.group,
                &kind.plural,
                meta(&namespace, "name"),
            )
            .await?
            {
                left += 1;
                let target = Target {
                    kind,
                    namespace: meta(&object, "namespace"),
                    name: meta(&object, "name"),
                    subresource: "",
                };
                match resources
                    .delete(
                        &Caller::internal("namespaces"),
                        &target,
                        &deletion::Options::default(),
                    )
                    .await
                {
                    Ok((_, true)) => left -= 1,
                    Ok((_, false)) => {}
                    Err(failure) if failure.reason == "NotFound" => left -= 1,
                    Err(failure) => return Err(failure),
                }
            }
        }
        let held = namespace["metadata"]["finalizers"].as_array();
        if left == 0 && held.is_none_or(Vec::is_empty) {
            resources.finish_namespace(&namespace).await?;
        }
    }
    Ok(())
}

/// Removes events nobody will look for any more.
async fn forget_events(resources: Resources) -> Result<(), Failure> {
    let now = resources.now();
    let kinds = resources.kinds.clone();
    let Some(kind) = kinds.find("", "v1", "events") else {
        return Ok(());
    };
    for event in all(&resources, "", "events", "").await? {
        let seen = event["lastTimestamp"]
            .as_str()
            .or_else(|| event["metadata"]["creationTimestamp"].as_str());
        let old = seen
            .and_then(|text| text.parse::<Timestamp>().ok())
            .is_some_and(|seen| now.duration_since(seen).as_secs() > EVENT_SECONDS);
        if old {
            let target = Target {
                kind,
                namespace: meta(&event, "namespace"),
                name: meta(&event, "name"),
                subresource: "",
            };
            // Gone meanwhile is as good.
            let _ = resources
                .delete(
                    &Caller::internal("events"),
                    &target,
                    &deletion::Options::default(),
                )
                .await;
        }
    }
    Ok(())
}
