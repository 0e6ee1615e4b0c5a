//! The store's contents in memory: every current object and the recent changes.
//!
//! Owns what reads, lists at an older revision and watches are answered from, and the rules of an
//! optimistic write. It writes nothing and knows no database: an implementation applies a change
//! here after it is durable there, so a reader never sees what a crash could take back.
//!
//! Objects and history share their versions, and keep compressed what is not in use (`held`), so the
//! memory needed is at most the stored bytes plus the superseded versions that history keeps
//! ([`Limits`] bounds these by the stored bytes).
//!
//! Crash behaviour: none, it is rebuilt by applying the stored versions in order.
//!
//! Read next: `watch`, which follows the history; `sqlite`, which keeps it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::watch;

use crate::archive::Snapshot;
use crate::facet::{Facets, Mark, Route};
use crate::held::{Codec, Held, Keyed, Packer, Place};
use crate::version::Version;
use crate::{Change, Error, Event, Item, Key, Page, Revision, Scope, Stored};

#[cfg(test)]
mod tests;

/// How much history is kept. Whatever is exceeded first makes the oldest changes go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Changes.
    pub(crate) rows: usize,
    /// Age of a change in milliseconds.
    pub(crate) age_millis: u64,
    /// Bytes of the versions in history; never less than the bytes of the current objects.
    pub(crate) bytes: u64,
    /// Changes younger than this may take `recent_bytes` more: in a burst `bytes` are over in a
    /// second, which is no time for a watcher to have been slow in.
    pub(crate) recent_millis: u64,
    /// See `recent_millis`.
    pub(crate) recent_bytes: u64,
}

impl Limits {
    /// `recent_millis` and `recent_bytes` of all stores.
    pub(crate) const RECENT: (u64, u64) = (10_000, 32 << 20);

    /// Whether the oldest change, of some age, has to go for the bytes of all.
    fn too_big(&self, bytes: u64, allowed: u64, at_millis: u64, now_millis: u64) -> bool {
        let recent = at_millis.saturating_add(self.recent_millis) > now_millis;
        let more = if recent { self.recent_bytes } else { 0 };
        bytes > allowed.saturating_add(more)
    }
}

/// One change, as history keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) change: Change,
    pub(crate) object: Arc<Held>,
    pub(crate) previous: Option<Arc<Held>>,
    /// When it was written, in milliseconds since 1970.
    pub(crate) at_millis: u64,
    /// What its resource's facets said of it, those there were.
    marks: Arc<[Mark]>,
}

impl Entry {
    pub(crate) fn event(&self) -> Event {
        Event {
            change: self.change,
            object: self.object.stored(),
            previous: self
                .previous
                .as_ref()
                .map(|previous| previous.stored().data.clone()),
        }
    }

    fn bytes(&self) -> u64 {
        self.object.bytes()
    }
}

/// A current object, ordered by its key.
#[derive(Debug)]
struct Live(Arc<Held>);

impl<'a> Borrow<dyn Keyed + 'a> for Live {
    fn borrow(&self) -> &(dyn Keyed + 'a) {
        &*self.0
    }
}

impl PartialEq for Live {
    fn eq(&self, other: &Self) -> bool {
        self.0.parts() == other.0.parts()
    }
}

impl Eq for Live {}

impl PartialOrd for Live {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Live {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.parts().cmp(&other.0.parts())
    }
}

/// What one resource's watchers follow.
#[derive(Debug)]
struct Topic {
    /// Revisions of its changes in history, oldest first.
    revisions: VecDeque<u64>,
    /// Its newest change that history has forgotten.
    forgotten: u64,
    /// Wakes the watchers of all of it.
    latest: watch::Sender<u64>,
    /// Those of parts of it.
    facets: Facets,
    /// Its namespaces' parts of keys.
    places: HashMap<Box<str>, Arc<Place>>,
    packer: Arc<Packer>,
}

/// Namespaces of a resource after which those without objects are looked for.
const PLACES: usize = 1024;

impl Topic {
    fn place(&mut self, key: &Key) -> Arc<Place> {
        if let Some(place) = self.places.get(key.namespace.as_str()) {
            return place.clone();
        }
        if self.places.len().is_multiple_of(PLACES) {
            self.places.retain(|_, place| Arc::strong_count(place) > 1);
        }
        let place = Arc::new(Place::new(key, &self.packer));
        self.places
            .insert(key.namespace.as_str().into(), place.clone());
        place
    }
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            revisions: VecDeque::new(),
            forgotten: 0,
            latest: watch::Sender::new(0),
            facets: Facets::default(),
            places: HashMap::new(),
            packer: Arc::default(),
        }
    }
}

/// The contents at [`History::revision`], and the changes since [`History::compacted`].
#[derive(Debug, Default)]
pub(crate) struct History {
    live: BTreeSet<Live>,
    live_bytes: u64,
    /// Every change after `compacted`, without gap: the entry of revision r is at r - compacted - 1.
    entries: VecDeque<Entry>,
    entry_bytes: u64,
    compacted: u64,
    revision: u64,
    topics: HashMap<String, Topic>,
    closed: bool,
    /// Raised when it was replaced.
    generation: u64,
    /// While it is read from a database: what is put in is packed at once.
    loading: Option<Codec>,
}

impl History {
    /// Empty, with everything up to `compacted` forgotten.
    pub(crate) fn starting_after(compacted: u64) -> Self {
        Self {
            compacted,
            revision: compacted,
            loading: Some(Codec::new()),
            ..Self::default()
        }
    }

    /// Of the last change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Up to which history is forgotten.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.held(key).map(|held| held.stored())
    }

    /// The revision a key's object is at, if there is one.
    pub(crate) fn at(&self, key: &Key) -> Option<Revision> {
        self.held(key).map(|held| Revision(held.revision()))
    }

    fn held(&self, key: &dyn Keyed) -> Option<&Arc<Held>> {
        self.live.get(key).map(|live| &live.0)
    }

    fn hold(&mut self, object: Arc<Stored>) -> Arc<Held> {
        let place = self.topic(&object.key.resource).place(&object.key);
        let held = Arc::new(Held::new(&place, object));
        if let Some(codec) = &mut self.loading {
            held.pack(codec, true);
        }
        held
    }

    /// Puts in an object whose change is already forgotten. Only while loading, before any
    /// [`History::apply`].
    pub(crate) fn restore(&mut self, object: Arc<Stored>) {
        self.live_bytes += object.data.len() as u64;
        let held = self.hold(object);
        self.live.insert(Live(held));
    }

    /// The change that would make `object` of its key's current version.
    pub(crate) fn apply(&mut self, change: Change, object: Arc<Stored>, at_millis: u64) {
        let revision = object.revision.0;
        debug_assert_eq!(revision, self.revision + 1, "revisions have no gaps");
        let held = self.hold(object.clone());
        let previous = match change {
            Change::Deleted => self.live.take(&*held as &dyn Keyed),
            Change::Created | Change::Updated => {
                self.live_bytes += held.bytes();
                self.live.replace(Live(held.clone()))
            }
        }
        .map(|live| live.0);
        let mut before = None;
        if let Some(previous) = &previous {
            self.live_bytes -= previous.bytes();
            // Every watcher asks for it now.
            before = self.loading.is_none().then(|| previous.warm());
        }
        let topic = self.topic(&object.key.resource);
        topic.revisions.push_back(revision);
        let marks = topic.facets.marks(&object, before.as_deref());
        let entry = Entry {
            change,
            object: held,
            previous,
            at_millis,
            marks,
        };
        self.entry_bytes += entry.bytes();
        self.entries.push_back(entry);
        self.revision = revision;
    }

    /// Applies changes that are durable, in order, and wakes their watchers.
    pub(crate) fn publish<'a>(
        &mut self,
        versions: impl Iterator<Item = (&'a Version, u64)> + Clone,
    ) {
        let before = self.revision;
        self.loading = None;
        for (version, at_millis) in versions.clone() {
            self.apply(version.change, version.object.clone(), at_millis);
        }
        let mut woken: Vec<&str> = Vec::new();
        for (version, _) in versions {
            let resource = version.object.key.resource.as_str();
            if !woken.contains(&resource) {
                woken.push(resource);
                self.wake(resource, before);
            }
        }
    }

    /// Wakes the watchers of `resource` who are shown a change after `before`.
    fn wake(&self, resource: &str, before: u64) {
        if let Some(topic) = self.topics.get(resource) {
            topic.latest.send_replace(self.revision);
            let new = topic.revisions.iter().rev();
            let new = new.take_while(|revision| **revision > before);
            let new = new.filter_map(|revision| self.entry(*revision));
            topic
                .facets
                .wake(self.revision, new.map(|entry| &*entry.marks));
        }
    }

    /// Ends all watches once they have shown everything.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for topic in self.topics.values() {
            topic.latest.send_replace(self.revision);
            topic.facets.wake_all(self.revision);
        }
    }

    /// Takes other contents in its place. What watchers have seen may be missing there: their
    /// watches end.
    pub(crate) fn replace(&mut self, contents: Self) {
        let generation = self.generation + 1;
        let closed = self.closed;
        // Dropping the topics wakes the watchers.
        *self = contents;
        self.generation = generation;
        self.closed = closed;
    }

    /// How often it was replaced.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether [`History::close`] was called.
    pub(crate) fn closed(&self) -> bool {
        self.closed
    }

    fn topic(&mut self, resource: &str) -> &mut Topic {
        if !self.topics.contains_key(resource) {
            self.topics.insert(resource.to_owned(), Topic::default());
        }
        self.topics.entry(resource.to_owned()).or_default()
    }

    /// Checks that a list or watch may start at `asked`.
    pub(crate) fn check(&self, asked: Revision) -> Result<(), Error> {
        if asked.0 > self.revision {
            return Err(Error::Future {
                asked,
                current: Revision(self.revision),
            });
        }
        if asked.0 < self.compacted {
            return Err(Error::Compacted {
                asked,
                oldest: Revision(self.compacted),
            });
        }
        Ok(())
    }

    /// Signals changes of `resource`.
    pub(crate) fn subscribe(&mut self, resource: &str) -> watch::Receiver<u64> {
        self.topic(resource).latest.subscribe()
    }

    /// Signals changes of `resource` that are `route`'s; None when it has too many facets.
    pub(crate) fn subscribe_route(
        &mut self,
        resource: &str,
        route: &Route,
    ) -> Option<watch::Receiver<u64>> {
        let topic = self.topic(resource);
        topic.facets.subscribe(route, topic.forgotten)
    }

    /// Appends up to `limit` changes after `cursor` to `into`, and returns the new cursor; None when history
    /// has forgotten a change of this resource, or of this route of it, that the cursor has not passed.
    pub(crate) fn after(
        &self,
        scope: &Scope,
        route: Option<&Route>,
        cursor: u64,
        limit: usize,
        into: &mut VecDeque<Entry>,
    ) -> Option<u64> {
        let Some(topic) = self.topics.get(&scope.resource) else {
            return Some(cursor);
        };
        let facet = route.and_then(|route| topic.facets.known(route));
        let forgotten = facet
            .as_ref()
            .map_or(topic.forgotten, |facet| facet.forgotten);
        if cursor < forgotten {
            return None;
        }
        let mut cursor = cursor;
        let first = topic.revisions.partition_point(|&at| at <= cursor);
        for &revision in topic.revisions.range(first..) {
            if into.len() >= limit {
                break;
            }
            cursor = revision;
            if let Some(entry) = self.entry(revision)
                && scope.holds(&*entry.object)
                && facet.as_ref().is_none_or(|facet| facet.is_of(&entry.marks))
            {
                into.push_back(entry.clone());
            }
        }
        Some(cursor)
    }

    fn entry(&self, revision: u64) -> Option<&Entry> {
        let index = revision.checked_sub(self.compacted + 1)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The contents.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: Revision(self.revision),
            objects: self.live.iter().map(|live| Item(live.0.clone())).collect(),
        }
    }

    /// A page of the contents at `at`.
    pub(crate) fn list(
        &self,
        scope: &Scope,
        at: Option<Revision>,
        after: Option<&Key>,
        limit: Option<usize>,
    ) -> Result<Page, Error> {
        let at = at.unwrap_or(Revision(self.revision));
        self.check(at)?;
        let first = scope.first();
        let start: Bound<&dyn Keyed> = match after {
            Some(after) if *after >= first => Bound::Excluded(after),
            _ => Bound::Included(&first),
        };
        let changed = self.changed_since(scope, at, start);
        let limit = limit.unwrap_or(usize::MAX);
        let mut items: Vec<Item> = Vec::new();
        let mut remaining = 0;
        let mut take = |object: &Arc<Held>| {
            if items.len() < limit {
                items.push(Item(object.clone()));
            } else {
                remaining += 1;
            }
        };
        let mut changed = changed.into_iter().peekable();
        let live = self
            .live
            .range::<dyn Keyed, _>((start, Bound::Unbounded))
            .map(|live| &live.0)
            .take_while(|object| scope.holds(&***object));
        for object in live {
            let mut replaced = false;
            while let Some((key, then)) = changed.next_if(|(key, _)| *key <= object.parts()) {
                replaced |= key == object.parts();
                then.iter().for_each(|then| take(then));
            }
            if !replaced {
                take(object);
            }
        }
        for (_, then) in changed {
            then.iter().for_each(|then| take(then));
        }
        Ok(Page {
            next: items
                .last()
                .filter(|_| remaining > 0)
                .map(|item| item.0.key()),
            items,
            revision: at,
            remaining,
        })
    }

    /// What the objects of a scope that changed after `at` were at `at`.
    fn changed_since(
        &self,
        scope: &Scope,
        at: Revision,
        start: Bound<&dyn Keyed>,
    ) -> BTreeMap<(&str, &str, &str), Option<&Arc<Held>>> {
        let mut changed = BTreeMap::new();
        let Some(topic) = self.topics.get(&scope.resource) else {
            return changed;
        };
        for entry in topic
            .revisions
            .iter()
            .rev()
            .take_while(|&&revision| revision > at.0)
            .filter_map(|&revision| self.entry(revision))
        {
            let key = entry.object.parts();
            let within = match start {
                Bound::Excluded(after) => key > after.parts(),
                Bound::Included(first) => key >= first.parts(),
                Bound::Unbounded => true,
            };
            if within && scope.holds(&*entry.object) {
                changed.insert(key, entry.previous.as_ref());
            }
        }
        changed
    }

    /// Whether there is anything to pack.
    pub(crate) fn has_many(&self) -> bool {
        self.topics.values().any(|topic| topic.packer.has_many())
    }

    /// Current objects behind one, in the order of keys.
    pub(crate) fn live_after(&self, last: Option<&Held>, limit: usize) -> Vec<Arc<Held>> {
        let start: Bound<&dyn Keyed> = match last {
            Some(last) => Bound::Excluded(last),
            None => Bound::Unbounded,
        };
        let live = self.live.range::<dyn Keyed, _>((start, Bound::Unbounded));
        live.take(limit).map(|live| live.0.clone()).collect()
    }

    /// Versions in the changes after a revision that are current no longer, and the revision of the
    /// last of so many changes that were looked at.
    pub(crate) fn superseded_after(&self, after: u64, limit: usize) -> (Vec<Arc<Held>>, u64) {
        let first = after.saturating_sub(self.compacted);
        let first = usize::try_from(first)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        let (mut found, mut upto) = (Vec::new(), after);
        for entry in self.entries.range(first..).take(limit) {
            upto = entry.object.revision();
            let forgotten = |previous: &&Arc<Held>| previous.revision() <= self.compacted;
            found.extend(entry.previous.as_ref().filter(forgotten).cloned());
            let current = self.held(&*entry.object);
            if current.is_none_or(|current| !Arc::ptr_eq(current, &entry.object)) {
                found.push(entry.object.clone());
            }
        }
        (found, upto)
    }

    /// Whether history exceeds its limits by an eighth: forgetting at each write would double the
    /// cost of writing.
    pub(crate) fn exceeds(&self, limits: &Limits, now_millis: u64) -> bool {
        let bytes = limits.bytes.max(self.live_bytes);
        let age_millis = limits.age_millis.saturating_add(limits.age_millis / 8);
        let expired = now_millis.saturating_sub(age_millis);
        let oldest = self.entries.front();
        let (kept, allowed) = (self.entry_bytes, bytes.saturating_add(bytes / 8));
        oldest.is_some_and(|oldest| limits.too_big(kept, allowed, oldest.at_millis, now_millis))
            || self.entries.len() > limits.rows.saturating_add(limits.rows / 8)
            || oldest.is_some_and(|oldest| oldest.at_millis < expired)
    }

    /// The revision up to which changes must go for history to be within its limits, at most
    /// `most` changes from its start.
    pub(crate) fn excess(&self, limits: &Limits, now_millis: u64, most: usize) -> u64 {
        let mut rows = self.entries.len();
        let mut bytes = self.entry_bytes;
        let allowed_bytes = limits.bytes.max(self.live_bytes);
        let expired = now_millis.saturating_sub(limits.age_millis);
        let over = self.entries.iter().take(most).take_while(|entry| {
            let at = entry.at_millis;
            let over = rows > limits.rows
                || limits.too_big(bytes, allowed_bytes, at, now_millis)
                || at < expired;
            rows -= 1;
            bytes -= entry.bytes();
            over
        });
        self.compacted + over.count() as u64
    }

    /// Revisions of the versions that nothing needs once history up to `upto` is forgotten.
    pub(crate) fn unneeded(&self, upto: u64) -> impl Iterator<Item = u64> {
        let count = upto.saturating_sub(self.compacted);
        self.entries
            .iter()
            .take(usize::try_from(count).unwrap_or(usize::MAX))
            .flat_map(|entry| {
                let previous = entry.previous.as_ref().map(|previous| previous.revision());
                let tombstone =
                    (entry.change == Change::Deleted).then_some(entry.object.revision());
                previous.into_iter().chain(tombstone)
            })
    }

    /// Forgets history up to `upto`.
    pub(crate) fn forget(&mut self, upto: u64) {
        while self.compacted < upto
            && let Some(entry) = self.entries.pop_front()
        {
            self.compacted = entry.object.revision();
            self.entry_bytes -= entry.bytes();
            if let Some(topic) = self.topics.get_mut(entry.object.parts().0) {
                topic.revisions.pop_front();
                topic.forgotten = self.compacted;
                topic.facets.forget(&entry.marks, self.compacted);
            }
        }
        if self.entries.capacity() > 4096 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }
}

impl Scope {
    /// Whether it covers this object.
    pub fn covers(&self, key: &Key) -> bool {
        self.holds(key)
    }

    fn holds(&self, key: &dyn Keyed) -> bool {
        let (resource, namespace, _) = key.parts();
        let within = |wanted: &String| wanted == namespace;
        resource == self.resource && self.namespace.as_ref().is_none_or(within)
    }

    /// A key that comes before all it covers.
    fn first(&self) -> Key {
        Key {
            resource: self.resource.clone(),
            namespace: self.namespace.clone().unwrap_or_default(),
            name: String::new(),
        }
    }
}
