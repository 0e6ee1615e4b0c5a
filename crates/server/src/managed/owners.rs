//! Who owns which fields of an object, and that as `metadata.managedFields`.
//!
//! An applier is known by its name and subresource; a writer by other means by its version too.
//! Entries stand in Kubernetes's order: appliers first, then by time, name and the rest.

use super::set::{BadSet, Set};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The one form of field sets.
const FIELDS_V1: &str = "FieldsV1";
/// Most owners that do not apply; the oldest are taken together.
const MOST_WRITERS: usize = 10;
/// Whom the fields of the oldest are then given to.
const ANCIENT: &str = "ancient-changes";

/// How an owner writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// An owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) operation: Operation,
    /// Version it wrote in; empty for appliers.
    pub(crate) version: String,
    pub(crate) subresource: String,
}

/// What an owner has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) fields: Set,
    pub(crate) version: String,
    /// RFC 3339.
    pub(crate) time: Option<String>,
}

/// Owners of one object's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owners(pub(crate) BTreeMap<Owner, Owned>);

/// Why entries cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadEntry {
    #[error("managedFields is not a list of objects")]
    NoList,
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    Version,
    #[error("fieldsType of entry {0} must be `FieldsV1`")]
    Type(usize),
    #[error("fieldsV1 of entry {0}")]
    Fields(usize, #[source] BadSet),
}

impl Owner {
    pub(crate) fn new(name: &str, operation: Operation, version: &str, subresource: &str) -> Self {
        let applies = operation == Operation::Apply;
        Self {
            name: name.to_owned(),
            operation,
            version: if applies { "" } else { version }.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// As conflicts name it.
    pub(crate) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            text += &format!(" using {}", self.version);
        }
        text
    }
}

/// Whether a client asks that nobody own anything: `[]` or `[{}]`.
pub(crate) fn is_reset(entries: &Value) -> bool {
    match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(only)]) => only.is_empty(),
        _ => false,
    }
}

impl Owners {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From `metadata.managedFields`.
    pub(crate) fn decode(entries: &Value) -> Result<Self, BadEntry> {
        let mut owners = Self::default();
        let entries = match entries {
            Value::Null => return Ok(owners),
            Value::Array(entries) => entries,
            _ => return Err(BadEntry::NoList),
        };
        for (number, entry) in entries.iter().enumerate() {
            let text = |member: &str| entry[member].as_str().unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err(BadEntry::Operation),
            };
            let version = text("apiVersion");
            if version.is_empty() {
                return Err(BadEntry::Version);
            }
            if text("fieldsType") != FIELDS_V1 {
                return Err(BadEntry::Type(number));
            }
            let fields = match &entry["fieldsV1"] {
                Value::Object(empty) if empty.is_empty() => Set::default(),
                fields => Set::decode(fields).map_err(|error| BadEntry::Fields(number, error))?,
            };
            let owned = Owned {
                fields,
                version: version.to_owned(),
                time: entry["time"].as_str().map(ToOwned::to_owned),
            };
            let owner = Owner::new(text("manager"), operation, version, text("subresource"));
            owners.0.insert(owner, owned);
        }
        Ok(owners)
    }

    /// As `metadata.managedFields`; null when nobody owns anything.
    pub(crate) fn encode(&self) -> Value {
        let seconds = |owned: &Owned| {
            let time = owned.time.as_deref().unwrap_or_default();
            time.parse::<Timestamp>().map_or(0, Timestamp::as_second)
        };
        let mut sorted: Vec<(&Owner, &Owned)> = self.0.iter().collect();
        sorted.sort_by(|(a, owned_a), (b, owned_b)| {
            a.operation
                .cmp(&b.operation)
                .then_with(|| seconds(owned_a).cmp(&seconds(owned_b)))
                .then_with(|| a.name.cmp(&b.name))
                .then_with(|| owned_a.version.cmp(&owned_b.version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        let entries = sorted.into_iter().map(|(owner, owned)| {
            let mut entry = json!({
                "manager": owner.name,
                "operation": match owner.operation {
                    Operation::Apply => "Apply",
                    Operation::Update => "Update",
                },
                "apiVersion": owned.version,
                "fieldsType": FIELDS_V1,
                "fieldsV1": owned.fields.encode(),
            });
            if let Some(time) = &owned.time {
                entry["time"] = json!(time);
            }
            if !owner.subresource.is_empty() {
                entry["subresource"] = json!(owner.subresource);
            }
            entry
        });
        let entries: Vec<Value> = entries.collect();
        if entries.is_empty() {
            Value::Null
        } else {
            Value::Array(entries)
        }
    }

    /// Takes the oldest writers together when there are too many.
    pub(crate) fn cap(&mut self, version: &str) {
        let mut writers: Vec<(Option<String>, Owner)> = self
            .0
            .iter()
            .filter(|(owner, _)| owner.operation == Operation::Update)
            .map(|(owner, owned)| (owned.time.clone(), owner.clone()))
            .collect();
        let Some(over) = writers.len().checked_sub(MOST_WRITERS).filter(|n| *n > 0) else {
            return;
        };
        writers.sort();
        let mut ancient = Owned {
            version: version.to_owned(),
            ..Owned::default()
        };
        for (_, owner) in writers.into_iter().take(over + 1) {
            if let Some(owned) = self.0.remove(&owner) {
                ancient.fields = ancient.fields.union(owned.fields);
                ancient.time = owned.time;
            }
        }
        let owner = Owner::new(ANCIENT, Operation::Update, version, "");
        self.0.insert(owner, ancient);
    }
}
