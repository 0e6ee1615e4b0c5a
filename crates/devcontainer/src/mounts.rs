//! Mounts: the string form (the grammar of `docker run --mount`), the object form, and `-v`.
//!
//! Everything a mount may say is either taken over or refused by name: an option that is silently
//! dropped is a mount that behaves otherwise than its author believes. Opening the source with the
//! right credentials is the runner's.

use crate::config::Reader;
use crate::error::Error;
use crate::tree::{Node, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A named volume; without a source an anonymous one of the environment's own.
    Volume,
    /// Memory.
    Tmpfs,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute host path of a bind, name of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Absolute path inside, without `.` or `..`.
    pub target: String,
    /// Nothing can be written through it.
    #[serde(default)]
    pub read_only: bool,
    /// A bind whose source lies in the local workspace folder: its path relative to that folder,
    /// empty for the folder itself. Where the workspace is a clone, this is the part of it meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_workspace: Option<String>,
    /// `tmpfs-size` in bytes, `tmpfs-mode` in octal, `volume-nocopy`; nothing else occurs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// How the workspace gets into the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WorkspaceMount {
    /// The source, mounted at `target`.
    Default {
        /// Absolute path inside.
        target: String,
    },
    /// `workspaceMount` says so.
    Explicit(Mount),
    /// `workspaceMount` is empty: nothing is mounted.
    None,
}

/// Reads either form; `workspace` is the local workspace folder.
pub(crate) fn read(
    reader: &Reader<'_>,
    path: &str,
    node: &Node,
    workspace: Option<&str>,
) -> Result<Mount, Error> {
    let fields = match &node.value {
        Value::String(text) => {
            let fields = split(text).ok_or_else(|| {
                reader.invalid(path, node, "has a double quote that is not closed")
            })?;
            fields
                .into_iter()
                .map(|field| match field.split_once('=') {
                    Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
                    None => (field.trim().to_ascii_lowercase(), None),
                })
                .collect()
        }
        Value::Object(entries) => {
            let mut fields = Vec::new();
            for entry in entries {
                let place = format!("{path}.{}", entry.key);
                if !matches!(entry.key.as_str(), "type" | "source" | "target") {
                    return Err(reader.invalid_key(&place, entry, "is no part of a mount object, which has type, source and target; use the string form for more"));
                }
                fields.push((entry.key.clone(), Some(reader.string(&place, &entry.node)?)));
            }
            if !fields.iter().any(|(key, _)| key == "type") {
                return Err(reader.invalid(
                    path,
                    node,
                    "has no \"type\"; write \"bind\" or \"volume\"",
                ));
            }
            fields
        }
        _ => {
            return Err(reader.wrong(
                path,
                node,
                "a string such as \"source=cache,target=/cache,type=volume\" or an object",
            ));
        }
    };
    build(fields, workspace).map_err(|reason| reader.invalid(path, node, &reason))
}

/// Reads `-v [SOURCE:]TARGET[:OPTIONS]` of `runArgs`.
pub(crate) fn read_volume(text: &str, workspace: Option<&str>) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err("has too many colons; write SOURCE:TARGET or SOURCE:TARGET:ro".into()),
    };
    let bind = source.is_some_and(|source| source.starts_with(['/', '.', '~']));
    let mut fields = vec![
        (
            "type".to_owned(),
            Some(if bind { "bind" } else { "volume" }.to_owned()),
        ),
        ("target".to_owned(), Some(target.to_owned())),
    ];
    fields.extend(source.map(|source| ("source".to_owned(), Some(source.to_owned()))));
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => fields.push(("readonly".to_owned(), None)),
            // Labels and caching hints of other engines have nothing to act on here.
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "rprivate" | "private" => {}
            other => {
                return Err(format!(
                    "has the option {other:?}, which is not supported; use ro or rw"
                ));
            }
        }
    }
    build(fields, workspace)
}

fn build(fields: Vec<(String, Option<String>)>, workspace: Option<&str>) -> Result<Mount, String> {
    // Without a type the engine's `--mount` means a volume.
    let mut kind = MountKind::Volume;
    let (mut source, mut target, mut read_only) = (None, None, false);
    let mut options = BTreeMap::new();
    for (key, value) in fields {
        let flag = |value: Option<&str>| match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(format!(
                "has {key}={other:?}, which is neither true nor false"
            )),
        };
        let given = || {
            value
                .clone()
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("has {key:?} without a value"))
        };
        match key.as_str() {
            "type" => {
                kind = match given()?.to_ascii_lowercase().as_str() {
                    "bind" => MountKind::Bind,
                    "volume" => MountKind::Volume,
                    "tmpfs" => MountKind::Tmpfs,
                    other => {
                        return Err(format!(
                            "has the type {other:?}, which is not supported; use bind, volume or tmpfs"
                        ));
                    }
                }
            }
            // An empty volume source is an anonymous volume.
            "source" | "src" => source = value.clone().filter(|source| !source.is_empty()),
            "target" | "destination" | "dst" => target = Some(given()?),
            "readonly" | "ro" => read_only = flag(value.as_deref())?,
            "consistency" => match given()?.as_str() {
                "cached" | "consistent" | "delegated" | "default" => {}
                other => {
                    return Err(format!(
                        "has consistency={other:?}; it is cached, consistent or delegated"
                    ));
                }
            },
            "bind-propagation" => match given()?.as_str() {
                "rprivate" | "private" => {}
                other => {
                    return Err(format!(
                        "has bind-propagation={other:?}, which is not supported: mounts never travel between host and environment; leave it out"
                    ));
                }
            },
            "volume-nocopy" => {
                if flag(value.as_deref())? {
                    options.insert(key.clone(), "true".to_owned());
                }
            }
            "tmpfs-size" => {
                let bytes = size(&given()?).ok_or_else(|| {
                    "has a tmpfs-size that is no size; write bytes, or a number with k, m or g"
                        .to_owned()
                })?;
                options.insert(key.clone(), bytes.to_string());
            }
            "tmpfs-mode" => {
                let mode = given()?;
                let mode = u32::from_str_radix(&mode, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o7777)
                    .ok_or_else(|| {
                        format!("has tmpfs-mode={mode:?}, which is no octal mode such as 1777")
                    })?;
                options.insert(key.clone(), format!("{mode:o}"));
            }
            "" => return Err("has an empty part between its commas".into()),
            _ => {
                return Err(format!(
                    "has the option {key:?}, which is not supported; a mount has type, source, target, readonly and consistency"
                ));
            }
        }
    }
    let target = target.ok_or("has no target; add target=/path/inside")?;
    let target = absolute(&target).ok_or_else(|| format!("has the target {target:?}, which is no absolute path below /; write target=/path/inside"))?;
    match kind {
        MountKind::Bind => {
            let given = source
                .as_deref()
                .ok_or("has no source; add source=/path/on/the/host")?;
            if !given.starts_with('/') {
                return Err(format!(
                    "has the source {given:?}, which is no absolute path; start it with ${{localWorkspaceFolder}}/ for a path in the workspace"
                ));
            }
        }
        MountKind::Volume => {
            if let Some(name) = &source
                && !volume_name(name)
            {
                return Err(format!(
                    "has the source {name:?}, which is no volume name (letters, digits, '.', '_' and '-'); for a path add type=bind"
                ));
            }
        }
        MountKind::Tmpfs if source.is_some() => {
            return Err("is a tmpfs with a source; leave the source out".into());
        }
        MountKind::Tmpfs => {}
    }
    if kind != MountKind::Tmpfs && !options.is_empty() {
        return Err("has tmpfs options but another type; add type=tmpfs".into());
    }
    if target.contains('\0')
        || source
            .as_deref()
            .is_some_and(|source| source.contains('\0'))
    {
        return Err("holds a NUL character, which no path can".into());
    }
    let in_workspace = (kind == MountKind::Bind)
        .then(|| within(source.as_deref()?, workspace?))
        .flatten();
    Ok(Mount {
        kind,
        source,
        target,
        read_only,
        in_workspace,
        options,
    })
}

/// The target of a mount in its string form, as written.
pub(crate) fn target(text: &str) -> Option<String> {
    let fields = split(text)?;
    let mut fields = fields.iter().filter_map(|field| field.split_once('='));
    let target = fields.find(|(key, _)| matches!(key.trim(), "target" | "destination" | "dst"));
    target.map(|(_, value)| value.to_owned())
}

fn volume_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && name.len() <= 128
}

/// The path in its shortest form; None when it is relative or the root itself.
pub(crate) fn absolute(path: &str) -> Option<String> {
    let rest = path.strip_prefix('/')?;
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| format!("/{}", parts.join("/")))
}

/// `path` relative to `folder`, when it lies in it.
pub(crate) fn within(path: &str, folder: &str) -> Option<String> {
    let (path, folder) = (absolute(path)?, absolute(folder)?);
    let rest = path.strip_prefix(&folder)?;
    if rest.is_empty() {
        Some(String::new())
    } else {
        rest.strip_prefix('/').map(str::to_owned)
    }
}

fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
    let unit: u64 = match &lower[digits..] {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    lower[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

/// Splits one CSV record: commas inside double quotes do not part, `""` is a quote.
fn split(text: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}
