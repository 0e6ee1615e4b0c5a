//! Which devcontainer.json is meant, read as the caller.
//!
//! Of a folder it is the specification's choice; `--config` names another, and `--override-config`
//! another text in its place, so that relative paths still start at the file replaced. The
//! repository around a folder is what is mounted.

use super::args::{Chosen, Found};
use crate::failure::Failure;
use boatyard_devcontainer::{Document, FIXED_CANDIDATES, LocalContext};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// A configuration and where it stands.
#[derive(Debug)]
pub(crate) struct Located {
    /// The opened folder, absolute; None when only a file or a label was named.
    pub(crate) folder: Option<PathBuf>,
    /// The file, absolute; with `--override-config` the one replaced, which need not exist.
    pub(crate) file: PathBuf,
    /// What was read.
    pub(crate) text: String,
    /// It, parsed.
    pub(crate) document: Document,
    /// What the caller's side gives its variables.
    pub(crate) context: LocalContext,
}

/// An absolute path without `.` and `..`; links stay, as in the reference.
pub(crate) fn absolute(path: &str) -> Result<PathBuf, Failure> {
    let joined = std::env::current_dir()?.join(path);
    let mut plain = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

/// `NAME=VALUE` pairs as a map.
pub(crate) fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    let pairs = texts.iter().filter_map(|text| text.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The folder that is meant, where nothing else says what is.
pub(crate) fn folder(chosen: &Chosen, otherwise: bool) -> Result<Option<PathBuf>, Failure> {
    match &chosen.workspace_folder {
        Some(folder) => absolute(folder).map(Some),
        None if otherwise => Ok(None),
        None => absolute(".").map(Some),
    }
}

/// The configuration of a verb that looks for an environment; None when it named none.
pub(crate) fn of_found(found: &Found) -> Result<Option<Located>, Failure> {
    let chosen = &found.chosen;
    let named = found.container_id.is_some() || !chosen.id_label.is_empty();
    let folder = folder(chosen, named)?;
    if folder.is_none() && chosen.config.is_none() && chosen.override_config.is_none() {
        return Ok(None);
    }
    locate(chosen, folder).map(Some)
}

/// The configuration that is meant.
pub(crate) fn locate(chosen: &Chosen, folder: Option<PathBuf>) -> Result<Located, Failure> {
    let file = match (&chosen.config, &folder) {
        (Some(config), _) => absolute(config)?,
        (None, Some(folder)) => discover(folder)?,
        (None, None) => match &chosen.override_config {
            Some(file) => absolute(file)?,
            None => return Err(Failure::new("no folder and no configuration were named")),
        },
    };
    let read = match &chosen.override_config {
        Some(other) => absolute(other)?,
        None => file.clone(),
    };
    let missing = || {
        Failure::new(format!(
            "Dev container config ({}) not found.",
            file.display()
        ))
        .hint("name another with --config, or write one there")
    };
    let text = match std::fs::read_to_string(&read) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => {
            return Err(Failure::new(format!(
                "cannot read {}: {error}",
                read.display()
            )));
        }
    };
    let name = file_name(&file)?;
    let document = Document::parse(name, &text).map_err(|error| Failure::new(error.to_string()))?;
    let context = context(chosen, folder.as_deref(), &document)?;
    Ok(Located {
        folder,
        file,
        text,
        document,
        context,
    })
}

/// The configuration of a folder, without the repository around it.
pub(crate) fn of_folder(folder: PathBuf) -> Result<Located, Failure> {
    of_folder_by(folder, None)
}

/// The same, by a file that was named.
pub(crate) fn of_folder_by(folder: PathBuf, config: Option<&str>) -> Result<Located, Failure> {
    let chosen = Chosen {
        workspace_folder: None,
        mount_workspace_git_root: false,
        mount_git_worktree_common_dir: false,
        id_label: Vec::new(),
        config: config.map(str::to_owned),
        override_config: None,
    };
    locate(&chosen, Some(folder))
}

fn file_name(file: &Path) -> Result<&str, Failure> {
    file.to_str()
        .ok_or_else(|| Failure::new("the configuration's path is not UTF-8"))
}

/// The specification's choice in a folder; its first place when there is none.
pub(crate) fn discover(folder: &Path) -> Result<PathBuf, Failure> {
    let mut candidates: Vec<String> = FIXED_CANDIDATES.map(str::to_owned).into();
    if let Ok(entries) = std::fs::read_dir(folder.join(".devcontainer")) {
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        candidates.extend(names.map(|name| format!(".devcontainer/{name}/devcontainer.json")));
    }
    candidates.retain(|candidate| folder.join(candidate).is_file());
    let found = boatyard_devcontainer::discover(&candidates, None)
        .map_err(|error| Failure::from_error(&error).hint("name it with --config"))?;
    Ok(folder.join(found.as_deref().unwrap_or(FIXED_CANDIDATES[0])))
}

fn context(
    chosen: &Chosen,
    folder: Option<&Path>,
    document: &Document,
) -> Result<LocalContext, Failure> {
    let name = folder.unwrap_or(Path::new("/"));
    let name = name
        .to_str()
        .ok_or_else(|| Failure::new("the folder's path is not UTF-8"))?;
    let mut context = LocalContext::new(name);
    let names = document.local_env_names().into_iter();
    let known = names.filter_map(|name| Some((name.clone(), std::env::var(&name).ok()?)));
    context.local_env = known.collect();
    if let Some(folder) = folder.filter(|_| chosen.mount_workspace_git_root) {
        let root = crate::workspace::git_root(folder);
        context.repository_root = root.and_then(|root| root.to_str().map(str::to_owned));
    }
    if !chosen.id_label.is_empty() {
        context.id_labels = Some(pairs(&chosen.id_label));
    }
    Ok(context)
}
