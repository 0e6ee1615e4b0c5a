//! `templates …`: Templates as their users see them.

use super::args::{Apply, TemplateMetadata};
use super::configuration;
use super::log::Log;
use super::registry;
use crate::failure::Failure;
use boatyard_image::artifact::{Content, Folder, METADATA};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

const METADATA_FILE: &str = "devcontainer-template.json";
/// What describes a Template is not part of it.
const LEFT_OUT: [&str; 3] = [METADATA_FILE, "README.md", "NOTES.md"];

/// `templates apply`.
pub(crate) async fn apply(asked: &Apply) -> Result<ExitCode, Failure> {
    let log = Log::of(&asked.log_level, false);
    let target = configuration::absolute(asked.workspace_folder.as_deref().unwrap_or("."))?;
    let mut options: BTreeMap<String, String> = given("--template-args", &asked.template_args)?;
    let features: Vec<Map<String, Value>> = given("--features", &asked.features)?;
    let omitted: Vec<String> = given("--omit-paths", &asked.omit_paths)?;
    let artifacts = registry::artifacts()?;
    let reference = registry::reference(&asked.template_id)?;
    let artifact = registry::manifest(&artifacts, &reference).await?;
    let folder = artifacts.folder(&reference, &artifact).await;
    let folder = folder.map_err(|error| Failure::from_error(&error))?;
    for (name, default) in defaults(&folder) {
        options.entry(name).or_insert(default);
    }
    let mut applied = Folder::default();
    for (path, content) in &folder.entries {
        if is_omitted(path, &omitted) || matches!(content, Content::Folder) {
            continue;
        }
        let content = filled(content, &options);
        applied.add(path.clone(), content).map_err(Failure::new)?;
    }
    if !features.is_empty() {
        add_features(&log, &mut applied, &features)?;
    }
    let write = std::fs::create_dir_all(&target).and_then(|()| applied.write(&target));
    write
        .map_err(|error| Failure::new(format!("cannot write to {}: {error}", target.display())))?;
    let files: Vec<String> = applied.files().map(|path| format!("./{path}")).collect();
    crate::output::print(&format!("{}\n", json!({ "files": files })))?;
    Ok(ExitCode::SUCCESS)
}

fn given<T: serde::de::DeserializeOwned>(flag: &str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::new(format!(
            "Invalid template arguments provided: {flag} {error}"
        ))
    })
}

/// Values of options that nobody gave.
fn defaults(folder: &Folder) -> Vec<(String, String)> {
    let metadata: Option<Value> = folder
        .text(METADATA_FILE)
        .and_then(|text| serde_json::from_str(text).ok());
    let metadata = metadata.unwrap_or_default();
    let options = metadata["options"].as_object().into_iter().flatten();
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    let defaults =
        options.filter_map(|(name, option)| Some((name.clone(), text(&option["default"])?)));
    defaults.collect()
}

/// Whether a path is not to be written: by its name, or below `folder/*`.
fn is_omitted(path: &str, omitted: &[String]) -> bool {
    let given = omitted.iter().map(|path| path.trim_start_matches("./"));
    LEFT_OUT
        .into_iter()
        .chain(given)
        .any(|omitted| match omitted.strip_suffix("/*") {
            Some(folder) => path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/')),
            None => path == omitted,
        })
}

/// A file with its options filled in; what is no text stays as it is.
fn filled(content: &Content, options: &BTreeMap<String, String>) -> Content {
    match content {
        Content::File { bytes, executable } => match std::str::from_utf8(bytes) {
            Ok(text) => Content::File {
                bytes: replaced(text, options).into_bytes(),
                executable: *executable,
            },
            Err(_) => content.clone(),
        },
        other => other.clone(),
    }
}

/// Replaces `${templateOption:NAME}`; an unknown option is empty.
fn replaced(text: &str, options: &BTreeMap<String, String>) -> String {
    const START: &str = "${templateOption:";
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(START) {
        let inside = &rest[start + START.len()..];
        let name = inside
            .split('}')
            .next()
            .filter(|name| name.len() < inside.len());
        let word = name.map(str::trim).filter(|name| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        });
        let end = match (name, word) {
            (Some(name), Some(word)) => {
                result.push_str(&rest[..start]);
                result.push_str(options.get(word).map_or("", String::as_str));
                start + START.len() + name.len() + 1
            }
            _ => {
                result.push_str(&rest[..start + START.len()]);
                start + START.len()
            }
        };
        rest = &rest[end..];
    }
    result.push_str(rest);
    result
}

/// Adds Features to the Template's devcontainer.json.
fn add_features(
    log: &Log,
    applied: &mut Folder,
    features: &[Map<String, Value>],
) -> Result<(), Failure> {
    let path = applied
        .files()
        .find(|path| path.ends_with("devcontainer.json"))
        .map(str::to_owned);
    let Some(path) = path else {
        log.error("Could not find a devcontainer.json to apply selected Features onto.");
        return Ok(());
    };
    let mut text = applied.text(&path).unwrap_or_default().to_owned();
    for feature in features {
        let id = feature.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| Failure::new("Feature entry requires an Id."))?;
        let options = feature.get("options").cloned().unwrap_or_else(|| json!({}));
        text = boatyard_devcontainer::with_feature(&path, &text, id, &options)
            .map_err(|error| Failure::new(error.to_string()))?;
    }
    let content = Content::File {
        bytes: text.into_bytes(),
        executable: false,
    };
    applied.entries.insert(path, content);
    Ok(())
}

/// `templates metadata`.
pub(crate) async fn metadata(asked: &TemplateMetadata) -> Result<ExitCode, Failure> {
    let artifacts = registry::artifacts()?;
    let reference = registry::reference(&asked.template_id)?;
    let artifact = registry::manifest(&artifacts, &reference).await?;
    let metadata = artifact.annotations.get(METADATA);
    let metadata: Option<Value> = metadata.and_then(|text| serde_json::from_str(text).ok());
    let Some(metadata) = metadata else {
        crate::output::print("{}\n")?;
        return Err(Failure::new(format!(
            "template {} says nothing of itself",
            asked.template_id
        )));
    };
    crate::output::print(&format!("{metadata}\n"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    //! What becomes of a Template's files.
    use super::*;

    #[test]
    fn options_are_filled_in_wherever_they_stand() {
        let options = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        for (text, expected) in [
            ("x ${templateOption:a} ${templateOption: a }y", "x 1 1y"),
            ("${templateOption:b}", ""),
            (
                "${templateOption:a-b}${templateOption:",
                "${templateOption:a-b}${templateOption:",
            ),
            ("${localEnv:a}", "${localEnv:a}"),
        ] {
            assert_eq!(replaced(text, &options), expected, "{text}");
        }
    }

    #[test]
    fn paths_are_left_out_by_name_or_folder() {
        let omitted = [".github/*".to_owned(), "a.txt".to_owned()];
        let left: Vec<&str> = [
            "README.md",
            ".github/x",
            ".githubx",
            "a.txt",
            "b/a.txt",
            "src/README.md",
        ]
        .into_iter()
        .filter(|path| !is_omitted(path, &omitted))
        .collect();
        assert_eq!(left, [".githubx", "b/a.txt", "src/README.md"]);
    }
}
