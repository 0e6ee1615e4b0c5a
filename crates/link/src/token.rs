//! Bearer tokens: random, opaque, recognisable when leaked; and one as its bearer has it now.
//!
//! A server may end a token at any time. [`Token`] is shared by all that speak in its bearer's name:
//! whoever is refused first tells the others, who need not find out one by one, and whoever gets
//! another token gives it to all. What becomes of a bearer that is refused is its owner's to decide.

use std::io::Read;
use std::sync::Arc;
use tokio::sync::watch;

/// What every token begins with, for secret scanners.
pub const PREFIX: &str = "byt_";

/// A fresh token of 256 random bits.
///
/// # Errors
/// When the kernel gives no randomness.
pub fn generate() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    Ok(format!(
        "{PREFIX}{}",
        base64::Engine::encode(&engine, bytes)
    ))
}

/// A bearer's token, and whether the server takes it. Clones share it.
#[derive(Clone)]
pub struct Token(Arc<watch::Sender<Now>>);

struct Now {
    token: Arc<str>,
    refused: bool,
}

impl<T: Into<Arc<str>>> From<T> for Token {
    fn from(token: T) -> Self {
        let now = Now {
            token: token.into(),
            refused: false,
        };
        Self(Arc::new(watch::Sender::new(now)))
    }
}

/// Tells nothing of it.
impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let refused = self.is_refused();
        out.debug_struct("Token")
            .field("refused", &refused)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// Puts another in its place, for everybody who speaks with it from now on.
    pub fn replace(&self, token: impl Into<Arc<str>>) {
        self.0.send_replace(Now {
            token: token.into(),
            refused: false,
        });
    }

    /// Whether the server said last that it knows no such token.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.0.borrow().refused
    }

    /// Returns when the server refuses it; at once when it did.
    pub async fn refused(&self) {
        self.becomes(true).await;
    }

    /// Returns when it is good, for all that is known: the server took it, or it is another one.
    pub async fn good(&self) {
        self.becomes(false).await;
    }

    async fn becomes(&self, refused: bool) {
        // Fails only without a sender, and here is one.
        let _ = self
            .0
            .subscribe()
            .wait_for(|now| now.refused == refused)
            .await;
    }

    /// As it is now.
    #[must_use]
    pub fn now(&self) -> Arc<str> {
        self.0.borrow().token.clone()
    }

    /// Notes how the server took a token. One that was replaced since says nothing of this one.
    pub fn answered(&self, used: &Arc<str>, refused: bool) {
        self.0.send_if_modified(|now| {
            let news = now.refused != refused && Arc::ptr_eq(&now.token, used);
            now.refused ^= news;
            news
        });
    }
}

#[cfg(test)]
mod tests;
