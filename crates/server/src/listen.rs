//! Sockets: this host's unix socket and TLS, and the accept loops.
//!
//! A stale socket file is replaced only when nobody answers on it. Connections are bounded; each
//! is owned by its loop and ends with it.

mod patient;

use crate::Error;
use crate::http_api::Handler;
use crate::identity::Caller;
use boatyard_link::handover::{self, Line};
use boatyard_link::tls::Authority;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use patient::patient;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Most connections at once, per socket.
const MOST: usize = 4096;
/// Bytes of a request's head that HTTP/1 reads and HTTP/2 takes: more than `http_api` allows, so that
/// who is a little over is told so by a Status.
const LARGEST_HEAD: usize = 128 * 1024;
const LARGEST_HEAD_LIST: u32 = 128 * 1024;
/// How long a TLS handshake may take, and a connection to ask for something.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long accepting rests when it failed.
const BREATH: Duration = Duration::from_millis(50);
/// How long connections get to end at shutdown.
const FAREWELL: Duration = Duration::from_secs(2);

/// The group whose members may use the socket.
const GROUP: &str = "boatyard";

/// A bound unix socket.
pub(crate) struct Unix(UnixListener);

impl Unix {
    /// Binds the socket: mode 0660 for the group boatyard where there is one, else 0600.
    pub(crate) fn bind(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Error::Taken(path.to_owned()));
        }
        // A stale socket is replaced; whatever else has this name is somebody's.
        if let Ok(known) = std::fs::symlink_metadata(path)
            && !known.file_type().is_socket()
        {
            return Err(io(std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "something that is no socket is there; move it away or use another path",
            )));
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        // Bound under another name and renamed, so that the permissions are right from the start.
        let fresh = path.with_extension(format!("{}", std::process::id()));
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh).map_err(io)?;
        let mode = match group_id(GROUP) {
            Some(gid) => {
                std::os::unix::fs::chown(&fresh, None, Some(gid)).map_err(io)?;
                0o660
            }
            None => 0o600,
        };
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode)).map_err(io)?;
        std::fs::rename(&fresh, path).map_err(io)?;
        Ok(Self(listener))
    }

    pub(crate) async fn serve(self, handler: Handler, shutdown: CancellationToken) {
        let (room, mut connections) = (Arc::new(Semaphore::new(MOST)), JoinSet::new());
        loop {
            let accepted = tokio::select! {
                accepted = self.0.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            while connections.try_join_next().is_some() {}
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, most likely: others must end first.
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let Ok(place) = room.clone().try_acquire_owned() else {
                continue;
            };
            let peer = stream
                .peer_cred()
                .ok()
                .map(|peer| Caller::local(peer.uid(), peer.gid()));
            let line = stream.as_fd().try_clone_to_owned().ok();
            let line = line.map(|line| Line(Arc::new(line)));
            let (handler, shutdown) = (handler.clone(), shutdown.clone());
            connections.spawn(async move {
                converse(stream, handler, peer, line, shutdown).await;
                drop(place);
            });
        }
        let _ = tokio::time::timeout(FAREWELL, async {
            while connections.join_next().await.is_some() {}
        })
        .await;
    }
}

fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// A bound TLS socket.
pub(crate) struct Tls {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl Tls {
    pub(crate) async fn bind(
        address: SocketAddr,
        authority: &Authority,
        mut names: Vec<String>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        names.extend([
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ]);
        if !address.ip().is_unspecified() {
            names.push(address.ip().to_string());
        }
        names.sort();
        names.dedup();
        let acceptor = authority.server_config(names)?.into();
        Ok(Self {
            listener,
            address,
            acceptor,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn serve(self, handler: Handler, shutdown: CancellationToken) {
        let (room, mut connections) = (Arc::new(Semaphore::new(MOST)), JoinSet::new());
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            while connections.try_join_next().is_some() {}
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, most likely: others must end first.
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let Ok(place) = room.clone().try_acquire_owned() else {
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (acceptor, handler, shutdown) =
                (self.acceptor.clone(), handler.clone(), shutdown.clone());
            connections.spawn(async move {
                if let Ok(Ok(stream)) =
                    tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await
                {
                    converse(stream, handler, None, None, shutdown).await;
                }
                drop(place);
            });
        }
        let _ = tokio::time::timeout(FAREWELL, async {
            while connections.join_next().await.is_some() {}
        })
        .await;
    }
}

/// Answers what comes on a connection; on a `line` something may be handed over to its client.
async fn converse<S>(
    stream: S,
    handler: Handler,
    peer: Option<Caller>,
    line: Option<Line>,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = handler.flow.limits;
    let upgraded = Arc::new(AtomicBool::new(false));
    let (stream, outlet) = patient(stream, limits.unread, upgraded.clone());
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_headers(256)
        .max_buf_size(LARGEST_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        // Streams opened and reset at once are work for nothing: few are taken, then it ends.
        .max_pending_accept_reset_streams(32)
        .max_local_error_reset_streams(256)
        .max_header_list_size(LARGEST_HEAD_LIST)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(limits.unread);
    // Until its first request a connection is nobody's, and may not stay for nothing.
    let asked = Arc::new(tokio::sync::Notify::new());
    let first = asked.clone();
    let place = Arc::new(OnceLock::new());
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(line) = &line
            && request.headers().contains_key(handover::HEADER)
        {
            request.extensions_mut().insert(line.clone());
        }
        let (handler, peer, place) = (handler.clone(), peer.clone(), place.clone());
        let upgraded = upgraded.clone();
        first.notify_one();
        async move {
            let response = handler.handle(request, peer, &place).await;
            if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
                upgraded.store(true, Ordering::Relaxed);
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let silent = async {
        if tokio::time::timeout(PATIENCE.min(limits.idle), asked.notified())
            .await
            .is_ok()
        {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = silent => {}
        // A client that breaks off is no news.
        () = std::future::poll_fn(|context| outlet.poll(connection.as_mut(), context)) => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            std::future::poll_fn(|context| outlet.poll(connection.as_mut(), context)).await;
        }
    }
    outlet.end().await;
}

/// Writes a kubeconfig for the administrator, readable by root alone.
pub(crate) fn write_kubeconfig(
    path: &Path,
    address: SocketAddr,
    authority: &str,
    token: &str,
) -> std::io::Result<()> {
    let host = if address.ip().is_unspecified() {
        format!("127.0.0.1:{}", address.port())
    } else {
        address.to_string()
    };
    let authority = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, authority);
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "boatyard",
        "clusters": [{"name": "boatyard", "cluster": {"server": format!("https://{host}"), "certificate-authority-data": authority}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "boatyard", "context": {"cluster": "boatyard", "user": "admin", "namespace": "default"}}],
    });
    let text = serde_norway::to_string(&config).map_err(std::io::Error::other)?;
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&fresh, path)
}

/// The token of a kubeconfig written before.
pub(crate) fn kubeconfig_token(path: &Path) -> Option<String> {
    let config = std::fs::read_to_string(path).ok()?;
    let config: serde_json::Value = serde_norway::from_str(&config).ok()?;
    Some(config["users"][0]["user"]["token"].as_str()?.to_owned())
}
