//! Who belongs to whom.
//!
//! Owns the collector's index: the objects that name owners, by owner, and the objects whose
//! deletion concerns their dependents. Objects that do neither are not in it, so it costs memory
//! for what the collector may have to act on and for nothing else. Uids are what owners are known
//! by; a name says only where to look.

use crate::deletion::{FOREGROUND, ORPHAN};
use boatyard_store::Key;
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What of an object the collector decides by.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Facts {
    pub(super) uid: String,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) finalizers: Vec<String>,
    pub(super) owner_references: Vec<Reference>,
}

/// A reference to an owner.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Reference {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) block_owner_deletion: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    metadata: Facts,
}

impl Facts {
    /// Of stored bytes; what cannot be read belongs to nobody.
    pub(super) fn read(data: &[u8]) -> Self {
        let object: Object = serde_json::from_slice(data).unwrap_or_default();
        object.metadata
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub(super) fn holds(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|held| held == finalizer)
    }

    /// Its deletion waits for something about its dependents.
    fn waits(&self) -> bool {
        self.is_deleted() && (self.holds(FOREGROUND) || self.holds(ORPHAN))
    }

    /// Its deletion waits for that of its dependents.
    pub(super) fn is_foreground(&self) -> bool {
        self.is_deleted() && self.holds(FOREGROUND)
    }
}

#[derive(Debug)]
struct Node {
    uid: Box<str>,
    /// Owners by uid, and whether their deletion waits for this.
    owners: Vec<(Arc<str>, bool)>,
    /// As in [`Facts::waits`].
    waits: bool,
    /// As in [`Facts::is_foreground`].
    foreground: bool,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Arc<Key>, Node>,
    /// Objects by the uid of an owner.
    dependents: HashMap<Arc<str>, BTreeSet<Arc<Key>>>,
    /// Objects whose deletion concerns their dependents, by uid.
    waiting: HashMap<Box<str>, Arc<Key>>,
}

impl Graph {
    /// Notes an object as it is; the keys to look at because of what changed. `listed`: its owners
    /// may have gone unseen.
    pub(super) fn note(&mut self, key: &Key, facts: &Facts, listed: bool) -> BTreeSet<Arc<Key>> {
        let mut wake = BTreeSet::new();
        if self
            .nodes
            .get(key)
            .is_some_and(|node| *node.uid != *facts.uid)
        {
            wake.append(&mut self.remove(key, None));
        }
        if facts.owner_references.is_empty() && !facts.waits() {
            wake.append(&mut self.forget(key));
            return wake;
        }
        let known = self.nodes.get_key_value(key);
        let key = known.map_or_else(|| Arc::new(key.clone()), |(key, _)| key.clone());
        let owners: Vec<(Arc<str>, bool)> = facts
            .owner_references
            .iter()
            .map(|owner| {
                let uid = self.dependents.get_key_value(&*owner.uid);
                let uid = uid.map_or_else(|| owner.uid.as_str().into(), |(uid, _)| uid.clone());
                (uid, owner.block_owner_deletion == Some(true))
            })
            .collect();
        let node = Node {
            uid: facts.uid.as_str().into(),
            owners,
            waits: facts.waits(),
            foreground: facts.is_foreground(),
        };
        let before = self.nodes.get(&key);
        let changed = before.is_none_or(|before| before.owners != node.owners);
        if changed || listed {
            wake.insert(key.clone());
        }
        // Whoever waits is looked at on every change of its own.
        if node.waits {
            wake.insert(key.clone());
            if before.is_none_or(|before| !before.waits || before.foreground != node.foreground) {
                wake.extend(self.of(&node.uid).cloned());
            }
        }
        if changed {
            wake.append(&mut self.unlink(&key, &node.owners));
            for (uid, _) in &node.owners {
                let dependents = self.dependents.entry(uid.clone()).or_default();
                dependents.insert(key.clone());
            }
        }
        if node.waits {
            self.waiting.insert(node.uid.clone(), key.clone());
        } else {
            self.waiting.remove(&node.uid);
        }
        self.nodes.insert(key, node);
        wake
    }

    /// Forgets an object that exists and concerns nobody any more.
    fn forget(&mut self, key: &Key) -> BTreeSet<Arc<Key>> {
        let Some((key, _)) = self.nodes.get_key_value(key) else {
            return BTreeSet::new();
        };
        let key = key.clone();
        let wake = self.unlink(&key, &[]);
        if let Some(node) = self.nodes.remove(&key) {
            self.waiting.remove(&node.uid);
        }
        wake
    }

    /// Notes that an object is gone. `uid`, where it is known: its dependents are looked at.
    pub(super) fn remove(&mut self, key: &Key, uid: Option<&str>) -> BTreeSet<Arc<Key>> {
        let known = self.nodes.get(key).map(|node| node.uid.clone());
        let mut wake = self.forget(key);
        if let Some(uid) = uid.or(known.as_deref()) {
            wake.extend(self.of(uid).cloned());
        }
        wake
    }

    /// Takes an object from the owners it had, but not from those it has; those among them that
    /// wait for their dependents are to be looked at.
    fn unlink(&mut self, key: &Arc<Key>, has: &[(Arc<str>, bool)]) -> BTreeSet<Arc<Key>> {
        let mut wake = BTreeSet::new();
        let Some(node) = self.nodes.get(key) else {
            return wake;
        };
        for (uid, blocked) in &node.owners {
            let now = has.iter().find(|(other, _)| other == uid);
            if now.is_none_or(|(_, blocks)| *blocked && !blocks) {
                wake.extend(self.waiting.get(&**uid).cloned());
            }
            if now.is_none()
                && let Some(dependents) = self.dependents.get_mut(uid)
            {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.dependents.remove(uid);
                }
            }
        }
        wake
    }

    fn of(&self, uid: &str) -> impl Iterator<Item = &Arc<Key>> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// Objects that belong to an owner.
    pub(super) fn dependents(&self, uid: &str) -> Vec<Arc<Key>> {
        self.of(uid).cloned().collect()
    }

    /// Whether some of an object's dependents wait for their own.
    pub(super) fn has_waiting_dependents(&self, uid: &str) -> bool {
        let mut dependents = self.of(uid).filter_map(|key| self.nodes.get(key));
        dependents.any(|node| node.foreground)
    }

    pub(super) fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.contains_key(uid)
    }

    /// Objects that belong to an owner and that its deletion waits for. One that in its turn waits
    /// for the owner, at whatever remove, is none: the two would wait for each other for ever.
    pub(super) fn blocking<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Arc<Key>> + 'a {
        self.blocked_by(uid)
            .filter(move |key| !self.reaches(key, uid))
    }

    /// Objects that belong to an owner and block its deletion.
    fn blocked_by<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Arc<Key>> + 'a {
        self.of(uid).filter(move |key| {
            let node = self.nodes.get(*key);
            let mut owners = node.into_iter().flat_map(|node| &node.owners);
            owners.any(|(owner, blocks)| *blocks && **owner == *uid)
        })
    }

    /// Whether the deletion of an object waits, step by step, for that of the object with a uid.
    fn reaches(&self, from: &Arc<Key>, uid: &str) -> bool {
        let (mut seen, mut next) = (HashSet::new(), vec![from]);
        while let Some(key) = next.pop() {
            let Some(node) = self.nodes.get(key).filter(|_| seen.insert(key)) else {
                continue;
            };
            if *node.uid == *uid {
                return true;
            }
            if node.foreground {
                next.extend(self.blocked_by(&node.uid));
            }
        }
        false
    }

    /// Everything that may need a look when changes went unseen.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.nodes.keys()
    }
}

#[cfg(test)]
mod tests;
