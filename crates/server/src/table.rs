//! Objects as a Table: what kubectl and our own `ls` print.

use crate::kinds::{Column, Kind};
use crate::selectors::lookup;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What rows carry of their objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    None,
    Metadata,
    Object,
}

/// An object's metadata alone.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// A Table of `objects`; `headed` is false for all but the first event of a watch.
pub(crate) fn table(
    kind: &Kind,
    objects: &[Value],
    metadata: &Value,
    now: Timestamp,
    headed: bool,
    rows: Rows,
) -> Value {
    let mut columns = vec![
        json!({"name": "Name", "type": "string", "format": "name", "description": "Name of the object.", "priority": 0}),
    ];
    columns.extend(kind.columns.iter().map(|column| {
        let shown = if column.kind == "date" { "string" } else { &column.kind };
        json!({"name": column.name, "type": shown, "format": "", "description": column.name, "priority": column.priority})
    }));
    if kind.columns.is_empty() {
        columns.push(json!({"name": "Age", "type": "string", "format": "", "description": "Age", "priority": 0}));
    }
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| row(kind, object, now, rows))
        .collect();
    let columns = if headed { columns } else { Vec::new() };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
}

fn row(kind: &Kind, object: &Value, now: Timestamp, rows: Rows) -> Value {
    let mut cells = vec![object["metadata"]["name"].clone()];
    cells.extend(kind.columns.iter().map(|column| cell(column, object, now)));
    if kind.columns.is_empty() {
        cells.push(age(&object["metadata"]["creationTimestamp"], now));
    }
    let carried = match rows {
        Rows::None => Value::Null,
        Rows::Metadata => partial(object),
        Rows::Object => object.clone(),
    };
    json!({"cells": cells, "object": carried})
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let value = column
        .paths
        .iter()
        .map(|path| lookup(object, path))
        .find(|value| !value.is_null());
    match (value, column.kind.as_str()) {
        (None, "date") => json!("<unknown>"),
        (None, "string") => json!(""),
        (None, _) => Value::Null,
        (Some(value), "date") => age(value, now),
        (Some(value), "string") if !value.is_string() => json!(value.to_string()),
        (Some(value), _) => value.clone(),
    }
}

/// `5s`, `3m4s`, `2h`, `4d`: the short form kubectl uses.
fn age(value: &Value, now: Timestamp) -> Value {
    let Some(then) = value
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok())
    else {
        return json!("<unknown>");
    };
    let seconds = now.duration_since(then).as_secs().max(0);
    json!(match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{}m{}s", seconds / 60, seconds % 60),
        120..10_800 => format!("{}m", seconds / 60),
        10_800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    })
}
