//! How a client reaches the API: over the local unix socket or TLS, with a token or without.
//!
//! Gives a [`kube::Client`] for everything that is a resource, whose requests and watches share one
//! connection, and [`Endpoint::upgrade`] for streams, which have one each. It retries nothing and
//! keeps no cache; a refused or broken connection is one sentence. A connection whose other end
//! vanished without a word is given up and replaced by the next request's.

use crate::handover::{self, Given};
use crate::token::Token;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tower::ServiceExt;

/// How long connecting, and the answer to an upgrade, may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long an endpoint's connections for resources may be silent.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// One that many requests share is asked whether it lives when nothing came for so long, though
    /// nobody waits for anything either.
    keep_alive: Duration,
    /// It is given up when it does not answer within this, and with it all that waits there. Both
    /// together are well below what a runner's Lease lasts.
    answer: Duration,
    /// HTTP/1.1 cannot ask. Longer than the server lets any watch last that says nothing.
    silence: Duration,
}

const PATIENCE: Patience = Patience {
    keep_alive: Duration::from_secs(10),
    answer: Duration::from_secs(10),
    silence: Duration::from_secs(320),
};

/// Where the API is and who we are there.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The way there.
    pub address: Address,
    /// Bearer token; over the unix socket, peer credentials serve when there is none.
    pub token: Option<Token>,
}

/// The way to an API server.
#[derive(Clone, Debug)]
pub enum Address {
    /// A unix socket on this host.
    Unix(PathBuf),
    /// TLS over TCP.
    Tls {
        /// `host:port` to connect to; the host is also the name checked in the certificate.
        authority: String,
        /// What to trust.
        config: Arc<rustls::ClientConfig>,
    },
}

/// Why the API could not be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot connect to the Boatyard server at {place}")]
    Connect {
        /// Socket path or authority.
        place: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// HTTP failed.
    #[error("the connection to the Boatyard server at {place} broke")]
    Http {
        /// Socket path or authority.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server said no; the text is the Status message.
    #[error("{message}")]
    Refused {
        /// HTTP status code.
        code: u16,
        /// Message for the user.
        message: String,
    },
    /// It took too long.
    #[error("the Boatyard server at {0} did not answer within {seconds} seconds", seconds = DEADLINE.as_secs())]
    Timeout(String),
}

/// A connected byte stream of either kind.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection as hyper's pool wants it: one that speaks HTTP/2 takes all requests.
pub struct Connection {
    socket: TokioIo<Box<dyn Socket>>,
    http2: bool,
}

impl hyper::rt::Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }
    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }
    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl hyper_util::client::legacy::connect::Connection for Connection {
    fn connected(&self) -> hyper_util::client::legacy::connect::Connected {
        let connected = hyper_util::client::legacy::connect::Connected::new();
        if self.http2 {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

/// A raw stream after an upgrade.
pub struct Upgraded(Way);

/// The connection itself, or a socket that was handed over on it.
enum Way {
    Carried(TokioIo<hyper::upgrade::Upgraded>),
    Handed {
        socket: UnixStream,
        given: Given,
        /// Open for as long as the other is used.
        _beside: TokioIo<hyper::upgrade::Upgraded>,
    },
}

impl Upgraded {
    /// Where descriptors are found that the far end sends; None where none can come.
    #[must_use]
    pub fn given(&self) -> Option<Given> {
        match &self.0 {
            Way::Carried(_) => None,
            Way::Handed { given, .. } => Some(given.clone()),
        }
    }

    fn stream(&mut self) -> Pin<&mut (dyn Socket + '_)> {
        match &mut self.0 {
            Way::Carried(stream) => Pin::new(stream),
            Way::Handed { socket, .. } => Pin::new(socket),
        }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut self.0 {
            Way::Carried(stream) => Pin::new(stream).poll_read(context, buffer),
            Way::Handed { socket, given, .. } => given.poll_read(socket, context, buffer),
        }
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }
    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.stream().poll_flush(context)
    }
    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

async fn within_deadline<T>(
    connecting: impl Future<Output = std::io::Result<T>>,
) -> std::io::Result<T> {
    tokio::time::timeout(DEADLINE, connecting)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

async fn unix(path: &Path) -> std::io::Result<UnixStream> {
    within_deadline(UnixStream::connect(path)).await
}

async fn tls(
    authority: &str,
    config: Arc<rustls::ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = rustls_pki_types::ServerName::try_from(host.to_owned());
    let name = name.map_err(std::io::Error::other)?;
    let tcp = TcpStream::connect(authority).await?;
    tcp.set_nodelay(true)?;
    tokio_rustls::TlsConnector::from(config)
        .connect(name, tcp)
        .await
}

impl Endpoint {
    /// The socket's path or the authority, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.address {
            Address::Unix(path) => path.display().to_string(),
            Address::Tls { authority, .. } => authority.clone(),
        }
    }

    /// A socket for one upgrade, which HTTP/1.1 alone has; one of this host with another descriptor,
    /// by which something may be handed over.
    async fn dial(&self) -> std::io::Result<(Box<dyn Socket>, Option<OwnedFd>)> {
        match &self.address {
            Address::Unix(path) => {
                let socket = unix(path).await?;
                let line = socket.as_fd().try_clone_to_owned()?;
                Ok((Box::new(socket), Some(line)))
            }
            Address::Tls { authority, config } => {
                let socket = within_deadline(tls(authority, config.clone())).await?;
                Ok((Box::new(socket), None))
            }
        }
    }

    /// A socket for resources: HTTP/2 if the other end has it, as ours does. A proxy may not.
    async fn connect(&self) -> std::io::Result<Connection> {
        let (socket, http2): (Box<dyn Socket>, bool) = match &self.address {
            Address::Unix(path) => (Box::new(unix(path).await?), true),
            Address::Tls { authority, config } => {
                let mut config = rustls::ClientConfig::clone(config);
                config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
                let socket = within_deadline(tls(authority, Arc::new(config))).await?;
                let http2 = socket.get_ref().1.alpn_protocol() == Some(b"h2");
                (Box::new(socket), http2)
            }
        };
        Ok(Connection {
            socket: TokioIo::new(socket),
            http2,
        })
    }

    /// Puts on a request who asks, and answers which token that took.
    fn authorize<B>(&self, request: &mut Request<B>) -> Result<Option<Arc<str>>, http::Error> {
        let token = self.token.as_ref().map(Token::now);
        if let Some(token) = &token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        // What comes before the slash is the field manager of writes that name none.
        let agent = concat!("boatyard/", env!("CARGO_PKG_VERSION"));
        let agents = request.headers_mut().entry(header::USER_AGENT);
        agents.or_insert(HeaderValue::from_static(agent));
        Ok(token)
    }

    /// Notes whether the server knew the token of a request.
    fn answered(&self, used: Option<&Arc<str>>, code: StatusCode) {
        if let (Some(token), Some(used)) = (&self.token, used) {
            token.answered(used, code == StatusCode::UNAUTHORIZED);
        }
    }

    /// A client for resources.
    #[must_use]
    pub fn kube(&self) -> kube::Client {
        self.kube_with(PATIENCE)
    }

    fn kube_with(&self, patience: Patience) -> kube::Client {
        let endpoint = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let endpoint = endpoint.clone();
            Box::pin(async move { endpoint.connect().await })
        });
        let pool = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(patience.keep_alive)
            .http2_keep_alive_timeout(patience.answer)
            .http2_keep_alive_while_idle(true)
            .build(connector);
        let endpoint = self.clone();
        let service = tower::service_fn(move |mut request: Request<kube::client::Body>| {
            let pool = pool.clone();
            let prepared = endpoint.authorize(&mut request).and_then(|used| {
                let path = request
                    .uri()
                    .path_and_query()
                    .map_or("/", |path| path.as_str());
                *request.uri_mut() = Uri::builder()
                    .scheme("http")
                    .authority("boatyard")
                    .path_and_query(path)
                    .build()?;
                Ok((request, used))
            });
            let endpoint = endpoint.clone();
            async move {
                let (request, used) = prepared.map_err(tower::BoxError::from)?;
                let answering = tokio::time::timeout(patience.silence, pool.oneshot(request));
                let response = answering.await??;
                endpoint.answered(used.as_ref(), response.status());
                Ok::<_, tower::BoxError>(response.map(|body| Heard::new(body, patience.silence)))
            }
        });
        kube::Client::new(service, boatyard_api::DEFAULT_NAMESPACE)
    }

    /// POSTs to `path` asking to upgrade to `protocol`, and returns the raw stream.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn upgrade(&self, path: &str, protocol: &'static str) -> Result<Upgraded, Error> {
        let place = self.place();
        let (socket, line) = self.dial().await.map_err(|source| Error::Connect {
            place: place.clone(),
            source,
        })?;
        let upgrading = async {
            let broken = |source: Box<dyn std::error::Error + Send + Sync>| Error::Http {
                place: place.clone(),
                source,
            };
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(socket))
                    .await
                    .map_err(|e| broken(e.into()))?;
            // Owned by hyper: it ends when the request's stream does.
            tokio::spawn(connection.with_upgrades());
            let mut request = Request::post(path)
                .header(header::HOST, "boatyard")
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, protocol)
                .body(Empty::<Bytes>::new())
                .map_err(|e| broken(e.into()))?;
            let used = self.authorize(&mut request);
            let used = used.map_err(|e| broken(e.into()))?;
            if line.is_some() {
                let yes = HeaderValue::from_static("1");
                request.headers_mut().insert(handover::HEADER, yes);
            }
            sender.ready().await.map_err(|e| broken(e.into()))?;
            let response = sender
                .send_request(request)
                .await
                .map_err(|e| broken(e.into()))?;
            self.answered(used.as_ref(), response.status());
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(refusal(response).await);
            }
            let line = line.filter(|_| response.headers().contains_key(handover::HEADER));
            let upgraded = hyper::upgrade::on(response)
                .await
                .map_err(|e| broken(e.into()))?;
            let mut stream = TokioIo::new(upgraded);
            let Some(line) = line else {
                return Ok(Upgraded(Way::Carried(stream)));
            };
            let taken = async {
                stream.write_all(&[handover::READY]).await?;
                handover::take(line).await
            };
            let socket = taken.await.map_err(|e| broken(e.into()))?;
            Ok(Upgraded(Way::Handed {
                socket,
                given: Given::default(),
                _beside: stream,
            }))
        };
        tokio::time::timeout(DEADLINE, upgrading)
            .await
            .unwrap_or_else(|_| Err(Error::Timeout(self.place())))
    }
}

/// A body that breaks when nothing comes of it for too long.
struct Heard {
    body: Incoming,
    silence: Duration,
    end: Pin<Box<tokio::time::Sleep>>,
}

impl Heard {
    fn new(body: Incoming, silence: Duration) -> Self {
        let end = Box::pin(tokio::time::sleep(silence));
        Self { body, silence, end }
    }
}

impl http_body::Body for Heard {
    type Data = Bytes;
    type Error = tower::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, tower::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let end = tokio::time::Instant::now() + self.silence;
            self.end.as_mut().reset(end);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let over = self.end.as_mut().poll(context);
        over.map(|()| {
            Some(Err(
                std::io::Error::from(std::io::ErrorKind::TimedOut).into()
            ))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Reads the Status body of a refused upgrade.
async fn refusal(response: Response<Incoming>) -> Error {
    let code = response.status();
    let body = Limited::new(response.into_body(), 64 * 1024)
        .collect()
        .await;
    let message = body.ok().and_then(|body| {
        let status: serde_json::Value = serde_json::from_slice(&body.to_bytes()).ok()?;
        status.get("message")?.as_str().map(str::to_owned)
    });
    let message = message.unwrap_or_else(|| format!("the server answered {code}"));
    Error::Refused {
        code: code.as_u16(),
        message,
    }
}

#[cfg(test)]
mod tests;
