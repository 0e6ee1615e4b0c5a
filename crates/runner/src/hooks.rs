//! Lifecycle commands: which there are, and running one through the agent.
//!
//! A command runs as a durable task of the agent, so that a restarted runner finds it running or
//! done; what it prints goes to its log and to who listens. The object form's commands run side by side;
//! the hook fails when one of them does. That it succeeded is the caller's to record, afterwards.

use crate::agent;
use crate::failure::Failed;
use crate::lifecycle::{Output, Printer};
use crate::record::Record;
use boatyard_devcontainer::{Command, HookName, RunPlan};
use boatyard_link::lifecycle::{Dotfiles, Reply};
use boatyard_plan::environment::Hook;
use boatyard_wire::{Class, Process};
use std::collections::BTreeMap;
use std::path::Path;

/// Most of a command that is shown, in characters.
const SHOWN: usize = 1000;

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

/// Whether a hook need not run again in this start.
pub(crate) fn done(record: &Record, hook: Hook) -> bool {
    let of = record.hooks.get(hook.name());
    of.is_some_and(|of| hook.once() || *of == record.incarnation)
}

/// Lifecycle commands that are defined and not done in this start, but those of attaching.
pub(crate) fn undone(record: &Record) -> Vec<Hook> {
    let plan = record.resolved.as_ref().map(|resolved| &resolved.plan);
    let mut hooks = plan.map(defined).unwrap_or_default();
    hooks.retain(|hook| *hook != Hook::PostAttach && !done(record, *hook));
    hooks
}

/// One run of a hook.
pub(crate) struct Runner<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) plan: &'a RunPlan,
    pub(crate) user: &'a str,
    pub(crate) env: &'a BTreeMap<String, Option<String>>,
    /// Variables whose values no output shows.
    pub(crate) masked: Vec<String>,
    /// Number of the run.
    pub(crate) run: u64,
    /// Who listens.
    pub(crate) output: Output,
}

impl Runner<'_> {
    /// Runs every command of one hook.
    pub(crate) async fn run(&self, wanted: Hook) -> Result<String, Failed> {
        let mut count = 0;
        for (step, defined) in self
            .plan
            .lifecycle
            .iter()
            .filter(|defined| hook(defined.name) == Some(wanted))
            .enumerate()
        {
            count += defined.commands.len();
            self.step(wanted, step, &defined.commands).await?;
        }
        Ok(if count == 1 {
            "done".to_owned()
        } else {
            format!("{count} commands done")
        })
    }

    /// Installs dotfiles, from the home directory.
    pub(crate) async fn dotfiles(&self, dotfiles: &Dotfiles) -> Result<String, Failed> {
        let command = Command {
            name: None,
            argv: crate::dotfiles::command(dotfiles),
            origin: dotfiles.repository.clone(),
        };
        self.step(Hook::Dotfiles, 0, &[command]).await?;
        Ok(dotfiles.repository.clone())
    }

    /// Runs the commands of one definition side by side.
    async fn step(&self, wanted: Hook, step: usize, commands: &[Command]) -> Result<(), Failed> {
        let tasks = commands.iter().enumerate().map(|(number, command)| {
            let name = task_name(wanted, step, number, command.name.as_deref());
            async move { (self.command(wanted, command, name.clone()).await, name) }
        });
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

    async fn command(
        &self,
        wanted: Hook,
        command: &Command,
        task: String,
    ) -> Result<agent::Ended, agent::Error> {
        let cwd = (wanted != Hook::Dotfiles).then(|| self.plan.workspace_folder.clone());
        let process = Process {
            argv: command.argv.clone(),
            env: self.env.clone(),
            cwd,
            user: Some(self.user.to_owned()),
            class: Class::Builds,
            masked: self.masked.clone(),
            ..Process::default()
        };
        let hook = wanted.name().to_owned();
        let mut output = self.output.clone();
        let shown = match (wanted, command.argv.as_slice()) {
            (Hook::Dotfiles, _) => command.origin.clone(),
            (_, [shell, flag, script]) if shell == "/bin/sh" && flag == "-c" => script.clone(),
            (_, argv) => argv.join(" "),
        };
        output
            .tell(Reply::Begin {
                hook: hook.clone(),
                origin: command.origin.clone(),
                name: command.name.clone(),
                command: shown.chars().take(SHOWN).collect(),
            })
            .await;
        let mut printer = Printer::new(output, command.name.as_deref());
        let ended = agent::task(self.socket, task, self.run, process, &mut printer).await;
        let code = match &ended {
            Ok(ended) => ended.code,
            Err(agent::Error::Refused { reason, .. }) if reason == "notFound" => 127,
            Err(agent::Error::Refused { reason, .. }) if reason == "permissionDenied" => 126,
            Err(_) => 125,
        };
        let name = command.name.clone();
        printer.end(Reply::End { hook, name, code }).await;
        ended
    }
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
