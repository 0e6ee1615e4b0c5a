//! The one function that computes an environment's status.
//!
//! A pure function of the record and of what was observed; nobody else writes a phase or a
//! condition. Times come from the record, so that computing twice gives the same.

use crate::record::{FailureRecord, Record, address};
use boatyard_api::Environment;
use boatyard_api::environment::{
    EgressStatus, EnvironmentStatus, ImageStatus, OnAutoForward, Phase, PortStatus,
    ResourcesStatus, ServiceStatus, Step, StepState,
};
use boatyard_api::words::condition;
use boatyard_devcontainer::{NamedPort, OnAutoForward as Forward};
use boatyard_plan::disk::Pressure;
use boatyard_plan::environment::{Hook, SandboxSeen, Seen, Want};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What the status is computed from, besides the record.
pub(crate) struct Inputs<'a> {
    pub(crate) want: &'a Want,
    pub(crate) seen: &'a Seen,
    /// The last failure, recorded or not.
    pub(crate) failure: Option<&'a FailureRecord>,
    pub(crate) generation: Option<i64>,
    /// How full its disk is, where it has a limit.
    pub(crate) disk: Option<&'a crate::disk::Known>,
    /// What it may reach, where not everything.
    pub(crate) egress: Option<&'a EgressStatus>,
    /// The services of its project.
    pub(crate) services: Vec<ServiceStatus>,
    /// Status as last written: conditions keep their transition times.
    pub(crate) previous: &'a EnvironmentStatus,
    pub(crate) now: Timestamp,
}

/// Computes the status.
pub(crate) fn compute(record: Option<&Record>, inputs: &Inputs<'_>) -> EnvironmentStatus {
    let seen = inputs.seen;
    let failure = inputs.failure;
    let wait_for_done = record.is_some_and(|record| waited(record, seen));
    // What failed while the environment was in use already does not end that.
    let usable = wait_for_done && failure.is_some_and(|one| Hook::named(&one.step).is_some());
    let phase = phase(inputs, wait_for_done, failure.is_some() && !usable);
    let complete = record.is_some_and(|record| crate::hooks::undone(record).is_empty());
    let message = match (phase, failure) {
        (_, Some(failure)) => Some(failure.message.clone()),
        (Phase::Running, None) => seen
            .hooks_left
            .first()
            .map(|hook| format!("{} under way", hook.name())),
        _ => record
            .and_then(|record| record.steps.last())
            .and_then(|step| {
                let under_way = step.duration_millis.is_none();
                let text = || format!("{} under way", step.name);
                step.message.clone().or_else(|| under_way.then(text))
            }),
    };
    let mut status = EnvironmentStatus {
        observed_generation: inputs.generation,
        phase,
        message,
        // The scheduler's condition is not ours: it is kept as it is.
        conditions: inputs
            .previous
            .conditions
            .iter()
            .filter(|kept| kept.type_ == condition::SCHEDULED)
            .cloned()
            .collect(),
        ..EnvironmentStatus::default()
    };
    let running = matches!(seen.sandbox, SandboxSeen::Running { .. });
    if let Some(record) = record {
        recorded(&mut status, record);
        if running {
            // A runner that was restarted has not looked yet: what was known holds until then.
            status.services = if inputs.services.is_empty() && record.compose.is_some() {
                inputs.previous.services.clone()
            } else {
                inputs.services.clone()
            };
            status.egress = inputs.egress.cloned();
            status.address = Some(address(record.slot).to_string());
        }
    }
    let reason_of = |steps: &[&str]| {
        failure
            .filter(|failure| steps.contains(&failure.step.as_str()))
            .map(|failure| (failure.reason.as_str(), failure.message.as_str()))
    };
    let hook_names = Hook::ALL.map(Hook::name);
    let states = [
        (
            condition::CONFIGURED,
            seen.configured,
            ("ConfigurationRead", "the configuration is read"),
            reason_of(&["source", "configure"]),
        ),
        (
            condition::IMAGE_PRESENT,
            seen.image,
            ("LayersPresent", "every layer of the image is present"),
            reason_of(&["image", "resolve"]),
        ),
        (
            condition::SANDBOX_RUNNING,
            running,
            ("ProcessesRun", "the environment's processes run"),
            reason_of(&["sandbox", "agent", "services"]),
        ),
        (
            condition::LIFECYCLE_COMPLETE,
            running && seen.session && complete && failure.is_none(),
            ("CommandsSucceeded", "every lifecycle command succeeded"),
            reason_of(&hook_names),
        ),
        (
            condition::READY,
            phase == Phase::Running,
            ("Ready", "the environment can be used"),
            failure.map(|failure| (failure.reason.as_str(), failure.message.as_str())),
        ),
    ];
    let pressed = inputs.disk.map(|disk| {
        let said = (disk.pressure.reason(), disk.message.as_str());
        let is = disk.pressure != Pressure::None;
        (condition::DISK_PRESSURE, is, said, Some(said))
    });
    let states = states.into_iter().chain(pressed);
    for (kind, holds, good, bad) in states {
        let (truth, (reason, message)) = match (holds, bad) {
            (true, _) => ("True", good),
            (false, Some(bad)) => ("False", bad),
            (false, None) => ("False", ("NotYet", "not yet, or not any more")),
        };
        let previous = inputs
            .previous
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind);
        let unchanged = previous.filter(|previous| previous.status == truth);
        status.conditions.push(Condition {
            type_: kind.to_owned(),
            status: truth.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: inputs.generation,
            last_transition_time: unchanged.map_or(Time(inputs.now), |previous| {
                previous.last_transition_time.clone()
            }),
        });
    }
    status
}

/// What was said last of how full the disk is.
pub(crate) fn disk_before(object: &Environment) -> Option<crate::disk::Known> {
    let conditions = &object.status.as_ref()?.conditions;
    let said = conditions
        .iter()
        .find(|condition| condition.type_ == condition::DISK_PRESSURE)?;
    Some(crate::disk::Known {
        pressure: Pressure::named(&said.reason)?,
        message: said.message.clone(),
    })
}

/// Adds what is known of its resources, which changes while a step is under way too. Only what runs
/// has some.
pub(crate) fn with_resources(
    mut status: EnvironmentStatus,
    resources: Option<&ResourcesStatus>,
) -> EnvironmentStatus {
    status.resources = resources.filter(|_| status.address.is_some()).cloned();
    status
}

/// What of the status the record alone says.
fn recorded(status: &mut EnvironmentStatus, record: &Record) {
    status.steps = record.steps.iter().map(step).collect();
    status.incarnation = record.incarnation;
    status.started_at = record.started_at.map(Time);
    status.restarted_at.clone_from(&record.restarted_at);
    status.image = record.image.as_ref().map(|image| ImageStatus {
        reference: image.reference.clone(),
        digest: image.digest.clone(),
    });
    if let Some(resolved) = &record.resolved {
        status.workspace_folder = Some(resolved.plan.workspace_folder.clone());
        status.remote_user = Some(resolved.remote_user.clone());
        status.ports = resolved.plan.ports().into_iter().map(port).collect();
    }
}

fn port(named: NamedPort) -> PortStatus {
    let attributes = named.attributes;
    PortStatus {
        port: named.port.port,
        host: named.port.host,
        forward: named.forward,
        label: attributes.label,
        protocol: attributes.protocol,
        on_auto_forward: match attributes.on_auto_forward.unwrap_or_default() {
            Forward::Notify => OnAutoForward::Notify,
            Forward::OpenBrowser => OnAutoForward::OpenBrowser,
            Forward::OpenBrowserOnce => OnAutoForward::OpenBrowserOnce,
            Forward::OpenPreview => OnAutoForward::OpenPreview,
            Forward::Silent => OnAutoForward::Silent,
            Forward::Ignore => OnAutoForward::Ignore,
        },
        require_local_port: attributes.require_local_port,
        elevate_if_needed: attributes.elevate_if_needed,
    }
}

/// Whether every lifecycle command up to and including `waitFor` is done.
fn waited(record: &Record, seen: &Seen) -> bool {
    let Some(resolved) = &record.resolved else {
        return false;
    };
    let wait_for = crate::hooks::hook(resolved.plan.wait_for);
    seen.session
        && seen
            .hooks_left
            .iter()
            .all(|left| wait_for.is_none_or(|wait_for| *left > wait_for))
}

fn phase(inputs: &Inputs<'_>, waited: bool, failed: bool) -> Phase {
    match (inputs.want, inputs.seen.sandbox) {
        (Want::Gone, _) => Phase::Deleting,
        (Want::Stopped, SandboxSeen::Absent) => Phase::Stopped,
        (Want::Stopped, _) => Phase::Stopping,
        (Want::Running { restart }, sandbox)
            if inputs.seen.allocated
                && restart.is_some()
                && *restart != inputs.seen.restarted_at =>
        {
            if sandbox == SandboxSeen::Absent {
                Phase::Preparing
            } else {
                Phase::Stopping
            }
        }
        (Want::Running { .. }, _) if failed => Phase::Failed,
        (Want::Running { .. }, SandboxSeen::Running { agent: true }) if waited => Phase::Running,
        (Want::Running { .. }, SandboxSeen::Running { .. }) => Phase::Starting,
        (Want::Running { .. }, _) if inputs.seen.resolved => Phase::Starting,
        (Want::Running { .. }, _) => Phase::Preparing,
    }
}

fn step(step: &crate::record::StepRecord) -> Step {
    let state = match (step.failed, step.duration_millis) {
        (true, _) => StepState::Failed,
        (false, Some(_)) => StepState::Succeeded,
        (false, None) => StepState::Running,
    };
    Step {
        name: step.name.clone(),
        state,
        started_at: Some(Time(step.started_at)),
        duration_millis: step.duration_millis,
        message: step.message.clone(),
    }
}
