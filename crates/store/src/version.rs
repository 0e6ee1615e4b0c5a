//! A change as the databases keep it: one row.
//!
//! Owns what the implementations' tables have in common: how a change is numbered, each row's
//! checksum (no database would notice a bit flipped in a value), and the rules by which rows read
//! in order become a history.
//!
//! Read next: `history`, which they become.

use std::sync::Arc;

use crate::history::History;
use crate::{Change, Stored};

/// A change and what it made of the object.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) change: Change,
    pub(crate) object: Arc<Stored>,
}

impl Version {
    pub(crate) fn revision(&self) -> u64 {
        self.object.revision.0
    }

    /// CRC-32 of all columns, each text with its length.
    pub(crate) fn checksum(&self, at_millis: u64) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let change = self.change.number().cast_unsigned();
        for number in [self.revision(), change, at_millis] {
            hasher.update(&number.to_le_bytes());
        }
        let key = &self.object.key;
        for text in [&key.resource, &key.namespace, &key.name] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&self.object.data);
        hasher.finalize()
    }

    /// Puts it into a history being read; false when it does not fit there, which damage explains.
    pub(crate) fn load(self, history: &mut History, at_millis: u64) -> bool {
        let current = history.at(&self.object.key).is_some();
        if self.revision() > history.compacted() {
            let fits = self.revision() == history.revision() + 1
                && current != (self.change == Change::Created);
            if fits {
                history.apply(self.change, self.object, at_millis);
            }
            return fits;
        }
        // Of a key's forgotten versions only the last is kept, and none of a deleted one.
        let fits = !current && self.change != Change::Deleted;
        if fits {
            history.restore(self.object);
        }
        fits
    }
}

impl Change {
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Created => 0,
            Self::Updated => 1,
            Self::Deleted => 2,
        }
    }

    pub(crate) fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Created),
            1 => Some(Self::Updated),
            2 => Some(Self::Deleted),
            _ => None,
        }
    }
}
