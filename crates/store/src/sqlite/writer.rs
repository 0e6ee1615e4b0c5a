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

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use super::file::File;
use crate::Stored;
use crate::batch::{Answer, Batch, FORGET, Request, Write, gather};
use crate::failure::Failure;
use crate::history::{History, Limits};

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
            let (waiting, close) = gather(first, &mut requests);
            closing = close;
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
        let (batch, writes, compactions) = self.judge(requests);
        let committed = self.commit(&batch, now_millis);
        // A watcher that hears of a change before its writer does is fine: it is durable.
        if committed.is_ok() {
            self.publish(&batch, now_millis);
        }
        let failed = committed.err();
        for answer in writes {
            answer.send(failed.as_ref());
        }
        for answer in compactions {
            answer.send(failed.as_ref());
        }
        if failed.is_none() {
            self.forget_excess(now_millis);
        }
    }

    fn judge(&self, requests: Vec<Request>) -> (Batch, Vec<Answer<Stored>>, Vec<Answer<()>>) {
        let history = self.history.read().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::after(&history);
        let (mut writes, mut compactions) = (Vec::new(), Vec::new());
        let creates = |request: &Request| {
            let write = |write: &Write| matches!(write, Write::Create { .. });
            matches!(request, Request::Write { write: what, .. } if write(what))
        };
        let reserved = requests.iter().any(creates).then(|| self.file.reserved());
        let reserved = reserved.flatten();
        for request in requests {
            match request {
                Request::Write { key, write, answer } => {
                    let result = match (&write, &reserved) {
                        (Write::Create { .. }, Some(reserved)) => Err(reserved.error()),
                        _ => batch.write(&history, key, &write),
                    };
                    writes.push(Answer { to: answer, result });
                }
                Request::Compact { upto, answer } => {
                    let result = batch.compact(upto);
                    compactions.push(Answer { to: answer, result });
                }
                Request::Close(_) => {}
            }
        }
        (batch, writes, compactions)
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
            history.publish(batch.versions.iter().map(|version| (version, now_millis)));
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

pub(super) fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
