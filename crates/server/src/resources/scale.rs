//! The scale subresource: how many of something there shall be, whatever its kind calls it.
//!
//! A kind that declares it (`scale` in its type's derive) says at which paths its numbers are;
//! clients see and write an `autoscaling/v1` Scale, as `kubectl scale` and autoscalers do. Writing
//! one writes that number of the object and nothing else, with the same concurrency as any write.

use super::write::ATTEMPTS;
use super::{Patch, Resources, Target, WriteOptions, Written, modified};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::objects::meta;
use crate::patches;
use boatyard_api::rules::FieldError;
use serde_json::{Value, json};

/// Where a kind keeps its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// How many there shall be.
    pub wanted: String,
    /// How many there are.
    pub current: String,
    /// A label selector of them, as text; empty when the kind has none.
    pub selector: String,
}

/// A Scale, or what changes one.
pub(crate) enum Change {
    Whole(Value),
    Patch(Patch),
}

fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, member| &value[member])
}

fn set(object: &mut Value, path: &str, wanted: i64) {
    let place = path
        .split('.')
        .fold(object, |value, member| &mut value[member]);
    *place = json!(wanted);
}

/// The Scale of an object.
fn view(paths: &Paths, object: &Value) -> Value {
    let mut metadata = json!({});
    for member in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        let value = &object["metadata"][member];
        if !value.is_null() {
            metadata[member] = value.clone();
        }
    }
    let number = |path: &str| at(object, path).as_i64().unwrap_or_default();
    let mut status = json!({"replicas": number(&paths.current)});
    if !paths.selector.is_empty()
        && let Some(selector) = at(object, &paths.selector).as_str()
    {
        status["selector"] = json!(selector);
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": number(&paths.wanted)}, "status": status,
    })
}

/// How many a Scale asks for, if it is one of this object.
fn wanted(scale: &Value, target: &Target<'_>, old: &Value) -> Result<i64, Failure> {
    for (member, wanted) in [("kind", "Scale"), ("apiVersion", "autoscaling/v1")] {
        if !scale[member].is_null() && scale[member] != wanted {
            return Err(Failure::bad_request(format!(
                "the object's {member} is {}, but this path is for {wanted}",
                scale[member]
            )));
        }
    }
    let name = meta(scale, "name");
    if !name.is_empty() && name != target.name {
        return Err(crate::objects::other_name(name, target.name));
    }
    let uid = meta(scale, "uid");
    if !uid.is_empty() && uid != meta(old, "uid") {
        return Err(Failure::conflict(
            &target.kind.plural,
            &target.kind.group,
            target.name,
            &format!(
                "the uid in the precondition is {uid}, but the object's is {}",
                meta(old, "uid")
            ),
        ));
    }
    let version = meta(scale, "resourceVersion");
    if !version.is_empty() && version != meta(old, "resourceVersion") {
        return Err(modified(target));
    }
    let replicas = &scale["spec"]["replicas"];
    let number = if replicas.is_null() {
        Some(0)
    } else {
        replicas.as_i64()
    };
    number
        .filter(|number| (0..=i64::from(i32::MAX)).contains(number))
        .ok_or_else(|| {
            let detail = "must be a number of 0 or more";
            let error = FieldError::invalid("spec.replicas", replicas.clone(), detail);
            Failure::invalid("Scale", "autoscaling", target.name, &[error])
        })
}

fn paths<'a>(target: &Target<'a>) -> Result<&'a Paths, Failure> {
    let scale = target.kind.scale.as_ref();
    scale.ok_or_else(|| Failure::internal(format!("{} have no scale", target.kind.plural)))
}

impl Resources {
    /// The Scale of an object.
    pub(crate) async fn scale(
        &self,
        caller: &Caller,
        target: &Target<'_>,
    ) -> Result<Value, Failure> {
        let paths = paths(target)?;
        let object = self.get(caller, "get", target).await?;
        if at(&object, &paths.wanted).is_null() {
            return Err(Failure::internal(format!(
                "the field {} does not exist",
                paths.wanted
            )));
        }
        Ok(view(paths, &object))
    }

    /// Writes the number that a Scale asks for; the Scale then.
    pub(crate) async fn rescale(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        change: &Change,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        let paths = paths(target)?;
        let verb = match change {
            Change::Whole(_) => "update",
            Change::Patch(_) => "patch",
        };
        for _ in 0..ATTEMPTS {
            let old = self.get(caller, verb, target).await?;
            let mut scale = view(paths, &old);
            // Only a version that the client named binds it.
            if let Some(metadata) = scale["metadata"].as_object_mut() {
                metadata.remove("resourceVersion");
            }
            match change {
                Change::Whole(whole) => scale = whole.clone(),
                Change::Patch(Patch::Merge(patch) | Patch::Apply(patch, _)) => {
                    json_patch::merge(&mut scale, patch);
                }
                Change::Patch(Patch::Strategic(patch)) => patches::apply(&mut scale, patch),
                Change::Patch(Patch::Json(patch)) => patches::apply_json(&mut scale, patch)?,
            }
            if !scale.is_object() {
                return Err(Failure::bad_request("the body is not an object"));
            }
            let mut object = old.clone();
            set(&mut object, &paths.wanted, wanted(&scale, target, &old)?);
            let warnings = self.checked(target, &mut object, Some(&old), options)?;
            let replaced = self.replace(caller, target, object, &old, options, false);
            if let Some(written) = replaced.await? {
                return Ok(Written {
                    warnings,
                    ..Written::unstored(view(paths, &written.object))
                });
            }
        }
        Err(modified(target))
    }
}

#[cfg(test)]
mod tests;
