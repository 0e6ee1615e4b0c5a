//! Deletes what belongs to objects that are gone, and sees to what a deletion says of dependents.
//!
//! Keys are objects of any kind. One whose owners are all gone goes too; references to owners that
//! are gone go when other owners stay. An object that is being deleted in the foreground is let go
//! when no dependent blocks it, one that is to orphan its dependents when none refers to it
//! (`owner`). The rules are those of Kubernetes's garbage collector, whose clients rely on them.
//!
//! The index (`graph`) says where to look and never what to do: an owner counts as gone when a read
//! of the store finds nothing of its uid, and what is deleted is deleted on the uid and version that
//! were read. Before a finalizer is removed, everything written up to then must have been seen.
//! Owners of kinds that this server does not know are nobody's to judge: they stay.
//!
//! Read next: `graph`, `owner`, `references`.

mod graph;
mod owner;
mod references;

use super::feed::Progress;
use super::queue::Outcome;
use super::{Controller, Seen, kind, target};
use crate::deletion::{self, FOREGROUND, ORPHAN, Propagation};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::Kind;
use crate::objects::meta;
use crate::resources::{Resources, WriteOptions};
use boatyard_store::{Key, Revision};
use graph::{Facts, Graph};
use references::{Absent, Standing};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Objects looked at at once.
const CONCURRENCY: usize = 32;

/// Collects garbage.
pub(super) struct Collector {
    resources: Resources,
    caller: Caller,
    progress: Progress,
    graph: Mutex<Graph>,
    absent: Mutex<Absent>,
}

/// An object as it was read, with what the collector decides by.
struct Read {
    key: Key,
    object: Value,
    facts: Facts,
}

impl Read {
    fn version(&self) -> &str {
        meta(&self.object, "resourceVersion")
    }
}

impl Collector {
    pub(super) fn new(resources: Resources, progress: Progress) -> Self {
        Self {
            resources,
            caller: Caller::internal("collector"),
            progress,
            graph: Mutex::default(),
            absent: Mutex::default(),
        }
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kinds that own and are owned.
    fn kinds(&self) -> impl Iterator<Item = &Kind> {
        let kinds = self.resources.kinds.iter();
        kinds.filter(|kind| kind.behaviour.has_dependents())
    }

    async fn read(&self, key: &Key) -> Result<Option<Read>, Failure> {
        let stored = self.resources.store.get(key.clone()).await;
        let stored = stored.map_err(|error| Failure::unavailable(error.to_string()))?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        Ok(Some(Read {
            key: key.clone(),
            object: crate::resources::object(&stored)?,
            facts: Facts::read(&stored.data),
        }))
    }

    /// Writes a changed object of the version it was read at.
    async fn update(&self, key: &Key, object: Value) -> Result<(), Failure> {
        let kind = kind(&self.resources, &key.resource)?;
        let target = target(kind, &key.namespace, &key.name);
        let options = WriteOptions::default();
        let updating = self
            .resources
            .update(&self.caller, &target, object, &options);
        updating.await.map(drop)
    }

    /// Deletes what was read, if it still is that.
    async fn delete(&self, read: &Read, propagation: Propagation) -> Result<(), Failure> {
        let kind = kind(&self.resources, &read.key.resource)?;
        let target = target(kind, &read.key.namespace, &read.key.name);
        let options = deletion::Options {
            uid: Some(read.facts.uid.clone()),
            version: Some(read.version().to_owned()),
            propagation: Some(propagation),
            ..deletion::Options::default()
        };
        let deleting = self.resources.delete(&self.caller, &target, &options);
        deleting.await.map(drop)
    }

    /// Whether every change up to a revision has been noted in the graph.
    async fn is_current(&self, revision: Revision) -> Result<bool, Failure> {
        for kind in self.kinds() {
            let store = self.resources.store.as_ref();
            let shown = self
                .progress
                .has_shown(store, &kind.resource(), revision)
                .await;
            if !shown.map_err(|error| Failure::unavailable(error.to_string()))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks at an object that is not being deleted: whether its owners still are.
    async fn dependent(&self, read: &Read) -> Result<(), Failure> {
        let mut standings = Vec::new();
        for reference in &read.facts.owner_references {
            standings.push(self.standing(read, reference).await?);
        }
        let any = |wanted: Standing| standings.contains(&wanted);
        if standings.is_empty() || any(Standing::Unjudged) && !any(Standing::Solid) {
            return Ok(());
        }
        if any(Standing::Solid) {
            if any(Standing::Gone) || any(Standing::Waiting) {
                // One that waits for its dependents does not get this one: others own it too.
                let keeps =
                    |standing: &Standing| matches!(standing, Standing::Solid | Standing::Unjudged);
                let kept = standings.iter().map(keeps).collect();
                self.keep_references(read, kept).await?;
            }
            return Ok(());
        }
        let uid = &read.facts.uid;
        let (has_dependents, cycle) = {
            let graph = self.graph();
            (graph.has_dependents(uid), graph.has_waiting_dependents(uid))
        };
        if any(Standing::Waiting) && has_dependents {
            if cycle {
                // Perhaps one of them waits for an owner of this.
                return self.unblock(read).await;
            }
            return self.delete(read, Propagation::Foreground).await;
        }
        let propagation = if read.facts.holds(ORPHAN) {
            Propagation::Orphan
        } else if read.facts.holds(FOREGROUND) {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        self.delete(read, propagation).await
    }

    /// Writes an object with some of its references only.
    async fn keep_references(&self, read: &Read, kept: Vec<bool>) -> Result<(), Failure> {
        let mut object = read.object.clone();
        let mut kept = kept.into_iter();
        if let Some(references) = object["metadata"]["ownerReferences"].as_array_mut() {
            references.retain(|_| kept.next().unwrap_or(true));
        }
        self.update(&read.key, object).await
    }

    /// Makes an object block none of its owners' deletion, then deletes it in the foreground.
    async fn unblock(&self, read: &Read) -> Result<(), Failure> {
        let mut object = read.object.clone();
        let mut blocks = false;
        let references = object["metadata"]["ownerReferences"].as_array_mut();
        for reference in references.into_iter().flatten() {
            if reference["blockOwnerDeletion"] == true {
                reference["blockOwnerDeletion"] = json!(false);
                blocks = true;
            }
        }
        if blocks {
            // The change wakes this again.
            return self.update(&read.key, object).await;
        }
        self.delete(read, Propagation::Foreground).await
    }
}

impl Controller for Collector {
    type Key = Arc<Key>;

    fn name(&self) -> &'static str {
        "collector"
    }

    fn watched(&self) -> Vec<String> {
        self.kinds().map(Kind::resource).collect()
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }

    fn observe(&self, seen: &Seen<'_>, wake: &mut dyn FnMut(Arc<Key>)) {
        let woken = match seen {
            Seen::Listed(stored) | Seen::Changed(stored) => {
                let facts = Facts::read(&stored.data);
                let listed = matches!(seen, Seen::Listed(_));
                self.graph().note(&stored.key, &facts, listed)
            }
            Seen::Deleted(stored) => {
                let facts = Facts::read(&stored.data);
                self.absent().note(&stored.key, &facts.uid);
                self.graph().remove(&stored.key, Some(&facts.uid))
            }
            Seen::Missing(key) => self.graph().remove(key, None),
        };
        woken.into_iter().for_each(wake);
    }

    fn known(&self, resource: &str) -> Vec<Key> {
        let graph = self.graph();
        let known = graph.all().filter(|key| key.resource == resource);
        known.map(|key| Key::clone(key)).collect()
    }

    fn resync(&self, wake: &mut dyn FnMut(Arc<Key>)) {
        self.graph().all().cloned().for_each(wake);
    }

    async fn activate(&self, key: &Arc<Key>) -> Result<Outcome, Failure> {
        let Some(read) = self.read(key).await? else {
            return Ok(Outcome::Done);
        };
        let done = if !read.facts.is_deleted() {
            self.dependent(&read).await.map(|()| Outcome::Done)
        } else if read.facts.holds(ORPHAN) {
            self.orphan(&read).await
        } else if read.facts.holds(FOREGROUND) {
            self.foreground(&read).await
        } else {
            Ok(Outcome::Done)
        };
        match done {
            // Somebody was faster: that change wakes the next activation, if this is still noted.
            Err(failure) if failure.reason == "Conflict" => Ok(Outcome::After(owner::SOON)),
            Err(failure) if failure.reason == "NotFound" => Ok(Outcome::Done),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests;
