//! Checking an object against its kind's structural schema.
//!
//! One walk finds both what is wrong (types, required fields, enumerations, bounds) and which
//! fields are unknown; what to do about unknown ones is `fieldValidation`'s. Schemas come from the
//! Rust types through kube's derive and are in OpenAPI v3's structural form: no references, no
//! recursion, so the walk is bounded by the object.

use boatyard_api::rules::{FieldError, Reason};
use serde_json::Value;

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<FieldError>,
    /// Paths of fields that the schema does not know.
    pub(crate) unknown: Vec<String>,
}

/// Most findings reported for one object.
const MOST: usize = 20;

/// Checks `value` and removes unknown fields from it.
pub(crate) fn check(schema: &Value, value: &mut Value) -> Findings {
    let mut findings = Findings::default();
    walk(schema, value, "", &mut findings);
    findings.errors.truncate(MOST);
    findings.unknown.truncate(MOST);
    findings
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn fits(wanted: &str, value: &Value, schema: &Value) -> bool {
    let found = kind_of(value);
    wanted == found
        || (wanted == "number" && found == "integer")
        || (found == "null" && schema["nullable"] == true)
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    }
}

/// Whether a value of the right type has a format, where this server knows it.
fn formed(format: &str, value: &Value) -> bool {
    let between = |least: i64, most: u64| match (value.as_u64(), value.as_i64()) {
        (Some(found), _) => found <= most,
        (None, Some(found)) => found >= least,
        (None, None) => false,
    };
    match (format, value) {
        (_, Value::Null) => true,
        ("date-time", Value::String(text)) => text.parse::<jiff::Timestamp>().is_ok(),
        ("int32", Value::Number(_)) => between(i32::MIN.into(), 0x7fff_ffff),
        ("int64", Value::Number(_)) => value.is_i64(),
        ("uint8", Value::Number(_)) => between(0, 0xff),
        ("uint16", Value::Number(_)) => between(0, 0xffff),
        ("uint32", Value::Number(_)) => between(0, 0xffff_ffff),
        ("uint64", Value::Number(_)) => value.is_u64(),
        _ => true,
    }
}

fn walk(schema: &Value, value: &mut Value, path: &str, findings: &mut Findings) {
    let mut wrong = |reason: Reason, message: String| {
        if findings.errors.len() < MOST {
            findings.errors.push(FieldError {
                path: path.to_owned(),
                reason,
                message,
            });
        }
    };
    if schema["x-kubernetes-int-or-string"] == true {
        if !matches!(kind_of(value), "string" | "integer") {
            wrong(
                Reason::Invalid,
                format!("expected a string or an integer, found {}", kind_of(value)),
            );
        }
        return;
    }
    if let Some(wanted) = schema["type"].as_str()
        && !fits(wanted, value, schema)
    {
        return wrong(
            Reason::Invalid,
            format!("expected {wanted}, found {}", kind_of(value)),
        );
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !value.is_null()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed
            .iter()
            .filter(|value| !value.is_null())
            .map(ToString::to_string)
            .collect();
        return wrong(
            Reason::NotSupported,
            format!(
                "{value} is not supported; supported: {}",
                allowed.join(", ")
            ),
        );
    }
    if let Some(format) = schema["format"].as_str()
        && !formed(format, value)
    {
        return wrong(Reason::Invalid, format!("{value} is no {format}"));
    }
    if let (Some(least), Some(found)) = (schema["minimum"].as_f64(), value.as_f64())
        && found < least
    {
        wrong(Reason::Invalid, format!("{value} is less than {least}"));
    }
    if let (Some(most), Some(found)) = (schema["maximum"].as_f64(), value.as_f64())
        && found > most
    {
        wrong(Reason::Invalid, format!("{value} is more than {most}"));
    }
    match value {
        Value::Object(fields) => {
            for required in schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                let absent = fields.get(required).is_none_or(|field| {
                    field.is_null() && schema["properties"][required]["nullable"] != true
                });
                if absent && findings.errors.len() < MOST {
                    let path = join(path, required);
                    findings.errors.push(FieldError {
                        path,
                        reason: Reason::Required,
                        message: "required".to_owned(),
                    });
                }
            }
            let properties = schema["properties"].as_object();
            let additional = &schema["additionalProperties"];
            let open = schema["x-kubernetes-preserve-unknown-fields"] == true
                || (properties.is_none() && additional.is_null())
                || *additional == true;
            fields.retain(|name, field| {
                let below = join(path, name);
                if let Some(schema) = properties.and_then(|properties| properties.get(name)) {
                    // A null for an optional field is as if it were not there.
                    if field.is_null() && schema["nullable"] != true {
                        return false;
                    }
                    walk(schema, field, &below, findings);
                } else if additional.is_object() {
                    walk(additional, field, &below, findings);
                } else if !open {
                    findings.unknown.push(below);
                    return false;
                }
                true
            });
        }
        Value::Array(items) => {
            for (number, item) in items.iter_mut().enumerate() {
                walk(
                    &schema["items"],
                    item,
                    &format!("{path}[{number}]"),
                    findings,
                );
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    //! Findings by table.
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_are_named_and_removed_and_wrong_ones_explained() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "string", "enum": ["x", "y"]}, "n": {"type": "integer", "minimum": 1},
            "m": {"type": "object", "additionalProperties": {"type": "string"}}, "l": {"type": "array", "items": {"type": "object", "properties": {}, "additionalProperties": false}}}});
        let mut value = json!({"a": "z", "n": 0, "m": {"k": 1}, "u": 1, "l": [{"q": 1}]});
        let found = check(&schema, &mut value);
        let paths: Vec<&str> = found
            .errors
            .iter()
            .map(|error| error.path.as_str())
            .collect();
        assert_eq!(paths, ["a", "m.k", "n"]);
        assert_eq!(found.unknown, ["l[0].q", "u"]);
        assert!(value.get("u").is_none());
        assert_eq!(check(&schema, &mut json!({})).errors[0].message, "required");
    }
}
