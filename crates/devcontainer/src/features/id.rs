//! Identifiers of Features and templates: a registry's artifact, a tarball's URL, or a folder
//! beside devcontainer.json.
//!
//! Identifiers are compared without regard to case, as the specification says. The short names of
//! the first, unpublished form (`git`) stand for the published Features that replaced them, as in
//! the reference; other short names and the deprecated `owner/repository/feature` of GitHub
//! releases are refused with what to write instead.

use super::{Requested, refused};
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where short names went.
const MIGRATED_TO: &str = "ghcr.io/devcontainers/features";
const MIGRATED: &[&str] = &[
    "aws-cli",
    "azure-cli",
    "desktop-lite",
    "docker-in-docker",
    "docker-from-docker",
    "dotnet",
    "git",
    "git-lfs",
    "github-cli",
    "java",
    "kubectl-helm-minikube",
    "node",
    "powershell",
    "python",
    "ruby",
    "rust",
    "sshd",
    "terraform",
];
const RENAMED: &[(&str, &str)] = &[("golang", "go"), ("common", "common-utils")];

/// An artifact in a registry, all in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OciReference {
    /// `ghcr.io`, `localhost:5000`.
    pub registry: String,
    /// `devcontainers/features`.
    pub namespace: String,
    /// `go`.
    pub name: String,
    /// `1.0.0`; `latest` when neither tag nor digest is given.
    pub tag: Option<String>,
    /// `sha256:…`.
    pub digest: Option<String>,
}

impl OciReference {
    /// Parses `REGISTRY/NAMESPACE/NAME[:TAG|@DIGEST]`; the error is a clause that follows the name.
    pub fn parse(text: &str) -> Result<OciReference, String> {
        let text = text.to_ascii_lowercase();
        let (resource, tag, digest) = if let Some((resource, digest)) = text.rsplit_once('@') {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(format!(
                    "has the digest {digest:?}, but a digest is sha256: and 64 hexadecimal digits"
                ));
            }
            (resource, None, Some(digest.to_owned()))
        } else {
            match text.rsplit_once(':') {
                Some((resource, tag)) if !tag.contains('/') => {
                    if !is_tag(tag) {
                        return Err(format!("has the tag {tag:?}, which no tag can be"));
                    }
                    (resource, Some(tag.to_owned()), None)
                }
                _ => (text.as_str(), Some("latest".to_owned()), None),
            }
        };
        let (registry, path) = resource.split_once('/').ok_or_else(no_reference)?;
        let (namespace, name) = path.rsplit_once('/').ok_or_else(no_reference)?;
        let is_registry = |text: &str| {
            !text.is_empty()
                && !text.starts_with(['.', '-', ':'])
                && text.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']')
                })
        };
        if !is_registry(registry) || !path.split('/').all(is_component) {
            return Err(no_reference());
        }
        // The collection moved; the reference redirects it too.
        let namespace = match namespace.strip_prefix("devcontainers-contrib") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                format!("devcontainers-extra{rest}")
            }
            _ => namespace.to_owned(),
        };
        Ok(OciReference {
            registry: registry.to_owned(),
            namespace,
            name: name.to_owned(),
            tag,
            digest,
        })
    }

    /// `devcontainers/features/go`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// `ghcr.io/devcontainers/features/go`.
    pub fn resource(&self) -> String {
        format!("{}/{}/{}", self.registry, self.namespace, self.name)
    }

    /// The digest, or the tag.
    pub fn version(&self) -> &str {
        self.digest
            .as_deref()
            .or(self.tag.as_deref())
            .unwrap_or("latest")
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => write!(f, "{}@{digest}", self.resource()),
            None => write!(f, "{}:{}", self.resource(), self.version()),
        }
    }
}

fn no_reference() -> String {
    "is no reference; write registry/namespace/name:version, for example ghcr.io/devcontainers/features/node:1".to_owned()
}

fn is_tag(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(plain)
        && text
            .bytes()
            .all(|byte| plain(byte) || matches!(byte, b'.' | b'-'))
}

/// Runs of letters and digits, with one separator between two.
fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().next().is_some_and(plain)
        && text.bytes().last().is_some_and(plain)
        && text
            .bytes()
            .zip(text.bytes().skip(1))
            .all(|(here, next)| plain(here) || (matches!(here, b'.' | b'_' | b'-') && plain(next)))
}

/// Where a Feature is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reference {
    /// In a registry.
    Oci(OciReference),
    /// Behind a URL.
    Tarball {
        /// `https://…/devcontainer-feature-NAME.tgz`.
        url: String,
    },
    /// In a folder of the workspace.
    Local {
        /// Relative to the workspace folder, without `.` and `..`.
        path: String,
    },
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Oci(reference) => reference.fmt(f),
            Reference::Tarball { url } => f.write_str(url),
            Reference::Local { path } => write!(f, "./{path}"),
        }
    }
}

impl Reference {
    /// Reads an identifier. `config_file` is devcontainer.json's path in the workspace.
    pub(super) fn parse(requested: &Requested, config_file: &str) -> Result<Reference, Error> {
        let id = requested.id.as_str();
        Reference::read(id, config_file).map_err(|reason| refused(&requested.location, id, reason))
    }

    /// As [`Reference::parse`]; the error is a clause that follows the identifier.
    pub(super) fn read(id: &str, config_file: &str) -> Result<Reference, String> {
        if id.starts_with("https://") {
            return tarball(id);
        }
        if id.starts_with("http://") {
            return Err("would be fetched without TLS; write an https:// URL".to_owned());
        }
        if id.starts_with('/') {
            return Err("is an absolute path; a local Feature is named relative to devcontainer.json, as ./feature".to_owned());
        }
        if id.starts_with("./") || id.starts_with("../") {
            return local(id, config_file);
        }
        if !id.contains('/') {
            return short(id);
        }
        let reference = OciReference::parse(id)?;
        let registry = &reference.registry;
        if !registry.contains(['.', ':']) && registry != "localhost" {
            return Err("is of the deprecated form owner/repository/feature, which names a GitHub release; name the Feature in a registry, for example ghcr.io/owner/repository/feature".to_owned());
        }
        Ok(Reference::Oci(reference))
    }
}

fn short(id: &str) -> Result<Reference, String> {
    let name = RENAMED
        .iter()
        .find(|(old, _)| *old == id)
        .map(|(_, new)| *new)
        .or_else(|| MIGRATED.iter().find(|known| **known == id).copied());
    match name {
        Some(name) => OciReference::parse(&format!("{MIGRATED_TO}/{name}:1")).map(Reference::Oci),
        None => Err("is a legacy Feature without a registry; see https://containers.dev/features for what replaced it, or write ./ before the name of a local Feature".to_owned()),
    }
}

fn tarball(url: &str) -> Result<Reference, String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let id = name
        .strip_prefix("devcontainer-feature-")
        .and_then(|name| name.strip_suffix(".tgz"))
        .unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if id.is_empty() || !id.bytes().all(plain) {
        return Err(
            "is no Feature's URL: its last part must be devcontainer-feature-NAME.tgz".to_owned(),
        );
    }
    if url
        .bytes()
        .any(|byte| byte.is_ascii_control() || byte == b' ')
    {
        return Err("is no URL".to_owned());
    }
    Ok(Reference::Tarball {
        url: url.to_owned(),
    })
}

fn local(id: &str, config_file: &str) -> Result<Reference, String> {
    let folder = config_file
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    let mut path: Vec<&str> = Vec::new();
    for component in folder.split('/').chain(id.split('/')) {
        match component {
            "" | "." => {}
            ".." => {
                if path.pop().is_none() {
                    return Err(outside());
                }
            }
            component => path.push(component),
        }
    }
    if path.len() < 2 || path[0] != ".devcontainer" || id.contains('\0') {
        return Err(outside());
    }
    Ok(Reference::Local {
        path: path.join("/"),
    })
}

fn outside() -> String {
    "lies outside of the folder .devcontainer, where local Features must be".to_owned()
}
