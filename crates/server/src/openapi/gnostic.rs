//! OpenAPI 2 as protobuf: the message `openapi.v2.Document` of gnostic, which kubectl up to 1.26
//! and client-go ask for.
//!
//! A document is written by tables of its messages' fields. Of the messages only the fields are
//! here that our documents have; members that no table knows are left out. Field numbers are those
//! of gnostic's OpenAPIv2.proto, which never change.

use serde_json::{Map, Value};

/// Fields of a message, and the number of its list of `x-` members.
struct Message {
    fields: &'static [(&'static str, u32, Type)],
    extensions: u32,
}

#[derive(Clone, Copy)]
enum Type {
    Text,
    Texts,
    Flag,
    Double,
    Count,
    /// YAML text in a message of its own.
    Any,
    Anys,
    One(&'static Message),
    /// A message around one other, which is its first field.
    Boxed(&'static Message),
    /// A message with a list of names and values, in the field of this number.
    Map(u32, &'static Message),
    /// A map in field 1, each value in the field of this number of a message around it.
    BoxedMap(u32, &'static Message),
    Parameters,
    /// A schema, or whether anything is allowed.
    Additional,
    /// Texts, in a message around them.
    Word,
    /// Lists of scopes by name, in a list of messages.
    Requirements,
}

use Type::{
    Additional, Any, Anys, Boxed, BoxedMap, Count, Double, Flag, One, Parameters, Requirements,
    Text, Texts, Word,
};

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, One(&INFO)),
        ("paths", 8, Type::Map(2, &PATH)),
        ("definitions", 9, Type::Map(1, &SCHEMA)),
        ("security", 12, Requirements),
        ("securityDefinitions", 13, BoxedMap(2, &API_KEY)),
    ],
    extensions: 16,
};
static INFO: Message = Message {
    fields: &[("title", 1, Text), ("version", 2, Text)],
    extensions: 7,
};
static PATH: Message = Message {
    fields: &[
        ("get", 2, One(&OPERATION)),
        ("put", 3, One(&OPERATION)),
        ("post", 4, One(&OPERATION)),
        ("delete", 5, One(&OPERATION)),
        ("patch", 8, One(&OPERATION)),
        ("parameters", 9, Parameters),
    ],
    extensions: 10,
};
static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Texts),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Parameters),
        ("responses", 9, BoxedMap(1, &RESPONSE)),
    ],
    extensions: 13,
};
static RESPONSE: Message = Message {
    fields: &[("description", 1, Text), ("schema", 2, Boxed(&SCHEMA))],
    extensions: 5,
};
static BODY: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, One(&SCHEMA)),
    ],
    extensions: 6,
};
static IN_QUERY: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 6, Text),
        ("format", 7, Text),
        ("minimum", 13, Double),
        ("maxLength", 15, Count),
        ("enum", 21, Anys),
    ],
    extensions: 23,
};
static IN_PATH: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
    ],
    extensions: 22,
};
static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("maximum", 7, Double),
        ("minimum", 9, Double),
        ("maxLength", 11, Count),
        ("minLength", 12, Count),
        ("pattern", 13, Text),
        ("maxItems", 14, Count),
        ("minItems", 15, Count),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Count),
        ("minProperties", 18, Count),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, Additional),
        ("type", 22, Word),
        ("items", 23, Boxed(&SCHEMA)),
        ("properties", 25, Type::Map(1, &SCHEMA)),
        ("example", 30, Any),
    ],
    extensions: 31,
};
static API_KEY: Message = Message {
    fields: &[
        ("type", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("description", 4, Text),
    ],
    extensions: 5,
};

/// Writes a document.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    message(&DOCUMENT, document)
}

fn message(known: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(members) = value.as_object() else {
        return out;
    };
    for (name, number, kind) in known.fields {
        if let Some(value) = members.get(*name) {
            field(&mut out, *number, *kind, value);
        }
    }
    for (name, value) in members.iter().filter(|(name, _)| name.starts_with("x-")) {
        bytes(&mut out, known.extensions, &named(name, &any(value)));
    }
    out
}

fn field(out: &mut Vec<u8>, number: u32, kind: Type, value: &Value) {
    match kind {
        Text => {
            if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
                bytes(out, number, text.as_bytes());
            }
        }
        Texts => {
            for text in value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                bytes(out, number, text.as_bytes());
            }
        }
        Flag => {
            if value == true {
                tag(out, number, 0);
                varint(out, 1);
            }
        }
        Double => {
            if let Some(found) = value.as_f64() {
                tag(out, number, 1);
                out.extend(found.to_le_bytes());
            }
        }
        Count => {
            if let Some(found) = value.as_u64() {
                tag(out, number, 0);
                varint(out, found);
            }
        }
        Any => bytes(out, number, &any(value)),
        Anys => {
            for value in value.as_array().into_iter().flatten() {
                bytes(out, number, &any(value));
            }
        }
        One(known) => bytes(out, number, &message(known, value)),
        Boxed(known) => bytes(out, number, &boxed(1, &message(known, value))),
        Type::Map(inner, known) => {
            let map = map(inner, value, |value| message(known, value));
            bytes(out, number, &map);
        }
        BoxedMap(place, known) => {
            let map = map(1, value, |value| boxed(place, &message(known, value)));
            bytes(out, number, &map);
        }
        Parameters => {
            for value in value.as_array().into_iter().flatten() {
                bytes(out, number, &parameter(value));
            }
        }
        Additional => {
            let item = match value {
                Value::Bool(allowed) => {
                    let mut item = Vec::new();
                    tag(&mut item, 2, 0);
                    varint(&mut item, u64::from(*allowed));
                    item
                }
                schema => boxed(1, &message(&SCHEMA, schema)),
            };
            bytes(out, number, &item);
        }
        Word => {
            if let Some(text) = value.as_str() {
                bytes(out, number, &boxed(1, text.as_bytes()));
            }
        }
        Requirements => {
            for requirement in value.as_array().into_iter().flatten() {
                let scopes = |value: &Value| {
                    let mut list = Vec::new();
                    field(&mut list, 1, Texts, value);
                    list
                };
                bytes(out, number, &map(1, requirement, scopes));
            }
        }
    }
}

/// A parameter, in the messages of the forms it may have.
fn parameter(value: &Value) -> Vec<u8> {
    let inner = match value["in"].as_str() {
        Some("body") => boxed(1, &message(&BODY, value)),
        Some("path") => boxed(2, &boxed(4, &message(&IN_PATH, value))),
        _ => boxed(2, &boxed(3, &message(&IN_QUERY, value))),
    };
    boxed(1, &inner)
}

fn map(number: u32, value: &Value, write: impl Fn(&Value) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in value.as_object().into_iter().flat_map(Map::iter) {
        bytes(&mut out, number, &named(name, &write(value)));
    }
    out
}

fn named(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = boxed(1, name.as_bytes());
    bytes(&mut out, 2, value);
    out
}

/// JSON is YAML.
fn any(value: &Value) -> Vec<u8> {
    boxed(2, value.to_string().as_bytes())
}

fn boxed(number: u32, inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, number, inner);
    out
}

fn bytes(out: &mut Vec<u8>, number: u32, inner: &[u8]) {
    tag(out, number, 2);
    varint(out, u64::try_from(inner.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(inner);
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    varint(out, u64::from(number << 3 | wire));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = (value & 0x7f).to_le_bytes();
        value >>= 7;
        out.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return;
        }
    }
}
