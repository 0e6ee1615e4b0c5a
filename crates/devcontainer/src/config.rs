//! One configuration layer, typed: devcontainer.json, or one entry of an image's label.
//!
//! [`Config::read`] knows every property of the specification. Values are read after substitution;
//! nothing is merged here.

use crate::error::{Error, ErrorKind, Warning};
use crate::features::{self, Requested};
use crate::hooks::{self, Command, HookName};
use crate::host::{self, HostRequirements};
use crate::mounts::{self, Mount};
use crate::ports::{self, Port, PortAttributes};
use crate::run_args::{self, RunArgs};
use crate::text::{Location, Source, Span};
use crate::tree::{Entry, Node, Value, WARNINGS_LIMIT};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Which shell's variables hooks and sessions get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UserEnvProbe {
    /// None.
    None,
    /// `-lc`.
    LoginShell,
    /// `-lic`, the default.
    #[default]
    LoginInteractiveShell,
    /// `-ic`.
    InteractiveShell,
}

/// What happens when the last client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ShutdownAction {
    /// Nothing.
    None,
    /// The environment stops.
    StopContainer,
    /// The same, written for Compose.
    StopCompose,
}

/// One layer. Absent is None or empty; places are kept where a later error may need them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub(crate) name: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) container_user: Option<String>,
    pub(crate) remote_user: Option<String>,
    pub(crate) container_env: BTreeMap<String, String>,
    pub(crate) remote_env: BTreeMap<String, Option<String>>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) workspace_mount: Option<Option<Mount>>,
    pub(crate) workspace_folder: Option<String>,
    pub(crate) hooks: BTreeMap<HookName, Vec<Command>>,
    pub(crate) wait_for: Option<HookName>,
    pub(crate) user_env_probe: Option<UserEnvProbe>,
    pub(crate) override_command: Option<bool>,
    pub(crate) init: bool,
    pub(crate) privileged: bool,
    pub(crate) cap_add: Vec<String>,
    pub(crate) security_opt: Vec<String>,
    pub(crate) entrypoint: Option<String>,
    pub(crate) customizations: BTreeMap<String, serde_json::Value>,
    pub(crate) forward_ports: Vec<Port>,
    pub(crate) ports_attributes: BTreeMap<String, PortAttributes>,
    pub(crate) other_ports_attributes: Option<PortAttributes>,
    pub(crate) update_remote_user_uid: Option<bool>,
    pub(crate) shutdown_action: Option<ShutdownAction>,
    pub(crate) host_requirements: HostRequirements,
    pub(crate) secrets: Vec<String>,
    pub(crate) run_args: RunArgs,
    pub(crate) features: Vec<Requested>,
    pub(crate) override_order: Vec<(String, Location)>,
    /// Compose files as written, none for the default ones, and where.
    pub(crate) compose_files: Option<(Vec<String>, Span)>,
    pub(crate) service: Option<String>,
    pub(crate) run_services: Vec<String>,
    pub(crate) build: Build,
    pub(crate) notes: Vec<String>,
}

/// Every top-level name of the specification, for suggestions.
const KNOWN: &[&str] = &[
    "$schema",
    "name",
    "image",
    "containerUser",
    "remoteUser",
    "containerEnv",
    "remoteEnv",
    "mounts",
    "workspaceMount",
    "workspaceFolder",
    "initializeCommand",
    "onCreateCommand",
    "updateContentCommand",
    "postCreateCommand",
    "postStartCommand",
    "postAttachCommand",
    "waitFor",
    "userEnvProbe",
    "overrideCommand",
    "init",
    "privileged",
    "capAdd",
    "securityOpt",
    "customizations",
    "forwardPorts",
    "portsAttributes",
    "otherPortsAttributes",
    "updateRemoteUserUID",
    "shutdownAction",
    "hostRequirements",
    "secrets",
    "runArgs",
    "appPort",
    "build",
    "dockerFile",
    "context",
    "dockerComposeFile",
    "service",
    "runServices",
    "features",
    "overrideFeatureInstallOrder",
];
/// Names older files and image labels carry, whose place is elsewhere now.
const LEGACY: &[&str] = &["extensions", "settings", "devPort", "userDataFolder"];

/// Reads values of one source, with errors at their place.
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source,
    pub(crate) warnings: RefCell<Vec<Warning>>,
    /// The local workspace folder, once it is known.
    pub(crate) workspace: Option<&'a str>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a Source, workspace: Option<&'a str>) -> Reader<'a> {
        Reader {
            source,
            warnings: RefCell::default(),
            workspace,
        }
    }

    pub(crate) fn wrong(&self, path: &str, node: &Node, expected: &str) -> Error {
        let kind = ErrorKind::WrongType {
            path: shown(path),
            expected: expected.to_owned(),
            found: node.kind().to_owned(),
        };
        Error::new(self.source, node.span, kind)
    }

    pub(crate) fn invalid(&self, path: &str, node: &Node, reason: &str) -> Error {
        Error::new(
            self.source,
            node.span,
            ErrorKind::Invalid {
                path: shown(path),
                reason: reason.to_owned(),
            },
        )
    }

    pub(crate) fn invalid_key(&self, path: &str, entry: &Entry, reason: &str) -> Error {
        Error::new(
            self.source,
            entry.key_span,
            ErrorKind::Invalid {
                path: shown(path),
                reason: reason.to_owned(),
            },
        )
    }

    pub(crate) fn warn(&self, span: Span, message: String) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < WARNINGS_LIMIT {
            warnings.push(Warning::new(self.source, span, message));
        }
    }

    /// A name the specification does not have: it may be another tool's, or mistyped.
    pub(crate) fn unknown(&self, entry: &Entry, path: &str, known: &[&str]) {
        let hint = match nearest(&entry.key, known) {
            Some(meant) => format!("; did you mean {meant:?}?"),
            None => String::new(),
        };
        self.warn(
            entry.key_span,
            format!(
                "{} is no property of the specification and has no effect{hint}",
                shown(path)
            ),
        );
    }

    pub(crate) fn string(&self, path: &str, node: &Node) -> Result<String, Error> {
        node.as_str()
            .map(str::to_owned)
            .ok_or_else(|| self.wrong(path, node, "a string"))
    }

    pub(crate) fn bool(&self, path: &str, node: &Node) -> Result<bool, Error> {
        match node.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.wrong(path, node, "true or false")),
        }
    }

    pub(crate) fn array<'n>(&self, path: &str, node: &'n Node) -> Result<&'n [Node], Error> {
        match &node.value {
            Value::Array(items) => Ok(items),
            _ => Err(self.wrong(path, node, "an array")),
        }
    }

    pub(crate) fn object<'n>(&self, path: &str, node: &'n Node) -> Result<&'n [Entry], Error> {
        match &node.value {
            Value::Object(entries) => Ok(entries),
            _ => Err(self.wrong(path, node, "an object")),
        }
    }

    pub(crate) fn strings(&self, path: &str, node: &Node) -> Result<Vec<String>, Error> {
        let Value::Array(items) = &node.value else {
            return Err(self.wrong(path, node, "an array of strings"));
        };
        items
            .iter()
            .enumerate()
            .map(|(at, item)| self.string(&format!("{path}[{at}]"), item))
            .collect()
    }

    pub(crate) fn choice<T: Copy>(
        &self,
        path: &str,
        node: &Node,
        choices: &[(&str, T)],
    ) -> Result<T, Error> {
        let text = self.string(path, node)?;
        choices
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let names: Vec<String> = choices
                    .iter()
                    .map(|(name, _)| format!("{name:?}"))
                    .collect();
                self.invalid(
                    path,
                    node,
                    &format!("is {text:?}, but must be one of {}", names.join(", ")),
                )
            })
    }

    fn variable_name(&self, path: &str, entry: &Entry) -> Result<(), Error> {
        if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
            return Err(self.invalid_key(
                path,
                entry,
                "is no name an environment variable can have",
            ));
        }
        Ok(())
    }

    fn variable_value(&self, path: &str, node: &Node, expected: &str) -> Result<String, Error> {
        let text = node
            .as_str()
            .ok_or_else(|| self.wrong(path, node, expected))?;
        if text.contains('\0') {
            return Err(self.invalid(
                path,
                node,
                "holds a NUL character, which no environment variable can",
            ));
        }
        Ok(text.to_owned())
    }

    /// A user's name or id; `name:group` is taken apart by whoever looks it up.
    fn user(&self, path: &str, node: &Node) -> Result<Option<String>, Error> {
        let text = self.string(path, node)?;
        if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err(self.invalid(path, node, &format!("is {text:?}, which is no user name")));
        }
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

impl Config {
    /// Reads a whole file; the first error ends it.
    pub(crate) fn read(reader: &Reader<'_>, root: &Node, origin: &str) -> Result<Config, Error> {
        let Value::Object(entries) = &root.value else {
            return Err(reader.wrong("the configuration", root, "an object"));
        };
        let mut config = Config::default();
        for entry in entries {
            config.property(reader, entry, origin)?;
        }
        config.finish();
        Ok(config)
    }

    /// What one property leaves to others.
    pub(crate) fn finish(&mut self) {
        let arguments = std::mem::take(&mut self.run_args);
        self.container_env.extend(arguments.env.clone());
        if arguments.user.is_some() {
            self.container_user.clone_from(&arguments.user);
        }
        self.init |= arguments.init;
        self.privileged |= arguments.privileged;
        append_new(&mut self.cap_add, &arguments.cap_add);
        append_new(&mut self.security_opt, &arguments.security_opt);
        self.mounts.extend(arguments.mounts.iter().cloned());
        self.notes.extend(arguments.notes.iter().cloned());
        self.run_args = arguments;
    }

    /// Takes one property in.
    pub(crate) fn property(
        &mut self,
        reader: &Reader<'_>,
        entry: &Entry,
        origin: &str,
    ) -> Result<(), Error> {
        let (path, node) = (entry.key.as_str(), &entry.node);
        if matches!(node.value, Value::Null) && KNOWN.contains(&path) {
            reader.warn(
                node.span,
                format!("{path} is null, which counts as not given"),
            );
            return Ok(());
        }
        if let Some(hook) = HookName::parse(path) {
            let commands = hooks::read(reader, path, node, origin)?;
            self.hooks.insert(hook, commands);
            return Ok(());
        }
        match path {
            "$schema" | "id" => {}
            "name" => self.name = Some(reader.string(path, node)?),
            "image" => {
                let image = reader.string(path, node)?;
                if image.trim().is_empty() {
                    return Err(reader.invalid(
                        path,
                        node,
                        "is empty; name an image, for example \"debian:bookworm\"",
                    ));
                }
                self.image = Some(image);
            }
            "containerUser" => self.container_user = reader.user(path, node)?,
            "remoteUser" => self.remote_user = reader.user(path, node)?,
            "containerEnv" => self.container_env = container_env(reader, path, node)?,
            "remoteEnv" => self.remote_env = remote_env(reader, path, node)?,
            "mounts" => {
                let items = reader.array(path, node)?;
                let one = |(at, item)| {
                    mounts::read(reader, &format!("{path}[{at}]"), item, reader.workspace)
                };
                self.mounts = items
                    .iter()
                    .enumerate()
                    .map(one)
                    .collect::<Result<_, _>>()?;
            }
            "workspaceMount" => {
                let text = reader.string(path, node)?;
                let mount = (!text.is_empty())
                    .then(|| mounts::read(reader, path, node, reader.workspace))
                    .transpose()?;
                self.workspace_mount = Some(mount);
            }
            "workspaceFolder" => {
                let text = reader.string(path, node)?;
                let folder = mounts::absolute(&text);
                let folder = if text == "/" {
                    Some(text.clone())
                } else {
                    folder
                };
                let folder = folder
                    .filter(|folder| !folder.contains('\0'))
                    .ok_or_else(|| {
                        reader.invalid(
                            path,
                            node,
                            &format!(
                                "is {text:?}, but must be an absolute path inside the environment"
                            ),
                        )
                    })?;
                self.workspace_folder = Some(folder);
            }
            "waitFor" => {
                let choices = HookName::ALL.map(|hook| (hook.as_str(), hook));
                self.wait_for = Some(reader.choice(path, node, &choices)?);
            }
            "userEnvProbe" => {
                let choices = [
                    ("none", UserEnvProbe::None),
                    ("loginShell", UserEnvProbe::LoginShell),
                    ("loginInteractiveShell", UserEnvProbe::LoginInteractiveShell),
                    ("interactiveShell", UserEnvProbe::InteractiveShell),
                ];
                self.user_env_probe = Some(reader.choice(path, node, &choices)?);
            }
            "overrideCommand" => self.override_command = Some(reader.bool(path, node)?),
            "init" => self.init = reader.bool(path, node)?,
            "privileged" => self.privileged = reader.bool(path, node)?,
            "capAdd" => self.cap_add = reader.strings(path, node)?,
            "securityOpt" => self.security_opt = reader.strings(path, node)?,
            "entrypoint" => {
                self.entrypoint =
                    Some(reader.string(path, node)?).filter(|entrypoint| !entrypoint.is_empty())
            }
            "customizations" => {
                let entries = reader.object(path, node)?;
                self.customizations = entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.to_json()))
                    .collect();
            }
            "forwardPorts" => self.forward_ports.extend(ports::ports(reader, path, node)?),
            "appPort" => {
                reader.warn(
                    entry.key_span,
                    "appPort is deprecated and counts as forwardPorts".into(),
                );
                self.forward_ports
                    .extend(ports::app_ports(reader, path, node)?);
            }
            "portsAttributes" => {
                let entries = reader.object(path, node)?;
                let one = |entry: &Entry| {
                    Ok((
                        entry.key.clone(),
                        ports::attributes(reader, &format!("{path}.{}", entry.key), &entry.node)?,
                    ))
                };
                self.ports_attributes = entries.iter().map(one).collect::<Result<_, Error>>()?;
            }
            "otherPortsAttributes" => {
                self.other_ports_attributes = Some(ports::attributes(reader, path, node)?)
            }
            "updateRemoteUserUID" => self.update_remote_user_uid = Some(reader.bool(path, node)?),
            "shutdownAction" => {
                let choices = [
                    ("none", ShutdownAction::None),
                    ("stopContainer", ShutdownAction::StopContainer),
                    ("stopCompose", ShutdownAction::StopCompose),
                ];
                self.shutdown_action = Some(reader.choice(path, node, &choices)?);
            }
            "hostRequirements" => {
                self.host_requirements = host::read(reader, path, node)?;
            }
            "secrets" => {
                let entries = reader.object(path, node)?;
                for entry in entries {
                    reader.object(&format!("{path}.{}", entry.key), &entry.node)?;
                }
                self.secrets = entries.iter().map(|entry| entry.key.clone()).collect();
            }
            "features" => self.features = features::read(reader.source, path, node)?,
            "overrideFeatureInstallOrder" => {
                let ids = reader.strings(path, node)?;
                let places = reader.array(path, node)?.iter();
                let places = places.map(|item| reader.source.locate(item.span));
                self.override_order = ids.into_iter().zip(places).collect();
            }
            "runArgs" => self.run_args = run_args::read(reader, path, node)?,
            _ => self.unsupported_property(reader, entry)?,
        }
        Ok(())
    }

    fn unsupported_property(&mut self, reader: &Reader<'_>, entry: &Entry) -> Result<(), Error> {
        let (path, node) = (entry.key.as_str(), &entry.node);
        match path {
            "build" => self.build.read(reader, path, node)?,
            // The older form, which the newer one overrides wherever it stands.
            "dockerFile" => {
                let file = (reader.string(path, node)?, node.span);
                self.build.dockerfile.get_or_insert(file);
            }
            "context" => {
                let folder = reader.string(path, node)?;
                self.build.context.get_or_insert(folder);
            }
            "dockerComposeFile" => {
                let files = match node.as_str() {
                    Some(file) => vec![file.to_owned()],
                    None => reader.strings(path, node)?,
                };
                self.compose_files = Some((files, entry.key_span));
            }
            "service" => self.service = Some(reader.string(path, node)?),
            "runServices" => self.run_services = reader.strings(path, node)?,
            _ if LEGACY.contains(&path) => {
                reader.warn(entry.key_span, format!("{path} is an editor's setting of an older form and has no effect; its place is customizations.vscode"));
            }
            _ => reader.unknown(entry, path, KNOWN),
        }
        Ok(())
    }
}

/// What of a configuration says how an image is built.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Build {
    /// As written, and where.
    pub(crate) dockerfile: Option<(String, Span)>,
    pub(crate) context: Option<String>,
    pub(crate) args: BTreeMap<String, String>,
    pub(crate) target: Option<String>,
    pub(crate) cache_from: Vec<String>,
}

const BUILD_KNOWN: &[&str] = &[
    "dockerfile",
    "context",
    "args",
    "target",
    "cacheFrom",
    "options",
];

impl Build {
    fn read(&mut self, reader: &Reader<'_>, path: &str, node: &Node) -> Result<(), Error> {
        for entry in reader.object(path, node)? {
            let (path, node) = (format!("{path}.{}", entry.key), &entry.node);
            match entry.key.as_str() {
                "dockerfile" => self.dockerfile = Some((reader.string(&path, node)?, node.span)),
                "context" => self.context = Some(reader.string(&path, node)?),
                "target" => self.target = Some(reader.string(&path, node)?),
                "args" => {
                    for argument in reader.object(&path, node)? {
                        let path = format!("{path}.{}", argument.key);
                        let value = reader.string(&path, &argument.node)?;
                        self.args.insert(argument.key.clone(), value);
                    }
                }
                "cacheFrom" => {
                    self.cache_from = match node.as_str() {
                        Some(one) => vec![one.to_owned()],
                        None => reader.strings(&path, node)?,
                    };
                }
                "options" => self.options(reader, &path, node)?,
                _ => reader.unknown(entry, &path, BUILD_KNOWN),
            }
        }
        Ok(())
    }

    /// Options of `docker build`: those that say what is built have a meaning here.
    fn options(&mut self, reader: &Reader<'_>, path: &str, node: &Node) -> Result<(), Error> {
        let options = reader.strings(path, node)?;
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let (name, mut value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            let known = matches!(name, "--build-arg" | "--target" | "--cache-from");
            if known && value.is_none() {
                value = options.next().map(String::as_str);
            }
            match (name, value) {
                ("--build-arg", Some(argument)) => {
                    let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
                    self.args.insert(name.to_owned(), value.to_owned());
                }
                ("--target", Some(target)) => self.target = Some(target.to_owned()),
                ("--cache-from", Some(image)) => self.cache_from.push(image.to_owned()),
                _ => reader.warn(
                    node.span,
                    format!("{path}: {option} is an option of docker's that has no effect here"),
                ),
            }
        }
        Ok(())
    }
}

fn container_env(
    reader: &Reader<'_>,
    path: &str,
    node: &Node,
) -> Result<BTreeMap<String, String>, Error> {
    let mut variables = BTreeMap::new();
    for entry in reader.object(path, node)? {
        let path = format!("{path}.{}", entry.key);
        reader.variable_name(&path, entry)?;
        let value = reader.variable_value(&path, &entry.node, "a string")?;
        if value.contains("${containerEnv:") {
            reader.warn(entry.node.span, format!("{} uses ${{containerEnv:…}}, which is not known yet there and stays as it is written; use remoteEnv", shown(&path)));
        }
        variables.insert(entry.key.clone(), value);
    }
    Ok(variables)
}

fn remote_env(
    reader: &Reader<'_>,
    path: &str,
    node: &Node,
) -> Result<BTreeMap<String, Option<String>>, Error> {
    let mut variables = BTreeMap::new();
    for entry in reader.object(path, node)? {
        let path = format!("{path}.{}", entry.key);
        reader.variable_name(&path, entry)?;
        let value = match entry.node.value {
            Value::Null => None,
            _ => Some(reader.variable_value(
                &path,
                &entry.node,
                "a string, or null to unset the variable",
            )?),
        };
        variables.insert(entry.key.clone(), value);
    }
    Ok(variables)
}

/// Appends what is not there yet, in order.
pub(crate) fn append_new<T: Clone + PartialEq>(list: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// A path as an error shows it: short, and without control characters.
pub(crate) fn shown(path: &str) -> String {
    path.chars().map(crate::text::clean).take(100).collect()
}

/// The same, for a whole sentence.
pub(crate) fn shown_long(text: &str) -> String {
    text.chars().map(crate::text::clean).take(400).collect()
}

/// The known name a mistyped one most likely means.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    if given.chars().count() > 40 {
        return None;
    }
    let distances = known
        .iter()
        .map(|name| (distance(&given.to_lowercase(), &name.to_lowercase()), *name));
    let (steps, name) = distances.min_by_key(|(steps, _)| *steps)?;
    (steps <= 1 + name.len() / 5).then_some(name)
}

/// Levenshtein's.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let cost = if a == *b {
                diagonal
            } else {
                1 + diagonal.min(row[j]).min(row[j + 1])
            };
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[right.len()]
}
