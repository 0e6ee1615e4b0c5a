//! The supervisor of an environment's services: observe, plan, do, again.
//!
//! One future beside the worker's, which owns everything it waits for: nothing here is a task of
//! its own, and dropping it stops looking, not the services. Sandboxes are started one after the
//! other, because of two that start at once neither would link to the other.

use super::spec::Project;
use crate::agent;
use crate::context::Context;
use crate::failure::Failed;
use crate::record::{Record, Uid};
use boatyard_api::environment::{EnvironmentSpec, ServiceHealth, ServiceState, ServiceStatus};
use boatyard_plan::services::{Action, Health, HealthState, Seen, Service, next};
use boatyard_sandbox::Observed;
use boatyard_sandbox::spec::{Egress, Id};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// How long a check may take, when the file does not say.
const CHECK: Duration = Duration::from_secs(30);
/// Pause before an agent that broke off is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether anything ended that nobody said the end of.
const LOOK: Duration = Duration::from_secs(30);

/// What is looked after.
struct Job {
    record: Record,
    object: EnvironmentSpec,
}

/// What is known of the services.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    /// Incarnation of the environment it is about.
    of: Option<u64>,
    ready: bool,
    /// Why some will never start.
    blocked: Option<String>,
    pub(crate) services: Vec<ServiceStatus>,
}

/// The worker's handle.
pub(crate) struct Services {
    job: watch::Sender<Option<Arc<Job>>>,
    state: watch::Receiver<State>,
    egress: watch::Sender<Option<Egress>>,
    starting: Arc<Mutex<()>>,
}

/// What does it.
pub(crate) struct Supervisor {
    context: Context,
    uid: Uid,
    id: Id,
    job: watch::Receiver<Option<Arc<Job>>>,
    state: watch::Sender<State>,
    egress: watch::Receiver<Option<Egress>>,
    starting: Arc<Mutex<()>>,
}

/// Both ends for one environment.
pub(crate) fn pair(context: Context, uid: Uid, id: Id) -> (Services, Supervisor) {
    let (job, wanted) = watch::channel(None);
    let (state, known) = watch::channel(State::default());
    let starting = Arc::new(Mutex::new(()));
    let (egress, policy) = watch::channel(None);
    let services = Services {
        job,
        state: known,
        egress,
        starting: starting.clone(),
    };
    let supervisor = Supervisor {
        context,
        uid,
        id,
        job: wanted,
        state,
        egress: policy,
        starting,
    };
    (services, supervisor)
}

impl Services {
    /// Looks after the services of this incarnation from now on.
    pub(crate) fn look_after(&self, record: Record, object: EnvironmentSpec) {
        self.job.send_if_modified(|job| {
            let same = job
                .as_ref()
                .is_some_and(|job| job.record.incarnation == record.incarnation);
            if !same {
                *job = Some(Arc::new(Job { record, object }));
            }
            !same
        });
    }

    /// What those may reach that are started from now on.
    pub(crate) fn set_egress(&self, policy: Option<Egress>) {
        self.egress.send_replace(policy);
    }

    /// Waits until all are started that ever will be.
    pub(crate) async fn raised(&mut self) -> Result<(), Failed> {
        let of = self.wanted();
        let wait = self
            .state
            .wait_for(|state| state.of == of && (state.ready || state.blocked.is_some()));
        let state = wait
            .await
            .map_err(|_| Failed::transient("Internal", "nobody looks after the services"))?;
        match &state.blocked {
            Some(why) => Err(Failed::lasting("ServiceFailed", why.clone())),
            None => Ok(()),
        }
    }

    /// Whether the services of this incarnation are up and looked after.
    pub(crate) fn are_up(&self, incarnation: u64) -> bool {
        let state = self.state.borrow();
        self.wanted() == Some(incarnation) && state.of == Some(incarnation) && state.ready
    }

    /// Stops looking after them; nothing is being started on return.
    pub(crate) async fn leave(&self) {
        self.job.send_replace(None);
        drop(self.starting.lock().await);
    }

    /// What is known of them now.
    pub(crate) fn status(&self) -> Vec<ServiceStatus> {
        if self.wanted().is_none() {
            return Vec::new();
        }
        self.state.borrow().services.clone()
    }

    /// Waits until something else is known.
    pub(crate) async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn wanted(&self) -> Option<u64> {
        self.job.borrow().as_ref().map(|job| job.record.incarnation)
    }
}

impl Supervisor {
    /// Works until the handle is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let job = self.job.borrow_and_update().clone();
            let changed = match job {
                None => {
                    self.state.send_replace(State::default());
                    self.job.changed().await
                }
                Some(job) => {
                    let working = Work::new(&self, &job);
                    let mut wanted = self.job.clone();
                    tokio::select! {
                        () = working.run() => Ok(()),
                        changed = wanted.changed() => changed,
                    }
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

/// What an action came to.
enum Done {
    /// A sandbox was started or could not be.
    Sandbox(Option<Failed>),
    /// A command was started, or could not be.
    Run(u32, Option<Failed>),
    /// A command ended; None when its agent is gone.
    Ended(Option<i32>),
    /// A check ended.
    Checked(bool),
    /// A sandbox ended.
    Gone,
}

/// The work on one incarnation.
struct Work<'a> {
    supervisor: &'a Supervisor,
    job: &'a Job,
    services: BTreeMap<String, Service>,
    seen: BTreeMap<String, Seen>,
    messages: BTreeMap<String, String>,
    /// Services an action is under way for.
    busy: BTreeMap<String, Action>,
    under_way: FuturesUnordered<BoxFuture<'a, (String, Done)>>,
}

impl<'a> Work<'a> {
    fn new(supervisor: &'a Supervisor, job: &'a Job) -> Work<'a> {
        Work {
            supervisor,
            job,
            services: BTreeMap::new(),
            seen: BTreeMap::new(),
            messages: BTreeMap::new(),
            busy: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&Project<'_>) -> T) -> Option<T> {
        let paths = self
            .supervisor
            .context
            .layout
            .environment(&self.supervisor.uid);
        let plan = self.job.record.compose.as_ref()?;
        Some(ask(&Project {
            plan,
            record: &self.job.record,
            paths: &paths,
        }))
    }

    fn number(&self, name: &str) -> u32 {
        self.with(|project| project.number(name)).unwrap_or(0)
    }

    fn run_directory(&self, name: &str) -> PathBuf {
        let paths = self
            .supervisor
            .context
            .layout
            .environment(&self.supervisor.uid);
        match self.number(name) {
            0 => paths.run(),
            number => paths.service_run(number),
        }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.run_directory(name).join("agent.sock")
    }

    async fn run(mut self) {
        self.services = self.with(super::as_planned).unwrap_or_default();
        for name in self.services.keys().cloned().collect::<Vec<_>>() {
            self.look(&name).await;
        }
        loop {
            let now = self.supervisor.context.now();
            let decision = next(&self.services, &self.seen, now);
            for (name, action) in &decision.actions {
                if !self.busy.contains_key(name) {
                    self.busy.insert(name.clone(), *action);
                    let doing = self.act(name, *action);
                    self.under_way.push(doing);
                }
            }
            self.publish(&decision);
            let pause = decision.due.map_or(LOOK, |due| {
                let left = due.duration_since(now).max(SignedDuration::ZERO);
                Duration::try_from(left).unwrap_or_default().min(LOOK)
            });
            tokio::select! {
                Some((name, done)) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.done(&name, done).await;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Finds out what there is of a service, and waits for the ends of what runs.
    async fn look(&mut self, name: &str) {
        let context = &self.supervisor.context;
        let number = self.number(name);
        let id = match number {
            0 => Ok(self.supervisor.id.clone()),
            number => self.supervisor.id.member(number),
        };
        let mut seen = Seen::default();
        let observed = match &id {
            Ok(id) => context.observe(id, &self.run_directory(name)).await.ok(),
            Err(_) => None,
        };
        if let Some(Observed::Running { init_pid, .. }) = observed
            && let Ok(tasks) = agent::tasks(&self.socket(name)).await
        {
            seen.sandbox = true;
            if number > 0 {
                let name = name.to_owned();
                self.under_way.push(Box::pin(async move {
                    crate::context::ended(crate::context::pid(init_pid)).await;
                    (name, Done::Gone)
                }));
            }
            let runs = tasks.iter().filter_map(|(task, state)| {
                let run = run_of(name, task)?;
                Some((run, state))
            });
            if let Some((run, state)) = runs.max_by_key(|(run, _)| *run) {
                let elapsed = i64::try_from(state.elapsed_millis).unwrap_or(i64::MAX);
                let since = context
                    .now()
                    .saturating_sub(SignedDuration::from_millis(elapsed));
                seen.runs = run;
                seen.since = since.ok();
                seen.exit = state.exit_code;
                if state.exit_code.is_none() {
                    self.attach(name, run);
                }
            }
        }
        self.seen.insert(name.to_owned(), seen);
    }

    /// Waits for the end of a run that was found.
    fn attach(&mut self, name: &str, run: u32) {
        let socket = self.socket(name);
        let name = name.to_owned();
        self.under_way.push(Box::pin(async move {
            let task = task_name(&name, run);
            let process = boatyard_wire::Process::default();
            let code = match agent::launch(&socket, task, process).await {
                Ok(launched) => launched.ended().await.ok(),
                Err(_) => None,
            };
            if code.is_none() {
                // Its agent is gone, or going: not to ask it all the time.
                tokio::time::sleep(AGAIN).await;
            }
            (name, Done::Ended(code))
        }));
    }

    fn act(&self, name: &str, action: Action) -> BoxFuture<'a, (String, Done)> {
        let named = name.to_owned();
        let socket = self.socket(name);
        match action {
            Action::StartSandbox => {
                let (supervisor, job) = (self.supervisor, self.job);
                Box::pin(async move {
                    let failed = start(supervisor, job, &named).await.err();
                    (named, Done::Sandbox(failed))
                })
            }
            Action::Run(run) => {
                let process = self.with(|project| {
                    let service = project.plan.named(name)?;
                    project.command(service)
                });
                let process = process.flatten().unwrap_or_default();
                Box::pin(async move {
                    let launched = agent::launch(&socket, task_name(&named, run), process).await;
                    // Its end is waited for like that of one that was found.
                    let failed = launched.err().map(|error| {
                        Failed::transient("ServiceFailed", crate::failure::chain(&error))
                    });
                    (named, Done::Run(run, failed))
                })
            }
            Action::Check => {
                let asked = self.with(|project| {
                    let service = project.plan.named(name)?;
                    let timeout = project.healthcheck(service)?.timeout_millis;
                    Some((
                        project.check(service)?,
                        timeout.map_or(CHECK, Duration::from_millis),
                    ))
                });
                Box::pin(async move {
                    let good = match asked.flatten() {
                        Some((process, longest)) => {
                            let asking = agent::exec(&socket, process);
                            let ended = tokio::time::timeout(longest, asking).await;
                            matches!(ended, Ok(Ok(ended)) if ended.code == 0)
                        }
                        None => true,
                    };
                    (named, Done::Checked(good))
                })
            }
        }
    }

    async fn done(&mut self, name: &str, done: Done) {
        let now = self.supervisor.context.now();
        match done {
            Done::Gone => {
                self.messages
                    .insert(name.to_owned(), "its sandbox ended".to_owned());
                self.look(name).await;
                self.seen.entry(name.to_owned()).or_default().failed = Some(now);
            }
            Done::Sandbox(failed) => {
                self.busy.remove(name);
                match failed {
                    None => self.look(name).await,
                    Some(failed) => self.failed(name, failed, now),
                }
            }
            Done::Run(run, failed) => {
                self.busy.remove(name);
                match failed {
                    None => {
                        self.messages.remove(name);
                        let seen = self.seen.entry(name.to_owned()).or_default();
                        (seen.runs, seen.since, seen.exit) = (run, Some(now), None);
                        (seen.health, seen.failed) = (Health::default(), None);
                        self.attach(name, run);
                    }
                    Some(failed) => self.failed(name, failed, now),
                }
            }
            Done::Ended(Some(code)) => {
                let seen = self.seen.entry(name.to_owned()).or_default();
                seen.exit = Some(code);
                seen.health = Health::default();
            }
            Done::Ended(None) => self.look(name).await,
            Done::Checked(good) => {
                self.busy.remove(name);
                let check = self.services.get(name).and_then(|service| service.check);
                if let Some(check) = check
                    && let Some(seen) = self.seen.get_mut(name)
                    && seen.exit.is_none()
                {
                    let since = seen.since.unwrap_or(now);
                    seen.health = seen.health.after(&check, since, good, now);
                }
            }
        }
    }

    fn failed(&mut self, name: &str, failed: Failed, now: Timestamp) {
        tracing::info!(environment = %self.supervisor.uid, service = name, message = failed.message, "a service could not be started");
        self.messages.insert(name.to_owned(), failed.message);
        self.seen.entry(name.to_owned()).or_default().failed = Some(now);
    }

    fn publish(&self, decision: &boatyard_plan::services::Decision) {
        let services = self.services.iter().map(|(name, service)| {
            let nothing = Seen::default();
            let seen = self.seen.get(name).unwrap_or(&nothing);
            let blocked = decision.blocked.get(name);
            let state = match (seen.sandbox, seen.runs, seen.exit) {
                _ if blocked.is_some() => ServiceState::Failed,
                (true, _, Some(_)) => ServiceState::Exited,
                (true, 0, None) if service.command => ServiceState::Waiting,
                (true, _, None) => ServiceState::Running,
                (false, ..) => ServiceState::Waiting,
            };
            let running = state == ServiceState::Running;
            let health = service
                .check
                .filter(|_| running)
                .map(|_| match seen.health.state {
                    HealthState::Starting => ServiceHealth::Starting,
                    HealthState::Healthy => ServiceHealth::Healthy,
                    HealthState::Unhealthy => ServiceHealth::Unhealthy,
                });
            ServiceStatus {
                name: name.clone(),
                state,
                health,
                exit_code: seen.exit,
                restarts: seen.runs.saturating_sub(1),
                message: blocked.or_else(|| self.messages.get(name)).cloned(),
            }
        });
        let blocked = decision.blocked.iter().next();
        let state = State {
            of: Some(self.job.record.incarnation),
            ready: decision.ready,
            blocked: blocked.map(|(name, why)| {
                format!("service {name} cannot start: {why} (its output: boatyard logs)")
            }),
            services: services.collect(),
        };
        self.supervisor.state.send_if_modified(|known| {
            let differs = *known != state;
            *known = state;
            differs
        });
    }
}

/// Starts the sandbox of a service and waits until its agent answers.
async fn start(supervisor: &Supervisor, job: &Job, name: &str) -> Result<(), Failed> {
    let guard = supervisor.starting.clone().lock_owned().await;
    let context = &supervisor.context;
    let paths = context.layout.environment(&supervisor.uid);
    let internal = || Failed::transient("Internal", "there is no such service");
    let plan = job.record.compose.as_ref().ok_or_else(internal)?;
    let service = plan.named(name).ok_or_else(internal)?;
    let project = Project {
        plan,
        record: &job.record,
        paths: &paths,
    };
    let mut spec = project.spec(context, &supervisor.id, &job.object, service)?;
    spec.egress = supervisor.egress.borrow().clone().map(Box::new);
    let state = spec.state.clone();
    let filling = project.filling(&spec, service)?;
    context.blocking(move || filling.fill()).await?;
    context.remove(&spec.id, &state).await?;
    let sandboxes = context.sandboxes.clone();
    // Whoever stops the environment waits for the lock: a start is done or has not begun.
    let started = context
        .blocking(move || {
            let started = sandboxes.start(&spec);
            drop(guard);
            started
        })
        .await;
    started.map_err(|error| Failed::transient("ServiceFailed", crate::failure::chain(&error)))?;
    agent::ping(&state.join("agent.sock"))
        .await
        .map_err(|error| Failed::transient("ServiceFailed", crate::failure::chain(&error)))
}

/// The agent's name of a service's run; its log is named so.
fn task_name(service: &str, run: u32) -> String {
    let clean = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let service: String = service.chars().map(clean).take(40).collect();
    match run {
        1 => format!("service-{service}"),
        run => format!("service-{service}.{run}"),
    }
}

/// The number of a run, when a task is one of this service.
fn run_of(service: &str, task: &str) -> Option<u32> {
    let first = task_name(service, 1);
    if task == first {
        return Some(1);
    }
    task.strip_prefix(&first)?.strip_prefix('.')?.parse().ok()
}

#[cfg(test)]
mod tests {
    //! Names of runs.
    use super::*;

    #[test]
    fn runs_are_found_by_the_names_of_their_tasks() {
        for (service, run) in [("db", 1), ("My_Service.x", 7)] {
            let task = task_name(service, run);
            assert_eq!(run_of(service, &task), Some(run), "{task}");
            assert_eq!(run_of("other", &task), None);
        }
        assert_eq!(task_name("My_Service", 1), "service-my-service");
    }
}
