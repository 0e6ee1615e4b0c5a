//! `exec`: a program in an environment, with this process's streams and its exit code.
//!
//! It gets what every session gets: the remote user, the variables of the user's shell and
//! `remoteEnv`. These are the configuration's as it was when the environment was made, and were
//! found out then. A configuration that says otherwise now, or another that is named, counts for
//! this one program: it is then run without the session's defaults.

use super::args::Exec;
use super::configuration::{self, Located};
use super::environment::{Engine, Identity};
use super::read;
use crate::args::Global;
use crate::failure::Failure;
use boatyard_api::Environment;
use boatyard_devcontainer::{bound, merge_path};
use boatyard_link::frames::{Channel, Incoming};
use boatyard_wire::{Process, Request};
use kube::ResourceExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Annotation of an environment: what its configuration said of sessions when it was made.
pub(crate) const SESSION: &str = "boatyard.dev/devcontainer-session";
/// Variables of the probe's own shell that say nothing about the user.
const NOT_TAKEN: [&str; 7] = ["_", "PWD", "OLDPWD", "SHLVL", "TERM", "HOSTNAME", "PS1"];
/// Most output of a probe.
const OUTPUT_LIMIT: usize = 1 << 20;

/// Runs the verb.
pub(crate) async fn run(global: &Global, exec: &Exec) -> Result<ExitCode, Failure> {
    let located = configuration::of_found(&exec.found)?;
    let engine = Engine::reach(global).await?;
    let identity = Identity::found(&exec.found, located.as_ref());
    let object = engine.existing(&identity).await?;
    let probe = exec.default_user_env_probe.as_str();
    let known = object.annotations().get(SESSION);
    let mut process = match &located {
        Some(located) if known.is_some_and(|known| *known != session(located, probe)) => {
            otherwise(&engine, &object, located, probe).await?
        }
        _ => Process::default(),
    };
    let given = configuration::pairs(&exec.remote_env);
    let given = given.into_iter().map(|(name, value)| (name, Some(value)));
    process.env.extend(given);
    process.argv.clone_from(&exec.command);
    process.stdin = true;
    let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let (endpoint, namespace) = (&engine.endpoint, &engine.namespace);
    crate::exec::attach(endpoint, namespace, &object.name_any(), process, tty).await
}

/// What a configuration says of sessions, to be compared.
pub(crate) fn session(located: &Located, default_probe: &str) -> String {
    let entry = located.document.label_entry();
    let probe = entry["userEnvProbe"].as_str().unwrap_or(default_probe);
    json!([entry["remoteUser"], probe, entry["remoteEnv"]]).to_string()
}

/// A program of a session as the configuration has it now.
async fn otherwise(
    engine: &Engine,
    object: &Environment,
    located: &Located,
    default_probe: &str,
) -> Result<Process, Failure> {
    let status = object.status.clone().unwrap_or_default();
    let container = read_container(engine, object).await?;
    let configuration = bound(&read::reading(located)?.configuration, &container);
    let user = configuration["remoteUser"].as_str().map(str::to_owned);
    let user = user.or(status.remote_user);
    let probe = configuration["userEnvProbe"]
        .as_str()
        .unwrap_or(default_probe);
    let mut env: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut probed = probed(engine, object, user.clone(), probe).await?;
    if let (Some(shell), Some(own)) = (probed.get_mut("PATH"), container.get("PATH")) {
        *shell = merge_path(shell, own, user.as_deref() == Some("root"));
    }
    for (name, value) in probed {
        env.insert(name, Some(value));
    }
    for (name, value) in configuration["remoteEnv"].as_object().into_iter().flatten() {
        env.insert(name.clone(), value.as_str().map(str::to_owned));
    }
    Ok(Process {
        env,
        user,
        cwd: status.workspace_folder,
        bare: true,
        ..Process::default()
    })
}

/// Variables of the environment itself.
async fn read_container(
    engine: &Engine,
    object: &Environment,
) -> Result<BTreeMap<String, String>, Failure> {
    let process = Process {
        argv: ["cat", "/proc/1/environ"].map(str::to_owned).into(),
        user: Some("0".into()),
        bare: true,
        ..Process::default()
    };
    Ok(variables(&collect(engine, object, process).await?.1))
}

/// Variables of the user's shell.
async fn probed(
    engine: &Engine,
    object: &Environment,
    user: Option<String>,
    probe: &str,
) -> Result<BTreeMap<String, String>, Failure> {
    let flags = match probe {
        "none" => return Ok(BTreeMap::new()),
        "loginShell" => "-lc",
        "interactiveShell" => "-ic",
        _ => "-lic",
    };
    let script = format!(
        "exec \"${{SHELL:-/bin/sh}}\" {flags} 'echo boatyard-probe; cat /proc/self/environ; echo boatyard-probe'"
    );
    let process = Process {
        argv: vec!["/bin/sh".into(), "-c".into(), script],
        user,
        bare: true,
        ..Process::default()
    };
    let (_, output) = collect(engine, object, process).await?;
    let text = String::from_utf8_lossy(&output).into_owned();
    let between = text.split("boatyard-probe\n").nth(1).unwrap_or_default();
    let mut known = variables(between.as_bytes());
    known.retain(|name, _| !NOT_TAKEN.contains(&name.as_str()));
    Ok(known)
}

fn variables(environ: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(environ);
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Runs a program without a terminal; its exit code and what it prints.
pub(crate) async fn collect(
    engine: &Engine,
    object: &Environment,
    process: Process,
) -> Result<(i32, Vec<u8>), Failure> {
    let name = object.name_any();
    let path = crate::exec::path(&engine.namespace, &name, "connect");
    let stream = engine
        .endpoint
        .upgrade(&path, crate::exec::PROTOCOL)
        .await?;
    let (_sender, mut receiver) = Channel::open(stream, &Request::Exec(process)).await?;
    let mut output = Vec::new();
    loop {
        match receiver.next().await? {
            Some(Incoming::Stdout(bytes)) if output.len() < OUTPUT_LIMIT => {
                output.extend_from_slice(&bytes)
            }
            Some(Incoming::Stdout(_) | Incoming::Stderr(_)) => {}
            Some(Incoming::Reply(reply)) => {
                if let Some(code) = reply.exit_code() {
                    return Ok((code, output));
                }
            }
            None => return Err(Failure::new(format!("environment {name} ended"))),
        }
    }
}

/// What an environment's sessions were told, for its object.
pub(crate) fn annotation(located: &Located, default_probe: &str) -> (String, String) {
    (SESSION.to_owned(), session(located, default_probe))
}

#[cfg(test)]
mod tests {
    //! Environments as the kernel shows them.
    use super::*;

    #[test]
    fn variables_keep_what_follows_the_first_sign() {
        let known = variables(b"A=b=c\0B=\0broken\0");
        assert_eq!(json!(known), json!({"A": "b=c", "B": ""}));
    }
}
