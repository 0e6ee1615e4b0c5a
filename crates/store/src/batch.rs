//! What is written together: requests, and the judgement of each.
//!
//! Owns the queue's items, how many of them make a batch, and the rules of an optimistic write:
//! each write is judged against the contents as the ones before it in the batch will leave them. A
//! refused write (it exists, it conflicts) harms no other. It neither writes nor applies anything.
//!
//! Read next: the writers, `sqlite::writer` and `postgres::writer`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::failure::Failure;
use crate::history::History;
use crate::version::Version;
use crate::{Change, Error, Key, Revision, Stored};

/// Requests that may wait for the writer before callers are held back.
pub(crate) const QUEUE: usize = 1024;
/// Requests committed together at most.
const BATCH: usize = 1024;
/// Bytes after which no more requests are added to a batch.
const BATCH_BYTES: usize = 16 << 20;
/// Changes forgotten in one transaction at most, so that it does not hold up writers.
pub(crate) const FORGET: usize = 4096;

/// What a caller wants, and where the answer goes.
#[derive(Debug)]
pub(crate) enum Request {
    Write {
        key: Key,
        write: Write,
        answer: oneshot::Sender<Result<Stored, Error>>,
    },
    Compact {
        upto: Revision,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    Close(oneshot::Sender<Result<(), Error>>),
}

/// See the methods of [`crate::Store`].
#[derive(Debug)]
pub(crate) enum Write {
    Create { data: Bytes },
    Update { expected: Revision, data: Bytes },
    Delete { expected: Revision, last: Bytes },
}

impl Write {
    fn change(&self) -> Change {
        match self {
            Self::Create { .. } => Change::Created,
            Self::Update { .. } => Change::Updated,
            Self::Delete { .. } => Change::Deleted,
        }
    }

    fn data(&self) -> &Bytes {
        match self {
            Self::Create { data } | Self::Update { data, .. } => data,
            Self::Delete { last, .. } => last,
        }
    }
}

/// Takes what waits behind `first`, up to a batch. Returns the requests, and whom to answer when
/// the store is to close after them; nothing more is let into the queue then.
pub(crate) fn gather(
    first: Request,
    queue: &mut mpsc::Receiver<Request>,
) -> (Vec<Request>, Option<oneshot::Sender<Result<(), Error>>>) {
    let mut bytes = 0;
    let mut requests = Vec::new();
    let mut closing = None;
    let mut next = Some(first);
    while let Some(request) = next {
        match request {
            Request::Close(answer) => {
                closing = Some(answer);
                queue.close();
            }
            Request::Write { ref write, .. } => {
                bytes += write.data().len();
                requests.push(request);
            }
            Request::Compact { .. } => requests.push(request),
        }
        let full = requests.len() >= BATCH || bytes >= BATCH_BYTES;
        next = if full { None } else { queue.try_recv().ok() };
    }
    (requests, closing)
}

/// An answer that waits for the commit.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) to: oneshot::Sender<Result<T, Error>>,
    pub(crate) result: Result<T, Error>,
}

impl<T> Answer<T> {
    pub(crate) fn send(self, failed: Option<&Failure>) {
        // Nobody may be waiting any more.
        let _ = match failed {
            Some(failed) => self.to.send(Err(failed.error())),
            None => self.to.send(self.result),
        };
    }
}

/// The batch being judged.
#[derive(Debug)]
pub(crate) struct Batch {
    /// What the accepted writes make.
    pub(crate) versions: Vec<Version>,
    /// Where in `versions` the newest of a key is.
    newest: HashMap<Key, usize>,
    /// Up to which history is to be forgotten.
    pub(crate) compact: u64,
    started: u64,
}

impl Batch {
    /// Empty, to be applied to `history` as it is.
    pub(crate) fn after(history: &History) -> Self {
        Self {
            versions: Vec::new(),
            newest: HashMap::new(),
            compact: 0,
            started: history.revision(),
        }
    }

    /// Adds the version that `write` makes, or says why it makes none.
    pub(crate) fn write(
        &mut self,
        history: &History,
        key: Key,
        write: &Write,
    ) -> Result<Stored, Error> {
        let slot = self.newest.entry(key.clone());
        let current = match &slot {
            Entry::Occupied(at) => {
                let version = &self.versions[*at.get()];
                (version.change != Change::Deleted).then_some(version.object.revision)
            }
            Entry::Vacant(_) => history.at(&key),
        };
        match (write, current) {
            (Write::Create { .. }, Some(_)) => return Err(Error::Exists(key)),
            (Write::Create { .. }, None) => {}
            (Write::Update { .. } | Write::Delete { .. }, None) => {
                return Err(Error::NotFound(key));
            }
            (Write::Update { expected, .. } | Write::Delete { expected, .. }, Some(actual)) => {
                if *expected != actual {
                    return Err(Error::Conflict {
                        key,
                        expected: *expected,
                        actual,
                    });
                }
            }
        }
        let stored = Stored {
            key,
            revision: Revision(self.started + self.versions.len() as u64 + 1),
            data: write.data().clone(),
        };
        slot.insert_entry(self.versions.len());
        self.versions.push(Version {
            change: write.change(),
            object: Arc::new(stored.clone()),
        });
        Ok(stored)
    }

    /// Notes that history up to `upto` is to be forgotten, unless that lies in the future.
    pub(crate) fn compact(&mut self, upto: Revision) -> Result<(), Error> {
        let current = Revision(self.started);
        if upto > current {
            return Err(Error::Future {
                asked: upto,
                current,
            });
        }
        self.compact = self.compact.max(upto.0);
        Ok(())
    }
}
