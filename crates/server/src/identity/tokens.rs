//! Bearer tokens: random, kept only as hashes, known to every server of the store.
//!
//! Comparing is by hash, so time tells nothing. A token that this server does not know is looked up
//! in the store before it is refused: another server may have minted it a moment ago. These looks
//! are shared and paced, because anybody may come with a token that nobody has. One that was
//! replaced, or whose runner was deleted, at whichever server, is forgotten with the store's next
//! event, and what was begun with it ends: its [`Caller`] says when. A kill loses at most a token
//! that nobody was told.

use super::Caller;
use boatyard_store::{Error, Key, Revision, Scope, Store};
use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The stored resource: a hash under its bearer's name.
const RESOURCE: &str = "tokens.internal.boatyard.dev";
/// How long following rests when the store ended it.
const AGAIN: Duration = Duration::from_secs(1);
/// Looks into the store for tokens that are not known are at least so far apart.
const PACE: Duration = Duration::from_millis(100);

/// Known tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tokens {
    store: Arc<dyn Store>,
    known: Arc<RwLock<Known>>,
    looked: Arc<Mutex<Option<Look>>>,
}

/// As the store had them at a revision, by hash.
#[derive(Default)]
struct Known {
    at: Revision,
    callers: HashMap<String, Caller>,
}

/// The last look into the store for a token that was not known.
struct Look {
    began: Instant,
    answered: bool,
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

/// Where a runner's token is.
pub(crate) fn of_runner(name: &str) -> Key {
    key(Bearer::Runner(name))
}

fn key(bearer: Bearer<'_>) -> Key {
    Key {
        resource: RESOURCE.to_owned(),
        namespace: String::new(),
        name: bearer.name(),
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
    pub(crate) async fn open(store: Arc<dyn Store>) -> Result<Self, Error> {
        let tokens = Self {
            store,
            known: Arc::default(),
            looked: Arc::default(),
        };
        tokens.read().await?;
        Ok(tokens)
    }

    async fn read(&self) -> Result<(), Error> {
        let page = self.store.list(scope(), None, None, None).await?;
        let stored = page.stored();
        let read = stored.iter().filter_map(|stored| {
            let bearer = Bearer::parse(&stored.key.name)?;
            let hash: String = serde_json::from_slice(&stored.data).ok()?;
            Some((hash, bearer))
        });
        let read: Vec<(String, Bearer<'_>)> = read.collect();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Of two reads at once the later is the truth, whichever comes back last.
        if page.revision < known.at {
            return Ok(());
        }
        let mut before = std::mem::take(&mut known.callers);
        known.at = page.revision;
        known.callers = read
            .into_iter()
            .map(|(hash, bearer)| {
                let caller = before.remove(&hash);
                (hash, caller.unwrap_or_else(|| bearer.caller()))
            })
            .collect();
        for caller in before.values() {
            caller.forget();
        }
        Ok(())
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
        known.callers.get(hash).cloned()
    }

    /// The caller a token belongs to.
    pub(crate) async fn caller(&self, token: &str) -> Result<Option<Caller>, Error> {
        let hash = hash(token);
        let known = self.known(&hash);
        if known.is_none() {
            self.look().await?;
            return Ok(self.known(&hash));
        }
        Ok(known)
    }

    /// Reads the store, or waits for a look of others that begins from now on.
    async fn look(&self) -> Result<(), Error> {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if let Some(last) = &*looked {
            if last.began >= asked {
                return if last.answered {
                    Ok(())
                } else {
                    Err(Error::Unavailable {
                        place: "tokens".to_owned(),
                        what: "the store did not answer; try again".to_owned(),
                        source: None,
                    })
                };
            }
            tokio::time::sleep_until(last.began + PACE).await;
        }
        let began = Instant::now();
        let read = self.read().await;
        *looked = Some(Look {
            began,
            answered: read.is_ok(),
        });
        read
    }

    /// A fresh token; earlier ones of the bearer are forgotten.
    pub(crate) async fn mint(&self, bearer: Bearer<'_>) -> Result<String, Error> {
        let token = boatyard_link::token::generate().map_err(|source| Error::Unavailable {
            place: "random numbers".to_owned(),
            what: "the kernel gave none".to_owned(),
            source: Some(source.into()),
        })?;
        let data = Bytes::from(serde_json::Value::from(hash(&token)).to_string());
        super::put(&*self.store, &key(bearer), &data).await?;
        self.read().await?;
        Ok(token)
    }
}

#[cfg(test)]
mod tests;
