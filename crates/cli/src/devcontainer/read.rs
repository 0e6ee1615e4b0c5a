//! `read-configuration`: the configuration as JSON, its variables filled in, and merged with what
//! image and Features say.

use super::args::ReadConfiguration;
use super::configuration::{self, Located};
use super::log::Log;
use super::{build, features};
use crate::args::Global;
use crate::failure::Failure;
use boatyard_devcontainer::features::Resolved;
use boatyard_devcontainer::{Reading, label_entries};
use boatyard_link::verbs::{Reply, Request};
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// Runs the verb.
pub(crate) async fn run(global: &Global, read: &ReadConfiguration) -> Result<ExitCode, Failure> {
    let _log = Log::begin(&read.logging);
    let mut answer = Map::new();
    let Some(located) = configuration::of_found(&read.found)? else {
        answer.insert("configuration".into(), json!({}));
        answer.insert("ociAuthDiagnostics".into(), diagnostics());
        return print(&Value::Object(answer));
    };
    let reading = reading(&located)?;
    answer.insert("configuration".into(), shown(&located, &reading));
    if located.folder.is_some() {
        answer.insert("workspace".into(), workspace(&reading));
    }
    let additional = read.additional_features.as_deref();
    if read.include_features_configuration {
        let resolution = features::of(&located, additional).await?;
        answer.insert(
            "featuresConfiguration".into(),
            features::shown(&located, &resolution),
        );
    }
    if read.include_merged_configuration {
        let merged = merged(global, &located, &reading, additional).await?;
        answer.insert("mergedConfiguration".into(), merged);
    }
    answer.insert("ociAuthDiagnostics".into(), diagnostics());
    print(&Value::Object(answer))
}

/// What the reference tells of registries that send credentials elsewhere; here they never go.
pub(crate) fn diagnostics() -> Value {
    json!({
        "authLookupWouldBeBlocked": false,
        "registryRedirectWouldPreventCredentialForwarding": false,
        "authServerRedirect": false,
    })
}

/// The configuration merged with what its image and its Features say.
pub(crate) async fn merged(
    global: &Global,
    located: &Located,
    reading: &Reading,
    additional: Option<&str>,
) -> Result<Value, Failure> {
    let mut entries = Vec::new();
    let (base, source) = build::base(located)?;
    if let Some(source) = source {
        build::dockerfile(global, source).await?;
    }
    if let Some(reference) = base {
        let asked = Request::ImageInspect { reference };
        let answer = crate::images::ask(global, &asked, crate::images::Transfer::None).await?;
        if let Some(Reply::ImageConfig { labels, .. }) = answer {
            let label = labels.get("devcontainer.metadata");
            entries.extend(
                label
                    .and_then(|text| label_entries(text))
                    .unwrap_or_default(),
            );
        }
    }
    let resolution = features::of(located, additional).await?;
    entries.extend(resolution.order.iter().map(Resolved::label_entry));
    let mut merged = reading.merged(&entries, &located.document);
    merged["configFilePath"] = path(located);
    Ok(merged)
}

/// The path of the file, as the reference writes paths.
fn path(located: &Located) -> Value {
    let path = located.file.to_string_lossy();
    json!({"$mid": 1, "fsPath": path, "path": path, "scheme": "vscode-fileHost"})
}

/// Fills in the variables.
pub(crate) fn reading(located: &Located) -> Result<Reading, Failure> {
    let read = located.document.read(&located.context);
    read.map_err(|error| Failure::new(error.to_string()))
}

/// The configuration with the path of its file.
pub(crate) fn shown(located: &Located, reading: &Reading) -> Value {
    let mut configuration = reading.configuration.clone();
    configuration["configFilePath"] = path(located);
    configuration
}

fn workspace(reading: &Reading) -> Value {
    let mut workspace = json!({"workspaceFolder": reading.workspace_folder});
    if let Some(mount) = &reading.workspace_mount {
        workspace["workspaceMount"] = mount.as_str().into();
    }
    workspace
}

/// Prints one JSON object on a line.
pub(crate) fn print(value: &Value) -> Result<ExitCode, Failure> {
    crate::output::print(&format!("{value}\n"))?;
    Ok(ExitCode::SUCCESS)
}
