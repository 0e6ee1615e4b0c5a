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

/// Published versions, oldest first; tags that are none are left out.
pub(crate) fn versions(tags: &[String]) -> Vec<Version> {
    let mut versions: Vec<Version> = tags.iter().filter_map(|tag| Version::parse(tag)).collect();
    versions.sort();
    versions
}

/// A semantic version `MAJOR.MINOR.PATCH`, without more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) patch: u64,
}

impl Version {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = |part: &str| {
            (!part.starts_with('+'))
                .then(|| part.parse().ok())
                .flatten()
        };
        let mut parts = text.split('.').map(plain);
        let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(Self {
            major,
            minor,
            patch,
        })
    }

    /// The tags that a new version is published under: itself, and those it is the newest of.
    pub(crate) fn tags(self, published: &[String]) -> Vec<String> {
        let known = versions(published);
        if known.contains(&self) {
            return Vec::new();
        }
        let newest = |same: &dyn Fn(&Version) -> bool| {
            known
                .iter()
                .filter(|other| same(other))
                .all(|other| *other < self)
        };
        let mut tags = Vec::new();
        if newest(&|other| other.major == self.major) {
            tags.push(self.major.to_string());
        }
        if newest(&|other| (other.major, other.minor) == (self.major, self.minor)) {
            tags.push(format!("{}.{}", self.major, self.minor));
        }
        tags.push(self.to_string());
        if newest(&|_| true) {
            tags.push("latest".to_owned());
        }
        tags
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    //! Which tags a version is published under.
    use super::*;

    #[test]
    fn a_version_gets_the_tags_it_is_the_newest_of() {
        let tags = |version: &str, published: &[&str]| {
            let published: Vec<String> = published.iter().map(|tag| (*tag).to_owned()).collect();
            let version = Version::parse(version);
            version
                .map(|version| version.tags(&published).join(" "))
                .unwrap_or_default()
        };
        assert_eq!(tags("1.2.3", &[]), "1 1.2 1.2.3 latest");
        assert_eq!(tags("1.2.3", &["1.2.3"]), "");
        assert_eq!(tags("1.2.3", &["1.2.4", "1.2", "2.0.0"]), "1.2.3");
        assert_eq!(tags("1.2.5", &["1.2.4", "1", "2.0.0"]), "1 1.2 1.2.5");
        assert_eq!(tags("1.1.9", &["1.1.8", "1.2.0"]), "1.1 1.1.9");
        assert_eq!(tags("1.2", &[]), "");
        assert_eq!(tags("1.2.3-rc", &[]), "");
    }
}
