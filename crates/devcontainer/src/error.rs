//! What can be wrong with a configuration or a Dockerfile, as data, and how it reads.
//!
//! An [`Error`] always has a place: file, line, column and the quoted line. [`Warning`]s have one
//! too and never stop anything; showing them is the caller's choice.

use crate::text::{Location, Source, Span, clean};
use std::fmt;

/// Why a configuration cannot be used, and where it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}\n{}", .0.location, .0.kind, .0.location.excerpt())]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    location: Location,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Not JSON with comments.
    #[error("this is not valid JSON: {0}")]
    Syntax(String),
    /// Not YAML, or not what Compose takes of it.
    #[error("this is not valid YAML for Compose: {0}")]
    Yaml(String),
    /// Something that is referred to is not there, or there twice.
    #[error("{0}")]
    Missing(String),
    /// Too large or too deeply nested to be a configuration.
    #[error("{0}")]
    Bounds(String),
    /// A value of another JSON type than the specification's.
    #[error("{path} must be {expected}, but this is {found}")]
    WrongType {
        /// Property path, for example `mounts[0].target`.
        path: String,
        /// What the specification asks for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Part of the specification, not yet of Boatyard.
    #[error("{path} is not supported yet; {remedy}")]
    Unsupported {
        /// Property path.
        path: String,
        /// What to do instead.
        remedy: String,
    },
    /// The right type, but no possible value.
    #[error("{path} {reason}")]
    Invalid {
        /// Property path.
        path: String,
        /// A clause that follows the path.
        reason: String,
    },
    /// A variable that cannot be substituted.
    #[error("{0}")]
    Variable(String),
    /// A Feature that cannot be used.
    #[error("Feature {id} {reason}")]
    Feature {
        /// As it is asked for.
        id: String,
        /// A clause that follows it.
        reason: String,
    },
    /// Something of a Dockerfile's that means nothing.
    #[error("{0}")]
    Instruction(String),
    /// Nothing says which image to use.
    #[error("no \"image\" is named; add one, for example \"image\": \"debian:bookworm\"")]
    ImageMissing,
}

impl ErrorKind {
    /// What is quoted in it must not steer a terminal either.
    fn clean(mut self) -> ErrorKind {
        let texts: [Option<&mut String>; 2] = match &mut self {
            ErrorKind::Variable(text) | ErrorKind::Instruction(text) => [Some(text), None],
            ErrorKind::Unsupported { path, remedy } => [Some(path), Some(remedy)],
            _ => [None, None],
        };
        for text in texts.into_iter().flatten() {
            if text.chars().any(|letter| clean(letter) != letter) {
                *text = text.chars().map(clean).collect();
            }
        }
        self
    }
}

impl Error {
    pub(crate) fn new(source: &Source, span: Span, kind: ErrorKind) -> Error {
        Error(Box::new(Inner {
            kind: kind.clean(),
            location: source.locate(span),
        }))
    }

    /// An error about something whose place is already known.
    pub(crate) fn at(location: Location, kind: ErrorKind) -> Error {
        Error(Box::new(Inner { kind, location }))
    }

    /// A Feature that could not be fetched, as whoever tried says: a clause that follows its name.
    pub fn feature(requested: &crate::features::Requested, reason: &str) -> Error {
        let kind = ErrorKind::Feature {
            id: crate::config::shown(&requested.id),
            reason: reason.to_owned(),
        };
        Error::at(requested.location.clone(), kind)
    }

    /// What is wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Where.
    pub fn location(&self) -> &Location {
        &self.0.location
    }

    /// The sentence alone, with its place but without the quoted line.
    pub fn sentence(&self) -> String {
        format!("{}: {}", self.0.location, self.0.kind)
    }
}

/// Something that works but was probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// One sentence.
    pub message: String,
    /// Where.
    pub location: Location,
}

impl Warning {
    pub(crate) fn new(source: &Source, span: Span, message: String) -> Warning {
        Warning {
            message: message.chars().map(clean).collect(),
            location: source.locate(span),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}
