//! `package`, `publish` and `generate-docs`: Features and Templates as their authors see them.
//!
//! A collection is a folder of folders; a single one is a folder with its metadata file. Archives
//! are the same bytes for the same files. Publishing leaves versions alone that are there.

use super::args::{Docs, Package, Publish};
use super::configuration;
use super::log::Log;
use super::registry::{self, Version};
use crate::failure::Failure;
use boatyard_devcontainer::json_of;
use boatyard_image::artifact::{Artifacts, Content, Folder, METADATA, Payload};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

/// What a collection is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Feature,
    Template,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::Template => "template",
        }
    }

    fn metadata_file(self) -> String {
        format!("devcontainer-{}.json", self.word())
    }
}

/// One of a collection, ready to be published.
struct Packed {
    metadata: Value,
    archive: Vec<u8>,
}

impl Packed {
    fn text(&self, name: &str) -> &str {
        self.metadata[name].as_str().unwrap_or_default()
    }

    fn archive_name(&self, kind: Kind) -> String {
        format!("devcontainer-{}-{}.tgz", kind.word(), self.text("id"))
    }
}

/// Packs what is in a folder.
fn pack(log: &Log, kind: Kind, target: &Path) -> Result<Vec<Packed>, Failure> {
    if target.join(kind.metadata_file()).is_file() {
        log.info(&format!("Packaging single {}...", kind.word()));
        return Ok(vec![packed(kind, target)?]);
    }
    log.info(&format!("Packaging {} collection...", kind.word()));
    let entries = std::fs::read_dir(target);
    let entries = entries.map_err(|error| {
        Failure::new(format!(
            "Target folder '{}' cannot be read: {error}",
            target.display()
        ))
    })?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let mut all = Vec::new();
    for name in names.iter().filter(|name| !name.starts_with('.')) {
        let folder = target.join(name);
        if folder.join(kind.metadata_file()).is_file() {
            log.info(&format!("Processing {}: {name}...", kind.word()));
            all.push(packed(kind, &folder)?);
        } else if folder.is_dir() {
            log.warn(&format!(
                "(!) WARNING: {} '{name}' is missing a {}. Skipping...",
                kind.word(),
                kind.metadata_file()
            ));
        }
    }
    if all.is_empty() {
        let message = format!("there is no {} in {}", kind.word(), target.display());
        return Err(Failure::new(message).hint(format!(
            "name a folder with a {}, or one of such folders",
            kind.metadata_file()
        )));
    }
    Ok(all)
}

fn packed(kind: Kind, folder: &Path) -> Result<Packed, Failure> {
    let name = folder.join(kind.metadata_file()).display().to_string();
    let read = Folder::read(folder);
    let mut files =
        read.map_err(|error| Failure::new(format!("cannot read {}: {error}", folder.display())))?;
    let text = files.text(&kind.metadata_file()).unwrap_or_default();
    let mut metadata = parsed(&name, text)?;
    let before = metadata.clone();
    match kind {
        Kind::Feature => {
            if metadata["legacyIds"]
                .as_array()
                .is_some_and(|ids| !ids.is_empty())
            {
                metadata["currentId"] = metadata["id"].clone();
            }
        }
        Kind::Template => describe(folder, &files, &mut metadata)?,
    }
    for required in ["id", "version", "name"] {
        if metadata[required].as_str().is_none_or(str::is_empty) {
            let message =
                format!("{name} is missing one of the required properties 'id', 'version', 'name'");
            return Err(Failure::new(message).hint(format!("write \"{required}\"")));
        }
    }
    if metadata != before {
        let bytes =
            serde_json::to_vec_pretty(&metadata).map_err(|error| Failure::from_error(&error))?;
        let content = Content::File {
            bytes,
            executable: false,
        };
        files.entries.insert(kind.metadata_file(), content);
    }
    let archive = files
        .to_tar()
        .map_err(|error| Failure::from_error(&error))?;
    Ok(Packed { metadata, archive })
}

fn parsed(name: &str, text: &str) -> Result<Value, Failure> {
    json_of(name, text).map_err(|error| Failure::new(error.to_string()))
}

/// What tools read of a Template before they fetch it.
fn describe(folder: &Path, files: &Folder, metadata: &mut Value) -> Result<(), Failure> {
    let places = [".devcontainer.json", ".devcontainer/devcontainer.json"];
    let found = places
        .into_iter()
        .find_map(|place| Some((place, files.text(place)?)));
    let Some((place, text)) = found else {
        return Err(Failure::new(format!(
            "Template {} is missing a devcontainer.json",
            folder.display()
        )));
    };
    let configuration = parsed(&folder.join(place).display().to_string(), text)?;
    let has = |name: &str| configuration.get(name).is_some();
    let made_of = match () {
        () if has("image") => "image",
        () if has("dockerFile") || configuration["build"].get("dockerfile").is_some() => {
            "dockerfile"
        }
        () if has("dockerComposeFile") => "dockerCompose",
        () => {
            let message = format!(
                "{} is missing one of \"image\", \"dockerFile\" or \"dockerComposeFile\" properties.",
                folder.join(place).display()
            );
            return Err(Failure::new(message));
        }
    };
    let all: Vec<&str> = files.files().collect();
    let features = configuration["features"].as_object().into_iter().flatten();
    let ids: Vec<String> = features
        .filter_map(|(id, _)| Some(registry::reference(id).ok()?.resource()))
        .collect();
    metadata["type"] = made_of.into();
    metadata["fileCount"] = all.len().into();
    metadata["files"] = json!(all);
    metadata["featureIds"] = json!(ids);
    // A folder of one file is that file.
    for path in metadata["optionalPaths"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        let below = path.as_str().and_then(|path| path.strip_suffix("/*"));
        let Some(below) = below.filter(|below| !below.is_empty()) else {
            continue;
        };
        let mut inside = all
            .iter()
            .filter(|file| file.starts_with(&format!("{below}/")));
        if let (Some(only), None) = (inside.next(), inside.next()) {
            *path = (*only).into();
        }
    }
    Ok(())
}

/// The index of a collection.
fn collection(kind: Kind, all: &[Packed]) -> Value {
    let members: Vec<&Value> = all.iter().map(|one| &one.metadata).collect();
    let mut index = json!({"sourceInformation": {"source": "devcontainer-cli"}});
    index[format!("{}s", kind.word())] = json!(members);
    index
}

/// `features package`.
pub(crate) fn package(asked: &Package) -> Result<ExitCode, Failure> {
    let log = Log::of(&asked.log_level, false);
    let target = configuration::absolute(&asked.target)?;
    let output = configuration::absolute(&asked.output_folder)?;
    let told = |error: std::io::Error| {
        Failure::new(format!("cannot write to {}: {error}", output.display()))
    };
    if output.exists() {
        if !asked.force_clean_output_folder {
            let message = format!(
                "(!) ERR: Output directory '{}' already exists.",
                output.display()
            );
            return Err(Failure::new(message).hint("delete it, or pass '-f'"));
        }
        std::fs::remove_dir_all(&output).map_err(told)?;
    }
    let all = pack(&log, Kind::Feature, &target)?;
    std::fs::create_dir_all(&output).map_err(told)?;
    for one in &all {
        std::fs::write(output.join(one.archive_name(Kind::Feature)), &one.archive).map_err(told)?;
        log.info(&format!("Packaged feature '{}'", one.text("id")));
    }
    let index = serde_json::to_vec_pretty(&collection(Kind::Feature, &all));
    let index = index.map_err(|error| Failure::from_error(&error))?;
    std::fs::write(output.join("devcontainer-collection.json"), index).map_err(told)?;
    Ok(ExitCode::SUCCESS)
}

/// `features publish` and `templates publish`.
pub(crate) async fn publish(asked: &Publish, kind: Kind) -> Result<ExitCode, Failure> {
    let log = Log::of(&asked.log_level, false);
    let all = pack(&log, kind, &configuration::absolute(&asked.target)?)?;
    let artifacts = registry::artifacts()?;
    let mut answer = Map::new();
    for one in &all {
        let id = one.text("id");
        let pushed = push(&log, &artifacts, asked, kind, one, id).await?;
        let Some((digest, tags)) = pushed else {
            answer.insert(id.to_owned(), json!({}));
            continue;
        };
        let mut told =
            json!({"publishedTags": tags, "digest": digest, "version": one.text("version")});
        let mut legacy = Vec::new();
        for old in one.metadata["legacyIds"].as_array().into_iter().flatten() {
            let Some(old) = old.as_str() else { continue };
            if push(&log, &artifacts, asked, kind, one, old)
                .await?
                .is_some()
            {
                legacy.push(old);
            }
        }
        if !legacy.is_empty() {
            told["publishedLegacyIds"] = json!(legacy);
        }
        answer.insert(id.to_owned(), told);
    }
    let bytes = serde_json::to_vec_pretty(&collection(kind, &all));
    let bytes = bytes.map_err(|error| Failure::from_error(&error))?;
    let annotations = packaged(kind);
    let payload = Payload::Collection { bytes };
    let latest = ["latest".to_owned()];
    let registry = &asked.registry;
    let pushed = artifacts
        .push(registry, &asked.namespace, payload, annotations, &latest)
        .await;
    pushed.map_err(|error| Failure::from_error(&error))?;
    crate::output::print(&format!("{}\n", Value::Object(answer)))?;
    Ok(ExitCode::SUCCESS)
}

fn packaged(kind: Kind) -> BTreeMap<String, String> {
    let package = format!("devcontainer_{}", kind.word());
    BTreeMap::from([("com.github.package.type".to_owned(), package)])
}

/// Publishes one under a name; None when that version is there.
async fn push(
    log: &Log,
    artifacts: &Artifacts,
    asked: &Publish,
    kind: Kind,
    one: &Packed,
    name: &str,
) -> Result<Option<(String, Vec<String>)>, Failure> {
    let path = format!("{}/{name}", asked.namespace);
    let reference = registry::reference(&format!("{}/{path}", asked.registry))?;
    let told = |error: boatyard_image::Error| Failure::from_error(&error);
    let published = artifacts.tags(&reference).await.map_err(told)?;
    let text = one.text("version");
    let version = Version::parse(text).ok_or_else(|| {
        Failure::new(format!(
            "(!) ERR: Version {text} is not a valid semantic version"
        ))
    })?;
    let tags = version.tags(&published.unwrap_or_default());
    if tags.is_empty() {
        log.warn(&format!(
            "(!) WARNING: Version {version} already exists, skipping {version}..."
        ));
        return Ok(None);
    }
    log.info(&format!("Publishing tags: {}...", tags.join(",")));
    let mut annotations = packaged(kind);
    annotations.insert(METADATA.to_owned(), one.metadata.to_string());
    let payload = Payload::Archive {
        title: one.archive_name(kind),
        bytes: one.archive.clone(),
    };
    let digest = artifacts
        .push(
            &asked.registry,
            &reference.path(),
            payload,
            annotations,
            &tags,
        )
        .await;
    let digest = digest.map_err(told)?;
    log.info(&format!("Published {}: '{name}'", kind.word()));
    Ok(Some((digest, tags)))
}

/// `features generate-docs` and `templates generate-docs`.
pub(crate) fn docs(asked: &Docs, kind: Kind) -> Result<ExitCode, Failure> {
    let log = Log::of(&asked.log_level, false);
    let namespace = asked.namespace.as_deref().unwrap_or_default();
    if kind == Kind::Feature && namespace.is_empty() {
        return Err(Failure::new("Missing required argument: namespace"));
    }
    let source = configuration::absolute(&asked.project_folder)?.join("src");
    let unreadable =
        |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", source.display()));
    for entry in std::fs::read_dir(&source).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let folder = source.join(name);
        let file = folder.join(kind.metadata_file());
        let Ok(text) = std::fs::read_to_string(&file) else {
            log.warn(&format!(
                "(!) Warning: {} not found at path '{}'. Skipping...",
                kind.metadata_file(),
                file.display()
            ));
            continue;
        };
        let metadata = parsed(&file.display().to_string(), &text)?;
        let notes = std::fs::read_to_string(folder.join("NOTES.md")).unwrap_or_default();
        let url = match (asked.github_owner.as_str(), asked.github_repo.as_str()) {
            ("", _) | (_, "") => kind.metadata_file(),
            (owner, repository) => format!(
                "https://github.com/{owner}/{repository}/blob/main/src/{name}/{}",
                kind.metadata_file()
            ),
        };
        let place = format!("{}/{namespace}", asked.registry);
        let readme = folder.join("README.md");
        log.info(&format!("Generating {}...", readme.display()));
        let written = std::fs::write(&readme, page(kind, &metadata, &place, &notes, &url));
        written
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", readme.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of one, in the reference's layout.
fn page(kind: Kind, metadata: &Value, place: &str, notes: &str, url: &str) -> String {
    let text = |name: &str| metadata[name].as_str().unwrap_or_default();
    let id = text("id");
    let title = match text("name") {
        "" => id.to_owned(),
        name => format!("{name} ({id})"),
    };
    let mut page = String::new();
    let legacy: Vec<String> = metadata["legacyIds"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|id| Some(format!("'{}'", id.as_str()?)))
        .collect();
    let deprecated = metadata["deprecated"] == true;
    if deprecated || !legacy.is_empty() {
        page.push_str("### **IMPORTANT NOTE**\n");
    }
    if deprecated {
        page.push_str("- **This Feature is deprecated, and will no longer receive any further updates/support.**\n");
    }
    if !legacy.is_empty() {
        page.push_str(&format!(
            "- **Ids used to publish this Feature in the past - {}**\n",
            legacy.join(", ")
        ));
    }
    page.push_str(&format!("\n# {title}\n\n{}\n", text("description")));
    if kind == Kind::Feature {
        let major = text("version")
            .split('.')
            .next()
            .filter(|major| !major.is_empty())
            .unwrap_or("latest");
        page.push_str(&format!("\n## Example Usage\n\n```json\n\"features\": {{\n    \"{place}/{id}:{major}\": {{}}\n}}\n```\n"));
    }
    page.push_str(&format!("\n{}\n", options(metadata)));
    let extensions: Vec<String> = metadata["customizations"]["vscode"]["extensions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|extension| Some(format!("- `{}`", extension.as_str()?)))
        .collect();
    if kind == Kind::Feature {
        if !extensions.is_empty() {
            page.push_str(&format!(
                "\n## Customizations\n\n### VS Code Extensions\n\n{}\n",
                extensions.join("\n")
            ));
        }
        page.push_str(&format!("\n{notes}\n"));
    } else {
        page.push_str(&format!("\n{notes}\n"));
    }
    page.push_str(&format!("\n---\n\n_Note: This file was auto-generated from the [{}]({url}).  Add additional notes to a `NOTES.md`._\n", kind.metadata_file()));
    page
}

fn options(metadata: &Value) -> String {
    let Some(options) = metadata["options"].as_object() else {
        return String::new();
    };
    let cell = |value: &Value| match value {
        Value::Null => "undefined".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let named = |value: &Value| {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .unwrap_or("-")
            .to_owned()
    };
    let rows: Vec<String> = options
        .iter()
        .map(|(id, option)| {
            format!(
                "| {id} | {} | {} | {} |",
                named(&option["description"]),
                named(&option["type"]),
                cell(&option["default"])
            )
        })
        .collect();
    format!(
        "## Options\n\n| Options Id | Description | Type | Default Value |\n|-----|-----|-----|-----|\n{}",
        rows.join("\n")
    )
}
