//! Watches: a collection's changes as a stream of JSON lines.
//!
//! Selectors see the object before and after each change, so that one that begins to match is
//! ADDED and one that ceases to is DELETED. A watcher that reads too slowly is cut by the store
//! and told to list again (410), so that nothing grows.

use crate::failure::Failure;
use crate::http_api::Form;
use crate::identity::Caller;
use crate::resources::{Resources, Selection, Target, parse};
use crate::stored::{self, Outline, Sieve, Word};
use crate::table::Rows;
use boatyard_store::{Change, Event, Item, Revision};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, Stream, StreamExt};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often an idle watch is told where it is.
const BOOKMARK: Duration = Duration::from_secs(55);
/// Longest watch when the client names no timeout.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the client asked for.
#[derive(Clone, Debug)]
pub(crate) struct WatchOptions {
    pub(crate) from: Option<Revision>,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Option<Duration>,
    /// Send what there is first, as ADDED events.
    pub(crate) initial: bool,
    /// End the initial events with a marked bookmark (streaming lists).
    pub(crate) initial_bookmark: bool,
    pub(crate) form: Form,
    /// What rows of tables carry.
    pub(crate) rows: Rows,
}

/// Opens a watch.
pub(crate) async fn open(
    resources: &Resources,
    caller: &Caller,
    target: &Target<'_>,
    selection: Selection,
    options: WatchOptions,
    shutdown: CancellationToken,
) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + Send + use<>, Failure> {
    resources.authorize_selection(caller, "watch", target, &selection)?;
    let unavailable = |error: boatyard_store::Error| Failure::unavailable(error.to_string());
    let mut initial = Vec::new();
    let mut from = options.from;
    if options.initial {
        if let Some(asked) = from {
            resources.reached(asked).await?;
        }
        // As stored: parsed one by one when the client takes them, they are not held twice.
        let listed = resources
            .store
            .list(Resources::scope(target), None, None, None)
            .await
            .map_err(unavailable)?;
        from = Some(listed.revision);
        initial = listed.items;
    }
    let opened_at = resources.store.revision().await.map_err(unavailable)?;
    let outline = Arc::new(Outline::selectable(target.kind));
    let sieve = Sieve::new(&selection.fields, &outline, &resources.events);
    let (store, scope) = (&resources.store, Resources::scope(target));
    let opened = match &sieve {
        None => store.watch(scope, from).await,
        Some(sieve) => store.watch_route(scope, from, sieve.route()).await,
    };
    let events = match opened {
        Ok(events) => events,
        // Told in the stream, where every client expects it: it lists again. A version from the
        // future is one of another history, as after a restored backup.
        Err(
            error
            @ (boatyard_store::Error::Compacted { .. } | boatyard_store::Error::Future { .. }),
        ) => futures::stream::iter([Err(error)]).boxed(),
        Err(error) => return Err(unavailable(error)),
    };
    let events = match sieve {
        None => events,
        Some(sieve) => {
            let passes = move |event: &Result<Event, _>| {
                std::future::ready(event.as_ref().map_or(true, |event| sieve.passes(event)))
            };
            events.filter(passes).boxed()
        }
    };
    let view = View {
        all: selection.shows_all(caller),
        outline,
        resources: resources.clone(),
        caller: caller.clone(),
        group: target.kind.group.clone(),
        version: target.kind.version.clone(),
        plural: target.kind.plural.clone(),
        selection,
        form: options.form,
        rows: options.rows,
        headed: true,
    };
    let from = from.unwrap_or(opened_at);
    Ok(stream(
        view, initial, from, opened_at, events, options, shutdown,
    ))
}

/// What a watch is woken for besides events.
enum Interruption {
    /// The server ends, or the caller's token is good no longer.
    Cut,
    /// Its time is up.
    Over,
    /// Time to say where it is; the newest revision.
    Idle(Revision),
    /// The store cannot tell.
    Lost,
}

/// Looked at only when one of them has something: with a thousand watches of one change, what each
/// asks of clocks and of the server's end at every event costs more than the event.
type Interruptions = FuturesUnordered<BoxFuture<'static, Interruption>>;

/// Events shown one after another before interruptions are looked at.
const UNINTERRUPTED: u32 = 64;

/// A watch's lines. It makes one when it is asked for the next: who does not read keeps none.
struct Lines {
    view: View,
    initial: std::vec::IntoIter<Item>,
    /// The initial events are still to be ended by a bookmark.
    marks: bool,
    bookmarks: bool,
    events: BoxStream<'static, Result<Event, boatyard_store::Error>>,
    interruptions: Interruptions,
    /// Events since interruptions were looked at.
    shown: u32,
    last: Revision,
    /// A revision of some time ago: every change up to it has reached `events` by now.
    settled: Revision,
    ending: bool,
    over: bool,
}

fn stream(
    view: View,
    initial: Vec<Item>,
    from: Revision,
    opened_at: Revision,
    events: BoxStream<'static, Result<Event, boatyard_store::Error>>,
    options: WatchOptions,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
    let interruptions = Interruptions::new();
    let deadline = options.timeout.unwrap_or(LONGEST).min(LONGEST);
    let caller = view.caller.clone();
    interruptions.push(
        async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => Interruption::Cut,
                () = caller.forgotten() => Interruption::Cut,
                () = tokio::time::sleep(deadline) => Interruption::Over,
            }
        }
        .boxed(),
    );
    if options.bookmarks {
        interruptions.push(idle(&view.resources));
    }
    Lines {
        view,
        initial: initial.into_iter(),
        marks: options.initial_bookmark,
        bookmarks: options.bookmarks,
        events,
        interruptions,
        shown: 0,
        last: from,
        settled: opened_at,
        ending: false,
        over: false,
    }
}

/// Until the next bookmark is due.
fn idle(resources: &Resources) -> BoxFuture<'static, Interruption> {
    let store = resources.store.clone();
    async move {
        tokio::time::sleep(BOOKMARK).await;
        match store.revision().await {
            Ok(revision) => Interruption::Idle(revision),
            Err(_) => Interruption::Lost,
        }
    }
    .boxed()
}

impl Lines {
    /// The next event's line; Ready(None) at the end of events. Pending when there is none, or
    /// interruptions are to be looked at.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while self.shown < UNINTERRUPTED {
            let Some(event) = ready!(self.events.poll_next_unpin(context)) else {
                self.over = true;
                return Poll::Ready(None);
            };
            self.shown += 1;
            match event {
                Ok(event) => {
                    self.last = event.object.revision;
                    if let Some(line) = self.view.event(event) {
                        return Poll::Ready(Some(line));
                    }
                }
                Err(error) => {
                    self.over = true;
                    let message = match error {
                        boatyard_store::Error::Lagged(_) => "the watch fell behind and was cut off",
                        _ => "too old resource version",
                    };
                    let failure = Failure::expired(format!("{message}, list again: {error}"));
                    let event = json!({"type": "ERROR", "object": failure.status()});
                    return Poll::Ready(Some(line(&event)));
                }
            }
        }
        Poll::Pending
    }

    /// Where to go on from, when it is known and wanted.
    fn bookmark(&mut self) -> Option<Bytes> {
        let wanted = self.bookmarks && self.last.0 > 0;
        wanted.then(|| self.view.bookmark(self.last, false))
    }

    /// The last lines: an event that is there already, and where to go on from, as late as it can
    /// be told.
    fn poll_ending(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !std::mem::replace(&mut self.ending, true) {
            match self.poll_event(context) {
                Poll::Pending => self.last = self.last.max(self.settled),
                Poll::Ready(line) => return Poll::Ready(line),
            }
        }
        self.over = true;
        Poll::Ready(self.bookmark())
    }

    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.ending {
            return self.poll_ending(context);
        }
        for item in self.initial.by_ref() {
            if let Some(line) = self.view.initial(&item.stored()) {
                return Poll::Ready(Some(line));
            }
        }
        if std::mem::take(&mut self.marks) {
            return Poll::Ready(Some(self.view.bookmark(self.last, true)));
        }
        loop {
            if let Poll::Ready(event) = self.poll_event(context) {
                return Poll::Ready(event);
            }
            let interrupted = self.interruptions.poll_next_unpin(context);
            let rests = std::mem::take(&mut self.shown) < UNINTERRUPTED;
            match interrupted {
                Poll::Ready(Some(Interruption::Over)) => return self.poll_ending(context),
                Poll::Ready(Some(Interruption::Idle(revision))) => {
                    self.interruptions.push(idle(&self.view.resources));
                    // All events are shown, or the bookmark waits.
                    if rests {
                        self.last = self.last.max(self.settled);
                        self.settled = revision;
                    }
                    if let Some(line) = self.bookmark() {
                        return Poll::Ready(Some(line));
                    }
                }
                Poll::Ready(Some(Interruption::Cut | Interruption::Lost) | None) => {
                    self.over = true;
                    return Poll::Ready(None);
                }
                // Until an event or an interruption.
                Poll::Pending if rests => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}

impl Stream for Lines {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_line(context).map(|line| line.map(Ok))
    }
}

fn line(value: &Value) -> Bytes {
    let mut text = value.to_string();
    text.push('\n');
    text.into()
}

/// What one watcher sees of events.
struct View {
    /// No selector, and a caller who sees everything.
    all: bool,
    outline: Arc<Outline>,
    resources: Resources,
    caller: Caller,
    group: String,
    version: String,
    plural: String,
    selection: Selection,
    form: Form,
    rows: Rows,
    headed: bool,
}

impl View {
    fn kind(&self) -> Option<&crate::kinds::Kind> {
        self.resources
            .kinds
            .find(&self.group, &self.version, &self.plural)
    }

    fn shows(&self, outlined: &Value) -> bool {
        self.kind()
            .is_some_and(|kind| self.selection.matches(&self.caller, kind, outlined))
    }

    /// An object that was there when the watch began.
    fn initial(&mut self, object: &boatyard_store::Stored) -> Option<Bytes> {
        if !self.all && !self.shows(&self.outline.read(&object.data).ok()?) {
            return None;
        }
        if self.form == Form::Whole {
            return stored::line(Word::Added, &object.data, object.revision).ok();
        }
        let object = parse(&object.data, object.revision).ok()?;
        Some(self.line(Word::Added.text(), object))
    }

    fn event(&mut self, event: Event) -> Option<Bytes> {
        let change = event.change;
        let shared = self.resources.events.shown(&event);
        let (shown, was_shown) = if self.all {
            (true, change != Change::Created)
        } else {
            let before = shared.before(&self.outline);
            (
                self.shows(shared.now(&self.outline)),
                before.is_some_and(|before| self.shows(before)),
            )
        };
        let word = match (change, shown, was_shown) {
            (Change::Deleted, shown, was_shown) if shown || was_shown => Word::Deleted,
            (Change::Created | Change::Updated, true, false) => Word::Added,
            (Change::Created | Change::Updated, true, true) => Word::Modified,
            (Change::Updated, false, true) => Word::Deleted,
            _ => return None,
        };
        if self.form == Form::Whole {
            return Some(shared.line(word));
        }
        Some(self.line(word.text(), shared.object().ok()?))
    }

    fn line(&mut self, word: &str, object: Value) -> Bytes {
        let object = match (self.form, self.kind()) {
            (Form::Table, Some(kind)) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                crate::table::table(
                    kind,
                    vec![object],
                    &metadata,
                    self.resources.now(),
                    self.headed,
                    self.rows,
                )
            }
            (Form::Partial, _) => crate::table::partial(object),
            _ => object,
        };
        self.headed = false;
        line(&json!({"type": word, "object": object}))
    }

    fn bookmark(&mut self, at: Revision, end_of_initial: bool) -> Bytes {
        let Some(kind) = self.kind() else {
            return Bytes::new();
        };
        let mut metadata = json!({"resourceVersion": at.0.to_string(), "creationTimestamp": null});
        if end_of_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object =
            json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata});
        // In the form of the other events: some clients read no other.
        self.line("BOOKMARK", object)
    }
}
