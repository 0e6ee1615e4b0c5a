//! `boatyard daemon`, `server` and `runner`: the long-running processes.
//!
//! The daemon is server and runner of this machine in one process; the runner speaks to the server
//! as any runner does, through the socket and with its own token. A lock on the state directory
//! lets only one of them use it. They end on SIGTERM or SIGINT; environments go on and are adopted
//! by the next one.

use crate::args::{
    Daemon, Database, Devices, Garbage, Global, Local, Runner, Server, ServerVerb, Uplink,
};
use crate::connect;
use crate::failure::Failure;
use crate::stored;
use boatyard_link::client::{Address, Endpoint};
use boatyard_link::token::Token;
use boatyard_server::RunnerTokens;
use boatyard_store::Store;
use rustix::fs::{FlockOperation, fcntl_lock};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Name of the local runner.
const RUNNER: &str = "local";
/// The exit code while another process uses the state directory: EX_TEMPFAIL of `sysexits.h`.
pub(crate) const IN_USE: u8 = 75;
/// This program, though an upgrade may replace its file while it runs.
const EXECUTABLE: &str = "/proc/self/exe";

/// Logs, checks that this is root, and locks the state directory for as long as the result lives.
fn prepare(local: &Local, verb: &str) -> Result<std::fs::File, Failure> {
    let filter = EnvFilter::try_from_env("BOATYARD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(format!("boatyard {verb} must run as root"))
            .hint(format!("sudo boatyard {verb}")));
    }
    let directory = local.state_dir.display();
    let io = |error: std::io::Error| {
        Failure::new(format!(
            "cannot use the state directory {directory}: {error}"
        ))
    };
    std::fs::create_dir_all(&local.state_dir).map_err(io)?;
    let lock = std::fs::File::create(local.state_dir.join("lock")).map_err(io)?;
    // The process's own: of a killed one's, a child that has not executed its program yet holds a
    // copy of the descriptor, and `flock` would go on with it.
    fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Failure::new(format!("another Boatyard process uses {directory}"))
            .hint("end it first, or use another --state-dir")
            .code(IN_USE)
    })?;
    Ok(lock)
}

/// Opens the server on this machine's state.
async fn open_server(
    local: &Local,
    listen: Option<SocketAddr>,
    names: Vec<String>,
    advertise: Option<String>,
    store: Arc<dyn Store>,
) -> Result<boatyard_server::Service, Failure> {
    let directory = local.state_dir.join("server");
    let options = boatyard_server::Options {
        unix_socket: Some(local.socket.clone()),
        listen,
        names,
        advertise,
        ..boatyard_server::Options::new(directory, store)
    };
    let opened = boatyard_server::Service::new(options).await;
    opened.map_err(|error| Failure::from_error(&error))
}

/// Opens a runner on this machine's state.
fn open_runner(
    local: &Local,
    name: &str,
    endpoint: Endpoint,
    mirrors: &[String],
    devices: &Devices,
    uplink: &Uplink,
    garbage: &Garbage,
) -> Result<boatyard_runner::Service, Failure> {
    let options = boatyard_runner::Options {
        name: name.to_owned(),
        state_dir: local.state_dir.clone(),
        endpoint,
        executable: EXECUTABLE.into(),
        images: crate::images::mirrors(mirrors)?,
        host_name_prefix: local.host_prefix.clone(),
        first_slot: local.first_slot,
        fair_shares: !local.no_fair_shares,
        zram: devices.zram,
        uplink: boatyard_sandbox::spec::Bandwidth {
            egress: uplink.uplink_egress,
            ingress: uplink.uplink_ingress,
        },
        device_directories: devices.directories.clone(),
        garbage: collecting(garbage)?,
    };
    boatyard_runner::Service::open(options).map_err(|error| Failure::from_error(&error))
}

fn collecting(asked: &Garbage) -> Result<boatyard_runner::Garbage, Failure> {
    let (high, low) = (asked.gc_high, asked.gc_low);
    if low >= high {
        return Err(
            Failure::new(format!("--gc-low {low} is not below --gc-high {high}"))
                .hint("unused cache is removed from the high percentage down to the low one")
                .code(2),
        );
    }
    Ok(boatyard_runner::Garbage {
        high_percent: high,
        low_percent: low,
        cache_bytes: asked.gc_cache,
        cache_age: asked.gc_cache_age,
        image_age: asked.gc_image_age,
        min_age: asked.gc_min_age,
        // Never without a pause.
        interval: asked.gc_interval.max(Duration::from_millis(10)),
    })
}

/// Runs `services` until one ends or a signal says to, then lets all of them end.
async fn until_told(
    mut services: JoinSet<Result<(), Failure>>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut outcome = Ok(());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        Some(ended) = services.join_next() => {
            outcome = ended.map_err(|error| Failure::from_error(&error)).and_then(|ended| ended);
        }
    }
    tracing::info!("ending; environments go on");
    shutdown.cancel();
    while let Some(ended) = services.join_next().await {
        outcome = outcome.and(
            ended
                .map_err(|error| Failure::from_error(&error))
                .and_then(|ended| ended),
        );
    }
    outcome
}

/// Adds a server to what runs.
fn spawn_server(
    services: &mut JoinSet<Result<(), Failure>>,
    server: boatyard_server::Service,
    shutdown: &CancellationToken,
) {
    let shutdown = shutdown.clone();
    services.spawn(async move {
        let served = server.run(shutdown).await;
        served.map_err(|error| Failure::from_error(&error))
    });
}

/// Adds a runner to what runs.
fn spawn_runner(
    services: &mut JoinSet<Result<(), Failure>>,
    runner: boatyard_runner::Service,
    shutdown: &CancellationToken,
) {
    let shutdown = shutdown.clone();
    services.spawn(async move {
        runner.run(shutdown).await;
        Ok(())
    });
}

/// `boatyard daemon`.
pub(crate) async fn run(global: &Global, daemon: Daemon) -> Result<(), Failure> {
    if daemon.detached {
        // Fails only for a process group's leader, which then keeps the session it has.
        let _ = rustix::process::setsid();
    }
    let local = &global.local;
    let _lock = prepare(local, "daemon")?;
    let (shutdown, mut services) = (CancellationToken::new(), JoinSet::new());
    let store = stored::open(local, &Database::default()).await?;
    let server = open_server(local, daemon.listen, Vec::new(), None, store.clone()).await?;
    let tokens = server.runner_tokens();
    let token = tokens.mint(RUNNER).await;
    let token = Token::from(token.map_err(|error| Failure::from_error(&error))?);
    let tunnels = server.tunnels();
    spawn_server(&mut services, server, &shutdown);
    let endpoint = Endpoint {
        address: Address::Unix(local.socket.clone()),
        token: Some(token.clone()),
    };
    let until = shutdown.clone();
    services.spawn(async move {
        until.run_until_cancelled(keep_known(tokens, token)).await;
        Ok(())
    });
    let runner = open_runner(
        local,
        RUNNER,
        endpoint,
        &daemon.mirrors,
        &daemon.devices,
        &daemon.uplink,
        &daemon.garbage,
    )?;
    tunnels.meet(runner.neighbour());
    spawn_runner(&mut services, runner, &shutdown);
    let outcome = until_told(services, shutdown).await;
    outcome.and(close(&*store).await)
}

/// Gives the runner of this process another token whenever the one it has is good no longer: it is
/// part of this server, whoever deletes its Runner or takes its token for another.
async fn keep_known(tokens: RunnerTokens, token: Token) {
    const AGAIN: Duration = Duration::from_secs(1);
    loop {
        token.refused().await;
        match tokens.mint(RUNNER).await {
            Ok(minted) => token.replace(minted),
            Err(error) => tracing::info!(%error, "the runner {RUNNER} has no token yet"),
        }
        // Two that take it from each other do so at this pace.
        tokio::time::sleep(AGAIN).await;
    }
}

/// Takes another token from its file whenever the server refuses the one that was read.
async fn keep_read(path: PathBuf, token: Token) {
    const AGAIN: Duration = Duration::from_secs(2);
    loop {
        token.refused().await;
        // While it is being written, or gone, the one that is known is as good.
        let read = tokio::fs::read_to_string(&path).await.unwrap_or_default();
        let read = read.trim();
        if !read.is_empty() && *read != *token.now() {
            token.replace(read);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Lets the store finish what it writes.
async fn close(store: &dyn Store) -> Result<(), Failure> {
    let closed = store.close().await;
    closed.map_err(|error| Failure::from_error(&error))
}

/// `boatyard server`.
pub(crate) async fn server(global: &Global, server: Server) -> Result<(), Failure> {
    let local = &global.local;
    match server.verb {
        Some(ServerVerb::Backup { file }) => return stored::backup(global, &file).await,
        Some(ServerVerb::Restore { file, database }) => {
            let _lock = prepare(local, "server restore")?;
            return stored::restore(local, &file, &database).await;
        }
        Some(ServerVerb::Check { database }) => {
            let _lock = prepare(local, "server check")?;
            return stored::check(local, &database).await;
        }
        None => {}
    }
    let _lock = prepare(&global.local, "server")?;
    let (shutdown, mut services) = (CancellationToken::new(), JoinSet::new());
    let store = stored::open(&global.local, &server.database).await?;
    let opened = open_server(
        &global.local,
        server.listen,
        server.names,
        server.advertise,
        store.clone(),
    )
    .await?;
    spawn_server(&mut services, opened, &shutdown);
    let outcome = until_told(services, shutdown).await;
    outcome.and(close(&*store).await)
}

/// `boatyard runner`.
pub(crate) async fn runner(global: &Global, runner: Runner) -> Result<(), Failure> {
    let server = global.server.as_deref();
    let server = server.ok_or_else(|| {
        Failure::new("a runner needs a server").hint("give --server, --token-file and --ca-file")
    })?;
    let endpoint = connect::remote(server, global)?;
    let _lock = prepare(&global.local, "runner")?;
    let (shutdown, mut services) = (CancellationToken::new(), JoinSet::new());
    if let (Some(path), Some(token)) = (global.token_file.clone(), endpoint.token.clone()) {
        let until = shutdown.clone();
        services.spawn(async move {
            until.run_until_cancelled(keep_read(path, token)).await;
            Ok(())
        });
    }
    let opened = open_runner(
        &global.local,
        &runner.name,
        endpoint,
        &runner.mirrors,
        &runner.devices,
        &runner.uplink,
        &runner.garbage,
    )?;
    spawn_runner(&mut services, opened, &shutdown);
    until_told(services, shutdown).await
}

/// `boatyard teardown`.
pub(crate) fn teardown(global: &Global) -> Result<(), Failure> {
    let local = &global.local;
    if !local.state_dir.exists() {
        return Err(Failure::new(format!(
            "there is no state directory {}",
            local.state_dir.display()
        ))
        .hint("name the daemon's with --state-dir"));
    }
    let _lock = prepare(local, "teardown")?;
    let prefix = local.host_prefix.clone();
    boatyard_runner::teardown(&local.state_dir, EXECUTABLE.into(), prefix)
        .map_err(|error| Failure::from_error(&error))
}

/// Prints a fresh token for a runner.
pub(crate) async fn token(global: &Global, runner: &str) -> Result<(), Failure> {
    let client = connect::endpoint(global).await?.kube();
    let path = format!("/apis/boatyard.dev/v1/runners/{runner}/token");
    let request = http::Request::post(path)
        .body(Vec::new())
        .map_err(|error| Failure::from_error(&error))?;
    let answer: serde_json::Value = client.request(request).await?;
    let token = answer["token"].as_str().unwrap_or_default();
    crate::output::print(&format!("{token}\n"))
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
