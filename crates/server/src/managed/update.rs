//! Tracking: who owns what after a write that is no apply.
//!
//! The writer owns what it changed or added and nobody else does any more; what it removed is
//! nobody's. A write that changes nothing leaves all entries as they are, their times too.

use super::compare::{Comparison, compare};
use super::owners::{Operation, Owned, Owner, Owners, is_reset};
use super::reconcile::reconcile;
use super::set::Set;
use super::types::Ref;
use super::{METADATA, Write, ignored};
use crate::kinds::Kind;
use crate::objects::stamp;
use serde_json::{Value, json};

/// Takes the managed fields out of an object; null when there are none.
pub(crate) fn take(object: &mut Value) -> Value {
    let metadata = object["metadata"].as_object_mut();
    metadata
        .and_then(|metadata| metadata.remove("managedFields"))
        .unwrap_or_default()
}

/// Puts them in again.
pub(super) fn put(object: &mut Value, entries: Value) {
    if !entries.is_null() {
        object["metadata"]["managedFields"] = entries;
    }
}

/// An object of a kind before it is made.
pub(super) fn nothing(write: &Write<'_>) -> Value {
    json!({"apiVersion": write.kind.api_version(), "kind": write.kind.kind})
}

/// What the server decided itself, from what the client asked for.
pub(crate) fn decided(kind: &Kind, asked: &Value, admitted: &Value) -> Set {
    let changes = compare(kind.merging(), asked, admitted);
    changes.modified.union(changes.added)
}

/// The managed fields of `new` after it is written over `live`, which is none for a creation;
/// `sent` is what the client sent of them, `decided` what of `new` is the server's decision and so
/// nobody's. `new` itself has none.
pub(crate) fn update(
    write: &Write<'_>,
    live: Option<&Value>,
    new: &Value,
    sent: &Value,
    decided: &Set,
) -> Value {
    let stored = live.map_or(&Value::Null, |live| &live["metadata"]["managedFields"]);
    let of = write.kind.merging();
    let changes = match live {
        Some(live) => compare(of, live, new),
        None => compare(of, &nothing(write), new),
    };
    let changes = changes.without(ignored(write)).without(decided);
    // A subresource's write has no say in who owns what.
    let meant = if write.subresource.is_empty() {
        sent
    } else {
        &Value::Null
    };
    if changes.is_empty() && (meant.is_null() || meant == stored) {
        return stored.clone();
    }
    let known = || Owners::decode(stored).unwrap_or_default();
    let mut owners = if is_reset(meant) {
        Owners::default()
    } else {
        match Owners::decode(meant) {
            Ok(owners) if !owners.is_empty() => owners,
            _ => known(),
        }
    };
    // Who owned what before tracking began, or after a reset, is unknown until an apply.
    if owners.is_empty() && live.is_some() {
        return Value::Null;
    }
    record(write, &mut owners, changes, write.manager);
    owners.encode()
}

/// Gives the changes to a writer.
pub(super) fn record(write: &Write<'_>, owners: &mut Owners, changes: Comparison, name: &str) {
    let version = write.kind.api_version();
    modernize(owners, write.kind.merging(), &version);
    let taken = changes.modified.union(changes.added);
    yield_to(owners, &taken, &changes.removed, None);
    let taken = taken.difference(&METADATA);
    if !taken.is_empty() {
        let name = if name.is_empty() { "unknown" } else { name };
        let owner = Owner::new(name, Operation::Update, &version, write.subresource);
        let owned = owners.0.entry(owner).or_default();
        let fields = std::mem::take(&mut owned.fields).union(taken);
        let time = stamp(write.now).as_str().map(ToOwned::to_owned);
        *owned = Owned {
            fields,
            version: version.clone(),
            time,
        };
    }
    owners.cap(&version);
}

/// Drops entries of versions that are not served, and brings the rest to the present schema.
pub(super) fn modernize(owners: &mut Owners, of: &Ref, version: &str) {
    owners.0.retain(|_, owned| owned.version == version);
    for owned in owners.0.values_mut() {
        if let Some(fields) = reconcile(of, &owned.fields) {
            owned.fields = fields;
        }
    }
}

/// Takes fields from everybody but one; who has nothing left goes.
pub(super) fn yield_to(owners: &mut Owners, taken: &Set, removed: &Set, but: Option<&Owner>) {
    owners.0.retain(|owner, owned| {
        if Some(owner) != but {
            let fields = std::mem::take(&mut owned.fields);
            owned.fields = fields.difference(taken).difference(removed);
        }
        !owned.fields.is_empty()
    });
}

/// Whether a write changed nothing but, perhaps, times of managed fields.
pub(crate) fn settle(old: &Value, new: &Value) -> bool {
    is_same_but("metadata", old, new)
        && is_same_but("managedFields", &old["metadata"], &new["metadata"])
        && are_same_but_times(
            &old["metadata"]["managedFields"],
            &new["metadata"]["managedFields"],
        )
}

fn are_same_but_times(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            let mut both = a.iter().zip(b);
            a.len() == b.len() && both.all(|(a, b)| is_same_but("time", a, b))
        }
        _ => a == b,
    }
}

fn is_same_but(member: &str, a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return a == b;
    };
    let known = |members: &serde_json::Map<String, Value>| {
        members.len() - usize::from(members.contains_key(member))
    };
    known(a) == known(b)
        && a.iter()
            .all(|(name, value)| name == member || b.get(name) == Some(value))
}
