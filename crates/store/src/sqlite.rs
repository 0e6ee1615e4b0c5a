//! The store in one SQLite file, for one server.
//!
//! Owns opening, closing and the rules of concurrency: one thread writes (`writer`) and commits
//! all waiting writes together, everything is read from memory (`history`). The file is locked
//! for this process: a second server on it is refused. Several servers need a database of their
//! own, which is another implementation.
//!
//! Crash behaviour: a write is applied to memory, shown and answered only after its commit is
//! synced, so a kill or a power cut takes back nothing that anybody saw. A write whose caller
//! stopped waiting may still happen.
//!
//! Read next: `file` for what is on disk, `writer` for the group commit.

mod file;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};

use self::file::File;
use crate::archive::{Backup, Snapshot};
use crate::batch::{QUEUE, Request, Write};
use crate::failure::Failure;
use crate::held::Sweeper;
use crate::history::{History, Limits};
use crate::{Error, Event, Key, Page, Revision, Route, Scope, Store, Stored, watch};

#[cfg(test)]
mod tests;

/// Where a store is and how much history it keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file. Missing folders are made, for the owner only.
    pub path: PathBuf,
    /// Changes kept for watches and for lists at an older revision.
    pub history_rows: usize,
    /// Age after which a change may be forgotten.
    pub history_age: Duration,
    /// Bytes of versions kept in history; as many as the current objects have are always allowed.
    pub history_bytes: u64,
}

impl Options {
    /// The defaults: 100,000 changes, one hour, 8 MiB or as much as is stored.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            history_rows: 100_000,
            history_age: Duration::from_secs(3600),
            history_bytes: 8 << 20,
        }
    }
}

/// See the module. Dropping it waits for the writes already handed in; [`Store::close`] does
/// so without blocking the thread; after it reads are still answered from memory.
#[derive(Debug)]
pub struct SqliteStore {
    place: Arc<str>,
    history: Arc<RwLock<History>>,
    queue: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    _sweeper: Sweeper,
}

impl SqliteStore {
    /// Opens or creates the file and reads it. Blocks.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the file is in use, damaged, read-only, written by a newer
    /// version or no store at all.
    pub fn open(options: Options) -> Result<Self, Error> {
        let (file, history) = File::open(&options.path)?;
        let place = file.place().clone();
        let history = Arc::new(RwLock::new(history));
        let limits = Limits {
            rows: options.history_rows,
            age_millis: u64::try_from(options.history_age.as_millis()).unwrap_or(u64::MAX),
            bytes: options.history_bytes,
            recent_millis: Limits::RECENT.0,
            recent_bytes: Limits::RECENT.1,
        };
        let unstarted = |source| {
            let what = "its threads could not be started; raise the limit of processes";
            Failure::new(&place, what).because(source)
        };
        let sweeper = Sweeper::start(&history).map_err(unstarted)?;
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = writer::Writer::new(file, history.clone(), limits);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(requests))
            .map_err(unstarted)?;
        Ok(Self {
            place,
            history,
            queue: Some(queue),
            thread: Some(thread),
            _sweeper: sweeper,
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, History> {
        self.history.read().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, request: Request) -> Result<(), Error> {
        match &self.queue {
            Some(queue) => queue.send(request).await.map_err(|_| self.closed()),
            None => Err(self.closed()),
        }
    }

    fn closed(&self) -> Error {
        Failure::closed(&self.place).error()
    }

    fn write(&self, key: Key, write: Write) -> BoxFuture<'_, Result<Stored, Error>> {
        async move {
            let (answer, answered) = oneshot::channel();
            self.send(Request::Write { key, write, answer }).await?;
            answered.await.map_err(|_| self.closed())?
        }
        .boxed()
    }
}

/// Puts a backup into a new file, or one that never held anything. Blocks. All of it or nothing is
/// there afterwards, also after a kill.
///
/// # Errors
/// [`Error::NotEmpty`]; [`Error::Unavailable`] as for [`SqliteStore::open`].
pub fn restore(path: &std::path::Path, backup: Backup) -> Result<(), Error> {
    let (mut file, history) = File::open(path)?;
    if history.revision() > 0 {
        return Err(Error::NotEmpty(path.display().to_string()));
    }
    let begins = backup.begins();
    let restored = file.commit(&backup.versions(), writer::now_millis(), Some(begins), &[]);
    restored.map_err(|failure| failure.error())?;
    file.close()
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the writer has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Store for SqliteStore {
    fn create(&self, key: Key, data: Bytes) -> BoxFuture<'_, Result<Stored, Error>> {
        self.write(key, Write::Create { data })
    }

    fn update(
        &self,
        key: Key,
        expected: Revision,
        data: Bytes,
    ) -> BoxFuture<'_, Result<Stored, Error>> {
        self.write(key, Write::Update { expected, data })
    }

    fn delete(
        &self,
        key: Key,
        expected: Revision,
        last: Bytes,
    ) -> BoxFuture<'_, Result<Stored, Error>> {
        self.write(key, Write::Delete { expected, last })
    }

    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Stored>, Error>> {
        async move { Ok(self.read().get(&key).map(|stored| Stored::clone(&stored))) }.boxed()
    }

    fn list(
        &self,
        scope: Scope,
        at: Option<Revision>,
        after: Option<Key>,
        limit: Option<usize>,
    ) -> BoxFuture<'_, Result<Page, Error>> {
        async move { self.read().list(&scope, at, after.as_ref(), limit) }.boxed()
    }

    fn watch(
        &self,
        scope: Scope,
        from: Option<Revision>,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Event, Error>>, Error>> {
        async move { watch::open(&self.history, scope, from, None) }.boxed()
    }

    fn watch_route(
        &self,
        scope: Scope,
        from: Option<Revision>,
        route: Route,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Event, Error>>, Error>> {
        async move { watch::open(&self.history, scope, from, Some(route)) }.boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        async move { Ok(Revision(self.read().revision())) }.boxed()
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, Error>> {
        async move { Ok(self.read().snapshot()) }.boxed()
    }

    fn compact(&self, upto: Revision) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let (answer, answered) = oneshot::channel();
            self.send(Request::Compact { upto, answer }).await?;
            answered.await.map_err(|_| self.closed())?
        }
        .boxed()
    }

    /// Fails when the log could not be folded into the file; nothing is lost, the next open does
    /// it.
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let (answer, answered) = oneshot::channel();
            if self.send(Request::Close(answer)).await.is_err() {
                return Ok(());
            }
            answered.await.unwrap_or(Ok(()))
        }
        .boxed()
    }
}
