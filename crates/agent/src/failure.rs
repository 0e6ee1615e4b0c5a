//! Why a call failed, as the caller is told. The words are the contract of `wire::Reply::Error`.

use boatyard_wire::Reply;
use std::fmt::Display;

const LONGEST_MESSAGE: usize = 4096;

/// A failed call: a stable word and a sentence.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new("notFound", message)
    }
    pub(crate) fn permission_denied(message: impl Into<String>) -> Self {
        Self::new("permissionDenied", message)
    }
    pub(crate) fn unknown_user(message: impl Into<String>) -> Self {
        Self::new("unknownUser", message)
    }
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new("badRequest", message)
    }
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new("busy", message)
    }
    pub(crate) fn internal(what: impl Display, error: impl Display) -> Self {
        Self::new("internal", format!("{what}: {error}"))
    }

    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        // Names in it come from callers; a reply must fit a frame.
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        Self { reason, message }
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self::Error {
            reason: failure.reason.to_owned(),
            message: failure.message,
        }
    }
}
