//! A failure of the database that several callers are told of.
//!
//! Owns the copyable form of [`Error::Unavailable`] and [`Error::Full`]: a failed commit fails every write of its
//! batch, and each caller gets an error of its own. The sentences are each implementation's.

use std::borrow::Cow;
use std::sync::Arc;

use crate::Error;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// File or address.
    pub(crate) place: Arc<str>,
    /// One clause saying what and the remedy.
    pub(crate) what: Cow<'static, str>,
    /// Whether there is no room for more, and nothing else is wrong.
    pub(crate) full: bool,
    /// The driver's error.
    pub(crate) source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(place: &Arc<str>, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            place: place.clone(),
            what: what.into(),
            full: false,
            source: None,
        }
    }

    /// Of the disk that it is on.
    pub(crate) fn full(place: &Arc<str>, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            full: true,
            ..Self::new(place, what)
        }
    }

    pub(crate) fn closed(place: &Arc<str>) -> Self {
        Self::new(
            place,
            "it is closed; try again once the server has restarted",
        )
    }

    pub(crate) fn because(
        mut self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn error(&self) -> Error {
        let (place, what) = (self.place.to_string(), self.what.to_string());
        let source = self.source.clone();
        let source =
            source.map(|source| Box::new(source) as Box<dyn std::error::Error + Send + Sync>);
        match self.full {
            true => Error::Full {
                place,
                what,
                source,
            },
            false => Error::Unavailable {
                place,
                what,
                source,
            },
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error()
    }
}
