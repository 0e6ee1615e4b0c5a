//! A service's mounts: volumes, tmpfs, secrets and configs.

use super::plan::{Content, Service};
use super::read::Reader;
use super::service::Shared;
use super::yaml::{Node, Value};
use crate::error::Error;
use crate::mounts::{Mount, MountKind, absolute, within};
use std::collections::BTreeMap;

/// Reads all of them into the service; the last of several with one target counts.
pub(super) fn all(
    reader: &Reader<'_>,
    shared: &Shared<'_>,
    at: &str,
    node: &Node,
    service: &mut Service,
) -> Result<(), Error> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut add = |mount: Mount| {
        mounts.retain(|there| there.target != mount.target);
        mounts.push(mount);
    };
    let part = |name: &str| node.get(name).filter(|part| !part.is_null());
    if let Some(volumes) = part("volumes") {
        let path = format!("{at}.volumes");
        for (number, volume) in reader.list(&path, volumes)?.iter().enumerate() {
            add(one(reader, shared, &format!("{path}[{number}]"), volume)?);
        }
    }
    if let Some(tmpfs) = part("tmpfs") {
        let path = format!("{at}.tmpfs");
        for (number, text) in reader.texts(&path, tmpfs)?.iter().enumerate() {
            let (target, options) = text.split_once(':').unwrap_or((text, ""));
            let path = format!("{path}[{number}]");
            let mut mount = Mount {
                kind: MountKind::Tmpfs,
                source: None,
                target: target_of(reader, &path, tmpfs, target)?,
                read_only: false,
                in_workspace: None,
                options: BTreeMap::new(),
            };
            for option in options.split(',') {
                match option.split_once('=') {
                    Some(("size", size)) => {
                        let node = Node::text(tmpfs.place, size);
                        let size = reader.bytes(&path, &node)?;
                        mount.options.insert("tmpfs-size".into(), size.to_string());
                    }
                    Some(("mode", mode)) => {
                        mount
                            .options
                            .insert("tmpfs-mode".into(), octal(reader, &path, tmpfs, mode)?);
                    }
                    None if option == "ro" => mount.read_only = true,
                    _ => {}
                }
            }
            add(mount);
        }
    }
    for kind in ["configs", "secrets"] {
        let Some(wanted) = part(kind) else { continue };
        let path = format!("{at}.{kind}");
        for (number, item) in reader.list(&path, wanted)?.iter().enumerate() {
            let path = format!("{path}[{number}]");
            match given(reader, shared, kind, &path, item)? {
                Given::Mount(mount) => add(mount),
                Given::Content(content) => {
                    service
                        .contents
                        .retain(|there| there.target != content.target);
                    service.contents.push(content);
                }
            }
        }
    }
    service.mounts = mounts;
    Ok(())
}

fn target_of(reader: &Reader<'_>, path: &str, node: &Node, text: &str) -> Result<String, Error> {
    absolute(text).ok_or_else(|| {
        let what = format!(
            "has the target {:?}, which is no absolute path below /",
            crate::config::shown(text)
        );
        reader.invalid(path, node, &what)
    })
}

fn octal(reader: &Reader<'_>, path: &str, node: &Node, text: &str) -> Result<String, Error> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .map(|mode| format!("{mode:o}"))
        .ok_or_else(|| reader.invalid(path, node, "has no octal mode such as 1777"))
}

/// One volume in the long form.
fn one(reader: &Reader<'_>, shared: &Shared<'_>, path: &str, node: &Node) -> Result<Mount, Error> {
    let mut mount = Mount {
        kind: MountKind::Volume,
        source: None,
        target: String::new(),
        read_only: false,
        in_workspace: None,
        options: BTreeMap::new(),
    };
    for entry in reader.map(path, node)? {
        let here = format!("{path}.{}", entry.key);
        let value = &entry.node;
        if value.is_null() {
            continue;
        }
        match entry.key.as_str() {
            "type" => {
                mount.kind = match reader.text(&here, value)?.as_str() {
                    "bind" => MountKind::Bind,
                    "volume" => MountKind::Volume,
                    "tmpfs" => MountKind::Tmpfs,
                    _ => {
                        let what = "is not supported; use bind, volume or tmpfs";
                        return Err(reader.invalid(&here, value, what));
                    }
                }
            }
            "source" => mount.source = Some(reader.filled(&here, value)?),
            "target" => mount.target = target_of(reader, path, value, &reader.text(&here, value)?)?,
            "read_only" => mount.read_only = reader.bool(&here, value)?,
            "consistency" => {}
            "bind" => {
                for option in reader.map(&here, value)? {
                    let propagation = option.node.scalar().unwrap_or_default();
                    match option.key.as_str() {
                        "create_host_path" | "selinux" => {}
                        "propagation" if matches!(propagation.as_str(), "rprivate" | "private") => {
                        }
                        _ => {
                            let path = format!("{here}.{}", option.key);
                            return Err(reader.refuse(&path, option, "leave it out"));
                        }
                    }
                }
            }
            "volume" => {
                for option in reader.map(&here, value)? {
                    let path = format!("{here}.{}", option.key);
                    match option.key.as_str() {
                        "labels" => {}
                        "nocopy" => {
                            if reader.bool(&path, &option.node)? {
                                mount.options.insert("volume-nocopy".into(), "true".into());
                            }
                        }
                        _ => {
                            return Err(reader.refuse(&path, option, "mount a volume of its own"));
                        }
                    }
                }
            }
            "tmpfs" => {
                for option in reader.map(&here, value)? {
                    let path = format!("{here}.{}", option.key);
                    match option.key.as_str() {
                        "size" => {
                            let size = reader.bytes(&path, &option.node)?;
                            mount.options.insert("tmpfs-size".into(), size.to_string());
                        }
                        "mode" => {
                            let text = reader.text(&path, &option.node)?;
                            mount.options.insert(
                                "tmpfs-mode".into(),
                                octal(reader, &path, &option.node, &text)?,
                            );
                        }
                        _ => return Err(reader.unknown(&path, option, &["size", "mode"])),
                    }
                }
            }
            "image" => return Err(reader.refuse(&here, entry, "use bind, volume or tmpfs")),
            key if key.starts_with("x-") => {}
            _ => {
                let known = [
                    "type",
                    "source",
                    "target",
                    "read_only",
                    "bind",
                    "volume",
                    "tmpfs",
                ];
                return Err(reader.unknown(&here, entry, &known));
            }
        }
    }
    if mount.target.is_empty() {
        return Err(reader.invalid(path, node, "has no target"));
    }
    match mount.kind {
        MountKind::Bind => {
            let source = mount.source.as_deref();
            let Some(source) = source.filter(|source| source.starts_with('/')) else {
                return Err(reader.invalid(path, node, "has no source; name a path"));
            };
            mount.in_workspace = within(source, shared.workspace);
        }
        MountKind::Volume => {
            if let Some(name) = mount.source.take() {
                mount.source = Some(volume(reader, shared, path, node, &name)?);
            }
        }
        MountKind::Tmpfs if mount.source.is_some() => {
            return Err(reader.invalid(path, node, "is a tmpfs with a source; leave it out"));
        }
        MountKind::Tmpfs => {}
    }
    let of = match mount.kind {
        MountKind::Tmpfs => "tmpfs-",
        MountKind::Volume => "volume-",
        MountKind::Bind => "bind-",
    };
    mount.options.retain(|option, _| option.starts_with(of));
    Ok(mount)
}

/// The whole name of a named volume.
fn volume(
    reader: &Reader<'_>,
    shared: &Shared<'_>,
    path: &str,
    node: &Node,
    name: &str,
) -> Result<String, Error> {
    let Some(entry) = shared.root.get("volumes").and_then(|all| all.entry(name)) else {
        let what = format!(
            "there is no volume {:?}; name it under volumes",
            crate::config::shown(name)
        );
        return Err(reader.missing(node, what));
    };
    let at = format!("volumes.{name}");
    let mut full = format!("{}_{name}", shared.project);
    let mut external = false;
    let mut named = None;
    for part in reader.map(&at, &entry.node)? {
        let here = format!("{at}.{}", part.key);
        if part.node.is_null() {
            continue;
        }
        match part.key.as_str() {
            "name" => named = Some(reader.filled(&here, &part.node)?),
            "external" => match &part.node.value {
                Value::Map(_) => {
                    external = true;
                    if let Some(older) = part.node.get("name") {
                        named = Some(reader.filled(&here, older)?);
                    }
                }
                _ => external = reader.bool(&here, &part.node)?,
            },
            "driver" if part.node.scalar().as_deref() == Some("local") => {}
            "driver_opts" if reader.map(&here, &part.node)?.is_empty() => {}
            "driver" | "driver_opts" => {
                return Err(reader.refuse(
                    &here,
                    part,
                    "leave it out; volumes are the runner's own",
                ));
            }
            "labels" => {}
            key if key.starts_with("x-") => {}
            _ => {
                return Err(reader.unknown(&here, part, &["name", "external", "driver", "labels"]));
            }
        }
    }
    if let Some(named) = named {
        full = named;
    } else if external {
        full = name.to_owned();
    }
    let good = full.len() <= 128
        && full.starts_with(|first: char| first.is_ascii_alphanumeric())
        && full
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if good {
        Ok(full)
    } else {
        let what = format!(
            "has the source {:?}, which is no volume name (letters, digits, '.', '_' and '-')",
            crate::config::shown(&full)
        );
        Err(reader.invalid(path, node, &what))
    }
}

enum Given {
    Mount(Mount),
    Content(Content),
}

/// A secret or config: the caller's file, or a content.
fn given(
    reader: &Reader<'_>,
    shared: &Shared<'_>,
    kind: &str,
    path: &str,
    item: &Node,
) -> Result<Given, Error> {
    for entry in reader.map(path, item)? {
        let known = ["source", "target", "uid", "gid", "mode"];
        if !known.contains(&entry.key.as_str()) && !entry.key.starts_with("x-") {
            return Err(reader.unknown(&format!("{path}.{}", entry.key), entry, &known));
        }
    }
    let part = |name: &str| item.get(name).and_then(Node::scalar);
    let source = part("source").ok_or_else(|| reader.invalid(path, item, "has no source"))?;
    let Some(defined) = shared.root.get(kind).and_then(|all| all.get(&source)) else {
        let what = format!("there is no {source:?}; name it under {kind}");
        return Err(reader.missing(item, what));
    };
    let folder = if kind == "secrets" {
        "/run/secrets/"
    } else {
        "/"
    };
    let target = part("target").unwrap_or_else(|| source.clone());
    let target = if target.starts_with('/') {
        target
    } else {
        format!("{folder}{target}")
    };
    let target = target_of(reader, path, item, &target)?;
    let of = |name: &str| defined.get(name).and_then(Node::scalar);
    if let Some(file) = of("file") {
        let in_workspace = within(&file, shared.workspace);
        return Ok(Given::Mount(Mount {
            kind: MountKind::Bind,
            source: Some(file),
            target,
            read_only: true,
            in_workspace,
            options: BTreeMap::new(),
        }));
    }
    let text = if let Some(name) = of("environment") {
        shared.variables.get(&name).cloned().ok_or_else(|| {
            reader.missing(
                defined,
                format!("{kind}.{source} needs the variable {name}, which is not set"),
            )
        })?
    } else if let Some(text) = of("content") {
        text
    } else {
        let what =
            format!("{kind}.{source} has no file, environment or content that can be had here");
        return Err(reader.missing(defined, what));
    };
    let number = |name: &str, otherwise: u32| match item.get(name) {
        None => Ok(otherwise),
        Some(node) => u32::try_from(reader.number(path, node)?)
            .map_err(|_| reader.invalid(path, node, "is too large")),
    };
    let mode = match part("mode") {
        None => 0o444,
        Some(text) => {
            let digits = octal(reader, path, item, &text)?;
            u32::from_str_radix(&digits, 8).unwrap_or(0o444)
        }
    };
    Ok(Given::Content(Content {
        target,
        text,
        mode,
        uid: number("uid", 0)?,
        gid: number("gid", 0)?,
    }))
}
