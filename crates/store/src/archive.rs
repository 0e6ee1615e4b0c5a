//! A backup: everything a store holds at one revision, as a file for any store.
//!
//! Owns the form: lines of JSON, a header, an object each, and a last line with their number and
//! the checksum of all that is before it, so that a file that was cut or damaged is refused whole.
//! History is not in it. What is restored keeps its revisions, and the counter goes on far beyond
//! the backup's: what clients saw since is forgotten, and each is told to list again instead of
//! reading on from a revision that means something else now.
//!
//! It holds whatever the store does, secrets included: files of it are their reader's keys.

use std::io::BufRead;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Item, Key, Revision, Stored};

/// How far the counter jumps: beyond what can have been written since the backup, at ten thousand
/// changes a second for a day. etcd's restore from a snapshot does the same.
pub(crate) const JUMP: u64 = 1_000_000_000;

/// Version of the form.
const FORM: u32 = 1;

/// Everything a store holds at one revision. It takes little room beside the store, whatever is
/// written or deleted meanwhile: an object is made when it is asked for.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Of the last change.
    pub revision: Revision,
    /// In key order.
    pub objects: Vec<Item>,
}

/// The same as it was read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Of the last change.
    pub revision: Revision,
    /// In key order.
    pub objects: Vec<Stored>,
}

/// Why a file is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("the backup could not be read")]
    Io(#[from] std::io::Error),
    /// Not of this form.
    #[error(
        "line {line} of the file is none of a backup; name a file that `boatyard server backup` wrote"
    )]
    Foreign {
        /// Counted from 1.
        line: u64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Of a later form.
    #[error(
        "the backup has form {0}, written by a newer release, and this one knows {FORM}; upgrade"
    )]
    Newer(u32),
    /// Its end is missing.
    #[error("the backup was cut off; take another copy of it")]
    Cut,
    /// The checksum is another.
    #[error("the backup is damaged; take another copy of it")]
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct Header {
    boatyard: u32,
    revision: Revision,
}

/// One or the other.
#[derive(Default, Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    object: Option<Object<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<End>,
}

#[derive(Serialize, Deserialize)]
struct End {
    objects: u64,
    checksum: u32,
}

#[derive(Serialize, Deserialize)]
struct Object<'a> {
    resource: String,
    namespace: String,
    name: String,
    revision: Revision,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What a line is made of.
enum Part {
    Header(Header),
    Object(Arc<Stored>),
    End,
}

fn object(stored: &Stored) -> Result<Vec<u8>, serde_json::Error> {
    let key = &stored.key;
    serde_json::to_vec(&Line {
        object: Some(Object {
            resource: key.resource.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            revision: stored.revision,
            data: serde_json::from_slice(&stored.data)?,
        }),
        end: None,
    })
}

/// The lines of a file, each with its end.
fn lines(
    revision: Revision,
    objects: impl ExactSizeIterator<Item = Arc<Stored>> + Send + 'static,
) -> impl Iterator<Item = Result<Bytes, Error>> + Send + 'static {
    let count = objects.len() as u64;
    let header = Header {
        boatyard: FORM,
        revision,
    };
    let (mut hasher, mut number) = (crc32fast::Hasher::new(), 0);
    let texts = std::iter::once(Part::Header(header))
        .chain(objects.map(Part::Object))
        .chain(std::iter::once(Part::End));
    texts.map(move |part| {
        number += 1;
        let text = match part {
            Part::Header(header) => serde_json::to_vec(&header),
            Part::Object(stored) => object(&stored),
            Part::End => serde_json::to_vec(&Line {
                object: None,
                end: Some(End {
                    objects: count,
                    checksum: hasher.clone().finalize(),
                }),
            }),
        };
        let line = number;
        let mut text = text.map_err(|source| Error::Foreign { line, source })?;
        text.push(b'\n');
        hasher.update(&text);
        Ok(text.into())
    })
}

impl Snapshot {
    /// The lines of its file, each with its end, made one by one.
    ///
    /// # Errors
    /// [`Error::Foreign`] when an object is no JSON.
    pub fn lines(self) -> impl Iterator<Item = Result<Bytes, Error>> + Send + 'static {
        lines(
            self.revision,
            self.objects.into_iter().map(|item| item.stored()),
        )
    }

    /// All of it, as its file would be read.
    #[must_use]
    pub fn whole(&self) -> Backup {
        let stored = |item: &Item| Stored::clone(&item.stored());
        Backup {
            revision: self.revision,
            objects: self.objects.iter().map(stored).collect(),
        }
    }
}

impl Backup {
    /// Reads and checks one.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub fn read(from: &mut impl BufRead) -> Result<Self, Error> {
        let (mut hasher, mut number) = (crc32fast::Hasher::new(), 0);
        let mut text = Vec::new();
        let mut next = |text: &mut Vec<u8>| {
            text.clear();
            number += 1;
            // A line without its end is the last of a file that was cut.
            match from.read_until(b'\n', text)? {
                0 => Err(Error::Cut),
                _ if text.last() != Some(&b'\n') => Err(Error::Cut),
                _ => Ok(number),
            }
        };
        let line = next(&mut text)?;
        let header: Header =
            serde_json::from_slice(&text).map_err(|source| Error::Foreign { line, source })?;
        if header.boatyard > FORM {
            return Err(Error::Newer(header.boatyard));
        }
        hasher.update(&text);
        let mut objects = Vec::new();
        loop {
            let line = next(&mut text)?;
            let parsed: Line<'_> =
                serde_json::from_slice(&text).map_err(|source| Error::Foreign { line, source })?;
            if let Some(object) = parsed.object {
                let data = Bytes::copy_from_slice(object.data.get().as_bytes());
                objects.push(Stored {
                    key: Key {
                        resource: object.resource,
                        namespace: object.namespace,
                        name: object.name,
                    },
                    revision: object.revision,
                    data,
                });
                hasher.update(&text);
                continue;
            }
            let end = parsed.end.ok_or(Error::Damaged)?;
            let sound = end.objects == objects.len() as u64
                && end.checksum == hasher.finalize()
                && objects.is_sorted_by(|one, next| one.key < next.key)
                && objects.iter().all(|one| one.revision <= header.revision);
            return if sound {
                Ok(Self {
                    revision: header.revision,
                    objects,
                })
            } else {
                Err(Error::Damaged)
            };
        }
    }

    /// The revision at which a store that it is restored into begins.
    pub(crate) fn begins(&self) -> u64 {
        self.revision.0.saturating_add(JUMP)
    }

    /// Its objects in the order of their revisions, as a database keeps them.
    pub(crate) fn versions(self) -> Vec<crate::version::Version> {
        let mut objects = self.objects;
        objects.sort_by_key(|stored| stored.revision);
        let version = |object| crate::version::Version {
            change: crate::Change::Created,
            object: std::sync::Arc::new(object),
        };
        objects.into_iter().map(version).collect()
    }
}

#[cfg(test)]
mod tests;
