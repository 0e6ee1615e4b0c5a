//! Egress policies: given to what starts, kept in force in what runs, told in status.
//!
//! What class and environment together allow is decided by `plan::egress`; how it is enforced is the
//! sandbox's. A start whose environment asks for more than its class allows fails with a sentence;
//! what runs has what both allow, and status says what was left out. What builds and clones for an
//! environment has its policy too; images are pulled by the runner, by its own rights.
//!
//! Crash behaviour: what is in force is asked of the sandboxes, never remembered; a runner that
//! begins puts it in force once more, so that rules somebody removed are back.
//!
//! Read next: `boatyard_plan::egress`, [`boatyard_sandbox::Sandboxes::set_egress`].

use crate::classes;
use crate::context::Context;
use crate::failure::Failed;
use crate::isolation::Sandbox;
use crate::worker::Worker;
use boatyard_api::egress::EgressMode;
use boatyard_api::environment::{EgressStatus, EnvironmentSpec, GitSource};
use boatyard_api::words::DEFAULT_CLASS;
use boatyard_api::{Environment, EnvironmentClassSpec};
use boatyard_plan::egress::{Decision, decide};
use boatyard_sandbox::spec::{AllowedName, AllowedRange, Egress, Id};
use boatyard_sandbox::{EgressReport, Observed};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked whether anything was refused, where something may be.
const LOOK: Duration = Duration::from_secs(5);
/// What was refused that status shows.
const RECENT: usize = 16;

/// What is known of an environment's policy.
pub(crate) struct Known {
    classes: watch::Receiver<classes::Known>,
    /// This runner has put it in force.
    applied: bool,
    /// It could not be put in force.
    failed: bool,
    status: Option<EgressStatus>,
}

impl Known {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            classes: context.classes.clone(),
            applied: false,
            failed: false,
            status: None,
        }
    }

    /// As it is told, while it runs.
    pub(crate) fn status(&self) -> Option<&EgressStatus> {
        self.status.as_ref()
    }

    /// It was started with its policy.
    pub(crate) fn started(&mut self) {
        self.applied = true;
    }

    /// Nothing runs.
    pub(crate) fn forget(&mut self) {
        (self.applied, self.failed, self.status) = (false, false, None);
    }
}

/// The policy as sandboxes take it.
fn policy(decision: &Decision) -> Option<Egress> {
    let policy = decision.policy.as_ref()?;
    let names = policy.names.iter().map(|name| AllowedName {
        name: name.name.clone(),
        below: name.below,
        ports: name.ports.clone(),
    });
    let ranges = policy.ranges.iter().map(|range| AllowedRange {
        first: range.first,
        last: range.last,
        ports: range.ports.clone(),
    });
    Some(Egress {
        names: names.collect(),
        ranges: ranges.collect(),
        ..Egress::default()
    })
}

fn class_name(spec: &EnvironmentSpec) -> &str {
    spec.class_name.as_deref().unwrap_or(DEFAULT_CLASS)
}

/// The policy of what is started for an environment; refused when it asks for more than its class
/// allows.
pub(crate) fn allowed(
    spec: &EnvironmentSpec,
    class: &EnvironmentClassSpec,
) -> Result<Option<Egress>, Failed> {
    let decision = decide(class.egress.as_ref(), spec.egress.as_ref());
    match decision.complaint(class_name(spec)) {
        Some(complaint) => Err(Failed::lasting("EgressNotAllowed", complaint)),
        None => Ok(policy(&decision)),
    }
}

/// The same where the class is not at hand.
pub(crate) async fn of(
    context: &Context,
    spec: &EnvironmentSpec,
) -> Result<Option<Egress>, Failed> {
    let class = context.class(spec).await?;
    allowed(spec, &class)
}

/// The policy of a class.
pub(crate) async fn of_class(context: &Context, name: String) -> Result<Option<Egress>, Failed> {
    let spec = EnvironmentSpec {
        class_name: Some(name),
        ..EnvironmentSpec::default()
    };
    of(context, &spec).await
}

/// The policy of a clone: whoever may make an environment of a repository may fetch it from where it
/// is.
pub(crate) async fn of_clone(
    context: &Context,
    spec: &EnvironmentSpec,
    git: &GitSource,
) -> Result<Option<Egress>, Failed> {
    let policy = of(context, spec).await?;
    Ok(policy.map(|mut policy| {
        if let Some(host) = host(&git.url) {
            match host.parse() {
                Ok(address) => policy.ranges.push(AllowedRange {
                    first: address,
                    last: address,
                    ports: Vec::new(),
                }),
                Err(_) => policy.names.push(AllowedName {
                    name: host,
                    below: false,
                    ports: Vec::new(),
                }),
            }
        }
        policy
    }))
}

/// The host in a repository's URL, in lower case.
fn host(url: &str) -> Option<String> {
    let place = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split('/').next()?,
        None => url.split_once(':')?.0,
    };
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    let host = host.split(':').next()?.trim_end_matches('.');
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// Puts in force what class and environment say now in what runs, and sees what was refused.
pub(crate) async fn look(worker: &mut Worker, object: &Environment) {
    let classes = worker.egress.classes.borrow_and_update().clone();
    let spec = &object.spec;
    let class = classes.as_ref().and_then(|all| all.get(class_name(spec)));
    // A class that is gone, or was not read yet, changes nothing.
    let decision = class.map(|class| decide(class.egress.as_ref(), spec.egress.as_ref()));
    let wanted = decision.as_ref().map(policy);
    let paths = worker.context.layout.environment(&worker.uid);
    let mut places = vec![(worker.id.clone(), paths.run())];
    if worker
        .record
        .as_ref()
        .is_some_and(|record| record.compose.is_some())
    {
        for number in paths.service_numbers() {
            if let Ok(id) = worker.id.member(number) {
                places.push((id, paths.service_run(number)));
            }
        }
    }
    let again = !worker.egress.applied;
    let sandboxes = worker.context.sandboxes.clone();
    let known = wanted.clone();
    let seen = worker
        .context
        .blocking(move || enforce(&*sandboxes, &places, known.as_ref(), again))
        .await;
    let now = wanted.unwrap_or_else(|| seen.report.policy.clone());
    worker.services.set_egress(now.clone());
    worker.egress.applied = class.is_some() && seen.failed.is_none();
    worker.egress.failed = seen.failed.is_some();
    if let Some(failed) = &seen.failed {
        tracing::warn!(environment = %worker.uid, error = failed, "the egress policy is not in force; trying again");
    }
    let complaint = decision
        .as_ref()
        .and_then(|decision| decision.complaint(class_name(spec)));
    let failed = seen
        .failed
        .map(|why| format!("the policy is not in force: {why}"));
    let message = failed.or(complaint);
    let mode = decision.map_or_else(|| mode(now.as_ref()), |decision| decision.mode);
    worker.egress.status = (now.is_some() || message.is_some()).then_some(EgressStatus {
        mode,
        refused: seen.report.refused,
        recently_refused: seen.report.recent,
        message,
    });
}

fn mode(policy: Option<&Egress>) -> EgressMode {
    match policy {
        None => EgressMode::Open,
        Some(policy) if policy.names.is_empty() && policy.ranges.is_empty() => EgressMode::Closed,
        Some(_) => EgressMode::AllowList,
    }
}

/// What the sandboxes of one environment say.
#[derive(Default)]
struct Seen {
    /// The policy is the first one's, the rest is of all.
    report: EgressReport,
    failed: Option<String>,
}

/// Changes those that run and have another policy than `wanted`, or all of them `again`.
fn enforce(
    sandboxes: &dyn Sandbox,
    places: &[(Id, PathBuf)],
    wanted: Option<&Option<Egress>>,
    again: bool,
) -> Seen {
    let mut seen = Seen::default();
    for (number, (id, state)) in places.iter().enumerate() {
        let one = || -> Result<Option<EgressReport>, boatyard_sandbox::Error> {
            let report = sandboxes.egress(id, state)?;
            let has = report.as_ref().and_then(|report| report.policy.as_ref());
            let Some(wanted) = wanted else {
                return Ok(report);
            };
            if has == wanted.as_ref() && !(again && wanted.is_some()) {
                return Ok(report);
            }
            let observed = sandboxes.observe(id, state)?;
            let runs = matches!(
                observed,
                Observed::Running {
                    monitor_pid: Some(_),
                    ..
                }
            );
            if !runs {
                return Ok(report);
            }
            sandboxes.set_egress(id, state, wanted.as_ref())?;
            sandboxes.egress(id, state)
        };
        match one() {
            Ok(Some(report)) => {
                seen.report.refused += report.refused;
                seen.report.recent.extend(report.recent);
                if number == 0 {
                    seen.report.policy = report.policy;
                }
            }
            Ok(None) => {}
            Err(error) => seen.failed = Some(crate::failure::chain(&error)),
        }
    }
    seen.report.recent.truncate(RECENT);
    seen
}

/// Waits until there is something to look at.
pub(crate) async fn changed(known: &mut Known) {
    let looks = known.failed || known.status.is_some();
    let time = async {
        if looks {
            tokio::time::sleep(LOOK).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        changed = known.classes.changed() => {
            if changed.is_err() {
                std::future::pending::<()>().await;
            }
        }
        () = time => {}
    }
}

#[cfg(test)]
mod tests {
    //! Hosts in URLs.
    use super::*;

    #[test]
    fn a_repositorys_host_is_found_in_every_form_of_its_url() {
        for (url, expected) in [
            ("https://Git.Example.org/a/b.git", Some("git.example.org")),
            (
                "https://user:word@git.example.org:8443/a",
                Some("git.example.org"),
            ),
            ("ssh://git@git.example.org:22/a", Some("git.example.org")),
            ("git@git.example.org:a/b.git", Some("git.example.org")),
            ("http://203.0.113.7:80/a", Some("203.0.113.7")),
            ("file:///srv/a.git", None),
        ] {
            assert_eq!(host(url).as_deref(), expected, "{url}");
        }
    }
}
