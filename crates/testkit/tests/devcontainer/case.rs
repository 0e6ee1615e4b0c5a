//! The format of a case.
//!
//! `@W@` is the workspace folder, always `/w/NAME`; `@B@` its base name; `@IMG@` the base image.
//! A registry's port is replaced by a free one everywhere, so that cases run side by side.

use boatyard_testkit::development;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// One case.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) why: String,
    /// `engine`, `registry`, `compose`.
    pub(crate) needs: Vec<String>,
    /// Path below the workspace and text.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) images: Vec<Image>,
    pub(crate) registry: Option<Registry>,
    /// The caller's user id, who owns the workspace.
    pub(crate) as_uid: Option<u32>,
    pub(crate) command: String,
    pub(crate) expect: Value,
}

/// An image built before the case.
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) dockerfile: String,
}

/// Artifacts served before the case.
pub(crate) struct Registry {
    pub(crate) port: u16,
    pub(crate) artifacts: Vec<Artifact>,
}

/// A Feature or Template of a registry.
#[derive(Clone)]
pub(crate) struct Artifact {
    /// Repository.
    pub(crate) reference: String,
    /// `feature` or `template`.
    pub(crate) kind: String,
    /// Folder below the workspace.
    pub(crate) source: String,
    pub(crate) tags: Vec<String>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/devcontainer")
}

/// Names of a folder's cases.
pub(crate) fn names(of: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder().join(of)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .map(|name| name.strip_suffix(".json").unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

impl Case {
    /// Reads `FOLDER/NAME`.
    pub(crate) fn read(file: &str) -> Self {
        let json = std::fs::read(folder().join(format!("{file}.json"))).unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        let name = text(&json["name"]);
        assert!(file.ends_with(&format!("/{name}")), "{file} is of {name}");
        let json = filled(&json, &|text| {
            text.replace("@W@", &format!("/w/{name}"))
                .replace("@B@", &name)
                .replace("@IMG@", development::IMAGE)
        });
        Self::parse(&json)
    }

    fn parse(json: &Value) -> Self {
        let none = Map::new();
        let files = json["files"].as_object().unwrap_or(&none).iter();
        let registry = json.get("registry").map(|registry| Registry {
            port: registry["port"].as_u64().unwrap().try_into().unwrap(),
            artifacts: registry["artifacts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|artifact| Artifact {
                    reference: text(&artifact["ref"]),
                    kind: text(&artifact["kind"]),
                    source: text(&artifact["src"]),
                    tags: texts(&artifact["tags"]),
                })
                .collect(),
        });
        Self {
            name: text(&json["name"]),
            why: text(&json["why"]),
            needs: texts(&json["needs"]),
            files: files
                .map(|(path, body)| (path.clone(), text(body)))
                .collect(),
            images: json["images"]
                .as_array()
                .into_iter()
                .flatten()
                .map(Image::parse)
                .collect(),
            registry,
            as_uid: json
                .get("as_uid")
                .map(|uid| uid.as_u64().unwrap().try_into().unwrap()),
            command: text(&json["command"]),
            expect: json["expect"].clone(),
        }
    }

    /// The same with another port of the registry.
    pub(crate) fn at(self, ports: Option<(u16, u16)>) -> Self {
        let Some((given, free)) = ports else {
            return self;
        };
        let given = format!("localhost:{given}");
        let free = format!("localhost:{free}");
        let moved = |text: &str| text.replace(&given, &free);
        Self {
            files: self
                .files
                .iter()
                .map(|(path, body)| (path.clone(), moved(body)))
                .collect(),
            command: moved(&self.command),
            expect: filled(&self.expect, &moved),
            ..self
        }
    }
}

impl Image {
    fn parse(json: &Value) -> Self {
        let from = json["from"].as_str().unwrap_or(development::IMAGE);
        let mut dockerfile = format!("FROM {from}\n");
        for line in texts(&json["run"]) {
            dockerfile.push_str(&format!("{line}\n"));
        }
        for (name, value) in json["labels"].as_object().into_iter().flatten() {
            let mut quoted = String::new();
            for letter in text(value).chars() {
                if matches!(letter, '"' | '\\' | '$') {
                    quoted.push('\\');
                }
                quoted.push(letter);
            }
            dockerfile.push_str(&format!("LABEL {name}=\"{quoted}\"\n"));
        }
        Self {
            name: text(&json["name"]),
            dockerfile,
        }
    }
}

/// Every text of a value replaced, keys too.
fn filled(value: &Value, by: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => by(text).into(),
        Value::Array(items) => items.iter().map(|item| filled(item, by)).collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| (by(key), filled(value, by)))
            .collect(),
        other => other.clone(),
    }
}
