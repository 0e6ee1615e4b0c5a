//! Kinds of Kubernetes's own groups: namespaces, events, leases.
//!
//! Types, schemas and descriptions are k8s-openapi's; what the server adds to them is in
//! `namespace` and `event`. Strategic merge patches are taken, since clients send them for these kinds.

use super::behaviour::{Grant, Open, Private, When};
use super::event::Events;
use super::namespace::Namespaces;
use super::{Column, Kind, compiled, envelope, inlined, parse, reserialized};
use boatyard_api::rules::FieldError;
use boatyard_api::words::NAMESPACE_RUNNERS;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// Each runner proves that it is alive by its own.
const LEASES: &[Grant] = &[Grant::runner(
    "",
    &["get", "create", "update", "patch"],
    When::NamedIn(NAMESPACE_RUNNERS),
)];

/// All of them.
pub(super) fn kinds() -> Vec<Kind> {
    let namespace = Kind {
        has_status: true,
        short_names: vec!["ns".to_owned()],
        columns: columns(&[
            ("Status", "string", "status.phase", 0),
            ("Age", "date", "metadata.creationTimestamp", 0),
        ]),
        selectable: vec!["status.phase".to_owned()],
        samples: || {
            let namespace =
                |purpose: &str| json!({"metadata": {"annotations": {"purpose": purpose}}});
            let mut samples = ["boats", "ships"].map(namespace);
            samples[1]["status"] =
                json!({"phase": "Active", "conditions": [{"type": "Seen", "status": "True"}]});
            samples
        },
        ..kind::<Namespace>("", "Namespace", "namespaces", false)
    };
    let lease = Kind {
        columns: columns(&[
            ("Holder", "string", "spec.holderIdentity", 0),
            ("Age", "date", "metadata.creationTimestamp", 0),
        ]),
        samples: || {
            ["one", "other"].map(|holder| json!({"metadata": {}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}}))
        },
        ..kind::<Lease>("coordination.k8s.io", "Lease", "leases", true)
    };
    let selectable = [
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.fieldPath",
        "involvedObject.resourceVersion",
        "reason",
        "reportingComponent",
        "type",
    ];
    let event = Kind {
        short_names: vec!["ev".to_owned()],
        columns: columns(&[
            (
                "Last Seen",
                "date",
                "series.lastObservedTime|lastTimestamp|eventTime|firstTimestamp|metadata.creationTimestamp",
                0,
            ),
            ("Type", "string", "type", 0),
            ("Reason", "string", "reason", 0),
            ("Object", "reference", "involvedObject", 0),
            ("Subobject", "string", "involvedObject.fieldPath", 1),
            ("Source", "string", "source.component|reportingComponent", 1),
            ("Message", "string", "message", 0),
            (
                "First Seen",
                "date",
                "firstTimestamp|eventTime|metadata.creationTimestamp",
                1,
            ),
            ("Count", "integer", "series.count|count", 1),
            ("Name", "string", "metadata.name", 1),
        ]),
        selectable: selectable.map(str::to_owned).to_vec(),
        samples: || {
            let about = json!({"kind": "Environment", "apiVersion": "boatyard.dev/v1", "name": "hull", "namespace": "default"});
            [1, 2].map(|count| json!({"metadata": {}, "involvedObject": about, "reason": "Started", "message": "The environment runs.", "type": "Normal", "count": count}))
        },
        ..kind::<Event>("", "Event", "events", true)
    };
    vec![
        namespace.with(&Namespaces),
        event.with(&Events),
        lease.with(&Open(LEASES)),
    ]
}

fn kind<T: Serialize + DeserializeOwned + JsonSchema>(
    group: &str,
    kind: &str,
    plural: &str,
    namespaced: bool,
) -> Kind {
    let mut schema = inlined::<T>();
    envelope(&mut schema, &group.into(), &"v1".into(), &kind.into());
    Kind {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        singular: kind.to_ascii_lowercase(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced,
        has_status: false,
        scale: None,
        strategic: true,
        columns: Vec::new(),
        selectable: Vec::new(),
        structure: compiled(&schema),
        schema,
        definition: Some(|generator| generator.subschema_for::<T>()),
        merging: OnceLock::new(),
        samples: || [Value::Null, Value::Null],
        prepare: prepare::<T>,
        behaviour: &Private,
    }
}

fn prepare<T: Serialize + DeserializeOwned>(object: &Value) -> Result<Value, Vec<FieldError>> {
    let parsed: T = parse(object)?;
    Ok(reserialized(&parsed))
}

/// Heading, type, paths of which the first with a value counts, priority.
fn columns(columns: &[(&str, &str, &str, i64)]) -> Vec<Column> {
    let columns = columns.iter();
    let columns =
        columns.map(|(name, kind, paths, priority)| Column::new(name, kind, paths, *priority));
    columns.collect()
}
