//! One step of a field's path, its order and its text in FieldsV1.
//!
//! `f:name` is a member of an object, `k:{…}` the item of a keyed list with these keys, `v:…` the
//! item of a set with this value, `i:n` the item at an index. The order is structured-merge-diff's:
//! members, keys, values, indices, each in itself; numbers compare as numbers.

use serde_json::{Map, Number, Value};
use std::cmp::Ordering;
use std::fmt;

/// A step from a container to something in it.
#[derive(Clone, Debug)]
pub(crate) enum Element {
    /// A member of an object.
    Field(String),
    /// The item of a list with these keys, sorted by name.
    Key(Vec<(String, Value)>),
    /// The item of a set.
    Value(Value),
    /// The item at an index.
    Index(i64),
}

/// Why a text is no element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadElement {
    /// A form of later versions: to be left out.
    #[error("an unknown form")]
    Unknown,
    /// Of no form at all.
    #[error("{0:?} is no path element")]
    Malformed(String),
}

impl Element {
    /// A member's step.
    pub(crate) fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    /// From the text in FieldsV1.
    pub(crate) fn parse(text: &str) -> Result<Self, BadElement> {
        let malformed = || BadElement::Malformed(text.to_owned());
        let (form, rest) = text.split_once(':').ok_or_else(malformed)?;
        match form {
            "f" => Ok(Self::field(rest)),
            "k" => {
                let keys: Map<String, Value> =
                    serde_json::from_str(rest).map_err(|_| malformed())?;
                let mut keys: Vec<(String, Value)> = keys.into_iter().collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(Self::Key(keys))
            }
            "v" => serde_json::from_str(rest)
                .map(Self::Value)
                .map_err(|_| malformed()),
            "i" => rest.parse().map(Self::Index).map_err(|_| malformed()),
            _ if form.len() == 1 => Err(BadElement::Unknown),
            _ => Err(malformed()),
        }
    }

    /// As the text in FieldsV1.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Field(name) => ["f:", name].concat(),
            Self::Key(keys) => {
                let members: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
                    .collect();
                format!("k:{{{}}}", members.join(","))
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

/// As paths are shown to people: `.name`, `[name="x"]`, `[="x"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(formatter, ".{name}"),
            Self::Key(keys) => {
                formatter.write_str("[")?;
                for (number, (name, value)) in keys.iter().enumerate() {
                    let comma = if number == 0 { "" } else { "," };
                    write!(formatter, "{comma}{name}={value}")?;
                }
                formatter.write_str("]")
            }
            Self::Value(value) => write!(formatter, "[={value}]"),
            Self::Index(index) => write!(formatter, "[{index}]"),
        }
    }
}

/// A path as people read it.
pub(crate) fn show(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let pairs = a.iter().zip(b);
                pairs
                    .map(|(a, b)| a.0.cmp(&b.0).then_with(|| compare(&a.1, &b.1)))
                    .find(|order| order.is_ne())
                    .unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Self::Value(a), Self::Value(b)) => compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

/// A total order of values: numbers, texts, booleans, lists, objects, null.
pub(crate) fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => a
            .iter()
            .zip(b)
            .map(|(a, b)| compare(a, b))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        (Value::Object(a), Value::Object(b)) => a
            .iter()
            .zip(b)
            .map(|(a, b)| a.0.cmp(b.0).then_with(|| compare(a.1, b.1)))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => {
            let float = |number: &Number| number.as_f64().unwrap_or_default();
            let (a, b) = (float(a), float(b));
            // The two zeros are one number.
            a.partial_cmp(&b).unwrap_or(Ordering::Equal)
        }
    }
}
