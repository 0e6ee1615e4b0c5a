//! A step's key, and what it is good for: finding the step's layer here or in a registry, or
//! giving the layer that the step makes its name.
//!
//! Crash behaviour: a layer is published before the entry that names it is written; a kill in
//! between leaves a layer that the step, done again, finds taken by the same bytes, or that pruning
//! removes.

use super::Work;
use crate::Error;
use crate::build::cache::Made as Entry;
use crate::build::progress::Event;
use crate::build::{run, snapshot};
use crate::digest::Digest;
use boatyard_sandbox::background::Background;
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// Of the way keys are made; another one finds nothing of before.
const KEYS: &str = "boatyard build 1";

/// Feeds a key: each part with its length, so that no two lists of parts read the same.
pub(super) struct Key(pub(super) Sha256);

impl Key {
    pub(super) fn of(architecture: &str) -> Key {
        let mut key = Key(Sha256::new());
        key.put(KEYS.as_bytes());
        key.put(architecture.as_bytes());
        key
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(super) fn json(&mut self, value: &impl serde::Serialize) {
        self.put(&serde_json::to_vec(value).unwrap_or_default());
    }
}

impl Work<'_> {
    pub(super) fn key_below(&self, key: &mut Key) {
        key.json(&self.below);
    }

    /// Finds the key's layer, or makes it in staging and gives it a name.
    pub(super) fn once(
        &self,
        key: Key,
        work: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(Entry, bool), Error> {
        let key = Digest::from_hasher(key.0);
        let (entry, found) = self.found_or_made(&key, work)?;
        let mut made = self
            .build
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        made.push((key, entry.clone()));
        Ok((entry, found))
    }

    /// Looks into the registries that serve as caches; what one has is fetched.
    fn elsewhere(&self, key: &Digest) -> Option<Entry> {
        let inner = &self.build.shared.images.inner;
        for remote in &self.build.remotes {
            let Some(entry) = remote.get(key) else {
                continue;
            };
            let Some(layer) = &entry.layer else {
                return Some(entry);
            };
            let fetched = self.build.hold(layer).and_then(|()| {
                if inner.store.has(layer) {
                    return Ok(());
                }
                self.build.runtime.block_on(remote.fetch(inner, layer))
            });
            match fetched {
                Ok(()) => return Some(entry),
                Err(error) => self.build.progress.event(Event::Note {
                    vertex: self.vertex,
                    text: format!("not from the cache: {}", crate::error::chain(&error)),
                }),
            }
        }
        None
    }

    fn found_or_made(
        &self,
        key: &Digest,
        work: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(Entry, bool), Error> {
        let inner = &self.build.shared.images.inner;
        if !self.build.request.no_cache
            && let Some(entry) = inner.cache.get(key)
        {
            match &entry.layer {
                None => return Ok((entry, true)),
                Some(layer) => {
                    self.build.hold(layer)?;
                    if inner.store.has(layer) {
                        return Ok((entry, true));
                    }
                }
            }
        }
        if !self.build.request.no_cache
            && let Some(entry) = self.elsewhere(key)
        {
            inner.cache.put(key, &entry)?;
            return Ok((entry, true));
        }
        let staging = inner.store.stage()?;
        let tree = staging.path().join("tree");
        std::fs::create_dir(&tree).map_err(Error::io("make", &tree))?;
        crate::layers::set_mode(&tree, 0o755)?;
        work(staging.path())?;
        if self.build.cancel.cancelled() {
            return Err(self.failed(&run::cancelled()));
        }
        let taken = {
            let _background = Background::enter();
            snapshot::take(staging.path(), &inner.options.limits)
        };
        let taken = taken.map_err(|error| self.failed(&error))?;
        let layer = match taken {
            None => None,
            Some((id, facts)) => {
                self.build.hold(&id)?;
                inner.store.adopt(staging, id.clone(), facts)?;
                Some(id)
            }
        };
        let entry = Entry {
            layer,
            created: crate::images::now(),
        };
        inner.cache.put(key, &entry)?;
        Ok((entry, false))
    }
}
