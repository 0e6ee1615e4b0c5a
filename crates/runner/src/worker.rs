//! The control loop of one environment: observe, plan, apply, again.
//!
//! One task per environment bound to this runner. A change of the object, the end of the
//! sandbox or a due time only wakes it; what to do is decided anew from what is seen
//! (`plan::environment::next`). It may be killed at any instruction: the next one adopts what it
//! finds. A newer want cancels a long step by dropping it; every step can be dropped.

use crate::context::{Context, ended};
use crate::failure::Failed;
use crate::lifecycle::{Active, Call};
use crate::record::{FailureRecord, Record, StepRecord, Uid};
use crate::resources::{self, Keeper, Resources};
use crate::services::{self, Services, Supervisor};
use crate::status::{Inputs, compute};
use boatyard_api::Environment;
use boatyard_api::environment::{EnvironmentStatus, ResourcesStatus, WantedState};
use boatyard_plan::environment::{Action, Failure, Hook, SandboxSeen, Seen, Want, backoff, next};
use boatyard_sandbox::Observed;
use boatyard_sandbox::spec::Id;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The newest version of the object, or None when it is gone from the API.
pub(crate) type Latest = watch::Receiver<Option<Arc<Environment>>>;

/// One environment's worker.
pub(crate) struct Worker {
    pub(crate) context: Context,
    pub(crate) uid: Uid,
    pub(crate) id: Id,
    pub(crate) record: Option<Record>,
    /// What is known of what it may reach.
    pub(crate) egress: crate::egress::Known,
    pub(crate) init_pid: Option<i32>,
    monitor_pid: Option<i32>,
    agent_answers: bool,
    /// What is known of how full its disk is.
    disk: Option<crate::disk::Known>,
    /// Its class, as the start under way has read it.
    pub(crate) asked: Option<crate::classes::Asked>,
    /// When it was looked whether its class gives it more.
    disk_class: std::time::Instant,
    pub(crate) services: Services,
    /// What looks after the services, until [`Worker::run`].
    supervisor: Option<Supervisor>,
    resources: Resources,
    /// What looks after its resources, until [`Worker::run`].
    keeper: Option<Keeper>,
    /// A failure before there was a record, and for which want.
    unrecorded: Option<(Want, FailureRecord)>,
    latest: Latest,
    status: watch::Sender<EnvironmentStatus>,
    pub(crate) calls: mpsc::Receiver<Call>,
    /// The call that is worked on.
    pub(crate) active: Option<Active>,
}

/// How an action went.
#[derive(Debug)]
pub(crate) enum Performed {
    Done,
    /// With the sentence.
    Failed(String),
    /// Something else is wanted now, or the sandbox ended meanwhile.
    Abandoned,
}

/// What the object asks for.
pub(crate) fn want(object: &Environment) -> Want {
    if object.metadata.deletion_timestamp.is_some() {
        return Want::Gone;
    }
    match object.spec.state {
        WantedState::Running => Want::Running {
            restart: object.spec.restarted_at.clone(),
        },
        WantedState::Stopped => Want::Stopped,
    }
}

impl Worker {
    pub(crate) fn new(
        context: Context,
        uid: Uid,
        latest: Latest,
        status: watch::Sender<EnvironmentStatus>,
        used: watch::Sender<Option<ResourcesStatus>>,
    ) -> Result<Self, Failed> {
        let id = Id::try_from(uid.as_str().to_owned()).map_err(|error| Failed::internal(&error))?;
        let path = context.layout.environment(&uid).record();
        let record = Record::read(&path).map_err(|error| {
            Failed::lasting(
                "RecordDamaged",
                format!(
                    "{} is damaged ({error}); restore it or delete the environment's directory",
                    path.display()
                ),
            )
        })?;
        let calls = context.calls.of(&uid);
        let (services, supervisor) = services::pair(context.clone(), uid.clone(), id.clone());
        let of = (uid.clone(), id.clone());
        let (resources, keeper) = resources::pair(context.clone(), of, latest.clone(), used);
        Ok(Self {
            egress: crate::egress::Known::new(&context),
            services,
            supervisor: Some(supervisor),
            resources,
            keeper: Some(keeper),
            context,
            uid,
            id,
            record,
            init_pid: None,
            monitor_pid: None,
            agent_answers: false,
            disk: None,
            asked: None,
            disk_class: std::time::Instant::now(),
            unrecorded: None,
            latest,
            status,
            calls,
            active: None,
        })
    }

    /// Runs until the environment is let go of, or the object vanished.
    pub(crate) async fn run(mut self) {
        let supervisor = self.supervisor.take();
        let supervised = async {
            if let Some(supervisor) = supervisor {
                supervisor.run().await;
            }
            std::future::pending::<()>().await;
        };
        let keeper = self.keeper.take();
        let kept = async {
            if let Some(keeper) = keeper {
                keeper.run().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.work() => {}
            () = supervised => {}
            () = kept => {}
        }
    }

    async fn work(&mut self) {
        // An earlier runner's: this one does not wait for it.
        self.end_clone().await;
        loop {
            let Some(object) = self.latest.borrow_and_update().clone() else {
                return;
            };
            let want = want(&object);
            // Whoever asks again wants it tried again.
            self.unrecorded.take_if(|(then, _)| *then != want);
            let seen = match self.observe(&object).await {
                Ok(seen) => seen,
                Err(error) => {
                    tracing::warn!(environment = %self.uid, %error, "observing failed");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    continue;
                }
            };
            self.publish(&object, &want, &seen);
            let asked = self.asked(&object, &want, &seen).await;
            let action =
                asked.map_or_else(|| next(&want, &seen, self.context.now()), Action::RunHook);
            tracing::debug!(environment = %self.uid, ?action, "next");
            match action {
                Action::Idle => self.wait(&seen, None).await,
                Action::WaitUntil(due) => self.wait(&seen, Some(due)).await,
                Action::Release => {
                    match crate::objects::release(&self.context.client, &object).await {
                        Ok(()) => return,
                        Err(error) => {
                            tracing::warn!(environment = %self.uid, %error, "letting go of the object failed; trying again");
                            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                        }
                    }
                }
                action => {
                    let performed = self.perform(&object, &want, &seen, action).await;
                    let failed = matches!(performed, Performed::Failed(_));
                    if let Some(hook) = asked {
                        self.answered(hook, performed).await;
                    }
                    // Towards running, planning paces itself by the failure.
                    if failed && !matches!(want, Want::Running { .. }) {
                        let count = self.failure().map_or(1, |failure| failure.count);
                        let due = self.context.now().saturating_add(backoff(count));
                        self.wait(&seen, Some(due.unwrap_or(jiff::Timestamp::MAX)))
                            .await;
                    }
                }
            }
        }
    }

    /// Applies one action, unless the want changes meanwhile.
    async fn perform(
        &mut self,
        object: &Environment,
        want_then: &Want,
        seen: &Seen,
        action: Action,
    ) -> Performed {
        let step = step_name(&action);
        if let Some(step) = step {
            self.begin(step);
            self.publish(object, want_then, seen);
        }
        let mut latest = self.latest.clone();
        let changed = async {
            loop {
                if latest.changed().await.is_err() {
                    return;
                }
                let differs = latest
                    .borrow()
                    .as_ref()
                    .is_none_or(|object| want(object) != *want_then);
                if differs {
                    return;
                }
            }
        };
        let inside = matches!(
            action,
            Action::AwaitAgent
                | Action::RaiseServices
                | Action::PrepareSession
                | Action::RunHook(_)
        );
        let watched = inside.then_some([self.init_pid, self.monitor_pid]);
        let died = one_ended(watched.unwrap_or_default());
        let outcome = if matches!(
            action,
            Action::StopSandbox
                | Action::CleanSandbox
                | Action::Remove
                | Action::Allocate
                | Action::StartSandbox
        ) {
            Some(crate::steps::apply(self, object, &action).await)
        } else {
            tokio::select! {
                outcome = crate::steps::apply(self, object, &action) => Some(outcome),
                () = changed => None,
                () = died => None,
            }
        };
        match outcome {
            Some(Ok(message)) => {
                self.succeeded(step, step_of(&action), message);
                Performed::Done
            }
            Some(Err(failed)) => {
                // Whoever mends the class is not told of the old one.
                self.asked = None;
                let message = failed.message.clone();
                self.failed(want_then, step_of(&action), failed);
                Performed::Failed(message)
            }
            None => {
                self.abandoned();
                self.end_clone().await;
                Performed::Abandoned
            }
        }
    }

    /// Looks at disk and kernel.
    async fn observe(&mut self, object: &Environment) -> Result<Seen, Failed> {
        let paths = self.context.layout.environment(&self.uid);
        let on_disk = paths.root().exists();
        let observed = self.context.observe(&self.id, &paths.run()).await?;
        (self.init_pid, self.monitor_pid) = (None, None);
        let sandbox = match observed {
            Observed::Absent if paths.run().join("monitor.json").exists() => SandboxSeen::Ended,
            Observed::Absent => SandboxSeen::Absent,
            Observed::Exited { .. } => SandboxSeen::Ended,
            // Without its monitor names do not resolve inside and the end would be seen by nobody.
            Observed::Running {
                monitor_pid: None,
                init_pid,
                ..
            } => {
                tracing::warn!(environment = %self.uid, "its monitor was killed; ending what runs in it, to start it again if it is to run");
                self.init_pid = Some(crate::context::pid(init_pid));
                SandboxSeen::Ended
            }
            Observed::Running {
                monitor_pid,
                init_pid,
                ..
            } => {
                self.init_pid = Some(crate::context::pid(init_pid));
                self.monitor_pid = monitor_pid.map(crate::context::pid);
                if !self.agent_answers {
                    // A restarted runner finds the agent already there.
                    let adopted = self
                        .record
                        .as_ref()
                        .is_some_and(|record| record.session_of == Some(record.incarnation));
                    self.agent_answers =
                        adopted && crate::agent::ping(&paths.agent_socket()).await.is_ok();
                }
                SandboxSeen::Running {
                    agent: self.agent_answers,
                }
            }
        };
        let disk = self.disk();
        let runs = matches!(sandbox, SandboxSeen::Running { .. });
        if runs {
            if let Some(disk) = disk.clone().filter(|_| self.disk.is_none()) {
                let before = crate::status::disk_before(object);
                self.disk = crate::disk::look(&self.context, disk, before).await;
            }
            crate::egress::look(self, object).await;
        } else {
            (self.agent_answers, self.disk) = (false, None);
            self.egress.forget();
        }
        let running = self.record.as_ref().zip(self.init_pid).filter(|_| runs);
        let running = running.map(|(record, init)| (record, init, paths.agent_socket()));
        self.resources.look_after(running);
        let Some(record) = &self.record else {
            return Ok(Seen {
                sandbox,
                on_disk,
                failure: self.failure().map(planned),
                ..Seen::default()
            });
        };
        Ok(Seen {
            allocated: true,
            source: record.source,
            configured: record.configured.is_some(),
            image: record.images_present(),
            resolved: record.resolved.is_some(),
            sandbox,
            services_left: record.compose.is_some() && !self.services.are_up(record.incarnation),
            session: record.session_of == Some(record.incarnation),
            hooks_left: crate::lifecycle::left(record, object),
            failure: self.failure().map(planned),
            restarted_at: record.restarted_at.clone(),
            mounted: disk.is_some_and(|disk| disk.is_mounted()),
            on_disk,
        })
    }

    /// The last failure, if the step it belongs to has not succeeded since.
    pub(crate) fn failure(&self) -> Option<&FailureRecord> {
        match &self.record {
            Some(record) => record.failure.as_ref(),
            None => self.unrecorded.as_ref().map(|(_, failure)| failure),
        }
    }

    /// Its limited disk, when it has one.
    pub(crate) fn disk(&self) -> Option<crate::disk::Disk> {
        let record = self.record.as_ref()?;
        let paths = self.context.layout.environment(&self.uid);
        Some(crate::disk::Disk::of(&paths, record.slot, record.disk?))
    }

    /// Notes that the agent answered.
    pub(crate) fn agent_answered(&mut self) {
        self.agent_answers = true;
    }

    async fn wait(&mut self, seen: &Seen, due: Option<jiff::Timestamp>) {
        let runs = matches!(seen.sandbox, SandboxSeen::Running { .. });
        let watched = runs.then_some([self.init_pid, self.monitor_pid]);
        let sandbox_ended = one_ended(watched.unwrap_or_default());
        let time = async {
            match due {
                Some(due) => {
                    let pause = due.duration_since(self.context.now());
                    tokio::time::sleep(pause.try_into().unwrap_or_default()).await;
                }
                None => std::future::pending().await,
            }
        };
        let (context, disk) = (self.context.clone(), self.disk().filter(|_| runs));
        let object = self.latest.borrow().clone();
        let known = (self.disk.clone(), &mut self.disk_class);
        let disk_changed = async {
            match (disk, &object) {
                (Some(disk), Some(object)) => {
                    crate::disk::changed(&context, &object.spec, disk, known).await
                }
                _ => std::future::pending().await,
            }
        };
        let egress = &mut self.egress;
        let refused = async {
            if runs {
                crate::egress::changed(egress).await;
            } else {
                std::future::pending().await
            }
        };
        let mut change = None;
        tokio::select! {
            _ = self.latest.changed() => {}
            what = disk_changed => change = Some(what),
            () = refused => {}
            () = sandbox_ended => {}
            () = self.services.changed() => {}
            () = time => {}
            Some(call) = self.calls.recv(), if self.active.is_none() => {
                self.active = Some(Active::new(call));
            }
        }
        match change {
            Some(crate::disk::Change::Fullness(known)) => self.disk = known,
            Some(crate::disk::Change::Larger(bytes)) => {
                if let Some(record) = &mut self.record {
                    record.disk = Some(bytes);
                }
                self.save(true);
                if let Some(disk) = self.disk() {
                    crate::disk::grow(&self.context, disk).await;
                }
                self.disk = None;
            }
            None => {}
        }
    }

    fn publish(&self, object: &Environment, want: &Want, seen: &Seen) {
        let previous = object.status.clone().unwrap_or_default();
        let inputs = Inputs {
            want,
            seen,
            failure: self.failure(),
            generation: object.metadata.generation,
            services: self.services.status(),
            disk: self.disk.as_ref(),
            egress: self.egress.status(),
            previous: &previous,
            now: self.context.now(),
        };
        let status = compute(self.record.as_ref(), &inputs);
        self.status.send_if_modified(|current| {
            let differs = *current != status;
            *current = status;
            differs
        });
    }

    /// Saves the record; failing to is logged, and the step will be done again after a kill.
    pub(crate) fn save(&self, durable: bool) {
        if let Some(record) = &self.record {
            let path = self.context.layout.environment(&self.uid).record();
            if let Err(error) = record.write(&path, durable) {
                tracing::error!(path = %path.display(), %error, "the record cannot be written: free space or mend the disk");
            }
        }
    }

    fn begin(&mut self, name: &str) {
        let now = self.context.now();
        if let Some(record) = &mut self.record {
            record.steps.retain(|step| step.name != name);
            record.steps.push(StepRecord {
                name: name.to_owned(),
                started_at: now,
                duration_millis: None,
                failed: false,
                message: None,
            });
        }
    }

    fn finish(&mut self, name: Option<&str>, failed: bool, message: Option<String>) {
        let now = self.context.now();
        let step = self.record.as_mut().and_then(|record| {
            record
                .steps
                .iter_mut()
                .find(|step| Some(step.name.as_str()) == name)
        });
        if let Some(step) = step {
            let millis = now.duration_since(step.started_at).as_millis();
            step.duration_millis = Some(u64::try_from(millis).unwrap_or_default());
            step.failed = failed;
            step.message = message;
        }
    }

    fn succeeded(&mut self, step: Option<&str>, failing: &str, message: Option<String>) {
        self.finish(step, false, message);
        if let Some(record) = &mut self.record {
            record.failure.take_if(|failure| failure.step == failing);
        }
        self.save(false);
    }

    fn failed(&mut self, want: &Want, step: &str, failed: Failed) {
        tracing::info!(environment = %self.uid, step, reason = failed.reason, message = failed.message, "a step failed");
        self.finish(Some(step), true, Some(failed.message.clone()));
        let before = self
            .failure()
            .filter(|before| before.step == step)
            .map_or(0, |before| before.count);
        let failure = FailureRecord {
            step: step.to_owned(),
            reason: failed.reason,
            message: failed.message,
            at: self.context.now(),
            count: before + 1,
            transient: failed.transient,
        };
        match &mut self.record {
            Some(record) => record.failure = Some(failure),
            None => self.unrecorded = Some((want.clone(), failure)),
        }
        self.save(false);
    }

    /// Removal tries it again, and so does whoever clones next.
    async fn end_clone(&self) {
        if let Err(error) = crate::source::end_clone(&self.context, &self.uid).await {
            tracing::warn!(environment = %self.uid, %error, "ending its clone failed");
        }
    }

    fn abandoned(&mut self) {
        if let Some(record) = &mut self.record {
            record.steps.retain(|step| step.duration_millis.is_some());
        }
    }
}

/// A failure as planning sees it.
fn planned(failure: &FailureRecord) -> Failure {
    Failure {
        at: failure.at,
        count: failure.count,
        transient: failure.transient,
        hook: Hook::named(&failure.step).is_some(),
    }
}

/// Waits until one of the processes has ended; for ever when there is none.
async fn one_ended([one, other]: [Option<i32>; 2]) {
    let end = async |pid: Option<i32>| match pid {
        Some(pid) => ended(pid).await,
        None => std::future::pending().await,
    };
    tokio::select! {
        () = end(one) => {}
        () = end(other) => {}
    }
}

/// Name of the step a failure is recorded under.
fn step_of(action: &Action) -> &'static str {
    match action {
        Action::Allocate => "allocate",
        action => step_name(action).unwrap_or("stop"),
    }
}

/// Name of the step shown to the user; None for actions that are not steps of a start.
fn step_name(action: &Action) -> Option<&'static str> {
    match action {
        Action::FetchSource => Some("source"),
        Action::Configure => Some("configure"),
        Action::FetchImage => Some("image"),
        Action::Resolve => Some("resolve"),
        Action::StartSandbox => Some("sandbox"),
        Action::AwaitAgent => Some("agent"),
        Action::RaiseServices => Some("services"),
        Action::PrepareSession => Some("session"),
        Action::RunHook(hook) => Some(hook.name()),
        _ => None,
    }
}
