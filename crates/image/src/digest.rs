//! Content addresses: `sha256:` and 64 hexadecimal digits.
//!
//! Other algorithms of the specification are refused by name: no registry
//! serves them, and a digest nobody checks is worse than none.

use std::fmt;
use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest {
    hex: String,
}

impl Digest {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let valid = hex.len() == 64
            && hex
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Digest {
            hex: hex.to_owned(),
        })
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        Digest::from_hasher(sha2::Sha256::new_with_prefix(bytes))
    }

    pub(crate) fn from_hasher(hasher: sha2::Sha256) -> Self {
        Digest {
            hex: hex::encode(hasher.finalize()),
        }
    }

    pub(crate) fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Digest::parse(&text).ok_or_else(|| format!("{text:?} is no sha256 digest"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// Buffers a stream and digests all of it as it passes.
pub(crate) struct Digesting<R> {
    inner: R,
    hasher: sha2::Sha256,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    total: u64,
}

impl<R: Read> Digesting<R> {
    pub(crate) fn new(inner: R) -> Self {
        Digesting {
            inner,
            hasher: sha2::Sha256::new(),
            buffer: vec![0; 256 << 10].into_boxed_slice(),
            start: 0,
            end: 0,
            total: 0,
        }
    }

    /// Of all that was read so far, and how much that was.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest::from_hasher(self.hasher), self.total)
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = {
            let buffer = self.fill_buf()?;
            let length = buffer.len().min(bytes.len());
            bytes[..length].copy_from_slice(&buffer[..length]);
            length
        };
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Digesting<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            let length = loop {
                match self.inner.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => break outcome?,
                }
            };
            self.hasher.update(&self.buffer[..length]);
            self.total += length as u64;
            self.start = 0;
            self.end = length;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
    }
}
