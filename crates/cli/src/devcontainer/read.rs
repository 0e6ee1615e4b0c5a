//! `read-configuration`: the configuration as JSON, its variables filled in, and merged with what
//! image and Features say.

use super::args::ReadConfiguration;
use super::configuration::{self, Located};
use super::log::Log;
use crate::args::Global;
use crate::failure::Failure;
use boatyard_devcontainer::Reading;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// Runs the verb.
pub(crate) async fn run(global: &Global, read: &ReadConfiguration) -> Result<ExitCode, Failure> {
    let _log = Log::begin(&read.logging);
    let _ = global;
    let mut answer = Map::new();
    let Some(located) = configuration::of_found(&read.found)? else {
        answer.insert("configuration".into(), json!({}));
        return print(&Value::Object(answer));
    };
    let reading = reading(&located)?;
    answer.insert("configuration".into(), shown(&located, &reading));
    if located.folder.is_some() {
        answer.insert("workspace".into(), workspace(&reading));
    }
    let features = read.include_features_configuration;
    if features {
        let additional = read.additional_features.as_deref();
        let resolution = super::features::of(&located, additional).await?;
        let shown = super::features::shown(&located, &resolution);
        answer.insert("featuresConfiguration".into(), shown);
    }
    print(&Value::Object(answer))
}

/// Fills in the variables.
pub(crate) fn reading(located: &Located) -> Result<Reading, Failure> {
    let read = located.document.read(&located.context);
    read.map_err(|error| Failure::new(error.to_string()))
}

/// The configuration with the path of its file, as the reference writes paths.
pub(crate) fn shown(located: &Located, reading: &Reading) -> Value {
    let mut configuration = reading.configuration.clone();
    let path = located.file.to_string_lossy();
    configuration["configFilePath"] =
        json!({"$mid": 1, "fsPath": path, "path": path, "scheme": "vscode-fileHost"});
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
