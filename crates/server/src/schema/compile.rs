//! From a schema's JSON to what objects are checked by.
//!
//! Done once per kind, at start. A schema that says what this server does not honour is refused,
//! so that no bound is believed in vain.

use super::format::Format;
use super::rules::Rule;
use super::{Bound, List, Schema, Type};
use regex::Regex;
use serde_json::{Map, Value};

/// Why a schema cannot be honoured.
#[derive(Debug, thiserror::Error)]
#[error("the schema at {path:?} cannot be honoured: {why}")]
pub(crate) struct Bad {
    path: String,
    why: String,
}

/// What is read but bounds nothing.
const SAID: [&str; 10] = [
    "description",
    "title",
    "example",
    "externalDocs",
    "x-kubernetes-group-version-kind",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-patch-merge-key",
    "x-kubernetes-patch-strategy",
];

impl Schema {
    /// Compiles a structural schema.
    ///
    /// # Errors
    /// When it says something that would not be honoured.
    pub(crate) fn compile(json: &Value) -> Result<Self, Bad> {
        compile(json, "", true)
    }
}

fn compile(json: &Value, path: &str, correlated: bool) -> Result<Schema, Bad> {
    let bad = |why: String| Bad {
        path: path.to_owned(),
        why,
    };
    let members = match json {
        Value::Object(members) => members,
        Value::Bool(true) => {
            return Ok(Schema {
                open: true,
                nullable: true,
                ..Schema::default()
            });
        }
        other => return Err(bad(format!("{other} is no schema"))),
    };
    let mut schema = Schema {
        list: list(members).map_err(bad)?,
        ..Schema::default()
    };
    let correlated_items = correlated && matches!(schema.list, List::Map(_));
    for (keyword, value) in members {
        let below = |field: &str| format!("{path}.{field}");
        match keyword.as_str() {
            "type" => schema.kind = Some(kind(value).map_err(bad)?),
            "nullable" => schema.nullable = value == true,
            "x-kubernetes-int-or-string" => schema.int_or_string = value == true,
            "x-kubernetes-preserve-unknown-fields" => schema.open = value == true,
            "enum" => schema.allowed = value.as_array().cloned(),
            // A format nobody knows says nothing, as in JSON schema.
            "format" => schema.format = value.as_str().and_then(Format::parse),
            "minimum" => schema.minimum = bound(members, value, "exclusiveMinimum"),
            "maximum" => schema.maximum = bound(members, value, "exclusiveMaximum"),
            "multipleOf" => schema.multiple_of = value.as_f64(),
            "minLength" | "minItems" | "minProperties" => schema.least = size(value),
            "maxLength" | "maxItems" | "maxProperties" => schema.most = size(value),
            "pattern" => {
                let pattern = Regex::new(value.as_str().unwrap_or_default());
                schema.pattern = Some(pattern.map_err(|error| bad(error.to_string()))?);
            }
            "uniqueItems" if schema.list == List::Atomic && value == true => {
                schema.list = List::Set;
            }
            "uniqueItems" => {}
            "items" => {
                let items = compile(value, &below("items"), correlated_items)?;
                schema.items = Some(Box::new(items));
            }
            "properties" => {
                for (name, property) in value.as_object().into_iter().flatten() {
                    let property = compile(property, &below(name), correlated)?;
                    schema.properties.insert(name.clone(), property);
                }
            }
            "required" => {
                let names = value.as_array().into_iter().flatten();
                schema.required = names.filter_map(Value::as_str).map(str::to_owned).collect();
            }
            "additionalProperties" if value == false => {}
            "additionalProperties" => {
                let additional = compile(value, &below("additionalProperties"), correlated)?;
                schema.additional = Some(Box::new(additional));
            }
            "default" => schema.default = Some(value.clone()),
            "allOf" | "anyOf" | "oneOf" => {
                let list = value.as_array().into_iter().flatten();
                let list = list.map(|one| compile(one, &below(keyword), false));
                let list = list.collect::<Result<Vec<_>, _>>()?;
                match keyword.as_str() {
                    "allOf" => schema.all_of = list,
                    "anyOf" => schema.any_of = list,
                    _ => schema.one_of = list,
                }
            }
            "not" => schema.not = Some(Box::new(compile(value, &below("not"), false)?)),
            "x-kubernetes-validations" => {
                let rules = value.as_array().into_iter().flatten();
                let rules = rules.map(|rule| Rule::compile(rule, correlated));
                schema.rules = rules.collect::<Result<_, _>>().map_err(bad)?;
            }
            "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => {}
            said if SAID.contains(&said) => {}
            other => return Err(bad(format!("the keyword {other} is not known"))),
        }
    }
    // One that says nothing of its members takes any.
    let says = |keyword| members.contains_key(keyword);
    schema.open |= !says("properties") && !says("additionalProperties");
    if schema.nullable
        && let Some(allowed) = &mut schema.allowed
    {
        allowed.retain(|value| !value.is_null());
    }
    let below = schema.properties.values();
    let below = below.chain(schema.items.as_deref());
    let below = below.chain(schema.additional.as_deref());
    schema.ruled = !schema.rules.is_empty() || below.into_iter().any(|schema| schema.ruled);
    Ok(schema)
}

fn kind(value: &Value) -> Result<Type, String> {
    Ok(match value.as_str().unwrap_or_default() {
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        _ => return Err(format!("{value} is no type")),
    })
}

fn list(members: &Map<String, Value>) -> Result<List, String> {
    let word = members
        .get("x-kubernetes-list-type")
        .and_then(Value::as_str);
    Ok(match word {
        None | Some("atomic") => List::Atomic,
        Some("set") => List::Set,
        Some("map") => {
            let keys = members
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array);
            let keys = keys.into_iter().flatten().filter_map(Value::as_str);
            List::Map(keys.map(str::to_owned).collect())
        }
        Some(other) => return Err(format!("{other} is no type of list")),
    })
}

/// OpenAPI v3.0 has `exclusiveMinimum: true`, later JSON schemas the bound itself.
fn bound(members: &Map<String, Value>, value: &Value, exclusive: &str) -> Option<Bound> {
    let exclusive = members.get(exclusive).is_some_and(|value| value == true);
    value.as_f64().map(|value| Bound { value, exclusive })
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|size| usize::try_from(size).ok())
}
