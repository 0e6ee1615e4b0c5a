//! What this server knows of the database.
//!
//! Owns the history and the position in the log that belongs to it, and the judgement of what was
//! read: whether it continues what is known, tells of a gap (so everything is read again), or
//! contradicts it (so the database lost something, and a new epoch begins). Writer and follower
//! both bring in what they read; whatever is already known is passed over.
//!
//! Crash behaviour: none, it is read again.
//!
//! Read next: `writer`, `follower`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use tokio::time::Instant;
use uuid::Uuid;

use super::log::{Header, Loaded, News, link};
use super::schema::Contradicted;
use crate::history::{History, Limits};
use crate::version::Version;

/// A point in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) epoch: Uuid,
    pub(super) revision: u64,
    pub(super) chain: u32,
}

impl From<&Header> for Base {
    fn from(header: &Header) -> Self {
        Self {
            epoch: header.epoch,
            revision: header.revision,
            chain: header.chain,
        }
    }
}

/// What the log said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    /// It continues what was known, and is known now.
    Continued,
    /// Part of it is forgotten, or a new epoch has begun: read everything again.
    Gap,
    /// It is not what was known before.
    Contradicted(Contradicted),
}

#[derive(Debug)]
struct Position {
    epoch: Uuid,
    /// At the history's revision.
    chain: u32,
    /// The database's clock, and when it was read.
    clock: (u64, Instant),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    /// Locked before the history by all who change it.
    position: Mutex<Position>,
    history: Arc<RwLock<History>>,
}

impl Memory {
    pub(super) fn new(loaded: Loaded) -> Self {
        Self {
            position: Mutex::new(Position {
                epoch: loaded.header.epoch,
                chain: loaded.header.chain,
                clock: (loaded.header.now_millis, Instant::now()),
            }),
            history: Arc::new(RwLock::new(loaded.history)),
        }
    }

    pub(super) fn history(&self) -> &Arc<RwLock<History>> {
        &self.history
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, History> {
        self.history.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, action: impl FnOnce(&mut History) -> T) -> T {
        action(&mut self.history.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn base(&self) -> Base {
        let position = self.lock();
        Base {
            epoch: position.epoch,
            revision: self.read().revision(),
            chain: position.chain,
        }
    }

    /// The database's clock now, in milliseconds since 1970.
    pub(super) fn now_millis(&self) -> u64 {
        let (millis, at) = self.lock().clock;
        let since = Instant::now().saturating_duration_since(at);
        millis + u64::try_from(since.as_millis()).unwrap_or_default()
    }

    /// Looks at the history if it is still at `base`.
    pub(super) fn at<T>(&self, base: &Base, look: impl FnOnce(&History) -> T) -> Option<T> {
        let position = self.lock();
        let history = self.read();
        let same = position.epoch == base.epoch && history.revision() == base.revision;
        same.then(|| look(&history))
    }

    /// Takes in what was read after `base`.
    pub(super) fn take_in(&self, base: &Base, news: &News) -> Read {
        let header = &news.header;
        let contradicted = Read::Contradicted(Contradicted {
            epoch: base.epoch,
            revision: base.revision,
        });
        if header.epoch != base.epoch {
            return Read::Gap;
        }
        if header.revision < base.revision {
            return contradicted;
        }
        let revisions = news.versions.iter().map(|(version, ..)| version.revision());
        let whole = revisions.eq(base.revision + 1..=header.revision);
        let chain = news
            .versions
            .iter()
            .fold(base.chain, |chain, (_, _, checksum)| link(chain, *checksum));
        if whole && chain != header.chain {
            return contradicted;
        }
        let mut position = self.lock();
        let known = self.read().revision();
        if position.epoch != base.epoch || (!whole && known < header.revision) {
            return Read::Gap;
        }
        position.clock = (header.now_millis, Instant::now());
        if known < header.revision {
            position.chain = header.chain;
        }
        let new = news
            .versions
            .iter()
            .filter(|(version, ..)| version.revision() > known)
            .map(|(version, at_millis, _)| (version, *at_millis));
        let wanted = known < header.revision || self.read().compacted() < header.compacted;
        if wanted {
            self.change(|history| {
                history.publish(new);
                history.forget(header.compacted.min(history.revision()));
            });
        }
        Read::Continued
    }

    /// Applies what was committed after `base`, and forgets up to `compacted`.
    pub(super) fn committed(
        &self,
        base: &Base,
        versions: &[Version],
        at_millis: u64,
        chain: u32,
        compacted: u64,
    ) {
        let mut position = self.lock();
        let known = self.read().revision();
        if position.epoch != base.epoch || known < base.revision {
            return;
        }
        let last = base.revision + versions.len() as u64;
        if known < last {
            position.chain = chain;
        }
        let new = versions
            .iter()
            .filter(|version| version.revision() > known)
            .map(|version| (version, at_millis));
        self.change(|history| {
            history.publish(new);
            history.forget(compacted.min(history.revision()));
        });
    }

    /// Replaces everything; all watches end with the word that something was missed.
    pub(super) fn replace(&self, loaded: Loaded) {
        let mut position = self.lock();
        *position = Position {
            epoch: loaded.header.epoch,
            chain: loaded.header.chain,
            clock: (loaded.header.now_millis, Instant::now()),
        };
        self.change(|history| history.replace(loaded.history));
    }

    pub(super) fn exceeds(&self, limits: &Limits) -> bool {
        let now_millis = self.now_millis();
        self.read().exceeds(limits, now_millis)
    }

    /// Ends all watches once they have shown everything.
    pub(super) fn close(&self) {
        self.change(History::close);
    }
}
