//! `${…}` in strings: which variables there are, and the container's id.
//!
//! Each string is walked once, from left to right: a value that itself looks like a variable is not
//! substituted again, so that a developer's environment cannot smuggle in another. Keys are never
//! substituted. Names that are not the specification's stay as they are written: they are the
//! shell's. `${containerEnv:…}` stays too until the environment runs ([`bind`]).

use crate::TEXT_LIMIT;
use crate::config::{Reader, nearest};
use crate::document::LocalContext;
use crate::error::{Error, ErrorKind};
use crate::text::{Source, Span};
use crate::tree::{Entry, Node, Value};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::collections::BTreeMap;

/// What can be substituted before the environment runs.
pub(crate) struct Variables<'a> {
    pub(crate) context: &'a LocalContext,
    /// None while `workspaceFolder` itself is being substituted.
    pub(crate) container_workspace_folder: Option<&'a str>,
    pub(crate) id: &'a str,
    /// Bytes written so far, over all strings.
    pub(crate) written: Cell<usize>,
}

/// Most bytes all strings together may have after substitution.
const WRITTEN_LIMIT: usize = 8 * TEXT_LIMIT;

const NAMES: [&str; 8] = [
    "localEnv",
    "env",
    "containerEnv",
    "localWorkspaceFolder",
    "localWorkspaceFolderBasename",
    "containerWorkspaceFolder",
    "containerWorkspaceFolderBasename",
    "devcontainerId",
];

/// The identifier of an environment: SHA-256 of its labels as JSON with sorted keys, in base 32
/// (digits 0-9a-v), 52 characters. As the specification's `devcontainerId`.
pub fn devcontainer_id(labels: &BTreeMap<String, String>) -> String {
    let object: serde_json::Map<String, serde_json::Value> = labels
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    let mut digest = Sha256::digest(serde_json::Value::Object(object).to_string());
    // A big-endian number, written in base 32 from its last digit.
    let mut digits = [b'0'; 52];
    for digit in digits.iter_mut().rev() {
        let last = digest[31] & 31;
        *digit = if last < 10 {
            b'0' + last
        } else {
            b'a' + last - 10
        };
        let mut carry = 0;
        for byte in &mut digest {
            let next = *byte << 3;
            *byte = (*byte >> 5) | carry;
            carry = next;
        }
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// The last component of a path.
pub(crate) fn basename(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default()
}

/// Substitutes every string below a node.
pub(crate) fn tree(source: &Source, node: &Node, variables: &Variables<'_>) -> Result<Node, Error> {
    let value = match &node.value {
        Value::String(text) => Value::String(
            string(text, variables).map_err(|kind| Error::new(source, node.span, kind))?,
        ),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| tree(source, item, variables))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(entries) => {
            let one = |entry: &Entry| {
                Ok(Entry {
                    key: entry.key.clone(),
                    key_span: entry.key_span,
                    node: tree(source, &entry.node, variables)?,
                })
            };
            Value::Object(entries.iter().map(one).collect::<Result<_, Error>>()?)
        }
        other => other.clone(),
    };
    Ok(Node {
        span: node.span,
        value,
    })
}

/// Substitutes one string.
pub(crate) fn string(text: &str, variables: &Variables<'_>) -> Result<String, ErrorKind> {
    replace(text, &variables.written, |name, arguments| {
        let context = variables.context;
        let local = context.local_workspace_folder.as_str();
        Ok(match name {
            "localEnv" | "env" => {
                let (wanted, default) = variable(name, arguments)?;
                Some(
                    context
                        .local_env
                        .get(wanted)
                        .cloned()
                        .unwrap_or_else(|| default.to_owned()),
                )
            }
            "containerEnv" => {
                variable(name, arguments)?;
                None
            }
            "localWorkspaceFolder" => Some(local.to_owned()),
            "localWorkspaceFolderBasename" => Some(basename(local).to_owned()),
            "containerWorkspaceFolder" => variables.container_workspace_folder.map(str::to_owned),
            "containerWorkspaceFolderBasename" => variables
                .container_workspace_folder
                .map(|folder| basename(folder).to_owned()),
            "devcontainerId" => Some(variables.id.to_owned()),
            _ => None,
        })
    })
}

/// Substitutes `${containerEnv:…}`.
pub(crate) fn bind(text: &str, env: &BTreeMap<String, String>, written: &Cell<usize>) -> String {
    let replaced = replace(text, written, |name, arguments| {
        Ok(match (name, variable(name, arguments)) {
            ("containerEnv", Ok((wanted, default))) => Some(
                env.get(wanted)
                    .cloned()
                    .unwrap_or_else(|| default.to_owned()),
            ),
            _ => None,
        })
    });
    // Only a result beyond the limit is an error here; the text as written is the safe answer.
    replaced.unwrap_or_else(|_| text.to_owned())
}

/// The arguments `NAME` and `NAME:DEFAULT`; what follows a further colon is dropped, as in the
/// reference.
fn variable<'a>(name: &str, arguments: Option<&'a str>) -> Result<(&'a str, &'a str), ErrorKind> {
    let arguments = arguments.ok_or_else(|| {
        ErrorKind::Variable(format!(
            "${{{name}}} names no environment variable; write ${{{name}:NAME}}"
        ))
    })?;
    let mut parts = arguments.split(':');
    Ok((
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    ))
}

fn replace(
    text: &str,
    written: &Cell<usize>,
    mut value: impl FnMut(&str, Option<&str>) -> Result<Option<String>, ErrorKind>,
) -> Result<String, ErrorKind> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((start, inside, end)) = next_variable(rest) {
        let (name, arguments) = inside
            .split_once(':')
            .map_or((inside, None), |(name, arguments)| (name, Some(arguments)));
        result.push_str(&rest[..start]);
        match value(name, arguments)? {
            Some(value) => result.push_str(&value),
            None => result.push_str(&rest[start..end]),
        }
        if result.len() > TEXT_LIMIT || written.get() + result.len() > WRITTEN_LIMIT {
            return Err(ErrorKind::Bounds(
                "the configuration grows too large when its variables are filled in here"
                    .to_owned(),
            ));
        }
        rest = &rest[end..];
    }
    result.push_str(rest);
    written.set(written.get() + result.len());
    Ok(result)
}

/// The first `${…}` on one line: where it starts, what is inside, where it ends.
fn next_variable(text: &str) -> Option<(usize, &str, usize)> {
    let mut from = 0;
    while let Some(start) = text[from..].find("${").map(|at| from + at) {
        let inside = &text[start + 2..];
        match inside.find(['}', '\n', '\r', '\u{2028}', '\u{2029}']) {
            Some(end) if inside[end..].starts_with('}') => {
                return Some((start, &inside[..end], start + 2 + end + 1));
            }
            // No variable ends on this line; the next may hold one.
            Some(end) => from = start + 2 + end,
            None => return None,
        }
    }
    None
}

/// Names of the caller's environment variables a text uses, so that only those need to travel.
pub(crate) fn local_names(node: &Node, names: &mut std::collections::BTreeSet<String>) {
    match &node.value {
        Value::String(text) => each(text, |name, arguments| {
            if matches!(name, "localEnv" | "env")
                && let Ok((wanted, _)) = variable(name, arguments)
            {
                names.insert(wanted.to_owned());
            }
        }),
        Value::Array(items) => items.iter().for_each(|item| local_names(item, names)),
        Value::Object(entries) => entries
            .iter()
            .for_each(|entry| local_names(&entry.node, names)),
        _ => {}
    }
}

/// Warns of names that are almost a variable's.
pub(crate) fn warn_mistyped(reader: &Reader<'_>, node: &Node) {
    match &node.value {
        Value::String(text) => each(text, |name, _| {
            if name.len() > 4
                && !NAMES.contains(&name)
                && let Some(meant) = nearest(name, &NAMES)
            {
                reader.warn(node.span, format!("${{{}}} is no variable of the specification and stays as it is written; did you mean {meant:?}?", crate::config::shown(name)));
            }
        }),
        Value::Array(items) => items.iter().for_each(|item| warn_mistyped(reader, item)),
        Value::Object(entries) => entries
            .iter()
            .for_each(|entry| warn_mistyped(reader, &entry.node)),
        _ => {}
    }
}

fn each(text: &str, mut seen: impl FnMut(&str, Option<&str>)) {
    let mut rest = text;
    while let Some((_, inside, end)) = next_variable(rest) {
        let (name, arguments) = inside
            .split_once(':')
            .map_or((inside, None), |(name, arguments)| (name, Some(arguments)));
        seen(name, arguments);
        rest = &rest[end..];
    }
}

/// The place of the first string that uses `${containerWorkspaceFolder…}` below a node.
pub(crate) fn names_container_folder(node: &Node) -> Option<Span> {
    node.as_str()
        .filter(|text| text.contains("${containerWorkspaceFolder"))
        .map(|_| node.span)
}
