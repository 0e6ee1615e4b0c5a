//! Bearer tokens: random, opaque, recognisable when leaked.

use std::io::Read;

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
