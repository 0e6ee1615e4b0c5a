//! The task that writes: group commit into the shared log.
//!
//! Owns the order of writes of this server and what becomes of them when the connection breaks.
//! It takes all requests that wait and, in one transaction, locks the header, reads what other
//! servers wrote meanwhile into memory, judges each request against that, appends what was
//! accepted and commits; then it applies that to memory and answers. Two round trips a batch.
//!
//! When the answer to a commit is lost, it asks instead of guessing: on a new connection it takes
//! the header's lock, which the old transaction held until it was over, and looks for the batch's
//! name. The commit of the asking transaction waits for the standby as any does, so what it found
//! is as durable as if it had been answered. Found, it is answered; not found, the requests are
//! judged and written anew. Only where the log no longer tells (a new epoch began on a promoted
//! standby, and other servers have written since) the callers are told that it is not known.
//!
//! Crash behaviour: killed, its transaction is undone by the database, or was committed.
//!
//! Read next: `log`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::follower;
use super::link::{Link, Pause};
use super::log::{self, BEGIN, Columns, Header, LOCK, News};
use super::memory::{Base, Memory, Read};
use super::session::Session;
use super::trouble::Trouble;
use crate::batch::{Batch, FORGET, Request, gather};
use crate::failure::Failure;
use crate::history::Limits;
use crate::{Error, Stored};

/// How often age is looked at when nobody writes.
const FORGETTING: Duration = Duration::from_secs(30);

const DOUBT: &str = "the connection broke while it was writing, and whether it did is not known; read again to know";

/// Requests and what each is to be answered once it is durable.
struct Judged {
    batch: Batch,
    writes: Vec<Result<Stored, Error>>,
    compactions: Vec<Result<(), Error>>,
}

/// A batch sent to be committed, with no answer yet.
struct Doubt {
    id: Uuid,
    /// The batch before it.
    before: Uuid,
    base: Base,
    judged: Judged,
}

/// See the module.
pub(super) struct Writer {
    link: Arc<Link>,
    memory: Arc<Memory>,
    follower: follower::Handle,
    limits: Limits,
    patience: Duration,
    session: Option<Session>,
    doubt: Option<Doubt>,
    /// Since when nothing could be written.
    failing: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        link: Arc<Link>,
        memory: Arc<Memory>,
        follower: follower::Handle,
        limits: Limits,
        patience: Duration,
        session: Session,
    ) -> Self {
        Self {
            link,
            memory,
            follower,
            limits,
            patience,
            session: Some(session),
            doubt: None,
            failing: None,
        }
    }

    /// Until the queue is closed or a request says so.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut closing = None;
        let mut forgetting = tokio::time::interval(FORGETTING);
        while closing.is_none() {
            tokio::select! {
                first = queue.recv() => {
                    let Some(first) = first else { break };
                    let (requests, close) = gather(first, &mut queue);
                    closing = close;
                    self.serve(requests).await;
                }
                _ = forgetting.tick() => {}
            }
            self.forget_excess().await;
        }
        // What came in before the queue was closed is still owed.
        while let Ok(request) = queue.try_recv() {
            let (requests, close) = gather(request, &mut queue);
            closing = close.or(closing);
            self.serve(requests).await;
        }
        self.session = None;
        self.memory.close();
        if let Some(answer) = closing {
            let _ = answer.send(Ok(()));
        }
    }

    async fn serve(&mut self, requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        // A database that has been away for long is tried once for each batch.
        let started = *self.failing.get_or_insert_with(Instant::now);
        let until = started + self.patience;
        let mut pause = Pause::default();
        let served = loop {
            let trouble = match self.attempt(&requests).await {
                Ok(judged) => break Ok(judged),
                Err(trouble) => trouble,
            };
            let wait = pause.next();
            if !trouble.passing || Instant::now() + wait >= until {
                break Err(trouble.failure);
            }
            tracing::debug!(error = %trouble.failure.error(), "a batch is tried again");
            tokio::time::sleep(wait).await;
        };
        let served = match self.doubt.take() {
            Some(_) => served.map_err(|failure| Failure {
                what: DOUBT.into(),
                full: false,
                ..failure
            }),
            None => served,
        };
        if served.is_ok() {
            self.failing = None;
        }
        answer(requests, served);
    }

    async fn attempt(&mut self, requests: &[Request]) -> Result<Judged, Trouble> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.link.connect().await?,
        };
        let mut written = Ok(None);
        if let Some(doubt) = self.doubt.take() {
            written = self.settle(&session, doubt).await;
        }
        if let Ok(None) = written {
            written = self.write(&session, requests).await.map(Some);
        }
        match written {
            Ok(judged) => {
                self.session = Some(session);
                judged.ok_or_else(|| Trouble::passing(Failure::new(self.link.place(), DOUBT)))
            }
            Err(trouble) => {
                // One that cannot even undo is of no more use.
                if !trouble.lost && session.roll_back().await.is_ok() {
                    // What passes by itself may be a lock waited for in vain.
                    if trouble.passing
                        && let Err(trouble) = session.end_silent().await
                    {
                        let error = trouble.failure.error();
                        tracing::debug!(%error, "silent servers could not be ended");
                    }
                    self.session = Some(session);
                }
                Err(trouble)
            }
        }
    }

    /// Judges and commits; what went wrong and left no doubt has not happened.
    async fn write(&mut self, session: &Session, requests: &[Request]) -> Result<Judged, Trouble> {
        let header = self.lock(session).await?;
        let base = Base::from(&header);
        // Another connection may have found a new epoch; then this one is of the past.
        let judged = self
            .memory
            .at(&base, |history| Judged::new(history, requests));
        let Some(judged) = judged else {
            return Err(self.again());
        };
        let batch = &judged.batch;
        let compact = self.memory.read().compacted() < batch.compact;
        if batch.versions.is_empty() && !compact {
            session.roll_back().await?;
            return Ok(judged);
        }
        let id = Uuid::new_v4();
        let at_millis = header.now_millis;
        let columns = Columns::of(&batch.versions, at_millis, base.chain);
        let chain = columns.chain;
        let sending = append(session, &columns, (id, at_millis), base.revision);
        let appended = if compact {
            let unneeded = {
                let history = self.memory.read();
                history.unneeded(batch.compact).collect()
            };
            self.compact(session, unneeded, batch.compact).await?;
            !batch.versions.is_empty()
        } else {
            true
        };
        session.warned();
        let committing = async {
            if appended {
                tokio::try_join!(sending, session.client.batch_execute("COMMIT")).map(|_| ())
            } else {
                session.client.batch_execute("COMMIT").await
            }
        };
        let committed = session.round(committing).await;
        // A warning: the database no longer waits for its standby. Asking again does.
        let committed = match committed {
            Ok(()) if session.warned() => Err(Trouble::timeout(session.place())),
            other => other,
        };
        if let Err(trouble) = committed {
            if trouble.lost {
                self.doubt = Some(Doubt {
                    id,
                    before: header.batch,
                    base,
                    judged,
                });
            }
            return Err(trouble);
        }
        let compacted = if compact { batch.compact } else { 0 };
        self.memory
            .committed(&base, &batch.versions, at_millis, chain, compacted);
        Ok(judged)
    }

    /// Takes the header's lock and brings memory up to it.
    async fn lock(&self, session: &Session) -> Result<Header, Trouble> {
        let known = self.memory.base();
        let client = &session.client;
        let revision = known.revision.cast_signed();
        let parameters: [&(dyn ToSql + Sync); 1] = [&revision];
        // Sent together: the rows are read after the lock is there.
        let sent = async {
            tokio::try_join!(
                client.batch_execute(BEGIN),
                client.query(&session.lock, &[]),
                client.query(&session.tail, &parameters),
            )
        };
        let (_, _, rows) = session.round(sent).await?;
        let news = News::parse(&rows, session.place())?;
        match self.memory.take_in(&known, &news) {
            Read::Continued => Ok(news.header),
            Read::Gap | Read::Contradicted(_) => {
                session.roll_back().await?;
                let until = Instant::now() + self.patience;
                let read = self.follower.current(until).await;
                read.map_err(Trouble::passing)?;
                Err(self.again())
            }
        }
    }

    fn again(&self) -> Trouble {
        let what = "another server began a new epoch; try again";
        Trouble::passing(Failure::new(self.link.place(), what))
    }

    /// Finds out what became of a batch; None: nothing, and it never will.
    async fn settle(&mut self, session: &Session, doubt: Doubt) -> Result<Option<Judged>, Trouble> {
        let known = self.memory.base();
        let (client, place) = (&session.client, session.place());
        let revision = known.revision.cast_signed();
        let base = doubt.base.revision.cast_signed();
        let tail: [&(dyn ToSql + Sync); 1] = [&revision];
        let look_up: [&(dyn ToSql + Sync); 2] = [&doubt.id, &base];
        let asked = async {
            tokio::try_join!(
                client.batch_execute(BEGIN),
                client.query(LOCK, &[]),
                client.query(&session.tail, &tail),
                client.query_one(log::LOOK_UP, &look_up),
            )
        };
        session.warned();
        let asked = async {
            let asked = asked.await?;
            client.batch_execute("COMMIT").await?;
            Ok(asked)
        };
        let asked = match Box::pin(session.round(asked)).await {
            Ok(_) if session.warned() => Err(Trouble::timeout(place)),
            other => other,
        };
        let (_, _, rows, found) = match asked {
            Ok(asked) => asked,
            Err(trouble) => {
                self.doubt = Some(doubt);
                return Err(trouble);
            }
        };
        let news = News::parse(&rows, place)?;
        // If it does not continue what is known, the follower finds out as well.
        self.memory.take_in(&known, &news);
        let header = news.header;
        let found: i64 = found
            .try_get(0)
            .map_err(|error| Trouble::new(place, error))?;
        let continued = header.epoch == doubt.base.epoch;
        // Of another epoch's start only the last batch is told.
        let last = if continued {
            header.batch
        } else {
            header.sealed
        };
        if found > 0 || last == doubt.id {
            return Ok(Some(doubt.judged));
        }
        let never = last == doubt.before || (continued && header.compacted <= doubt.base.revision);
        if !never {
            return Err(Trouble::lasting(Failure::new(place, DOUBT)));
        }
        Ok(None)
    }

    async fn compact(
        &self,
        session: &Session,
        unneeded: Vec<u64>,
        upto: u64,
    ) -> Result<(), Trouble> {
        let unneeded: Vec<i64> = unneeded.into_iter().map(u64::cast_signed).collect();
        let upto = upto.cast_signed();
        let parameters: [&(dyn ToSql + Sync); 2] = [&unneeded, &upto];
        let compacting = session.client.execute(log::COMPACT, &parameters);
        session.round(compacting).await.map(|_| ())
    }

    /// Keeps history within its limits. Whichever server holds the lock first does it; the others
    /// then find nothing to do.
    async fn forget_excess(&mut self) {
        if !self.memory.exceeds(&self.limits) {
            return;
        }
        let Some(session) = self.session.take() else {
            // The next write connects.
            return;
        };
        match self.forget(&session).await {
            Ok(()) => self.session = Some(session),
            Err(trouble) => {
                if !trouble.lost && session.roll_back().await.is_ok() {
                    self.session = Some(session);
                }
                tracing::warn!(
                    error = %trouble.failure.error(),
                    "old history could not be removed; it is tried again later"
                );
            }
        }
    }

    async fn forget(&self, session: &Session) -> Result<(), Trouble> {
        let header = self.lock(session).await?;
        let base = Base::from(&header);
        let excess = self.memory.at(&base, |history| {
            let now_millis = header.now_millis;
            let exceeds = history.exceeds(&self.limits, now_millis);
            exceeds.then(|| {
                let upto = history.excess(&self.limits, now_millis, FORGET);
                (upto, history.unneeded(upto).collect())
            })
        });
        let Some(Some((upto, unneeded))) = excess else {
            return session.roll_back().await;
        };
        self.compact(session, unneeded, upto).await?;
        session
            .round(session.client.batch_execute("COMMIT"))
            .await?;
        self.memory.committed(&base, &[], 0, base.chain, upto);
        Ok(())
    }
}

impl Judged {
    fn new(history: &crate::history::History, requests: &[Request]) -> Self {
        let mut batch = Batch::after(history);
        let (mut writes, mut compactions) = (Vec::new(), Vec::new());
        for request in requests {
            match request {
                Request::Write { key, write, .. } => {
                    writes.push(batch.write(history, key.clone(), write));
                }
                Request::Compact { upto, .. } => compactions.push(batch.compact(*upto)),
                Request::Close(_) => {}
            }
        }
        Self {
            batch,
            writes,
            compactions,
        }
    }
}

/// Sends the rows, the header's new state and the notification, as one statement.
async fn append(
    session: &Session,
    columns: &Columns<'_>,
    (id, at_millis): (Uuid, u64),
    base: u64,
) -> Result<(), tokio_postgres::Error> {
    let at_millis = at_millis.cast_signed();
    let revision = base.cast_signed() + columns.len();
    let chain = i64::from(columns.chain);
    let mut parameters = columns.parameters().to_vec();
    parameters.extend::<[&(dyn ToSql + Sync); 4]>([&at_millis, &id, &revision, &chain]);
    session.client.query(&session.append, &parameters).await?;
    Ok(())
}

fn answer(requests: Vec<Request>, served: Result<Judged, Failure>) {
    let (mut writes, mut compactions, failure) = match served {
        Ok(judged) => (
            judged.writes.into_iter(),
            judged.compactions.into_iter(),
            None,
        ),
        Err(failure) => (
            Vec::new().into_iter(),
            Vec::new().into_iter(),
            Some(failure),
        ),
    };
    let failed = |failure: &Option<Failure>| match failure {
        Some(failure) => failure.error(),
        // One result for each request.
        None => Failure::new(&"PostgreSQL".into(), DOUBT).error(),
    };
    for request in requests {
        // Nobody may be waiting any more.
        match request {
            Request::Write { answer, .. } => {
                let _ = answer.send(writes.next().unwrap_or_else(|| Err(failed(&failure))));
            }
            Request::Compact { answer, .. } => {
                let _ = answer.send(compactions.next().unwrap_or_else(|| Err(failed(&failure))));
            }
            Request::Close(_) => {}
        }
    }
}
