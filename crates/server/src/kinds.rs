//! The kinds this server serves, and what the machinery needs to know of each.
//!
//! A kind of our own is registered by one line in [`Kinds::ours`]: names, scope, columns, schema
//! and selectable fields come from its type's derive, defaults and rules from its
//! [`Rules`] implementation. Core kinds have k8s-openapi's types and little of their own.

use crate::failure::Failure;
use boatyard_api::rules::{FieldError, Rules};
use boatyard_api::{Environment, EnvironmentClass, Runner};
use kube::CustomResourceExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

/// One served kind.
#[derive(Debug)]
pub struct Kind {
    /// Group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// As in `kind:`.
    pub kind: String,
    /// As in paths.
    pub plural: String,
    /// For clients that read names.
    pub singular: String,
    /// Abbreviations.
    pub short_names: Vec<String>,
    /// As in `kubectl get CATEGORY`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether there is a status subresource.
    pub has_status: bool,
    /// Whether strategic merge patches are taken (as merge patches): core kinds, for kubectl.
    pub strategic: bool,
    /// Columns of tables.
    pub columns: Vec<Column>,
    /// Paths usable in field selectors, besides metadata.name and metadata.namespace.
    pub selectable: Vec<String>,
    /// Structural schema of the whole object.
    pub schema: Value,
    /// Defaults and rules: (object, stored object) → defaulted object, or everything wrong with it.
    prepare: Prepare,
}

type Prepare = fn(&Value, Option<&Value>) -> Result<Value, Vec<FieldError>>;

/// A column of a table.
#[derive(Debug)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// `string`, `integer`, `boolean`, `date`.
    pub kind: String,
    /// Paths, the first with a value counts.
    pub paths: Vec<String>,
    /// 0: always; above: with `-o wide`.
    pub priority: i64,
}

impl Kind {
    /// Name of the stored resource.
    #[must_use]
    pub fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// As in `apiVersion:`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Fills in defaults and checks the rules.
    pub(crate) fn prepare(
        &self,
        name: &str,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Value, Failure> {
        (self.prepare)(object, old)
            .map_err(|errors| Failure::invalid(&self.kind, &self.group, name, &errors))
    }

    /// A kind of our own, from its derive.
    fn own<T>() -> Self
    where
        T: CustomResourceExt + Rules + Serialize + DeserializeOwned,
    {
        let definition = serde_json::to_value(T::crd()).unwrap_or_default();
        let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
        let version = &spec["versions"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts = |value: &Value| {
            value
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect::<Vec<_>>()
        };
        let columns = version["additionalPrinterColumns"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|column| Column {
                name: text(&column["name"]),
                kind: text(&column["type"]),
                paths: text(&column["jsonPath"])
                    .split('|')
                    .map(|path| path.trim_start_matches('.').to_owned())
                    .collect(),
                priority: column["priority"].as_i64().unwrap_or_default(),
            });
        let selectable = version["selectableFields"].as_array().into_iter().flatten();
        let mut schema = version["schema"]["openAPIV3Schema"].clone();
        envelope(
            &mut schema,
            &spec["group"],
            &version["name"],
            &names["kind"],
        );
        Self {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            kind: text(&names["kind"]),
            plural: text(&names["plural"]),
            singular: text(&names["singular"]),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            namespaced: spec["scope"] == "Namespaced",
            has_status: version["subresources"]["status"].is_object(),
            strategic: false,
            columns: columns.collect(),
            selectable: selectable
                .map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned())
                .collect(),
            schema,
            prepare: prepare::<T>,
        }
    }

    fn core<T: Serialize + DeserializeOwned>(
        group: &str,
        kind: &str,
        plural: &str,
        short: &str,
        namespaced: bool,
        fields: Value,
    ) -> Self {
        let mut schema = json!({"type": "object", "properties": fields});
        envelope(&mut schema, &group.into(), &"v1".into(), &kind.into());
        Self {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_ascii_lowercase(),
            short_names: if short.is_empty() {
                Vec::new()
            } else {
                vec![short.to_owned()]
            },
            categories: Vec::new(),
            namespaced,
            has_status: false,
            strategic: true,
            columns: Vec::new(),
            selectable: Vec::new(),
            schema,
            prepare: prepare_core::<T>,
        }
    }
}

/// Adds what every object has.
fn envelope(schema: &mut Value, group: &Value, version: &Value, kind: &Value) {
    schema["properties"]["apiVersion"] =
        json!({"type": "string", "description": "Version of the object's schema."});
    schema["properties"]["kind"] = json!({"type": "string", "description": "Kind of the object."});
    schema["properties"]["metadata"] = metadata();
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": group, "version": version, "kind": kind}]);
}

/// Schema of every object's metadata.
fn metadata() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let number = |description: &str| json!({"type": "integer", "description": description});
    let map = |description: &str| json!({"type": "object", "additionalProperties": {"type": "string"}, "description": description});
    let owner = json!({"type": "object", "required": ["apiVersion", "kind", "name", "uid"], "properties": {
        "apiVersion": text("Version of the owner's schema."), "kind": text("Kind of the owner."),
        "name": text("Name of the owner."), "uid": text("Uid of the owner."),
        "controller": {"type": "boolean"}, "blockOwnerDeletion": {"type": "boolean"},
    }});
    let mut properties = json!({
        "name": text("Name, unique among objects of the kind in the namespace."),
        "generateName": text("Beginning of a name that the server completes, when name is absent."),
        "namespace": text("Namespace the object lives in."),
        "labels": map("Short texts to select objects by."),
        "annotations": map("Texts of any form, for tools."),
        "finalizers": {"type": "array", "items": {"type": "string"}, "description": "Who must let go before a deleted object goes."},
        "ownerReferences": {"type": "array", "items": owner, "description": "Objects this one belongs to."},
        "uid": text("Set by the server: tells objects of the same name apart."),
        "resourceVersion": text("Set by the server: changes with every write."),
        "generation": number("Set by the server: counts changes of the spec."),
        "deletionGracePeriodSeconds": number("Set by the server."),
        "selfLink": text("Not used."),
        "managedFields": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}, "description": "Not used."},
    });
    for (member, description) in [
        (
            "creationTimestamp",
            "Set by the server: when the object came to be.",
        ),
        (
            "deletionTimestamp",
            "Set by the server: when its deletion was asked for.",
        ),
    ] {
        properties[member] = json!({"type": "string", "format": "date-time", "nullable": true, "description": description});
    }
    json!({"type": "object", "properties": properties, "description": "Standard object's metadata."})
}

fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, Vec<FieldError>> {
    T::deserialize(value).map_err(|error| {
        vec![FieldError {
            path: String::new(),
            reason: boatyard_api::rules::Reason::Invalid,
            message: error.to_string(),
        }]
    })
}

fn prepare<T: Rules + Serialize + DeserializeOwned>(
    object: &Value,
    old: Option<&Value>,
) -> Result<Value, Vec<FieldError>> {
    let mut parsed: T = parse(object)?;
    let old: Option<T> = old.map(parse).transpose()?;
    parsed.defaults();
    let errors = parsed.validate(old.as_ref());
    if errors.is_empty() {
        Ok(reserialized(object, &parsed))
    } else {
        Err(errors)
    }
}

fn prepare_core<T: Serialize + DeserializeOwned>(
    object: &Value,
    _old: Option<&Value>,
) -> Result<Value, Vec<FieldError>> {
    let parsed: T = parse(object)?;
    Ok(reserialized(object, &parsed))
}

/// The typed object as JSON, with the metadata as it was sent: types may know less of it.
fn reserialized<T: Serialize>(object: &Value, parsed: &T) -> Value {
    let mut value = serde_json::to_value(parsed).unwrap_or_default();
    for member in ["metadata", "apiVersion", "kind"] {
        value[member] = object[member].clone();
    }
    value
}

/// All kinds.
#[derive(Clone)]
pub struct Kinds(Arc<Vec<Kind>>);

impl Default for Kinds {
    fn default() -> Self {
        let mut kinds = Self::ours();
        kinds.extend(Self::core());
        Self(Arc::new(kinds))
    }
}

impl Kinds {
    /// Registered kinds of our own: to add one, add a line.
    fn ours() -> Vec<Kind> {
        vec![
            Kind::own::<Environment>(),
            Kind::own::<EnvironmentClass>(),
            Kind::own::<Runner>(),
        ]
    }

    fn core() -> Vec<Kind> {
        use k8s_openapi::api::coordination::v1::Lease;
        use k8s_openapi::api::core::v1::{Event, Namespace};
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let text = json!({"type": "string"});
        let namespace = Kind {
            has_status: true,
            columns: columns(&[
                ("Status", "string", "status.phase"),
                ("Age", "date", "metadata.creationTimestamp"),
            ]),
            selectable: vec!["status.phase".to_owned()],
            ..Kind::core::<Namespace>(
                "",
                "Namespace",
                "namespaces",
                "ns",
                false,
                json!({"spec": open, "status": open}),
            )
        };
        let lease = Kind {
            columns: columns(&[
                ("Holder", "string", "spec.holderIdentity"),
                ("Age", "date", "metadata.creationTimestamp"),
            ]),
            ..Kind::core::<Lease>(
                "coordination.k8s.io",
                "Lease",
                "leases",
                "",
                true,
                json!({"spec": open}),
            )
        };
        let mut fields = json!({"involvedObject": open, "source": open, "series": open, "related": open, "count": {"type": "integer"}});
        for field in [
            "reason",
            "message",
            "type",
            "action",
            "reportingComponent",
            "reportingInstance",
            "firstTimestamp",
            "lastTimestamp",
            "eventTime",
        ] {
            fields[field] = if field == "eventTime" {
                json!({"type": "string", "nullable": true})
            } else {
                text.clone()
            };
        }
        let selectable = [
            "kind",
            "name",
            "namespace",
            "uid",
            "apiVersion",
            "fieldPath",
            "resourceVersion",
        ]
        .map(|field| format!("involvedObject.{field}"));
        let event = Kind {
            columns: columns(&[
                ("Last Seen", "date", "lastTimestamp"),
                ("Type", "string", "type"),
                ("Reason", "string", "reason"),
                ("Object", "string", "involvedObject.name"),
                ("Message", "string", "message"),
            ]),
            selectable: selectable
                .into_iter()
                .chain(["reason".to_owned(), "type".to_owned()])
                .collect(),
            ..Kind::core::<Event>("", "Event", "events", "ev", true, fields)
        };
        vec![namespace, event, lease]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Kind> {
        self.0.iter()
    }

    /// One by group, version and plural.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Kind> {
        self.iter()
            .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
    }
}

fn columns(columns: &[(&str, &str, &str)]) -> Vec<Column> {
    columns
        .iter()
        .map(|(name, kind, path)| Column {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            paths: vec![(*path).to_owned()],
            priority: 0,
        })
        .collect()
}
