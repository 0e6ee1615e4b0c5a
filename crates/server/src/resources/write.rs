//! Writing: create, update, patch and delete, with optimistic concurrency.

use super::{LARGEST, Resources, Target, modified, object};
use crate::deletion;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kinds::Admission;
use crate::objects::{self, Deletion, meta};
use crate::patches;
use crate::schema;
use boatyard_store::{Key, Revision, Stored};
use serde_json::Value;

/// How often a patch is computed anew when other writers are faster.
const ATTEMPTS: usize = 128;

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
        self.admit(caller, target, &mut object, None).await?;
        let object = target.kind.prepare(meta(&object, "name"), &object, None)?;
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

    /// Lets the kind complete or refuse what is to be written.
    async fn admit(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Failure> {
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
        self.admit(caller, target, &mut object, Some(old)).await?;
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
            target.kind.behaviour.admit_deletion(&old)?;
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

/// Whether a patch demands a version, so that a conflict is the caller's to see.
fn names_version(patch: &Patch) -> bool {
    matches!(patch, Patch::Merge(patch) | Patch::Strategic(patch) if patch["metadata"]["resourceVersion"].is_string())
}
