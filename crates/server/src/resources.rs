//! Reading and writing objects of any kind: the one way in, for clients and controllers alike.
//!
//! Every operation authenticates before it comes here, is authorized here with the object at hand,
//! checked, and stored with optimistic concurrency. A patch is computed on the newest version and
//! tried again when another writer was faster.

use crate::authorize::{Attributes, Authorizer, Decision};
use crate::deletion;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::{Kind, Kinds};
use crate::objects::{self, Deletion, meta};
use crate::patches;
use crate::schema;
use crate::selectors::{Fields, Labels};
use boatyard_store::{Key, Revision, Scope, Store, Stored};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// How often a patch is computed anew when other writers are faster.
const ATTEMPTS: usize = 128;

/// Largest body and largest object, as in Kubernetes.
pub(crate) const LARGEST: usize = 3 * 1024 * 1024;

/// Objects read at once when a page is asked for.
const CHUNK: usize = 256;

/// What to do about unknown fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Options of a write.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
    /// Paths of members that the body has twice.
    pub(crate) duplicates: Vec<String>,
}

/// Which object or collection a request is about.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) subresource: &'a str,
}

/// A patch body of one of the supported kinds.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Merge(Value),
    Strategic(Value),
    Json(json_patch::Patch),
}

/// A written object and warnings for the caller.
pub(crate) struct Written {
    pub(crate) object: Value,
    pub(crate) warnings: Vec<String>,
    pub(crate) created: bool,
}

/// Resources over a store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Resources {
    pub(crate) kinds: Kinds,
    pub(crate) store: Arc<dyn Store>,
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

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn bytes(object: &Value) -> Result<bytes::Bytes, Failure> {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    serde_json::to_vec(&object)
        .map(Into::into)
        .map_err(|error| Failure::internal(error.to_string()))
}

/// The bytes of an object that is to stay: patches make objects grow without end, and what is
/// stored must fit into a body that replaces it. Status gets room of its own.
fn bounded(object: &Value, subresource: &str) -> Result<bytes::Bytes, Failure> {
    let most = if subresource == "status" {
        2 * LARGEST
    } else {
        LARGEST
    };
    let bytes = bytes(object)?;
    if bytes.len() > most {
        return Err(Failure::too_large(most));
    }
    Ok(bytes)
}

impl Resources {
    pub(crate) fn new(store: Arc<dyn Store>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self {
            kinds: Kinds::default(),
            store,
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
            group: &target.kind.group,
            plural: &target.kind.plural,
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
            Error::Unavailable { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
                Failure::unavailable(error.to_string())
            }
        }
    }

    async fn stored(&self, target: &Target<'_>) -> Result<Option<Value>, Failure> {
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
        let limit = page.limit.unwrap_or(usize::MAX);
        loop {
            // Selectors thin a page: enough is read at once to fill it soon.
            let wanted = page.limit.map(|limit| (limit - items.len()).max(CHUNK));
            let read = self
                .store
                .list(scope.clone(), at, after.clone(), wanted)
                .await
                .map_err(|error| Self::store_failure(target, "", error))?;
            at = Some(read.revision);
            let mut rest = read.items.iter();
            for stored in rest.by_ref() {
                let object = object(stored)?;
                if selection.matches(caller, target.kind, &object) {
                    items.push(object);
                }
                // The page ends with one that is shown, so that the token names no other.
                if items.len() == limit {
                    after = Some(stored.key.clone());
                    break;
                }
            }
            let full = items.len() == limit;
            let left = u64::try_from(rest.len()).unwrap_or_default() + read.remaining;
            if full || read.next.is_none() {
                return Ok(Listed {
                    items,
                    revision: read.revision,
                    next: after.filter(|_| full && left > 0),
                    // How many more there are is known, and told, only when all are shown.
                    remaining: (caller.is_admin() && selection.is_all()).then_some(left),
                });
            }
            after = read.next;
        }
    }

    /// Checks the schema; the object loses unknown fields.
    fn checked(
        &self,
        target: &Target<'_>,
        object: &mut Value,
        options: &WriteOptions,
    ) -> Result<Vec<String>, Failure> {
        if !object.is_object() {
            return Err(Failure::bad_request("the body is not an object"));
        }
        let findings = schema::check(&target.kind.schema, object);
        let (kind, name) = (target.kind, meta(object, "name"));
        if !findings.errors.is_empty() {
            let errors = &findings.errors;
            return Err(Failure::invalid(&kind.kind, &kind.group, name, errors));
        }
        let unknown = findings.unknown.iter();
        let unknown = unknown.map(|path| format!("unknown field \"{path}\""));
        let twice = options.duplicates.iter();
        let twice = twice.map(|path| format!("duplicate field \"{path}\""));
        let found: Vec<String> = unknown.chain(twice).collect();
        match options.validation {
            FieldValidation::Strict if !found.is_empty() => Err(Failure::bad_request(format!(
                "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
                kind.kind,
                kind.version,
                kind.kind,
                found.join(", ")
            ))),
            FieldValidation::Ignore => Ok(Vec::new()),
            _ => Ok(found),
        }
    }

    /// Creates an object.
    pub(crate) async fn create(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        let named = Target {
            name: object["metadata"]["name"].as_str().unwrap_or_default(),
            ..target.clone()
        };
        self.authorize(caller, "create", &named, None, None)?;
        let warnings = self.checked(target, &mut object, options)?;
        if target.kind.namespaced {
            self.namespace_takes(target.namespace).await?;
        }
        let mut object = objects::create(target.kind, object, target.namespace, self.now())?;
        crate::admission::create(caller, target.kind, &mut object)?;
        if target.kind.plural == "events" && target.kind.group.is_empty() {
            let about = Key {
                resource: "environments.boatyard.dev".to_owned(),
                namespace: target.namespace.to_owned(),
                name: text(&object["involvedObject"]["name"]),
            };
            let found = self.store.get(about).await;
            let found = found.map_err(|error| Self::store_failure(target, "", error))?;
            let found = found.as_ref().map(self::object).transpose()?;
            crate::admission::event(caller, &mut object, found.as_ref())?;
        }
        let name = meta(&object, "name").to_owned();
        if options.dry_run {
            if self
                .store
                .get(Self::key(target, &name))
                .await
                .map_err(|error| Self::store_failure(target, &name, error))?
                .is_some()
            {
                return Err(Failure::exists(
                    &target.kind.plural,
                    &target.kind.group,
                    &name,
                ));
            }
            return Ok(Written {
                object,
                warnings,
                created: true,
            });
        }
        let stored = self
            .store
            .create(Self::key(target, &name), bounded(&object, "")?)
            .await
            .map_err(|error| Self::store_failure(target, &name, error))?;
        if target.kind.namespaced
            && let Err(refused) = self.namespace_takes(target.namespace).await
        {
            self.take_back(stored).await;
            return Err(refused);
        }
        Ok(Written {
            object: self::object(&stored)?,
            warnings,
            created: true,
        })
    }

    /// Removes what was created while its namespace was being deleted: whoever emptied the
    /// namespace may have looked before.
    async fn take_back(&self, created: Stored) {
        let mut newest = Some(created);
        while let Some(stored) = newest.take() {
            let (key, revision) = (stored.key.clone(), stored.revision);
            let gone = self.store.delete(stored.key, revision, stored.data).await;
            if let Err(boatyard_store::Error::Conflict { .. }) = gone {
                newest = self.store.get(key).await.ok().flatten();
            }
        }
    }

    /// Fails unless objects may be made in a namespace.
    async fn namespace_takes(&self, namespace: &str) -> Result<(), Failure> {
        let key = Key {
            resource: "namespaces".to_owned(),
            namespace: String::new(),
            name: namespace.to_owned(),
        };
        let found = self
            .store
            .get(key)
            .await
            .map_err(|error| Failure::unavailable(error.to_string()))?;
        let found = found
            .as_ref()
            .map(object)
            .transpose()?
            .ok_or_else(|| Failure::not_found("namespaces", "", namespace))?;
        if meta(&found, "deletionTimestamp").is_empty() {
            return Ok(());
        }
        Err(Failure::forbidden(format!(
            "the namespace {namespace} is being deleted; nothing can be created in it"
        )))
    }

    /// Replaces an object; `object` must be of the version it was read at, when it names one.
    pub(crate) async fn update(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let old = self.get(caller, "update", target).await?;
            let mut object = object.clone();
            let warnings = self.checked(target, &mut object, options)?;
            let demanded = meta(&object, "resourceVersion").to_owned();
            if !demanded.is_empty() && demanded != meta(&old, "resourceVersion") {
                return Err(modified(target));
            }
            match self.replace(caller, target, object, &old, options).await {
                Ok(object) => {
                    return Ok(Written {
                        object,
                        warnings,
                        created: false,
                    });
                }
                Err(failure) if failure.reason == "Conflict" && demanded.is_empty() => {
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::internal("an update was tried no times")))
    }

    /// Patches an object.
    pub(crate) async fn patch(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let old = self.get(caller, "patch", target).await?;
            let mut object = old.clone();
            match patch {
                Patch::Merge(patch) => json_patch::merge(&mut object, patch),
                Patch::Strategic(patch) => patches::apply(&mut object, patch),
                Patch::Json(patch) => patches::apply_json(&mut object, patch)?,
            }
            let warnings = self.checked(target, &mut object, options)?;
            let demanded = meta(&object, "resourceVersion");
            if !demanded.is_empty() && demanded != meta(&old, "resourceVersion") {
                return Err(modified(target));
            }
            match self.replace(caller, target, object, &old, options).await {
                Ok(object) => {
                    return Ok(Written {
                        object,
                        warnings,
                        created: false,
                    });
                }
                Err(failure) if failure.reason == "Conflict" && !names_version(patch) => {
                    last = Some(failure)
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::internal("a patch was tried no times")))
    }

    async fn replace(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        mut object: Value,
        old: &Value,
        options: &WriteOptions,
    ) -> Result<Value, Failure> {
        let expected = Revision(meta(old, "resourceVersion").parse().unwrap_or_default());
        crate::admission::update(caller, target.kind, &mut object, old)?;
        let mut object = objects::update(target.kind, object, old, target.subresource)?;
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if object == *old || options.dry_run {
            return Ok(object);
        }
        let key = Self::key(target, target.name);
        let failed = |error| Self::store_failure(target, target.name, error);
        let stored = if objects::is_released(target.kind, &object) {
            self.store
                .delete(key, expected, bytes(&object)?)
                .await
                .map_err(failed)?
        } else {
            self.store
                .update(key, expected, bounded(&object, target.subresource)?)
                .await
                .map_err(failed)?
        };
        self::object(&stored)
    }

    /// Deletes an object; the last version of it, and whether it is gone already.
    pub(crate) async fn delete(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        options: &deletion::Options,
    ) -> Result<(Value, bool), Failure> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let old = self.get(caller, "delete", target).await?;
            for (member, wanted) in [("uid", &options.uid), ("resourceVersion", &options.version)] {
                if let Some(wanted) = wanted
                    .as_ref()
                    .filter(|wanted| *wanted != meta(&old, member))
                {
                    return Err(Failure::conflict(
                        &target.kind.plural,
                        target.name,
                        &format!(
                            "the precondition {member} is {wanted}, but the object's is {}",
                            meta(&old, member)
                        ),
                    ));
                }
            }
            if target.kind.plural == "namespaces"
                && [
                    boatyard_api::DEFAULT_NAMESPACE,
                    boatyard_api::words::NAMESPACE_RUNNERS,
                ]
                .contains(&target.name)
            {
                return Err(Failure::forbidden(format!(
                    "the namespace {} cannot be deleted",
                    target.name
                )));
            }
            let (key, expected) = (
                Self::key(target, target.name),
                Revision(meta(&old, "resourceVersion").parse().unwrap_or_default()),
            );
            let written = match objects::delete(target.kind, &old, self.now()) {
                Deletion::Waiting => return Ok((old, false)),
                Deletion::Remove if options.dry_run => return Ok((old, true)),
                Deletion::Mark(marked) if options.dry_run => return Ok((marked, false)),
                Deletion::Remove => self
                    .store
                    .delete(key, expected, bytes(&old)?)
                    .await
                    .map(|stored| (stored, true)),
                Deletion::Mark(marked) => self
                    .store
                    .update(key, expected, bytes(&marked)?)
                    .await
                    .map(|stored| (stored, false)),
            };
            match written {
                Ok((stored, gone)) => return Ok((object(&stored)?, gone)),
                Err(boatyard_store::Error::Conflict { .. }) => {
                    last = Some(Failure::conflict(
                        &target.kind.plural,
                        target.name,
                        "other writers were always faster",
                    ))
                }
                Err(error) => return Err(Self::store_failure(target, target.name, error)),
            }
        }
        Err(last.unwrap_or_else(|| Failure::internal("a deletion was tried no times")))
    }

    /// Removes a namespace whose contents are gone.
    pub(crate) async fn finish_namespace(&self, namespace: &Value) -> Result<(), Failure> {
        let key = Key {
            resource: "namespaces".to_owned(),
            namespace: String::new(),
            name: meta(namespace, "name").to_owned(),
        };
        let expected = Revision(
            meta(namespace, "resourceVersion")
                .parse()
                .unwrap_or_default(),
        );
        match self.store.delete(key, expected, bytes(namespace)?).await {
            Ok(_) | Err(boatyard_store::Error::NotFound(_)) => Ok(()),
            Err(error) => Err(Failure::unavailable(error.to_string())),
        }
    }
}

fn modified(target: &Target<'_>) -> Failure {
    Failure::conflict(
        &target.kind.plural,
        target.name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}

/// Whether a patch demands a version, so that a conflict is the caller's to see.
fn names_version(patch: &Patch) -> bool {
    matches!(patch, Patch::Merge(patch) | Patch::Strategic(patch) if patch["metadata"]["resourceVersion"].is_string())
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

    pub(crate) fn matches(&self, caller: &Caller, kind: &Kind, object: &Value) -> bool {
        self.labels.matches(object)
            && self.fields.matches(object)
            && crate::authorize::may_see(caller, &kind.group, &kind.plural, object)
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
    pub(crate) items: Vec<Value>,
    pub(crate) revision: Revision,
    pub(crate) next: Option<Key>,
    pub(crate) remaining: Option<u64>,
}
