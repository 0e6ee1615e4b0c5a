//! Which Features an environment gets: the requested ones and all they depend on.
//!
//! Sans I/O: [`Resolver::needs`] names what must be known next, the caller fetches it side by side
//! and in any order, and gives it; when nothing is needed any more, [`Resolver::finish`] answers.
//! The answer depends on what was given and never on the order of giving.
//!
//! A soft dependency (`installsAfter`) is matched by the names a Feature says it had
//! (`legacyIds`), so what is not installed is never fetched, as little as a Feature that only
//! `overrideFeatureInstallOrder` names.

use super::order::{self, Edges, Node};
use super::{
    LIMIT, Lockfile, Metadata, OciReference, Options, Reference, Request, Requested, diagram,
    refused,
};
use crate::error::Error;
use crate::text::Location;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Something to find out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Need {
    /// What.
    pub reference: Reference,
    /// The digest it must have: an artifact's manifest, a tarball's bytes. From the lockfile, or
    /// from the identifier itself.
    pub pinned: Option<String>,
}

/// What was found out.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Digest of the artifact's manifest or the tarball's bytes; None for a folder.
    pub digest: Option<String>,
    /// devcontainer-feature.json.
    pub metadata: Arc<Metadata>,
}

/// The question.
#[derive(Clone, Debug)]
pub struct Resolver {
    request: Request,
    lockfile: Option<Lockfile>,
    overrides: Vec<Reference>,
    known: BTreeMap<Need, Found>,
}

/// One Feature to install.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// As whoever asks for it wrote it.
    pub id: String,
    /// As whoever asks for it wrote them.
    pub options: Options,
    /// Where it is.
    pub need: Need,
    /// Which it is; None for a folder.
    pub digest: Option<String>,
    /// What it says of itself.
    pub metadata: Arc<Metadata>,
    /// Where it is asked for.
    pub location: Location,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolution {
    /// In the order of installation.
    pub order: Vec<Resolved>,
    /// The graph as a Mermaid flowchart, for people.
    pub diagram: String,
    /// What the one who asks should know, a sentence each.
    pub notes: Vec<String>,
}

impl Resolver {
    /// Begins; a lockfile pins what it names.
    pub fn new(request: Request, lockfile: Option<Lockfile>) -> Result<Resolver, Error> {
        let request = Request {
            features: replace_outdated(request.features),
            ..request
        };
        let overrides = request
            .override_order
            .iter()
            .map(|(id, location)| {
                Reference::read(id, &request.config_file).map_err(|reason| {
                    refused(
                        location,
                        id,
                        format!("of overrideFeatureInstallOrder {reason}"),
                    )
                })
            })
            .collect::<Result<_, _>>()?;
        for requested in &request.features {
            Reference::parse(requested, &request.config_file)?;
        }
        Ok(Resolver {
            request,
            lockfile,
            overrides,
            known: BTreeMap::new(),
        })
    }

    /// What is needed next, and who asks for it; nothing when all is known.
    pub fn needs(&self) -> Result<Vec<(Need, Requested)>, Error> {
        Ok(self.walk()?.1)
    }

    /// Takes in what was found.
    pub fn give(&mut self, need: Need, found: Found) {
        self.known.insert(need, found);
    }

    /// The order; everything needed must have been given.
    pub fn finish(self) -> Result<Resolution, Error> {
        let (mut graph, missing) = self.walk()?;
        if let Some((_, requested)) = missing.into_iter().next() {
            return Err(refused(
                &requested.location,
                &requested.id,
                "could not be found",
            ));
        }
        let first = self.overrides.len();
        for (at, wanted) in self.overrides.iter().enumerate() {
            for index in graph.accepted.clone() {
                if graph.nodes[index].answers(wanted) {
                    let node = &mut graph.nodes[index];
                    node.priority = node.priority.max(first - at);
                }
            }
        }
        let diagram = diagram::mermaid(&graph);
        let order = order::order(&graph)?;
        let order: Vec<Resolved> = order
            .into_iter()
            .map(|index| graph.nodes[index].resolved())
            .collect();
        let notes = order.iter().flat_map(notes).collect();
        Ok(Resolution {
            order,
            diagram,
            notes,
        })
    }

    /// The graph as far as it is known, and what is missing.
    fn walk(&self) -> Result<(Edges, Vec<(Need, Requested)>), Error> {
        let mut graph = Edges::default();
        let mut missing: Vec<(Need, Requested)> = Vec::new();
        let mut worklist = VecDeque::new();
        for requested in &self.request.features {
            worklist.push_back(graph.add(requested, self.need(requested)?, true));
        }
        while let Some(index) = worklist.pop_front() {
            let node = &mut graph.nodes[index];
            let Some(found) = self.known.get(&node.need) else {
                if !missing.iter().any(|(need, _)| *need == node.need) {
                    missing.push((node.need.clone(), node.requested.clone()));
                }
                continue;
            };
            node.found = Some(found.clone());
            let node = &graph.nodes[index];
            if graph
                .accepted
                .iter()
                .any(|known| graph.nodes[*known].equals(node))
            {
                continue;
            }
            let metadata = Arc::clone(&found.metadata);
            let (id, location) = (node.requested.id.clone(), node.requested.location.clone());
            if graph.accepted.len() == LIMIT
                || graph.nodes.len() + metadata.depends_on.len() > 20 * LIMIT
            {
                let reason = format!(
                    "is one too many: with all dependencies there are more than {LIMIT} Features"
                );
                return Err(refused(&location, &id, reason));
            }
            for dependency in &metadata.depends_on {
                let need = self.need(dependency)?;
                let child = graph.add(dependency, need, false);
                graph.nodes[index].depends_on.push(child);
                worklist.push_back(child);
            }
            let after = metadata.installs_after.iter();
            // What names nothing can order nothing.
            let after = after.filter_map(|id| Reference::read(id, &self.request.config_file).ok());
            graph.nodes[index].installs_after = after.collect();
            graph.accepted.push(index);
        }
        Ok((graph, missing))
    }

    fn need(&self, requested: &Requested) -> Result<Need, Error> {
        let reference = Reference::parse(requested, &self.request.config_file)?;
        let locked = self
            .lockfile
            .as_ref()
            .and_then(|lockfile| lockfile.get(&requested.id));
        let written = match &reference {
            Reference::Oci(OciReference { digest, .. }) => digest.clone(),
            _ => None,
        };
        let pinned = match reference {
            Reference::Local { .. } => None,
            _ => written.or_else(|| locked.map(|locked| locked.integrity.clone())),
        };
        Ok(Need { reference, pinned })
    }
}

impl Node {
    fn resolved(&self) -> Resolved {
        let found = self.found.clone();
        let (digest, metadata) = match found {
            Some(found) => (found.digest, found.metadata),
            None => (None, Arc::default()),
        };
        Resolved {
            id: self.requested.id.clone(),
            options: self.requested.options.clone(),
            need: self.need.clone(),
            digest,
            metadata,
            location: self.requested.location.clone(),
        }
    }
}

impl Resolved {
    /// The name that says exactly which: with its digest for a registry's, as written for others.
    pub fn canonical(&self) -> String {
        match (&self.need.reference, &self.digest) {
            (Reference::Oci(reference), Some(digest)) => {
                format!("{}@{digest}", reference.resource())
            }
            _ => self.id.clone(),
        }
    }
}

/// What the one who asks for a Feature should know of it.
fn notes(resolved: &Resolved) -> Vec<String> {
    let (id, metadata) = (crate::config::shown(&resolved.id), &resolved.metadata);
    let mut notes = Vec::new();
    if metadata.deprecated {
        notes.push(format!(
            "Feature {id} is deprecated and gets no further updates"
        ));
    }
    if let Some(current) = &metadata.current_id
        && let Reference::Oci(reference) = &resolved.need.reference
        && *current != reference.name
    {
        notes.push(format!(
            "Feature {id} was renamed; name it {}/{}/{}",
            reference.registry,
            reference.namespace,
            crate::config::shown(current)
        ));
    }
    let values = resolved.options.values(metadata);
    for (name, option) in &metadata.options {
        if let Some(value) = values.get(name).map(super::OptionValue::text)
            && !option.choices.is_empty()
            && !option.choices.contains(&value)
        {
            notes.push(format!(
                "option {} of Feature {id} is {}, but the Feature knows only {}",
                crate::config::shown(name),
                crate::config::shown(&value),
                crate::config::shown(&option.choices.join(", "))
            ));
        }
    }
    notes
}

/// Three short names became options of others: they are merged into those, or stand for them.
fn replace_outdated(features: Vec<Requested>) -> Vec<Requested> {
    const INTO: [(&str, &str, &str); 3] = [
        ("gradle", "java", "installGradle"),
        ("maven", "java", "installMaven"),
        ("jupyterlab", "python", "installJupyterlab"),
    ];
    let is_outdated = |id: &str| INTO.iter().find(|(old, _, _)| *old == id);
    let (outdated, mut kept): (Vec<_>, Vec<_>) = features
        .into_iter()
        .partition(|feature| is_outdated(&feature.id).is_some());
    for old in outdated {
        let Some((_, into, option)) = is_outdated(&old.id) else {
            continue;
        };
        let full = format!("ghcr.io/devcontainers/features/{into}");
        let flag = ((*option).to_owned(), super::OptionValue::Flag(true));
        let known = kept.iter_mut().find(|feature| {
            feature.id == *into || feature.id == full || feature.id.starts_with(&format!("{full}:"))
        });
        match known {
            Some(known) => {
                let mut table = match &known.options {
                    Options::Table(table) => table.clone(),
                    Options::Version(version) => BTreeMap::from([(
                        "version".to_owned(),
                        super::OptionValue::Text(version.clone()),
                    )]),
                    Options::Flag(_) => BTreeMap::new(),
                };
                table.extend([flag]);
                known.options = Options::Table(table);
            }
            None => kept.push(Requested {
                id: format!("{full}:1"),
                options: Options::Table(BTreeMap::from([flag])),
                location: old.location,
            }),
        }
    }
    kept
}
