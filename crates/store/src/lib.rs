//! Durable objects with optimistic writes and a watchable history.
//!
//! Owns the [`Store`] trait, its contract suite and its implementations. An object is opaque JSON
//! under a [`Key`]; what is in it (metadata, validation, defaults) is the server's. Every change
//! gets the next [`Revision`] of one counter for the whole store, which is what the API shows as
//! resourceVersion.
//!
//! Crash behaviour: a write is answered only after it is durable; after a kill the store opens at
//! a revision not older than any answered or observed one.
//!
//! Read next: [`Store`], then `contract` for what it promises, then `sqlite`, the store of one
//! server, and `postgres`, that of several.

pub mod archive;
mod batch;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod facet;
mod failure;
mod held;
mod history;
pub mod postgres;
pub mod sqlite;
mod version;
mod watch;

pub use facet::{Facet, Reader, Route};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Position in the store's history; the first write is 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

/// Names one object. Ordered by resource, namespace, name: the order of lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `<plural>.<group>`, or `<plural>` for the core group.
    pub resource: String,
    /// Namespace; empty for cluster-scoped resources.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Which objects a list or watch covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// As in [`Key::resource`].
    pub resource: String,
    /// One namespace, or all.
    pub namespace: Option<String>,
}

/// An object as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub key: Key,
    /// Revision of its last write.
    pub revision: Revision,
    /// JSON, without metadata.resourceVersion (the reader puts the revision in).
    pub data: Bytes,
}

/// An object of a list, made when it is asked for: what is not in use is kept compressed, and who
/// takes a list piece by piece needs no more than a piece of it.
#[derive(Clone, Debug)]
pub struct Item(pub(crate) Arc<held::Held>);

impl Item {
    /// The object as stored.
    pub fn stored(&self) -> Arc<Stored> {
        self.0.stored()
    }

    /// Its name.
    pub fn key(&self) -> Key {
        self.0.key()
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// In key order.
    pub items: Vec<Item>,
    /// Revision of the snapshot all pages of this list are read at.
    pub revision: Revision,
    /// Where the next page starts, when there is one.
    pub next: Option<Key>,
    /// Objects after this page, at that snapshot.
    pub remaining: u64,
}

impl Page {
    /// All its objects.
    pub fn stored(&self) -> Vec<Stored> {
        let stored = |item: &Item| Stored::clone(&item.stored());
        self.items.iter().map(stored).collect()
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The object after the change (for a deletion: as it last was, at the deletion's revision),
    /// shared by all who are shown it.
    pub object: Arc<Stored>,
    /// The object before the change, so that a selector can tell entering from leaving.
    pub previous: Option<Bytes>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It came to be.
    Created,
    /// It was replaced.
    Updated,
    /// It is gone.
    Deleted,
}

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Create of a key that exists.
    #[error("{0:?} already exists")]
    Exists(Key),
    /// Update or delete of a key that does not exist.
    #[error("{0:?} does not exist")]
    NotFound(Key),
    /// The object is at another revision than expected.
    #[error("{key:?} is at revision {actual:?}, not {expected:?}")]
    Conflict {
        /// The object.
        key: Key,
        /// Revision the writer had read.
        expected: Revision,
        /// Revision it is at.
        actual: Revision,
    },
    /// The history no longer reaches back to the revision asked for.
    #[error("revision {asked:?} is older than the history kept, which starts at {oldest:?}")]
    Compacted {
        /// Asked for.
        asked: Revision,
        /// Oldest that can be served.
        oldest: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("revision {asked:?} lies in the future of {current:?}")]
    Future {
        /// Asked for.
        asked: Revision,
        /// The store's.
        current: Revision,
    },
    /// A watcher did not read fast enough and was cut off.
    #[error("the watcher fell behind and was cut off at {0:?}")]
    Lagged(Revision),
    /// What is to be restored into has held objects before.
    #[error("the store at {0} is not empty; restore into a new one, or move it away first")]
    NotEmpty(String),
    /// The disk it is on has no room for more. What is stored is read as ever.
    #[error("the store at {place} failed: {what}")]
    Full {
        /// File or address.
        place: String,
        /// One clause saying what and the remedy.
        what: String,
        /// The driver's error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The store cannot be written or read: corrupt, read-only, not reached.
    #[error("the store at {place} failed: {what}")]
    Unavailable {
        /// File or address.
        place: String,
        /// One clause saying what and the remedy.
        what: String,
        /// The driver's error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// Durable objects. Object-safe: the server holds an `Arc<dyn Store>`.
///
/// A write whose future is dropped before it answers may still happen, and one answered with
/// [`Error::Unavailable`] may have happened, or show up after a restart, if the disk failed or the
/// connection broke: read again to know.
pub trait Store: Send + Sync + 'static {
    /// Writes a new object; durable when answered.
    fn create(&self, key: Key, data: Bytes) -> BoxFuture<'_, Result<Stored, Error>>;
    /// Replaces an object that is still at `expected`.
    fn update(
        &self,
        key: Key,
        expected: Revision,
        data: Bytes,
    ) -> BoxFuture<'_, Result<Stored, Error>>;
    /// Removes an object that is still at `expected`; `last` is what watchers are shown.
    fn delete(
        &self,
        key: Key,
        expected: Revision,
        last: Bytes,
    ) -> BoxFuture<'_, Result<Stored, Error>>;
    /// Reads the latest version: never older than any answered write.
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Stored>, Error>>;
    /// Reads a page. `at` None: the latest snapshot; `after`: exclusive start key of the page.
    fn list(
        &self,
        scope: Scope,
        at: Option<Revision>,
        after: Option<Key>,
        limit: Option<usize>,
    ) -> BoxFuture<'_, Result<Page, Error>>;
    /// Changes after `from`, in order, without gap or duplicate, until dropped. A slow reader gets
    /// [`Error::Lagged`] as the last item. None: from now.
    fn watch(
        &self,
        scope: Scope,
        from: Option<Revision>,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Event, Error>>, Error>>;
    /// The same for a reader of `route`'s changes alone, which others' do not wake. It may be shown
    /// some of the others.
    fn watch_route(
        &self,
        scope: Scope,
        from: Option<Revision>,
        route: Route,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Event, Error>>, Error>> {
        drop(route);
        self.watch(scope, from)
    }
    /// The latest revision.
    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>>;
    /// Everything there is, never older than any answered write.
    fn snapshot(&self) -> BoxFuture<'_, Result<archive::Snapshot, Error>>;
    /// Forgets history up to and including `upto` (current objects stay).
    fn compact(&self, upto: Revision) -> BoxFuture<'_, Result<(), Error>>;
    /// Finishes the writes handed in before, ends all watches and lets go of file or database.
    /// Later writes fail.
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}
