//! How this server reaches the database, shared by its connections.
//!
//! Owns the address, what was heard on it, and the refusal of a former primary: one that comes
//! back by itself after its standby was promoted still has the timeline it had.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::Config;

use super::address::Address;
use super::schema::{self, Contradicted, Place};
use super::session::{Bare, Heard, Session};
use super::trouble::Trouble;
use crate::failure::Failure;

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    address: Address,
    pub(super) heard: Arc<Heard>,
    seen: Mutex<Option<Place>>,
    /// Which host was the primary.
    last: AtomicUsize,
}

impl Link {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            heard: Arc::default(),
            seen: Mutex::new(None),
            last: AtomicUsize::new(0),
        }
    }

    pub(super) fn place(&self) -> &Arc<str> {
        &self.address.place
    }

    /// A session on tables that are there.
    pub(super) async fn connect(&self) -> Result<Session, Trouble> {
        let bare = self.bare().await?;
        schema::identify(&bare, None).await?;
        bare.prepare().await
    }

    /// As [`Link::connect`], making or migrating the tables.
    pub(super) async fn open(&self) -> Result<Session, Trouble> {
        let bare = self.bare().await?;
        schema::migrate(&bare).await?;
        schema::identify(&bare, None).await?;
        bare.prepare().await
    }

    /// Begins a new epoch, unless another server was faster.
    pub(super) async fn contradict(&self, contradicted: Contradicted) -> Result<(), Trouble> {
        schema::identify(&self.bare().await?, Some(contradicted)).await
    }

    /// Connects to the first host that is a primary, beginning with the one that last was.
    async fn bare(&self) -> Result<Bare, Trouble> {
        let hosts = &self.address.hosts;
        let first = self.last.load(Ordering::Relaxed);
        let mut failed: Option<Trouble> = None;
        for index in (first..first + hosts.len()).map(|index| index % hosts.len()) {
            match self.host(&hosts[index]).await {
                Ok(bare) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(bare);
                }
                // What a person must mend is told before what may pass.
                Err(trouble) => {
                    if failed.as_ref().is_none_or(|failed| failed.passing) {
                        failed = Some(trouble);
                    }
                }
            }
        }
        let mut failed = failed
            .unwrap_or_else(|| Trouble::lasting(Failure::new(self.place(), "it has no host")));
        // Another host may become the primary.
        failed.passing |= hosts.len() > 1;
        Err(failed)
    }

    async fn host(&self, host: &Config) -> Result<Bare, Trouble> {
        let bare = Bare::connect(&self.address, host, &self.heard).await?;
        let place = schema::place(&bare).await?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = &*seen
            && place.cluster == seen.cluster
            && place.timeline < seen.timeline
        {
            let what = "it is a former primary whose standby was promoted; end it, and make it a standby of the new one";
            return Err(Trouble::lost(Failure::new(self.place(), what)));
        }
        *seen = Some(place);
        drop(seen);
        Ok(bare)
    }
}

/// Between attempts: from 50 ms to 2 s.
#[derive(Debug, Default)]
pub(super) struct Pause(u32);

impl Pause {
    /// Whether there was no failed attempt.
    pub(super) fn is_over(&self) -> bool {
        self.0 == 0
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(50 << self.0.min(5));
        self.0 += 1;
        pause
    }
}
