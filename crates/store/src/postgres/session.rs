//! A connection to the primary, set up and with a deadline on everything.
//!
//! Owns connecting, the settings a session needs, its driver task (which ends with it), and what
//! comes unasked: notifications wake the follower, and a warning during a commit is remembered,
//! because that is how the database says that it gave up waiting for its standby.
//!
//! Read next: `log`, the statements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Statement};

use super::address::Address;
use super::log;
use super::tls;
use super::trouble::Trouble;

/// The database ends a statement, also one that waits for a lock.
const STATEMENT: Duration = Duration::from_secs(5);
/// The database ends a transaction whose server went silent, so that the others may write.
const IDLE: Duration = Duration::from_secs(4);
/// Who was silent so long within what it sends together is ended by whoever waited in vain for its lock:
/// less than that wait, so that one is enough.
const SILENCE: Duration = Duration::from_secs(3);
/// We give a round trip up, and the session with it.
const ROUND: Duration = Duration::from_secs(10);
/// Of connecting to one host and logging in.
const ATTEMPT: Duration = Duration::from_secs(6);
/// Of what is done once: migrations, and reading everything.
pub(super) const LONG: Duration = Duration::from_secs(300);

/// Said by the other servers: the newest revision heard of.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) revision: AtomicU64,
    pub(super) woken: Notify,
}

/// See the module. Dropped, it closes the connection, and the database undoes what was not
/// committed.
pub(super) struct Session {
    pub(super) client: Client,
    place: Arc<str>,
    warned: Arc<AtomicBool>,
    /// Drives the connection.
    _driver: JoinSet<()>,
    /// Prepared: lock the header.
    pub(super) lock: Statement,
    /// Prepared: the header and what comes after a revision.
    pub(super) tail: Statement,
    /// Prepared: append versions.
    pub(super) append: Statement,
}

/// A connection whose tables are not known to be there yet.
pub(super) struct Bare {
    pub(super) client: Client,
    pub(super) place: Arc<str>,
    warned: Arc<AtomicBool>,
    driver: JoinSet<()>,
}

impl Bare {
    /// Connects to a host that lets itself be written to.
    pub(super) async fn connect(
        address: &Address,
        host: &Config,
        heard: &Arc<Heard>,
    ) -> Result<Self, Trouble> {
        let place = &address.place;
        let connecting = host.connect(address.tls.clone());
        let (client, connection) = tokio::time::timeout(ATTEMPT, connecting)
            .await
            .map_err(|_| Trouble::timeout(place))?
            .map_err(|error| Trouble::new(place, error))?;
        let warned = Arc::new(AtomicBool::new(false));
        let mut driver = JoinSet::new();
        driver.spawn(drive(connection, heard.clone(), warned.clone()));
        let bare = Self {
            client,
            place: place.clone(),
            warned,
            driver,
        };
        // What the administrator made stricter (`remote_apply`) stays.
        // The tail is read by its index however the planner counts rows; without it the cost that
        // stands for "never" would have each statement compiled.
        let settings = format!(
            "SELECT set_config('synchronous_commit', 'on', false)
                WHERE current_setting('synchronous_commit') IN ('off', 'local');
            SET statement_timeout = {};
            SET lock_timeout = {0};
            SET idle_in_transaction_session_timeout = {};
            SET default_transaction_isolation = 'read committed';
            SET enable_seqscan = off;
            SET jit = off",
            STATEMENT.as_millis(),
            IDLE.as_millis(),
        );
        bare.within(ROUND, bare.client.batch_execute(&settings))
            .await?;
        Ok(bare)
    }

    pub(super) async fn within<T>(
        &self,
        time: Duration,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Trouble> {
        within(&self.place, time, work).await
    }

    /// Once the tables are there.
    pub(super) async fn prepare(self) -> Result<Session, Trouble> {
        let preparing = async {
            let client = &self.client;
            tokio::try_join!(
                client.prepare(log::LOCK),
                client.prepare(log::TAIL),
                client.prepare(log::APPEND),
            )
        };
        let (lock, tail, append) = self.within(ROUND, preparing).await?;
        Ok(Session {
            client: self.client,
            place: self.place,
            warned: self.warned,
            _driver: self.driver,
            lock,
            tail,
            append,
        })
    }
}

impl Session {
    pub(super) fn place(&self) -> &Arc<str> {
        &self.place
    }

    /// One round trip, or several that are sent together.
    pub(super) async fn round<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Trouble> {
        within(&self.place, ROUND, work).await
    }

    /// As [`Session::round`], for what takes longer.
    pub(super) async fn long<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Trouble> {
        within(&self.place, LONG, work).await
    }

    /// Undoes the transaction that a failed statement left behind.
    pub(super) async fn roll_back(&self) -> Result<(), Trouble> {
        self.round(self.client.batch_execute("ROLLBACK")).await
    }

    /// Ends the sessions of servers that went silent while they were sending within a transaction,
    /// so that the others may write. The database's own limit on idle transactions begins only
    /// after the end of what is sent together.
    pub(super) async fn end_silent(&self) -> Result<(), Trouble> {
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND usename = current_user
                    AND application_name = current_setting('application_name')
                    AND state = 'active' AND wait_event = 'ClientRead'
                    AND backend_xid IS NOT NULL
                    AND query_start < clock_timestamp() - interval '{} ms'",
            SILENCE.as_millis(),
        );
        self.round(self.client.batch_execute(&end)).await
    }

    /// Whether the database warned since this was last asked.
    pub(super) fn warned(&self) -> bool {
        self.warned.swap(false, Ordering::Relaxed)
    }
}

async fn within<T>(
    place: &Arc<str>,
    time: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Trouble> {
    tokio::time::timeout(time, work)
        .await
        .map_err(|_| Trouble::timeout(place))?
        .map_err(|error| Trouble::new(place, error))
}

async fn drive(
    mut connection: Connection<tokio_postgres::Socket, tls::Stream>,
    heard: Arc<Heard>,
    warned: Arc<AtomicBool>,
) {
    loop {
        match std::future::poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(told))) => {
                // No number wakes as well: reading again is never wrong.
                let revision = told.payload().parse().unwrap_or(u64::MAX);
                heard.revision.fetch_max(revision, Ordering::Relaxed);
                heard.woken.notify_one();
            }
            Some(Ok(AsyncMessage::Notice(notice))) => {
                if notice.severity() == "WARNING" {
                    warned.store(true, Ordering::Relaxed);
                }
                tracing::debug!(%notice, "the database says");
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "a connection to the database ended");
                return;
            }
            None => return,
        }
    }
}
