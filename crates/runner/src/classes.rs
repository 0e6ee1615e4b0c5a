//! The EnvironmentClasses as they are now, for what applies to environments that run.
//!
//! One watch for the whole runner. A start asks for its class itself (`objects`), since what is known
//! here may be a moment old: once for the steps that follow each other, and not for a later start.
//! Many that start together share an answer, though none that was asked for before they were.

use crate::context::Context;
use crate::failure::Failed;
use crate::worker::Worker;
use boatyard_api::{Environment, EnvironmentClass, EnvironmentClassSpec};
use futures::TryStreamExt;
use kube::api::Api;
use kube::runtime::watcher;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// By name; None until they were read once.
pub(crate) type Known = Option<Arc<BTreeMap<String, EnvironmentClassSpec>>>;

/// A class as a start has read it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Of the environment: another start is another generation.
    generation: Option<i64>,
    name: Option<String>,
    at: Instant,
    class: EnvironmentClassSpec,
}

/// For how long the steps of a start share what was read.
const LASTS: Duration = Duration::from_secs(1);

/// The class of an environment, for a step of its start.
pub(crate) async fn of_start(
    worker: &mut Worker,
    object: &Environment,
) -> Result<EnvironmentClassSpec, Failed> {
    let (generation, name) = (object.metadata.generation, &object.spec.class_name);
    if let Some(asked) = &worker.asked
        && asked.generation == generation
        && asked.name == *name
        && asked.at.elapsed() < LASTS
    {
        return Ok(asked.class.clone());
    }
    let at = Instant::now();
    let class = worker.context.class(&object.spec).await?;
    worker.asked = Some(Asked {
        generation,
        name: name.clone(),
        at,
        class: class.clone(),
    });
    Ok(class)
}

/// Questions about classes that are under way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Questions(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By class, while anybody waits.
    open: std::sync::Mutex<HashMap<String, Arc<Question>>>,
    /// Counts beginnings, of waiting and of asking.
    turns: AtomicU64,
}

/// The last answer about a class; held by whoever asks.
type Question = tokio::sync::Mutex<Option<Answer>>;

#[derive(Debug)]
struct Answer {
    asked: u64,
    given: Result<EnvironmentClassSpec, Failed>,
}

impl Questions {
    /// What `asking` says of a class, or what another was told who began to ask after this was called.
    pub(crate) async fn ask(
        &self,
        class: &str,
        asking: impl Future<Output = Result<EnvironmentClassSpec, Failed>>,
    ) -> Result<EnvironmentClassSpec, Failed> {
        let turn = || self.0.turns.fetch_add(1, Ordering::Relaxed);
        let called = turn();
        let question = self.open().entry(class.to_owned()).or_default().clone();
        let _interest = Interest {
            questions: self,
            class,
        };
        let mut last = question.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.asked > called) {
            return last.given.clone();
        }
        let asked = turn();
        let given = asking.await;
        *last = Some(Answer {
            asked,
            given: given.clone(),
        });
        given
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Question>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody's in a question, which the last one forgets.
struct Interest<'a> {
    questions: &'a Questions,
    class: &'a str,
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        let mut open = self.questions.open();
        let question = open.get(self.class);
        // The map's, and that of who is going.
        if question.is_some_and(|question| Arc::strong_count(question) <= 2) {
            open.remove(self.class);
        }
    }
}

/// Follows them until dropped.
pub(crate) async fn follow(context: Context, known: watch::Sender<Known>) {
    let classes: Api<EnvironmentClass> = Api::all(context.client.clone());
    let stream = watcher::watcher(classes, watcher::Config::default());
    tokio::pin!(stream);
    let mut listed = BTreeMap::new();
    loop {
        match stream.try_next().await {
            Ok(Some(watcher::Event::Init)) => listed.clear(),
            Ok(Some(watcher::Event::InitApply(class))) => {
                listed.extend(class.metadata.name.map(|name| (name, class.spec)));
            }
            Ok(Some(watcher::Event::InitDone)) => {
                known.send_replace(Some(Arc::new(std::mem::take(&mut listed))));
            }
            Ok(Some(watcher::Event::Apply(class))) => {
                let Some(name) = class.metadata.name else {
                    continue;
                };
                change(&known, |classes| {
                    classes.insert(name, class.spec);
                });
            }
            Ok(Some(watcher::Event::Delete(class))) => {
                let name = class.metadata.name.unwrap_or_default();
                change(&known, |classes| {
                    classes.remove(&name);
                });
            }
            Ok(None) => return,
            Err(error) => {
                if !context.is_refused() {
                    tracing::info!(
                        error = crate::failure::chain(&error),
                        "the watch of classes ended; watching again"
                    );
                }
                context.pause(Duration::from_millis(500)).await;
            }
        }
    }
}

fn change(
    known: &watch::Sender<Known>,
    change: impl FnOnce(&mut BTreeMap<String, EnvironmentClassSpec>),
) {
    known.send_modify(|known| {
        change(Arc::make_mut(known.get_or_insert_default()));
    });
}

#[cfg(test)]
mod tests;
