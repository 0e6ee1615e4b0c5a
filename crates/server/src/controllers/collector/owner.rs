//! Owners that are being deleted and whose dependents have a say in it.
//!
//! Foreground: the owner goes when no dependent that blocks it is left; the dependents, woken when
//! the owner began to wait, delete themselves. Orphan: the references to the owner are removed, then
//! the owner goes. Both remove their finalizer only when the graph is as new as the owner's deletion:
//! a dependent that was there before it is neither forgotten nor, when it was to stay, collected.

use super::{Collector, Read};
use crate::controllers::queue::Outcome;
use crate::deletion::{FOREGROUND, ORPHAN};
use crate::failure::Failure;
use boatyard_store::{Key, Revision};
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;
use std::time::Duration;

/// How soon to look again when something is about to be seen.
pub(super) const SOON: Duration = Duration::from_millis(20);
/// Dependents orphaned at once.
const CONCURRENCY: usize = 16;

impl Collector {
    pub(super) async fn foreground(&self, read: &Read) -> Result<Outcome, Failure> {
        if !self.is_current(revision(read)).await? {
            return Ok(Outcome::After(SOON));
        }
        let blocked = self.graph().blocking(&read.facts.uid).next().is_some();
        if !blocked {
            self.let_go(read, FOREGROUND).await?;
        }
        Ok(Outcome::Done)
    }

    pub(super) async fn orphan(&self, read: &Read) -> Result<Outcome, Failure> {
        if !self.is_current(revision(read)).await? {
            return Ok(Outcome::After(SOON));
        }
        let dependents = self.graph().dependents(&read.facts.uid);
        futures::stream::iter(dependents)
            .map(|key| self.disown(key, &read.facts.uid))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        self.let_go(read, ORPHAN).await?;
        Ok(Outcome::Done)
    }

    /// Removes an object's references to an owner.
    async fn disown(&self, key: Arc<Key>, uid: &str) -> Result<(), Failure> {
        loop {
            let Some(read) = self.read(&key).await? else {
                return Ok(());
            };
            let references = read.facts.owner_references.iter();
            let kept: Vec<bool> = references.map(|reference| reference.uid != uid).collect();
            if kept.iter().all(|kept| *kept) {
                return Ok(());
            }
            match self.keep_references(&read, kept).await {
                Err(failure) if failure.reason == "Conflict" => {}
                Err(failure) if failure.reason == "NotFound" => return Ok(()),
                written => return written,
            }
        }
    }

    async fn let_go(&self, read: &Read, finalizer: &str) -> Result<(), Failure> {
        let mut object = read.object.clone();
        if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
            finalizers.retain(|held| held != finalizer);
        }
        self.update(&read.key, object).await
    }
}

fn revision(read: &Read) -> Revision {
    Revision(read.version().parse().unwrap_or_default())
}
