//! Reading and writing objects of any kind: the one way in, for clients and controllers alike.
//!
//! Every operation authenticates before it comes here, is authorized here with the object at hand,
//! checked, and stored with optimistic concurrency. A patch is computed on the newest version and
//! tried again when another writer was faster.
//!
//! Read next: `write`.

mod scale;
mod takers;
mod write;

pub(crate) use scale::Change;
pub use scale::Paths as ScalePaths;
pub(crate) use write::{FieldValidation, Patch, WriteOptions, Written};

use crate::authorize::{Attributes, Authorizer, Decision};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::{Kind, Kinds};
use crate::outlook::Outlook;
use crate::request::continue_token;
use crate::selectors::{Fields, Labels};
use crate::stored::{Outline, Shared};
use boatyard_store::{Item, Key, Revision, Scope, Store, Stored};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use takers::Takers;

/// Largest body and largest object, as in Kubernetes.
pub(crate) const LARGEST: usize = 3 * 1024 * 1024;

/// Objects read at once when a page is asked for.
const CHUNK: usize = 256;

/// Which object or collection a request is about.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) subresource: &'a str,
}

/// Resources over a store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Resources {
    pub(crate) kinds: Kinds,
    pub(crate) store: Arc<dyn Store>,
    /// The newest events, written out once for all watchers.
    pub(crate) events: Shared,
    /// Namespaces that are not being deleted.
    takers: Takers,
    /// Whether new environments will find a runner.
    pub(crate) outlook: Outlook,
    authorizer: Arc<dyn Authorizer>,
}

/// The stored object with its resourceVersion.
pub(crate) fn object(stored: &Stored) -> Result<Value, Failure> {
    parse(&stored.data, stored.revision)
}

/// Stored bytes with the resourceVersion of a revision.
pub(crate) fn parse(data: &[u8], revision: Revision) -> Result<Value, Failure> {
    let mut object: Value = serde_json::from_slice(data)
        .map_err(|error| Failure::internal(format!("a stored object is damaged: {error}")))?;
    object["metadata"]["resourceVersion"] = json!(revision.0.to_string());
    Ok(object)
}

impl Resources {
    pub(crate) fn new(store: Arc<dyn Store>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self {
            kinds: Kinds::default(),
            store,
            events: Shared::default(),
            takers: Takers::default(),
            outlook: Outlook::default(),
            authorizer,
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the server's clock")]
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn key(target: &Target<'_>, name: &str) -> Key {
        Key {
            resource: target.kind.resource(),
            namespace: target.namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Who decides.
    pub(crate) fn authorizer(&self) -> &dyn Authorizer {
        &*self.authorizer
    }

    /// Fails unless the caller may do it.
    pub(crate) fn authorize(
        &self,
        caller: &Caller,
        verb: &str,
        target: &Target<'_>,
        object: Option<&Value>,
        selected_runner: Option<&str>,
    ) -> Result<(), Failure> {
        let attributes = Attributes {
            caller,
            verb,
            kind: target.kind,
            subresource: target.subresource,
            namespace: target.namespace,
            name: target.name,
            object,
            selected_runner,
        };
        match self.authorizer.authorize(&attributes) {
            Decision::Allow => Ok(()),
            Decision::Deny(why) => Err(Failure::forbidden(why)),
        }
    }

    /// Fails unless the caller may read what is selected of a collection; a selector that demands
    /// a name asks for that object alone.
    pub(crate) fn authorize_selection(
        &self,
        caller: &Caller,
        verb: &str,
        target: &Target<'_>,
        selection: &Selection,
    ) -> Result<(), Failure> {
        let fields = &selection.fields;
        let named = Target {
            name: fields.demands("metadata.name").unwrap_or_default(),
            ..target.clone()
        };
        let runner = fields.demands("spec.runnerName");
        self.authorize(caller, verb, &named, None, runner)
    }

    fn store_failure(target: &Target<'_>, name: &str, error: boatyard_store::Error) -> Failure {
        use boatyard_store::Error;
        let kind = target.kind;
        match error {
            Error::Exists(_) => Failure::exists(&kind.plural, &kind.group, name),
            Error::NotFound(_) => Failure::not_found(&kind.plural, &kind.group, name),
            Error::Conflict { .. } => modified(target),
            Error::Compacted { .. } => Failure::expired(format!("{error}")),
            Error::Future { .. } => Failure::bad_request(format!("{error}")),
            Error::Lagged(_) => Failure::expired("the watch fell behind; list again"),
            Error::Full { .. } => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the store is full"
                );
                Failure::full(error.to_string())
            }
            Error::Unavailable { .. } | Error::NotEmpty(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
                Failure::unavailable(error.to_string())
            }
        }
    }

    /// The stored object, for whoever asks.
    pub(crate) async fn stored(&self, target: &Target<'_>) -> Result<Option<Value>, Failure> {
        let stored = self.store.get(Self::key(target, target.name)).await;
        stored
            .map_err(|error| Self::store_failure(target, target.name, error))?
            .as_ref()
            .map(object)
            .transpose()
    }

    /// The stored object; authorized as `verb`.
    pub(crate) async fn get(
        &self,
        caller: &Caller,
        verb: &str,
        target: &Target<'_>,
    ) -> Result<Value, Failure> {
        let found = self.stored(target).await?;
        self.authorize(caller, verb, target, found.as_ref(), None)?;
        found
            .ok_or_else(|| Failure::not_found(&target.kind.plural, &target.kind.group, target.name))
    }

    /// Scope of a collection; all namespaces when the target names none.
    pub(crate) fn scope(target: &Target<'_>) -> Scope {
        let all = !target.kind.namespaced || target.namespace.is_empty();
        Scope {
            resource: target.kind.resource(),
            namespace: if all {
                None
            } else {
                Some(target.namespace.to_owned())
            },
        }
    }

    /// Fails when a revision lies in the future, as after a restored backup.
    pub(crate) async fn reached(&self, asked: Revision) -> Result<(), Failure> {
        let current = self.store.revision().await;
        let current = current.map_err(|error| Failure::unavailable(error.to_string()))?;
        if asked > current {
            return Err(Failure::timeout(format!(
                "Too large resource version: {}, current: {}",
                asked.0, current.0
            )));
        }
        Ok(())
    }

    /// A page of a collection that the caller may see and the selectors let through.
    pub(crate) async fn list(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        selection: &Selection,
        page: &PageRequest,
    ) -> Result<Listed, Failure> {
        self.authorize_selection(caller, "list", target, selection)?;
        if let Some(asked) = page.not_before {
            self.reached(asked).await?;
        }
        let scope = Self::scope(target);
        if page.after.as_ref().is_some_and(|key| !scope.covers(key)) {
            return Err(Failure::bad_request(
                "the continue token is of another list; list again without it",
            ));
        }
        let (mut at, mut after) = (page.at, page.after.clone());
        let mut items = Vec::new();
        let mut total = None;
        let all = selection.shows_all(caller);
        let outline = Outline::selectable(target.kind);
        let limit = page.limit.unwrap_or(usize::MAX);
        loop {
            // Selectors thin a page: enough is read at once to fill it soon.
            let wanted = page.limit.map(|limit| (limit - items.len()).max(CHUNK));
            let read = self
                .store
                .list(scope.clone(), at, after.clone(), wanted)
                .await
                .map_err(|error| match (&error, &after) {
                    (boatyard_store::Error::Compacted { .. }, Some(after)) => outlived(after),
                    _ => Self::store_failure(target, "", error),
                })?;
            at = Some(read.revision);
            if after.is_none() {
                let left = usize::try_from(read.remaining).unwrap_or(usize::MAX);
                total = Some(read.items.len().saturating_add(left));
            }
            let mut rest = read.items.into_iter();
            let matches = |item: &Item| -> Result<bool, Failure> {
                let outlined = outline.read(&item.stored().data)?;
                Ok(selection.matches(caller, target.kind, &outlined))
            };
            for item in rest.by_ref() {
                if all || matches(&item)? {
                    items.push(item);
                }
                // The page ends with one that is shown, so that the token names no other.
                if items.len() == limit {
                    after = items.last().map(Item::key);
                    break;
                }
            }
            let full = items.len() == limit;
            let left = u64::try_from(rest.len()).unwrap_or_default() + read.remaining;
            if full || read.next.is_none() {
                return Ok(Listed {
                    items,
                    total,
                    revision: read.revision,
                    next: after.filter(|_| full && left > 0),
                    // How many more there are is known, and told, only when all are shown.
                    remaining: (caller.is_admin() && selection.is_all()).then_some(left),
                });
            }
            after = read.next;
        }
    }
}

/// The rest of a list whose time is no longer kept: it can be had as it is now.
fn outlived(after: &Key) -> Failure {
    let message = "The provided continue parameter is too old to display a consistent list result. \
        Start a new list without the continue parameter, or go on with the continue token in this \
        response: what changed since the first page shows in the rest of an inconsistent list.";
    Failure {
        continues: Some(continue_token(None, after)),
        ..Failure::expired(message)
    }
}

fn modified(target: &Target<'_>) -> Failure {
    Failure::conflict(
        &target.kind.plural,
        &target.kind.group,
        target.name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}

/// What of a collection is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) labels: Labels,
    pub(crate) fields: Fields,
}

impl Selection {
    fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it matches every object, for this caller.
    pub(crate) fn shows_all(&self, caller: &Caller) -> bool {
        self.is_all() && caller.is_admin()
    }

    /// Whether it matches an object, of which an outline is enough.
    pub(crate) fn matches(&self, caller: &Caller, kind: &Kind, object: &Value) -> bool {
        self.labels.matches(object)
            && self.fields.matches(object)
            && crate::authorize::may_see(caller, kind, object)
    }
}

/// Which page of a list is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageRequest {
    pub(crate) limit: Option<usize>,
    pub(crate) at: Option<Revision>,
    /// The answer may be newer, never older.
    pub(crate) not_before: Option<Revision>,
    pub(crate) after: Option<Key>,
}

/// A page of a list.
pub(crate) struct Listed {
    pub(crate) items: Vec<Item>,
    pub(crate) revision: Revision,
    pub(crate) next: Option<Key>,
    pub(crate) remaining: Option<u64>,
    /// Objects of the collection, shown or not, when the list began at its beginning.
    pub(crate) total: Option<usize>,
}

impl Listed {
    /// The items as trees.
    pub(crate) fn objects(&self) -> Result<Vec<Value>, Failure> {
        self.items
            .iter()
            .map(|item| object(&item.stored()))
            .collect()
    }
}
