//! Features: which, in what order, with what options, and what they leave in the image.
//!
//! Owns the identifiers, the metadata file, the graph of dependencies and its order, the lockfile,
//! the entries of the label `devcontainer.metadata`, and the steps that install a Feature as part
//! of a build plan. It fetches nothing: a [`Resolver`] says what it needs to know next, and the
//! caller gives it. Everything from a Feature's author is untrusted: the number of Features, the
//! sizes of texts and their nesting are bounded, and circles are errors that name their members.
//!
//! Where the reference implementation and the specification's text differ in nothing that an
//! existing project could notice, this follows the text; the differences are in
//! docs/devcontainer.md.
//!
//! Read next: `resolver`, then `order`, `install`; boatyard-image's `features` fetches.

mod collate;
mod diagram;
mod edit;
mod id;
mod install;
mod label;
mod lockfile;
mod metadata;
mod options;
mod order;
mod resolver;
mod version;

pub use edit::{add_features, set_version};
pub use id::{OciReference, Reference};
pub use install::{Users, context_name, extend, install, option_variable};
pub use label::{metadata_label, users};
pub use lockfile::{Locked, Lockfile, without_version};
pub use metadata::{Metadata, OptionSpec};
pub use options::{OptionValue, Options};
pub use resolver::{Found, Need, Resolution, Resolved, Resolver};
pub use version::Version;

use crate::error::{Error, ErrorKind};
use crate::text::{Location, Source, Span};
use crate::tree::{self, Node, Value};

/// Most Features of one environment, dependencies included.
pub const LIMIT: usize = 200;

/// A Feature that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// As written.
    pub id: String,
    /// As written.
    pub options: Options,
    /// Where it stands.
    pub location: Location,
}

/// What a devcontainer.json asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// In the order of the file.
    pub features: Vec<Requested>,
    /// `overrideFeatureInstallOrder`, with places.
    pub override_order: Vec<(String, Location)>,
    /// The file, relative to the workspace folder: local Features are found from its folder.
    pub config_file: String,
}

impl Request {
    /// Features given beside the file, as `--additional-features` does: what the file names stays.
    pub fn add(&mut self, additional: Vec<Requested>) {
        for feature in additional {
            if !self.features.iter().any(|known| known.id == feature.id) {
                self.features.push(feature);
            }
        }
    }
}

/// Reads an object from identifiers to options that is no part of a file; `name` is how errors
/// call it.
pub fn parse_requested(name: &str, text: &str) -> Result<Vec<Requested>, Error> {
    let source = Source::new(name, text);
    let root = tree::parse(&source, &mut Vec::new())?;
    read(&source, "features", &root)
}

/// One Feature by its identifier, as a command line names it.
pub fn requested(name: &str, id: &str) -> Requested {
    let span = Span {
        start: 0,
        end: id.len(),
    };
    Requested {
        id: id.to_owned(),
        options: Options::default(),
        location: Source::new(name, id).locate(span),
    }
}

/// The value of `features` or `dependsOn`.
pub(crate) fn read(source: &Source, path: &str, node: &Node) -> Result<Vec<Requested>, Error> {
    let Value::Object(entries) = &node.value else {
        return Err(wrong(
            source,
            path,
            node,
            "an object from Features to their options",
        ));
    };
    entries
        .iter()
        .map(|entry| {
            Ok(Requested {
                id: entry.key.clone(),
                options: Options::read(source, &format!("{path}.{:?}", entry.key), &entry.node)?,
                location: source.locate(entry.key_span),
            })
        })
        .collect()
}

fn wrong(source: &Source, path: &str, node: &Node, expected: &str) -> Error {
    let kind = ErrorKind::WrongType {
        path: crate::config::shown(path),
        expected: expected.to_owned(),
        found: node.kind().to_owned(),
    };
    Error::new(source, node.span, kind)
}

fn refused(location: &Location, id: &str, reason: impl Into<String>) -> Error {
    let kind = ErrorKind::Feature {
        id: crate::config::shown(id),
        reason: reason.into(),
    };
    Error::at(location.clone(), kind)
}

#[cfg(test)]
mod tests;
