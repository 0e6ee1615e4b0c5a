//! Collections of Features and templates: packaged, published, applied, and
//! asked for newer versions.
//!
//! What is packaged, tagged and filled in is boatyard-devcontainer's thinking;
//! this reads, writes and asks registries. A version that is published is
//! never published again: an archive of the same files would be the same bytes
//! anyway.
//!
//! Read next: `artifact`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use boatyard_devcontainer::features::{Lockfile, Metadata, OciReference, Requested, Version};
use boatyard_devcontainer::templates::{self, Template};
use serde::Serialize;

use crate::Error;
use crate::artifact::{Artifacts, Content, Folder, METADATA, Payload};

/// The index of a collection.
pub const COLLECTION_FILE: &str = "devcontainer-collection.json";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Feature,
    Template,
}

impl Kind {
    /// `feature`, as file names and types have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Feature => "feature",
            Kind::Template => "template",
        }
    }

    /// The metadata's file.
    #[must_use]
    pub fn file(self) -> String {
        format!("devcontainer-{}.json", self.word())
    }
}

/// A collection, ready to be written or published.
#[derive(Debug, Clone, PartialEq)]
pub struct Packages {
    pub kind: Kind,
    pub packages: Vec<Package>,
    /// Folders that hold no such thing.
    pub skipped: Vec<String>,
}

/// One Feature or template.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    pub id: String,
    pub version: String,
    /// As it is published.
    pub metadata: serde_json::Value,
    pub archive: Vec<u8>,
}

/// What publishing one came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// Empty when its version was there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub published_tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub published_legacy_ids: Vec<String>,
}

/// What versions there are of a Feature.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outdated {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted_major: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_major: Option<String>,
}

impl Packages {
    /// Packages a folder: one Feature or template, or a folder of them.
    /// Blocking.
    ///
    /// # Errors
    /// The folder cannot be read, or one of them is not as it must be.
    pub fn of(kind: Kind, target: &Path) -> Result<Packages, Error> {
        let mut packages = Packages {
            kind,
            packages: Vec::new(),
            skipped: Vec::new(),
        };
        if target.join(kind.file()).is_file() {
            packages.packages.push(package(kind, target, None)?);
            return Ok(packages);
        }
        let mut names = Vec::new();
        let entries = std::fs::read_dir(target).map_err(Error::io("read", target))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("read", target))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        for name in names.into_iter().filter(|name| !name.starts_with('.')) {
            let folder = target.join(&name);
            if folder.join(kind.file()).is_file() {
                packages.packages.push(package(kind, &folder, Some(&name))?);
            } else {
                packages.skipped.push(name);
            }
        }
        if packages.packages.is_empty() {
            return Err(Error::Artifact {
                subject: target.display().to_string(),
                problem: format!(
                    "it holds no {}: neither it nor a folder in it has a {}",
                    kind.word(),
                    kind.file()
                ),
            });
        }
        Ok(packages)
    }

    /// The index, as it is published.
    #[must_use]
    pub fn index(&self) -> String {
        let all: Vec<_> = self
            .packages
            .iter()
            .map(|one| one.metadata.clone())
            .collect();
        let index = serde_json::json!({
            "sourceInformation": {"source": "devcontainer-cli"},
            format!("{}s", self.kind.word()): all,
        });
        serde_json::to_string_pretty(&index).unwrap_or_default()
    }

    /// The archive's file name.
    #[must_use]
    pub fn archive_name(&self, id: &str) -> String {
        format!("devcontainer-{}-{id}.tgz", self.kind.word())
    }

    /// Writes archives and index into a folder, which is made. Blocking.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self, output: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(output).map_err(Error::io("make", output))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = output.join(name);
            std::fs::write(&path, bytes).map_err(Error::io("write", &path))
        };
        for package in &self.packages {
            write(&self.archive_name(&package.id), &package.archive)?;
        }
        write(COLLECTION_FILE, self.index().as_bytes())
    }

    /// Publishes all under `registry/namespace/ID`, and the index.
    ///
    /// # Errors
    /// The registry does not take them; what was published stays.
    pub async fn publish(
        &self,
        artifacts: &Artifacts,
        registry: &str,
        namespace: &str,
    ) -> Result<Vec<(String, Published)>, Error> {
        let (registry, namespace) = (registry.to_lowercase(), namespace.to_lowercase());
        let mut outcomes = Vec::new();
        for package in &self.packages {
            let mut outcome = self
                .publish_as(artifacts, &registry, &namespace, &package.id, package)
                .await?;
            if outcome.digest.is_some() {
                outcome.version = Some(package.version.clone());
                let old = package.metadata["legacyIds"].as_array();
                for id in old.into_iter().flatten().filter_map(|id| id.as_str()) {
                    let published = self
                        .publish_as(artifacts, &registry, &namespace, id, package)
                        .await?;
                    if published.digest.is_some() {
                        outcome.published_legacy_ids.push(id.to_owned());
                    }
                }
            }
            outcomes.push((package.id.clone(), outcome));
        }
        let bytes = self.index().into_bytes();
        let annotations = self.annotations(&registry, "collection", None);
        let payload = Payload::Collection { bytes };
        let latest = ["latest".to_owned()];
        artifacts
            .push(&registry, &namespace, payload, annotations, &latest)
            .await?;
        Ok(outcomes)
    }

    async fn publish_as(
        &self,
        artifacts: &Artifacts,
        registry: &str,
        namespace: &str,
        id: &str,
        package: &Package,
    ) -> Result<Published, Error> {
        let subject = format!("{registry}/{namespace}/{id}");
        let refused = |problem: String| Error::Artifact {
            subject: subject.clone(),
            problem,
        };
        let reference = OciReference::parse(&subject)
            .map_err(|reason| refused(format!("the name {reason}")))?;
        let version = Version::parse(&package.version).ok_or_else(|| {
            refused(format!(
                "its version {:?} is no semantic version; write one such as 1.2.3",
                package.version
            ))
        })?;
        let known = artifacts.tags(&reference).await?.unwrap_or_default();
        let Some(tags) = version.tags_to_publish(&known) else {
            return Ok(Published::default());
        };
        let annotations = self.annotations(registry, self.kind.word(), Some(&package.metadata));
        let payload = Payload::Archive {
            title: self.archive_name(&package.id),
            bytes: package.archive.clone(),
        };
        let path = reference.path();
        let digest = artifacts
            .push(registry, &path, payload, annotations, &tags)
            .await?;
        Ok(Published {
            published_tags: tags,
            digest: Some(digest),
            ..Published::default()
        })
    }

    fn annotations(
        &self,
        registry: &str,
        word: &str,
        metadata: Option<&serde_json::Value>,
    ) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::new();
        if let Some(metadata) = metadata {
            annotations.insert(METADATA.to_owned(), metadata.to_string());
        }
        // GitHub shows packages of this type by themselves.
        if registry == "ghcr.io" {
            let kind = format!("devcontainer_{word}");
            annotations.insert("com.github.package.type".to_owned(), kind);
        }
        annotations
    }
}

fn package(kind: Kind, path: &Path, name: Option<&str>) -> Result<Package, Error> {
    let refused = |problem: String| Error::Artifact {
        subject: path.display().to_string(),
        problem,
    };
    let mut folder = Folder::read(path).map_err(Error::io("read", path))?;
    let file = kind.file();
    let text = folder
        .text(&file)
        .ok_or_else(|| refused(format!("{file} is not there, or is no text")))?;
    let shown = path.join(&file).display().to_string();
    let metadata = match kind {
        Kind::Feature => {
            if name.is_some() && !folder.entries.contains_key("install.sh") {
                return Err(refused("it has no install.sh".to_owned()));
            }
            let parsed = Metadata::parse(&shown, text)?;
            let mut json = parsed.json;
            if !parsed.legacy_ids.is_empty() {
                json["currentId"] = parsed.id.into();
            }
            json
        }
        Kind::Template => {
            let template = Template::parse(&shown, text)?;
            let configuration = [".devcontainer.json", ".devcontainer/devcontainer.json"]
                .into_iter()
                .find_map(|place| Some((place, folder.text(place)?)));
            let (place, configuration) =
                configuration.ok_or_else(|| refused("it has no devcontainer.json".to_owned()))?;
            let files: Vec<&str> = folder.files().collect();
            let place = path.join(place).display().to_string();
            templates::published(&template, &files, &place, configuration)?
        }
    };
    let given = |key: &str| metadata[key].as_str().filter(|text| !text.is_empty());
    let (Some(id), Some(version), Some(_)) = (given("id"), given("version"), given("name")) else {
        return Err(refused(format!(
            "its {file} lacks one of id, version and name"
        )));
    };
    if name.is_some_and(|name| name != id) {
        return Err(refused(format!(
            "its id is {id:?}, but must be its folder's name"
        )));
    }
    let (id, version) = (id.to_owned(), version.to_owned());
    let changed = match kind {
        Kind::Feature => metadata.get("currentId").is_some(),
        Kind::Template => true,
    };
    if changed {
        let text = serde_json::to_string_pretty(&metadata).unwrap_or_default();
        let content = Content::File {
            bytes: text.into_bytes(),
            executable: false,
        };
        folder.entries.insert(file, content);
    }
    Ok(Package {
        id,
        version,
        metadata,
        archive: folder.to_tar().map_err(Error::io("package", path))?,
    })
}

/// A template's own words, as it was published.
///
/// # Errors
/// It cannot be fetched, or says nothing.
pub async fn template_metadata(
    artifacts: &Artifacts,
    reference: &OciReference,
) -> Result<serde_json::Value, Error> {
    let artifact = artifacts.manifest(reference, None).await?;
    artifact
        .annotations
        .get(METADATA)
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| Error::Artifact {
            subject: reference.to_string(),
            problem: "it carries no metadata; ask its author to publish it again".to_owned(),
        })
}

/// What is done with a template's files.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    pub options: BTreeMap<String, String>,
    /// Paths, and folders with `/*` at their end.
    pub omit: Vec<String>,
    /// Features to add to its devcontainer.json.
    pub features: Vec<(String, serde_json::Value)>,
}

/// Fills in a template and writes it into an existing folder; answers with the
/// files written, as its archive names them.
///
/// # Errors
/// It cannot be fetched, read or written.
pub async fn apply_template(
    artifacts: &Artifacts,
    reference: &OciReference,
    choices: &Choices,
    target: &Path,
) -> Result<Vec<String>, Error> {
    let artifact = artifacts.manifest(reference, None).await?;
    let folder = artifacts.folder(reference, &artifact).await?;
    let name = format!("{} of {reference}", templates::METADATA_FILE);
    let template = match folder.text(templates::METADATA_FILE) {
        Some(text) => Template::parse(&name, text)?,
        None => Template::default(),
    };
    let values = template.values(&choices.options);
    let mut result = Folder::default();
    let mut configured = choices.features.is_empty();
    for (path, content) in folder.entries {
        let content = match content {
            // Folders come with what is in them.
            Content::Folder => continue,
            _ if templates::is_left_out(&path, &choices.omit) => continue,
            Content::File { bytes, executable } => {
                let bytes = match String::from_utf8(bytes) {
                    Ok(text) => {
                        let mut text = templates::substitute(&text, &values);
                        if !configured && path.ends_with("devcontainer.json") {
                            let features = &choices.features;
                            text = boatyard_devcontainer::features::add_features(
                                &path, &text, features,
                            )?;
                            configured = true;
                        }
                        text.into_bytes()
                    }
                    // What is no text has no options.
                    Err(error) => error.into_bytes(),
                };
                Content::File { bytes, executable }
            }
            link => link,
        };
        result
            .add(path, content)
            .map_err(|problem| Error::Artifact {
                subject: reference.to_string(),
                problem,
            })?;
    }
    let files = result.files().map(|path| format!("./{path}")).collect();
    let (target, shown) = (target.to_owned(), target.to_owned());
    let written = crate::images::blocking("write a template", move || Ok(result.write(&target)));
    written.await?.map_err(|error: io::Error| Error::Io {
        doing: "write the template into",
        path: shown,
        source: error,
    })?;
    Ok(files)
}

/// What versions there are of a Feature; None when it cannot have any.
///
/// # Errors
/// The registry does not answer.
pub async fn outdated(
    artifacts: &Artifacts,
    requested: &Requested,
    lockfile: Option<&Lockfile>,
) -> Result<Option<Outdated>, Error> {
    let Ok(reference) = OciReference::parse(&requested.id) else {
        return Ok(None);
    };
    if requested.id.starts_with(['.', '/']) || requested.id.starts_with("https://") {
        return Ok(None);
    }
    let tags = artifacts.tags(&reference).await?.unwrap_or_default();
    let versions = Version::sorted(tags.iter().map(String::as_str));
    let locked = lockfile
        .and_then(|lockfile| lockfile.get(&requested.id))
        .and_then(|locked| Version::parse(&locked.version));
    let wanted = match reference.tag.as_deref() {
        Some("latest") => versions.last().cloned(),
        Some(tag) => versions
            .iter()
            .rev()
            .find(|version| version.satisfies(tag))
            .cloned(),
        None if locked.is_some() => locked.clone(),
        None => {
            let artifact = artifacts.manifest(&reference, None).await?;
            let metadata = artifact.annotations.get(METADATA);
            let json =
                metadata.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
            json.and_then(|json| Version::parse(json["version"].as_str()?))
        }
    };
    let text = |version: &Option<Version>| version.as_ref().map(ToString::to_string);
    let major =
        |version: &Option<Version>| version.as_ref().map(|version| version.major.to_string());
    let latest = versions.last().cloned();
    Ok(Some(Outdated {
        current: text(&locked).or_else(|| text(&wanted)),
        wanted: text(&wanted),
        wanted_major: major(&wanted),
        latest: text(&latest),
        latest_major: major(&latest),
    }))
}
