//! The environment's own process, as the image and the configuration would have it.
//!
//! PID 1 is the agent, seen as a process of `containerUser`. Beside it runs what the reference makes the
//! container's command: the start-up programs of Features, in order, then, with `overrideCommand:
//! false`, the image's own entrypoint and command. It runs as a task of the agent, once per start; its
//! output is in the log `container`. Its end does not end the environment.

use crate::agent;
use crate::failure::Failed;
use crate::record::{ImageRecord, Resolved};
use boatyard_devcontainer::Ulimits;
use boatyard_sandbox::spec::{ProcessLimit, Swap};
use boatyard_wire::{Class, Process};
use std::path::Path;

/// Name of the task and of its log.
const TASK: &str = "container";

/// Limits of the processor's time: they would end PID 1, so the agent gives them to what it starts.
const OF_TIME: [&str; 2] = ["cpu", "rttime"];

/// The agent's command line in any container.
pub(crate) fn agent_of<'a>(ulimits: impl IntoIterator<Item = &'a Ulimits>) -> Vec<String> {
    let mut argv = vec!["boatyard-agent".to_owned()];
    let limits = ulimits.into_iter().flatten();
    for (name, (soft, hard)) in limits.filter(|(name, _)| OF_TIME.contains(&name.as_str())) {
        // -1 is none.
        let bound =
            |value: i64| u64::try_from(value).map_or(String::new(), |some| some.to_string());
        let limit = format!("{name}={}:{}", bound(*soft), bound(*hard));
        argv.extend(["--limit".to_owned(), limit]);
    }
    argv
}

/// That of the environment's own.
pub(crate) fn agent<'a>(
    resolved: &Resolved,
    swap: Swap,
    ulimits: impl IntoIterator<Item = &'a Ulimits>,
) -> Vec<String> {
    let mut argv = agent_of(ulimits);
    let (uid, gid) = resolved.container_ids;
    if uid != 0 {
        let (uid, gid) = (Swap::other(swap.uid, uid), Swap::other(swap.gid, gid));
        argv.extend(["--user".to_owned(), format!("{uid}:{gid}")]);
    }
    argv
}

/// The command to start; None when there is nothing to.
fn command(resolved: &Resolved, image: &ImageRecord) -> Option<Vec<String>> {
    let entrypoints = &resolved.plan.entrypoints;
    let own: Vec<String> = if resolved.plan.override_command {
        Vec::new()
    } else {
        image.entrypoint.iter().chain(&image.cmd).cloned().collect()
    };
    if entrypoints.is_empty() && own.is_empty() {
        return None;
    }
    let mut argv = vec!["/bin/sh".to_owned(), "-c".to_owned()];
    // Without arguments the last line does nothing.
    argv.push(format!("{}\nexec \"$@\"", entrypoints.join("\n")));
    argv.push("container".to_owned());
    argv.extend(own);
    Some(argv)
}

/// Starts it, unless it was started already.
pub(crate) async fn start(
    socket: &Path,
    resolved: &Resolved,
    image: &ImageRecord,
) -> Result<(), Failed> {
    let Some(argv) = command(resolved, image) else {
        return Ok(());
    };
    let folder = image
        .working_dir
        .clone()
        .filter(|folder| !folder.is_empty());
    let process = Process {
        argv,
        cwd: Some(folder.unwrap_or_else(|| "/".to_owned())),
        user: resolved.container_user.clone(),
        class: Class::Sessions,
        ..Process::default()
    };
    match agent::begin(socket, TASK.to_owned(), process).await {
        Ok(()) => Ok(()),
        Err(agent::Error::Refused { message, .. }) => {
            tracing::info!(message, "the container's own command was not started");
            Ok(())
        }
        Err(error) => Err(Failed::transient(
            "AgentSilent",
            crate::failure::chain(&error),
        )),
    }
}

/// Limits of processes as a sandbox takes them: all but those of [`agent_of`].
pub(crate) fn limits(wanted: &Ulimits) -> Vec<ProcessLimit> {
    // -1 is none.
    let bound = |value: i64| u64::try_from(value).ok();
    let limit = |(name, (soft, hard)): (&String, &(i64, i64))| ProcessLimit {
        name: name.clone(),
        soft: bound(*soft),
        hard: bound(*hard),
    };
    let others = wanted
        .iter()
        .filter(|(name, _)| !OF_TIME.contains(&name.as_str()));
    others.map(limit).collect()
}
