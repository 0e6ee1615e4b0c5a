//! Templates: files of a new project, with options filled in.
//!
//! Owns the template's metadata, what its options come to, which files are left out, and what is
//! added to the metadata when it is published. Fetching, reading and writing are boatyard-image's
//! `collection`.

use crate::error::Error;
use crate::features::OciReference;
use crate::text::Source;
use crate::tree::{self, Node, Value};
use std::collections::BTreeMap;

/// The name of the metadata file.
pub const METADATA_FILE: &str = "devcontainer-template.json";
/// Files of a template that are about the template.
const ABOUT: [&str; 3] = [METADATA_FILE, "README.md", "NOTES.md"];

/// What a template says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// `id`.
    pub id: String,
    /// `version`.
    pub version: Option<String>,
    /// Options and their defaults, in the order of the file.
    pub options: Vec<(String, Option<String>)>,
    /// Files and, with `/*` at the end, folders that one may do without.
    pub optional_paths: Vec<String>,
    /// All of it.
    pub json: serde_json::Value,
}

impl Template {
    /// Parses devcontainer-template.json.
    pub fn parse(file_name: &str, text: &str) -> Result<Template, Error> {
        let source = Source::new(file_name, text);
        let root = tree::parse(&source, &mut Vec::new())?;
        let reader = crate::config::Reader::new(&source, None);
        reader.object("the template", &root)?;
        let text = |name: &str| -> Result<Option<String>, Error> {
            root.get(name)
                .map(|entry| reader.string(name, &entry.node))
                .transpose()
        };
        let mut options = Vec::new();
        if let Some(entry) = root.get("options") {
            for option in reader.object("options", &entry.node)? {
                let path = format!("options.{}", option.key);
                reader.object(&path, &option.node)?;
                let default = option.node.get("default").map(|entry| &entry.node);
                options.push((option.key.clone(), default.and_then(plain)));
            }
        }
        let optional_paths = match root.get("optionalPaths") {
            Some(entry) => reader.strings("optionalPaths", &entry.node)?,
            None => Vec::new(),
        };
        Ok(Template {
            id: text("id")?.unwrap_or_default(),
            version: text("version")?,
            options,
            optional_paths,
            json: root.to_json(),
        })
    }

    /// The value of every option: what is given, else the default.
    pub fn values(&self, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut values: BTreeMap<String, String> = self
            .options
            .iter()
            .filter_map(|(name, default)| Some((name.clone(), default.clone()?)))
            .collect();
        values.extend(given.clone());
        values
    }
}

fn plain(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Fills in `${templateOption:NAME}`; an option without a value is empty.
pub fn substitute(text: &str, values: &BTreeMap<String, String>) -> String {
    const START: &str = "${templateOption:";
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        let (before, after) = (&rest[..at], &rest[at + START.len()..]);
        result.push_str(before);
        let name = after.split('}').next().unwrap_or_default();
        let option = name.trim();
        let is_name = !option.is_empty()
            && option
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_name && after.len() > name.len() {
            result.push_str(values.get(option).map_or("", String::as_str));
            rest = &after[name.len() + 1..];
        } else {
            result.push_str(START);
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

/// Whether a file is no part of the project: it is about the template, or the caller wants none of
/// it.
pub fn is_left_out(path: &str, omit: &[String]) -> bool {
    ABOUT.contains(&path)
        || omit.iter().any(|omitted| match omitted.strip_suffix("/*") {
            Some(folder) => path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/')),
            None => omitted == path,
        })
}

/// What is added to a template's metadata when it is published. `files` are all of its files,
/// `configuration` the text of its devcontainer.json.
pub fn published(
    template: &Template,
    files: &[&str],
    file_name: &str,
    configuration: &str,
) -> Result<serde_json::Value, Error> {
    let source = Source::new(file_name, configuration);
    let root = tree::parse(&source, &mut Vec::new())?;
    let has = |name: &str| root.get(name).is_some();
    let kind = if has("image") {
        "image"
    } else if has("dockerFile") || has("build") {
        "dockerfile"
    } else if has("dockerComposeFile") {
        "dockerCompose"
    } else {
        let reader = crate::config::Reader::new(&source, None);
        return Err(reader.wrong(
            "the template's configuration",
            &root,
            "one that names an image, a build or a dockerComposeFile",
        ));
    };
    let features: Vec<String> = match root.get("features").map(|entry| &entry.node.value) {
        Some(Value::Object(entries)) => entries
            .iter()
            .filter_map(|entry| Some(OciReference::parse(&entry.key).ok()?.resource()))
            .collect(),
        _ => Vec::new(),
    };
    let mut json = template.json.clone();
    if let Some(object) = json.as_object_mut() {
        object.insert("type".into(), kind.into());
        object.insert("fileCount".into(), files.len().into());
        object.insert("featureIds".into(), features.into());
        object.insert("files".into(), files.into());
        if !template.optional_paths.is_empty() {
            let paths: Vec<String> = template
                .optional_paths
                .iter()
                .map(|path| alone(path, files).unwrap_or(path).to_owned())
                .collect();
            object.insert("optionalPaths".into(), paths.into());
        }
    }
    Ok(json)
}

/// The one file of an optional folder, which says more than the folder.
fn alone<'a>(path: &str, files: &[&'a str]) -> Option<&'a str> {
    let folder = path.strip_suffix('*').filter(|folder| folder.len() > 1)?;
    let mut inside = files.iter().filter(|file| file.starts_with(folder));
    let first = inside.next()?;
    inside.next().is_none().then_some(*first)
}

#[cfg(test)]
mod tests;
