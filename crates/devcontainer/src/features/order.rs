//! The order of installation: rounds over the graph of dependencies.
//!
//! Each round takes every Feature whose dependencies are all installed; of those, only the ones of
//! the highest priority, sorted by name, tag, options and digest. When a round is empty and
//! something is left, there is a circle.

use super::{Found, Metadata, Reference, Requested, collate, refused, resolver::Need};
use crate::error::Error;
use std::cmp::Ordering;

/// A Feature asked for, by devcontainer.json or by another Feature.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) requested: Requested,
    pub(super) need: Need,
    /// Asked for by the file.
    pub(super) direct: bool,
    pub(super) found: Option<Found>,
    /// Indices of nodes.
    pub(super) depends_on: Vec<usize>,
    pub(super) installs_after: Vec<Reference>,
    pub(super) priority: usize,
}

/// All nodes; equal ones are accepted once.
#[derive(Clone, Debug, Default)]
pub(super) struct Edges {
    pub(super) nodes: Vec<Node>,
    pub(super) accepted: Vec<usize>,
}

impl Edges {
    pub(super) fn add(&mut self, requested: &Requested, need: Need, direct: bool) -> usize {
        self.nodes.push(Node {
            requested: requested.clone(),
            need,
            direct,
            found: None,
            depends_on: Vec::new(),
            installs_after: Vec::new(),
            priority: 0,
        });
        self.nodes.len() - 1
    }

    /// Accepted nodes that must be installed before a node, soft dependencies included.
    pub(super) fn before<'a>(&'a self, index: usize) -> impl Iterator<Item = usize> + 'a {
        let node = &self.nodes[index];
        let hard = |other: &Node| {
            node.depends_on
                .iter()
                .any(|dependency| self.nodes[*dependency].equals(other))
        };
        let soft = |other: &Node| {
            node.installs_after
                .iter()
                .any(|wanted| other.answers(wanted))
        };
        self.accepted.iter().copied().filter(move |other| {
            // Nothing waits for itself where it only wishes to come later.
            hard(&self.nodes[*other]) || (*other != index && soft(&self.nodes[*other]))
        })
    }
}

impl Node {
    fn metadata(&self) -> Option<&Metadata> {
        self.found.as_ref().map(|found| found.metadata.as_ref())
    }

    fn digest(&self) -> Option<&str> {
        self.found.as_ref()?.digest.as_deref()
    }

    /// The same contents with the same options.
    pub(super) fn equals(&self, other: &Node) -> bool {
        std::mem::discriminant(&self.need.reference)
            == std::mem::discriminant(&other.need.reference)
            && self.compare(other).is_eq()
    }

    /// Whether this is what a soft dependency means: the version does not count, old names do.
    pub(super) fn answers(&self, wanted: &Reference) -> bool {
        match (&self.need.reference, wanted) {
            (Reference::Oci(mine), Reference::Oci(wanted)) => {
                mine.registry == wanted.registry
                    && mine.namespace == wanted.namespace
                    && (mine.name == wanted.name
                        || self.metadata().is_some_and(|metadata| {
                            metadata.names().any(|name| name == wanted.name)
                        }))
            }
            (mine, wanted) => mine == wanted,
        }
    }

    /// The order within a round.
    fn compare(&self, other: &Node) -> Ordering {
        let options = || self.requested.options.compare(&other.requested.options);
        match (&self.need.reference, &other.need.reference) {
            (Reference::Oci(left), Reference::Oci(right)) => {
                if self.digest().is_some() && self.digest() == other.digest() && options().is_eq() {
                    return Ordering::Equal;
                }
                let place = collate::compare(&left.registry, &right.registry)
                    .then_with(|| collate::compare(&left.namespace, &right.namespace));
                let name = || match (self.metadata(), other.metadata()) {
                    (Some(mine), Some(theirs))
                        if mine
                            .names()
                            .any(|name| theirs.names().any(|other| name == other)) =>
                    {
                        Ordering::Equal
                    }
                    _ => collate::compare(&left.name, &right.name),
                };
                let tag = || match (&left.tag, &right.tag) {
                    (Some(left), Some(right)) => collate::compare(left, right),
                    _ => Ordering::Equal,
                };
                place
                    .then_with(name)
                    .then_with(tag)
                    .then_with(options)
                    .then_with(|| self.digest().cmp(&other.digest()))
            }
            (Reference::Tarball { url: left }, Reference::Tarball { url: right })
            | (Reference::Local { path: left }, Reference::Local { path: right }) => {
                collate::compare(left, right).then_with(options)
            }
            _ => collate::compare(&self.requested.id, &other.requested.id),
        }
    }
}

/// Indices of the accepted nodes in the order of installation.
pub(super) fn order(graph: &Edges) -> Result<Vec<usize>, Error> {
    let mut left = graph.accepted.clone();
    let before: Vec<Vec<usize>> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(index, _)| match left.contains(&index) {
            true => graph.before(index).collect(),
            false => Vec::new(),
        })
        .collect();
    let mut installed: Vec<usize> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let ready = |index: &&usize| {
            before[**index]
                .iter()
                .all(|other| installed.contains(other))
        };
        let ready: Vec<usize> = left.iter().filter(ready).copied().collect();
        let Some(highest) = ready.iter().map(|index| graph.nodes[*index].priority).max() else {
            return Err(circle(graph, &before, &left));
        };
        let mut round: Vec<usize> = ready
            .into_iter()
            .filter(|index| graph.nodes[*index].priority == highest)
            .collect();
        left.retain(|index| !round.contains(index));
        round.sort_by(|left, right| graph.nodes[*left].compare(&graph.nodes[*right]));
        installed.append(&mut round);
    }
    Ok(installed)
}

/// Names the members of one circle: every node that is left waits for another that is left.
fn circle(graph: &Edges, before: &[Vec<usize>], left: &[usize]) -> Error {
    let mut path: Vec<usize> = Vec::new();
    let mut at = left[0];
    let start = loop {
        if let Some(start) = path.iter().position(|known| *known == at) {
            break start;
        }
        path.push(at);
        match before[at].iter().find(|other| left.contains(other)) {
            Some(next) => at = *next,
            None => break 0,
        }
    };
    let mut members: Vec<String> = path[start..]
        .iter()
        .map(|index| crate::config::shown(&graph.nodes[*index].requested.id))
        .collect();
    members.push(members[0].clone());
    let first = &graph.nodes[path[start]].requested;
    refused(
        &first.location,
        &first.id,
        format!(
            "is part of a circular dependency, so there is no order of installation: {}; remove one of these dependencies",
            members.join(" after ")
        ),
    )
}
