//! Lifecycle commands: which there are, and running one through the agent.
//!
//! A command runs as a durable task of the agent, so that a restarted runner finds it running or
//! done. The object form's commands run side by side; the hook fails when one of them does.

use crate::agent;
use crate::failure::Failed;
use boatyard_devcontainer::{HookName, RunPlan};
use boatyard_plan::environment::Hook;
use boatyard_wire::{Class, Process};
use std::collections::BTreeMap;
use std::path::Path;

/// The specification's name as the plan's; None for `initializeCommand`, which runs at the caller's.
pub(crate) fn hook(name: HookName) -> Option<Hook> {
    match name {
        HookName::Initialize => None,
        HookName::OnCreate => Some(Hook::OnCreate),
        HookName::UpdateContent => Some(Hook::UpdateContent),
        HookName::PostCreate => Some(Hook::PostCreate),
        HookName::PostStart => Some(Hook::PostStart),
        HookName::PostAttach => Some(Hook::PostAttach),
    }
}

/// Which lifecycle commands a plan defines, in order.
pub(crate) fn defined(plan: &RunPlan) -> Vec<Hook> {
    let named = |wanted: Hook| {
        plan.lifecycle
            .iter()
            .any(|defined| hook(defined.name) == Some(wanted) && !defined.commands.is_empty())
    };
    Hook::ALL.into_iter().filter(|hook| named(*hook)).collect()
}

/// Runs every command of one hook.
pub(crate) async fn run(
    socket: &Path,
    plan: &RunPlan,
    wanted: Hook,
    user: &str,
    env: &BTreeMap<String, Option<String>>,
) -> Result<String, Failed> {
    let mut count = 0;
    for (step, defined) in plan
        .lifecycle
        .iter()
        .filter(|defined| hook(defined.name) == Some(wanted))
        .enumerate()
    {
        count += defined.commands.len();
        run_step(socket, plan, wanted, step, &defined.commands, user, env).await?;
    }
    Ok(if count == 1 {
        "done".to_owned()
    } else {
        format!("{count} commands done")
    })
}

/// Runs the commands of one definition side by side.
async fn run_step(
    socket: &Path,
    plan: &RunPlan,
    wanted: Hook,
    step: usize,
    commands: &[boatyard_devcontainer::Command],
    user: &str,
    env: &BTreeMap<String, Option<String>>,
) -> Result<(), Failed> {
    let mut tasks = Vec::new();
    for (number, command) in commands.iter().enumerate() {
        let name = task_name(wanted, step, number, command.name.as_deref());
        let process = Process {
            argv: command.argv.clone(),
            env: env.clone(),
            cwd: Some(plan.workspace_folder.clone()),
            user: Some(user.to_owned()),
            class: Class::Builds,
            ..Process::default()
        };
        tasks.push(async move { (agent::task(socket, name.clone(), process).await, name) });
    }
    for (ended, name) in futures::future::join_all(tasks).await {
        let reason = format!("{}Failed", capitalized(wanted.name()));
        let ended = ended.map_err(|error| {
            Failed::lasting(
                &reason,
                format!("{} could not be run: {error}", wanted.name()),
            )
        })?;
        if ended.code != 0 {
            let tail = String::from_utf8_lossy(&ended.tail);
            let last = tail
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("it printed nothing")
                .trim();
            let message = format!(
                "{} exited with code {}: {last} (whole output: boatyard logs; mend it and run `boatyard restart`; log {name})",
                wanted.name(),
                ended.code
            );
            return Err(Failed::lasting(&reason, message));
        }
    }
    Ok(())
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

/// The agent's name of a command: `postcreatecommand`, or with its place and key in the object form.
fn task_name(hook: Hook, step: usize, number: usize, key: Option<&str>) -> String {
    let mut stem = hook.name().to_ascii_lowercase();
    if step > 0 {
        stem = format!("{stem}.{step}");
    }
    let Some(key) = key else { return stem };
    let key: String = key
        .to_ascii_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .take(24)
        .collect();
    format!("{stem}.{number}-{key}")
}

#[cfg(test)]
mod tests {
    //! Task names stay in the agent's grammar.
    use super::*;

    #[test]
    fn task_names_are_in_the_agents_grammar() {
        assert_eq!(task_name(Hook::PostCreate, 0, 0, None), "postcreatecommand");
        let name = task_name(
            Hook::OnCreate,
            1,
            3,
            Some("Install: npm/Déps & a very long key that goes on"),
        );
        assert!(
            name.len() <= 64
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b)),
            "{name}"
        );
    }
}
