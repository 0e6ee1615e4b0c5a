//! Why a step failed, in words for the user.
//!
//! Every failure a runner reports has a stable reason code, one sentence that names the thing and
//! the remedy, and says whether trying again can help by itself. The codes are listed in
//! docs/reasons.md.

use std::path::Path;

/// A failed step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    /// Stable code, in CamelCase.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Whether trying again can help without anybody changing anything.
    pub transient: bool,
}

impl Failed {
    pub(crate) fn lasting(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
            transient: false,
        }
    }

    pub(crate) fn transient(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
            transient: true,
        }
    }

    pub(crate) fn disk(path: &Path, error: &std::io::Error) -> Self {
        Self::transient(
            "DiskFailed",
            format!(
                "writing {} failed: {error}; free space or mend the disk",
                path.display()
            ),
        )
    }

    /// Too little room on the file system that holds `path`.
    pub(crate) fn full(path: &Path, why: &str) -> Self {
        Self::transient(
            "DiskFailed",
            format!(
                "the disk that holds {} is full: {why}; free space on it, for instance with `boatyard image prune`, and try again",
                path.display()
            ),
        )
    }

    /// Of an image: what a registry or a disk refused may pass by itself.
    pub(crate) fn image(error: &boatyard_image::Error) -> Self {
        use boatyard_image::Error;
        // Where a Feature is asked for says nothing of why it did not come.
        let cause = match error {
            Error::FeatureUnreachable(unreachable) => &unreachable.cause,
            error => error,
        };
        let transient = matches!(
            cause,
            Error::Registry { .. } | Error::NoSpace { .. } | Error::Io { .. } | Error::Ended { .. }
        );
        Self {
            reason: error.reason().to_owned(),
            message: chain(error),
            transient,
        }
    }

    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        Self::transient("Internal", chain(error))
    }
}

impl From<boatyard_image::Error> for Failed {
    fn from(error: boatyard_image::Error) -> Self {
        Self::image(&error)
    }
}

/// Room that starting an environment leaves alone, so that what runs can still be stopped, removed
/// and recorded.
const RESERVE: u64 = 16 << 20;

/// Fails when the disk that holds `path` is nearly full; a disk that cannot be asked has room.
pub(crate) fn require_room(path: &Path) -> Result<(), Failed> {
    let Ok(there) = rustix::fs::statvfs(path) else {
        return Ok(());
    };
    let left = there.f_bavail.saturating_mul(there.f_frsize);
    if left >= RESERVE {
        return Ok(());
    }
    let why = format!(
        "{} KiB are left and {} MiB are kept back",
        left / 1024,
        RESERVE >> 20
    );
    Err(Failed::full(path, &why))
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
