//! What sessions start with: user, folder, and the variables of the user's shell.
//!
//! `userEnvProbe` runs the user's shell once per start and takes over what its start-up files
//! export. In a fresh environment of an image without lifecycle commands the result depends on
//! image, user and probe alone and is taken from a cache. A probe that fails costs its variables
//! and a warning, never the start.

use crate::agent;
use crate::failure::Failed;
use crate::record::Record;
use crate::steps::record;
use crate::worker::Worker;
use boatyard_api::Environment;
use boatyard_devcontainer::{RunPlan, UserEnvProbe};
use boatyard_wire::{Class, Process, Request, SessionDefaults};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest a user's start-up files may take.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);
/// Variables of the probe's own shell that say nothing about the user.
const NOT_TAKEN: [&str; 7] = ["_", "PWD", "OLDPWD", "SHLVL", "TERM", "HOSTNAME", "PS1"];

/// Prepares sessions of this incarnation.
pub(crate) async fn prepare(worker: &mut Worker, object: &Environment) -> Result<(), Failed> {
    let paths = worker.context.layout.environment(&worker.uid);
    let socket = paths.agent_socket();
    let cache = worker.context.layout.cache();
    let record = record(worker)?;
    let (incarnation, resolved) = (record.incarnation, record.resolved.clone());
    let resolved =
        resolved.ok_or_else(|| Failed::transient("Internal", "there is no run plan yet"))?;
    if object.spec.source.folder.is_none() && incarnation == 1 && resolved.remote_uid != 0 {
        give_workspace(
            &socket,
            &resolved.plan,
            resolved.remote_uid,
            resolved.remote_gid,
        )
        .await?;
    }
    let image = record.image.clone();
    if let Some(image) = &image {
        let mut resolved = resolved.clone();
        // The command of a Compose service is started among the others.
        resolved.plan.override_command |= record.compose.is_some();
        crate::container::start(&socket, &resolved, image).await?;
    }
    let cached = cache_file(&cache, record);
    let probed = match cached.as_deref().and_then(read_cache) {
        Some(probed) => probed,
        None => {
            let probed = probe(&socket, &resolved.plan, &resolved.remote_user).await;
            if let (Some(file), Some(probed)) = (&cached, &probed) {
                write_cache(file, probed);
            }
            probed.unwrap_or_default()
        }
    };
    let mut probed = probed;
    let mut own = crate::steps::parse_env(image.as_ref().map_or(&[], |image| &image.env));
    own.extend(resolved.plan.container_env.clone());
    if let (Some(shell), Some(own)) = (probed.get_mut("PATH"), own.get("PATH")) {
        *shell = joined(shell, own, resolved.remote_uid == 0);
    }
    let mut env: BTreeMap<String, Option<String>> = probed
        .into_iter()
        .map(|(name, value)| (name, Some(value)))
        .collect();
    env.extend(resolved.plan.remote_env.clone());
    let defaults = SessionDefaults {
        user: Some(resolved.remote_user.clone()),
        cwd: Some(resolved.plan.workspace_folder.clone()),
        env: env.clone(),
    };
    agent::tell(&socket, &Request::Defaults(defaults))
        .await
        .map_err(|error| Failed::transient("AgentSilent", crate::failure::chain(&error)))?;
    record.session_of = Some(incarnation);
    record.session_env = env;
    Ok(())
}

/// A login shell begins with a `PATH` of its own: what the image and its Features put there is
/// added in the image's order, each after what comes before it there. Folders of administrators
/// are for root.
fn joined(shell: &str, image: &str, root: bool) -> String {
    let mut path: Vec<&str> = shell.split(':').collect();
    let mut next = 0;
    for folder in image.split(':') {
        let administrators = folder.split('/').any(|part| part == "sbin");
        match path.iter().position(|known| *known == folder) {
            Some(at) => next = at + 1,
            None if administrators && !root => {}
            None => {
                path.insert(next, folder);
                next += 1;
            }
        }
    }
    path.join(":")
}

/// Variables of lifecycle commands and sessions.
pub(crate) fn variables(worker: &Worker) -> BTreeMap<String, Option<String>> {
    worker
        .record
        .as_ref()
        .map(|record| record.session_env.clone())
        .unwrap_or_default()
}

/// The probe's cache file, where a cache is right.
fn cache_file(cache: &Path, record: &Record) -> Option<PathBuf> {
    let (resolved, image) = (record.resolved.as_ref()?, record.image.as_ref()?);
    if record.incarnation != 1 || !resolved.plan.mounts.is_empty() {
        return None;
    }
    let key = format!(
        "{}\n{}\n{:?}\n{:?}",
        image.digest,
        resolved.remote_user,
        resolved.plan.user_env_probe,
        resolved.plan.container_env
    );
    Some(cache.join(format!(
        "userenv-{}.json",
        hex::encode(&Sha256::digest(key)[..16])
    )))
}

fn read_cache(file: &Path) -> Option<BTreeMap<String, String>> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn write_cache(file: &Path, probed: &BTreeMap<String, String>) {
    let fresh = file.with_extension("new");
    let written = serde_json::to_vec(probed)
        .map_err(std::io::Error::other)
        .and_then(|json| std::fs::write(&fresh, json))
        .and_then(|()| std::fs::rename(&fresh, file));
    if let Err(error) = written {
        tracing::info!(%error, "the probe's result was not cached");
    }
}

/// Runs the user's shell as the probe says; None when it fails.
async fn probe(socket: &Path, plan: &RunPlan, user: &str) -> Option<BTreeMap<String, String>> {
    let flags = match plan.user_env_probe {
        UserEnvProbe::None => return Some(BTreeMap::new()),
        UserEnvProbe::LoginShell => "-lc",
        UserEnvProbe::InteractiveShell => "-ic",
        UserEnvProbe::LoginInteractiveShell => "-lic",
    };
    let script = format!(
        "exec \"${{SHELL:-/bin/sh}}\" {flags} 'echo boatyard-probe; cat /proc/self/environ; echo boatyard-probe'"
    );
    let process = Process {
        argv: vec!["/bin/sh".into(), "-c".into(), script],
        user: Some(user.to_owned()),
        class: Class::Builds,
        ..Process::default()
    };
    let ended = tokio::time::timeout(PROBE_DEADLINE, agent::exec(socket, process))
        .await
        .ok()?
        .ok()?;
    let text = String::from_utf8_lossy(&ended.stdout);
    let environment = text.split("boatyard-probe\n").nth(1)?;
    let pairs = environment
        .split('\0')
        .filter_map(|pair| pair.split_once('='));
    Some(
        pairs
            .filter(|(name, _)| !NOT_TAKEN.contains(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    )
}

/// A clone was made by id 0; it belongs to the user who works in it.
async fn give_workspace(socket: &Path, plan: &RunPlan, uid: u32, gid: u32) -> Result<(), Failed> {
    let process = Process {
        argv: [
            "chown",
            "-R",
            "-h",
            &format!("{uid}:{gid}"),
            "--",
            &plan.workspace_folder,
        ]
        .map(str::to_owned)
        .to_vec(),
        user: Some("0".into()),
        class: Class::Builds,
        ..Process::default()
    };
    let ended = agent::exec(socket, process)
        .await
        .map_err(|error| Failed::transient("AgentSilent", crate::failure::chain(&error)))?;
    if ended.code == 0 {
        Ok(())
    } else {
        Err(Failed::lasting(
            "WorkspaceOwnership",
            format!(
                "giving {} to user id {uid} failed: {}",
                plan.workspace_folder,
                String::from_utf8_lossy(&ended.tail).trim()
            ),
        ))
    }
}

#[cfg(test)]
mod tests;
