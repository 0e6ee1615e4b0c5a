//! Runners: anybody on the host reads them and builds with them, each writes itself and dials in. The
//! token of a deleted one is good no longer.

use super::behaviour::{Behaviour, Grant, READS, When};
use crate::identity::tokens;
use boatyard_store::Key;

const OWN: &[&str] = &["get", "create", "update", "patch", "watch"];

const ACCESS: &[Grant] = &[
    Grant::local("", READS, When::Always),
    // To build with the caller's own rights; the runner refuses them its other verbs.
    Grant::local("connect", &["create"], When::Always),
    Grant::runner("", OWN, When::Named),
    Grant::runner("status", OWN, When::Named),
    Grant::runner("tunnel", &["create"], When::Named),
];

#[derive(Debug)]
pub(super) struct Runners;

impl Behaviour for Runners {
    fn access(&self) -> &'static [Grant] {
        ACCESS
    }

    fn goes_before(&self, name: &str) -> Option<Key> {
        Some(tokens::of_runner(name))
    }
}
