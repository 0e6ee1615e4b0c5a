//! Writing: create, update, patch and delete, with optimistic concurrency.

use super::{LARGEST, Resources, Target, modified, object};
use crate::deletion;
use crate::failure::Failure;
use crate::identity::{self, Caller};
use crate::kinds::{Admission, Kind};
use crate::managed::{self, Write};
use crate::objects::{self, Deletion, meta};
use crate::patches;
use crate::stored::Outline;
use boatyard_api::rules::FieldError;
use boatyard_store::{Key, Revision, Stored};
use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

/// How often a patch is computed anew when other writers are faster.
pub(super) const ATTEMPTS: usize = 128;

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
    /// Who is told as the manager of what is written; empty for the caller's name.
    pub(crate) manager: String,
}

/// A patch body of one of the supported kinds.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Merge(Value),
    Strategic(Value),
    Json(json_patch::Patch),
    /// A configuration to apply; whether fields of others are taken.
    Apply(Value, bool),
}

/// A written object and warnings for the caller.
pub(crate) struct Written {
    pub(crate) object: Value,
    /// As it is stored, if it is.
    pub(crate) stored: Option<Stored>,
    pub(crate) warnings: Vec<String>,
    pub(crate) created: bool,
}

fn bytes(object: &Value) -> Result<bytes::Bytes, Failure> {
    written_without(&["resourceVersion"], object)
}

/// An object written out without some members of its metadata, and without a copy of its tree.
fn written_without(left_out: &[&str], object: &Value) -> Result<bytes::Bytes, Failure> {
    serde_json::to_vec(&Without(object, left_out))
        .map(Into::into)
        .map_err(|error| Failure::internal(error.to_string()))
}

/// An object, its metadata without these members.
struct Without<'a>(&'a Value, &'a [&'a str]);

/// Metadata without these members.
struct MetadataWithout<'a>(&'a Value, &'a [&'a str]);

impl Serialize for Without<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(members) = self.0 else {
            return self.0.serialize(serializer);
        };
        let mut map = serializer.serialize_map(Some(members.len()))?;
        for (name, value) in members {
            if name == "metadata" {
                map.serialize_entry(name, &MetadataWithout(value, self.1))?;
            } else {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

impl Serialize for MetadataWithout<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(members) = self.0 else {
            return self.0.serialize(serializer);
        };
        let kept = members.iter();
        serializer.collect_map(kept.filter(|(name, _)| !self.1.contains(&name.as_str())))
    }
}

impl Written {
    /// What was stored, as clients see it: with its version. Nobody reads it again for that.
    fn stored(mut object: Value, stored: Stored, created: bool) -> Self {
        object["metadata"]["resourceVersion"] = json!(stored.revision.0.to_string());
        Self {
            stored: Some(stored),
            created,
            ..Self::unstored(object)
        }
    }

    /// What nothing was stored of.
    pub(super) fn unstored(object: Value) -> Self {
        Self {
            object,
            stored: None,
            warnings: Vec::new(),
            created: false,
        }
    }
}

/// The bytes of an object that is to stay: patches make objects grow without end, and what is
/// stored must fit into a body that replaces it. Status gets room of its own; one that has taken it
/// can still be written as long as it does not grow, or its finalizers would be there for ever.
fn bounded(object: &mut Value, old: &Value, subresource: &str) -> Result<bytes::Bytes, Failure> {
    match within_bound(object, old, subresource) {
        // Who owns what is the first thing to go, as in Kubernetes.
        Err(_) if !object["metadata"]["managedFields"].is_null() => {
            managed::take(object);
            within_bound(object, old, subresource)
        }
        outcome => outcome,
    }
}

fn within_bound(object: &Value, old: &Value, subresource: &str) -> Result<bytes::Bytes, Failure> {
    let most = if subresource == "status" {
        2 * LARGEST
    } else {
        LARGEST
    };
    let written = bytes(object)?;
    if written.len() > most && (old.is_null() || size(object)? > size(old)?) {
        return Err(Failure::too_large(most));
    }
    Ok(written)
}

/// Of what somebody wrote: who did is the server's to say.
fn size(object: &Value) -> Result<usize, Failure> {
    written_without(&["resourceVersion", "managedFields"], object).map(|bytes| bytes.len())
}

/// The manager of a write.
fn manager<'a>(caller: &'a Caller, options: &'a WriteOptions) -> &'a str {
    match options.manager.as_str() {
        "" => caller.user.strip_prefix("system:").unwrap_or(&caller.user),
        named => named,
    }
}

/// Puts managed fields in; null for none.
fn manage(kind: &Kind, object: &mut Value, entries: Value) -> Result<(), Failure> {
    let errors = managed::check_entries(&entries);
    if !errors.is_empty() {
        let name = meta(object, "name");
        return Err(Failure::invalid(&kind.kind, &kind.group, name, &errors));
    }
    if !entries.is_null() {
        object["metadata"]["managedFields"] = entries;
    }
    Ok(())
}

impl Resources {
    /// Who writes what, for the managed fields.
    fn write<'a>(
        &self,
        caller: &'a Caller,
        target: &Target<'a>,
        options: &'a WriteOptions,
    ) -> Write<'a> {
        Write {
            kind: target.kind,
            manager: manager(caller, options),
            subresource: target.subresource,
            now: self.now(),
        }
    }

    /// Checks the schema; the object loses unknown fields and gets defaults.
    pub(super) fn checked(
        &self,
        target: &Target<'_>,
        object: &mut Value,
        old: Option<&Value>,
        options: &WriteOptions,
    ) -> Result<Vec<String>, Failure> {
        if !object.is_object() {
            return Err(Failure::bad_request("the body is not an object"));
        }
        let findings = target.kind.structure.check(object, old);
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
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        self.make(caller, target, object, options, false).await
    }

    /// Creates an object; `applied` says that its managed fields are told already.
    async fn make(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        mut object: Value,
        options: &WriteOptions,
        applied: bool,
    ) -> Result<Written, Failure> {
        let named = Target {
            name: object["metadata"]["name"].as_str().unwrap_or_default(),
            ..target.clone()
        };
        self.authorize(caller, "create", &named, None, None)?;
        let warnings = self.checked(target, &mut object, None, options)?;
        if target.kind.namespaced {
            self.namespace_takes(target.namespace).await?;
        }
        let mut entries = managed::take(&mut object);
        let mut object = objects::create(target.kind, object, target.namespace, self.now())?;
        let asked = object.clone();
        self.admit(caller, target, &mut object, None).await?;
        let decided = managed::decided(target.kind, &asked, &object);
        let behaviour = target.kind.behaviour;
        let status = behaviour.first_status(&object, &self.outlook, self.now());
        let begun = status.is_some();
        if let Some(status) = status {
            object["status"] = status;
        }
        let name = meta(&object, "name").to_owned();
        let mut object = target.kind.prepare(&name, object, None)?;
        if !applied {
            let write = self.write(caller, target, options);
            entries = managed::update(&write, None, &object, &entries, &decided);
        }
        manage(target.kind, &mut object, entries)?;
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
                warnings,
                created: true,
                ..Written::unstored(object)
            });
        }
        let data = match within_bound(&object, &Value::Null, "") {
            // A first status is left to be said later, where there is no room for it.
            Err(_) if begun => {
                objects::clear_status(&mut object);
                bounded(&mut object, &Value::Null, "")?
            }
            Err(_) => bounded(&mut object, &Value::Null, "")?,
            Ok(data) => data,
        };
        let stored = self
            .store
            .create(Self::key(target, &name), data)
            .await
            .map_err(|error| Self::store_failure(target, &name, error))?;
        if target.kind.namespaced
            && let Err(refused) = self.namespace_takes(target.namespace).await
        {
            self.take_back(stored).await;
            return Err(refused);
        }
        Ok(Written {
            warnings,
            ..Written::stored(object, stored, true)
        })
    }

    /// Lets the kind complete or refuse what is to be written.
    async fn admit(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Failure> {
        self.may_block(caller, target, object, old).await?;
        let behaviour = target.kind.behaviour;
        let seen = match behaviour.looks_at(object).filter(|_| old.is_none()) {
            None => None,
            Some(key) => {
                let found = self.store.get(key).await;
                let found = found.map_err(|error| Self::store_failure(target, "", error))?;
                found.as_ref().map(self::object).transpose()?
            }
        };
        behaviour.admit(&mut Admission {
            caller,
            object,
            old,
            seen: seen.as_ref(),
        })
    }

    /// Fails when an object would newly block the deletion of an owner whose finalizers the caller
    /// may not write, as Kubernetes's OwnerReferencesPermissionEnforcement has it.
    async fn may_block(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Failure> {
        let references = |object: &Value| {
            let references = object["metadata"]["ownerReferences"].as_array();
            let references = references.into_iter().flatten();
            let blocking = references.filter(|reference| reference["blockOwnerDeletion"] == true);
            blocking.cloned().collect::<Vec<_>>()
        };
        if caller.is_admin() || !target.subresource.is_empty() {
            return Ok(());
        }
        let known = old.map(references).unwrap_or_default();
        for reference in references(object) {
            if known.iter().any(|known| known["uid"] == reference["uid"]) {
                continue;
            }
            let text = |member: &str| reference[member].as_str().unwrap_or_default();
            let kind = self
                .kinds
                .iter()
                .find(|kind| kind.kind == text("kind") && kind.api_version() == text("apiVersion"));
            let refused = |why: String| {
                Failure::forbidden(format!(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {why}"
                ))
            };
            let Some(kind) = kind else {
                return Err(refused(format!("there is no kind {}", text("kind"))));
            };
            let owner = Target {
                kind,
                namespace: if kind.namespaced {
                    target.namespace
                } else {
                    ""
                },
                name: text("name"),
                subresource: "finalizers",
            };
            let found = self.stored(&owner).await?;
            self.authorize(caller, "update", &owner, found.as_ref(), None)
                .map_err(|failure| refused(failure.message))?;
        }
        Ok(())
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
        let found = found.ok_or_else(|| Failure::not_found("namespaces", "", namespace))?;
        if self.takers.has(namespace, &found.data) {
            return Ok(());
        }
        let outline = Outline::of(["metadata.deletionTimestamp"]).read(&found.data)?;
        if meta(&outline, "deletionTimestamp").is_empty() {
            self.takers.note(namespace, found.data);
            return Ok(());
        }
        Err(Failure::terminating(namespace))
    }

    /// Replaces an object; `object` must be of the version it was read at, when it names one.
    pub(crate) async fn update(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        for _ in 0..ATTEMPTS {
            let old = self.get(caller, "update", target).await?;
            let mut object = object.clone();
            objects::complete(&mut object, &old, target.subresource);
            let warnings = self.checked(target, &mut object, Some(&old), options)?;
            let demanded = meta(&object, "resourceVersion");
            if !demanded.is_empty() && demanded != meta(&old, "resourceVersion") {
                return Err(modified(target));
            }
            let replaced = self.replace(caller, target, object, &old, options, false);
            if let Some(written) = replaced.await? {
                return Ok(Written {
                    warnings,
                    ..written
                });
            }
        }
        Err(modified(target))
    }

    /// Patches an object.
    pub(crate) async fn patch(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        self.patch_known(caller, target, None, patch, options).await
    }

    /// Patches an object that was just read; the one stored is read when it has changed since.
    pub(crate) async fn patch_known(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        mut known: Option<Value>,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        for _ in 0..ATTEMPTS {
            let found = match known.take() {
                None => self.stored(target).await?,
                known => known,
            };
            self.authorize(caller, "patch", target, found.as_ref(), None)?;
            let Some(old) = found else {
                if let Patch::Apply(config, force) = patch
                    && target.subresource.is_empty()
                {
                    match self
                        .apply_new(caller, target, config, *force, options)
                        .await
                    {
                        // Made by somebody else meanwhile: it is there to be patched.
                        Err(failure) if failure.reason == "AlreadyExists" => continue,
                        outcome => return outcome,
                    }
                }
                let kind = target.kind;
                return Err(Failure::not_found(&kind.plural, &kind.group, target.name));
            };
            let mut object = old.clone();
            match patch {
                Patch::Apply(config, force) => {
                    let write = self.write(caller, target, options);
                    object = managed::apply(&write, Some(&old), config, *force)?;
                }
                Patch::Merge(patch) => json_patch::merge(&mut object, patch),
                Patch::Strategic(patch) => patches::apply(&mut object, patch),
                Patch::Json(patch) => patches::apply_json(&mut object, patch)?,
            }
            let warnings = self.checked(target, &mut object, Some(&old), options)?;
            let demanded = meta(&object, "resourceVersion");
            if !demanded.is_empty() && demanded != meta(&old, "resourceVersion") {
                return Err(modified(target));
            }
            let applied = matches!(patch, Patch::Apply(..));
            let replaced = self.replace(caller, target, object, &old, options, applied);
            if let Some(written) = replaced.await? {
                return Ok(Written {
                    warnings,
                    ..written
                });
            }
        }
        Err(modified(target))
    }

    /// Creates what is applied to nothing.
    async fn apply_new(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        config: &Value,
        force: bool,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        let write = self.write(caller, target, options);
        let object = managed::apply(&write, None, config, force)?;
        let (kind, name) = (target.kind, meta(&object, "name"));
        if name.is_empty() {
            let error = FieldError::required("metadata.name", "name or generateName is required");
            return Err(Failure::invalid(&kind.kind, &kind.group, "", &[error]));
        }
        if name != target.name {
            return Err(objects::other_name(name, target.name));
        }
        if !meta(&object, "uid").is_empty() {
            return Err(Failure::conflict(
                &kind.plural,
                &kind.group,
                target.name,
                &format!(
                    "uid mismatch: the provided object specified uid {}, and no existing object was found",
                    meta(&object, "uid")
                ),
            ));
        }
        if !meta(&object, "resourceVersion").is_empty() {
            return Err(modified(target));
        }
        self.make(caller, target, object, options, true).await
    }

    /// Stores `object` in place of `old`; `applied` says that its managed fields are told already.
    /// None when another writer was faster: the one outcome that is worth trying again.
    pub(super) async fn replace(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        mut object: Value,
        old: &Value,
        options: &WriteOptions,
        applied: bool,
    ) -> Result<Option<Written>, Failure> {
        let expected = Revision(meta(old, "resourceVersion").parse().unwrap_or_default());
        self.admit(caller, target, &mut object, Some(old)).await?;
        let mut entries = managed::take(&mut object);
        let mut object = objects::update(target.kind, object, old, target.subresource)?;
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        managed::take(&mut object);
        if !applied {
            let write = self.write(caller, target, options);
            let nothing = managed::Fields::default();
            entries = managed::update(&write, Some(old), &object, &entries, &nothing);
        }
        manage(target.kind, &mut object, entries)?;
        if managed::settle(old, &object) {
            return Ok(Some(Written::unstored(old.clone())));
        }
        if options.dry_run {
            return Ok(Some(Written::unstored(object)));
        }
        let key = Self::key(target, target.name);
        let stored = if objects::is_released(target.kind, &object) {
            let last = bytes(&object)?;
            self.remove(target, key, expected, last).await
        } else {
            let data = bounded(&mut object, old, target.subresource)?;
            self.store.update(key, expected, data).await
        };
        match stored {
            Ok(stored) => Ok(Some(Written::stored(object, stored, false))),
            Err(boatyard_store::Error::Conflict { .. }) => Ok(None),
            Err(error) => Err(Self::store_failure(target, target.name, error)),
        }
    }

    /// Removes an object, after what must not outlive it: a kill in between leaves the object, whose
    /// deletion nobody was told.
    async fn remove(
        &self,
        target: &Target<'_>,
        key: Key,
        expected: Revision,
        last: Bytes,
    ) -> Result<Stored, boatyard_store::Error> {
        if let Some(first) = target.kind.behaviour.goes_before(&key.name) {
            identity::remove(&*self.store, &first).await?;
        }
        self.store.delete(key, expected, last).await
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
                        &target.kind.group,
                        target.name,
                        &format!(
                            "the precondition {member} is {wanted}, but the object's is {}",
                            meta(&old, member)
                        ),
                    ));
                }
            }
            target.kind.behaviour.admit_deletion(&old)?;
            let (key, expected) = (
                Self::key(target, target.name),
                Revision(meta(&old, "resourceVersion").parse().unwrap_or_default()),
            );
            let written = match objects::delete(target.kind, &old, options, self.now()) {
                Deletion::Waiting => return Ok((old, false)),
                Deletion::Remove if options.dry_run => return Ok((old, true)),
                Deletion::Mark(marked) if options.dry_run => return Ok((marked, false)),
                Deletion::Remove => self
                    .remove(target, key, expected, bytes(&old)?)
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
                        &target.kind.group,
                        target.name,
                        "other writers were always faster",
                    ))
                }
                Err(error) => return Err(Self::store_failure(target, target.name, error)),
            }
        }
        Err(last.unwrap_or_else(|| Failure::internal("a deletion was tried no times")))
    }
}

#[cfg(test)]
mod tests;
