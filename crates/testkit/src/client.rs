//! A plain client of an API server: methods on paths, answers as JSON.
//!
//! For tests that must tell an answer from none. Connections are those of `kube`'s client: one that
//! breaks is made anew by the next request.

use crate::Front;
use boatyard_link::client::{Address, Endpoint};
use futures::{Stream, StreamExt};
use kube::core::{DynamicObject, WatchEvent};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Longest anything may take on a busy machine, restarts included.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    endpoint: Endpoint,
    kube: kube::Client,
}

impl Client {
    /// One with connections of its own, to what listens at `address`.
    ///
    /// # Panics
    /// When `authority` is no certificate.
    pub fn new(address: SocketAddr, token: &str, authority: &str) -> Self {
        Self::to(Endpoint {
            address: Address::Tls {
                authority: address.to_string(),
                config: boatyard_link::tls::client_config(authority).unwrap(),
            },
            token: Some(token.into()),
        })
    }

    /// The same, of the servers behind a front.
    ///
    /// # Panics
    /// As [`Client::new`].
    pub fn of(front: &Front, token: &str, authority: &str) -> Self {
        Self::new(front.address(), token, authority)
    }

    fn to(endpoint: Endpoint) -> Self {
        let kube = endpoint.kube();
        Self { endpoint, kube }
    }

    /// One like it with connections of its own.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self::to(self.endpoint.clone())
    }

    /// Where it goes, with another token.
    #[must_use]
    pub fn endpoint(&self, token: &str) -> Endpoint {
        Endpoint {
            token: Some(token.into()),
            ..self.endpoint.clone()
        }
    }

    /// Code and body of an answer; none when there was no whole one.
    ///
    /// # Panics
    /// When the path is none.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Option<(u16, Value)> {
        let (code, body) = self.text(method, path, body).await?;
        Some((code, serde_json::from_slice(&body).unwrap_or_default()))
    }

    /// The same with the body as it came.
    ///
    /// # Panics
    /// As [`Client::send`].
    pub async fn text(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Option<(u16, Vec<u8>)> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(kube::client::Body::from(body.into_bytes()))
            .unwrap();
        let exchange = async {
            let response = self.kube.send(request).await.ok()?;
            let code = response.status().as_u16();
            let body = response.into_body().collect_bytes().await.ok()?;
            Some((code, body.to_vec()))
        };
        tokio::time::timeout(PATIENCE, exchange).await.ok()?
    }

    /// What a path has, asked for until there is a good answer.
    ///
    /// # Panics
    /// When none comes for long.
    pub async fn get(&self, path: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.send("GET", path, None).await;
            if let Some((200, body)) = answer {
                return body;
            }
            assert!(Instant::now() < deadline, "GET {path}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a server says it is ready.
    ///
    /// # Panics
    /// When none does for long.
    pub async fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self.send("GET", "/readyz", None).await, Some((200, _))) {
            assert!(Instant::now() < deadline, "no server answers");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The events of a watch until it ends, for whatever reason; none when it cannot be opened.
    ///
    /// # Panics
    /// When the path is none.
    pub async fn watch(
        &self,
        path: &str,
    ) -> Option<impl Stream<Item = WatchEvent<DynamicObject>> + Unpin + use<>> {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let events = self.kube.request_events::<DynamicObject>(request).await;
        // A broken connection is its end.
        let whole = events
            .ok()?
            .map(Result::ok)
            .take_while(|event| std::future::ready(event.is_some()));
        Some(Box::pin(whole.filter_map(std::future::ready)))
    }
}
