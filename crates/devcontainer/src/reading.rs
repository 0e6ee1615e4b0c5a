//! A configuration as JSON: with its variables filled in, and merged with what images and Features
//! say of themselves.
//!
//! For tools that read a configuration rather than run it. Every property is kept as its author
//! wrote it, also those Boatyard does not know; what runs is decided by the typed merge of
//! `merge`, by the same table. The shape is the reference's `read-configuration`.

use crate::document::{Document, LocalContext};
use crate::error::Error;
use crate::mounts;
use crate::substitute::{self, Variables};
use crate::tree::Value as Written;
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;

/// A configuration with its variables filled in.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Its properties; those of older files are where they belong now.
    pub configuration: Value,
    /// Folder inside where the code is.
    pub workspace_folder: String,
    /// How it gets there; None where Compose says so.
    pub workspace_mount: Option<String>,
    context: LocalContext,
    id: String,
}

/// Properties whose merged form has another name or shape.
const REPLACED: [&str; 8] = [
    "customizations",
    "entrypoint",
    "onCreateCommand",
    "updateContentCommand",
    "postCreateCommand",
    "postStartCommand",
    "postAttachCommand",
    "shutdownAction",
];
const HOOKS: [&str; 5] = [
    "onCreateCommand",
    "updateContentCommand",
    "postCreateCommand",
    "postStartCommand",
    "postAttachCommand",
];

impl Document {
    /// Fills in the variables and changes nothing else.
    pub fn read(&self, context: &LocalContext) -> Result<Reading, Error> {
        let (id, target, folder) = self.places(context)?;
        let variables = Variables {
            context,
            container_workspace_folder: Some(&folder),
            id: &id,
            written: Cell::default(),
        };
        let node = self.substituted(&variables)?;
        let mut configuration = node.to_json();
        modernized(&mut configuration);
        let written = node.get("workspaceMount");
        let compose = node.get("dockerComposeFile").is_some();
        let workspace_mount = match written.map(|entry| &entry.node.value) {
            Some(Written::String(text)) => Some(text.clone()),
            _ if compose => None,
            _ => {
                let quote = |text: String| match text.contains(',') {
                    true => format!("\"{text}\""),
                    false => text,
                };
                let (root, _) = context.default_mount();
                let source = quote(format!("source={root}"));
                let target = quote(format!("target={target}"));
                Some(format!("type=bind,{source},{target}"))
            }
        };
        Ok(Reading {
            configuration,
            workspace_folder: folder,
            workspace_mount,
            context: context.clone(),
            id,
        })
    }
}

impl Reading {
    /// An entry of an image's label or a Feature's, with its variables filled in. What cannot be
    /// filled in stays as it is written: its author is somebody else.
    pub fn filled(&self, entry: &Value) -> Value {
        let variables = Variables {
            context: &self.context,
            container_workspace_folder: Some(&self.workspace_folder),
            id: &self.id,
            written: Cell::default(),
        };
        filled(entry, &|text| {
            substitute::string(text, &variables).unwrap_or_else(|_| text.to_owned())
        })
    }

    /// Fills in `${containerEnv:…}` everywhere, once the variables of the environment are known.
    pub fn bind_container_env(&mut self, env: &BTreeMap<String, String>) {
        self.configuration = bound(&self.configuration, env);
    }

    /// The configuration merged with `entries`: those of the image's label, then of the Features
    /// in the order of installation; the file's own comes last.
    pub fn merged(&self, entries: &[Value], file: &Document) -> Value {
        let mut entries: Vec<Value> = entries.iter().map(|entry| self.filled(entry)).collect();
        entries.push(self.filled(&file.label_entry()));
        merged(&self.configuration, &entries)
    }
}

/// Fills in `${containerEnv:…}` in every text of a value.
pub fn bound(value: &Value, env: &BTreeMap<String, String>) -> Value {
    let written = Cell::default();
    filled(value, &|text| substitute::bind(text, env, &written))
}

/// The entries of a label `devcontainer.metadata`: one object is as an array of one. None where
/// it is neither.
pub fn label_entries(text: &str) -> Option<Vec<Value>> {
    match serde_json::from_str(text).ok()? {
        Value::Array(entries) => Some(entries),
        entry @ Value::Object(_) => Some(vec![entry]),
        _ => None,
    }
}

fn filled(value: &Value, by: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => by(text).into(),
        Value::Array(items) => items.iter().map(|item| filled(item, by)).collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), filled(value, by)))
            .collect(),
        other => other.clone(),
    }
}

/// Moves an editor's settings of older files to `customizations.vscode`.
fn modernized(configuration: &mut Value) {
    let Some(properties) = configuration.as_object_mut() else {
        return;
    };
    let extensions = properties.remove("extensions");
    let settings = properties.remove("settings");
    let port = properties.remove("devPort");
    if extensions.is_none() && settings.is_none() && port.is_none() {
        return;
    }
    let object = |value: &mut Value| {
        if !value.is_object() {
            *value = json!({});
        }
    };
    let customizations = properties.entry("customizations").or_insert(json!({}));
    object(customizations);
    let editor = &mut customizations["vscode"];
    object(editor);
    if let Some(Value::Array(more)) = extensions {
        let mut all = editor["extensions"].as_array().cloned().unwrap_or_default();
        all.extend(more);
        editor["extensions"] = all.into();
    }
    if let Some(Value::Object(mut older)) = settings {
        older.extend(editor["settings"].as_object().cloned().unwrap_or_default());
        editor["settings"] = older.into();
    }
    if let Some(port) = port.filter(|_| editor.get("devPort").is_none()) {
        editor["devPort"] = port;
    }
}

/// The reference's `mergedConfiguration`.
fn merged(configuration: &Value, entries: &[Value]) -> Value {
    let mut merged = configuration.as_object().cloned().unwrap_or_default();
    for name in REPLACED {
        merged.remove(name);
    }
    let truthy = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && *value != "";
    let all = |name: &'static str| {
        let values = entries.iter().filter_map(move |entry| entry.get(name));
        values.filter(move |value| truthy(value))
    };
    let union = |name: &'static str| {
        let mut values: Vec<Value> = Vec::new();
        for value in all(name).filter_map(Value::as_array).flatten() {
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        values
    };
    let by_name = |name: &'static str| {
        let objects = all(name).filter_map(Value::as_object);
        objects.flatten().fold(Map::new(), |mut sum, (key, value)| {
            sum.insert(key.clone(), value.clone());
            sum
        })
    };
    let mut customizations: BTreeMap<&String, Vec<Value>> = BTreeMap::new();
    for (tool, value) in all("customizations").filter_map(Value::as_object).flatten() {
        customizations.entry(tool).or_default().push(value.clone());
    }
    let mut put = |name: &str, value: Option<Value>| match value {
        Some(value) => drop(merged.insert(name.to_owned(), value)),
        None => drop(merged.remove(name)),
    };
    let unless_empty =
        |values: Vec<Value>| Some(Value::Array(values)).filter(|values| *values != json!([]));
    for name in ["init", "privileged"] {
        put(name, Some(all(name).any(|value| *value == true).into()));
    }
    for name in ["capAdd", "securityOpt"] {
        put(name, unless_empty(union(name)));
    }
    put(
        "entrypoints",
        unless_empty(all("entrypoint").cloned().collect()),
    );
    put("mounts", unless_empty(mounts_by_target(all("mounts"))));
    put(
        "customizations",
        (!customizations.is_empty()).then(|| json!(customizations)),
    );
    for name in HOOKS {
        put(&format!("{name}s"), Some(all(name).cloned().collect()));
    }
    for name in [
        "waitFor",
        "remoteUser",
        "containerUser",
        "userEnvProbe",
        "otherPortsAttributes",
        "shutdownAction",
    ] {
        put(name, all(name).next_back().cloned());
    }
    for name in ["overrideCommand", "updateRemoteUserUID"] {
        let mut given = entries.iter().filter_map(|entry| entry.get(name));
        put(name, given.rfind(|value| value.is_boolean()).cloned());
    }
    for name in ["remoteEnv", "containerEnv", "portsAttributes"] {
        put(name, Some(by_name(name).into()));
    }
    put("forwardPorts", unless_empty(ports(all("forwardPorts"))));
    put("hostRequirements", requirements(all("hostRequirements")));
    Value::Object(merged)
}

/// Later mounts on a target replace earlier ones; both forms are compared.
fn mounts_by_target<'a>(lists: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let mut kept: Vec<(Option<String>, Value)> = Vec::new();
    for mount in lists.filter_map(Value::as_array).flatten() {
        let target = match mount {
            Value::String(text) => mounts::target(text),
            other => other["target"].as_str().map(str::to_owned),
        };
        kept.retain(|(known, _)| *known != target);
        kept.push((target, mount.clone()));
    }
    kept.into_iter().map(|(_, mount)| mount).collect()
}

/// Each port once; `localhost:N` is N.
fn ports<'a>(lists: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for port in lists.filter_map(Value::as_array).flatten() {
        let local = port
            .as_str()
            .and_then(|text| text.strip_prefix("localhost:"));
        let port = match local.and_then(|number| number.parse::<u32>().ok()) {
            Some(number) => number.into(),
            None => port.clone(),
        };
        if !all.contains(&port) {
            all.push(port);
        }
    }
    all
}

/// The maximum of each, sizes in bytes.
fn requirements<'a>(all: impl Iterator<Item = &'a Value>) -> Option<Value> {
    let all: Vec<&Value> = all.collect();
    let cpus = all.iter().filter_map(|one| one["cpus"].as_u64()).max();
    let most = |name: &str| {
        let sizes = all
            .iter()
            .filter_map(|one| crate::host::size(one[name].as_str()?));
        sizes.max().filter(|bytes| *bytes > 0)
    };
    let gpu = all.iter().filter_map(|one| one.get("gpu")).fold(None, gpus);
    let (memory, storage) = (most("memory"), most("storage"));
    if cpus.unwrap_or_default() == 0 && memory.is_none() && storage.is_none() && gpu.is_none() {
        return None;
    }
    let mut merged = Map::from_iter([("cpus".to_owned(), cpus.unwrap_or_default().into())]);
    for (name, bytes) in [("memory", memory), ("storage", storage)] {
        merged.extend(bytes.map(|bytes| (name.to_owned(), bytes.to_string().into())));
    }
    merged.extend(gpu.map(|gpu| ("gpu".to_owned(), gpu)));
    Some(merged.into())
}

/// What two wishes for a GPU come to.
fn gpus(before: Option<Value>, gpu: &Value) -> Option<Value> {
    if *gpu == false {
        return before.or_else(|| Some(gpu.clone()));
    }
    let Some(before) = before.filter(|before| *before != false) else {
        return Some(gpu.clone());
    };
    if before == "optional" && *gpu == "optional" {
        return Some(before);
    }
    let both = [&before, gpu];
    let cores = both.iter().filter_map(|one| one["cores"].as_u64()).max();
    let sizes = both
        .iter()
        .filter_map(|one| crate::host::size(one["memory"].as_str()?));
    let mut merged = Map::new();
    merged.extend(cores.map(|cores| ("cores".to_owned(), cores.into())));
    merged.extend(
        sizes
            .max()
            .map(|bytes| ("memory".to_owned(), bytes.to_string().into())),
    );
    Some(merged.into())
}

#[cfg(test)]
mod tests;
