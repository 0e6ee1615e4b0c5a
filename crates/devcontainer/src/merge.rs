//! The image's label `devcontainer.metadata`, and the merge of its entries with the file.
//!
//! Layers are merged in order, the file last, by the specification's table: flags are true when
//! any layer says so; lists are ordered unions; mounts replace one another by target; variables
//! merge one by one; single values are the last given; lifecycle commands are all kept, in order;
//! host requirements are the maximum of each. An image's label cannot be mended by the one who
//! uses the image, so what is wrong there is left out with a note and never an error.

use crate::config::{Config, Reader, append_new};
use crate::hooks::{Hook, HookName};
use crate::host::HostRequirements;
use crate::mounts::Mount;
use crate::ports::{Port, PortAttributes};
use crate::substitute::{self, Variables};
use crate::text::Source;
use crate::tree::{self, Node, Value};
use std::collections::BTreeMap;

/// The label's name.
pub(crate) const LABEL: &str = "devcontainer.metadata";
/// Who a label's lifecycle commands come from, unless the entry has an id.
const ORIGIN: &str = "image metadata";

/// Properties that a file hands on to the image it makes, in its label. Others belong to the file;
/// a Feature's entry has an id and an entrypoint besides.
pub(crate) const FROM_FILE: &[&str] = &[
    "onCreateCommand",
    "updateContentCommand",
    "postCreateCommand",
    "postStartCommand",
    "postAttachCommand",
    "waitFor",
    "customizations",
    "mounts",
    "containerEnv",
    "containerUser",
    "init",
    "privileged",
    "capAdd",
    "securityOpt",
    "remoteUser",
    "userEnvProbe",
    "remoteEnv",
    "overrideCommand",
    "portsAttributes",
    "otherPortsAttributes",
    "forwardPorts",
    "shutdownAction",
    "updateRemoteUserUID",
    "hostRequirements",
];

/// Properties that a Feature hands on, in the reference's order.
pub(crate) const FROM_FEATURE: &[&str] = &[
    "onCreateCommand",
    "updateContentCommand",
    "postCreateCommand",
    "postStartCommand",
    "postAttachCommand",
    "init",
    "privileged",
    "capAdd",
    "securityOpt",
    "entrypoint",
    "mounts",
    "customizations",
];

/// The label's entries, substituted and typed, with notes on what could not be used.
pub(crate) fn label(text: &str, variables: &Variables<'_>) -> (Vec<Config>, Vec<String>) {
    let source = Source::new("image label devcontainer.metadata", text);
    let mut notes = Vec::new();
    let root = match tree::parse(&source, &mut Vec::new()) {
        Ok(root) => root,
        Err(error) => {
            notes.push(format!(
                "the image's label {LABEL} was left out: {}",
                error.sentence()
            ));
            return (Vec::new(), notes);
        }
    };
    let entries: Vec<&Node> = match &root.value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(_) => vec![&root],
        _ => {
            notes.push(format!("the image's label {LABEL} was left out: it is {}, but must be an array or an object", root.kind()));
            return (Vec::new(), notes);
        }
    };
    let configs = entries
        .into_iter()
        .filter_map(|entry| one(&source, entry, variables, &mut notes))
        .collect();
    (configs, notes)
}

fn one(
    source: &Source,
    node: &Node,
    variables: &Variables<'_>,
    notes: &mut Vec<String>,
) -> Option<Config> {
    let Value::Object(entries) = &node.value else {
        notes.push(format!(
            "an entry of the image's label {LABEL} was left out: it is {}, but must be an object",
            node.kind()
        ));
        return None;
    };
    let reader = Reader::new(source, Some(&variables.context.local_workspace_folder));
    let id = node
        .get("id")
        .and_then(|entry| entry.node.as_str())
        .filter(|id| !id.is_empty());
    let origin = id.unwrap_or(ORIGIN);
    let mut config = Config::default();
    for entry in entries.iter().filter(|entry| {
        let name = entry.key.as_str();
        FROM_FILE.contains(&name) || matches!(name, "id" | "entrypoint")
    }) {
        let taken = substitute::tree(source, &entry.node, variables).and_then(|node| {
            let entry = tree::Entry {
                key: entry.key.clone(),
                key_span: entry.key_span,
                node,
            };
            config.property(&reader, &entry, origin)
        });
        if let Err(error) = taken {
            notes.push(format!(
                "{} of the image's metadata was left out: {}",
                entry.key,
                error.kind()
            ));
        }
    }
    config.finish();
    Some(config)
}

/// All layers as one. `name`, `image`, workspace and `initializeCommand` are the file's alone and
/// stay with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merged {
    pub(crate) layer: Config,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) entrypoints: Vec<String>,
    pub(crate) customizations: BTreeMap<String, Vec<serde_json::Value>>,
    pub(crate) forward_ports: Vec<Port>,
    pub(crate) ports_attributes: BTreeMap<String, PortAttributes>,
    pub(crate) host_requirements: HostRequirements,
}

/// Merges layers, the most important last.
pub(crate) fn merge(layers: &[Config]) -> Merged {
    let mut merged = Merged::default();
    let into = &mut merged.layer;
    for layer in layers {
        into.init |= layer.init;
        into.privileged |= layer.privileged;
        append_new(&mut into.cap_add, &layer.cap_add);
        append_new(&mut into.security_opt, &layer.security_opt);
        into.container_env.extend(layer.container_env.clone());
        into.remote_env.extend(layer.remote_env.clone());
        last(&mut into.container_user, &layer.container_user);
        last(&mut into.remote_user, &layer.remote_user);
        last(&mut into.wait_for, &layer.wait_for);
        last(&mut into.user_env_probe, &layer.user_env_probe);
        last(&mut into.override_command, &layer.override_command);
        last(
            &mut into.other_ports_attributes,
            &layer.other_ports_attributes,
        );
        last(
            &mut into.update_remote_user_uid,
            &layer.update_remote_user_uid,
        );
        last(&mut into.shutdown_action, &layer.shutdown_action);
        into.notes.extend(layer.notes.iter().cloned());
        merged.entrypoints.extend(layer.entrypoint.clone());
        merged
            .ports_attributes
            .extend(layer.ports_attributes.clone());
        merged.host_requirements.raise(&layer.host_requirements);
        append_new(&mut merged.forward_ports, &layer.forward_ports);
        for (tool, settings) in &layer.customizations {
            merged
                .customizations
                .entry(tool.clone())
                .or_default()
                .push(settings.clone());
        }
        merged.mounts.extend(layer.mounts.iter().cloned());
    }
    merged.mounts = by_target(merged.mounts);
    for name in HookName::INSIDE {
        let commands = layers
            .iter()
            .filter_map(|layer| layer.hooks.get(&name))
            .filter(|commands| !commands.is_empty());
        merged.hooks.extend(commands.map(|commands| Hook {
            name,
            commands: commands.clone(),
        }));
    }
    merged
}

fn last<T: Clone>(into: &mut Option<T>, value: &Option<T>) {
    if value.is_some() {
        into.clone_from(value);
    }
}

/// Of several mounts on one target the last stays, at its own place in the order.
pub(crate) fn by_target(mounts: Vec<Mount>) -> Vec<Mount> {
    let mut targets = std::collections::BTreeSet::new();
    let mut kept: Vec<Mount> = mounts
        .into_iter()
        .rev()
        .filter(|mount| targets.insert(mount.target.clone()))
        .collect();
    kept.reverse();
    kept
}
