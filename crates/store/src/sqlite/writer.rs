//! The thread that writes: group commit.
//!
//! Owns the file and the order of writes. It takes all requests that wait, judges each against the
//! contents as the ones before it will leave them, commits what they accepted in one transaction,
//! applies that to memory and only then answers. A refused write (it exists, it conflicts) harms
//! no other; a failed commit fails every request of its batch, because each may have been judged
//! by another's outcome.
//!
//! Crash behaviour: before the commit nothing happened; after it everything did, answered or not.
//!
//! Read next: `file`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::file::{Failure, File, Version};
use crate::history::{History, Limits};
use crate::{Change, Error, Key, Revision, Stored};

/// Requests committed together at most.
const BATCH: usize = 1024;
/// Bytes after which no more requests are added to a batch.
const BATCH_BYTES: usize = 16 << 20;
/// Changes forgotten in one transaction at most, so that it does not hold up writers.
const FORGET: usize = 4096;

/// What a caller wants, and where the answer goes.
#[derive(Debug)]
pub(super) enum Request {
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
pub(super) enum Write {
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

/// An answer that waits for the commit.
struct Answer<T> {
    to: oneshot::Sender<Result<T, Error>>,
    result: Result<T, Error>,
}

impl<T> Answer<T> {
    fn send(self, failed: Option<&Failure>) {
        // Nobody may be waiting any more.
        let _ = match failed {
            Some(failed) => self.to.send(Err(failed.error())),
            None => self.to.send(self.result),
        };
    }
}

/// The batch being judged.
#[derive(Default)]
struct Batch {
    versions: Vec<Version>,
    /// Where in `versions` the newest of a key is.
    newest: HashMap<Key, usize>,
    compact: u64,
    writes: Vec<Answer<Stored>>,
    compactions: Vec<Answer<()>>,
}

pub(super) struct Writer {
    file: File,
    history: Arc<RwLock<History>>,
    limits: Limits,
}

impl Writer {
    pub(super) fn new(file: File, history: Arc<RwLock<History>>, limits: Limits) -> Self {
        Self {
            file,
            history,
            limits,
        }
    }

    /// Until the queue is closed or a request says so.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut closing = None;
        while closing.is_none()
            && let Some(first) = requests.blocking_recv()
        {
            let mut bytes = 0;
            let mut next = Some(first);
            let mut waiting = Vec::new();
            while let Some(request) = next {
                match request {
                    Request::Close(answer) => {
                        closing = Some(answer);
                        requests.close();
                    }
                    Request::Write { ref write, .. } => {
                        bytes += write.data().len();
                        waiting.push(request);
                    }
                    Request::Compact { .. } => waiting.push(request),
                }
                let full = waiting.len() >= BATCH || bytes >= BATCH_BYTES;
                next = if full { None } else { requests.try_recv().ok() };
            }
            self.serve(waiting);
        }
        // What came in before the queue was closed is still owed.
        while let Ok(request) = requests.try_recv() {
            match request {
                Request::Close(answer) => closing = Some(answer),
                request => self.serve(vec![request]),
            }
        }
        let closed = self.file.close();
        drop(self);
        if let Some(answer) = closing {
            let _ = answer.send(closed);
        }
    }

    fn lock_history<T>(&self, action: impl FnOnce(&mut History) -> T) -> T {
        action(&mut self.history.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn serve(&mut self, requests: Vec<Request>) {
        let now_millis = now_millis();
        let batch = self.judge(requests);
        let committed = self.commit(&batch, now_millis);
        // A watcher that hears of a change before its writer does is fine: it is durable.
        if committed.is_ok() {
            self.publish(&batch, now_millis);
        }
        let failed = committed.err();
        for answer in batch.writes {
            answer.send(failed.as_ref());
        }
        for answer in batch.compactions {
            answer.send(failed.as_ref());
        }
        if failed.is_none() {
            self.forget_excess(now_millis);
        }
    }

    fn judge(&self, requests: Vec<Request>) -> Batch {
        let history = self.history.read().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        let mut revision = history.revision();
        for request in requests {
            match request {
                Request::Write { key, write, answer } => {
                    let result = judge(&history, &mut batch, revision + 1, key, &write);
                    revision += u64::from(result.is_ok());
                    batch.writes.push(Answer { to: answer, result });
                }
                Request::Compact { upto, answer } => {
                    let current = Revision(history.revision());
                    let result = if upto > current {
                        Err(Error::Future {
                            asked: upto,
                            current,
                        })
                    } else {
                        batch.compact = batch.compact.max(upto.0);
                        Ok(())
                    };
                    batch.compactions.push(Answer { to: answer, result });
                }
                Request::Close(_) => {}
            }
        }
        batch
    }

    fn commit(&mut self, batch: &Batch, now_millis: u64) -> Result<(), Failure> {
        let history = self.history.read().unwrap_or_else(PoisonError::into_inner);
        if batch.compact > history.compacted() {
            let unneeded: Vec<u64> = history.unneeded(batch.compact).collect();
            drop(history);
            self.file
                .commit(&batch.versions, now_millis, Some(batch.compact), &unneeded)
        } else {
            drop(history);
            self.file.commit(&batch.versions, now_millis, None, &[])
        }
    }

    fn publish(&self, batch: &Batch, now_millis: u64) {
        self.lock_history(|history| {
            if batch.compact > history.compacted() {
                history.forget(batch.compact);
            }
            for version in &batch.versions {
                history.apply(version.change, version.object.clone(), now_millis);
            }
            let mut woken: Vec<&str> = Vec::new();
            for version in &batch.versions {
                let resource = version.object.key.resource.as_str();
                if !woken.contains(&resource) {
                    woken.push(resource);
                    history.wake(resource);
                }
            }
        });
    }

    /// Keeps history within its limits. A failure is the next write's to report: it meets the same
    /// file.
    fn forget_excess(&mut self, now_millis: u64) {
        let history = self.history.read().unwrap_or_else(PoisonError::into_inner);
        if !history.exceeds(&self.limits, now_millis) {
            return;
        }
        let upto = history.excess(&self.limits, now_millis, FORGET);
        let unneeded: Vec<u64> = history.unneeded(upto).collect();
        drop(history);
        match self.file.commit(&[], now_millis, Some(upto), &unneeded) {
            Ok(()) => self.lock_history(|history| history.forget(upto)),
            Err(failure) => tracing::warn!(
                error = %failure.error(),
                "old history could not be removed; it is tried again with the next write"
            ),
        }
    }
}

impl Drop for Writer {
    /// After a panic as well: no watcher waits for a writer that is gone.
    fn drop(&mut self) {
        self.lock_history(History::close);
    }
}

/// Adds the version that `write` makes to the batch, or says why it makes none.
fn judge(
    history: &History,
    batch: &mut Batch,
    revision: u64,
    key: Key,
    write: &Write,
) -> Result<Stored, Error> {
    let slot = batch.newest.entry(key.clone());
    let current = match &slot {
        Entry::Occupied(at) => {
            let version = &batch.versions[*at.get()];
            (version.change != Change::Deleted).then_some(version.object.revision)
        }
        Entry::Vacant(_) => history.get(&key).map(|object| object.revision),
    };
    match (write, current) {
        (Write::Create { .. }, Some(_)) => return Err(Error::Exists(key)),
        (Write::Create { .. }, None) => {}
        (Write::Update { .. } | Write::Delete { .. }, None) => return Err(Error::NotFound(key)),
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
        revision: Revision(revision),
        data: write.data().clone(),
    };
    slot.insert_entry(batch.versions.len());
    batch.versions.push(Version {
        change: write.change(),
        object: Arc::new(stored.clone()),
    });
    Ok(stored)
}

fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
