//! What goes wrong with an image, in words for its user: the thing, what is
//! wrong with it, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// What was being done with a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Pull,
    Push,
    Fetch,
    ListVersions,
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Doing::Pull => "pull",
            Doing::Push => "push",
            Doing::Fetch => "fetch",
            Doing::ListVersions => "list the versions of",
        })
    }
}

/// A Feature that could not be fetched.
#[derive(Debug)]
pub struct Unreachable {
    /// File, line and column of where it is asked for.
    pub place: String,
    pub id: String,
    pub cause: Error,
    /// What may be used instead, or nothing.
    pub offer: String,
    /// The line it is asked for in.
    pub excerpt: String,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "{text:?} is no image name: {reason}; a name looks like debian:bookworm or registry.example/team/image:tag"
    )]
    BadReference { text: String, reason: &'static str },

    #[error(
        "image {reference} is not on this machine; fetch it with `boatyard image pull {reference}`"
    )]
    NotFound { reference: String },

    #[error("cannot {doing} {image}: registry {registry} {problem}; {remedy}")]
    Registry {
        doing: Doing,
        image: String,
        registry: String,
        problem: String,
        remedy: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },

    #[error("{} is no list of registries ({problem}); correct it or remove it", path.display())]
    Configuration { path: PathBuf, problem: String },

    #[error("cannot read the credentials for registry {registry} ({problem}); correct them with `docker login {registry}` or remove the entry from {}", path.display())]
    Credentials {
        registry: String,
        path: PathBuf,
        problem: String,
    },

    #[error(
        "image {image} has nothing for linux/{wanted}, only {available}; choose another image or tag, or a runner of that architecture"
    )]
    Architecture {
        image: String,
        wanted: String,
        available: String,
    },

    #[error(
        "image {image} is refused: {problem}; have whoever builds it repair it, or choose another"
    )]
    Invalid { image: String, problem: String },

    #[error(
        "image {image} is refused: entry {entry:?} of layer {layer} {problem}; such a layer is broken or hostile, choose another image"
    )]
    Hostile {
        image: String,
        layer: String,
        entry: String,
        problem: String,
    },

    #[error(
        "layer {layer} of image {image} cannot be read; try again, and if it comes back have whoever builds the image repair it"
    )]
    Unreadable {
        image: String,
        layer: String,
        #[source]
        source: io::Error,
    },

    #[error(
        "{what} has the digest {actual} where {expected} was promised; what was fetched is thrown away: try again, and if it comes back tell who runs the registry or made the file"
    )]
    Digest {
        what: String,
        expected: String,
        actual: String,
    },

    #[error("no room on the disk for image {image}: {} has {free} bytes left that may be used; free some with `boatyard image prune`", path.display())]
    NoSpace {
        image: String,
        path: PathBuf,
        free: u64,
    },

    #[error("cannot {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("{} cannot be imported: {problem}; it must be an OCI layout (folder or tar) or an archive of `docker save`", path.display())]
    Import { path: PathBuf, problem: String },

    #[error("{} exists already; choose another path or remove it first", path.display())]
    Exists { path: PathBuf },

    #[error(
        "cannot export {image}: layer {layer} is not what was unpacked ({problem}); remove the image and pull it again"
    )]
    Altered {
        image: String,
        layer: String,
        problem: String,
    },

    #[error("{reference} cannot be made from a distribution's mirror; that works for {supported}")]
    UnknownDistribution {
        reference: String,
        supported: String,
    },

    #[error(
        "{package:?} is no name of a Debian package; it has lower-case letters, digits, '+', '-' and '.'"
    )]
    BadPackage { package: String },

    #[error(
        "mmdebstrap, which makes {reference}, is missing; install it with `apt-get install mmdebstrap`"
    )]
    BootstrapMissing { reference: String },

    #[error(
        "cannot make {reference} from {mirror}: {problem}; check that the mirror answers and that the packages' names are right"
    )]
    Bootstrap {
        reference: String,
        mirror: String,
        problem: String,
    },

    /// A Feature whose place in a file is known.
    #[error(transparent)]
    Feature(#[from] boatyard_devcontainer::Error),

    #[error("{}: Feature {} cannot be fetched: {}{}\n{}", .0.place, .0.id, .0.cause, .0.offer, .0.excerpt)]
    FeatureUnreachable(Box<Unreachable>),

    #[error("{subject} is refused: {problem}")]
    Artifact { subject: String, problem: String },

    #[error("{place}{step}: {problem}")]
    Step {
        /// `file:line:column: ` or nothing.
        place: String,
        step: String,
        problem: String,
        /// Of its process, if that is what failed.
        exit_code: Option<i32>,
    },

    #[error("the build plan cannot be carried out: {problem}")]
    Plan { problem: String },

    #[error("cannot {doing}: the task that did it was ended")]
    Ended { doing: &'static str },
}

impl Error {
    /// A word for programs; stable.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Error::BadReference { .. } => "InvalidImageName",
            Error::Configuration { .. } => "InvalidConfiguration",
            Error::NotFound { .. } => "ImageNotFound",
            Error::Registry { .. } => "RegistryFailed",
            Error::Credentials { .. } => "CredentialsUnreadable",
            Error::Architecture { .. } => "WrongArchitecture",
            Error::Invalid { .. } | Error::Unreadable { .. } => "ImageInvalid",
            Error::Hostile { .. } => "LayerRefused",
            Error::Digest { .. } => "DigestMismatch",
            Error::NoSpace { .. } => "DiskFull",
            Error::Io { .. } | Error::Ended { .. } => "ImageStoreFailed",
            Error::Import { .. } => "ImportFailed",
            Error::Feature(_) => "FeatureInvalid",
            Error::FeatureUnreachable(unreachable) => unreachable.cause.reason(),
            Error::Artifact { .. } => "ArtifactInvalid",
            Error::Exists { .. } | Error::Altered { .. } => "ExportFailed",
            Error::Step { .. } | Error::Plan { .. } => "BuildFailed",
            Error::UnknownDistribution { .. }
            | Error::BadPackage { .. }
            | Error::BootstrapMissing { .. }
            | Error::Bootstrap { .. } => "BootstrapFailed",
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io {
            doing,
            path,
            source,
        }
    }
}

/// An error and its sources in one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
