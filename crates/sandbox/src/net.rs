//! The private network of a sandbox.
pub(crate) mod dns;
pub(crate) mod host;
pub(crate) mod inside;
pub(crate) mod outside;
