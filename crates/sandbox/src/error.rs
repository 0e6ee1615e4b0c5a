//! What can go wrong with a sandbox, in words a person can act on.
//!
//! Owns the public [`Error`] and the [`Failure`] that crosses process boundaries (runner, spawner,
//! monitor, init): a step and a detail, both text, because an `io::Error` cannot be sent.

use crate::spec::Id;
use serde::{Deserialize, Serialize};
use std::io;

/// Why an operation on a sandbox failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step of starting failed; everything made so far was removed again.
    #[error("sandbox {id} did not start: cannot {step}: {detail}")]
    Start {
        /// The sandbox.
        id: Id,
        /// What was being done, as a verb phrase.
        step: String,
        /// What the kernel or the checks said.
        detail: String,
    },
    /// A monitor holds this sandbox's state directory: it runs, or is being started.
    #[error("sandbox {0} is already running; stop it first")]
    AlreadyRunning(Id),
    /// The spawner or the monitor ended without an answer.
    #[error("sandbox {0}: the process starting it was killed; start it again")]
    Lost(Id),
    /// The spawner process cannot be started or spoken to.
    #[error("the sandbox spawner cannot {what}")]
    Spawner {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A path could not be opened with the credentials of a user.
    #[error("{path} cannot be opened as user {uid}: {detail}")]
    OpenAs {
        /// The path.
        path: String,
        /// The user.
        uid: u32,
        /// What the kernel said.
        detail: String,
    },
    /// The process that was to open a path with the credentials of a user did not answer: it was
    /// killed, or the file system hangs. Nothing is known of the path.
    #[error("{path} cannot be read: {detail}")]
    Unanswered {
        /// The path.
        path: String,
        /// What became of the process.
        detail: &'static str,
    },
    /// Something of a sandbox could not be read or removed.
    #[error("sandbox {id}: cannot {what}")]
    Io {
        /// The sandbox.
        id: Id,
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something was not gone in time.
    #[error("sandbox {id}: {what} did not end within {seconds} s")]
    Deadline {
        /// The sandbox.
        id: Id,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
    /// What shares the host's uplink could not be made, or removed.
    #[error(
        "the uplink cannot be shared: the kernel must have ifb, htb, tbf, u32 and mirred for that"
    )]
    Uplink {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The host's part of the network could not be set up.
    #[error("the host's network cannot be prepared: {what}: {detail}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What was said.
        detail: String,
    },
}

/// A failed step on its way to the runner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Verb phrase: "mount the overlay".
    pub(crate) step: String,
    /// Error text.
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(step: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self {
            step: step.into(),
            detail: detail.to_string(),
        }
    }
}

impl Error {
    pub(crate) fn unanswered(path: &std::path::Path, detail: &'static str) -> Self {
        Self::Unanswered {
            path: path.display().to_string(),
            detail,
        }
    }
}

/// Names the step an error belongs to.
pub(crate) trait Step<T> {
    /// Makes the error a [`Failure`] of `step`.
    fn step(self, step: &str) -> Result<T, Failure>;
    /// The same with a step made only when needed.
    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error))
    }
    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step(), error))
    }
}
