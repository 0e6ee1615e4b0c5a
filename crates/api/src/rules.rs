//! Defaults and validation of each kind, beyond what its schema says.
//!
//! Pure: the server calls [`Rules::defaults`] on every write before [`Rules::validate`], with the
//! stored object where there is one, so that rules can speak of changes.

use crate::words::DEFAULT_CLASS;
use crate::{Environment, EnvironmentClass, Runner, quantity};

/// One thing wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, as `spec.source.folder.path`.
    pub path: String,
    /// Machine-readable kind.
    pub reason: Reason,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// Kinds of [`FieldError`], in Kubernetes's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A required value is missing.
    Required,
    /// The value is not allowed.
    Invalid,
    /// The field may not be set or changed.
    Forbidden,
    /// The value is known but not supported.
    NotSupported,
}

impl Reason {
    /// As `FieldValueInvalid` and its like.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotSupported => "FieldValueNotSupported",
        }
    }
}

/// Defaults and validation of a kind.
pub trait Rules: Sized {
    /// Fills in what the user left out.
    fn defaults(&mut self) {}
    /// Everything wrong with the object, or with its change from `old`.
    fn validate(&self, old: Option<&Self>) -> Vec<FieldError>;
}

fn error(path: &str, reason: Reason, message: impl Into<String>) -> FieldError {
    FieldError {
        path: path.to_owned(),
        reason,
        message: message.into(),
    }
}

impl Rules for Environment {
    fn defaults(&mut self) {
        self.spec
            .class_name
            .get_or_insert_with(|| DEFAULT_CLASS.to_owned());
    }

    fn validate(&self, old: Option<&Self>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let source = &self.spec.source;
        if let Some(old) = old {
            if old.spec.source != *source {
                errors.push(error(
                    "spec.source",
                    Reason::Forbidden,
                    "the source cannot be changed; make another environment",
                ));
            }
            if old.spec.runner_name.is_some() && old.spec.runner_name != self.spec.runner_name {
                errors.push(error(
                    "spec.runnerName",
                    Reason::Forbidden,
                    "an environment cannot be moved to another runner",
                ));
            }
        }
        if source.folder.is_some() && source.git.is_some() {
            errors.push(error(
                "spec.source",
                Reason::Invalid,
                "give folder or git, not both",
            ));
        }
        if let Some(folder) = &source.folder {
            let path = &folder.path;
            let clean = path.starts_with('/')
                && !path.contains('\0')
                && !path.split('/').any(|part| part == ".." || part == ".");
            if !clean {
                errors.push(error(
                    "spec.source.folder.path",
                    Reason::Invalid,
                    format!("{path:?} is not an absolute path without `.` and `..`"),
                ));
            }
        }
        if let Some(git) = &source.git {
            let schemes = ["https://", "http://", "ssh://", "git://", "file://"];
            let scp_like = git.url.split_once(':').is_some_and(|(host, path)| {
                host.contains('@') && !host.contains('/') && !path.is_empty()
            });
            if git.url.starts_with('-')
                || !(schemes.iter().any(|scheme| git.url.starts_with(scheme)) || scp_like)
            {
                errors.push(error("spec.source.git.url", Reason::Invalid, format!("{:?} is no git URL; write https://, http://, ssh://, git://, file:// or user@host:path", git.url)));
            }
            if let Some(reference) = git
                .reference
                .as_ref()
                .filter(|reference| reference.starts_with('-') || reference.is_empty())
            {
                errors.push(error(
                    "spec.source.git.ref",
                    Reason::Invalid,
                    format!("{reference:?} is no branch, tag or commit"),
                ));
            }
        }
        if let Some(path) = self
            .spec
            .devcontainer
            .as_ref()
            .and_then(|devcontainer| devcontainer.path.as_ref())
            && (path.starts_with('/') || path.split('/').any(|part| part == ".."))
        {
            errors.push(error(
                "spec.devcontainer.path",
                Reason::Invalid,
                format!("{path:?} is not a path inside the source"),
            ));
        }
        errors
    }
}

impl Rules for EnvironmentClass {
    fn validate(&self, _old: Option<&Self>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let resources = &self.spec.resources;
        if self.spec.isolation == crate::class::Isolation::VM {
            errors.push(error(
                "spec.isolation",
                Reason::NotSupported,
                "VM is not supported by this version; supported: Sandbox",
            ));
        }
        if resources.disk.is_some() {
            errors.push(error(
                "spec.resources.disk",
                Reason::NotSupported,
                "disk limits are not enforced by this version; leave the field out",
            ));
        }
        let mut check = |path: &str,
                         outcome: Option<Result<u64, quantity::BadQuantity>>,
                         least: u64| match outcome {
            Some(Err(bad)) => errors.push(error(path, Reason::Invalid, bad.to_string())),
            Some(Ok(value)) if value < least => errors.push(error(
                path,
                Reason::Invalid,
                format!("too small: at least {least} is needed"),
            )),
            _ => {}
        };
        check(
            "spec.resources.cpu",
            resources.cpu.as_ref().map(quantity::cpu_millis),
            10,
        );
        check(
            "spec.resources.memory",
            resources.memory.as_ref().map(quantity::bytes),
            16 << 20,
        );
        check(
            "spec.resources.pids",
            resources.pids.map(|pids| Ok(u64::from(pids))),
            8,
        );
        errors
    }
}

impl Rules for Runner {
    fn validate(&self, _old: Option<&Self>) -> Vec<FieldError> {
        Vec::new()
    }
}

/// Whether `name` is a DNS-1123 subdomain, as names of objects are.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 253 && name.split('.').all(is_label)
}

/// Whether `label` is a DNS-1123 label, as names of namespaces and environments are.
#[must_use]
pub fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

/// Whether `value` may be the value of a label: empty, or up to 63 letters, digits, `-`, `_`, `.`,
/// beginning and ending with a letter or digit.
#[must_use]
pub fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let ends = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        && ends(bytes.first())
        && ends(bytes.last())
}

/// Whether `key` may be the key of a label or annotation: a name, or `domain/name`.
#[must_use]
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_name) && !name.is_empty() && is_label_value(name)
}

#[cfg(test)]
mod tests;
