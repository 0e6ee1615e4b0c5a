//! The API server: Kubernetes's API machinery over the store, and the server's control loops.
//!
//! Owns authentication, authorization, admission, validation by schema and rules, watches, the
//! doors to runners, and placement. It knows nothing of how environments are made: that is the
//! runners', which are clients like any other. Stateless but for the store and the files of its
//! identity; it can be killed at any instruction.
//!
//! Read next: [`kinds`], `objects`, `resources`, `http_api`.

mod authorize;
mod body;
mod controllers;
mod deletion;
mod discovery;
mod failure;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod http_api;
mod identity;
pub mod kinds;
mod listen;
mod managed;
mod metrics;
mod objects;
mod openapi;
mod outlook;
mod patches;
mod peers;
mod protobuf;
mod request;
mod resources;
mod reviews;
mod schema;
mod selectors;
mod stored;
mod streams;
mod table;
mod watching;

pub use failure::Failure;
pub use flow::{Bound, Limits};

use boatyard_api::words::{DEFAULT_CLASS, NAMESPACE_RUNNERS, NAMESPACE_SYSTEM};
use boatyard_link::tunnel::Registry;
use boatyard_store::Store;
use http_api::Handler;
use identity::tokens::Bearer;
use identity::{Caller, Tokens};
use metrics::Metrics;
use peers::Peers;
use resources::{Resources, Target, WriteOptions};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a server is started with.
pub struct Options {
    /// Directory of what is this server's alone: its id, and what its administrator is given.
    pub state_dir: PathBuf,
    /// Objects.
    pub store: Arc<dyn Store>,
    /// Unix socket for callers on this host.
    pub unix_socket: Option<PathBuf>,
    /// Address for TLS.
    pub listen: Option<SocketAddr>,
    /// Names and addresses in the TLS certificate, besides localhost and the address itself.
    pub names: Vec<String>,
    /// How long events are kept after they were last seen.
    pub event_age: Duration,
    /// `host:port` at which other servers on the same store reach it; by default `listen`.
    pub advertise: Option<String>,
    /// What clients may hold, and how long they may take.
    pub limits: Limits,
    /// With several servers on one store: how long the others wait for one that is gone before one
    /// of them runs the controllers. At least a second.
    pub lease: Duration,
}

impl Options {
    /// Neither socket nor address yet.
    #[must_use]
    pub fn new(state_dir: PathBuf, store: Arc<dyn Store>) -> Self {
        Self {
            state_dir,
            store,
            unix_socket: None,
            listen: None,
            names: Vec::new(),
            event_age: Duration::from_secs(3600),
            advertise: None,
            limits: Limits::default(),
            lease: Duration::from_secs(15),
        }
    }
}

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or socket.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another server answers on the socket.
    #[error("another server answers on {0}; end it first or use another socket")]
    Taken(PathBuf),
    /// Certificates.
    #[error("cannot set up TLS")]
    Tls(#[from] boatyard_link::tls::Error),
    /// The store, which has the tokens and the authority.
    #[error(transparent)]
    Store(#[from] boatyard_store::Error),
    /// First objects.
    #[error("cannot write the first objects: {0}")]
    Bootstrap(Failure),
}

impl From<identity::authority::Failure> for Error {
    fn from(failure: identity::authority::Failure) -> Self {
        match failure {
            identity::authority::Failure::Store(error) => error.into(),
            identity::authority::Failure::Tls(error) => error.into(),
        }
    }
}

/// A server whose doors are open but nobody is let in yet.
pub struct Service {
    handler: Handler,
    unix: Option<listen::Unix>,
    tls: Option<listen::Tls>,
    settings: controllers::Settings,
    shutdown: CancellationToken,
}

/// Gives tokens to runners in the server's own name: to the one of this process. Cheap to clone.
#[derive(Clone)]
pub struct RunnerTokens(Tokens);

impl RunnerTokens {
    /// A fresh token for a runner; an earlier one is good no longer.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn mint(&self, runner: &str) -> Result<String, Error> {
        Ok(self.0.mint(Bearer::Runner(runner)).await?)
    }
}

impl Service {
    /// Opens sockets and writes the objects every server has.
    ///
    /// # Errors
    /// When a socket, a file or the store cannot be used.
    pub async fn new(options: Options) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: options.state_dir.clone(),
            source,
        };
        let directory = &options.state_dir;
        std::fs::create_dir_all(directory).map_err(io)?;
        let holder = controllers::Holder::open(directory);
        let id = holder.id();
        let tokens = Tokens::open(options.store.clone()).await?;
        let authority = identity::authority::open(&*options.store, directory).await?;
        let resources = Resources::new(options.store.clone(), Arc::new(authorize::Rules));
        first_objects(&resources).await.map_err(Error::Bootstrap)?;
        let (mut tls, mut address) = (None, String::new());
        if let Some(asked) = options.listen {
            let mut names = options.names.clone();
            let advertised = options.advertise.as_deref();
            let host = advertised.and_then(|address| address.rsplit_once(':'));
            names.extend(host.map(|(host, _)| host.trim_matches(['[', ']']).to_owned()));
            let bound = listen::Tls::bind(asked, &authority, names).await?;
            address = advertised.map_or_else(|| bound.address().to_string(), str::to_owned);
            if advertised.is_none() && bound.address().ip().is_unspecified() {
                address.clear();
            }
            tls = Some(bound);
        }
        if let Some(tls) = &tls {
            let path = directory.join("admin.kubeconfig");
            // Those who have a copy of it keep their access over restarts.
            let token = match listen::kubeconfig_token(&path) {
                Some(token) if tokens.caller(&token).await?.is_some() => token,
                _ => tokens.mint(Bearer::Admin(&id)).await?,
            };
            listen::write_kubeconfig(&path, tls.address(), &authority.pem, &token)
                .map_err(|source| Error::Io { path, source })?;
        }
        let token = tokens.mint(Bearer::Server(&id)).await?;
        let peers = Peers::new(options.store.clone(), id, address, token, &authority.pem)?;
        let shutdown = CancellationToken::new();
        let metrics = Metrics::new();
        let flow = flow::Flow::new(options.limits);
        let handler = Handler {
            resources,
            measures: http_api::Measures::new(&metrics),
            metrics,
            tokens,
            tunnels: Registry::new(),
            peers,
            published: http_api::Published::default(),
            flow,
            shutdown: shutdown.clone(),
        };
        let flow = Box::new(handler.flow.clone());
        let metrics = &handler.metrics;
        metrics.register(|registry| registry.register_collector(flow));
        let unix = options
            .unix_socket
            .as_deref()
            .map(listen::Unix::bind)
            .transpose()?;
        Ok(Self {
            handler,
            unix,
            tls,
            settings: controllers::Settings {
                event_age: options.event_age,
                lease: options.lease.max(Duration::from_secs(1)),
                holder,
            },
            shutdown,
        })
    }

    /// The address TLS is served on.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.tls.as_ref().map(listen::Tls::address)
    }

    /// What gives tokens to runners, also while this serves.
    #[must_use]
    pub fn runner_tokens(&self) -> RunnerTokens {
        RunnerTokens(self.handler.tokens.clone())
    }

    /// The ways to runners; one of this process is made known there.
    #[must_use]
    pub fn tunnels(&self) -> Registry {
        self.handler.tunnels.clone()
    }

    /// Serves until `shutdown`, then lets requests under way end.
    ///
    /// # Errors
    /// None once it serves; the type leaves room.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self {
            handler,
            unix,
            tls,
            settings,
            shutdown: ours,
        } = self;
        let (resources, metrics) = (handler.resources.clone(), handler.metrics.clone());
        let flow = handler.flow.clone();
        let controllers = controllers::run(resources, metrics, flow, settings, ours.clone());
        let unix_serving = async {
            if let Some(unix) = unix {
                unix.serve(handler.clone(), ours.clone()).await;
            }
        };
        let tls_serving = async {
            if let Some(tls) = tls {
                tls.serve(handler.clone(), ours.clone()).await;
            }
        };
        let ending = async {
            shutdown.cancelled().await;
            ours.cancel();
        };
        let following = handler.tokens.follow(ours.clone());
        tokio::join!(controllers, following, unix_serving, tls_serving, ending);
        Ok(())
    }
}

/// Objects every server has.
async fn first_objects(resources: &Resources) -> Result<(), Failure> {
    let class = json!({
        "metadata": {"name": DEFAULT_CLASS},
        "spec": {"description": "Everything the host has, with a bound on processes", "resources": {"pids": 16384}},
    });
    let objects = [
        (
            "",
            "namespaces",
            json!({"metadata": {"name": boatyard_api::DEFAULT_NAMESPACE}}),
        ),
        (
            "",
            "namespaces",
            json!({"metadata": {"name": NAMESPACE_RUNNERS}}),
        ),
        (
            "",
            "namespaces",
            json!({"metadata": {"name": NAMESPACE_SYSTEM}}),
        ),
        ("boatyard.dev", "environmentclasses", class),
    ];
    for (group, plural, object) in objects {
        let kinds = resources.kinds.clone();
        let kind = kinds
            .find(group, "v1", plural)
            .ok_or_else(|| Failure::internal("an unknown kind"))?;
        let target = Target {
            kind,
            namespace: "",
            name: "",
            subresource: "",
        };
        let created: Result<_, Failure> = resources
            .create(
                &Caller::internal("server"),
                &target,
                object,
                &WriteOptions::default(),
            )
            .await;
        match created {
            Err(failure) if failure.reason == "AlreadyExists" => {}
            outcome => drop::<Value>(outcome?.object),
        }
    }
    Ok(())
}
