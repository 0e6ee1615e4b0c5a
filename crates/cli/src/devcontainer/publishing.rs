//! `package`, `publish` and `generate-docs`: Features and Templates as their authors see them.
//!
//! What a collection is, how it is packed and what it is published under is `image::collection`'s.

use super::args::{Docs, Package, Publish};
use super::configuration;
use super::log::Log;
use super::registry;
use crate::failure::Failure;
use boatyard_devcontainer::readme::{About, readme};
use boatyard_image::collection::{Kind, Packages};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::ExitCode;

fn pack(log: &Log, kind: Kind, target: &Path) -> Result<Packages, Failure> {
    let packed = Packages::of(kind, target).map_err(|error| Failure::from_error(&error))?;
    for name in &packed.skipped {
        let (word, file) = (kind.word(), kind.file());
        log.warn(&format!(
            "(!) WARNING: {word} '{name}' is missing a {file}. Skipping..."
        ));
    }
    Ok(packed)
}

/// `features package`.
pub(crate) fn package(asked: &Package) -> Result<ExitCode, Failure> {
    let log = Log::of(&asked.general.log_level, false);
    let target = configuration::absolute(&asked.target)?;
    let output = configuration::absolute(&asked.output_folder)?;
    if output.exists() {
        if !asked.force_clean_output_folder {
            let message = format!(
                "(!) ERR: Output directory '{}' already exists.",
                output.display()
            );
            return Err(Failure::new(message).hint("delete it, or pass '-f'"));
        }
        std::fs::remove_dir_all(&output)?;
    }
    let packed = pack(&log, Kind::Feature, &target)?;
    packed
        .write(&output)
        .map_err(|error| Failure::from_error(&error))?;
    for one in &packed.packages {
        log.info(&format!("Packaged feature '{}'", one.id));
    }
    Ok(ExitCode::SUCCESS)
}

/// `features publish` and `templates publish`.
pub(crate) async fn publish(asked: &Publish, kind: Kind) -> Result<ExitCode, Failure> {
    let log = Log::of(&asked.general.log_level, false);
    let packed = pack(&log, kind, &configuration::absolute(&asked.target)?)?;
    let artifacts = registry::artifacts()?;
    let published = packed
        .publish(&artifacts, &asked.registry, &asked.namespace)
        .await;
    let mut answer = Map::new();
    for (id, outcome) in published.map_err(|error| Failure::from_error(&error))? {
        let tags = outcome.published_tags.join(",");
        match tags.is_empty() {
            true => log.warn(&format!(
                "(!) WARNING: the version of {id} already exists, skipping..."
            )),
            false => log.info(&format!("Published {} '{id}': {tags}", kind.word())),
        }
        answer.insert(id, json!(outcome));
    }
    crate::output::print(&format!("{}\n", Value::Object(answer)))?;
    Ok(ExitCode::SUCCESS)
}

/// `features generate-docs` and `templates generate-docs`.
pub(crate) fn docs(asked: &Docs, kind: Kind) -> Result<ExitCode, Failure> {
    let log = Log::of(&asked.general.log_level, false);
    let namespace = asked.namespace.as_deref().unwrap_or_default();
    if kind == Kind::Feature && namespace.is_empty() {
        return Err(Failure::new("Missing required argument: namespace"));
    }
    let project = configuration::absolute(&asked.project_folder)?;
    // The reference's help says the project, and its code the folder in it.
    let source = Some(project.join("src")).filter(|source| source.is_dir());
    let source = source.unwrap_or(project);
    let unreadable =
        |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", source.display()));
    for entry in std::fs::read_dir(&source).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let folder = source.join(name);
        let file = folder.join(kind.file());
        let Ok(metadata) = std::fs::read_to_string(&file) else {
            log.warn(&format!(
                "(!) Warning: {} not found. Skipping...",
                file.display()
            ));
            continue;
        };
        let url = match (asked.github_owner.as_str(), asked.github_repo.as_str()) {
            ("", _) | (_, "") => kind.file(),
            (owner, repository) => format!(
                "https://github.com/{owner}/{repository}/blob/main/src/{name}/{}",
                kind.file()
            ),
        };
        let page = readme(&About {
            file_name: &file.to_string_lossy(),
            metadata: &metadata,
            notes: &std::fs::read_to_string(folder.join("NOTES.md")).unwrap_or_default(),
            url: &url,
            published: (kind == Kind::Feature).then_some((asked.registry.as_str(), namespace)),
        });
        let Some(page) = page.map_err(|error| Failure::new(error.to_string()))? else {
            log.error(&format!("{} does not contain an 'id'", file.display()));
            continue;
        };
        let path = folder.join("README.md");
        log.info(&format!("Generating {}...", path.display()));
        std::fs::write(&path, page)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}
