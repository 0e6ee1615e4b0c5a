//! Registries, asked as the caller and with the caller's credentials.
//!
//! What was fetched is kept in the caller's cache by its digest.

use crate::failure::Failure;
use boatyard_devcontainer::features::OciReference;
use boatyard_image::artifact::{Artifact, Artifacts};
use std::path::PathBuf;

/// Opens the caller's cache of artifacts.
pub(crate) fn artifacts() -> Result<Artifacts, Failure> {
    let home = |name: &str| {
        std::env::var_os(name)
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
    };
    let cache = home("XDG_CACHE_HOME").or_else(|| home("HOME").map(|home| home.join(".cache")));
    let cache = cache
        .unwrap_or_else(std::env::temp_dir)
        .join("boatyard/artifacts");
    let options = boatyard_image::Options::default();
    Artifacts::open(options, &cache).map_err(|error| Failure::from_error(&error))
}

/// A reference as its user writes it.
pub(crate) fn reference(text: &str) -> Result<OciReference, Failure> {
    OciReference::parse(text).map_err(|reason| Failure::new(format!("{text} {reason}")))
}

/// An artifact's manifest.
pub(crate) async fn manifest(
    artifacts: &Artifacts,
    reference: &OciReference,
) -> Result<Artifact, Failure> {
    let found = artifacts.manifest(reference, None).await;
    found.map_err(|error| Failure::from_error(&error))
}
