//! Lifecycle commands of an environment, asked for through its subresource `lifecycle`.
//!
//! Used where somebody attaches, and by the verbs of the reference CLI. What runs, in which order and
//! what was done before is the runner's to know.

use crate::args::{Global, Hooks};
use crate::connect;
use crate::failure::Failure;
use boatyard_link::client::Endpoint;
use boatyard_link::frames::{Codec, Frame};
use boatyard_link::lifecycle::{Dotfiles, HookFailure, Outcome, Reply, Request};
use boatyard_wire::frame::Kind;
use futures::{SinkExt, StreamExt};
use std::collections::BTreeMap;
use std::io::Write;
use tokio_util::codec::Framed;

/// `boatyard hooks`.
pub(crate) async fn verb(global: &Global, asked: Hooks) -> Result<(), Failure> {
    let secrets = match &asked.secrets_file {
        Some(file) => {
            let bad = |error: &dyn std::fmt::Display| {
                let file = file.display();
                Failure::new(format!("{file} cannot be read as secrets: {error}"))
                    .hint("write a JSON object of names and texts")
            };
            let text = std::fs::read(file).map_err(|error| bad(&error))?;
            serde_json::from_slice(&text).map_err(|error| bad(&error))?
        }
        None => BTreeMap::new(),
    };
    let dotfiles = asked.dotfiles.map(|repository| Dotfiles {
        repository,
        install_command: asked.dotfiles_install,
        target_path: asked.dotfiles_target,
    });
    let request = Request {
        until: asked.until,
        prebuild: asked.prebuild,
        skip_non_blocking: asked.skip_non_blocking,
        skip_post_attach: asked.skip_post_attach,
        secrets,
        dotfiles,
        ..Request::default()
    };
    let endpoint = connect::endpoint(global).await?;
    let finished = run(&endpoint, &global.namespace, &asked.name, &request, show).await?;
    match finished.failed {
        Some(failed) => Err(Failure::new(failed.message)),
        None => {
            let ran = finished.ran.join(", ");
            let told = if ran.is_empty() {
                "nothing was left to run"
            } else {
                &ran
            };
            eprintln!("{}: {told}", word(finished.outcome));
            Ok(())
        }
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done | Outcome::Until => "done",
        Outcome::SkipNonBlocking => "done up to waitFor",
        Outcome::Prebuild => "done for a prebuild",
        Outcome::StopForPersonalization => "done before postStartCommand",
        Outcome::Detached => "goes on in the background",
    }
}

/// Output to standard output, what is said about it to standard error.
fn show(event: Event<'_>) {
    match event {
        // Whoever closed the output does not want it.
        Event::Output(bytes) => {
            let _ = std::io::stdout().write_all(bytes);
            let _ = std::io::stdout().flush();
        }
        Event::Reply(Reply::Begin {
            hook,
            name,
            command,
            ..
        }) => {
            let name = name.as_deref().map(|name| format!(" [{name}]"));
            eprintln!("{hook}{}: {command}", name.unwrap_or_default());
        }
        Event::Reply(_) => {}
    }
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    /// How far it went.
    pub(crate) outcome: Outcome,
    /// Names of what ran and succeeded.
    pub(crate) ran: Vec<String>,
    /// What failed.
    pub(crate) failed: Option<HookFailure>,
}

/// Something on the way to the end.
#[derive(Clone, Debug)]
pub(crate) enum Event<'a> {
    /// Output of a command.
    Output(&'a [u8]),
    /// A command begins or ends.
    Reply(&'a Reply),
}

/// Asks, and shows what comes until the end.
pub(crate) async fn run(
    endpoint: &Endpoint,
    namespace: &str,
    name: &str,
    request: &Request,
    mut shown: impl FnMut(Event<'_>),
) -> Result<Finished, Failure> {
    let path = crate::exec::path(namespace, name, "lifecycle");
    let stream = endpoint.upgrade(&path, crate::exec::PROTOCOL).await?;
    let mut frames = Framed::new(stream, Codec);
    let payload = serde_json::to_vec(request).map_err(|error| Failure::from_error(&error))?;
    let first = Frame {
        kind: Kind::Request,
        payload: payload.into(),
    };
    let sent = frames.send(first).await;
    sent.map_err(|error| {
        Failure::from_error(&error).hint("secrets and variables together may have 64 KiB")
    })?;
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|error| Failure::from_error(&error))?;
        if frame.kind != Kind::Reply {
            shown(Event::Output(&frame.payload));
            continue;
        }
        let reply: Reply =
            serde_json::from_slice(&frame.payload).map_err(|error| Failure::from_error(&error))?;
        match reply {
            Reply::Finished {
                outcome,
                ran,
                failed,
            } => {
                return Ok(Finished {
                    outcome,
                    ran,
                    failed,
                });
            }
            Reply::Error { message, .. } => return Err(Failure::new(message)),
            reply => shown(Event::Reply(&reply)),
        }
    }
    Err(Failure::new(format!(
        "the connection to environment {name} ended before its lifecycle commands"
    )))
}

/// Somebody attaches: what is left runs in the background, then `postAttachCommand`. An environment
/// can be used whether that works or not.
pub(crate) async fn attached(endpoint: &Endpoint, namespace: &str, name: &str, again: bool) {
    let request = Request {
        attach: !again,
        detach: true,
        ..Request::default()
    };
    let _ = run(endpoint, namespace, name, &request, |_| {}).await;
}
