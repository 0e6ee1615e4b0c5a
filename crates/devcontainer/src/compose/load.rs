//! From file names to one merged tree: parse, interpolate, long form, `extends`, merge, `include`.
//!
//! Reads nothing: what is not among the given files is noted as needed, and the caller comes back
//! with it. Every path is absolute, as whoever reads would open it.

use super::canonical::Base;
use super::dotenv;
use super::interpolate::{self, Variables};
use super::merge;
use super::yaml::{self, Node, Place, Sources, Value};
use crate::error::{Error, ErrorKind};
use crate::text::{Source, Span};
use std::collections::{BTreeMap, BTreeSet};

/// Most files of a project, counting each reading.
const FILES_LIMIT: usize = 100;
/// Deepest chain of `extends` and `include`.
const CHAIN_LIMIT: usize = 16;

/// Files read so far: by absolute path, None for one that is not there.
pub type Files = BTreeMap<String, Option<String>>;

/// Loads one project.
pub(super) struct Loader<'a> {
    pub(super) sources: Sources,
    pub(super) files: &'a Files,
    pub(super) needs: BTreeSet<String>,
    pub(super) notes: Vec<String>,
    /// The caller's variables.
    pub(super) env: &'a BTreeMap<String, String>,
    read: usize,
}

/// A file that cannot be used yet, or at all.
pub(super) enum Stop {
    /// It has to be read first; what is needed was noted.
    Needs,
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

/// Where a list of files stands.
struct Project<'a> {
    directory: &'a str,
    variables: &'a Variables,
    depth: usize,
}

/// The folder of a path.
pub(super) fn folder(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((folder, _)) => folder,
    }
}

impl<'a> Loader<'a> {
    pub(super) fn new(files: &'a Files, env: &'a BTreeMap<String, String>) -> Loader<'a> {
        Loader {
            sources: Sources::default(),
            files,
            needs: BTreeSet::new(),
            notes: Vec::new(),
            env,
            read: 0,
        }
    }

    /// A file's text; None when it is not there.
    pub(super) fn text(&mut self, path: &str) -> Result<Option<&'a str>, Stop> {
        match self.files.get(path) {
            Some(text) => Ok(text.as_deref()),
            None => {
                self.needs.insert(path.to_owned());
                Err(Stop::Needs)
            }
        }
    }

    /// The variables of `.env` files, the first file's over the next; absent ones are none.
    pub(super) fn dotenv(
        &mut self,
        paths: &[String],
        base: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Stop> {
        let mut values = base.clone();
        for path in paths {
            if let Some(text) = self.text(path)? {
                for (name, value) in self.pairs(path, text, &values, false)? {
                    // A name that only the file has; within it the last counts.
                    if !base.contains_key(&name)
                        && let Some(value) = value
                    {
                        values.insert(name, value);
                    }
                }
            }
        }
        Ok(values)
    }

    pub(super) fn pairs(
        &mut self,
        path: &str,
        text: &str,
        known: &BTreeMap<String, String>,
        raw: bool,
    ) -> Result<Vec<dotenv::Pair>, Error> {
        dotenv::parse(text, known, raw).map_err(|(line, reason)| {
            let source = Source::new(path, text);
            let start: usize = text
                .split_inclusive('\n')
                .take(line.saturating_sub(1))
                .map(str::len)
                .sum();
            let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
            let kind = ErrorKind::Invalid {
                path: "this line".to_owned(),
                reason,
            };
            Error::new(&source, Span { start, end }, kind)
        })
    }

    /// The merged tree of a project's files, in the long form, with `extends` and `include` done.
    pub(super) fn project(
        &mut self,
        files: &[String],
        directory: &str,
        variables: &Variables,
    ) -> Result<Node, Stop> {
        self.merged(
            files,
            &Project {
                directory,
                variables,
                depth: 0,
            },
        )
    }

    fn merged(&mut self, files: &[String], project: &Project<'_>) -> Result<Node, Stop> {
        let mut whole: Option<Node> = None;
        let mut waiting = false;
        for file in files {
            match self.file(file, project) {
                Ok(tree) => match &mut whole {
                    None => whole = Some(tree),
                    Some(base) => merge::merge(&[], base, tree),
                },
                Err(Stop::Needs) => waiting = true,
                Err(error) => return Err(error),
            }
        }
        if waiting {
            return Err(Stop::Needs);
        }
        let nowhere = Node::new(Place::default(), Value::Map(Vec::new()));
        let mut whole = whole.unwrap_or(nowhere);
        merge::settle(&mut whole);
        Ok(whole)
    }

    /// One file: interpolated, long form, extended, with its includes in it.
    fn file(&mut self, path: &str, project: &Project<'_>) -> Result<Node, Stop> {
        let mut tree = self.tree(path, project)?;
        let names: Vec<String> = match tree.get("services").map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().map(|entry| entry.key.clone()).collect(),
            _ => Vec::new(),
        };
        let mut waiting = false;
        let mut extended = Vec::new();
        for name in names {
            match self.extended(path, &tree, &name, project, &mut Vec::new()) {
                Ok(service) => extended.push((name, service)),
                Err(Stop::Needs) => waiting = true,
                Err(error) => return Err(error),
            }
        }
        if let Some(services) = tree.get_mut("services") {
            for (name, service) in extended {
                services.set(&name, service);
            }
        }
        let includes = tree.take("include");
        if let Some(includes) = includes
            && !includes.is_null()
        {
            match self.includes(&includes, project) {
                Ok(included) => self.add_included(&mut tree, included)?,
                Err(Stop::Needs) => waiting = true,
                Err(error) => return Err(error),
            }
        }
        if waiting { Err(Stop::Needs) } else { Ok(tree) }
    }

    /// One file's own tree.
    fn tree(&mut self, path: &str, project: &Project<'_>) -> Result<Node, Stop> {
        self.read += 1;
        if self.read > FILES_LIMIT || project.depth > CHAIN_LIMIT {
            let what = format!(
                "a project has at most {FILES_LIMIT} files, each reading counted, in chains of at most {CHAIN_LIMIT}"
            );
            let source = Source::new(path, "");
            return Err(Error::new(&source, Span::default(), ErrorKind::Bounds(what)).into());
        }
        let Some(text) = self.text(path)? else {
            let source = Source::new(path, "");
            let kind = ErrorKind::Missing("this Compose file is not there".to_owned());
            return Err(Error::new(&source, Span::default(), kind).into());
        };
        let mut tree = yaml::parse(&mut self.sources, path, text)?;
        if tree.is_null() {
            tree.value = Value::Map(Vec::new());
        }
        if !matches!(tree.value, Value::Map(_)) {
            let kind = ErrorKind::WrongType {
                path: "a Compose file".to_owned(),
                expected: "a mapping".to_owned(),
                found: tree.kind().to_owned(),
            };
            return Err(self.sources.error(tree.place, kind).into());
        }
        if let Value::Map(entries) = &mut tree.value {
            for entry in entries {
                interpolate_named(
                    &self.sources,
                    project.variables,
                    &entry.key,
                    &mut entry.node,
                )?;
            }
        }
        let base = Base {
            sources: &self.sources,
            directory: project.directory,
            home: self.env.get("HOME").map(String::as_str),
        };
        if let Some(services) = tree.get_mut("services") {
            match &mut services.value {
                Value::Map(entries) => {
                    for entry in entries {
                        base.service(&format!("services.{}", entry.key), &mut entry.node)?;
                    }
                }
                Value::Null => services.value = Value::Map(Vec::new()),
                _ => return Err(base.wrong("services", services, "a mapping").into()),
            }
        }
        for kind in ["secrets", "configs"] {
            if let Some(Value::Map(entries)) = tree.get_mut(kind).map(|node| &mut node.value) {
                for entry in entries {
                    base.given_file(&mut entry.node);
                }
            }
        }
        Ok(tree)
    }

    /// A service with what it extends below it.
    fn extended(
        &mut self,
        path: &str,
        tree: &Node,
        name: &str,
        project: &Project<'_>,
        chain: &mut Vec<(String, String)>,
    ) -> Result<Node, Stop> {
        let Some(service) = tree.get("services").and_then(|node| node.get(name)) else {
            return Err(Stop::Error(self.sources.error(
                tree.place,
                ErrorKind::Missing(format!(
                    "there is no service {:?} here",
                    crate::config::shown(name)
                )),
            )));
        };
        let mut service = service.clone();
        let Some(extends) = service.take("extends") else {
            return Ok(service);
        };
        let here = (path.to_owned(), name.to_owned());
        if chain.contains(&here) || chain.len() > CHAIN_LIMIT {
            let what = format!("services.{name}.extends leads back to itself");
            return Err(self
                .sources
                .error(extends.place, ErrorKind::Missing(what))
                .into());
        }
        chain.push(here);
        let part = |key: &str| extends.get(key).and_then(Node::scalar);
        let Some(of) = part("service") else {
            let kind = ErrorKind::Invalid {
                path: format!("services.{name}.extends"),
                reason: "names no service; write service: NAME".to_owned(),
            };
            return Err(self.sources.error(extends.place, kind).into());
        };
        let mut base = match part("file").filter(|file| file != path) {
            None => {
                if tree
                    .get("services")
                    .and_then(|node| node.get(&of))
                    .is_none()
                {
                    let what = format!(
                        "there is no service {:?} to extend",
                        crate::config::shown(&of)
                    );
                    let place = extends.get("service").unwrap_or(&extends).place;
                    return Err(self.sources.error(place, ErrorKind::Missing(what)).into());
                }
                self.extended(path, tree, &of, project, chain)?
            }
            Some(file) => {
                if let Ok(None) = self.text(&file) {
                    let what = format!("{file} is not there");
                    let place = extends.get("file").unwrap_or(&extends).place;
                    return Err(self.sources.error(place, ErrorKind::Missing(what)).into());
                }
                let other = Project {
                    directory: folder(&file),
                    variables: project.variables,
                    depth: project.depth + 1,
                };
                let tree = self.tree(&file, &other)?;
                self.extended(&file, &tree, &of, &other, chain)?
            }
        };
        merge::merge(&["services", name], &mut base, service);
        merge::settle(&mut base);
        Ok(base)
    }

    /// The trees of the `include` entries.
    fn includes(&mut self, node: &Node, project: &Project<'_>) -> Result<Vec<Node>, Stop> {
        let Value::List(items) = &node.value else {
            let kind = ErrorKind::WrongType {
                path: "include".to_owned(),
                expected: "a list".to_owned(),
                found: node.kind().to_owned(),
            };
            return Err(self.sources.error(node.place, kind).into());
        };
        let mut trees = Vec::new();
        let mut waiting = false;
        for item in items {
            let strings = |node: Option<&Node>| -> Vec<String> {
                match node.map(|node| &node.value) {
                    Some(Value::List(items)) => items.iter().filter_map(Node::scalar).collect(),
                    Some(_) => node.and_then(Node::scalar).into_iter().collect(),
                    None => Vec::new(),
                }
            };
            let home = self.env.get("HOME").map(String::as_str);
            let base = Base {
                sources: &self.sources,
                directory: project.directory,
                home,
            };
            let files: Vec<String> = match item.scalar() {
                Some(file) => vec![base.path(&file)],
                None => strings(item.get("path"))
                    .iter()
                    .map(|file| base.path(file))
                    .collect(),
            };
            let Some(first) = files.first().cloned() else {
                let kind = ErrorKind::Invalid {
                    path: "include".to_owned(),
                    reason: "names no file; write a path, or path: FILE".to_owned(),
                };
                return Err(self.sources.error(item.place, kind).into());
            };
            if super::canonical::remote(&first) {
                let kind = ErrorKind::Unsupported {
                    path: "include of a remote project".to_owned(),
                    remedy: "copy the file into the repository".to_owned(),
                };
                return Err(self.sources.error(item.place, kind).into());
            }
            let directory = item
                .get("project_directory")
                .and_then(Node::scalar)
                .map_or_else(|| folder(&first).to_owned(), |text| base.path(&text));
            let mut env_files: Vec<String> = strings(item.get("env_file"))
                .iter()
                .map(|file| base.path(file))
                .collect();
            if env_files.is_empty() {
                env_files.push(format!("{directory}/.env"));
            }
            let values = match self.dotenv(&env_files, &project.variables.values) {
                Ok(values) => values,
                Err(Stop::Needs) => {
                    waiting = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let variables = Variables::new(values);
            let below = Project {
                directory: &directory,
                variables: &variables,
                depth: project.depth + 1,
            };
            match self.merged(&files, &below) {
                Ok(tree) => trees.push(tree),
                Err(Stop::Needs) => waiting = true,
                Err(error) => return Err(error),
            }
            let missing = variables.missing.take();
            project.variables.missing.borrow_mut().extend(missing);
        }
        if waiting { Err(Stop::Needs) } else { Ok(trees) }
    }

    /// Resources of included projects; two that differ under one name are an error.
    fn add_included(&self, tree: &mut Node, included: Vec<Node>) -> Result<(), Error> {
        for other in included {
            let Value::Map(sections) = other.value else {
                continue;
            };
            for section in sections {
                if !matches!(
                    section.key.as_str(),
                    "services" | "volumes" | "networks" | "secrets" | "configs"
                ) {
                    continue;
                }
                if tree.get(&section.key).is_none_or(Node::is_null) {
                    tree.set(&section.key, section.node);
                    continue;
                }
                let Value::Map(entries) = section.node.value else {
                    continue;
                };
                let Some(there) = tree.get_mut(&section.key) else {
                    continue;
                };
                for entry in entries {
                    match there.get(&entry.key) {
                        Some(same) if *same == entry.node => {}
                        Some(_) => {
                            let what = format!(
                                "{}.{} is defined here and, otherwise, where this file is included",
                                section.key,
                                crate::config::shown(&entry.key)
                            );
                            return Err(self
                                .sources
                                .error(entry.key_place, ErrorKind::Missing(what)));
                        }
                        None => there.set(&entry.key, entry.node),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Interpolates values below a name, so that an error names the value's path.
fn interpolate_named(
    sources: &Sources,
    variables: &Variables,
    path: &str,
    node: &mut Node,
) -> Result<(), Error> {
    let invalid = |place, reason| {
        let kind = ErrorKind::Invalid {
            path: crate::config::shown(path),
            reason,
        };
        sources.error(place, kind)
    };
    match &mut node.value {
        Value::Map(entries) if path.matches('.').count() < 3 => {
            for entry in entries {
                let path = format!("{path}.{}", entry.key);
                interpolate_named(sources, variables, &path, &mut entry.node)?;
            }
            Ok(())
        }
        _ => interpolate::tree(variables, node).map_err(|(place, reason)| invalid(place, reason)),
    }
}
