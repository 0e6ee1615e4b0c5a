//! The store in a PostgreSQL database, for several servers at once.
//!
//! The database is a shared log. One table has a row per change under its revision, a header of
//! one row says how far it goes, and every server keeps the whole contents in memory, following
//! the log: lists and watches never ask the database. A write holds the header's row until it is
//! committed, so the order of revisions is the order of commits, on all servers, and no change
//! becomes visible after a later one.
//!
//! A read of the latest first asks the database how far the log goes and waits for memory to be
//! there, so it is never older than what any server answered before. A read at a revision, or a
//! watch from one, that memory has reached is served without asking, also while the database is
//! away.
//!
//! What this module does not do: it neither elects nor fences a primary. It follows whichever host
//! accepts writes, refuses one it knows to be a former primary, and notices when what it knew is
//! not there any more (`schema`). That nothing answered is lost by a promotion needs synchronous
//! replication.
//!
//! Crash behaviour: a server can be killed anywhere; the database undoes or has kept what it was
//! writing. A database killed or restarted is waited for.
//!
//! Read next: `writer` and `follower`, the two tasks; `memory`, what they share; `schema`, whose
//! history it is.

mod address;
mod follower;
mod link;
mod log;
mod memory;
mod schema;
mod session;
mod tls;
mod trouble;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::address::Address;
use self::follower::Follower;
use self::link::Link;
use self::memory::Memory;
use self::writer::Writer;
use crate::archive::{Backup, Snapshot};
use crate::batch::{QUEUE, Request, Write};
use crate::failure::Failure;
use crate::held::Sweeper;
use crate::history::Limits;
use crate::{Error, Event, Key, Page, Revision, Route, Scope, Store, Stored};

#[cfg(test)]
mod tests;

/// Where the database is and how much history it keeps. All servers of one database should have
/// the same limits: whichever server meets its own first forgets for all.
#[derive(Clone)]
pub struct Options {
    /// `postgres://user:password@host1:port,host2/name?sslmode=verify-full&sslrootcert=FILE`; for
    /// a unix socket `postgres://user@/name?host=FOLDER`. Of several hosts the primary is used.
    pub address: String,
    /// Changes kept for watches and for lists at an older revision.
    pub history_rows: usize,
    /// Age after which a change may be forgotten.
    pub history_age: Duration,
    /// Bytes of versions kept in history; as many as the current objects have are always allowed.
    pub history_bytes: u64,
    /// How long a caller waits for a database that does not answer.
    pub patience: Duration,
}

impl std::fmt::Debug for Options {
    /// Without the address, which may hold a password.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Options").finish_non_exhaustive()
    }
}

impl Options {
    /// The defaults: 100,000 changes, one hour, 8 MiB or as much as is stored, 15 s.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            history_rows: 100_000,
            history_age: Duration::from_secs(3600),
            history_bytes: 8 << 20,
            patience: Duration::from_secs(15),
        }
    }
}

/// See the module. Dropped, it ends its tasks where they are; [`Store::close`] lets them finish.
#[derive(Debug)]
pub struct PostgresStore {
    link: Arc<Link>,
    memory: Arc<Memory>,
    follower: follower::Handle,
    queue: mpsc::Sender<Request>,
    closing: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    patience: Duration,
    _sweeper: Sweeper,
}

impl PostgresStore {
    /// Connects, makes or migrates the tables, and reads everything.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be reached, refuses the login, is read-only,
    /// damaged, migrated by a newer release or another program's.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let link = Arc::new(Link::new(Address::parse(&options.address)?));
        let session = link.open().await.map_err(|trouble| trouble.failure)?;
        let loaded = log::load(&session).await;
        let memory = Memory::new(loaded.map_err(|trouble| trouble.failure)?);
        let memory = Arc::new(memory);
        let limits = Limits {
            rows: options.history_rows,
            age_millis: u64::try_from(options.history_age.as_millis()).unwrap_or(u64::MAX),
            bytes: options.history_bytes,
            recent_millis: Limits::RECENT.0,
            recent_bytes: Limits::RECENT.1,
        };
        let (follower, handle) = Follower::new(link.clone(), memory.clone());
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = Writer::new(
            link.clone(),
            memory.clone(),
            handle.clone(),
            limits,
            options.patience,
            session,
        );
        let sweeper = Sweeper::start(memory.history()).map_err(|source| {
            let what = "a thread could not be started; raise the limit of processes";
            Failure::new(link.place(), what).because(source).error()
        })?;
        let (closing, closed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(follower.run(closed));
        tasks.spawn(writer.run(requests));
        Ok(Self {
            link,
            memory,
            follower: handle,
            queue,
            closing,
            tasks: Mutex::new(tasks),
            patience: options.patience,
            _sweeper: sweeper,
        })
    }

    fn closed(&self) -> Error {
        Failure::closed(self.link.place()).error()
    }

    /// Returns once memory holds everything that was committed before the call.
    async fn current(&self) -> Result<(), Error> {
        let until = Instant::now() + self.patience;
        Ok(self.follower.current(until).await?)
    }

    /// As [`PostgresStore::current`], unless memory has reached `at` already.
    async fn reach(&self, at: Option<Revision>) -> Result<(), Error> {
        match at {
            Some(at) if at.0 <= self.memory.read().revision() => Ok(()),
            _ => self.current().await,
        }
    }

    async fn ask<T>(
        &self,
        request: Request,
        answered: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        let sent = self.queue.send(request).await;
        sent.map_err(|_| self.closed())?;
        answered.await.map_err(|_| self.closed())?
    }

    fn write(&self, key: Key, write: Write) -> BoxFuture<'_, Result<Stored, Error>> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Write { key, write, answer }, answered)
            .boxed()
    }
}

/// Puts a backup into a database that never held anything. All of it or nothing is there
/// afterwards, also after a kill.
///
/// # Errors
/// [`Error::NotEmpty`]; [`Error::Unavailable`] as for [`PostgresStore::open`].
pub async fn restore(address: &str, backup: Backup) -> Result<(), Error> {
    let link = Link::new(Address::parse(address)?);
    let session = link.open().await.map_err(|trouble| trouble.failure)?;
    let begins = backup.begins();
    let restored = log::restore(&session, &backup.versions(), begins).await;
    match restored.map_err(|trouble| trouble.failure)? {
        true => Ok(()),
        false => Err(Error::NotEmpty(link.place().to_string())),
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.memory.close();
    }
}

impl Store for PostgresStore {
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
        async move {
            self.current().await?;
            let history = self.memory.read();
            Ok(history.get(&key).map(|stored| Stored::clone(&stored)))
        }
        .boxed()
    }

    fn list(
        &self,
        scope: Scope,
        at: Option<Revision>,
        after: Option<Key>,
        limit: Option<usize>,
    ) -> BoxFuture<'_, Result<Page, Error>> {
        async move {
            self.reach(at).await?;
            self.memory.read().list(&scope, at, after.as_ref(), limit)
        }
        .boxed()
    }

    fn watch(
        &self,
        scope: Scope,
        from: Option<Revision>,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Event, Error>>, Error>> {
        async move {
            self.reach(from).await?;
            crate::watch::open(self.memory.history(), scope, from, None)
        }
        .boxed()
    }

    fn watch_route(
        &self,
        scope: Scope,
        from: Option<Revision>,
        route: Route,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Event, Error>>, Error>> {
        async move {
            self.reach(from).await?;
            crate::watch::open(self.memory.history(), scope, from, Some(route))
        }
        .boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        async move {
            self.current().await?;
            Ok(Revision(self.memory.read().revision()))
        }
        .boxed()
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, Error>> {
        async move {
            self.current().await?;
            Ok(self.memory.read().snapshot())
        }
        .boxed()
    }

    fn compact(&self, upto: Revision) -> BoxFuture<'_, Result<(), Error>> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Compact { upto, answer }, answered)
            .boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let (answer, answered) = oneshot::channel();
            if self.queue.send(Request::Close(answer)).await.is_ok() {
                let _ = answered.await;
            }
            self.closing.send_replace(true);
            let tasks =
                std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            tasks.join_all().await;
            Ok(())
        }
        .boxed()
    }
}
