//! The certificate authority of all servers of a store.
//!
//! The first server makes it; a start that loses the race takes the winner's.

use boatyard_link::tls::{self, Authority};
use boatyard_store::{Error, Key, Store};
use bytes::Bytes;
use std::path::Path;

fn key() -> Key {
    Key {
        resource: "authorities.internal.boatyard.dev".to_owned(),
        namespace: String::new(),
        name: "tls".to_owned(),
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Store(#[from] Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Reads it from the store or makes it, and leaves what clients are to trust in `directory/ca.crt`.
pub(crate) async fn open(store: &dyn Store, directory: &Path) -> Result<Authority, Failure> {
    let stored = match store.get(key()).await? {
        Some(stored) => stored,
        None => {
            let pair = tls::Pair::generate()?;
            let data = serde_json::to_vec(&pair).unwrap_or_default();
            match store.create(key(), Bytes::from(data)).await {
                Err(Error::Exists(missing)) => {
                    let theirs = store.get(key()).await?;
                    theirs.ok_or(Error::NotFound(missing))?
                }
                outcome => outcome?,
            }
        }
    };
    let damaged = |error: serde_json::Error| tls::Error::Certificate(error.to_string());
    let pair: tls::Pair = serde_json::from_slice(&stored.data).map_err(damaged)?;
    Ok(Authority::open(&pair, directory)?)
}
