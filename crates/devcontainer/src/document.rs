//! A parsed devcontainer.json and the two questions it answers: which image, and how to run it.
//!
//! Parsing finds what can be found without knowing the caller: syntax, types, unknown names. A
//! value with variables is judged once they are known, by [`Document::image`], which therefore
//! finds every remaining error before anything is fetched.

use crate::compose;
use crate::config::{Config, Reader, ShutdownAction, UserEnvProbe};
use crate::error::{Error, ErrorKind, Warning};
use crate::features;
use crate::hooks::{Command, HookName};
use crate::merge;
use crate::mounts::{self, absolute, within};
use crate::plan::{self, RunPlan};
use crate::substitute::{self, Variables, basename};
use crate::text::{Source, Span};
use crate::tree::{self, Node, Value};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// What the caller's side contributes.
#[derive(Clone, Debug, Default)]
pub struct LocalContext {
    /// Environment variables of the caller, for `${localEnv:…}`.
    pub local_env: BTreeMap<String, String>,
    /// The opened folder, absolute.
    pub local_workspace_folder: String,
    /// The root of the repository around it, when that is what is mounted; None mounts the folder.
    pub repository_root: Option<String>,
    /// Labels the environment's id is made from; None takes the folder and the file's path, as the
    /// reference does.
    pub id_labels: Option<BTreeMap<String, String>>,
    /// An image that replaces whatever the file names or builds.
    pub image_override: Option<String>,
    /// Further mounts, in the string form.
    pub additional_mounts: Vec<String>,
    /// Variables over `remoteEnv`.
    pub additional_remote_env: BTreeMap<String, String>,
    /// Further Features with their options, over the file's of the same name.
    pub additional_features: BTreeMap<String, serde_json::Value>,
    /// For `userEnvProbe`, where nothing says it.
    pub default_user_env_probe: Option<UserEnvProbe>,
    /// For `updateRemoteUserUID`.
    pub update_remote_user_uid: UidUpdate,
}

/// What the caller says of `updateRemoteUserUID`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UidUpdate {
    /// It is not done, whatever the file says.
    Never,
    /// It is done unless the file says no.
    #[default]
    On,
    /// It is done only when the file says yes.
    Off,
}

/// An image to build, its paths absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DockerfileSource {
    /// The Dockerfile.
    pub file: String,
    /// The folder it copies from.
    pub context: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage wanted; None for the last.
    pub target: Option<String>,
    /// Images whose layers may be used.
    pub cache_from: Vec<String>,
    /// The Dockerfile's text, where it is in no file; `file` then only names it.
    #[serde(default)]
    pub inline: Option<String>,
    /// Further contexts by name: folders, URLs, `docker-image://` and a reference.
    #[serde(default)]
    pub contexts: BTreeMap<String, String>,
}

impl DockerfileSource {
    /// A name for the image, the same whenever the same Dockerfile is built with the same
    /// arguments.
    pub fn name(&self) -> String {
        let mut what: BTreeMap<String, String> = self.args.clone();
        let contexts = self.contexts.iter();
        what.extend(contexts.map(|(name, place)| (format!(" context {name}"), place.clone())));
        what.extend(self.inline.clone().map(|text| (" inline".to_owned(), text)));
        what.insert(" file".to_owned(), self.file.clone());
        what.insert(" context".to_owned(), self.context.clone());
        what.insert(
            " target".to_owned(),
            self.target.clone().unwrap_or_default(),
        );
        let id = substitute::devcontainer_id(&what);
        let words: String = basename(&self.context)
            .to_ascii_lowercase()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(60)
            .collect();
        let words = if words.is_empty() { "image" } else { &words };
        format!("boatyard.local/{words}:{id}")
    }
}

impl LocalContext {
    /// A folder, and nothing else known.
    pub fn new(local_workspace_folder: &str) -> LocalContext {
        LocalContext {
            local_workspace_folder: local_workspace_folder.to_owned(),
            ..LocalContext::default()
        }
    }

    /// What is mounted by default, and where.
    pub(crate) fn default_mount(&self) -> (&str, String) {
        let root = self
            .repository_root
            .as_deref()
            .filter(|root| within(&self.local_workspace_folder, root).is_some());
        let root = root.unwrap_or(&self.local_workspace_folder);
        let name = basename(root);
        (
            root,
            if name.is_empty() {
                "/workspaces".to_owned()
            } else {
                format!("/workspaces/{name}")
            },
        )
    }
}

/// What of an image's configuration takes part.
#[derive(Clone, Debug, Default)]
pub struct ImageMetadata {
    /// `NAME=VALUE` pairs.
    pub env: Vec<String>,
    /// The image's user.
    pub user: Option<String>,
    /// Its labels; `devcontainer.metadata` is read.
    pub labels: BTreeMap<String, String>,
}

/// A configuration.
#[derive(Clone, Debug)]
pub struct Document {
    source: Source,
    root: Node,
    warnings: Vec<Warning>,
}

/// Everything but the image's part, substituted.
struct Resolved {
    config: Config,
    id: String,
    mount_target: String,
    workspace_folder: String,
    warnings: Vec<Warning>,
}

impl Document {
    /// Parses a text. `file_name` is its path relative to the source's root; errors name it.
    pub fn parse(file_name: &str, text: &str) -> Result<Document, Error> {
        let source = Source::new(file_name, text);
        let mut warnings = Vec::new();
        let root = tree::parse(&source, &mut warnings)?;
        let Value::Object(entries) = &root.value else {
            return Err(Reader::new(&source, None).wrong("the configuration", &root, "an object"));
        };
        let reader = Reader::new(&source, None);
        let mut config = Config::default();
        for entry in entries {
            match config.property(&reader, entry, file_name) {
                // What its variables stand for may make it right.
                Err(_) if entry.node.has_variables() => {}
                outcome => outcome?,
            }
        }
        substitute::warn_mistyped(&reader, &root);
        warnings.append(&mut reader.warnings.borrow_mut());
        warnings.sort_by_key(|warning| (warning.location.line, warning.location.column));
        Ok(Document {
            source,
            root,
            warnings,
        })
    }

    /// The configuration of a folder that has none: an image and nothing else.
    pub fn default_configuration(image: &str) -> Document {
        let text = serde_json::json!({ "image": image }).to_string();
        let nowhere = Span {
            start: 0,
            end: text.len(),
        };
        let node = Node {
            span: nowhere,
            value: Value::String(image.to_owned()),
        };
        let entry = tree::Entry {
            key: "image".into(),
            key_span: nowhere,
            node,
        };
        Document {
            source: Source::new("default configuration", &text),
            root: Node {
                span: nowhere,
                value: Value::Object(vec![entry]),
            },
            warnings: Vec::new(),
        }
    }

    /// What was probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Names of the caller's environment variables the file uses: no others need to be sent.
    pub fn local_env_names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        substitute::local_names(&self.root, &mut names);
        names
    }

    /// The image to fetch. Everything that can be wrong with the file is found here.
    pub fn image(&self, context: &LocalContext) -> Result<String, Error> {
        let resolved = self.resolve(context)?;
        match context.image_override.clone().or(resolved.config.image) {
            Some(image) => Ok(image),
            None if resolved.config.build.dockerfile.is_some() => {
                let span = resolved.config.build.dockerfile.map(|(_, span)| span);
                let what = "the image is what the Dockerfile builds".to_owned();
                let kind = ErrorKind::Missing(what);
                Err(Error::new(&self.source, span.unwrap_or_default(), kind))
            }
            None => Err(match resolved.config.compose_files {
                Some((_, span)) => {
                    let what =
                        "the image is that of a Compose service, which its project's files name";
                    Error::new(&self.source, span, ErrorKind::Missing(what.to_owned()))
                }
                None => self.no_image(),
            }),
        }
    }

    /// The Dockerfile it has built; None when it names none, or when an image given from outside
    /// takes its place. A file that also names an image names the result.
    pub fn dockerfile(&self, context: &LocalContext) -> Result<Option<DockerfileSource>, Error> {
        let config = self.resolve(context)?.config;
        let Some((file, span)) = config.build.dockerfile else {
            return Ok(None);
        };
        if context.image_override.is_some() {
            return Ok(None);
        }
        let own: &str = &self.source.file;
        let workspace = context.local_workspace_folder.trim_end_matches('/');
        let own = if own.starts_with('/') {
            own.to_owned()
        } else {
            format!("{workspace}/{own}")
        };
        let folder = own.rsplit_once('/').map_or("", |(folder, _)| folder);
        let place = |path: &str| {
            let joined = if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("{folder}/{path}")
            };
            absolute(&joined).ok_or_else(|| {
                let kind = ErrorKind::Missing(format!("{path:?} is no path"));
                Error::new(&self.source, span, kind)
            })
        };
        Ok(Some(DockerfileSource {
            file: place(&file)?,
            context: place(config.build.context.as_deref().unwrap_or("."))?,
            args: config.build.args,
            target: config.build.target,
            cache_from: config.build.cache_from,
            ..DockerfileSource::default()
        }))
    }

    /// The Compose project it names a service of; None when it names none, or when an image given
    /// from outside takes its place. [`compose::plan`] makes a plan of it.
    pub fn compose(&self, context: &LocalContext) -> Result<Option<compose::Request>, Error> {
        let config = self.resolve(context)?.config;
        let Some((files, span)) = config.compose_files else {
            return Ok(None);
        };
        if context.image_override.is_some() {
            return Ok(None);
        }
        let Some(service) = config.service.filter(|service| !service.is_empty()) else {
            let kind = ErrorKind::Missing(
                "dockerComposeFile needs \"service\": name the service to work in".into(),
            );
            return Err(Error::new(&self.source, span, kind));
        };
        let file: &str = &self.source.file;
        let workspace = context.local_workspace_folder.trim_end_matches('/');
        let own = if file.starts_with('/') {
            file.to_owned()
        } else {
            format!("{workspace}/{file}")
        };
        let folder = own.rsplit_once('/').map_or("", |(folder, _)| folder);
        let absolute = |file: &String| {
            let joined = if file.starts_with('/') {
                file.clone()
            } else {
                format!("{folder}/{file}")
            };
            absolute(&joined).ok_or_else(|| {
                let kind = ErrorKind::Missing(format!("{file:?} is no file"));
                Error::new(&self.source, span, kind)
            })
        };
        Ok(Some(compose::Request {
            files: files.iter().map(absolute).collect::<Result<_, _>>()?,
            service,
            run_services: config.run_services,
            workspace: context.local_workspace_folder.clone(),
            env: context.local_env.clone(),
        }))
    }

    /// The Features it asks for, and the order it wants them in.
    pub fn features(&self, context: &LocalContext) -> Result<features::Request, Error> {
        let config = self.resolve(context)?.config;
        let mut request = features::Request {
            features: config.features,
            override_order: config.override_order,
            config_file: self.file_in(&context.local_workspace_folder),
        };
        let additional: serde_json::Map<String, serde_json::Value> =
            context.additional_features.clone().into_iter().collect();
        if !additional.is_empty() {
            let text = serde_json::Value::Object(additional).to_string();
            request.add(features::parse_requested("additional Features", &text)?);
        }
        Ok(request)
    }

    /// The file's path, relative to the folder if it lies in it.
    fn file_in(&self, folder: &str) -> String {
        let file: &str = &self.source.file;
        if !file.starts_with('/') {
            return file.to_owned();
        }
        within(file, folder).unwrap_or_else(|| file.to_owned())
    }

    /// What it would have the label of its image say of it, as it is written: variables are filled
    /// in by whoever uses the image.
    pub fn label_entry(&self) -> serde_json::Value {
        let entries = merge::FROM_FILE.iter().filter_map(|name| {
            let node = &self.root.get(name)?.node;
            let given = !matches!(node.value, Value::Null);
            given.then(|| ((*name).to_owned(), node.to_json()))
        });
        serde_json::Value::Object(entries.collect())
    }

    /// `initializeCommand`, for the caller's machine, before anything else happens.
    pub fn initialize(&self, context: &LocalContext) -> Result<Vec<Command>, Error> {
        let mut resolved = self.resolve(context)?;
        Ok(resolved
            .config
            .hooks
            .remove(&HookName::Initialize)
            .unwrap_or_default())
    }

    /// How to run it, the image's own wishes merged in.
    pub fn run_plan(
        &self,
        context: &LocalContext,
        image: &ImageMetadata,
    ) -> Result<RunPlan, Error> {
        let mut resolved = self.resolve(context)?;
        let variables = Variables {
            context,
            container_workspace_folder: Some(&resolved.workspace_folder),
            id: &resolved.id,
            written: Cell::default(),
        };
        let (mut layers, mut notes) = match image.labels.get(merge::LABEL) {
            Some(label) => merge::label(label, &variables),
            None => (Vec::new(), Vec::new()),
        };
        notes.extend(resolved.warnings.iter().map(ToString::to_string));
        let initialize = resolved
            .config
            .hooks
            .remove(&HookName::Initialize)
            .unwrap_or_default();
        let file = resolved.config.clone();
        layers.push(resolved.config);
        let workspace = plan::Workspace {
            folder: resolved.workspace_folder,
            target: resolved.mount_target,
        };
        let mut merged = merge::merge(&layers);
        self.add(context, &mut merged)?;
        Ok(plan::make(
            file,
            initialize,
            merged,
            workspace,
            resolved.id,
            notes,
        ))
    }

    /// What the caller says beside the file.
    fn add(&self, context: &LocalContext, merged: &mut merge::Merged) -> Result<(), Error> {
        for text in &context.additional_mounts {
            let source = Source::new("additional mounts", text);
            let node = Node {
                span: Span {
                    start: 0,
                    end: text.len(),
                },
                value: Value::String(text.clone()),
            };
            let reader = Reader::new(&source, Some(&context.local_workspace_folder));
            let mount = mounts::read(&reader, "mount", &node, reader.workspace)?;
            merged.mounts.push(mount);
        }
        merged.mounts = merge::by_target(std::mem::take(&mut merged.mounts));
        let added = context.additional_remote_env.iter();
        let layer = &mut merged.layer;
        layer
            .remote_env
            .extend(added.map(|(name, value)| (name.clone(), Some(value.clone()))));
        layer.user_env_probe = layer.user_env_probe.or(context.default_user_env_probe);
        layer.update_remote_user_uid = match context.update_remote_user_uid {
            UidUpdate::Never => Some(false),
            UidUpdate::On => layer.update_remote_user_uid,
            UidUpdate::Off => Some(layer.update_remote_user_uid == Some(true)),
        };
        Ok(())
    }

    /// Its id, the target of the default mount, and the folder inside where the code is.
    pub(crate) fn places(&self, context: &LocalContext) -> Result<(String, String, String), Error> {
        let id = substitute::devcontainer_id(&self.labels(context));
        let (root, target) = context.default_mount();
        let below = within(&context.local_workspace_folder, root).unwrap_or_default();
        let default = if below.is_empty() {
            target.clone()
        } else {
            format!("{target}/{below}")
        };
        let variables = Variables {
            context,
            container_workspace_folder: None,
            id: &id,
            written: Cell::default(),
        };
        let reader = Reader::new(&self.source, Some(&context.local_workspace_folder));
        let default = if self.is_composed(context) {
            "/".to_owned()
        } else {
            default
        };
        let workspace_folder = match self.root.get("workspaceFolder") {
            Some(entry) if !matches!(entry.node.value, Value::Null) => {
                if let Some(span) = substitute::names_container_folder(&entry.node) {
                    let what = "workspaceFolder cannot be made from ${containerWorkspaceFolder}, which is itself".to_owned();
                    return Err(Error::new(&self.source, span, ErrorKind::Variable(what)));
                }
                let node = substitute::tree(&self.source, &entry.node, &variables)?;
                let entry = tree::Entry {
                    key: entry.key.clone(),
                    key_span: entry.key_span,
                    node,
                };
                let mut config = Config::default();
                config.property(&reader, &entry, "")?;
                config.workspace_folder.unwrap_or(default)
            }
            _ => default,
        };
        Ok((id, target, workspace_folder))
    }

    /// Whether what is mounted where is the Compose files' business.
    fn is_composed(&self, context: &LocalContext) -> bool {
        let given = self.root.get("dockerComposeFile");
        context.image_override.is_none()
            && given.is_some_and(|entry| !matches!(entry.node.value, Value::Null))
    }

    /// The whole file, its variables filled in.
    pub(crate) fn substituted(&self, variables: &Variables<'_>) -> Result<Node, Error> {
        substitute::tree(&self.source, &self.root, variables)
    }

    fn resolve(&self, context: &LocalContext) -> Result<Resolved, Error> {
        let (id, target, workspace_folder) = self.places(context)?;
        let reader = Reader::new(&self.source, Some(&context.local_workspace_folder));
        let variables = Variables {
            context,
            container_workspace_folder: Some(&workspace_folder),
            id: &id,
            written: Cell::default(),
        };
        let substituted = self.substituted(&variables)?;
        let mut config = Config::read(&reader, &substituted, &self.source.file)?;
        let overridden = context.image_override.is_some();
        let built = config.compose_files.is_some() || config.build.dockerfile.is_some();
        if config.image.is_none() && !built && !overridden {
            return Err(self.no_image());
        }
        if self.is_composed(context) {
            config.workspace_mount = Some(None);
            config.override_command.get_or_insert(false);
            config
                .shutdown_action
                .get_or_insert(ShutdownAction::StopCompose);
        }
        self.workspace_warnings(&reader, &config, &workspace_folder, &target);
        let known = &self.warnings;
        let warnings = reader
            .warnings
            .into_inner()
            .into_iter()
            .filter(|warning| !known.contains(warning))
            .collect();
        Ok(Resolved {
            config,
            id,
            mount_target: target,
            workspace_folder,
            warnings,
        })
    }

    /// A folder that no mount covers is most likely not there.
    fn workspace_warnings(&self, reader: &Reader<'_>, config: &Config, folder: &str, target: &str) {
        let covered = match &config.workspace_mount {
            None => within(folder, target).is_some(),
            Some(Some(mount)) => within(folder, &mount.target).is_some(),
            Some(None) => true,
        };
        let place = self
            .root
            .get("workspaceFolder")
            .or_else(|| self.root.get("workspaceMount"));
        let elsewhere = config
            .mounts
            .iter()
            .any(|mount| within(folder, &mount.target).is_some());
        if let Some(entry) = place
            && !covered
            && !elsewhere
        {
            let mounted = match &config.workspace_mount {
                Some(Some(mount)) => &mount.target,
                _ => target,
            };
            let message = format!(
                "the workspace folder {folder} lies outside of what is mounted at {mounted}; set workspaceMount and workspaceFolder together"
            );
            reader.warn(entry.key_span, message);
        }
    }

    fn no_image(&self) -> Error {
        Error::new(
            &self.source,
            Span {
                start: self.root.span.start,
                end: self.root.span.start + 1,
            },
            ErrorKind::ImageMissing,
        )
    }

    /// The labels the reference gives a container of this file.
    fn labels(&self, context: &LocalContext) -> BTreeMap<String, String> {
        if let Some(labels) = &context.id_labels {
            return labels.clone();
        }
        let folder = &context.local_workspace_folder;
        let file: &str = &self.source.file;
        let path = if file.starts_with('/') {
            file.to_owned()
        } else {
            format!("{}/{file}", folder.trim_end_matches('/'))
        };
        BTreeMap::from([
            ("devcontainer.local_folder".to_owned(), folder.clone()),
            ("devcontainer.config_file".to_owned(), path),
        ])
    }
}
