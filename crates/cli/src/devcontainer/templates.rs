//! `templates apply` and `templates metadata`: Templates as their users see them.
//!
//! What becomes of a Template's files is `image::collection`'s.

use super::args::{Apply, TemplateMetadata};
use super::configuration;
use super::registry;
use crate::failure::Failure;
use boatyard_image::collection::{Choices, apply_template, template_metadata};
use serde::Deserialize;
use serde_json::{Value, json};
use std::process::ExitCode;

/// A Feature to add.
#[derive(Deserialize)]
struct Added {
    id: String,
    #[serde(default)]
    options: Option<Value>,
}

fn given<T: serde::de::DeserializeOwned>(flag: &str, text: &str) -> Result<T, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(format!(
            "Invalid template arguments provided: {flag}: {error}"
        ))
    };
    let value = boatyard_devcontainer::json_of(flag, text).map_err(|error| wrong(&error))?;
    serde_json::from_value(value).map_err(|error| wrong(&error))
}

/// `templates apply`.
pub(crate) async fn apply(asked: &Apply) -> Result<ExitCode, Failure> {
    let target = configuration::absolute(asked.workspace_folder.as_deref().unwrap_or("."))?;
    let features: Vec<Added> = given("--features", &asked.features)?;
    let features = features.into_iter();
    let choices = Choices {
        options: given("--template-args", &asked.template_args)?,
        omit: given("--omit-paths", &asked.omit_paths)?,
        features: features
            .map(|one| (one.id, one.options.unwrap_or_else(|| json!({}))))
            .collect(),
    };
    let artifacts = registry::artifacts()?;
    let reference = registry::reference(&asked.template_id)?;
    std::fs::create_dir_all(&target)?;
    let files = apply_template(&artifacts, &reference, &choices, &target).await;
    let files = files.map_err(|error| Failure::from_error(&error))?;
    crate::output::print(&format!("{}\n", json!({ "files": files })))?;
    Ok(ExitCode::SUCCESS)
}

/// `templates metadata`.
pub(crate) async fn metadata(asked: &TemplateMetadata) -> Result<ExitCode, Failure> {
    let artifacts = registry::artifacts()?;
    let reference = registry::reference(&asked.template_id)?;
    match template_metadata(&artifacts, &reference).await {
        Ok(metadata) => {
            crate::output::print(&format!("{metadata}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            crate::output::print("{}\n")?;
            Err(Failure::from_error(&error))
        }
    }
}
