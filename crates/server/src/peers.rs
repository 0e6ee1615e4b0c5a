//! Servers on one store: at which of them a runner's connection ends, and the way there.
//!
//! A runner dials one server; a client's stream may come to another, which relays it over TLS with
//! a token of its own. The record of a runner is written when it dials in and never removed: one
//! that is out of date leads to a refusal, not elsewhere. The caller was authorized by the server
//! that asks; the one that answers believes servers of the same store and nobody else.

use crate::failure::Failure;
use crate::identity;
use boatyard_link::client::{Address, Endpoint, Error, Upgraded};
use boatyard_link::tls;
use boatyard_link::token::Token;
use boatyard_link::tunnel::Target;
use boatyard_store::{Event, Key, Scope, Store};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The stored resource: a [`Place`] under the runner's name.
const RESOURCE: &str = "tunnels.internal.boatyard.dev";

/// Where a runner's connection ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Id of the server.
    pub(crate) server: String,
    /// `host:port` at which other servers reach it; empty when they cannot.
    pub(crate) address: String,
}

/// This server among those of the store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) own: Place,
    store: Arc<dyn Store>,
    token: Token,
    config: Arc<tokio_rustls::rustls::ClientConfig>,
}

impl Peers {
    /// This one, of `id`, that others reach at `address` and know by `token`.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        id: String,
        address: String,
        token: String,
        authority: &str,
    ) -> Result<Self, tls::Error> {
        Ok(Self {
            own: Place {
                server: id,
                address,
            },
            store,
            token: token.into(),
            config: tls::client_config(authority)?,
        })
    }

    fn key(runner: &str) -> Key {
        Key {
            resource: RESOURCE.to_owned(),
            namespace: String::new(),
            name: runner.to_owned(),
        }
    }

    /// Notes that the runner's connection ends here.
    pub(crate) async fn record(&self, runner: &str) -> Result<(), Failure> {
        let data = serde_json::to_vec(&self.own).unwrap_or_default();
        let written = identity::put(&*self.store, &Self::key(runner), &Bytes::from(data)).await;
        written.map(drop).map_err(unavailable)
    }

    /// Where the runner's connection was last known to end.
    pub(crate) async fn find(&self, runner: &str) -> Result<Option<Place>, Failure> {
        let found = self.store.get(Self::key(runner)).await;
        let found = found.map_err(unavailable)?;
        Ok(found.and_then(|found| serde_json::from_slice(&found.data).ok()))
    }

    /// Wakes whenever the runner dials in, at whichever server.
    pub(crate) async fn arrivals(&self, runner: &str) -> Result<BoxStream<'static, ()>, Failure> {
        let scope = Scope {
            resource: RESOURCE.to_owned(),
            namespace: None,
        };
        let events = self.store.watch(scope, None).await.map_err(unavailable)?;
        let runner = runner.to_owned();
        let of_runner = move |event: Result<Event, _>| {
            let arrived = event.is_ok_and(|event| event.object.key.name == runner);
            std::future::ready(arrived.then_some(()))
        };
        Ok(events.filter_map(of_runner).boxed())
    }

    /// Opens a stream to a runner that is connected at `place`, whose address is known.
    pub(crate) async fn open(
        &self,
        place: &Place,
        runner: &str,
        target: &Target,
    ) -> Result<Upgraded, Error> {
        let endpoint = Endpoint {
            address: Address::Tls {
                authority: place.address.clone(),
                config: self.config.clone(),
            },
            token: Some(self.token.clone()),
        };
        let kind = serde_json::to_value(target.kind).unwrap_or_default();
        let path = format!(
            "/apis/boatyard.dev/v1/runners/{runner}/relay?kind={}&environment={}&admin={}",
            kind.as_str().unwrap_or_default(),
            target.environment_uid,
            target.admin
        );
        endpoint.upgrade(&path, crate::streams::PROTOCOL).await
    }
}

fn unavailable(error: boatyard_store::Error) -> Failure {
    Failure::unavailable(error.to_string())
}
