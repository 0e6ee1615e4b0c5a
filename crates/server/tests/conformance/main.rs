//! The conventions of the API, held against every kind a running server serves.
//!
//! Kinds come from the server's own discovery, objects of them from the samples that every kind's
//! registration brings: a resource that is added is tested here without a test of its own. What a
//! kind has of its own beyond the conventions is tested in `tests/api`.
//!
//! Read next: `subject`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod access;
mod bodies;
mod deletion;
#[path = "../api/harness.rs"]
#[allow(dead_code, reason = "shared with the other tests of the API")]
mod harness;
mod lists;
mod published;
mod subject;
mod watches;
mod writes;
