//! Names of images: `debian:bookworm`, `localhost:5000/a/b@sha256:…`.
//!
//! The grammar and the shorthands (`docker.io`, `library/`, `latest`) are
//! those of the distribution project's `reference` package, which Docker,
//! Podman and skopeo share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::digest::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// # Errors
    /// The text is no image name; the error says what about it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |reason: &'static str| Error::BadReference {
            text: text.to_owned(),
            reason,
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).ok_or_else(|| {
                    refuse("after '@' it needs sha256: and 64 hexadecimal digits")
                })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon before the last slash belongs to the registry's port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !valid_tag(tag)) {
            return Err(refuse(
                "a tag has up to 128 letters, digits, '_', '.' or '-'",
            ));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, rest)
            }
            _ => (DEFAULT_REGISTRY, name),
        };
        let registry = if registry == "index.docker.io" {
            DEFAULT_REGISTRY
        } else {
            registry
        };
        if !valid_registry(registry) {
            return Err(refuse("the part before the first '/' is no host name"));
        }
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refuse("image names are lower case"));
        }
        if repository.len() > 255 || !repository.split('/').all(valid_component) {
            return Err(refuse(
                "a name has lower-case letters and digits, separated by '.', '_', '-' or '/'",
            ));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Reference {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }

    /// As written in full: `docker.io/library/debian:bookworm`.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.format(&self.registry, &self.repository)
    }

    /// Host, and port if one was given.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/debian`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// None when only a digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    fn format(&self, registry: &str, repository: &str) -> String {
        let mut text = if registry.is_empty() {
            repository.to_owned()
        } else {
            format!("{registry}/{repository}")
        };
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

fn valid_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && tag.len() <= 128
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn valid_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (component.bytes().next(), component.bytes().last()) else {
        return false;
    };
    // Between letters stand one '.', one or two '_', or any number of '-'.
    let separators = component
        .split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit());
    alphanumeric(first)
        && alphanumeric(last)
        && separators.into_iter().all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

fn valid_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_fits = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        }),
    };
    port_fits && host_fits
}

/// The familiar short form: `debian:bookworm`.
impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.registry == DEFAULT_REGISTRY {
            self.format(
                "",
                self.repository
                    .strip_prefix("library/")
                    .unwrap_or(&self.repository),
            )
        } else {
            self.canonical()
        };
        formatter.write_str(&text)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.canonical())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Reference::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Reference::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.canonical()
    }
}

#[cfg(test)]
mod tests;
