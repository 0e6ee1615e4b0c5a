//! The services of an environment that is one of a Compose project.
//!
//! The service that is opened is the environment's own sandbox; every other one is a member of it
//! (`sandbox`'s word) with the same agent as its first process. Its command is a durable task of that
//! agent, its check a process of it, so that what runs is found again by asking the agents: nothing
//! about services is recorded but their numbers and images. Order, policy and health are decided by
//! `plan::services`; here it is done.
//!
//! [`Supervisor`] runs beside the control loop of its environment, as long as that one's worker
//! does, and works while a job is given. [`Services`] is the worker's handle to it.
//!
//! Crash behaviour: services outlive the runner. The next one finds sandboxes by their numbers on
//! disk and commands by their tasks; health begins anew, restarts of what ended meanwhile are done
//! then. Whatever a service left is found by its run directory and removed with the environment's.
//!
//! Read next: `spec` (what a service's sandbox is made of), `plan::services`.

mod compose;
mod run;
mod spec;

pub(crate) use compose::{build_first, fetch_images, image, origin, plan};
pub(crate) use run::{Services, Supervisor, pair};
pub(crate) use spec::Project;

use crate::agent;
use crate::failure::Failed;
use crate::record::Record;
use crate::worker::Worker;
use boatyard_devcontainer::compose::{Condition, Healthcheck, Restart, Service};
use boatyard_plan::services as planned;
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::time::Duration;

/// Between SIGTERM and SIGKILL, when the file does not say.
const GRACE: Duration = Duration::from_secs(10);
/// The longest a file may ask for.
const GRACE_LAST: Duration = Duration::from_mins(2);

/// Brings all services up: returns when each was started that ever will be.
pub(crate) async fn raise(
    worker: &mut Worker,
    object: &boatyard_api::Environment,
) -> Result<String, Failed> {
    let record = worker
        .record
        .clone()
        .ok_or_else(|| Failed::transient("Internal", "the environment has no record yet"))?;
    let count = record
        .compose
        .as_ref()
        .map_or(0, |plan| plan.services.len());
    worker.services.look_after(record, object.spec.clone());
    worker.services.raised().await?;
    Ok(match count {
        1 => "1 service".to_owned(),
        count => format!("{count} services"),
    })
}

/// Ends the services gently, the last started first, then removes every trace of their sandboxes.
pub(crate) async fn stop(worker: &mut Worker, gently: bool) -> Result<(), Failed> {
    worker.services.leave().await;
    let paths = worker.context.layout.environment(&worker.uid);
    let mut numbers = paths.service_numbers();
    if numbers.is_empty() {
        return Ok(());
    }
    if gently && let Some(record) = &worker.record {
        let order = started(record);
        let place = |number: &u32| order.iter().position(|(of, _)| of == number);
        numbers.sort_by_key(|number| std::cmp::Reverse(place(number)));
        for number in &numbers {
            let grace = order.iter().find(|(of, _)| of == number);
            let grace = grace.map_or(GRACE, |(_, grace)| *grace);
            let socket = paths.service_run(*number).join("agent.sock");
            if let Err(error) = agent::shutdown(&socket, grace).await {
                tracing::debug!(environment = %worker.uid, number, %error, "a service's agent did not end it");
            }
        }
    }
    for number in numbers {
        let state = paths.service_run(number);
        let id = worker
            .id
            .member(number)
            .map_err(|error| Failed::internal(&error))?;
        worker.context.remove(&id, &state).await?;
        let _ = std::fs::remove_dir_all(&state);
    }
    Ok(())
}

/// Numbers of the services in the order of their starts, and how long each may take to end.
fn started(record: &Record) -> Vec<(u32, Duration)> {
    let services = record.compose.iter().flat_map(|plan| &plan.services);
    services
        .filter_map(|service| {
            let number = record.services.get(&service.name)?.number;
            let grace = service.stop_grace_millis.map(Duration::from_millis);
            Some((number, grace.unwrap_or(GRACE).min(GRACE_LAST)))
        })
        .collect()
}

/// Services as planning sees them.
fn as_planned(project: &Project<'_>) -> BTreeMap<String, planned::Service> {
    let one = |service: &Service| planned::Service {
        depends_on: service
            .depends_on
            .iter()
            .map(|(name, dependency)| {
                let condition = match dependency.condition {
                    Condition::Started => planned::Condition::Started,
                    Condition::Healthy => planned::Condition::Healthy,
                    Condition::Completed => planned::Condition::Completed,
                };
                let required = dependency.required;
                (
                    name.clone(),
                    planned::Dependency {
                        condition,
                        required,
                    },
                )
            })
            .chain(shares(service))
            .collect(),
        restart: match service.restart {
            Restart::No => planned::Restart::No,
            Restart::Always | Restart::UnlessStopped => planned::Restart::Always,
            Restart::OnFailure(most) => planned::Restart::OnFailure(most),
        },
        check: project.healthcheck(service).map(|given| check(&given)),
        main: service.name == project.plan.service,
        command: project.command(service).is_some(),
    };
    let services = project.plan.services.iter();
    services
        .map(|service| (service.name.clone(), one(service)))
        .collect()
}

/// A network that is shared has to be there first.
fn shares(service: &Service) -> Option<(String, planned::Dependency)> {
    match &service.network {
        boatyard_devcontainer::compose::ServiceNetwork::Service(other)
            if !service.depends_on.contains_key(other) =>
        {
            let dependency = planned::Dependency {
                condition: planned::Condition::Started,
                required: true,
            };
            Some((other.clone(), dependency))
        }
        _ => None,
    }
}

/// How health is checked, with the defaults of the engines.
fn check(given: &Healthcheck) -> planned::Check {
    let millis = |value: Option<u64>, otherwise: SignedDuration| {
        let value = value.filter(|value| *value > 0);
        value.map_or(otherwise, |value| {
            SignedDuration::from_millis(i64::try_from(value).unwrap_or(i64::MAX))
        })
    };
    let interval = millis(given.interval_millis, SignedDuration::from_secs(30));
    planned::Check {
        interval,
        start_interval: millis(given.start_interval_millis, SignedDuration::from_secs(5)),
        start_period: millis(given.start_period_millis, SignedDuration::ZERO),
        retries: given.retries.unwrap_or(3),
    }
}
