//! The README of a Feature or template, made from its metadata and its NOTES.md.
//!
//! The layout is the one that the published collections have, so that regenerating one of theirs
//! changes nothing but what changed.

use crate::error::Error;
use crate::text::Source;
use crate::tree::{self, Node, Value};

/// What a README is about.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// devcontainer-feature.json or devcontainer-template.json, as errors name it.
    pub file_name: &'a str,
    /// Its text.
    pub metadata: &'a str,
    /// NOTES.md, or nothing.
    pub notes: &'a str,
    /// Where the metadata file is seen on the web, or its name.
    pub url: &'a str,
    /// For Features: `ghcr.io` and `owner/repository`.
    pub published: Option<(&'a str, &'a str)>,
}

/// The README's text; None when the metadata has no id.
pub fn readme(about: &About<'_>) -> Result<Option<String>, Error> {
    let source = Source::new(about.file_name, about.metadata);
    let root = tree::parse(&source, &mut Vec::new())?;
    let text = |name: &str| root.get(name).and_then(|entry| entry.node.as_str());
    let Some(id) = text("id").filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    let mut parts = vec![match text("name") {
        Some(name) => format!("# {name} ({id})"),
        None => format!("# {id}"),
    }];
    parts.push(text("description").unwrap_or_default().to_owned());
    if let Some((registry, namespace)) = about.published {
        let version = text("version").and_then(|version| version.split('.').next());
        let version = version
            .filter(|major| !major.is_empty())
            .unwrap_or("latest");
        parts.push(format!(
            "## Example Usage\n\n```json\n\"features\": {{\n    \"{registry}/{namespace}/{id}:{version}\": {{}}\n}}\n```"
        ));
    }
    let options = options(&root);
    let mut middle = options;
    if about.published.is_some() {
        middle.push_str(&extensions(&root));
    }
    let mut body = parts.join("\n\n");
    body.push_str("\n\n");
    body.push_str(&middle);
    body.push_str(if about.published.is_some() {
        "\n"
    } else {
        "\n\n"
    });
    body.push_str(about.notes);
    let name = about.file_name.rsplit('/').next().unwrap_or_default();
    Ok(Some(format!(
        "{}\n{body}\n\n---\n\n_Note: This file was auto-generated from the [{name}]({}).  Add additional notes to a `NOTES.md`._\n",
        header(&root),
        about.url
    )))
}

fn header(root: &Node) -> String {
    let deprecated = matches!(
        root.get("deprecated").map(|entry| &entry.node.value),
        Some(Value::Bool(true))
    );
    let old: Vec<String> = strings(root.get("legacyIds").map(|entry| &entry.node))
        .map(|id| format!("'{id}'"))
        .collect();
    if !deprecated && old.is_empty() {
        return String::new();
    }
    let mut text = "### **IMPORTANT NOTE**\n".to_owned();
    if deprecated {
        text.push_str("- **This Feature is deprecated, and will no longer receive any further updates/support.**\n");
    }
    if !old.is_empty() {
        text.push_str(&format!(
            "- **Ids used to publish this Feature in the past - {}**\n",
            old.join(", ")
        ));
    }
    text
}

fn options(root: &Node) -> String {
    let Some(Value::Object(entries)) = root.get("options").map(|entry| &entry.node.value) else {
        return String::new();
    };
    let mut lines = vec![
        "## Options\n".to_owned(),
        "| Options Id | Description | Type | Default Value |".to_owned(),
        "|-----|-----|-----|-----|".to_owned(),
    ];
    for option in entries {
        let cell = |name: &str, missing: &str| {
            let shown = match option.node.get(name).map(|entry| &entry.node.value) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Bool(flag)) => flag.to_string(),
                Some(Value::Number(number)) => number.to_string(),
                _ => missing.to_owned(),
            };
            if shown.is_empty() {
                "-".to_owned()
            } else {
                shown
            }
        };
        lines.push(format!(
            "| {} | {} | {} | {} |",
            option.key,
            cell("description", "-"),
            cell("type", "-"),
            cell("default", "undefined")
        ));
    }
    lines.join("\n")
}

fn extensions(root: &Node) -> String {
    let found = root
        .get("customizations")
        .and_then(|entry| entry.node.get("vscode"))
        .and_then(|entry| entry.node.get("extensions"));
    let items: Vec<String> = strings(found.map(|entry| &entry.node))
        .map(|extension| format!("- `{extension}`\n"))
        .collect();
    if items.is_empty() {
        return "\n".to_owned();
    }
    format!(
        "\n\n## Customizations\n\n### VS Code Extensions\n\n{}",
        items.concat()
    )
}

fn strings(node: Option<&Node>) -> impl Iterator<Item = &str> {
    let items = match node.map(|node| &node.value) {
        Some(Value::Array(items)) => items.as_slice(),
        _ => &[],
    };
    items.iter().filter_map(Node::as_str)
}
