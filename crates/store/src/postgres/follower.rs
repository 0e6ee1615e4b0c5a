//! The task that reads: keeps memory up with the log.
//!
//! Owns the connection that listens. It reads what is new when a notification names a revision
//! not known yet, when a reader must know the latest, and every few seconds in case a notification
//! got lost. Readers that come while a round is under way share the next one, which starts after
//! all of them asked: what they then find in memory is not older than any write answered before.
//!
//! LISTEN has no connection of its own: notifications come between two rounds, and a connection
//! more would be one more to lose without noticing.
//!
//! Crash behaviour: none. While the database is away it tries again and again, with pauses; each
//! reader waits only so long.
//!
//! Read next: `memory` for the judgement of what is read.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::link::{Link, Pause};
use super::log::{self, LISTEN, News};
use super::memory::{Memory, Read};
use super::session::Session;
use super::trouble::{SILENT, Trouble};
use crate::failure::Failure;

/// In case a notification got lost.
const POLL: Duration = Duration::from_secs(3);
/// Readers that may wait before the next are held back.
const READERS: usize = 1024;

/// Wakes somebody once memory is up with the log.
type Reader = oneshot::Sender<Result<(), Failure>>;

/// Asks the follower.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    readers: mpsc::Sender<Reader>,
    /// What keeps it from reading, while something does.
    trouble: Arc<Mutex<Option<Failure>>>,
    link: Arc<Link>,
}

impl Handle {
    /// Returns once memory holds everything committed before the call.
    pub(super) async fn current(&self, until: Instant) -> Result<(), Failure> {
        let asking = async {
            let (reader, read) = oneshot::channel();
            let closed = || Failure::closed(self.link.place());
            self.readers.send(reader).await.map_err(|_| closed())?;
            read.await.map_err(|_| closed())?
        };
        tokio::time::timeout_at(until, asking)
            .await
            .unwrap_or_else(|_| Err(self.trouble()))
    }

    fn trouble(&self) -> Failure {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = trouble.clone();
        trouble.unwrap_or_else(|| Failure::new(self.link.place(), SILENT))
    }
}

/// See the module.
pub(super) struct Follower {
    link: Arc<Link>,
    memory: Arc<Memory>,
    session: Option<Session>,
    readers: mpsc::Receiver<Reader>,
    trouble: Arc<Mutex<Option<Failure>>>,
}

impl Follower {
    pub(super) fn new(link: Arc<Link>, memory: Arc<Memory>) -> (Self, Handle) {
        let (sender, readers) = mpsc::channel(READERS);
        let trouble = Arc::new(Mutex::new(None));
        let handle = Handle {
            readers: sender,
            trouble: trouble.clone(),
            link: link.clone(),
        };
        let follower = Self {
            link,
            memory,
            session: None,
            readers,
            trouble,
        };
        (follower, handle)
    }

    /// Until `closing` says so.
    pub(super) async fn run(mut self, mut closing: watch::Receiver<bool>) {
        let mut waiting: Vec<Reader> = Vec::new();
        let mut pause = Pause::default();
        let ending = async move { closing.wait_for(|closing| *closing).await.is_ok() };
        let mut ending = std::pin::pin!(ending);
        let mut due = Instant::now();
        loop {
            tokio::select! {
                _ = &mut ending => break,
                reader = self.readers.recv(), if pause.is_over() => match reader {
                    Some(reader) => waiting.push(reader),
                    None => break,
                },
                () = self.link.heard.woken.notified(), if pause.is_over() => {
                    let heard = self.link.heard.revision.load(Ordering::Relaxed);
                    if heard <= self.memory.read().revision() {
                        continue;
                    }
                }
                () = tokio::time::sleep_until(due) => {}
            }
            while let Ok(reader) = self.readers.try_recv() {
                waiting.push(reader);
            }
            let read = tokio::select! {
                _ = &mut ending => break,
                read = self.round() => read,
            };
            let trouble = match read {
                Ok(()) => {
                    pause = Pause::default();
                    due = Instant::now() + POLL;
                    for reader in waiting.drain(..) {
                        let _ = reader.send(Ok(()));
                    }
                    None
                }
                Err(trouble) => {
                    if pause.is_over() {
                        tracing::warn!(error = %trouble.failure.error(), "the database cannot be read");
                    }
                    due = Instant::now() + pause.next();
                    waiting.retain(|reader| !reader.is_closed());
                    if !trouble.passing {
                        for reader in waiting.drain(..) {
                            let _ = reader.send(Err(trouble.failure.clone()));
                        }
                    }
                    Some(trouble.failure)
                }
            };
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        }
    }

    /// Reads what is new.
    async fn round(&mut self) -> Result<(), Trouble> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let session = self.link.connect().await?;
                session.round(session.client.batch_execute(LISTEN)).await?;
                session
            }
        };
        self.read(&session).await?;
        // Only a session without trouble is used again.
        self.session = Some(session);
        Ok(())
    }

    async fn read(&self, session: &Session) -> Result<(), Trouble> {
        let base = self.memory.base();
        let known = base.revision.cast_signed();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&known];
        let rows = session.client.query(&session.tail, &parameters);
        let rows = session.round(rows).await?;
        let news = News::parse(&rows, session.place())?;
        match self.memory.take_in(&base, &news) {
            Read::Continued => return Ok(()),
            Read::Gap => {}
            Read::Contradicted(contradicted) => self.link.contradict(contradicted).await?,
        }
        let loaded = log::load(session).await?;
        tracing::warn!(
            revision = loaded.header.revision,
            "everything was read again; all watches end and list again"
        );
        self.memory.replace(loaded);
        Ok(())
    }
}
