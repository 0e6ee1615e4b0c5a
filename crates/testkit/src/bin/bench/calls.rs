//! A client for both sides: HTTP/2 over a few connections, as little work per call as hyper allows.
//!
//! Peer and Boatyard are called by the same code, so that what the client costs is in both figures.
//! It knows neither's API. The clients share the processors with what they measure.

use crate::tally::{Counted, Tally};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

/// Longest any call may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// Windows that never hold back an answer.
const WINDOW: u32 = 1 << 30;

/// Connections to one server. Dropping it ends them.
pub(crate) struct Connections {
    senders: Vec<SendRequest<Full<Bytes>>>,
    /// What arrives, once it is counted and read no more.
    pub(crate) tally: Arc<Tally>,
    _drivers: JoinSet<()>,
}

impl Connections {
    pub(crate) async fn tcp(port: u16, count: usize) -> Self {
        let mut made = Self::none();
        for _ in 0..count {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .unwrap();
            stream.set_nodelay(true).unwrap();
            made.add(stream).await;
        }
        made
    }

    pub(crate) async fn unix(path: &Path, count: usize) -> Self {
        let mut made = Self::none();
        for _ in 0..count {
            made.add(tokio::net::UnixStream::connect(path).await.unwrap())
                .await;
        }
        made
    }

    fn none() -> Self {
        Self {
            senders: Vec::new(),
            tally: Arc::default(),
            _drivers: JoinSet::new(),
        }
    }

    async fn add<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&mut self, stream: S) {
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(Counted::new(stream, &self.tally)))
            .await
            .unwrap();
        self._drivers.spawn(async move { drop(driver.await) });
        self.senders.push(sender);
    }

    /// The connection of the client of this number.
    pub(crate) fn of(&self, client: usize) -> SendRequest<Full<Bytes>> {
        self.senders[client % self.senders.len()].clone()
    }
}

/// The answer's head; its body is still to come.
pub(crate) async fn begin(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Response<Incoming> {
    let answered = tokio::time::timeout(DEADLINE, async {
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap()
    });
    answered.await.expect("no answer in time")
}

/// The whole answer: head, body, trailers.
pub(crate) async fn call(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> (http::response::Parts, Bytes, Option<http::HeaderMap>) {
    let (head, body) = begin(sender, request).await.into_parts();
    let collected = tokio::time::timeout(DEADLINE, body.collect()).await;
    let collected = collected.expect("no end in time").unwrap();
    let trailers = collected.trailers().cloned();
    (head, collected.to_bytes(), trailers)
}
