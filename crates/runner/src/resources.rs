//! What an environment may use, what it uses, and why it is slowed.
//!
//! One future beside each environment's worker, while the environment runs. It applies a changed class
//! to what runs ([`pass`]), keeps the order in which processes are killed when memory runs out, tells
//! of those that were (`kills`), and answers `status.resources`. Everything it decides is `plan`'s
//! (`resize`, `memory`, `slowed`); live figures of all environments lie on the [`board`].
//!
//! Crash behaviour: nothing is remembered. What holds is read from the cgroups, what was told from the
//! status as written; a change that was cut off is made by the next one. An idle environment costs some
//! reads of open files each time it is looked at.
//!
//! Read next: `pass`, `kills`.

pub(crate) mod board;
mod kills;
mod pass;

use crate::context::Context;
use crate::record::{Record, Uid};
use crate::worker::Latest;
use boatyard_api::environment::{MemoryKill, Pending, ResourcesStatus};
use boatyard_api::words::DEFAULT_CLASS;
use boatyard_api::{Environment, EnvironmentClassSpec};
use boatyard_sandbox::spec::{Bandwidth, ID_RANGE, Id};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pass::Pass;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Fields of a class with their values as text: those that only a start takes.
pub(crate) type Fields = BTreeMap<String, String>;

/// An environment that runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    incarnation: u64,
    started_at: Option<Timestamp>,
    /// PID 1 as the host sees it.
    init: u32,
    uids: Range<u32>,
    /// What of its class it was started with.
    class: Option<Fields>,
    socket: PathBuf,
}

/// The worker's handle.
pub(crate) struct Resources(watch::Sender<Option<Job>>);

/// What does it.
pub(crate) struct Keeper {
    context: Context,
    uid: Uid,
    id: Id,
    latest: Latest,
    job: watch::Receiver<Option<Job>>,
    state: watch::Sender<Option<ResourcesStatus>>,
    /// What its link is held to, and in which start.
    shaped: Option<(u64, Bandwidth)>,
}

/// Both ends for one environment; what is known of it goes to `state`, which begins with what the
/// status says.
pub(crate) fn pair(
    context: Context,
    (uid, id): (Uid, Id),
    latest: Latest,
    state: watch::Sender<Option<ResourcesStatus>>,
) -> (Resources, Keeper) {
    let (sender, job) = watch::channel(None);
    let keeper = Keeper {
        context,
        uid,
        id,
        latest,
        job,
        state,
        shaped: None,
    };
    (Resources(sender), keeper)
}

impl Resources {
    /// Looks after what runs now, or after nothing.
    pub(crate) fn look_after(&self, running: Option<(&Record, i32, PathBuf)>) {
        let job = running.map(|(record, init, socket)| {
            let base = crate::record::id_base(record.slot);
            Job {
                incarnation: record.incarnation,
                started_at: record.started_at,
                init: u32::try_from(init).unwrap_or_default(),
                uids: base..base + ID_RANGE,
                class: record.class.clone(),
                socket,
            }
        });
        self.0.send_if_modified(|current| {
            let differs = *current != job;
            *current = job;
            differs
        });
    }
}

/// What only a start takes of a class.
pub(crate) fn fields(class: &EnvironmentClassSpec) -> Fields {
    let mut class = class.clone();
    (class.description, class.egress) = (None, None);
    let resources = &mut class.resources;
    (resources.cpu, resources.memory, resources.pids) = (None, None, None);
    (resources.requests, resources.network) = (None, None);
    let mut fields = Fields::new();
    let whole = serde_json::to_value(&class).unwrap_or_default();
    for (name, value) in whole.as_object().into_iter().flatten() {
        match (name.as_str(), value.as_object()) {
            ("resources", Some(resources)) => {
                let inner = resources.iter();
                fields.extend(inner.map(|(n, v)| (format!("resources.{n}"), v.to_string())));
            }
            _ => drop(fields.insert(name.clone(), value.to_string())),
        }
    }
    fields
}

/// How long kills that follow each other are gathered.
const GATHER: Duration = Duration::from_millis(200);
/// Between two looks while somebody watches.
const PACE: Duration = Duration::from_millis(950);
/// Pause before a sandbox whose cgroups could not be read is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

impl Keeper {
    /// Works as long as it is polled.
    pub(crate) async fn run(mut self) {
        loop {
            let job = self.job.borrow_and_update().clone();
            match job {
                Some(job) => self.keep(&job).await,
                None => {
                    self.context.board.remove(&self.uid);
                    if self.job.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    /// Looks after one start of it, until there is another or none.
    async fn keep(&mut self, job: &Job) {
        let (sandboxes, id) = (self.context.sandboxes.clone(), self.id.clone());
        let group = self.context.blocking(move || sandboxes.group(&id)).await;
        let group = match group {
            Ok(Some(group)) => group,
            // It runs nothing that can be measured.
            Ok(None) => return self.changed(None).await,
            Err(error) => {
                tracing::debug!(%error, "no cgroups to look after");
                return self.changed(Some(AGAIN)).await;
            }
        };
        let mut pass = Pass::new(group, job.init);
        let mut kills: Vec<MemoryKill> = {
            let known = self.state.borrow();
            let known = known.as_ref().map(|known| known.memory_kills.clone());
            known.unwrap_or_default()
        };
        let mut told = Told::default();
        let mut posted: Option<Instant> = None;
        let mut seen_kills = self.context.kills.clone();
        seen_kills.mark_changed();
        let mut watched = self.context.board.watched();
        loop {
            let Some(object) = self.latest.borrow_and_update().clone() else {
                return self.changed(None).await;
            };
            let wanted = self.wanted(&object);
            let shape = self.shape(job, wanted.as_deref()).await;
            let (next, looked) = {
                let (job, mut taken) = (job.clone(), pass);
                let looking = self.context.blocking(move || {
                    let looked = taken.look(&job, wanted.as_ref());
                    (taken, looked)
                });
                looking.await
            };
            pass = next;
            let mut looked = match looked {
                Ok(looked) => looked,
                Err(error) => {
                    tracing::debug!(%error, "its cgroups cannot be read");
                    return self.changed(Some(AGAIN)).await;
                }
            };
            let limit = looked.status.memory.clone();
            let fresh = kills::fresh(&seen_kills, job, &kills, looked.uncounted_kills, limit);
            let fresh = fresh(self.context.now());
            if !fresh.is_empty() {
                let quiet = posted.is_none_or(|at| at.elapsed() >= kills::BETWEEN_EVENTS);
                if quiet {
                    posted = Some(Instant::now());
                }
                kills::tell(&self.context, &object, job, &fresh, quiet).await;
                kills.splice(0..0, fresh.into_iter().rev());
                kills.truncate(boatyard_api::environment::MOST_KILLS);
            }
            looked.status.memory_kills.clone_from(&kills);
            looked.status.pending.extend(shape);
            self.context.board.set(&self.uid, &object, &looked);
            if told.is_worth(&looked) {
                self.state.send_replace(Some(looked.status));
            }
            let looking = watched.borrow_and_update().contains_key(&self.uid);
            let pause = if looking { PACE } else { looked.next };
            tokio::select! {
                () = tokio::time::sleep(pause.min(looked.next)) => {}
                () = board::watched(&mut watched, &self.uid), if !looking => {}
                _ = self.latest.changed() => {}
                _ = self.context.classes.changed() => {}
                // They come in storms.
                () = kills::more(&mut seen_kills) => tokio::time::sleep(GATHER).await,
                changed = self.job.changed() => match changed {
                    Ok(()) => return,
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }

    /// Holds its link to what the class says; answers why that could not be done.
    async fn shape(&mut self, job: &Job, class: Option<&EnvironmentClassSpec>) -> Option<Pending> {
        let limits = class?.resources.network.clone().unwrap_or_default();
        let bits = |rate: Option<Quantity>| boatyard_api::quantity::bytes(&rate?).ok();
        let wanted = Bandwidth {
            egress: bits(limits.egress),
            ingress: bits(limits.ingress),
        };
        // A link that was just made has no limits; of one that was found nobody knows. Where the way
        // out is shared, it is made sure of once that this one has its share.
        let fresh = job.started_at.is_none() && !self.context.shares_uplink;
        let fresh = fresh.then(Bandwidth::default);
        let held = self.shaped.filter(|(of, _)| *of == job.incarnation);
        let held = held.map(|(_, held)| held).or(fresh);
        if held == Some(wanted) {
            self.shaped = Some((job.incarnation, wanted));
            return None;
        }
        let (sandboxes, id) = (self.context.sandboxes.clone(), self.id.clone());
        let shaping = self.context.blocking(move || sandboxes.shape(&id, &wanted));
        match shaping.await {
            Ok(()) => {
                self.shaped = Some((job.incarnation, wanted));
                None
            }
            Err(error) => Some(Pending {
                field: "resources.network".to_owned(),
                needs_restart: false,
                message: format!(
                    "{}; the host's kernel may lack htb, ifb or u32",
                    crate::failure::chain(&error)
                ),
            }),
        }
    }

    /// Waits for another job, or a while.
    async fn changed(&mut self, longest: Option<Duration>) {
        let pause = async {
            match longest {
                Some(longest) => tokio::time::sleep(longest).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.job.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
            () = pause => {}
        }
    }

    /// The environment's class as it is now; None while it is not known.
    fn wanted(&mut self, object: &Environment) -> Option<Arc<EnvironmentClassSpec>> {
        let name = object.spec.class_name.as_deref().unwrap_or(DEFAULT_CLASS);
        let known = self.context.classes.borrow_and_update();
        let class = known.as_ref()?.get(name)?;
        Some(Arc::new(class.clone()))
    }
}

/// What the status said last.
#[derive(Default)]
struct Told {
    status: ResourcesStatus,
    figures: boatyard_plan::slowed::Told,
    at: Option<Instant>,
}

impl Told {
    /// Whether this is worth writing; if so it counts as written.
    fn is_worth(&mut self, looked: &pass::Looked) -> bool {
        let mut before = std::mem::take(&mut self.status);
        before.usage.clone_from(&looked.status.usage);
        // Figures in sentences are as coarse as the others.
        let same = |a: &ResourcesStatus, b: &ResourcesStatus| {
            let words = |status: &ResourcesStatus| -> Vec<String> {
                let slowed = status.slowed.iter();
                slowed.map(|slowed| slowed.reason.clone()).collect()
            };
            let rest = |status: &ResourcesStatus| ResourcesStatus {
                slowed: Vec::new(),
                ..status.clone()
            };
            words(a) == words(b) && rest(a) == rest(b)
        };
        let since = self.at.map(|at| at.elapsed());
        let worth = since.is_none_or(|since| {
            !same(&before, &looked.status)
                || boatyard_plan::slowed::worth_telling(&self.figures, &looked.figures, since)
        });
        self.status = before;
        if worth {
            self.status = looked.status.clone();
            (self.figures, self.at) = (looked.figures, Some(Instant::now()));
        }
        worth
    }
}

#[cfg(test)]
mod tests;
