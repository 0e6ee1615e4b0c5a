//! What a new environment can expect: whether there is a runner for it, as far as this server knows.
//!
//! The scheduler knows, where it runs. What it would have to say in a write of its own to every
//! environment that is made while there is no runner, is said at creation instead. Where it does not
//! run nothing is known here, and it says it afterwards. This decides nothing: who is told that there
//! is no runner is placed like all others as soon as there is one.
//!
//! Read next: `controllers::scheduler`.

use std::sync::{Arc, PoisonError, RwLock, Weak};

/// Somebody who knows.
pub(crate) trait Expect: Send + Sync {
    /// Why an environment made now would have to wait; None when it would not.
    fn why_not(&self) -> Option<&'static str>;
}

/// Whoever knows at present. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Outlook(Arc<RwLock<Option<Weak<dyn Expect>>>>);

impl Outlook {
    /// From now on this one is asked, for as long as it is there.
    pub(crate) fn ask(&self, knowing: Weak<dyn Expect>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(knowing);
    }

    /// Why an environment made now would have to wait, when that is known.
    pub(crate) fn why_not(&self) -> Option<&'static str> {
        let knowing = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let knowing = knowing.as_ref()?.upgrade()?;
        knowing.why_not()
    }
}
