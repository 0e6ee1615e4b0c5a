//! How the owner stands that a reference names.
//!
//! Decided by a read of the store at the reference's name, in the dependent's own namespace or in
//! none. An owner in another namespace is no owner: as in Kubernetes, the dependent goes as if there
//! were none, and an Event says why. An object outside namespaces cannot belong to one inside: it is
//! left alone, and an Event says so.

use super::graph::Reference;
use super::{Collector, Read};
use crate::controllers::{kind, target};
use crate::failure::Failure;
use crate::kinds::Kind;
use crate::objects::meta;
use crate::resources::WriteOptions;
use boatyard_api::DEFAULT_NAMESPACE;
use boatyard_store::{Item, Key, Scope};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::{HashSet, VecDeque};
use std::sync::{MutexGuard, PoisonError};

/// Owners remembered as gone.
const REMEMBERED: usize = 1024;
/// Objects read at once.
const CHUNK: usize = 512;

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is there.
    Solid,
    /// It is being deleted and waits for its dependents.
    Waiting,
    /// There is nothing of that uid at that name.
    Gone,
    /// This server cannot say: it knows no such kind, or the reference makes no sense.
    Unjudged,
}

/// Owners that were seen to go, so that each is looked for in other namespaces at most once. Only
/// what an Event says depends on it.
#[derive(Debug, Default)]
pub(super) struct Absent {
    known: HashSet<(Key, String)>,
    order: VecDeque<(Key, String)>,
}

impl Absent {
    pub(super) fn note(&mut self, key: &Key, uid: &str) {
        let gone = (key.clone(), uid.to_owned());
        if self.known.insert(gone.clone()) {
            self.order.push_back(gone);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn knows(&self, key: &Key, uid: &str) -> bool {
        self.known.contains(&(key.clone(), uid.to_owned()))
    }
}

impl Collector {
    pub(super) fn absent(&self) -> MutexGuard<'_, Absent> {
        self.absent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the owner stands that `reference` of `read` names.
    pub(super) async fn standing(
        &self,
        read: &Read,
        reference: &Reference,
    ) -> Result<Standing, Failure> {
        let mut kinds = self.kinds();
        let kind = kinds.find(|kind| {
            kind.kind == reference.kind && kind.api_version() == reference.api_version
        });
        let Some(kind) = kind else {
            return Ok(Standing::Unjudged);
        };
        if kind.namespaced && read.key.namespace.is_empty() {
            self.tell(read, reference, "").await;
            return Ok(Standing::Unjudged);
        }
        let namespace = if kind.namespaced {
            read.key.namespace.clone()
        } else {
            String::new()
        };
        let key = Key {
            resource: kind.resource(),
            namespace,
            name: reference.name.clone(),
        };
        let owner = self.read(&key).await?;
        match owner.filter(|owner| owner.facts.uid == reference.uid) {
            Some(owner) if owner.facts.is_foreground() => Ok(Standing::Waiting),
            Some(_) => Ok(Standing::Solid),
            None => {
                self.seek_elsewhere(read, kind, reference, &key).await?;
                Ok(Standing::Gone)
            }
        }
    }

    /// Tells of an owner that is in another namespace.
    async fn seek_elsewhere(
        &self,
        read: &Read,
        kind: &Kind,
        reference: &Reference,
        key: &Key,
    ) -> Result<(), Failure> {
        if !kind.namespaced || self.absent().knows(key, &reference.uid) {
            return Ok(());
        }
        let scope = Scope {
            resource: kind.resource(),
            namespace: None,
        };
        let (mut at, mut after) = (None, None);
        loop {
            let store = &self.resources.store;
            let page = store.list(scope.clone(), at, after, Some(CHUNK)).await;
            let page = page.map_err(|error| Failure::unavailable(error.to_string()))?;
            at = Some(page.revision);
            let namesakes = page.items.iter();
            let mut namesakes = namesakes.filter(|item| item.key().name == reference.name);
            let uid = |item: &Item| super::Facts::read(&item.stored().data).uid;
            if namesakes.any(|item| uid(item) == reference.uid) {
                self.tell(read, reference, &read.key.namespace).await;
                return Ok(());
            }
            after = page.next;
            if after.is_none() {
                self.absent().note(key, &reference.uid);
                return Ok(());
            }
        }
    }

    /// Posts an Event about a reference, once.
    async fn tell(&self, read: &Read, reference: &Reference, namespace: &str) {
        let Reference {
            api_version,
            kind: owner,
            name,
            uid,
            ..
        } = reference;
        let digest = Sha256::digest(format!("{} {uid}", read.facts.uid));
        let suffix: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let message = format!(
            "ownerRef [{api_version}/{owner}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in namespace {namespace:?}"
        );
        let event_namespace = if read.key.namespace.is_empty() {
            DEFAULT_NAMESPACE
        } else {
            &read.key.namespace
        };
        let now = crate::objects::stamp(self.resources.now());
        let about = &read.object;
        let event = json!({
            "metadata": {"name": format!("{}.{suffix}", read.key.name)},
            "involvedObject": {
                "apiVersion": about["apiVersion"], "kind": about["kind"], "name": read.key.name,
                "namespace": read.key.namespace, "uid": read.facts.uid,
                "resourceVersion": meta(about, "resourceVersion"),
            },
            "type": "Warning", "reason": "OwnerRefInvalidNamespace", "message": message,
            "source": {"component": "collector"}, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
        });
        let posting = async {
            let kind = kind(&self.resources, "events")?;
            let target = target(kind, event_namespace, "");
            let options = WriteOptions::default();
            self.resources
                .create(&self.caller, &target, event, &options)
                .await
        };
        // There already, or its namespace goes: nothing depends on it.
        if let Err(failure) = posting.await {
            tracing::debug!(%failure, "an event about a reference was not posted");
        }
    }
}
