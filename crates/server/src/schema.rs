//! A kind's structural schema, compiled once, and objects checked against it.
//!
//! One walk prunes unknown fields (and names them: what to do about them is `fieldValidation`'s),
//! fills in defaults, and finds what is wrong; another evaluates the CEL rules (`rules`), once the
//! object is whole. Schemas come from the Rust types through kube's derive and are in OpenAPI v3's
//! structural form: no references, no recursion, so both walks are bounded by the object.
//!
//! What stood in the stored object and is unchanged is not judged again, so that an object that was
//! good when it was written stays writable when its schema becomes stricter (Kubernetes calls it
//! ratcheting).
//!
//! Source: "Extend the Kubernetes API with CustomResourceDefinitions". Read next: `compile`,
//! `rules`.

mod at;
mod compile;
mod format;
mod patterns;
mod rules;

use at::At;
use boatyard_api::rules::FieldError;
use format::Format;
use regex::Regex;
use rules::Rule;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Most findings reported for one object.
const MOST: usize = 20;

/// A compiled schema of a value.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    kind: Option<Type>,
    nullable: bool,
    int_or_string: bool,
    /// Unknown fields stay.
    open: bool,
    allowed: Option<Vec<Value>>,
    format: Option<Format>,
    minimum: Option<Bound>,
    maximum: Option<Bound>,
    multiple_of: Option<f64>,
    /// Letters, items or members.
    least: Option<usize>,
    most: Option<usize>,
    pattern: Option<Regex>,
    items: Option<Box<Schema>>,
    list: List,
    properties: BTreeMap<String, Schema>,
    required: Vec<String>,
    additional: Option<Box<Schema>>,
    default: Option<Value>,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Box<Schema>>,
    rules: Vec<Rule>,
    /// Whether there are rules here or below.
    ruled: bool,
}

/// A bound of numbers.
#[derive(Clone, Copy, Debug)]
struct Bound {
    value: f64,
    exclusive: bool,
}

/// Types of JSON, as schemas name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// What a list is to those who merge it.
#[derive(Debug, Default, PartialEq, Eq)]
enum List {
    /// One value.
    #[default]
    Atomic,
    /// Different values in no order.
    Set,
    /// Objects told apart by these members.
    Map(Vec<String>),
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<FieldError>,
    /// Paths of fields that the schema does not know.
    pub(crate) unknown: Vec<String>,
}

impl Findings {
    fn wrong(&mut self, error: FieldError) {
        if self.errors.len() < MOST {
            self.errors.push(error);
        }
    }
}

impl Type {
    fn word(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Object, Value::Object(_))
            | (Self::Array, Value::Array(_))
            | (Self::String, Value::String(_))
            | (Self::Number, Value::Number(_))
            | (Self::Boolean, Value::Bool(_)) => true,
            (Self::Integer, Value::Number(number)) => !number.is_f64(),
            _ => false,
        }
    }
}

/// A value as messages show it: scalars as they are, the rest by the name of their type.
fn brief(value: &Value) -> Value {
    match value {
        Value::Object(_) => "object".into(),
        Value::Array(_) => "array".into(),
        scalar => scalar.clone(),
    }
}

impl Schema {
    /// Removes unknown fields, fills in defaults, and finds what is wrong with what `old` had not.
    pub(crate) fn check(&self, value: &mut Value, old: Option<&Value>) -> Findings {
        let mut findings = Findings::default();
        self.walk(value, old, At::Root, &mut findings);
        findings.unknown.truncate(MOST);
        findings
    }

    fn walk(&self, value: &mut Value, old: Option<&Value>, path: At<'_>, findings: &mut Findings) {
        // What was stored was pruned, defaulted and judged then.
        if old == Some(value) {
            return;
        }
        if value.is_null() && self.nullable {
            return;
        }
        if !self.scalar(value, path, findings) {
            return;
        }
        match value {
            Value::Object(_) => self.object(value, old, path, findings),
            Value::Array(items) => {
                if let Some(below) = &self.items {
                    let former = Former::of(&self.list, old);
                    for (number, item) in items.iter_mut().enumerate() {
                        let old = former.at(item);
                        below.walk(item, old, At::Item(&path, number), findings);
                    }
                }
                self.list(items, path, findings);
            }
            _ => {}
        }
        self.junctions(value, path, findings);
    }

    /// Judges what needs no look below; whether to look there.
    fn scalar(&self, value: &Value, path: At<'_>, findings: &mut Findings) -> bool {
        if self.int_or_string {
            let fits = Type::String.fits(value) || Type::Integer.fits(value);
            if !fits {
                let wanted = "integer or string";
                findings.wrong(FieldError::type_invalid(path, brief(value), wanted));
                return false;
            }
        } else if let Some(kind) = self.kind.filter(|kind| !kind.fits(value)) {
            let error = FieldError::type_invalid(path, brief(value), kind.word());
            findings.wrong(error);
            return false;
        }
        if let Some(allowed) = self.allowed.as_ref().filter(|all| !all.contains(value)) {
            findings.wrong(FieldError::unsupported(path, value.clone(), allowed));
            return false;
        }
        if let Some(format) = self.format.filter(|format| !format.fits(value)) {
            let detail = format!("must be a valid {}", format.word());
            findings.wrong(FieldError::invalid(path, value.clone(), detail));
            return false;
        }
        match value {
            Value::String(text) => self.text(text, path, findings),
            Value::Number(number) => {
                self.number(number.as_f64().unwrap_or(f64::NAN), value, path, findings);
            }
            _ => {}
        }
        true
    }

    fn text(&self, text: &str, path: At<'_>, findings: &mut Findings) {
        // Counting letters is needed only where bytes are more than may be, or too few.
        let letters = || text.chars().count();
        if let Some(most) = self
            .most
            .filter(|most| text.len() > *most && letters() > *most)
        {
            return findings.wrong(FieldError::too_long(path, most));
        }
        if let Some(least) = self.least.filter(|least| letters() < *least) {
            let detail = format!("must have at least {least} characters");
            return findings.wrong(FieldError::invalid(path, text, detail));
        }
        if let Some(pattern) = self
            .pattern
            .as_ref()
            .filter(|wanted| !wanted.is_match(text))
        {
            let detail = format!("must match '{pattern}'");
            findings.wrong(FieldError::invalid(path, text, detail));
        }
    }

    fn number(&self, number: f64, value: &Value, path: At<'_>, findings: &mut Findings) {
        let mut bound = |bound: Option<Bound>, outside: fn(f64, f64) -> bool, word: &str| {
            let Some(Bound {
                value: limit,
                exclusive,
            }) = bound
            else {
                return;
            };
            if outside(number, limit) || (exclusive && number == limit) {
                let or_equal = if exclusive { "" } else { " or equal to" };
                let detail = format!("must be {word} than{or_equal} {limit}");
                findings.wrong(FieldError::invalid(path, value.clone(), detail));
            }
        };
        bound(self.minimum, |number, limit| number < limit, "greater");
        bound(self.maximum, |number, limit| number > limit, "less");
        if let Some(of) = self.multiple_of
            && (number / of).fract().abs() > f64::EPSILON
        {
            let detail = format!("must be a multiple of {of}");
            findings.wrong(FieldError::invalid(path, value.clone(), detail));
        }
    }

    fn object(
        &self,
        value: &mut Value,
        old: Option<&Value>,
        path: At<'_>,
        findings: &mut Findings,
    ) {
        let Value::Object(members) = value else {
            return;
        };
        members.retain(|name, member| {
            if let Some(below) = self.properties.get(name) {
                // A null for a field that takes none is as if it were not there.
                !member.is_null() || below.nullable
            } else if self.additional.is_some() || self.open {
                true
            } else {
                findings.unknown.push(At::Member(&path, name).to_string());
                false
            }
        });
        for (name, below) in &self.properties {
            if let Some(default) = &below.default
                && !members.contains_key(name)
            {
                members.insert(name.clone(), default.clone());
            }
        }
        for name in self
            .required
            .iter()
            .filter(|name| !members.contains_key(*name))
        {
            findings.wrong(FieldError::required(At::Member(&path, name), ""));
        }
        if let Some(most) = self.most.filter(|most| members.len() > *most) {
            findings.wrong(FieldError::too_many(path, members.len(), most));
        }
        if let Some(least) = self.least.filter(|least| members.len() < *least) {
            let detail = format!("must have at least {least} properties");
            findings.wrong(FieldError::invalid(path, "object", detail));
        }
        for (name, member) in members {
            let below = self.properties.get(name).or(self.additional.as_deref());
            if let Some(below) = below {
                let old = old.and_then(|old| old.get(name));
                below.walk(member, old, At::Member(&path, name), findings);
            }
        }
    }

    fn list(&self, items: &[Value], path: At<'_>, findings: &mut Findings) {
        if let Some(most) = self.most.filter(|most| items.len() > *most) {
            return findings.wrong(FieldError::too_many(path, items.len(), most));
        }
        if let Some(least) = self.least.filter(|least| items.len() < *least) {
            let detail = format!("must have at least {least} items");
            findings.wrong(FieldError::invalid(path, "array", detail));
        }
        let mut seen = HashSet::new();
        for (number, item) in items.iter().enumerate() {
            let (known, shown) = match &self.list {
                List::Atomic => return,
                List::Set => (item.to_string(), item.clone()),
                List::Map(keys) => (key_of(keys, item), keys_of(keys, item)),
            };
            if !seen.insert(known) {
                findings.wrong(FieldError::duplicate(At::Item(&path, number), shown));
            }
        }
    }

    /// What holds for the value as a whole: these only judge, as structural schemas demand.
    fn junctions(&self, value: &Value, path: At<'_>, findings: &mut Findings) {
        for one in &self.all_of {
            one.judge(value, path, findings);
        }
        let matching = |list: &[Self]| list.iter().filter(|one| one.holds(value)).count();
        if !self.any_of.is_empty() && matching(&self.any_of) == 0 {
            let detail = "must validate at least one schema (anyOf)";
            findings.wrong(FieldError::invalid(path, brief(value), detail));
        }
        if !self.one_of.is_empty() && matching(&self.one_of) != 1 {
            let detail = "must validate one and only one schema (oneOf)";
            findings.wrong(FieldError::invalid(path, brief(value), detail));
        }
        if self.not.as_ref().is_some_and(|not| not.holds(value)) {
            let detail = "must not validate the schema (not)";
            findings.wrong(FieldError::invalid(path, brief(value), detail));
        }
    }

    fn holds(&self, value: &Value) -> bool {
        let mut findings = Findings::default();
        self.judge(value, At::Root, &mut findings);
        findings.errors.is_empty()
    }

    /// Judges without pruning or defaulting.
    fn judge(&self, value: &Value, path: At<'_>, findings: &mut Findings) {
        if (value.is_null() && self.nullable) || !self.scalar(value, path, findings) {
            return;
        }
        match value {
            Value::Object(members) => {
                for name in self
                    .required
                    .iter()
                    .filter(|name| !members.contains_key(*name))
                {
                    findings.wrong(FieldError::required(At::Member(&path, name), ""));
                }
                for (name, below) in &self.properties {
                    if let Some(member) = members.get(name) {
                        below.judge(member, At::Member(&path, name), findings);
                    }
                }
            }
            Value::Array(items) => {
                for (number, item) in items.iter().enumerate() {
                    if let Some(below) = &self.items {
                        below.judge(item, At::Item(&path, number), findings);
                    }
                }
                self.list(items, path, findings);
            }
            _ => {}
        }
        self.junctions(value, path, findings);
    }
}

/// The key of an item of a list that is a map, as text that is equal when the keys are.
fn key_of(keys: &[String], item: &Value) -> String {
    let members: Vec<&Value> = keys.iter().map(|key| &item[key.as_str()]).collect();
    serde_json::to_string(&members).unwrap_or_default()
}

fn keys_of(keys: &[String], item: &Value) -> Value {
    let members = keys
        .iter()
        .map(|key| (key.clone(), item[key.as_str()].clone()));
    Value::Object(members.collect())
}

/// The stored list, to find by key what an item was before. Items of other lists have no former
/// selves.
struct Former<'a> {
    keys: &'a [String],
    items: HashMap<String, &'a Value>,
}

impl<'a> Former<'a> {
    fn of(list: &'a List, old: Option<&'a Value>) -> Self {
        let List::Map(keys) = list else {
            return Self {
                keys: &[],
                items: HashMap::new(),
            };
        };
        let items = old.and_then(Value::as_array).into_iter().flatten();
        Self {
            keys,
            items: items.map(|item| (key_of(keys, item), item)).collect(),
        }
    }

    fn at(&self, item: &Value) -> Option<&'a Value> {
        if self.items.is_empty() {
            return None;
        }
        self.items.get(&key_of(self.keys, item)).copied()
    }
}

#[cfg(test)]
mod tests;
