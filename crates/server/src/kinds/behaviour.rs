//! What a kind has of its own beyond its schema and its rules: who may touch it, what the server
//! says of an object on the way in.
//!
//! Everything has a default, and the defaults are the safe ones: a kind that says nothing is for
//! administrators alone. `authorize` decides by the [`Grant`]s, `resources::write` calls the hooks;
//! neither knows a kind by name.
//!
//! Read next: `environment`, which has most to say.

use crate::failure::Failure;
use crate::identity::Caller;
use crate::outlook::Outlook;
use boatyard_store::Key;
use jiff::Timestamp;
use serde_json::Value;

/// Reading verbs.
pub const READS: &[&str] = &["get", "list", "watch"];

/// A class of callers. Administrators may do everything and are in no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Users of this host, through the unix socket.
    Local,
    /// Runners, by their token.
    Runner,
}

/// Something that a class of callers may do.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// To whom it is granted.
    pub who: Who,
    /// The subresource; empty for the object itself.
    pub subresource: &'static str,
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// With which objects.
    pub when: When,
}

impl Grant {
    /// To users of this host.
    pub(crate) const fn local(
        subresource: &'static str,
        verbs: &'static [&'static str],
        when: When,
    ) -> Self {
        Self {
            who: Who::Local,
            subresource,
            verbs,
            when,
        }
    }

    /// To runners.
    pub(crate) const fn runner(
        subresource: &'static str,
        verbs: &'static [&'static str],
        when: When,
    ) -> Self {
        Self {
            who: Who::Runner,
            ..Self::local(subresource, verbs, when)
        }
    }
}

/// With which objects something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// With any; what a list shows is thinned by [`Behaviour::shows`].
    Always,
    /// With objects of the caller's own, as [`Behaviour::concerns`] says.
    Own,
    /// Likewise, and with names nothing stands at: that there is nothing tells nothing.
    OwnOrAbsent,
    /// With those in this namespace.
    In(&'static str),
    /// With the one of the runner's own name.
    Named,
    /// With the one of the runner's own name in this namespace.
    NamedIn(&'static str),
    /// With those a field selector demands to be bound to the runner.
    Selected,
}

/// An object on its way in.
pub(crate) struct Admission<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) object: &'a mut Value,
    /// What is stored; none at creation.
    pub(crate) old: Option<&'a Value>,
    /// What stands at [`Behaviour::looks_at`].
    pub(crate) seen: Option<&'a Value>,
}

/// What a kind has of its own.
pub(crate) trait Behaviour: std::fmt::Debug + Send + Sync {
    /// Who may do what, beside administrators.
    fn access(&self) -> &'static [Grant] {
        &[]
    }

    /// Whether an object is the caller's own.
    fn concerns(&self, _caller: &Caller, _object: &Value) -> bool {
        false
    }

    /// Whether a caller who may list sees this object. It is given [`Self::shows_by`] of the object
    /// with its name, namespace, labels and annotations, and nothing else.
    fn shows(&self, _caller: &Caller, _object: &Value) -> bool {
        true
    }

    /// Paths that [`Self::shows`] reads.
    fn shows_by(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether names are DNS labels, since they become names of hosts or folders; subdomains
    /// otherwise.
    fn names_are_labels(&self) -> bool {
        false
    }

    /// Whether objects can own others, which a deletion then says what to do with.
    fn has_dependents(&self) -> bool {
        true
    }

    /// Whether there is a finalize subresource, which alone writes `spec.finalizers`.
    fn has_finalize(&self) -> bool {
        false
    }

    /// Whether something besides metadata.finalizers holds an object that is deleted.
    fn is_held(&self, _object: &Value) -> bool {
        false
    }

    /// Says on an object what the beginning of its deletion changes.
    fn mark_deleted(&self, _object: &mut Value) {}

    /// Restores in a main write what only a subresource writes.
    fn keep(&self, _object: &mut Value, _old: &Value) {}

    /// Whether objects are deleted one by one alone, since each deletes what is in it.
    fn deleted_one_by_one(&self) -> bool {
        false
    }

    /// What is removed before an object of this name is, since it must not outlive it.
    fn goes_before(&self, _name: &str) -> Option<Key> {
        None
    }

    /// Another object that [`Self::admit`] needs to see at creation.
    fn looks_at(&self, _object: &Value) -> Option<Key> {
        None
    }

    /// Completes or refuses an object on creation and on every later write.
    ///
    /// # Errors
    /// When this caller may not write it so.
    fn admit(&self, _admission: &mut Admission<'_>) -> Result<(), Failure> {
        Ok(())
    }

    /// What is known of a new object before anybody has looked at it.
    fn first_status(&self, _object: &Value, _outlook: &Outlook, _now: Timestamp) -> Option<Value> {
        None
    }

    /// Refuses a deletion.
    ///
    /// # Errors
    /// When the object must stay.
    fn admit_deletion(&self, _object: &Value) -> Result<(), Failure> {
        Ok(())
    }
}

/// Nothing of its own: for administrators alone.
#[derive(Debug)]
pub(crate) struct Private;

impl Behaviour for Private {}

/// Nothing of its own but who may touch it.
#[derive(Debug)]
pub(crate) struct Open(pub(crate) &'static [Grant]);

impl Behaviour for Open {
    fn access(&self) -> &'static [Grant] {
        self.0
    }
}
