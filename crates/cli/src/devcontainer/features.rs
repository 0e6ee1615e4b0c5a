//! `features …`: Features as their users and their authors see them.

use super::args::Resolve;
use super::configuration;
use crate::failure::Failure;
use boatyard_devcontainer::features::{
    Found, Lockfile, Metadata, Need, Reference, Resolution, Resolver,
};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// `features resolve-dependencies`.
pub(crate) async fn resolve(resolve: &Resolve) -> Result<ExitCode, Failure> {
    let folder = configuration::absolute(resolve.workspace_folder.as_deref().unwrap_or("."))?;
    let located = configuration::of_folder(folder.clone())?;
    let request = located.document.features(&located.context);
    let request = request.map_err(|error| Failure::new(error.to_string()))?;
    let resolution = order(&folder, request, lockfile(&located.file)?).await?;
    crate::output::print(&resolution.diagram)?;
    crate::output::json(&json!({"installOrder": shown(&resolution)}))?;
    Ok(ExitCode::SUCCESS)
}

fn shown(resolution: &Resolution) -> Vec<Value> {
    let one = |feature: &boatyard_devcontainer::features::Resolved| json!({"id": feature.canonical(), "options": feature.options});
    resolution.order.iter().map(one).collect()
}

/// The lockfile beside a configuration, if there is one.
pub(crate) fn lockfile(file: &Path) -> Result<Option<Lockfile>, Failure> {
    let path = Lockfile::path_beside(&file.to_string_lossy());
    match std::fs::read_to_string(&path) {
        Ok(text) => Lockfile::parse(&path, &text).map_err(|error| Failure::new(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(format!("cannot read {path}: {error}"))),
    }
}

/// Finds out what is needed and orders it.
pub(crate) async fn order(
    folder: &Path,
    request: boatyard_devcontainer::features::Request,
    lockfile: Option<Lockfile>,
) -> Result<Resolution, Failure> {
    let wrong = |error: boatyard_devcontainer::Error| Failure::new(error.to_string());
    let mut resolver = Resolver::new(request, lockfile).map_err(wrong)?;
    loop {
        let needs = resolver.needs().map_err(wrong)?;
        if needs.is_empty() {
            return resolver.finish().map_err(wrong);
        }
        for (need, requested) in needs {
            let found = find(folder, &need).await;
            let found = found.map_err(|failure| failure.prefixed(&requested.id))?;
            resolver.give(need, found);
        }
    }
}

async fn find(folder: &Path, need: &Need) -> Result<Found, Failure> {
    match &need.reference {
        Reference::Local { path } => {
            let file = folder.join(path).join("devcontainer-feature.json");
            let text = std::fs::read_to_string(&file).map_err(|error| {
                Failure::new(format!("cannot read {}: {error}", file.display()))
            })?;
            let metadata = Metadata::parse(&file.to_string_lossy(), &text)
                .map_err(|error| Failure::new(error.to_string()))?;
            Ok(Found {
                digest: None,
                metadata: Arc::new(metadata),
            })
        }
        other => Err(Failure::new(format!("{other} cannot be fetched yet"))),
    }
}
