//! Where the code comes from: a folder of the host, a git repository, or nothing.
//!
//! Host folders are opened with their owner's credentials, never with the runner's. A repository
//! is cloned by git in a sandbox of its own: its filters, submodules and transports are untrusted.
//! Both are idempotent: a clone that was cut off is removed and made again.

mod files;

pub(crate) use files::{Files, is_lost};

use crate::beneath;
use crate::context::Context;
use crate::failure::Failed;
use crate::layout::{EnvironmentPaths, private_directory};
use crate::record::{Uid, id_base};
use boatyard_api::environment::{EnvironmentSpec, GitSource};
use boatyard_sandbox::Observed;
use boatyard_sandbox::spec::{
    Egress, Id, Init, Limits, Mount, MountIds, MountSource, Network, Root, Spec, User,
};
use std::path::{Path, PathBuf};

/// Where git clones to, inside its sandbox.
const CLONE_TARGET: &str = "/tmp/boatyard-clone";

/// Whose credentials open host paths of this environment.
pub(crate) fn owner(spec: &EnvironmentSpec) -> Result<User, Failed> {
    let owner = spec.owner.as_ref();
    let ids = owner.and_then(|owner| {
        Some(User {
            uid: owner.uid?,
            gid: owner.gid?,
        })
    });
    ids.ok_or_else(|| {
        Failed::lasting("SourceNotLocal", "host folders can be opened only for callers on this host's unix socket; use a git source instead")
    })
}

/// Puts the source in place, or checks that it is.
pub(crate) async fn fetch(
    context: &Context,
    uid: &Uid,
    spec: &EnvironmentSpec,
    slot: u32,
) -> Result<String, Failed> {
    if let Some(folder) = &spec.source.folder {
        let path = PathBuf::from(&folder.path);
        let user = owner(spec)?;
        check_folder(context, user, &path).await?;
        if folder.subfolder.is_some() {
            check_folder(context, user, Path::new(&folder.opened())).await?;
        }
        return Ok(format!("folder {}", folder.path));
    }
    let paths = context.layout.environment(uid);
    if let Some(git) = &spec.source.git {
        let egress = crate::egress::of_clone(context, spec, git).await?;
        clone(context, uid, &paths, git, (slot, egress)).await?;
        return Ok(format!("cloned {}", git.url));
    }
    private_directory(&paths.workspace())
        .map_err(|error| Failed::disk(&paths.workspace(), &error))?;
    Ok("empty workspace".to_owned())
}

/// Looks whether the owner may open a folder, by a process with the owner's rights: a file system
/// that hangs stops that one.
async fn check_folder(context: &Context, user: User, path: &Path) -> Result<(), Failed> {
    let (sandboxes, wanted) = (context.sandboxes.clone(), path.to_owned());
    let opened = context
        .blocking(move || sandboxes.view(user, &wanted).map(drop))
        .await;
    opened.map_err(|error| match &error {
        boatyard_sandbox::Error::OpenAs { detail, .. } if detail.contains("Not a directory") => {
            Failed::lasting(
                "SourceNotAFolder",
                format!(
                    "{} is not a folder; name the folder that holds the code",
                    path.display()
                ),
            )
        }
        boatyard_sandbox::Error::OpenAs { .. } => Failed::lasting(
            "SourceUnreadable",
            format!(
                "user id {} may not read the folder {}: {error}",
                user.uid,
                path.display()
            ),
        ),
        _ => Failed::internal(&error),
    })
}

const CLONE: &str = r#"
set -eu
export GIT_TERMINAL_PROMPT=0 HOME=/tmp
git -c advice.detachedHead=false clone --recurse-submodules -- "$1" "$3/clone" 2>&1
if [ -n "$2" ]; then cd "$3/clone"; git -c advice.detachedHead=false checkout "$2" -- 2>&1; git submodule update --init --recursive 2>&1; fi
"#;

/// The sandbox in which the source is cloned, and its state directory.
fn clone_run(context: &Context, uid: &Uid) -> Result<(Id, PathBuf), Failed> {
    let id = format!("{}-git", &uid.as_str()[..uid.as_str().len().min(36)]);
    let id = Id::try_from(id).map_err(|error| Failed::internal(&error))?;
    let state = context.layout.environment(uid).root().join("clone-run");
    Ok((id, state))
}

/// Ends a clone that nobody waits for any longer, of this runner or an earlier one, if there is any.
pub(crate) async fn end_clone(context: &Context, uid: &Uid) -> Result<(), Failed> {
    let (id, state) = clone_run(context, uid)?;
    if !state.exists() {
        return Ok(());
    }
    context.end_run(&id, &state).await?;
    std::fs::remove_dir_all(&state).map_err(|error| Failed::disk(&state, &error))
}

async fn clone(
    context: &Context,
    uid: &Uid,
    paths: &EnvironmentPaths,
    git: &GitSource,
    (slot, egress): (u32, Option<Egress>),
) -> Result<(), Failed> {
    let workspace = paths.workspace();
    let staging = paths.disk().join("clone");
    let disk = |error: std::io::Error| Failed::disk(&staging, &error);
    if workspace.exists() {
        return Ok(());
    }
    end_clone(context, uid).await?;
    if staging.exists() {
        std::fs::remove_dir_all(&staging).map_err(disk)?;
    }
    private_directory(&staging).map_err(disk)?;
    let (id, state) = clone_run(context, uid)?;
    private_directory(&state).map_err(disk)?;
    let reference = git.reference.clone().unwrap_or_default();
    let argv = ["sh", "-c", CLONE, "sh", &git.url, &reference, CLONE_TARGET];
    let spec = Spec {
        id: id.clone(),
        id_base: id_base(slot),
        state: state.clone(),
        hostname: "clone".into(),
        root: Root::Host,
        mounts: vec![Mount {
            source: MountSource::Host {
                path: staging.clone(),
                ids: MountIds::Unshifted,
                open_as: None,
            },
            target: CLONE_TARGET.into(),
            read_only: false,
        }],
        network: Network::Routed {
            address: crate::record::address(slot),
        },
        limits: Limits {
            cpu_millis: None,
            memory_bytes: Some(2 << 30),
            pids: Some(1024),
        },
        init: Init {
            executable: "/bin/sh".into(),
            argv: argv.map(str::to_owned).to_vec(),
            env: vec![
                "PATH=/usr/local/bin:/usr/bin:/bin".into(),
                "LANG=C.UTF-8".into(),
            ],
            listener: false,
        },
        nofile: None,
        rlimits: Vec::new(),
        devices: Vec::new(),
        company: None,
        swap: boatyard_sandbox::spec::Swap::default(),
        egress: egress.map(Box::new),
    };
    let ended = context.run_to_end(spec).await?;
    let log = beneath::read(&state, "console.log")
        .ok()
        .flatten()
        .unwrap_or_default();
    let _ = std::fs::remove_dir_all(&state);
    if !matches!(ended, Observed::Exited { code: Some(0), .. }) {
        let _ = std::fs::remove_dir_all(&staging);
        let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
        // Says only that something was said before it.
        let vague = |line: &&str| line.starts_with("fatal: Could not read from remote repository");
        let told = &lines[..lines.iter().position(vague).unwrap_or(lines.len())];
        let why = told
            .iter()
            .rev()
            .find(|line| line.starts_with("fatal:") || line.starts_with("error:"))
            .or_else(|| told.last());
        let why = why.map_or("git said nothing", |line| *line);
        return Err(Failed::transient(
            "CloneFailed",
            format!("cloning {} failed: {why}", git.url),
        ));
    }
    std::fs::rename(staging.join("clone"), &workspace).map_err(disk)?;
    std::fs::remove_dir(&staging).map_err(disk)
}
