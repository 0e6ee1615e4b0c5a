//! `features …`: Features as their users see them.

use super::args::{Info, Resolve};
use super::configuration::{self, Located};
use super::registry;
use crate::failure::Failure;
use boatyard_devcontainer::features::{
    Lockfile, Request, Resolution, Resolved, parse_requested, requested, without_version,
};
use boatyard_image::features::{Directory, Features};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// `features resolve-dependencies`.
pub(crate) async fn resolve(resolve: &Resolve) -> Result<ExitCode, Failure> {
    let folder = configuration::absolute(resolve.workspace_folder.as_deref().unwrap_or("."))?;
    let located = configuration::of_folder(folder)?;
    let resolution = of(&located, None).await?;
    crate::output::print(&format!("{}\n", resolution.diagram))?;
    let order: Vec<Value> = resolution.order.iter().map(installed).collect();
    crate::output::json(&json!({"installOrder": order}))?;
    Ok(ExitCode::SUCCESS)
}

fn installed(feature: &Resolved) -> Value {
    json!({"id": feature.canonical(), "options": feature.options})
}

/// The lockfile beside a configuration.
pub(crate) fn lockfile_path(file: &Path) -> PathBuf {
    Lockfile::path_beside(&file.to_string_lossy()).into()
}

/// Its text, if it is there.
pub(crate) fn lockfile_text(file: &Path) -> Result<Option<String>, Failure> {
    let path = lockfile_path(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(format!(
            "cannot read {}: {error}",
            path.display()
        ))),
    }
}

/// What it says.
pub(crate) fn lockfile(file: &Path) -> Result<Option<Lockfile>, Failure> {
    let Some(text) = lockfile_text(file)? else {
        return Ok(None);
    };
    let name = lockfile_path(file);
    Lockfile::parse(&name.to_string_lossy(), &text).map_err(|error| Failure::new(error.to_string()))
}

/// What a configuration asks for, and what is asked for beside it as JSON.
pub(crate) fn request(located: &Located, additional: Option<&str>) -> Result<Request, Failure> {
    let wrong = |error: boatyard_devcontainer::Error| Failure::new(error.to_string());
    let mut request = located.document.features(&located.context).map_err(wrong)?;
    if let Some(text) = additional {
        request.add(parse_requested("--additional-features", text).map_err(wrong)?);
    }
    Ok(request)
}

/// The Features of a configuration, in the order of installation.
pub(crate) async fn of(located: &Located, additional: Option<&str>) -> Result<Resolution, Failure> {
    let request = request(located, additional)?;
    if request.features.is_empty() {
        return ordered(located, request, None).await;
    }
    ordered(located, request, lockfile(&located.file)?).await
}

/// What is asked for, found out and ordered.
pub(crate) async fn ordered(
    located: &Located,
    request: Request,
    lockfile: Option<Lockfile>,
) -> Result<Resolution, Failure> {
    let folder = located.folder.clone().unwrap_or_else(|| "/".into());
    let local = Arc::new(Directory::new(&folder));
    let features = Features::resolve(&registry::artifacts()?, request, lockfile, local).await;
    Ok(features
        .map_err(|error| Failure::from_error(&error))?
        .resolution)
}

/// `featuresConfiguration` of `read-configuration`: what is known of each, in order.
pub(crate) fn shown(located: &Located, resolution: &Resolution) -> Value {
    use boatyard_devcontainer::features::Reference;
    let folder = located.folder.clone().unwrap_or_else(|| "/".into());
    let sets: Vec<Value> = resolution
        .order
        .iter()
        .enumerate()
        .map(|(place, feature)| {
            let mut known = feature.metadata.json.clone();
            if !known.is_object() {
                known = json!({});
            }
            known["value"] = json!(feature.options);
            known["included"] = true.into();
            known["consecutiveId"] = format!("{}_{place}", feature.metadata.id).into();
            let source = match &feature.need.reference {
                Reference::Local { path } => json!({
                    "type": "file-path",
                    "resolvedFilePath": folder.join(path),
                }),
                Reference::Tarball { url } => json!({"type": "direct-tarball", "tarballUri": url}),
                Reference::Oci(reference) => json!({
                    "type": "oci",
                    "manifestDigest": feature.digest,
                    "featureRef": {
                        "id": reference.name,
                        "owner": reference.namespace.split('/').next(),
                        "namespace": reference.namespace,
                        "registry": reference.registry,
                        "resource": reference.resource(),
                        "path": reference.path(),
                        "version": reference.version(),
                        "tag": reference.tag,
                        "digest": reference.digest,
                    },
                    "userFeatureIdWithoutVersion": without_version(&feature.id),
                }),
            };
            let mut source = source;
            source["userFeatureId"] = feature.id.as_str().into();
            let mut set =
                json!({"sourceInformation": source, "features": [known], "internalVersion": "2"});
            if let Some(digest) = &feature.digest {
                set["computedDigest"] = digest.as_str().into();
            }
            without_nulls(set)
        })
        .collect();
    json!({ "featureSets": sets })
}

/// What is not known is left out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let kept = entries.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(key, value)| (key, without_nulls(value)))
                    .collect(),
            )
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// `features info`.
pub(crate) async fn info(info: &Info) -> Result<ExitCode, Failure> {
    let artifacts = registry::artifacts()?;
    let reference = registry::reference(&info.feature)?;
    let json_wanted = info.output_format == "json";
    let mode = info.mode.as_str();
    let wants = |part: &str| mode == part || mode == "verbose";
    let mut members = Map::new();
    let mut text = String::new();
    let mut add = |name: &str, title: &str, value: Value, shown: String| {
        members.insert(name.to_owned(), value);
        let line = "─".repeat(title.chars().count());
        text.push_str(&format!("┌{line}┐\n│{title}│\n└{line}┘\n{shown}\n\n"));
    };
    if wants("manifest") {
        let found = registry::manifest(&artifacts, &reference).await?;
        let manifest: Value = serde_json::from_slice(&found.manifest).unwrap_or_default();
        let shown = serde_json::to_string_pretty(&manifest).unwrap_or_default();
        add("manifest", "Manifest", manifest, shown);
        let canonical = format!("{}@{}", reference.resource(), found.digest);
        add(
            "canonicalId",
            "Canonical Identifier",
            json!(canonical),
            canonical.clone(),
        );
    }
    if wants("tags") {
        let tags = artifacts.tags(&reference).await;
        let tags = tags.map_err(|error| Failure::from_error(&error))?;
        let tags = tags.filter(|tags| !tags.is_empty()).ok_or_else(|| {
            Failure::new(format!(
                "No published versions found for {}",
                reference.resource()
            ))
        })?;
        add(
            "publishedTags",
            "Published Tags",
            json!(tags),
            tags.join("\n   "),
        );
    }
    if wants("dependencies") && !json_wanted {
        let request = Request {
            features: vec![requested("the command line", &info.feature)],
            override_order: Vec::new(),
            config_file: ".devcontainer/devcontainer.json".into(),
        };
        let local = Arc::new(Directory::new(Path::new("/")));
        let found = Features::resolve(&artifacts, request, None, local).await;
        let diagram = found
            .map_err(|error| Failure::from_error(&error))?
            .resolution
            .diagram;
        add(
            "",
            "Dependency Tree (Render with https://mermaid.live/)",
            Value::Null,
            diagram,
        );
    }
    if json_wanted {
        crate::output::json(&Value::Object(members))?;
    } else {
        crate::output::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}
