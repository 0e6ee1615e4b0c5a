//! This runner's standing at the server: its Runner object, its Lease, and whether it is known at all.
//!
//! Makes the Runner, makes it anew when it was deleted, and renews the Lease. What the server ended
//! with a Runner is its token; a runner whose token is good may register. So a runner of the
//! server's own process, which gets another token, is back by itself; one elsewhere stays out until
//! somebody gives it one, which is said once. Until then everything else of the runner waits
//! ([`Context::pause`]), and this alone asks now and then: a server that was brought back from an old
//! backup may know it again.
//!
//! Environments take no notice of any of it.

use crate::context::Context;
use crate::failure;
use crate::objects;
use boatyard_api::{Runner, RunnerStatus};
use futures::TryStreamExt;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::Api;
use kube::runtime::watcher;
use std::collections::BTreeMap;
use std::time::Duration;

/// Pause after the first attempt that failed; it doubles.
const FIRST: Duration = Duration::from_millis(300);
/// How long another token may take to arrive before people are told that there is none.
const RENEWAL: Duration = Duration::from_secs(5);

/// Keeps this runner registered and alive, for ever.
pub(crate) async fn keep(context: Context) {
    tokio::join!(heartbeats(&context), register(&context), tell(&context));
}

/// The next pause after a failed attempt: a server whose disk is full logs every refusal.
fn longer(pause: Duration) -> Duration {
    (pause * 2).min(objects::HEARTBEAT)
}

async fn register(context: &Context) {
    let mut again = FIRST;
    loop {
        match objects::register(&context.client, &context.runner, &about()).await {
            Ok(()) => {
                again = FIRST;
                gone(context).await;
                tracing::info!(
                    runner = context.runner,
                    "the Runner object was deleted; registering again"
                );
            }
            Err(error) => {
                if !context.is_refused() {
                    tracing::info!(%error, "not registered yet");
                }
                context.pause(again).await;
                again = longer(again);
            }
        }
    }
}

/// Returns when there is no Runner of this name.
async fn gone(context: &Context) {
    let runners: Api<Runner> = Api::all(context.client.clone());
    // A runner may watch its Runner, and list none.
    let config = watcher::Config::default()
        .fields(&format!("metadata.name={}", context.runner))
        .streaming_lists();
    let stream = watcher::watcher(runners, config);
    tokio::pin!(stream);
    let mut there = false;
    loop {
        match stream.try_next().await {
            Ok(Some(watcher::Event::Init)) => there = false,
            Ok(Some(watcher::Event::InitApply(_) | watcher::Event::Apply(_))) => there = true,
            Ok(Some(watcher::Event::InitDone)) if there => {}
            Ok(Some(watcher::Event::InitDone | watcher::Event::Delete(_)) | None) => return,
            Err(error) => {
                if !context.is_refused() {
                    tracing::debug!(
                        error = failure::chain(&error),
                        "the watch of the runner itself ended; watching again"
                    );
                }
                context.pause(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn heartbeats(context: &Context) {
    let mut again = FIRST;
    loop {
        let beat = objects::heartbeat(&context.client, &context.runner, context.now()).await;
        let mut pause = objects::HEARTBEAT;
        match &beat {
            Ok(()) => again = FIRST,
            Err(_) if context.is_refused() => {}
            Err(error) => {
                tracing::info!(%error, "the heartbeat was not written");
                pause = again;
                again = longer(again);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Tells people that the server does not know this runner, and that it does again.
async fn tell(context: &Context) {
    let Some(token) = &context.token else { return };
    loop {
        token.refused().await;
        if tokio::time::timeout(RENEWAL, token.good()).await.is_ok() {
            continue;
        }
        let (name, server) = (&context.runner, &context.server);
        tracing::error!(
            "the server at {server} does not know the token of the runner {name}: its Runner was deleted, or it was given another token. Environments here go on, out of the server's reach; to let the runner in again, run `boatyard token {name}` there and write that token to the runner's token file"
        );
        token.good().await;
        tracing::info!("the runner {name} has a token again for the server at {server}");
    }
}

/// What this host is.
fn about() -> RunnerStatus {
    let system = rustix::system::uname();
    let memory = rustix::system::sysinfo().totalram;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    RunnerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        architecture: architecture.to_owned(),
        capacity: BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpus.to_string())),
            ("memory".to_owned(), Quantity(memory.to_string())),
        ]),
        ..RunnerStatus::default()
    }
}
