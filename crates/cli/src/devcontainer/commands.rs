//! Lifecycle commands of an environment, as `up`, `set-up` and `run-user-commands` run them.
//!
//! Which run and which did before is the runner's to know; here is what the caller says beside,
//! and what they print, which goes to the log.

use super::args::{Dotfiles, RunUserCommands, SetUp};
use super::configuration;
use super::environment::{Engine, Identity, id};
use super::log::Log;
use super::result::{self, Problem};
use crate::args::Global;
use crate::failure::Failure;
use crate::hooks::{self, Event};
use boatyard_api::Environment;
use boatyard_link::lifecycle::{self, Outcome, Reply, Request};
use kube::ResourceExt;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Variables that only lifecycle commands get.
pub(crate) fn secrets(file: Option<&str>) -> Result<BTreeMap<String, String>, Problem> {
    let Some(file) = file else {
        return Ok(BTreeMap::new());
    };
    let bad = |error: &dyn std::fmt::Display| {
        Problem::told(&format!("{file}: {error}")).described("Failed to read/parse secrets")
    };
    let text = std::fs::read(file).map_err(|error| bad(&error))?;
    serde_json::from_slice(&text).map_err(|error| bad(&error))
}

/// Dotfiles, if a repository was named.
pub(crate) fn dotfiles(dotfiles: &Dotfiles) -> Option<lifecycle::Dotfiles> {
    Some(lifecycle::Dotfiles {
        repository: dotfiles.dotfiles_repository.clone()?,
        install_command: dotfiles.dotfiles_install_command.clone(),
        target_path: dotfiles.dotfiles_target_path.clone(),
    })
}

/// Runs what `request` asks for in a running environment.
pub(crate) async fn run(
    engine: &Engine,
    log: &Log,
    object: &Environment,
    request: &Request,
) -> Result<Outcome, Problem> {
    let name = object.name_any();
    let mut origins = BTreeMap::new();
    let shown = |event: Event<'_>| match event {
        Event::Output(bytes) => log.raw(bytes),
        Event::Reply(Reply::Begin {
            hook,
            origin,
            name,
            command,
        }) => {
            let of = name
                .as_ref()
                .map(|name| format!("{name} of "))
                .unwrap_or_default();
            log.info(&format!("Running {of}{hook} from {origin}: {command}"));
            origins.insert(hook.clone(), origin.clone());
        }
        Event::Reply(_) => {}
    };
    let ran = hooks::run(&engine.endpoint, &engine.namespace, &name, request, shown).await;
    let finished = ran.map_err(|failure| Problem::from(failure).of(id(object)))?;
    match finished.failed {
        None => Ok(finished.outcome),
        Some(failed) => {
            let origin = origins
                .get(&failed.hook)
                .map_or("devcontainer.json", String::as_str);
            let description = format!("{} from {origin} failed.", failed.hook);
            Err(Problem::told(&failed.message)
                .described(description)
                .of(id(object)))
        }
    }
}

/// The reference's word for how far it went.
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done | Outcome::Until | Outcome::Detached => "done",
        Outcome::SkipNonBlocking => "skipNonBlocking",
        Outcome::Prebuild => "prebuild",
        Outcome::StopForPersonalization => "stopForPersonalization",
    }
}

/// `run-user-commands`.
pub(crate) async fn run_user_commands(
    global: &Global,
    asked: &RunUserCommands,
) -> Result<ExitCode, Failure> {
    let log = Log::begin(&asked.logging);
    let outcome = async {
        let secrets = secrets(asked.secrets_file.as_deref())?;
        let located = configuration::of_found(&asked.found)?;
        let engine = Engine::reach(global).await?;
        let object = engine
            .existing(&Identity::found(&asked.found, located.as_ref()))
            .await?;
        let object = engine.started(&object).await?;
        let request = Request {
            prebuild: asked.prebuild,
            skip_non_blocking: asked.skip_non_blocking_commands,
            skip_post_attach: asked.skip_post_attach,
            stop_for_personalization: asked.stop_for_personalization,
            secrets,
            remote_env: configuration::pairs(&asked.remote_env),
            dotfiles: dotfiles(&asked.dotfiles),
            ..Request::default()
        };
        let outcome = run(&engine, &log, &object, &request).await?;
        Ok(Map::from_iter([(
            "result".to_owned(),
            Value::from(word(outcome)),
        )]))
    };
    result::print(&log, outcome.await)
}

/// `set-up`.
pub(crate) async fn set_up(global: &Global, asked: &SetUp) -> Result<ExitCode, Failure> {
    let log = Log::begin(&asked.logging);
    let outcome = async {
        let engine = Engine::reach(global).await?;
        let identity = Identity {
            id: Some(asked.container_id.clone()),
            ..Identity::default()
        };
        let object = engine.existing(&identity).await?;
        let object = engine.started(&object).await?;
        if asked.config.is_some() {
            log.warn("--config has no effect: an environment has its configuration");
        }
        if !asked.skip_post_create {
            let request = Request {
                skip_non_blocking: asked.skip_non_blocking_commands,
                remote_env: configuration::pairs(&asked.remote_env),
                dotfiles: dotfiles(&asked.dotfiles),
                ..Request::default()
            };
            run(&engine, &log, &object, &request).await?;
        }
        Ok(Map::new())
    };
    result::print(&log, outcome.await)
}
