//! Docker Compose files (the Compose specification) as a pure function: texts in, a plan out.
//!
//! Owns the grammar, variables, `extends`, `include`, merging, profiles, the project's name and the
//! order of services. It reads no file: [`plan`] answers [`Outcome::Needs`] until every file it asks
//! for was given (None for one that is not there), then [`Outcome::Plan`]. Who reads them does so
//! with the caller's credentials. All of it is untrusted: sizes, nesting, aliases, files and what
//! variables write are bounded; what is not supported is refused by name and place.
//!
//! Read next: `load` (files to one tree), `service` (tree to data), `plan` (the data).

mod canonical;
mod contexts;
mod dotenv;
mod interpolate;
mod load;
mod merge;
mod mounts;
mod parts;
mod plan;
mod read;
mod service;
mod yaml;

pub use interpolate::names as variable_names;
pub use load::Files;
pub use plan::{
    Build, ComposePlan, Condition, Content, Dependency, Healthcheck, OnNetwork, Origin, Pull,
    Restart, Service, ServiceLimits, ServiceNetwork,
};

use crate::error::{Error, ErrorKind};
use crate::text::{Source, Span};
use interpolate::Variables;
use load::{Loader, Stop, folder};
use read::Reader;
use service::Shared;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use yaml::{Node, Value};

/// Most services of an environment.
pub const SERVICES_LIMIT: usize = 32;

/// What is asked of a project.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The Compose files, absolute; none takes what `COMPOSE_FILE` names, else docker-compose.yml
    /// of the workspace folder and the override beside it.
    pub files: Vec<String>,
    /// The service that is the environment itself.
    pub service: String,
    /// Services to run beside it; none runs all that are not behind a profile.
    pub run_services: Vec<String>,
    /// The local workspace folder.
    pub workspace: String,
    /// The caller's variables.
    pub env: BTreeMap<String, String>,
}

/// Where planning has come to.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// These files, by absolute path, have to be read first.
    Needs(BTreeSet<String>),
    /// Done.
    Plan(Box<ComposePlan>),
}

const TOP: &[&str] = &[
    "version", "name", "include", "services", "networks", "volumes", "configs", "secrets",
];

/// Plans a project as far as the files given so far allow.
pub fn plan(request: &Request, files: &Files) -> Result<Outcome, Error> {
    let mut loader = Loader::new(files, &request.env);
    match planned(&mut loader, request) {
        Ok(plan) => Ok(Outcome::Plan(Box::new(plan))),
        Err(Stop::Needs) => Ok(Outcome::Needs(loader.needs)),
        Err(Stop::Error(error)) => Err(error),
    }
}

/// An error of the project as a whole.
fn missing(file: &str, what: String) -> Stop {
    let source = Source::new(file, "");
    Stop::Error(Error::new(
        &source,
        Span::default(),
        ErrorKind::Missing(what),
    ))
}

fn planned(loader: &mut Loader<'_>, request: &Request) -> Result<ComposePlan, Stop> {
    let here_env = format!("{}/.env", request.workspace.trim_end_matches('/'));
    let files = compose_files(loader, request, &here_env)?;
    let Some(first) = files.first() else {
        return Err(missing(
            &request.workspace,
            "names no Compose file".to_owned(),
        ));
    };
    let directory = folder(first).to_owned();
    let mut env_files = vec![here_env.clone(), format!("{directory}/.env")];
    env_files.dedup();
    let values = loader.dotenv(&env_files, &request.env)?;
    let mut variables = Variables::new(values);
    // The name may be used in the files, and they may name it: the name is found first.
    let named = top_name(loader, &files, &variables)?;
    let project = project_name(loader, request, &here_env, &directory, named)?;
    variables
        .values
        .insert("COMPOSE_PROJECT_NAME".to_owned(), project.clone());
    let root = loader.project(&files, &directory, &variables)?;
    let sources = loader.sources.clone();
    let reader = Reader {
        sources: &sources,
        notes: RefCell::default(),
    };
    check_top(&reader, &root)?;
    let shared = Shared {
        root: &root,
        project: &project,
        workspace: &request.workspace,
        variables: &variables.values,
    };
    let wanted = selected(&reader, &shared, request, first)?;
    let mut services = BTreeMap::new();
    let mut waiting = false;
    let all = root.get("services").cloned();
    let mut left: Vec<String> = wanted;
    while let Some(name) = left.pop() {
        if services.contains_key(&name) {
            continue;
        }
        let node = all.as_ref().and_then(|all| all.entry(&name));
        let Some(entry) = node else { continue };
        check_name(&reader, &name, entry)?;
        if services.len() >= SERVICES_LIMIT {
            let what = format!("an environment has at most {SERVICES_LIMIT} services");
            return Err(reader.missing(&entry.node, what).into());
        }
        let service = match service::read(loader, &reader, &shared, &name, &entry.node) {
            Ok(service) => service,
            Err(Stop::Needs) => {
                waiting = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        left.extend(
            service
                .depends_on
                .iter()
                .filter(|(_, dependency)| dependency.required)
                .map(|(name, _)| name.clone()),
        );
        if let ServiceNetwork::Service(other) = &service.network {
            left.push(other.clone());
        }
        services.insert(name, service);
    }
    // What is only built is read as well.
    let mut built = BTreeMap::new();
    let mut left: Vec<(String, String)> = services
        .values()
        .flat_map(|one| {
            contexts::wanted(one)
                .into_iter()
                .map(|of| (one.name.clone(), of))
        })
        .collect();
    while let Some((of, name)) = left.pop() {
        if services.contains_key(&name) || built.contains_key(&name) {
            continue;
        }
        let entry = all.as_ref().and_then(|all| all.entry(&name));
        let entry = entry.ok_or_else(|| {
            let what = format!(
                "service {of} is built with the service {name}, which is not in the project"
            );
            missing(first, what)
        })?;
        match service::read(loader, &reader, &shared, &name, &entry.node) {
            Ok(service) => {
                let more = contexts::wanted(&service).into_iter();
                left.extend(more.map(|of| (name.clone(), of)));
                built.insert(name, service);
            }
            Err(Stop::Needs) => waiting = true,
            Err(error) => return Err(error),
        }
    }
    if waiting {
        return Err(Stop::Needs);
    }
    contexts::settle(&mut services, &built).map_err(|what| missing(first, what))?;
    // What is optional and does not run holds nobody up.
    let running: BTreeSet<String> = services.keys().cloned().collect();
    for service in services.values_mut() {
        service.depends_on.retain(|name, _| running.contains(name));
        service.links.retain(|(of, _)| running.contains(of));
    }
    let services = ordered(&reader, &shared, services)?;
    let mut notes = reader.notes.into_inner();
    for name in variables.missing.take().into_iter().take(20) {
        notes.push(format!(
            "the variable {name} is not set and was taken as empty"
        ));
    }
    for note in &mut notes {
        *note = note.chars().map(crate::text::clean).take(400).collect();
    }
    notes.append(&mut loader.notes);
    Ok(ComposePlan {
        project,
        files,
        service: request.service.clone(),
        services,
        notes,
    })
}

/// The files the reference CLI takes.
fn compose_files(
    loader: &mut Loader<'_>,
    request: &Request,
    env_file: &str,
) -> Result<Vec<String>, Stop> {
    if !request.files.is_empty() {
        return Ok(request.files.clone());
    }
    let named = match request.env.get("COMPOSE_FILE") {
        Some(named) => Some(named.clone()),
        None => loader
            .dotenv(&[env_file.to_owned()], &BTreeMap::new())?
            .remove("COMPOSE_FILE"),
    };
    let folder = request.workspace.trim_end_matches('/');
    let absolute = |file: &str| {
        let joined = if file.starts_with('/') {
            file.to_owned()
        } else {
            format!("{folder}/{file}")
        };
        crate::mounts::absolute(&joined)
    };
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return Ok(named.split(':').filter_map(absolute).collect());
    }
    let over = format!("{folder}/docker-compose.override.yml");
    let mut files = vec![format!("{folder}/docker-compose.yml")];
    if loader.text(&over)?.is_some() {
        files.push(over);
    }
    Ok(files)
}

/// The last `name:` of the files.
fn top_name(
    loader: &mut Loader<'_>,
    files: &[String],
    variables: &Variables,
) -> Result<Option<String>, Stop> {
    let mut named = None;
    let mut waiting = false;
    for file in files {
        match loader.text(file) {
            Ok(Some(text)) => {
                let tree = yaml::parse(&mut loader.sources, file, text)?;
                if let Some(name) = tree.get("name")
                    && let Some(text) = name.scalar()
                {
                    named = Some(variables.text(&text).map_err(|reason| {
                        let kind = ErrorKind::Invalid {
                            path: "name".to_owned(),
                            reason,
                        };
                        loader.sources.error(name.place, kind)
                    })?);
                }
            }
            // Said with the file's name when it is loaded.
            Ok(None) => {}
            Err(Stop::Needs) => waiting = true,
            Err(error) => return Err(error),
        }
    }
    if waiting { Err(Stop::Needs) } else { Ok(named) }
}

/// As the reference CLI: the caller's variable, `.env`, the files' `name`, else the folder's name,
/// with `_devcontainer` for files in `.devcontainer` of the workspace.
fn project_name(
    loader: &mut Loader<'_>,
    request: &Request,
    env_file: &str,
    directory: &str,
    named: Option<String>,
) -> Result<String, Stop> {
    let clean = |name: &str| -> Option<String> {
        let name: String = name
            .to_lowercase()
            .chars()
            .filter(|letter| {
                letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_".contains(*letter)
            })
            .take(63)
            .collect();
        Some(name).filter(|name| !name.is_empty())
    };
    let of_env = request.env.get("COMPOSE_PROJECT_NAME").cloned();
    let of_file = loader
        .dotenv(&[env_file.to_owned()], &BTreeMap::new())?
        .remove("COMPOSE_PROJECT_NAME");
    for name in [of_env, of_file, named].into_iter().flatten() {
        if let Some(name) = clean(&name) {
            return Ok(name);
        }
    }
    let workspace = request.workspace.trim_end_matches('/');
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let name = if directory == format!("{workspace}/.devcontainer") {
        format!("{}_devcontainer", base(workspace))
    } else {
        base(directory)
    };
    Ok(clean(&name).unwrap_or_else(|| "devcontainer".to_owned()))
}

fn check_top(reader: &Reader<'_>, root: &Node) -> Result<(), Error> {
    for entry in reader.map("a Compose file", root)? {
        let key = entry.key.as_str();
        if !TOP.contains(&key) && !key.starts_with("x-") {
            return Err(if key == "models" {
                reader.refuse(key, entry, "remove it")
            } else {
                reader.unknown(key, entry, TOP)
            });
        }
    }
    let Some(networks) = root.get("networks") else {
        return Ok(());
    };
    for network in reader.map("networks", networks)? {
        for part in reader.map(&format!("networks.{}", network.key), &network.node)? {
            let path = format!("networks.{}.{}", network.key, part.key);
            let text = part.node.scalar().unwrap_or_default();
            match part.key.as_str() {
                "driver" if !matches!(text.as_str(), "" | "bridge" | "default") => {
                    return Err(reader.refuse(
                        &path,
                        part,
                        "leave it out; services reach each other by name",
                    ));
                }
                "ipam" | "driver_opts" | "enable_ipv6" | "enable_ipv4" => {
                    reader.note(
                        &part.node,
                        &format!("{path} has no effect: addresses are the environment's"),
                    );
                }
                "external" if text != "false" => {
                    reader.note(
                        &part.node,
                        &format!("{path}: a network is this environment's alone"),
                    );
                }
                "internal" => {
                    reader.bool(&path, &part.node)?;
                }
                "driver" | "name" | "labels" | "attachable" | "external" => {}
                key if key.starts_with("x-") => {}
                _ => {
                    return Err(reader.unknown(
                        &path,
                        part,
                        &["driver", "internal", "external", "name", "labels"],
                    ));
                }
            }
        }
    }
    Ok(())
}

fn check_name(reader: &Reader<'_>, name: &str, entry: &yaml::Entry) -> Result<(), Error> {
    let good = name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if good {
        return Ok(());
    }
    let what = "is no name of a service: letters, digits, '.', '_' and '-', at most 63";
    Err(reader.invalid(
        &format!("services.{name}"),
        &Node {
            place: entry.key_place,
            ..entry.node.clone()
        },
        what,
    ))
}

/// Services asked for by name or by profile, without what they depend on.
fn selected(
    reader: &Reader<'_>,
    shared: &Shared<'_>,
    request: &Request,
    first: &str,
) -> Result<Vec<String>, Stop> {
    let services = match shared.root.get("services") {
        Some(services) => reader.map("services", services)?,
        None => &[],
    };
    for name in std::iter::once(&request.service).chain(&request.run_services) {
        if !services.iter().any(|service| service.key == *name) {
            let known: Vec<&str> = services
                .iter()
                .map(|service| service.key.as_str())
                .take(20)
                .collect();
            let what = format!(
                "there is no service {:?} here; there are {}",
                crate::config::shown(name),
                crate::config::shown(&known.join(", "))
            );
            return Err(missing(first, what));
        }
    }
    if !request.run_services.is_empty() {
        let mut wanted = request.run_services.clone();
        wanted.push(request.service.clone());
        return Ok(wanted);
    }
    let active = shared.variables.get("COMPOSE_PROFILES");
    let active: BTreeSet<&str> = active
        .map(|profiles| profiles.split(',').map(str::trim).collect())
        .unwrap_or_default();
    let mut wanted = vec![request.service.clone()];
    for service in services {
        let at = format!("services.{}.profiles", service.key);
        let profiles = match service.node.get("profiles").filter(|node| !node.is_null()) {
            Some(profiles) => reader.texts(&at, profiles)?,
            None => Vec::new(),
        };
        if profiles.is_empty()
            || active.contains("*")
            || profiles
                .iter()
                .any(|profile| active.contains(profile.as_str()))
        {
            wanted.push(service.key.clone());
        }
    }
    Ok(wanted)
}

/// An order in which nothing comes before what it depends on; by the files' order otherwise.
fn ordered(
    reader: &Reader<'_>,
    shared: &Shared<'_>,
    mut services: BTreeMap<String, Service>,
) -> Result<Vec<Service>, Error> {
    let written: Vec<String> = match shared.root.get("services").map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|entry| entry.key.clone()).collect(),
        _ => Vec::new(),
    };
    let mut order: Vec<Service> = Vec::new();
    while !services.is_empty() {
        let next = written.iter().find(|name| {
            services.get(*name).is_some_and(|service| {
                let waits = |other: &str| services.contains_key(other);
                let shares = match &service.network {
                    ServiceNetwork::Service(other) => waits(other),
                    _ => false,
                };
                !shares && !service.depends_on.keys().any(|other| waits(other))
            })
        });
        match next.and_then(|name| services.remove(name)) {
            Some(service) => order.push(service),
            None => {
                let names: Vec<&str> = services.keys().map(String::as_str).collect();
                let place = shared.root.get("services").unwrap_or(shared.root);
                let place = place.get(names.first().unwrap_or(&"")).unwrap_or(place);
                let what = format!(
                    "these services wait for each other in a circle: {}",
                    names.join(", ")
                );
                return Err(reader.missing(place, what));
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests;
