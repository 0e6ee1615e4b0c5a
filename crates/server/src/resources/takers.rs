//! Namespaces that objects may be made in, known by what is stored of them.
//!
//! Every creation reads its namespace twice. What was found to be no namespace under deletion is that
//! as long as the very same bytes are stored: nobody need look into them again. It decides nothing
//! without having read the store, and forgets everything rather than grow.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most namespaces known.
const MOST: usize = 1024;

/// The bytes of each, kept so that no others can be in their place. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Takers(Arc<Mutex<HashMap<String, Bytes>>>);

impl Takers {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a namespace of these bytes is known to take objects.
    pub(super) fn has(&self, namespace: &str, data: &Bytes) -> bool {
        let known = self.known();
        let same = |known: &Bytes| known.as_ptr() == data.as_ptr() && known.len() == data.len();
        known.get(namespace).is_some_and(same)
    }

    /// Notes that one does.
    pub(super) fn note(&self, namespace: &str, data: Bytes) {
        let mut known = self.known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(namespace.to_owned(), data);
    }
}
