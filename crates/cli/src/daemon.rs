//! `boatyard daemon`: server and runner of this machine in one process.
//!
//! The runner speaks to the server as any runner does, through the socket and with its own token.
//! A lock on the state directory lets only one daemon use it. It ends on SIGTERM or SIGINT;
//! environments go on and are adopted by the next one.

use crate::args::{Daemon, Global};
use crate::failure::Failure;
use boatyard_link::client::{Address, Endpoint};
use boatyard_store::sqlite::SqliteStore;
use rustix::fs::{FlockOperation, flock};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Name of the local runner.
const RUNNER: &str = "local";

/// Runs until told to end.
pub(crate) async fn run(global: &Global, daemon: Daemon) -> Result<(), Failure> {
    if daemon.detached {
        // Already a group leader's child with its own group: a session of its own fails only when
        // this is a group leader, and then it has one.
        let _ = rustix::process::setsid();
    }
    let filter = EnvFilter::try_from_env("BOATYARD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("the daemon must run as root").hint("sudo boatyard daemon"));
    }
    let local = &global.local;
    let io = |error: std::io::Error| {
        Failure::new(format!(
            "cannot use the state directory {}: {error}",
            local.state_dir.display()
        ))
    };
    std::fs::create_dir_all(&local.state_dir).map_err(io)?;
    let lock = std::fs::File::create(local.state_dir.join("lock")).map_err(io)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Failure::new(format!(
            "another Boatyard daemon uses {}",
            local.state_dir.display()
        ))
        .hint("end it first, or use another --state-dir")
    })?;

    let shutdown = CancellationToken::new();
    let server_dir = local.state_dir.join("server");
    let store = SqliteStore::open(boatyard_store::sqlite::Options::new(
        server_dir.join("boatyard.db"),
    ))
    .map_err(|error| Failure::from_error(&error))?;
    let store = Arc::new(store);
    let options = boatyard_server::Options {
        unix_socket: Some(local.socket.clone()),
        listen: daemon.listen,
        ..boatyard_server::Options::new(server_dir.clone(), store.clone())
    };
    let server = boatyard_server::Service::new(options)
        .await
        .map_err(|error| Failure::from_error(&error))?;
    let token = server
        .runner_token(RUNNER)
        .map_err(|error| Failure::from_error(&error))?;
    let serving = tokio::spawn(server.run(shutdown.clone()));

    let mirrors = crate::images::mirrors(&daemon.mirrors)?;
    let runner = boatyard_runner::Service::open(boatyard_runner::Options {
        name: RUNNER.to_owned(),
        state_dir: local.state_dir.clone(),
        endpoint: Endpoint {
            address: Address::Unix(local.socket.clone()),
            token: Some(token),
        },
        executable: std::env::current_exe()?,
        images: mirrors,
        host_name_prefix: local.host_prefix.clone(),
        first_slot: local.first_slot,
    })
    .map_err(|error| Failure::from_error(&error))?;
    let running = tokio::spawn(runner.run(shutdown.clone()));

    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut serving = serving;
    let mut ended_early = None;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut serving => ended_early = Some(ended),
    }
    tracing::info!("ending; environments go on");
    shutdown.cancel();
    let _ = running.await;
    let served = match ended_early {
        Some(ended) => ended,
        None => serving.await,
    };
    served
        .map_err(|error| Failure::from_error(&error))?
        .map_err(|error| Failure::from_error(&error))?;
    drop(lock);
    Ok(())
}

/// Prints a kubeconfig that reaches this machine's server with its administrator's token.
pub(crate) fn kubeconfig(global: &Global) -> Result<(), Failure> {
    let path = global
        .local
        .state_dir
        .join("server")
        .join("admin.kubeconfig");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", path.display()))
            .hint("kubectl needs TLS: start the daemon with --listen 127.0.0.1:6443, and run this as root")
    })?;
    crate::output::print(&text)
}
