//! Which server is spoken to, and starting this machine's own when nobody does.
//!
//! Local mode: the unix socket's peer credentials are the login. Only root can start the daemon;
//! others are told how to get it. Starting is safe to race: the daemon's lock lets one win.

use crate::args::{Global, Local};
use crate::daemon::IN_USE;
use crate::failure::Failure;
use boatyard_link::client::{Address, Endpoint};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a starting daemon may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long to wait for another process that uses the state directory, before starting a daemon
/// once more; twice as long each time.
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

/// The server named by the options, or this machine's own, started when it does not run.
pub(crate) async fn endpoint(global: &Global) -> Result<Endpoint, Failure> {
    if let Some(server) = &global.server {
        return remote(server, global);
    }
    let local = &global.local;
    let endpoint = Endpoint {
        address: Address::Unix(local.socket.clone()),
        token: None,
    };
    match tokio::net::UnixStream::connect(&local.socket).await {
        Ok(_) => Ok(endpoint),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(Failure::new(
            format!("you may not connect to {}", local.socket.display()),
        )
        .hint("ask an administrator to add you to the group boatyard, then log in again")),
        Err(_) if !rustix::process::geteuid().is_root() => Err(Failure::new(format!(
            "no Boatyard daemon answers on {}",
            local.socket.display()
        ))
        .hint(
            "only root can start it: run `sudo boatyard daemon`, or any boatyard command with sudo",
        )),
        Err(_) => start(local).await.map(|()| endpoint),
    }
}

pub(crate) fn remote(server: &str, global: &Global) -> Result<Endpoint, Failure> {
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
    };
    let token = match &global.token_file {
        Some(path) => read(path)?.trim().to_owned(),
        None => {
            return Err(Failure::new("a server was named without a token")
                .hint("give --token-file or BOATYARD_TOKEN_FILE"));
        }
    };
    let ca = global.ca_file.as_deref().map(read).transpose()?;
    let ca = ca.ok_or_else(|| {
        Failure::new("a server was named without its certificate authority")
            .hint("give --ca-file or BOATYARD_CA_FILE")
    })?;
    let config =
        boatyard_link::tls::client_config(&ca).map_err(|error| Failure::from_error(&error))?;
    Ok(Endpoint {
        address: Address::Tls {
            authority: server.to_owned(),
            config,
        },
        token: Some(token.into()),
    })
}

/// Starts this machine's daemon and waits until one answers: this one, or one that was started at
/// the same time. Where another is just ending, it is tried again.
async fn start(local: &Local) -> Result<(), Failure> {
    std::fs::create_dir_all(&local.state_dir)?;
    let log_path = local.state_dir.join("daemon.log");
    eprintln!("starting the Boatyard daemon (log: {})", log_path.display());
    let mut child = launch(local, &log_path)?;
    let began = Instant::now();
    let mut pause = IN_USE_PAUSE;
    let mut again = began;
    loop {
        if tokio::net::UnixStream::connect(&local.socket).await.is_ok() {
            return Ok(());
        }
        let is_late = began.elapsed() > START_DEADLINE;
        match child.try_wait()? {
            Some(status) if status.code() == Some(IN_USE.into()) && !is_late => {
                if again.elapsed() > pause {
                    pause *= 2;
                    child = launch(local, &log_path)?;
                }
            }
            None if !is_late => again = Instant::now(),
            _ => {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                let mut lines = log.lines().rev();
                let said = lines.find(|line| !line.starts_with("hint: "));
                let said = said.unwrap_or("it logged nothing");
                let said = said.strip_prefix("error: ").unwrap_or(said);
                return Err(Failure::new(format!("the daemon did not start: {said}"))
                    .hint(format!("its log is {}", log_path.display())));
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the local daemon is this executable, started again"
)]
fn launch(local: &Local, log_path: &Path) -> std::io::Result<Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_path)?;
    Command::new(std::env::current_exe()?)
        .arg("daemon")
        .arg("--detached")
        .arg("--socket")
        .arg(&local.socket)
        .arg("--state-dir")
        .arg(&local.state_dir)
        .arg("--host-prefix")
        .arg(&local.host_prefix)
        .arg("--first-slot")
        .arg(local.first_slot.to_string())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}
