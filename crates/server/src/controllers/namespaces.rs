//! Empties namespaces that are being deleted, and lets them go.
//!
//! Keys are namespaces. Everything that lives in namespaces is watched, so that the last object to
//! go, of whatever kind, wakes its namespace. What holds one is told in conditions of its status,
//! with Kubernetes's types and reasons; the finalizer in its spec is removed through the finalize
//! subresource when nothing is left. Who creates something meanwhile takes it back (`resources`).
//!
//! Read next: `namespaces/conditions.rs`.

mod conditions;

use super::queue::Outcome;
use super::{Controller, Seen, found, target};
use crate::deletion::{self, Propagation};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::{FINALIZER, Kind};
use crate::objects::meta;
use crate::resources::{PageRequest, Resources, Selection, Target, WriteOptions};
use boatyard_store::Key;
use conditions::Remaining;
use futures::StreamExt;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

const NAMESPACES: &str = "namespaces";
/// Objects of one namespace deleted at once.
const CONCURRENCY: usize = 16;

/// Empties namespaces.
pub(super) struct Namespaces {
    resources: Resources,
    caller: Caller,
    /// Those that are being deleted.
    going: Mutex<HashSet<String>>,
}

impl Namespaces {
    pub(super) fn new(resources: Resources) -> Self {
        Self {
            resources,
            caller: Caller::internal("namespaces"),
            going: Mutex::default(),
        }
    }

    fn going(&self) -> MutexGuard<'_, HashSet<String>> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.resources.kinds.iter().filter(|kind| kind.namespaced)
    }

    async fn delete(
        &self,
        kind: &Kind,
        object: Value,
        options: &deletion::Options,
    ) -> Result<(Value, bool), Failure> {
        let target = target(kind, meta(&object, "namespace"), meta(&object, "name"));
        self.resources.delete(&self.caller, &target, options).await
    }

    /// Deletes what of a kind is in a namespace, and notes what is left.
    async fn empty(
        &self,
        kind: &Kind,
        namespace: &str,
        left: &mut Remaining,
    ) -> Result<(), Failure> {
        let (selection, page) = (Selection::default(), PageRequest::default());
        let collection = target(kind, namespace, "");
        let listed = self
            .resources
            .list(&self.caller, &collection, &selection, &page)
            .await?;
        // Whatever their finalizers say of dependents: these are in the namespace and go with it.
        let options = deletion::Options {
            propagation: Some(Propagation::Background),
            ..deletion::Options::default()
        };
        // What is on its way already is only counted: thousands may wait for their finalizers.
        let (going, staying): (Vec<Value>, Vec<Value>) =
            listed.objects()?.into_iter().partition(is_going);
        going.iter().for_each(|object| left.note(kind, object));
        let deletions = staying.into_iter();
        let deletions = deletions.map(|object| self.delete(kind, object, &options));
        let mut deletions = futures::stream::iter(deletions).buffer_unordered(CONCURRENCY);
        while let Some(deleted) = deletions.next().await {
            match deleted {
                Ok((_, true)) => {}
                Ok((object, false)) => left.note(kind, &object),
                Err(failure) if failure.reason == "NotFound" => {}
                Err(failure) => {
                    left.note(kind, &Value::Null);
                    left.failed(&failure);
                }
            }
        }
        Ok(())
    }

    /// Writes the conditions where they say something new; the namespace as it is then.
    async fn tell(&self, namespace: Value, left: &Remaining) -> Result<Value, Failure> {
        let conditions = left.conditions(&namespace["status"]["conditions"], self.resources.now());
        if namespace["status"]["conditions"] == conditions {
            return Ok(namespace);
        }
        let mut told = namespace;
        told["status"]["conditions"] = conditions;
        self.update(told, "status").await
    }

    async fn update(&self, namespace: Value, subresource: &str) -> Result<Value, Failure> {
        let kind = super::kind(&self.resources, NAMESPACES)?;
        let name = meta(&namespace, "name").to_owned();
        let target = Target {
            subresource,
            ..target(kind, "", &name)
        };
        let options = WriteOptions::default();
        let updating = self
            .resources
            .update(&self.caller, &target, namespace, &options);
        Ok(updating.await?.object)
    }
}

impl Controller for Namespaces {
    type Key = String;

    fn name(&self) -> &'static str {
        "namespaces"
    }

    fn watched(&self) -> Vec<String> {
        let contents = self.kinds().map(Kind::resource);
        contents.chain([NAMESPACES.to_owned()]).collect()
    }

    fn concurrency(&self) -> usize {
        8
    }

    fn observe(&self, seen: &Seen<'_>, wake: &mut dyn FnMut(String)) {
        let key = seen.key();
        if key.resource != NAMESPACES {
            if self.going().contains(&key.namespace) {
                wake(key.namespace.clone());
            }
            return;
        }
        let object = seen.present();
        let object: Option<Value> =
            object.and_then(|found| serde_json::from_slice(&found.data).ok());
        if object.is_some_and(|object| !meta(&object, "deletionTimestamp").is_empty()) {
            self.going().insert(key.name.clone());
            wake(key.name.clone());
        } else {
            self.going().remove(&key.name);
        }
    }

    fn known(&self, resource: &str) -> Vec<Key> {
        let going = self.going();
        let names = going.iter().filter(|_| resource == NAMESPACES);
        names
            .map(|name| Key {
                resource: resource.to_owned(),
                namespace: String::new(),
                name: name.clone(),
            })
            .collect()
    }

    fn resync(&self, wake: &mut dyn FnMut(String)) {
        self.going().iter().cloned().for_each(wake);
    }

    async fn activate(&self, key: &String) -> Result<Outcome, Failure> {
        let kind = super::kind(&self.resources, NAMESPACES)?;
        let target = target(kind, "", key);
        let got = self.resources.get(&self.caller, "get", &target).await;
        let Some(namespace) = found(got)? else {
            return Ok(Outcome::Done);
        };
        if meta(&namespace, "deletionTimestamp").is_empty() {
            return Ok(Outcome::Done);
        }
        let mut left = Remaining::default();
        for kind in self.kinds() {
            self.empty(kind, key, &mut left).await?;
        }
        let written = async {
            let held = namespace["metadata"]["finalizers"].as_array();
            let told = namespace["status"]["conditions"].is_array();
            let waits = !left.is_empty() || held.is_some_and(|held| !held.is_empty());
            let mut namespace = namespace;
            if waits || told {
                namespace = self.tell(namespace, &left).await?;
            }
            if left.is_empty() && holds(&namespace) {
                let finalizers = namespace["spec"]["finalizers"].as_array_mut();
                if let Some(finalizers) = finalizers {
                    finalizers.retain(|finalizer| finalizer != FINALIZER);
                }
                self.update(namespace, "finalize").await?;
            }
            Ok(())
        };
        match (written.await, left.failure()) {
            // Somebody was faster: that change wakes the next activation.
            (Err(failure), _) if ["Conflict", "NotFound"].contains(&failure.reason) => {
                Ok(Outcome::Done)
            }
            (Err(failure), _) | (Ok(()), Some(failure)) => Err(failure),
            (Ok(()), None) => Ok(Outcome::Done),
        }
    }
}

/// Whether an object is being deleted, without waiting for its dependents.
fn is_going(object: &Value) -> bool {
    let held = object["metadata"]["finalizers"].as_array();
    let mut held = held.into_iter().flatten();
    !meta(object, "deletionTimestamp").is_empty()
        && !held.any(|held| held == deletion::FOREGROUND || held == deletion::ORPHAN)
}

fn holds(namespace: &Value) -> bool {
    let finalizers = namespace["spec"]["finalizers"].as_array();
    finalizers.is_some_and(|finalizers| finalizers.iter().any(|held| held == FINALIZER))
}
