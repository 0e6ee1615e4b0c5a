//! Clients nobody here wrote, against a real server process: what their users rely on.
//!
//! Each client is as its makers publish it, in the version the set-up pins; its scripts lie beside
//! the tests. What is expected is what Kubernetes documents.
//! docs/clients.md lists who is held by which test; CONTRIBUTING.md says how to add one.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests"
)]

mod javascript;
mod kubectl;
mod openapi;
mod place;
mod python;
mod rust;
mod tools;
