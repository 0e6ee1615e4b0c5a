//! What a structural schema says about merging: which containers are whole, which by item.
//!
//! Compiled once per kind. Objects merge member by member unless `x-kubernetes-map-type: atomic`;
//! lists are whole unless `x-kubernetes-list-type` is `map` or `set`. Where the schema leaves
//! members open, types are deduced from the values: objects by member, lists whole.
//!
//! The schema has checked the values already when anything here looks at them: what does not fit
//! its type is treated as a whole.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// What a value may be: of several, the value at hand says which.
#[derive(Debug, Default)]
pub(crate) struct Atom {
    pub(crate) scalar: Option<Scalar>,
    pub(crate) list: Option<List>,
    pub(crate) map: Option<Map>,
}

/// A type.
#[derive(Clone, Debug)]
pub(crate) enum Ref {
    Declared(Arc<Atom>),
    /// From the value; objects by member.
    Deduced,
    /// From the value; everything whole.
    Untyped,
}

/// A plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Numeric,
    String,
    Boolean,
    Any,
}

/// How the items of a list belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Items {
    /// The list is one value.
    Atomic,
    /// Plain values, each for itself.
    Set,
    /// Objects known by these members.
    Keyed(Vec<String>),
}

#[derive(Debug)]
pub(crate) struct List {
    pub(crate) relation: Items,
    pub(crate) items: Ref,
}

#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) fields: BTreeMap<String, Field>,
    /// Type of members that are not declared, when there may be any.
    pub(crate) rest: Option<Ref>,
    pub(crate) atomic: bool,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) of: Ref,
    pub(crate) default: Option<Value>,
}

impl Map {
    /// The type of a member.
    pub(crate) fn member(&self, name: &str) -> &Ref {
        match self.fields.get(name) {
            Some(field) => &field.of,
            None => self.rest.as_ref().unwrap_or(&Ref::Deduced),
        }
    }
}

/// What a value is to be treated as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape<'a> {
    Scalar(Scalar),
    List(&'a List),
    Map(&'a Map),
}

impl Shape<'_> {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Atom {
    /// What `value` is to be treated as; without one, or with one that does not fit, the type's
    /// first form.
    pub(crate) fn shape(&self, value: Option<&Value>) -> Shape<'_> {
        match (value, self.scalar, &self.list, &self.map) {
            (Some(Value::Object(_)), _, _, Some(map)) => Shape::Map(map),
            (Some(Value::Array(_)), _, Some(list), _) => Shape::List(list),
            (Some(Value::String(_) | Value::Number(_) | Value::Bool(_)), Some(scalar), _, _) => {
                Shape::Scalar(scalar)
            }
            (_, _, _, Some(map)) => Shape::Map(map),
            (_, Some(scalar), _, _) => Shape::Scalar(scalar),
            (_, _, Some(list), _) => Shape::List(list),
            (_, None, None, None) => Shape::Scalar(Scalar::Any),
        }
    }
}

fn open(items: Ref, members: Ref, atomic: bool) -> Atom {
    Atom {
        scalar: Some(Scalar::Any),
        list: Some(List {
            relation: Items::Atomic,
            items,
        }),
        map: Some(Map {
            fields: BTreeMap::new(),
            rest: Some(members),
            atomic,
        }),
    }
}

static DEDUCED: LazyLock<Atom> = LazyLock::new(|| open(Ref::Untyped, Ref::Deduced, false));
static UNTYPED: LazyLock<Atom> = LazyLock::new(|| open(Ref::Untyped, Ref::Untyped, true));

impl Ref {
    pub(crate) fn atom(&self) -> &Atom {
        match self {
            Self::Declared(atom) => atom,
            Self::Deduced => &DEDUCED,
            Self::Untyped => &UNTYPED,
        }
    }

    /// From a structural schema.
    pub(crate) fn compile(schema: &Value) -> Self {
        compile(schema, false)
    }
}

/// `open`: whether a schema above preserves unknown members, which holds for all below.
fn compile(schema: &Value, open: bool) -> Ref {
    let open = open || schema["x-kubernetes-preserve-unknown-fields"] == true;
    let text = schema["format"].as_str().unwrap_or_default();
    let atom = match schema["type"].as_str() {
        Some("object") => Atom {
            map: Some(object(schema, open)),
            ..Atom::default()
        },
        Some("array") => Atom {
            list: Some(array(schema, open)),
            ..Atom::default()
        },
        Some(plain) => Atom {
            scalar: Some(match (plain, text) {
                ("integer" | "number", _) => Scalar::Numeric,
                ("boolean", _) => Scalar::Boolean,
                ("string", "" | "byte") => Scalar::String,
                _ => Scalar::Any,
            }),
            ..Atom::default()
        },
        None => Atom {
            scalar: Some(Scalar::Any),
            list: Some(array(schema, open)),
            map: Some(object(schema, open)),
        },
    };
    Ref::Declared(Arc::new(atom))
}

fn object(schema: &Value, open: bool) -> Map {
    let properties = schema["properties"].as_object();
    let fields: BTreeMap<String, Field> = properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let field = Field {
                of: compile(schema, open),
                default: schema.get("default").cloned(),
            };
            (name.clone(), field)
        })
        .collect();
    let rest = match &schema["additionalProperties"] {
        Value::Null if open || fields.is_empty() => Some(Ref::Deduced),
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some(Ref::Deduced),
        schema => Some(compile(schema, open)),
    };
    Map {
        fields,
        rest,
        atomic: schema["x-kubernetes-map-type"] == "atomic",
    }
}

fn array(schema: &Value, open: bool) -> List {
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    let keys = keys.into_iter().flatten();
    List {
        relation: match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Items::Set,
            Some("map") => Items::Keyed(
                keys.filter_map(Value::as_str)
                    .map(ToOwned::to_owned)
                    .collect(),
            ),
            _ => Items::Atomic,
        },
        items: match &schema["items"] {
            Value::Null => Ref::Untyped,
            items => compile(items, open),
        },
    }
}
