//! OpenAPI 2 from OpenAPI 3: what clients read that are older than version 3.
//!
//! Less can be said in it: of alternatives the first counts, and null is not told apart from
//! absent. Types of nullable fields stay, so that old clients explain and check what is in them.

use super::SCHEMAS;
use serde_json::{Map, Value, json};

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// The whole document.
pub(super) fn document(v3: &Value) -> Value {
    let each = |members: &Value, change: fn(&Value) -> Value| -> Map<String, Value> {
        let members = members.as_object().into_iter().flatten();
        members
            .map(|(name, value)| (name.clone(), change(value)))
            .collect()
    };
    json!({
        "swagger": "2.0",
        "info": v3["info"],
        "paths": each(&v3["paths"], path),
        "definitions": each(&v3["components"]["schemas"], schema),
        "securityDefinitions": v3["components"]["securitySchemes"],
        "security": v3["security"],
    })
}

fn path(v3: &Value) -> Value {
    let mut path = Map::new();
    if let Some(parameters) = v3["parameters"].as_array() {
        let parameters = parameters.iter().map(parameter).collect();
        path.insert("parameters".to_owned(), parameters);
    }
    for method in METHODS {
        if let Some(found) = v3.get(method) {
            path.insert(method.to_owned(), operation(found));
        }
    }
    path.into()
}

fn operation(v3: &Value) -> Value {
    let mut operation = v3.clone();
    let parameters = v3["parameters"].as_array().into_iter().flatten();
    let mut parameters: Vec<Value> = parameters.map(parameter).collect();
    let body = operation
        .as_object_mut()
        .and_then(|members| members.remove("requestBody"));
    if let Some(body) = body {
        operation["consumes"] = media(&body);
        parameters.push(json!({"name": "body", "in": "body", "required": body["required"] == true, "schema": one(&body)}));
    }
    operation["parameters"] = parameters.into();
    for response in operation["responses"]
        .as_object_mut()
        .into_iter()
        .flat_map(Map::values_mut)
    {
        let mut plain = json!({"description": response["description"]});
        if response["content"].is_object() {
            plain["schema"] = one(response);
        }
        *response = plain;
    }
    let answers = v3["responses"].as_object().into_iter().flatten();
    let answered = answers
        .map(|(_, response)| response)
        .find(|response| response["content"].is_object());
    operation["produces"] = answered.map_or_else(|| json!([]), media);
    operation
}

/// Media types of a body.
fn media(body: &Value) -> Value {
    let content = body["content"].as_object().into_iter().flatten();
    content
        .map(|(media, _)| Value::from(media.as_str()))
        .collect()
}

/// The one schema that stands for a body's schemas.
fn one(body: &Value) -> Value {
    let content = body["content"].as_object().into_iter().flatten();
    content
        .map(|(_, content)| schema(&content["schema"]))
        .next()
        .unwrap_or_default()
}

fn parameter(v3: &Value) -> Value {
    let mut parameter = v3.clone();
    let schema = parameter
        .as_object_mut()
        .and_then(|members| members.remove("schema"));
    if let (Some(Value::Object(schema)), Some(members)) = (schema, parameter.as_object_mut()) {
        members.extend(schema);
    }
    parameter
}

fn schema(v3: &Value) -> Value {
    let Value::Object(members) = v3 else {
        return v3.clone();
    };
    let mut plain = Map::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("nullable", _) => {}
            ("$ref", Value::String(reference)) => {
                let name = reference.strip_prefix(SCHEMAS).unwrap_or(reference);
                plain.insert("$ref".to_owned(), format!("#/definitions/{name}").into());
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(alternatives)) => {
                if let Some(Value::Object(first)) = alternatives.first().map(schema) {
                    plain.extend(first);
                }
            }
            ("properties", Value::Object(properties)) => {
                let properties = properties.iter();
                let properties = properties.map(|(name, below)| (name.clone(), schema(below)));
                plain.insert(name.clone(), Value::Object(properties.collect()));
            }
            ("items" | "additionalProperties" | "not", below) => {
                plain.insert(name.clone(), schema(below));
            }
            _ => {
                plain.insert(name.clone(), value.clone());
            }
        }
    }
    plain.into()
}
