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
use boatyard_store::{Change, Event, Revision, Stored};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
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
    /// How long the client may take nothing.
    pub(crate) unread: Duration,
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

fn stream(
    mut view: View,
    initial: Vec<Stored>,
    from: Revision,
    opened_at: Revision,
    mut events: BoxStream<'static, Result<Event, boatyard_store::Error>>,
    options: WatchOptions,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, Infallible>>(64);
    let deadline = options.timeout.unwrap_or(LONGEST).min(LONGEST);
    let unread = options.unread;
    let work = async move {
        // Who takes nothing for a while is not waited for: its place is another's.
        let say = async |line: Bytes| {
            let said = tokio::time::timeout(unread, sender.send(Ok(line))).await;
            said.ok()?.ok()
        };
        let caller = view.caller.clone();
        let mut last = from;
        // A revision of some time ago: every change up to it has reached `events` by now.
        let mut settled = opened_at;
        for object in initial {
            if let Some(line) = view.initial(&object) {
                say(line).await?;
            }
        }
        if options.initial_bookmark {
            say(view.bookmark(last, true)).await?;
        }
        let end = tokio::time::sleep(deadline);
        tokio::pin!(end);
        let mut bookmarks =
            tokio::time::interval_at(tokio::time::Instant::now() + BOOKMARK, BOOKMARK);
        loop {
            let event = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Some(()),
                () = caller.forgotten() => return Some(()),
                () = sender.closed() => return Some(()),
                () = &mut end => {
                    // Where to go on from, as late as it can be told.
                    match events.next().now_or_never() {
                        None => last = last.max(settled),
                        Some(Some(Ok(event))) => {
                            last = event.object.revision;
                            if let Some(line) = view.event(event) {
                                say(line).await?;
                            }
                        }
                        Some(_) => return Some(()),
                    }
                    if options.bookmarks && last.0 > 0 {
                        say(view.bookmark(last, false)).await?;
                    }
                    return Some(());
                }
                event = events.next() => event?,
                // After the events: there is none now.
                _ = bookmarks.tick(), if options.bookmarks => {
                    last = last.max(settled);
                    settled = view.resources.store.revision().await.ok()?;
                    if last.0 > 0 {
                        say(view.bookmark(last, false)).await?;
                    }
                    continue;
                }
            };
            match event {
                Ok(event) => {
                    last = event.object.revision;
                    if let Some(line) = view.event(event) {
                        say(line).await?;
                    }
                }
                Err(error) => {
                    let message = match error {
                        boatyard_store::Error::Lagged(_) => "the watch fell behind and was cut off",
                        _ => "too old resource version",
                    };
                    let failure = Failure::expired(format!("{message}, list again: {error}"));
                    let event = json!({"type": "ERROR", "object": failure.status()});
                    say(line(&event)).await?;
                    return Some(());
                }
            }
        }
    };
    // The work lives in the response's body: dropping the connection drops it.
    let work = futures::stream::once(work).filter_map(|_| async { None });
    futures::stream::select(tokio_stream::wrappers::ReceiverStream::new(receiver), work)
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
    fn initial(&mut self, object: &Stored) -> Option<Bytes> {
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
