//! Objects as a Table: what kubectl and our own `ls` print.
//!
//! Columns and their paths are the kinds'; a kind whose columns name it itself, as events do, has
//! no name in front.

use crate::kinds::{Column, Kind, Path};
use crate::stored::Outline;
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
pub(crate) fn partial(mut object: Value) -> Value {
    let metadata = object["metadata"].take();
    let mut partial = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"});
    partial["metadata"] = metadata;
    partial
}

/// A Table of `objects`; `headed` is false for all but the first event of a watch.
pub(crate) fn table(
    kind: &Kind,
    objects: Vec<Value>,
    metadata: &Value,
    now: Timestamp,
    headed: bool,
    rows: Rows,
) -> Value {
    let mut table = headings(kind, metadata);
    if !headed {
        table["columnDefinitions"] = json!([]);
    }
    let shown = objects
        .into_iter()
        .map(|object| row(kind, object, now, rows));
    table["rows"] = shown.collect();
    table
}

/// A Table without its rows.
pub(crate) fn headings(kind: &Kind, metadata: &Value) -> Value {
    let mut columns = Vec::new();
    if !names_itself(kind) {
        columns.push(json!({"name": "Name", "type": "string", "format": "name", "description": "Name of the object.", "priority": 0}));
    }
    columns.extend(kind.columns.iter().map(|column| {
        let shown = match column.kind.as_str() {
            // Told as an age, and as a name.
            "date" | "reference" => "string",
            kind => kind,
        };
        let format = if column.name == "Name" { "name" } else { "" };
        json!({"name": column.name, "type": shown, "format": format, "description": column.name, "priority": column.priority})
    }));
    if kind.columns.is_empty() {
        columns.push(json!({"name": "Age", "type": "string", "format": "", "description": "Age", "priority": 0}));
    }
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns})
}

/// What a kind's rows are made of.
pub(crate) fn read_by(kind: &Kind, rows: Rows) -> Outline {
    let always = match rows {
        // The whole object.
        Rows::Object => return Outline::default(),
        Rows::Metadata => ["metadata", "metadata"],
        Rows::None => ["metadata.name", "metadata.creationTimestamp"],
    };
    let paths = kind.columns.iter().flat_map(|column| &column.paths);
    let paths: Option<Vec<String>> = paths.map(Path::members).collect();
    match paths {
        // One that begins with no member reads the whole object.
        None => Outline::default(),
        Some(paths) => Outline::of(paths.iter().map(String::as_str).chain(always)),
    }
}

/// Whether one of the kind's own columns is the name, which is the first of all others.
fn names_itself(kind: &Kind) -> bool {
    kind.columns.iter().any(|column| column.name == "Name")
}

/// The row of an object, of which what [`read_by`] says is enough.
pub(crate) fn row(kind: &Kind, object: Value, now: Timestamp, rows: Rows) -> Value {
    let mut cells = Vec::with_capacity(kind.columns.len() + 1);
    if !names_itself(kind) {
        cells.push(object["metadata"]["name"].clone());
    }
    cells.extend(kind.columns.iter().map(|column| cell(column, &object, now)));
    if kind.columns.is_empty() {
        cells.push(age(&object["metadata"]["creationTimestamp"], now));
    }
    let carried = match rows {
        Rows::None => Value::Null,
        Rows::Metadata => partial(object),
        Rows::Object => object,
    };
    json!({"cells": cells, "object": carried})
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let mut found = column.paths.iter().map(|path| path.values(object));
    let found = found.find(|values| !values.is_empty()).unwrap_or_default();
    match (found.as_slice(), column.kind.as_str()) {
        ([], "date") => json!("<unknown>"),
        ([], "string" | "reference") => json!(""),
        ([], _) => Value::Null,
        ([first, ..], "date") => age(first, now),
        ([first, ..], "reference") => {
            let text = |member: &str| first[member].as_str().unwrap_or_default();
            json!(format!("{}/{}", text("kind").to_lowercase(), text("name")))
        }
        (all, "string") => {
            let texts = all.iter().map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            json!(texts.collect::<Vec<_>>().join(","))
        }
        ([first, ..], _) => (*first).clone(),
    }
}

/// `5s`, `3m4s`, `2h`, `2d3h`, `4d`: the short form kubectl uses.
fn age(value: &Value, now: Timestamp) -> Value {
    let Some(then) = value
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok())
    else {
        return json!("<unknown>");
    };
    let seconds = now.duration_since(then).as_secs().max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / (24 * 365));
    // The larger unit, and the smaller while it matters.
    let both = |large: i64, one: char, small: i64, other: char| match small {
        0 => format!("{large}{one}"),
        _ => format!("{large}{one}{small}{other}"),
    };
    json!(match (minutes, hours, days, years) {
        (0..2, ..) => format!("{seconds}s"),
        (2..10, ..) => both(minutes, 'm', seconds % 60, 's'),
        (10..180, ..) => format!("{minutes}m"),
        (_, 0..8, ..) => both(hours, 'h', minutes % 60, 'm'),
        (_, 8..48, ..) => format!("{hours}h"),
        (_, _, 0..8, _) => both(days, 'd', hours % 24, 'h'),
        (_, _, _, 0..2) => format!("{days}d"),
        (_, _, _, 2..8) => both(years, 'y', days % 365, 'd'),
        _ => format!("{years}y"),
    })
}

#[cfg(test)]
mod tests;
