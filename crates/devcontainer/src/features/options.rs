//! Options of a Feature: what may be written, how two are compared, and the variables they become.

use super::{collate, metadata::Metadata, wrong};
use crate::error::Error;
use crate::text::Source;
use crate::tree::{Node, Value};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What stands behind a Feature's identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Options {
    /// The shorthand of `{"version": …}`.
    Version(String),
    /// Only that it is wanted.
    Flag(bool),
    /// Each by its name.
    Table(BTreeMap<String, OptionValue>),
}

/// One option's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OptionValue {
    /// Text.
    Text(String),
    /// Truth.
    Flag(bool),
    /// Outside of the specification, but written: the text it was written as counts.
    Number(serde_json::Number),
}

impl Default for Options {
    fn default() -> Options {
        Options::Table(BTreeMap::new())
    }
}

impl OptionValue {
    /// As a variable has it.
    pub fn text(&self) -> String {
        match self {
            OptionValue::Text(text) => text.clone(),
            OptionValue::Flag(flag) => flag.to_string(),
            OptionValue::Number(number) => number.to_string(),
        }
    }

    pub(super) fn read(node: &Node) -> Option<OptionValue> {
        match &node.value {
            Value::String(text) => Some(OptionValue::Text(text.clone())),
            Value::Bool(flag) => Some(OptionValue::Flag(*flag)),
            Value::Number(number) => Some(OptionValue::Number(number.clone())),
            _ => None,
        }
    }
}

impl Options {
    pub(super) fn read(source: &Source, path: &str, node: &Node) -> Result<Options, Error> {
        Ok(match &node.value {
            Value::String(text) => Options::Version(text.clone()),
            Value::Bool(flag) => Options::Flag(*flag),
            Value::Number(number) => Options::Version(number.to_string()),
            Value::Object(entries) => {
                let mut table = BTreeMap::new();
                for entry in entries {
                    let path = format!("{path}.{}", entry.key);
                    let value = OptionValue::read(&entry.node).ok_or_else(|| {
                        wrong(source, &path, &entry.node, "a string or a boolean")
                    })?;
                    if value.text().contains('\0') {
                        return Err(wrong(
                            source,
                            &path,
                            &entry.node,
                            "text without a NUL character",
                        ));
                    }
                    table.insert(entry.key.clone(), value);
                }
                Options::Table(table)
            }
            _ => {
                return Err(wrong(
                    source,
                    path,
                    node,
                    "an object of options, or a version",
                ));
            }
        })
    }

    /// The order in which the reference sorts Features that differ in nothing else.
    pub(super) fn compare(&self, other: &Options) -> Ordering {
        let rank = |options: &Options| match options {
            Options::Flag(_) => 0,
            Options::Table(_) => 1,
            Options::Version(_) => 2,
        };
        match (self, other) {
            (Options::Version(left), Options::Version(right)) => collate::compare(left, right),
            (Options::Flag(left), Options::Flag(right)) => left.cmp(right),
            (Options::Table(left), Options::Table(right)) => {
                let names = || left.keys().zip(right.keys());
                left.len()
                    .cmp(&right.len())
                    .then_with(|| first(names().map(|(a, b)| collate::compare(a, b))))
                    .then_with(|| {
                        let values = left.values().zip(right.values());
                        first(values.map(|(a, b)| match (a, b) {
                            (OptionValue::Flag(a), OptionValue::Flag(b)) => a.cmp(b),
                            _ => collate::compare(&a.text(), &b.text()).then_with(|| {
                                let flag =
                                    |value: &OptionValue| matches!(value, OptionValue::Flag(_));
                                flag(a).cmp(&flag(b))
                            }),
                        }))
                    })
            }
            _ => rank(self).cmp(&rank(other)),
        }
    }

    /// The values of all options: defaults, then what was written, undeclared ones too.
    pub fn values(&self, metadata: &Metadata) -> BTreeMap<String, OptionValue> {
        let mut values: BTreeMap<String, OptionValue> = metadata
            .options
            .iter()
            .filter_map(|(name, option)| Some((name.clone(), option.default.clone()?)))
            .collect();
        match self {
            Options::Table(table) => values.extend(table.clone()),
            Options::Version(version)
                if metadata.options.iter().any(|(name, _)| name == "version") =>
            {
                values.insert("version".to_owned(), OptionValue::Text(version.clone()));
            }
            Options::Version(_) | Options::Flag(_) => {}
        }
        values
    }

    /// The variables `install.sh` gets.
    pub fn env(&self, metadata: &Metadata) -> Vec<(String, String)> {
        let values = self.values(metadata);
        let mut env: Vec<(String, String)> = Vec::with_capacity(values.len());
        for (name, value) in values {
            let name = variable(&name);
            // Of two options with one variable the last counts, as when a shell reads both.
            env.retain(|(known, _)| *known != name);
            env.push((name, value.text()));
        }
        env
    }
}

fn first(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// The variable of an option: what is no letter, digit or underscore becomes one, digits and
/// underscores in front become one, and all is upper case.
pub(super) fn variable(option: &str) -> String {
    let plain: String = option
        .chars()
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => letter.to_ascii_uppercase(),
            _ => '_',
        })
        .collect();
    let rest = plain.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '_');
    if rest.len() == plain.len() {
        plain
    } else {
        format!("_{rest}")
    }
}
