//! Bearer tokens: random, kept only as hashes, known to every server of the store.
//!
//! Comparing is by hash, so time tells nothing. A token that this server does not know is looked up
//! in the store before it is refused: another server may have minted it a moment ago. One that was
//! replaced elsewhere is forgotten with the store's next event. A kill loses at most a token that
//! nobody was told.

use super::Caller;
use boatyard_store::{Error, Key, Revision, Scope, Store};
use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The stored resource: a hash under its bearer's name.
const RESOURCE: &str = "tokens.internal.boatyard.dev";
/// How long following rests when the store ended it.
const AGAIN: Duration = Duration::from_secs(1);

/// Known tokens, by hash. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tokens {
    store: Arc<dyn Store>,
    known: Arc<RwLock<HashMap<String, Caller>>>,
}

/// Who can have a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bearer<'a> {
    /// The administrator, as the server with this id made it one.
    Admin(&'a str),
    /// A runner.
    Runner(&'a str),
    /// A server, by its id.
    Server(&'a str),
}

impl Bearer<'_> {
    fn name(self) -> String {
        match self {
            Self::Admin(id) => format!("admin/{id}"),
            Self::Runner(name) => format!("runner/{name}"),
            Self::Server(id) => format!("server/{id}"),
        }
    }

    fn parse(name: &str) -> Option<Bearer<'_>> {
        match name.split_once('/')? {
            ("admin", id) => Some(Bearer::Admin(id)),
            ("runner", name) => Some(Bearer::Runner(name)),
            ("server", id) => Some(Bearer::Server(id)),
            _ => None,
        }
    }

    fn caller(self) -> Caller {
        match self {
            Self::Admin(_) => Caller::admin(),
            Self::Runner(name) => Caller::runner(name),
            Self::Server(id) => Caller::server(id),
        }
    }
}

fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes())
        .iter()
        .fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn scope() -> Scope {
    Scope {
        resource: RESOURCE.to_owned(),
        namespace: None,
    }
}

impl Tokens {
    /// Reads what the store has.
    pub(crate) async fn open(store: Arc<dyn Store>) -> Result<Self, Error> {
        let tokens = Self {
            store,
            known: Arc::default(),
        };
        tokens.read().await?;
        Ok(tokens)
    }

    async fn read(&self) -> Result<Revision, Error> {
        let page = self.store.list(scope(), None, None, None).await?;
        let known = page.items.iter().filter_map(|stored| {
            let bearer = Bearer::parse(&stored.key.name)?;
            let hash: String = serde_json::from_slice(&stored.data).ok()?;
            Some((hash, bearer.caller()))
        });
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known.collect();
        Ok(page.revision)
    }

    /// Keeps up with what other servers mint, until shutdown.
    pub(crate) async fn follow(&self, shutdown: CancellationToken) {
        let following = async {
            loop {
                // Watched from before it is read: nothing falls in between.
                if let Ok(mut events) = self.store.watch(scope(), None).await
                    && self.read().await.is_ok()
                {
                    while let Some(Ok(_)) = events.next().await {
                        if self.read().await.is_err() {
                            break;
                        }
                    }
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = following => {}
            () = shutdown.cancelled() => {}
        }
    }

    fn known(&self, hash: &str) -> Option<Caller> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).cloned()
    }

    /// The caller a token belongs to.
    pub(crate) async fn caller(&self, token: &str) -> Result<Option<Caller>, Error> {
        let hash = hash(token);
        let known = self.known(&hash);
        if known.is_none() {
            self.read().await?;
            return Ok(self.known(&hash));
        }
        Ok(known)
    }

    /// A fresh token; earlier ones of the bearer are forgotten.
    pub(crate) async fn mint(&self, bearer: Bearer<'_>) -> Result<String, Error> {
        let token = boatyard_link::token::generate().map_err(|source| Error::Unavailable {
            place: "random numbers".to_owned(),
            what: "the kernel gave none".to_owned(),
            source: Some(source.into()),
        })?;
        let key = Key {
            resource: RESOURCE.to_owned(),
            namespace: String::new(),
            name: bearer.name(),
        };
        let data = Bytes::from(serde_json::Value::from(hash(&token)).to_string());
        super::put(&*self.store, &key, &data).await?;
        self.read().await?;
        Ok(token)
    }
}
