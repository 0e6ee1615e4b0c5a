//! devcontainer-feature.json: what a Feature says of itself.
//!
//! What decides how it is installed is typed, and wrong types are errors with their place. What is
//! handed on to the label is kept as it is written: whoever reads the label judges it, as it does
//! for every image. Unknown properties are ignored; deprecated ones are moved to where they belong.

use super::options::OptionValue;
use super::{Requested, wrong};
use crate::error::Error;
use crate::merge::FROM_FEATURE;
use crate::text::Source;
use crate::tree::{self, Node, Value};

/// A Feature's metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// `id`; empty when it is missing.
    pub id: String,
    /// `version`, a semantic version.
    pub version: Option<String>,
    /// `name`, for people.
    pub name: Option<String>,
    /// `documentationURL`.
    pub documentation_url: Option<String>,
    /// `options`, in the order of the file.
    pub options: Vec<(String, OptionSpec)>,
    /// `containerEnv`, in the order of the file; refers to the image's variables.
    pub container_env: Vec<(String, String)>,
    /// `dependsOn`, in the order of the file.
    pub depends_on: Vec<Requested>,
    /// `installsAfter`.
    pub installs_after: Vec<String>,
    /// `legacyIds`: names it was published under.
    pub legacy_ids: Vec<String>,
    /// `currentId`: its name, in copies published under an old one.
    pub current_id: Option<String>,
    /// `deprecated`.
    pub deprecated: bool,
    /// What goes into the label, in the label's order.
    pub label: Vec<(String, serde_json::Value)>,
    /// All of it, as JSON.
    pub json: serde_json::Value,
}

/// A declared option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionSpec {
    /// `default`.
    pub default: Option<OptionValue>,
    /// `enum`: the only values allowed.
    pub choices: Vec<String>,
}

impl Metadata {
    /// Parses the text; errors name it `file_name`.
    pub fn parse(file_name: &str, text: &str) -> Result<Metadata, Error> {
        let source = Source::new(file_name, text);
        let root = tree::parse(&source, &mut Vec::new())?;
        let Value::Object(entries) = &root.value else {
            return Err(wrong(&source, "the metadata", &root, "an object"));
        };
        let mut metadata = Metadata {
            json: root.to_json(),
            ..Metadata::default()
        };
        for entry in entries {
            metadata.property(&source, &entry.key, &entry.node)?;
        }
        metadata.label = FROM_FEATURE
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), root.get(name)?.node.to_json())))
            .filter(|(_, value)| !value.is_null())
            .collect();
        metadata.move_old_settings(&root);
        Ok(metadata)
    }

    fn property(&mut self, source: &Source, path: &str, node: &Node) -> Result<(), Error> {
        if matches!(node.value, Value::Null) {
            return Ok(());
        }
        let text = || {
            node.as_str()
                .map(str::to_owned)
                .ok_or_else(|| wrong(source, path, node, "a string"))
        };
        match path {
            "id" => self.id = text()?,
            "version" => self.version = Some(text()?),
            "name" => self.name = node.as_str().map(str::to_owned),
            "documentationURL" => self.documentation_url = node.as_str().map(str::to_owned),
            "currentId" => self.current_id = Some(text()?),
            "deprecated" => self.deprecated = matches!(node.value, Value::Bool(true)),
            "options" => self.options = options(source, path, node)?,
            "containerEnv" => self.container_env = variables(source, path, node)?,
            "dependsOn" => self.depends_on = super::read(source, path, node)?,
            "installsAfter" => self.installs_after = strings(source, path, node)?,
            "legacyIds" => self.legacy_ids = strings(source, path, node)?,
            _ => {}
        }
        Ok(())
    }

    /// `extensions` and `settings` of the first form are an editor's.
    fn move_old_settings(&mut self, root: &Node) {
        let old = |name: &str| root.get(name).map(|entry| entry.node.to_json());
        let (extensions, settings) = (old("extensions"), old("settings"));
        if extensions.is_none() && settings.is_none() {
            return;
        }
        let place = self
            .label
            .iter()
            .position(|(name, _)| name == "customizations")
            .unwrap_or_else(|| {
                self.label
                    .push(("customizations".to_owned(), serde_json::json!({})));
                self.label.len() - 1
            });
        let Some(customizations) = self.label[place].1.as_object_mut() else {
            return;
        };
        let editor = customizations
            .entry("vscode")
            .or_insert_with(|| serde_json::json!({}));
        let Some(editor) = editor.as_object_mut() else {
            return;
        };
        if let Some(serde_json::Value::Array(more)) = extensions {
            let known = editor
                .entry("extensions")
                .or_insert_with(|| serde_json::json!([]));
            if let Some(known) = known.as_array_mut() {
                known.extend(more);
            }
        }
        if let Some(serde_json::Value::Object(mut all)) = settings {
            if let Some(serde_json::Value::Object(newer)) = editor.get("settings").cloned() {
                all.extend(newer);
            }
            editor.insert("settings".to_owned(), all.into());
        }
    }

    /// Its names, the one of now first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.current_id.as_deref().unwrap_or(&self.id))
            .chain(self.legacy_ids.iter().map(String::as_str))
    }
}

fn options(source: &Source, path: &str, node: &Node) -> Result<Vec<(String, OptionSpec)>, Error> {
    let Value::Object(entries) = &node.value else {
        return Err(wrong(source, path, node, "an object"));
    };
    let mut options = Vec::with_capacity(entries.len());
    for entry in entries {
        let path = format!("{path}.{}", entry.key);
        if !matches!(entry.node.value, Value::Object(_)) {
            return Err(wrong(source, &path, &entry.node, "an object"));
        }
        let mut option = OptionSpec::default();
        if let Some(default) = entry.node.get("default")
            && !matches!(default.node.value, Value::Null)
        {
            let path = format!("{path}.default");
            option.default = Some(
                OptionValue::read(&default.node)
                    .ok_or_else(|| wrong(source, &path, &default.node, "a string or a boolean"))?,
            );
        }
        if let Some(choices) = entry.node.get("enum") {
            option.choices = strings(source, &format!("{path}.enum"), &choices.node)?;
        }
        options.push((entry.key.clone(), option));
    }
    Ok(options)
}

fn variables(source: &Source, path: &str, node: &Node) -> Result<Vec<(String, String)>, Error> {
    let Value::Object(entries) = &node.value else {
        return Err(wrong(source, path, node, "an object"));
    };
    let one = |entry: &tree::Entry| {
        let path = format!("{path}.{}", entry.key);
        let value = OptionValue::read(&entry.node)
            .map(|value| value.text())
            .filter(|value| !value.contains('\0'))
            .filter(|_| !entry.key.is_empty() && !entry.key.contains(['=', '\0']))
            .ok_or_else(|| wrong(source, &path, &entry.node, "a variable's value"))?;
        Ok((entry.key.clone(), value))
    };
    entries.iter().map(one).collect()
}

fn strings(source: &Source, path: &str, node: &Node) -> Result<Vec<String>, Error> {
    let Value::Array(items) = &node.value else {
        return Err(wrong(source, path, node, "an array of strings"));
    };
    let one = |(at, item): (usize, &Node)| {
        item.as_str()
            .map(str::to_owned)
            .ok_or_else(|| wrong(source, &format!("{path}[{at}]"), item, "a string"))
    };
    items.iter().enumerate().map(one).collect()
}
