//! Who manages which fields: tracking of every write, and server-side apply.
//!
//! Pure over JSON, after structured-merge-diff: `update` says who owns what after a write of any
//! other kind, `apply` merges a configuration into the live object, takes out what its applier had
//! applied before and left out now, and fails where others own what it would change. Storing is
//! `resources`'; defaults are filled in after an apply and before the tracking of other writes, so
//! that appliers never own defaults. Nothing here trusts `metadata.managedFields` of a client more
//! than Kubernetes does: what cannot be read is as if it were not sent.
//!
//! Read next: `set`, `types`, `merge`, `apply`.

mod apply;
mod compare;
mod element;
mod last_applied;
mod merge;
mod name;
mod owners;
mod reconcile;
mod remove;
mod set;
mod typed;
mod types;
mod update;

pub(crate) use apply::apply;
pub(crate) use name::{check_entries, check_name, from_agent};
pub(crate) use set::Set as Fields;
pub(crate) use types::Ref as Type;
pub(crate) use update::{decided, settle, take, update};

use crate::kinds::Kind;
use jiff::Timestamp;
use set::Set;
use std::sync::LazyLock;

/// Who writes what, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write<'a> {
    pub(crate) kind: &'a Kind,
    /// The field manager.
    pub(crate) manager: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) now: Timestamp,
}

/// Fields that nobody owns: identity, and what the server sets.
const NOBODYS: [&[&str]; 11] = [
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// What a write cannot change, or nobody can own.
fn ignored(write: &Write<'_>) -> &'static Set {
    static PLAIN: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&NOBODYS));
    static MAIN: LazyLock<Set> = LazyLock::new(|| {
        let status = Set::of_fields(&[&["status"]]);
        Set::of_fields(&NOBODYS).union(status)
    });
    static STATUS: LazyLock<Set> = LazyLock::new(|| {
        let rest = Set::of_fields(&[&["metadata"], &["spec"]]);
        Set::of_fields(&NOBODYS).union(rest)
    });
    match (write.subresource, write.kind.has_status) {
        ("status", _) => &STATUS,
        (_, true) => &MAIN,
        (_, false) => &PLAIN,
    }
}

/// `metadata` itself, which is there always.
static METADATA: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[&["metadata"]]));

#[cfg(test)]
mod tests;
