//! The kinds this server serves, and what the machinery needs to know of each.
//!
//! A kind of our own is registered by one line in [`Kinds::ours`]: names, scope, columns, schema
//! and selectable fields come from its type's derive, defaults and rules from its
//! [`Rules`] implementation, who may touch it and what the server says of it on the way in from
//! its behaviour. Core kinds have k8s-openapi's types, schemas and descriptions.
//!
//! Read next: `behaviour`, `core`.

mod behaviour;
mod core;
mod environment;
mod event;
mod namespace;
mod path;
mod runner;

pub(crate) use behaviour::Admission;
pub use behaviour::{Grant, READS, When, Who};
pub(crate) use environment::{NO_RUNNER, waiting};
pub(crate) use namespace::FINALIZER;
pub use path::Path;

use crate::failure::Failure;
pub use crate::resources::ScalePaths;
use crate::schema::Schema;
use behaviour::{Behaviour, Open, Private};
use boatyard_api::DEFAULT_NAMESPACE;
use boatyard_api::rules::{FieldError, Rules};
use boatyard_api::{Environment, EnvironmentClass, Project, Runner};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock, OnceLock};

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
    /// Where its numbers are, if it has a scale subresource.
    pub scale: Option<ScalePaths>,
    /// Columns of tables.
    pub columns: Vec<Column>,
    /// Paths usable in field selectors, besides metadata.name and metadata.namespace.
    pub selectable: Vec<String>,
    /// Structural schema of the whole object.
    pub schema: Value,
    /// The same, as objects are checked by it.
    pub(crate) structure: Schema,
    /// The schema as published, where its parts have names of their own.
    pub definition: Option<Definition>,
    /// The schema as merging sees it, once it is asked for.
    merging: OnceLock<crate::managed::Type>,
    samples: fn() -> [Value; 2],
    /// Defaults and rules: object → defaulted object, or everything wrong with it.
    prepare: Prepare,
    /// What it has of its own.
    pub(crate) behaviour: &'static dyn Behaviour,
}

/// Adds a type and all its parts to a generator, and refers to it.
pub type Definition = fn(&mut SchemaGenerator) -> schemars::Schema;

type Prepare = fn(&Value) -> Result<Value, Vec<FieldError>>;

/// A column of a table.
#[derive(Debug)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean`, `date`; `reference` for kind and name of what an
    /// ObjectReference refers to.
    pub kind: String,
    /// Paths, the first with a value counts.
    pub paths: Vec<Path>,
    /// 0: always; above: with `-o wide`.
    pub priority: i64,
}

impl Column {
    /// A column of paths with `|` between them.
    fn new(name: &str, kind: &str, paths: &str, priority: i64) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            paths: paths.split('|').filter_map(Path::parse).collect(),
            priority,
        }
    }
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

    /// What can be done with it. What contains others is deleted one by one, as in Kubernetes.
    #[must_use]
    pub fn verbs(&self) -> &'static [&'static str] {
        const ONE_BY_ONE: &[&str] = &[
            "create", "delete", "get", "list", "patch", "update", "watch",
        ];
        if self.behaviour.deleted_one_by_one() {
            ONE_BY_ONE
        } else {
            &crate::discovery::VERBS
        }
    }

    /// Who may do what with it, beside administrators.
    #[must_use]
    pub fn access(&self) -> &'static [Grant] {
        self.behaviour.access()
    }

    /// Two good objects, of which the first may be changed to the second.
    #[must_use]
    pub fn samples(&self) -> [Value; 2] {
        (self.samples)()
    }

    /// With more of its own than the default.
    fn with(self, behaviour: &'static dyn Behaviour) -> Self {
        Self { behaviour, ..self }
    }

    /// A kind for tests, of another schema.
    #[cfg(test)]
    pub(crate) fn of_schema(schema: Value) -> Self {
        Self {
            schema,
            ..Self::own::<Runner>()
        }
    }

    /// The schema as merging sees it.
    pub(crate) fn merging(&self) -> &crate::managed::Type {
        self.merging
            .get_or_init(|| crate::managed::Type::compile(&self.schema))
    }

    /// Fills in defaults and checks the rules.
    pub(crate) fn prepare(
        &self,
        name: &str,
        mut object: Value,
        old: Option<&Value>,
    ) -> Result<Value, Failure> {
        // Of metadata the types may know less: it stays as it is, and no type is made of it.
        let metadata = object["metadata"].take();
        object["metadata"] = json!({"name": name});
        let prepared = (self.prepare)(&object);
        let (mut prepared, wrong) = match prepared {
            Ok(mut prepared) => {
                for member in ["apiVersion", "kind"] {
                    prepared[member] = object[member].take();
                }
                (prepared, Vec::new())
            }
            Err(wrong) => (object, wrong),
        };
        prepared["metadata"] = metadata;
        let mut errors = self.structure.judge_rules(&prepared, old);
        errors.extend(wrong);
        if errors.is_empty() {
            return Ok(prepared);
        }
        Err(Failure::invalid(&self.kind, &self.group, name, &errors))
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
            .map(|column| {
                let (name, kind) = (text(&column["name"]), text(&column["type"]));
                let priority = column["priority"].as_i64().unwrap_or_default();
                Column::new(&name, &kind, &text(&column["jsonPath"]), priority)
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
            scale: scale(&version["subresources"]["scale"]),
            strategic: false,
            columns: columns.collect(),
            selectable: selectable
                .map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned())
                .collect(),
            structure: compiled(&schema),
            schema,
            definition: None,
            merging: OnceLock::new(),
            samples: || T::samples().map(|one| serde_json::to_value(one).unwrap_or_default()),
            prepare: prepare::<T>,
            behaviour: &Private,
        }
    }
}

/// A kind's scale subresource, as its definition declares it.
fn scale(declared: &Value) -> Option<ScalePaths> {
    let path = |member: &str| {
        let path = declared[member].as_str().unwrap_or_default();
        path.trim_start_matches('.').to_owned()
    };
    declared.is_object().then(|| ScalePaths {
        wanted: path("specReplicasPath"),
        current: path("statusReplicasPath"),
        selector: path("labelSelectorPath"),
    })
}

/// Adds what every object has.
fn envelope(schema: &mut Value, group: &Value, version: &Value, kind: &Value) {
    schema["properties"]["apiVersion"] =
        json!({"type": "string", "description": "Version of the object's schema."});
    schema["properties"]["kind"] = json!({"type": "string", "description": "Kind of the object."});
    schema["properties"]["metadata"] = inlined::<ObjectMeta>();
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": group, "version": version, "kind": kind}]);
    annotate(schema);
}

/// A schema as objects are checked by it.
///
/// # Panics
/// When the schema says what this server does not honour: no kind may be served with a bound that
/// does not bind.
fn compiled(schema: &Value) -> Schema {
    Schema::compile(schema).unwrap_or_else(|bad| panic!("{bad}"))
}

/// The structural schema of a type: without references, as objects are checked.
fn inlined<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = serde_json::to_value(schema).unwrap_or_default();
    if let Some(members) = schema.as_object_mut() {
        members.remove("title");
    }
    schema
}

/// Says of well-known lists by which of their items' members they merge, which k8s-openapi's
/// schemas leave out, and does not demand metadata: what is missing in it is told by its name.
pub(crate) fn annotate(schema: &mut Value) {
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| field != "metadata");
        if required.is_empty()
            && let Some(schema) = schema.as_object_mut()
        {
            schema.remove("required");
        }
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        for below in ["items", "additionalProperties"] {
            if let Some(below) = schema.get_mut(below).filter(|below| below.is_object()) {
                annotate(below);
            }
        }
        return;
    };
    for (name, property) in properties {
        annotate(property);
        if property["type"] != "array" || !property["x-kubernetes-list-type"].is_null() {
            continue;
        }
        match name.as_str() {
            "finalizers" => property["x-kubernetes-list-type"] = json!("set"),
            "managedFields" => property["x-kubernetes-list-type"] = json!("atomic"),
            "ownerReferences" | "conditions" => {
                let key = if name == "conditions" { "type" } else { "uid" };
                property["x-kubernetes-list-type"] = json!("map");
                property["x-kubernetes-list-map-keys"] = json!([key]);
                property["x-kubernetes-patch-merge-key"] = json!(key);
                if name == "ownerReferences" {
                    property["items"]["x-kubernetes-map-type"] = json!("atomic");
                }
            }
            _ => continue,
        }
        if name != "managedFields" {
            property["x-kubernetes-patch-strategy"] = json!("merge");
        }
    }
}

fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, Vec<FieldError>> {
    T::deserialize(value).map_err(|error| vec![FieldError::invalid("", "object", error)])
}

fn prepare<T: Rules + Serialize + DeserializeOwned>(
    object: &Value,
) -> Result<Value, Vec<FieldError>> {
    let mut parsed: T = parse(object)?;
    parsed.defaults();
    let errors = parsed.validate();
    if errors.is_empty() {
        Ok(reserialized(&parsed))
    } else {
        Err(errors)
    }
}

fn reserialized<T: Serialize>(parsed: &T) -> Value {
    serde_json::to_value(parsed).unwrap_or_default()
}

/// Anybody reads what can be chosen from.
const CLASSES: &[Grant] = &[
    Grant::local("", READS, When::Always),
    Grant::runner("", READS, When::Always),
];

/// Read where local users make environments.
const PROJECTS: &[Grant] = &[Grant::local("", READS, When::In(DEFAULT_NAMESPACE))];

/// All kinds.
#[derive(Clone)]
pub struct Kinds(Arc<Vec<Kind>>);

impl Default for Kinds {
    fn default() -> Self {
        // Schemas and rules are compiled once.
        static KINDS: LazyLock<Kinds> = LazyLock::new(|| {
            let mut kinds = Kinds::ours();
            kinds.extend(core::kinds());
            Kinds(Arc::new(kinds))
        });
        KINDS.clone()
    }
}

impl Kinds {
    /// Registered kinds of our own: to add one, add a line. Without more words it is for
    /// administrators alone; [`Kind::with`] says more of it.
    fn ours() -> Vec<Kind> {
        vec![
            Kind::own::<Environment>().with(&environment::Environments),
            Kind::own::<EnvironmentClass>().with(&Open(CLASSES)),
            Kind::own::<Project>().with(&Open(PROJECTS)),
            Kind::own::<Runner>().with(&runner::Runners),
        ]
    }

    /// All and one more.
    #[cfg(test)]
    pub(crate) fn with<T>() -> Self
    where
        T: CustomResourceExt + Rules + Serialize + DeserializeOwned,
    {
        let mut kinds = Self::ours();
        kinds.extend(core::kinds());
        kinds.push(Kind::own::<T>());
        Self(Arc::new(kinds))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Kind> {
        self.0.iter()
    }

    /// Where one of them is.
    pub(crate) fn number(&self, kind: &Kind) -> usize {
        let same = |known: &Kind| std::ptr::eq(known, kind);
        self.iter().position(same).unwrap_or_default()
    }

    /// The one at a place that [`Self::number`] has told.
    pub(crate) fn numbered(&self, number: usize) -> &Kind {
        &self.0[number]
    }

    /// One by group, version and plural.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Kind> {
        self.iter()
            .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
    }
}

#[cfg(test)]
mod tests;
