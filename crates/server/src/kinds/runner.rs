//! Runners: anybody on the host reads them, each writes itself and dials in.

use super::behaviour::{Grant, READS, When};

const OWN: &[&str] = &["get", "create", "update", "patch", "watch"];

pub(super) const ACCESS: &[Grant] = &[
    Grant::local("", READS, When::Always),
    Grant::runner("", OWN, When::Named),
    Grant::runner("status", OWN, When::Named),
    Grant::runner("tunnel", &["create"], When::Named),
];
