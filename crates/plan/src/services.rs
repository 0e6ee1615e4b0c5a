//! What a runner does next for the services of an environment.
//!
//! [`next`] looks at every service and what was seen of it, and names what may be done now: all of
//! it can be done side by side. A service is started when what it depends on holds, and started
//! again as its policy says. [`Health`] turns the results of checks into a state. Nothing here
//! knows how anything is done.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A service as far as order matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// What has to hold of others first.
    pub depends_on: BTreeMap<String, Dependency>,
    /// When it is started again.
    pub restart: Restart,
    /// How its health is checked.
    pub check: Option<Check>,
    /// It is the environment itself: its sandbox runs already, and it may have nothing to run.
    pub main: bool,
    /// It has a command.
    pub command: bool,
}

/// One dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// What has to hold.
    pub condition: Condition,
    /// Otherwise it is only waited for, and may fail.
    pub required: bool,
}

/// What has to hold of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It was started.
    Started,
    /// Its check succeeds.
    Healthy,
    /// It ended with 0.
    Completed,
}

/// When a service is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Whenever it ends.
    Always,
    /// When it ends with another code than 0; at most so often.
    OnFailure(Option<u32>),
}

/// How health is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Pause between checks.
    pub interval: SignedDuration,
    /// Pause between checks in the start period.
    pub start_interval: SignedDuration,
    /// Time after the start in which failures do not count.
    pub start_period: SignedDuration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// What was seen of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its sandbox runs and its agent answers.
    pub sandbox: bool,
    /// How often its command was started in this sandbox, and how the last of them stands.
    pub runs: u32,
    /// Since when the last runs, or ran.
    pub since: Option<Timestamp>,
    /// How the last ended; None while it runs.
    pub exit: Option<i32>,
    /// Its health, when it is checked.
    pub health: Health,
    /// The last attempt to start its sandbox or its command failed, then.
    pub failed: Option<Timestamp>,
}

/// How a checked service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is known.
    pub state: HealthState,
    /// Failures in a row.
    pub failures: u32,
    /// When the last check ended.
    pub checked: Option<Timestamp>,
}

/// What is known of a service's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthState {
    /// Nothing yet.
    #[default]
    Starting,
    /// The last check succeeded.
    Healthy,
    /// As many as its check allows have failed in a row.
    Unhealthy,
}

/// One thing to do for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start its sandbox.
    StartSandbox,
    /// Start its command; the number of the run.
    Run(u32),
    /// Check its health.
    Check,
}

/// What is to be done, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// By service; all may be done side by side.
    pub actions: BTreeMap<String, Action>,
    /// Look again then at the latest.
    pub due: Option<Timestamp>,
    /// Everything is started that ever will be.
    pub ready: bool,
    /// Services that can never be started, and why; then nothing is ready.
    pub blocked: BTreeMap<String, String>,
}

/// First pause before a service is started again; doubles each time.
const AGAIN_FIRST: SignedDuration = SignedDuration::from_millis(100);
/// Longest.
const AGAIN_LAST: SignedDuration = SignedDuration::from_mins(1);
/// Pause after a sandbox could not be started.
const FAILED: SignedDuration = SignedDuration::from_secs(2);

/// How a dependency stands.
enum Holds {
    Yes,
    NotYet,
    Never(String),
}

/// Decides what to do now.
#[must_use]
pub fn next(
    services: &BTreeMap<String, Service>,
    seen: &BTreeMap<String, Seen>,
    now: Timestamp,
) -> Decision {
    let mut decision = Decision {
        ready: true,
        ..Decision::default()
    };
    let nothing = Seen::default();
    for (name, service) in services {
        let own = seen.get(name).unwrap_or(&nothing);
        if let Some((action, due)) = one(service, own, services, seen, now, name, &mut decision) {
            match action.filter(|_| due <= now) {
                Some(action) => {
                    decision.actions.insert(name.clone(), action);
                }
                None => {
                    decision.due = Some(decision.due.map_or(due, |other| other.min(due)));
                }
            }
        }
    }
    decision.ready &= decision.blocked.is_empty();
    decision
}

/// What a service wants and when it is due.
fn one(
    service: &Service,
    own: &Seen,
    services: &BTreeMap<String, Service>,
    seen: &BTreeMap<String, Seen>,
    now: Timestamp,
    name: &str,
    decision: &mut Decision,
) -> Option<(Option<Action>, Timestamp)> {
    let retry = own.failed.map_or(now, |failed| after(failed, FAILED));
    if !own.sandbox {
        decision.ready = false;
        // The environment's own is started by others.
        if service.main {
            return None;
        }
        return match depends(service, services, seen) {
            Holds::Yes => Some((Some(Action::StartSandbox), retry)),
            Holds::NotYet => None,
            Holds::Never(why) => {
                decision.blocked.insert(name.to_owned(), why);
                None
            }
        };
    }
    if own.runs == 0 {
        return match depends(service, services, seen) {
            Holds::Yes if !service.command => None,
            Holds::Yes => {
                decision.ready = false;
                Some((Some(Action::Run(1)), retry))
            }
            Holds::NotYet => {
                decision.ready = false;
                None
            }
            Holds::Never(why) => {
                decision.blocked.insert(name.to_owned(), why);
                None
            }
        };
    }
    match own.exit {
        Some(code) if again(service.restart, own.runs, code) => {
            let doublings = own.runs.saturating_sub(1).min(20);
            let pause = AGAIN_FIRST.checked_mul(1 << doublings);
            let pause = pause.unwrap_or(AGAIN_LAST).min(AGAIN_LAST);
            let due = after(own.since.unwrap_or(now), pause).max(retry);
            Some((Some(Action::Run(own.runs + 1)), due))
        }
        Some(_) => None,
        None => {
            let check = service.check.as_ref()?;
            Some((Some(Action::Check), check.due(own, now)))
        }
    }
}

fn depends(
    service: &Service,
    services: &BTreeMap<String, Service>,
    seen: &BTreeMap<String, Seen>,
) -> Holds {
    let mut all = Holds::Yes;
    for (name, dependency) in &service.depends_on {
        let (Some(of), Some(seen)) = (services.get(name), seen.get(name)) else {
            if dependency.required {
                all = Holds::NotYet;
            }
            continue;
        };
        match (
            holds(name, of, seen, dependency.condition),
            dependency.required,
        ) {
            (Holds::Never(why), true) => return Holds::Never(why),
            (Holds::NotYet, _) => all = Holds::NotYet,
            // What is optional has had its chance.
            (Holds::Never(_), false) | (Holds::Yes, _) => {}
        }
    }
    all
}

fn holds(name: &str, of: &Service, seen: &Seen, condition: Condition) -> Holds {
    let started = seen.sandbox && (seen.runs > 0 || !of.command);
    let gone = seen
        .exit
        .filter(|code| !again(of.restart, seen.runs, *code));
    match condition {
        Condition::Started if started => Holds::Yes,
        Condition::Started => Holds::NotYet,
        Condition::Healthy if of.check.is_none() => Holds::Never(format!(
            "{name} has no healthcheck, so that nobody can wait until it is healthy"
        )),
        Condition::Healthy => match (seen.health.state, gone) {
            (_, Some(code)) => Holds::Never(format!("{name} ended with exit code {code}")),
            (HealthState::Unhealthy, _) => Holds::Never(format!("{name} is unhealthy")),
            (HealthState::Healthy, _) if started => Holds::Yes,
            _ => Holds::NotYet,
        },
        Condition::Completed => match gone {
            Some(0) => Holds::Yes,
            Some(code) => Holds::Never(format!("{name} ended with exit code {code}")),
            None => Holds::NotYet,
        },
    }
}

/// Whether a service that ended its `runs`th run so is started again.
fn again(restart: Restart, runs: u32, code: i32) -> bool {
    match restart {
        Restart::No => false,
        Restart::Always => true,
        Restart::OnFailure(most) => code != 0 && most.is_none_or(|most| runs <= most),
    }
}

fn after(time: Timestamp, pause: SignedDuration) -> Timestamp {
    time.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

impl Check {
    /// When the next check is due.
    fn due(&self, seen: &Seen, now: Timestamp) -> Timestamp {
        let since = seen.since.unwrap_or(now);
        let starting =
            seen.health.state == HealthState::Starting && now < after(since, self.start_period);
        let pause = if starting {
            self.start_interval.min(self.interval)
        } else {
            self.interval
        };
        after(seen.health.checked.unwrap_or(since), pause)
    }
}

impl Health {
    /// After a check that ended at `now`.
    #[must_use]
    pub fn after(self, check: &Check, since: Timestamp, good: bool, now: Timestamp) -> Health {
        if good {
            return Health {
                state: HealthState::Healthy,
                failures: 0,
                checked: Some(now),
            };
        }
        let spared = self.state == HealthState::Starting && now < after(since, check.start_period);
        let failures = if spared {
            0
        } else {
            self.failures.saturating_add(1)
        };
        Health {
            state: if failures >= check.retries.max(1) {
                HealthState::Unhealthy
            } else {
                self.state
            },
            failures,
            checked: Some(now),
        }
    }
}

#[cfg(test)]
mod tests;
