//! Bodies of requests: read once into JSON, within bounds.
//!
//! Owns the declared type (JSON, YAML, and protobuf for the few kinds `protobuf` reads), the depth,
//! what YAML aliases may expand to, and members given twice, which serde_json would drop silently.
//! What is in a body is `schema`'s. Refusing costs no more than reading the body did.

use crate::failure::Failure;
use http::{HeaderMap, header};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;

/// Deepest JSON or YAML a client may send.
const DEEPEST: usize = 64;
/// Most values and bytes of text in one body once YAML's aliases are written out.
const MOST_VALUES: usize = 1_000_000;
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Most members given twice that are reported.
const MOST_DUPLICATES: usize = 20;

/// Of a configuration to apply; YAML, and so JSON too.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// A body as JSON.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) value: Value,
    /// Paths of members given more than once; the last one counts.
    pub(crate) duplicates: Vec<String>,
}

/// The declared type, without its parameters; JSON when there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match declared.split(';').next().unwrap_or_default().trim() {
        "" => "application/json",
        media => media,
    }
}

/// Parses a body of the declared type.
pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Parsed, Failure> {
    match media_type(headers) {
        crate::protobuf::MEDIA_TYPE => Ok(Parsed {
            value: crate::protobuf::decode(body)?,
            duplicates: Vec::new(),
        }),
        "application/yaml" | "application/x-yaml" | APPLY => {
            let text = text(body)?;
            // Clients send JSON as YAML: it is read as what it is, where it is.
            if text.trim_start().starts_with('{') {
                let mut deserializer = serde_json::Deserializer::from_str(text);
                if let Ok(parsed) = read("JSON", &mut deserializer)
                    && deserializer.end().is_ok()
                {
                    return Ok(parsed);
                }
            }
            check_flow(text)?;
            read("YAML", serde_norway::Deserializer::from_str(text))
        }
        "application/json"
        | "application/merge-patch+json"
        | "application/strategic-merge-patch+json"
        | "application/json-patch+json" => {
            let mut deserializer = serde_json::Deserializer::from_str(text(body)?);
            let parsed = read("JSON", &mut deserializer)?;
            deserializer
                .end()
                .map_err(|error| malformed("JSON", error))?;
            Ok(parsed)
        }
        other => Err(Failure::media_type(
            other,
            "application/json or application/yaml",
        )),
    }
}

fn text(body: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(body).map_err(|_| Failure::bad_request("the body is not UTF-8"))
}

fn malformed(what: &str, error: impl fmt::Display) -> Failure {
    Failure::bad_request(format!("the body is not {what}: {error}"))
}

/// The YAML scanner's time grows with the square of the brackets open at once: bound them first.
fn check_flow(text: &str) -> Result<(), Failure> {
    let mut open = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > 16 * DEEPEST {
            return Err(too_deep());
        }
    }
    Ok(())
}

fn too_deep() -> Failure {
    Failure::bad_request(format!("the body is nested deeper than {DEEPEST} levels"))
}

fn read<'de, D: Deserializer<'de>>(what: &str, deserializer: D) -> Result<Parsed, Failure> {
    let state = RefCell::default();
    let value = Reader {
        state: &state,
        depth: 0,
        at: None,
    }
    .deserialize(deserializer)
    .map_err(|error| malformed(what, error))?;
    Ok(Parsed {
        value,
        duplicates: state.into_inner().duplicates,
    })
}

#[derive(Default)]
struct State {
    values: usize,
    bytes: usize,
    duplicates: Vec<String>,
}

/// A step to the value that is read; its path is written out only when it is told.
struct Step<'a> {
    from: Option<&'a Step<'a>>,
    to: To<'a>,
}

enum To<'a> {
    Member(&'a str),
    Item(usize),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(from) = self.from {
            from.fmt(formatter)?;
        }
        match (&self.to, self.from) {
            (To::Item(number), _) => write!(formatter, "[{number}]"),
            (To::Member(name), None) => formatter.write_str(name),
            (To::Member(name), Some(_)) => write!(formatter, ".{name}"),
        }
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    state: &'a RefCell<State>,
    depth: usize,
    at: Option<&'a Step<'a>>,
}

impl Reader<'_> {
    fn spend<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let mut state = self.state.borrow_mut();
        state.values += 1;
        state.bytes += bytes;
        if state.values > MOST_VALUES || state.bytes > MOST_BYTES {
            return Err(E::custom("it expands to too much"));
        }
        Ok(())
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            return Err(E::custom(format_args!(
                "it is nested deeper than {DEEPEST} levels"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value that JSON has")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format_args!("{value} is no number that JSON has")))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len()).map(|()| value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(0).map(|()| Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let below = self.deeper()?;
        let mut list = Vec::new();
        loop {
            let step = Step {
                from: self.at,
                to: To::Item(list.len()),
            };
            let item = items.next_element_seed(Reader {
                state: self.state,
                depth: below.depth,
                at: Some(&step),
            })?;
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let below = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.spend(name.len())?;
            let step = Step {
                from: self.at,
                to: To::Member(&name),
            };
            if map.contains_key(&name) {
                let mut state = self.state.borrow_mut();
                if state.duplicates.len() < MOST_DUPLICATES {
                    state.duplicates.push(step.to_string());
                }
            }
            let value = members.next_value_seed(Reader {
                state: self.state,
                depth: below.depth,
                at: Some(&step),
            })?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests;
