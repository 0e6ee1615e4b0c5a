//! What a build says while it goes on. Showing it is the caller's.

use std::time::Duration;

/// Something happened. A vertex is one line of work as BuildKit shows it: a base image, a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Work begins.
    Began {
        /// Counted from 1 in the order of beginning.
        vertex: u32,
        /// `[builder 2/5] RUN make`.
        name: String,
    },
    /// A process printed something; whole lines or not.
    Output {
        /// Whose.
        vertex: u32,
        /// As printed.
        bytes: Vec<u8>,
    },
    /// A line about work that is no process's; nobody waits for who reads it.
    Note {
        /// Whose.
        vertex: u32,
        /// The line.
        text: String,
    },
    /// It is over.
    Ended {
        /// Which.
        vertex: u32,
        /// How.
        outcome: Outcome,
        /// After how long.
        took: Duration,
    },
}

/// How work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It had been done before.
    Cached,
    /// It failed; the build's error says why.
    Failed,
}

/// Called from several threads. An [`Event::Output`] may be made to wait, and then the process that
/// prints waits; the others come from where waiting would hold up everybody.
pub trait BuildProgress: Send + Sync {
    /// One event; those of one vertex in order.
    fn event(&self, event: Event);
}

impl BuildProgress for crate::Quiet {
    fn event(&self, _event: Event) {}
}
