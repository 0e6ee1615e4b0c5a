//! Server-side apply: a configuration merged, what was left out taken away, conflicts told.

use super::compare::compare;
use super::element::{Element, show};
use super::last_applied;
use super::merge::merge;
use super::owners::{Operation, Owned, Owner, Owners};
use super::remove::remove;
use super::set::Set;
use super::typed::{fields, misfits};
use super::types::Ref;
use super::update::{modernize, nothing, put, record, take, yield_to};
use super::{METADATA, Write, ignored};
use crate::failure::Failure;
use crate::objects::{meta, stamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Who is given what was there before tracking began.
const BEFORE: &str = "before-first-apply";

/// Fields others own and the applier would change, by owner.
type Conflicts = BTreeMap<Owner, Set>;

/// The object, with its managed fields, after `config` is applied to `live`, which is none when
/// there is no object yet. Defaults are not filled in.
pub(crate) fn apply(
    write: &Write<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, Failure> {
    check(write, config)?;
    let mut before = live.cloned().unwrap_or_else(|| nothing(write));
    let entries = take(&mut before);
    let mut owners = Owners::decode(&entries)
        .map_err(|error| Failure::internal(format!("failed to decode managed fields: {error}")))?;
    if owners.is_empty() {
        // Everything the object has is somebody's.
        let all = compare(write.kind.merging(), &nothing(write), &before);
        record(write, &mut owners, all.without(ignored(write)), BEFORE);
    }
    modernize(&mut owners, write.kind.merging(), &write.kind.api_version());
    let mut applied = merged(write, &before, config, &owners, force);
    let kubectl = write.manager == last_applied::KUBECTL;
    if let (true, Err(conflicts)) = (kubectl, &mut applied)
        && let Some(allowed) = last_applied::unchanged(write.kind.merging(), &before)
    {
        conflicts.retain(|_, fields| {
            *fields = std::mem::take(fields).difference(&allowed);
            !fields.is_empty()
        });
        if conflicts.is_empty() {
            applied = merged(write, &before, config, &owners, true);
        }
    }
    let (mut object, owners) = applied.map_err(|conflicts| refused(&conflicts))?;
    if kubectl {
        last_applied::follow(&mut object, config);
    }
    put(&mut object, owners.encode());
    Ok(object)
}

/// What no applied configuration may have.
fn check(write: &Write<'_>, config: &Value) -> Result<(), Failure> {
    let kind = write.kind;
    let of = |version: &str, name: &str| {
        let slashed = if version.contains('/') { "" } else { "/" };
        format!("{slashed}{version}, Kind={name}")
    };
    let text = |member: &str| config[member].as_str().unwrap_or_default();
    let (version, name) = (text("apiVersion"), text("kind"));
    if version != kind.api_version() || name != kind.kind {
        return Err(Failure::bad_request(format!(
            "invalid object type: {}",
            of(version, name)
        )));
    }
    if !config["metadata"]["managedFields"].is_null() {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    let errors = misfits(kind.merging(), config);
    let told = match errors.as_slice() {
        [] => return Ok(()),
        [only] => only.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    Err(Failure::bad_request(format!(
        "failed to create typed patch object ({}/{}; {}): {told}",
        meta(config, "namespace"),
        meta(config, "name"),
        of(version, name)
    )))
}

fn merged(
    write: &Write<'_>,
    live: &Value,
    config: &Value,
    owners: &Owners,
    force: bool,
) -> Result<(Value, Owners), Conflicts> {
    let of = write.kind.merging();
    let version = write.kind.api_version();
    let applier = Owner::new(write.manager, Operation::Apply, &version, write.subresource);
    let mut owners = owners.clone();
    let last = owners.0.get(&applier).cloned().unwrap_or_default();
    let wanted = fields(of, config).recursive_difference(ignored(write));
    // The pruning needs to know what is there by the configuration's will, names and all.
    let stated = fields(of, config);
    let mut object = merge(of, live, config);
    if !last.fields.is_empty() {
        let others = owners.0.iter().filter(|(owner, _)| **owner != applier);
        let held = others.fold(stated, |held, (_, owned)| held.union(owned.fields.clone()));
        object = prune(of, &object, &last.fields, &held);
    }
    let changes = compare(of, live, &object).without(ignored(write));
    let taken = changes.modified.clone().union(changes.added.clone());
    let others = owners.0.iter().filter(|(owner, _)| **owner != applier);
    let conflicts: Conflicts = others
        .map(|(owner, owned)| (owner.clone(), owned.fields.intersection(&taken)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    yield_to(&mut owners, &taken, &changes.removed, Some(&applier));
    let wanted = wanted.difference(&METADATA);
    let changed = !changes.is_empty() || wanted != last.fields;
    let time = if changed || last.time.is_none() {
        stamp(write.now).as_str().map(ToOwned::to_owned)
    } else {
        last.time
    };
    owners.0.remove(&applier);
    if !wanted.is_empty() {
        let owned = Owned {
            fields: wanted,
            version,
            time,
        };
        owners.0.insert(applier, owned);
    }
    Ok((object, owners))
}

/// Takes out of `merged` what its applier had applied `last`, unless it is `held` by the new
/// configuration or somebody else.
fn prune(of: &Ref, merged: &Value, last: &Set, held: &Set) -> Value {
    let last = last.with_named_fields(of);
    let all = fields(of, merged).with_named_fields(of);
    let nothing = Set::default();
    let pruned = remove(of, merged, &last, &nothing);
    // What others hold comes back, with all that leads to it.
    let left = fields(of, &pruned).with_named_fields(of);
    let left = left.union(held.with_named_fields(of));
    let pruned = remove(of, merged, &all.clone().difference(&left), &nothing);
    // And so does what nobody holds but the applier never had: only its own goes.
    let left = fields(of, &pruned).with_named_fields(of);
    remove(of, merged, &all.difference(&left).intersection(&last), held)
}

fn refused(conflicts: &Conflicts) -> Failure {
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for (owner, fields) in conflicts {
        let shown = owner.shown();
        lines.push(format!("conflicts with {shown}:"));
        fields.each(&mut Vec::new(), &mut |path: &[Element]| {
            let field = show(path);
            lines.push(format!("- {field}"));
            causes.push(json!({"reason": "FieldManagerConflict", "message": format!("conflict with {shown}"), "field": field}));
        });
    }
    let message = match causes.as_slice() {
        [only] => format!(
            "Apply failed with 1 conflict: {}: {}",
            only["message"].as_str().unwrap_or_default(),
            only["field"].as_str().unwrap_or_default()
        ),
        several => format!(
            "Apply failed with {} conflicts: {}",
            several.len(),
            lines.join("\n")
        ),
    };
    Failure {
        code: http::StatusCode::CONFLICT,
        reason: "Conflict",
        message,
        details: json!({"causes": causes}),
        ..Failure::internal("")
    }
}
