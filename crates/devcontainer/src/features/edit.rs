//! Edits of a devcontainer.json that keep everything else as it is written: comments, order and
//! layout.

use super::lockfile::without_version;
use crate::error::Error;
use crate::text::Source;
use crate::tree;
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstRootNode};

/// Adds Features, or gives those that are there other options.
pub fn add_features(
    file_name: &str,
    text: &str,
    features: &[(String, serde_json::Value)],
) -> Result<String, Error> {
    // Bounds and errors with places are the reader's.
    let source = Source::new(file_name, text);
    let root = tree::parse(&source, &mut Vec::new())?;
    let Ok(parsed) = CstRootNode::parse(text, &ParseOptions::default()) else {
        return Err(super::wrong(
            &source,
            "the configuration",
            &root,
            "an object",
        ));
    };
    let object = parsed.object_value_or_set().object_value_or_set("features");
    for (id, options) in features {
        match object.get(id) {
            Some(known) => known.set_value(input(options)),
            None => {
                object.append(id, input(options));
            }
        }
    }
    Ok(parsed.to_string())
}

fn input(value: &serde_json::Value) -> CstInputValue {
    match value {
        serde_json::Value::Null => CstInputValue::Null,
        serde_json::Value::Bool(flag) => CstInputValue::Bool(*flag),
        serde_json::Value::Number(number) => CstInputValue::Number(number.to_string()),
        serde_json::Value::String(text) => CstInputValue::String(text.clone()),
        serde_json::Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        serde_json::Value::Object(entries) => CstInputValue::Object(
            entries
                .iter()
                .map(|(name, value)| (name.clone(), input(value)))
                .collect(),
        ),
    }
}

/// Gives a Feature of the file another version tag; None when the file has no such Feature.
pub fn set_version(
    file_name: &str,
    text: &str,
    feature: &str,
    version: &str,
) -> Result<Option<String>, Error> {
    let source = Source::new(file_name, text);
    let root = tree::parse(&source, &mut Vec::new())?;
    let wanted = without_version(feature);
    let Some(features) = root.get("features") else {
        return Ok(None);
    };
    let tree::Value::Object(entries) = &features.node.value else {
        return Ok(None);
    };
    let Some(entry) = entries
        .iter()
        .find(|entry| without_version(&entry.key).eq_ignore_ascii_case(wanted))
    else {
        return Ok(None);
    };
    let key = serde_json::Value::from(format!("{}:{version}", without_version(&entry.key)));
    let span = entry.key_span;
    let edited = format!(
        "{}{key}{}",
        text.get(..span.start).unwrap_or_default(),
        text.get(span.end..).unwrap_or_default()
    );
    Ok(Some(edited))
}
