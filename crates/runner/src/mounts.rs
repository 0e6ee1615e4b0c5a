//! The mounts of an environment, from its run plan.
//!
//! Host paths named by a devcontainer.json are opened with the owner's credentials; volumes and
//! the runner's own directories with the runner's. Nothing is opened here.

use crate::failure::Failed;
use crate::layout::{EnvironmentPaths, Layout, private_directory};
use crate::record::Resolved;
use crate::source;
use boatyard_api::environment::EnvironmentSpec;
use boatyard_devcontainer::{Mount as Wanted, MountKind, WorkspaceMount};
use boatyard_sandbox::spec::{Mount, MountIds, MountSource, User};
use std::path::{Path, PathBuf};

fn own(path: PathBuf, target: &str) -> Mount {
    Mount {
        source: MountSource::Host {
            path,
            ids: MountIds::Unshifted,
            open_as: None,
        },
        target: target.into(),
        read_only: false,
    }
}

/// Every mount, in order; `disk` is how much the environment may write, and a new volume.
pub(crate) fn plan(
    layout: &Layout,
    paths: &EnvironmentPaths,
    (namespace, disk): (&str, Option<u64>),
    spec: &EnvironmentSpec,
    resolved: &Resolved,
) -> Result<Vec<Mount>, Failed> {
    let namespace = Namespace {
        name: namespace,
        disk,
    };
    let mut mounts = vec![
        own(paths.nested("docker"), "/var/lib/docker"),
        own(paths.nested("containers"), "/var/lib/containers"),
        own(paths.logs(), boatyard_wire::LOG_DIRECTORY),
    ];
    let developer = |user: User| MountIds::Developer {
        outside_uid: user.uid,
        outside_gid: user.gid,
        inside_uid: resolved.remote_uid,
        inside_gid: resolved.remote_gid,
    };
    match &resolved.plan.workspace_mount {
        WorkspaceMount::Default { target } => {
            let source = match &spec.source.folder {
                Some(folder) => {
                    let user = source::owner(spec)?;
                    MountSource::Host {
                        path: folder.path.clone().into(),
                        ids: developer(user),
                        open_as: Some(user),
                    }
                }
                None => MountSource::Host {
                    path: paths.workspace(),
                    ids: MountIds::Unshifted,
                    open_as: None,
                },
            };
            mounts.push(Mount {
                source,
                target: target.into(),
                read_only: false,
            });
        }
        WorkspaceMount::Explicit(wanted) => {
            mounts.push(one(layout, paths, namespace, spec, wanted, &developer)?)
        }
        WorkspaceMount::None => {}
    }
    for wanted in &resolved.plan.mounts {
        mounts.push(one(layout, paths, namespace, spec, wanted, &developer)?);
    }
    Ok(mounts)
}

/// The mounts of a service beside the environment's own, which has `namespace` and `name`.
pub(crate) fn service(
    layout: &Layout,
    paths: &EnvironmentPaths,
    ((namespace, disk), name): ((&str, Option<u64>), &str),
    spec: &EnvironmentSpec,
    resolved: &Resolved,
    wanted: &[Wanted],
) -> Result<Vec<Mount>, Failed> {
    let namespace = Namespace {
        name: namespace,
        disk,
    };
    let developer = |user: User| MountIds::Developer {
        outside_uid: user.uid,
        outside_gid: user.gid,
        inside_uid: resolved.remote_uid,
        inside_gid: resolved.remote_gid,
    };
    let mut mounts = vec![own(paths.logs(), boatyard_wire::LOG_DIRECTORY)];
    for wanted in wanted {
        if (wanted.kind, &wanted.source) == (MountKind::Volume, &None) {
            let key = format!("{name}:{}", wanted.target);
            mounts.push(Mount {
                source: volume(paths.anonymous_volume(&key))?,
                target: wanted.target.clone().into(),
                read_only: wanted.read_only,
            });
        } else {
            mounts.push(one(layout, paths, namespace, spec, wanted, &developer)?);
        }
    }
    Ok(mounts)
}

/// Where named volumes are looked for, and what a new one may hold.
#[derive(Clone, Copy)]
struct Namespace<'a> {
    name: &'a str,
    disk: Option<u64>,
}

fn one(
    layout: &Layout,
    paths: &EnvironmentPaths,
    namespace: Namespace<'_>,
    spec: &EnvironmentSpec,
    wanted: &Wanted,
    developer: &dyn Fn(User) -> MountIds,
) -> Result<Mount, Failed> {
    let invalid = |why: String| {
        Failed::lasting(
            "MountInvalid",
            format!("the mount at {} {why}", wanted.target),
        )
    };
    let source = match (wanted.kind, &wanted.source) {
        (MountKind::Tmpfs, _) => {
            let number = |key: &str, radix: u32| {
                wanted
                    .options
                    .get(key)
                    .map(|text| u64::from_str_radix(text, radix))
                    .transpose()
            };
            let size = number("tmpfs-size", 10)
                .map_err(|_| invalid("has an unreadable tmpfs-size".into()))?;
            let mode = number("tmpfs-mode", 8)
                .map_err(|_| invalid("has an unreadable tmpfs-mode".into()))?;
            MountSource::Tmpfs {
                size,
                mode: mode
                    .and_then(|mode| u32::try_from(mode).ok())
                    .unwrap_or(0o1777),
            }
        }
        (MountKind::Bind, source) => match (&wanted.in_workspace, &spec.source.folder) {
            // The workspace is a directory of the runner's: the part of it that is meant.
            (Some(part), None) => MountSource::Host {
                path: within(&paths.workspace(), part).ok_or_else(|| {
                    invalid(format!("names {part:?}, which leads out of the workspace"))
                })?,
                ids: MountIds::Unshifted,
                open_as: None,
            },
            _ => {
                let user = source::owner(spec)?;
                let path = source.clone().unwrap_or_default();
                if !Path::new(&path).is_absolute() {
                    return Err(invalid(format!(
                        "has the source {path:?}; give an absolute host path"
                    )));
                }
                MountSource::Host {
                    path: path.into(),
                    ids: developer(user),
                    open_as: Some(user),
                }
            }
        },
        (MountKind::Volume, Some(name)) => {
            let grammar = !name.is_empty()
                && name.len() <= 128
                && !name.starts_with('.')
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            if !grammar {
                return Err(invalid(format!(
                    "names the volume {name:?}; use letters, digits, '.', '_' and '-'"
                )));
            }
            let path = layout.volumes().join(namespace.name).join(name);
            crate::disk::volumes::ready(&path, namespace.disk)?;
            volume(path)?
        }
        (MountKind::Volume, None) => volume(paths.anonymous_volume(&wanted.target))?,
    };
    Ok(Mount {
        source,
        target: wanted.target.clone().into(),
        read_only: wanted.read_only,
    })
}

fn volume(path: PathBuf) -> Result<MountSource, Failed> {
    private_directory(&path).map_err(|error| Failed::disk(&path, &error))?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, open).map_err(|error| Failed::disk(&path, &error))?;
    Ok(MountSource::Host {
        path,
        ids: MountIds::Unshifted,
        open_as: None,
    })
}

/// `part` below `root`, unless it or a symbolic link on the way leads out.
fn within(root: &Path, part: &str) -> Option<PathBuf> {
    let root = root.canonicalize().ok()?;
    let path = root.join(part).canonicalize().ok()?;
    path.starts_with(&root).then_some(path)
}
