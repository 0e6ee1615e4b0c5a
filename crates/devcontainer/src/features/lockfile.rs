//! devcontainer-lock.json: which exact Features an environment was made of.
//!
//! Written as the reference writes it (sorted, two spaces, a newline at the end; local Features are
//! not in it), so that both can share one file. Identifiers are looked up without regard to case.

use super::{Reference, Resolution, collate};
use crate::error::{Error, ErrorKind};
use crate::text::Source;
use crate::tree::{self, Node, Value};
use std::collections::BTreeSet;

/// A lockfile's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lockfile {
    /// Identifier as written, and what it stands for, sorted.
    features: Vec<(String, Locked)>,
}

/// What an identifier stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locked {
    /// The Feature's version; empty when it has none.
    pub version: String,
    /// With its digest, or its URL.
    pub resolved: String,
    /// `sha256:…` of the manifest, or of the tarball.
    pub integrity: String,
    /// Identifiers of its dependencies, in its own order.
    pub depends_on: Vec<String>,
}

impl Lockfile {
    /// The file's name beside a devcontainer.json of the given name.
    pub fn file_name(config_name: &str) -> &'static str {
        if config_name.starts_with('.') {
            ".devcontainer-lock.json"
        } else {
            "devcontainer-lock.json"
        }
    }

    /// The lockfile's path beside a configuration's.
    pub fn path_beside(config_file: &str) -> String {
        match config_file.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/{}", Lockfile::file_name(name)),
            None => Lockfile::file_name(config_file).to_owned(),
        }
    }

    /// Parses a file; an empty one is a wish to have one, and None.
    pub fn parse(file_name: &str, text: &str) -> Result<Option<Lockfile>, Error> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let source = Source::new(file_name, text);
        let root = tree::parse(&source, &mut Vec::new())?;
        let Value::Object(_) = &root.value else {
            return Err(super::wrong(&source, "the lockfile", &root, "an object"));
        };
        let mut lockfile = Lockfile::default();
        if let Some(features) = root.get("features") {
            let Value::Object(entries) = &features.node.value else {
                return Err(super::wrong(
                    &source,
                    "features",
                    &features.node,
                    "an object",
                ));
            };
            for entry in entries {
                let path = format!("features.{:?}", entry.key);
                let locked = locked(&source, &path, &entry.node)?;
                lockfile.features.push((entry.key.clone(), locked));
            }
        }
        Ok(Some(lockfile))
    }

    /// What a resolution comes to; `left_out` are identifiers that devcontainer.json does not name.
    pub fn of(resolution: &Resolution, left_out: &BTreeSet<String>) -> Lockfile {
        let mut features: Vec<(String, Locked)> = Vec::new();
        for resolved in &resolution.order {
            let Some(digest) = &resolved.digest else {
                continue;
            };
            let place = match &resolved.need.reference {
                Reference::Oci(reference) => format!("{}@{digest}", reference.resource()),
                Reference::Tarball { url } => url.clone(),
                Reference::Local { .. } => continue,
            };
            if left_out.contains(&resolved.id) {
                continue;
            }
            let locked = Locked {
                version: resolved.metadata.version.clone().unwrap_or_default(),
                resolved: place,
                integrity: digest.clone(),
                depends_on: resolved
                    .metadata
                    .depends_on
                    .iter()
                    .map(|dependency| dependency.id.clone())
                    .collect(),
            };
            // One identifier with two sets of options is one entry.
            features.retain(|(id, _)| *id != resolved.id);
            features.push((resolved.id.clone(), locked));
        }
        features.sort_by(|(left, _), (right, _)| collate::compare(left, right));
        Lockfile { features }
    }

    /// Whether nothing is locked.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Locked)> {
        self.features
            .iter()
            .map(|(id, locked)| (id.as_str(), locked))
    }

    /// What an identifier stands for.
    pub fn get(&self, id: &str) -> Option<&Locked> {
        let exact = self.features.iter().find(|(known, _)| known == id);
        exact
            .or_else(|| {
                self.features
                    .iter()
                    .find(|(known, _)| known.eq_ignore_ascii_case(id))
            })
            .map(|(_, locked)| locked)
    }

    /// The file's text.
    pub fn emit(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut entries = Vec::with_capacity(self.features.len());
        for (id, locked) in &self.features {
            let mut lines = Vec::new();
            if !locked.version.is_empty() {
                lines.push(format!("      \"version\": {}", quoted(&locked.version)));
            }
            lines.push(format!("      \"resolved\": {}", quoted(&locked.resolved)));
            lines.push(format!(
                "      \"integrity\": {}",
                quoted(&locked.integrity)
            ));
            if !locked.depends_on.is_empty() {
                let items: Vec<String> = locked
                    .depends_on
                    .iter()
                    .map(|id| format!("        {}", quoted(id)))
                    .collect();
                lines.push(format!(
                    "      \"dependsOn\": [\n{}\n      ]",
                    items.join(",\n")
                ));
            }
            entries.push(format!(
                "    {}: {{\n{}\n    }}",
                quoted(id),
                lines.join(",\n")
            ));
        }
        if entries.is_empty() {
            return "{\n  \"features\": {}\n}\n".to_owned();
        }
        format!(
            "{{\n  \"features\": {{\n{}\n  }}\n}}\n",
            entries.join(",\n")
        )
    }

    /// Whether a file's text says the same, however it is laid out.
    pub fn says(&self, text: &str) -> bool {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        json(text).is_some_and(|other| Some(other) == json(&self.emit()))
    }
}

fn locked(source: &Source, path: &str, node: &Node) -> Result<Locked, Error> {
    let Value::Object(_) = &node.value else {
        return Err(super::wrong(source, path, node, "an object"));
    };
    let text = |name: &str| {
        let found = node.get(name).and_then(|entry| entry.node.as_str());
        found.unwrap_or_default().to_owned()
    };
    let integrity = text("integrity");
    let hex = integrity.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let kind = ErrorKind::Invalid {
            path: crate::config::shown(&format!("{path}.integrity")),
            reason:
                "must be sha256: and 64 hexadecimal digits; remove the entry to have it made again"
                    .to_owned(),
        };
        return Err(Error::new(source, node.span, kind));
    }
    let depends_on = match node.get("dependsOn").map(|entry| &entry.node.value) {
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    Ok(Locked {
        version: text("version"),
        resolved: text("resolved"),
        integrity,
        depends_on,
    })
}

/// An identifier without its tag or digest.
pub fn without_version(id: &str) -> &str {
    let name = id.rfind('/').map_or(0, |slash| slash + 1);
    match id[name..].find([':', '@']) {
        Some(at) => &id[..name + at],
        None => id,
    }
}
