//! Deletes what is in namespaces that are being deleted, then the namespaces.
//!
//! Keys are namespaces. Everything that lives in namespaces is watched, so that the last object to
//! go, of whatever kind, wakes its namespace.

use super::queue::Outcome;
use super::{Controller, Seen, found, target};
use crate::deletion;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::Kind;
use crate::objects::meta;
use crate::resources::{PageRequest, Resources, Selection};
use boatyard_store::Key;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

const NAMESPACES: &str = "namespaces";

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

    /// Deletes what of a kind is in a namespace; how much is left.
    async fn empty(&self, kind: &Kind, namespace: &str) -> Result<usize, Failure> {
        let (selection, page) = (Selection::default(), PageRequest::default());
        let collection = target(kind, namespace, "");
        let listed = self
            .resources
            .list(&self.caller, &collection, &selection, &page);
        let mut left = 0;
        for object in listed.await?.items {
            let target = target(kind, meta(&object, "namespace"), meta(&object, "name"));
            let options = deletion::Options::default();
            match self.resources.delete(&self.caller, &target, &options).await {
                Ok((_, gone)) => left += usize::from(!gone),
                Err(failure) if failure.reason == "NotFound" => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(left)
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
        let mut left = 0;
        for kind in self.kinds() {
            left += self.empty(kind, key).await?;
        }
        let held = namespace["metadata"]["finalizers"].as_array();
        if left == 0 && held.is_none_or(Vec::is_empty) {
            self.resources.finish_namespace(&namespace).await?;
        }
        Ok(Outcome::Done)
    }
}
