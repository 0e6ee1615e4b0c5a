//! `stop`, `start`, `restart`, `rm`: changes of what is wanted, and waiting until it is so.

use crate::api;
use crate::args::{Global, Names, Rm};
use crate::connect;
use crate::failure::Failure;
use boatyard_api::Environment;
use boatyard_api::environment::{Phase, WantedState};
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

async fn environments(global: &Global) -> Result<Api<Environment>, Failure> {
    Ok(api::environments(
        &connect::endpoint(global).await?.kube(),
        &global.namespace,
    ))
}

async fn change(
    global: &Global,
    names: &Names,
    spec: &Value,
    wanted: WantedState,
    done: &str,
) -> Result<(), Failure> {
    let api = environments(global).await?;
    for name in &names.names {
        api::environment(&api, name).await?;
        api::patch_spec(&api, name, spec).await?;
    }
    if names.no_wait {
        return Ok(());
    }
    for name in &names.names {
        let reached = api::follow(&api, name, |object| match (wanted, api::phase(object)) {
            (WantedState::Running, Some(Phase::Running))
            | (WantedState::Stopped, Some(Phase::Stopped)) => Some(Ok(())),
            (WantedState::Running, Some(Phase::Failed)) => Some(Err(Failure::new(format!(
                "{name}: {}",
                api::message(object)
            )))),
            _ => api::superseded(object, wanted).map(Err),
        });
        match reached.await? {
            Some(outcome) => outcome?,
            None => {
                return Err(Failure::new(format!(
                    "environment {name} was deleted meanwhile"
                )));
            }
        }
        crate::output::print(&format!("environment {name} {done}\n"))?;
    }
    Ok(())
}

/// Stops environments.
pub(crate) async fn stop(global: &Global, names: &Names) -> Result<(), Failure> {
    change(
        global,
        names,
        &json!({"state": "Stopped"}),
        WantedState::Stopped,
        "stopped",
    )
    .await
}

/// Starts environments.
pub(crate) async fn start(global: &Global, names: &Names) -> Result<(), Failure> {
    change(
        global,
        names,
        &json!({"state": "Running"}),
        WantedState::Running,
        "running",
    )
    .await
}

/// The value of `restartedAt` for a restart asked for now.
#[allow(
    clippy::disallowed_methods,
    reason = "the time of asking is the user's clock"
)]
pub(crate) fn asked_now() -> String {
    jiff::Timestamp::now().to_string()
}

/// Restarts environments.
pub(crate) async fn restart(global: &Global, names: &Names) -> Result<(), Failure> {
    change(
        global,
        names,
        &json!({"state": "Running", "restartedAt": asked_now()}),
        WantedState::Running,
        "running",
    )
    .await
}

/// Deletes environments.
pub(crate) async fn remove(global: &Global, rm: &Rm) -> Result<(), Failure> {
    let api = environments(global).await?;
    let mut found = Vec::new();
    for name in &rm.names.names {
        match api.get_opt(name).await? {
            Some(_) => found.push(name),
            None if rm.force => {}
            None => drop(api::environment(&api, name).await?),
        }
    }
    if !rm.force && std::io::stdin().is_terminal() && !found.is_empty() {
        let list = found
            .iter()
            .map(|name| name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        eprint!("Delete {list} and everything written in it? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            return Err(Failure::new("nothing was deleted"));
        }
    }
    for name in &found {
        api.delete(name, &DeleteParams::default()).await?;
    }
    if rm.names.no_wait {
        return Ok(());
    }
    for name in found {
        api::follow(&api, name, |_| None::<()>).await?;
        crate::output::print(&format!("environment {name} deleted\n"))?;
    }
    Ok(())
}
