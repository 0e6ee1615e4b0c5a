//! Progress of an image, for the step's message and the log.

use boatyard_image::{LayerProgress, Progress};
use std::sync::Mutex;

/// Keeps the newest line.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    line: Mutex<String>,
}

impl Progress for Reporter {
    fn layer(&self, _id: &str, _state: LayerProgress) {}

    fn message(&self, text: &str) {
        tracing::info!(text, "image");
        *self
            .line
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = text.to_owned();
    }
}
