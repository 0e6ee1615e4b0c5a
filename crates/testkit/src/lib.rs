//! Harness for tests that need more than one process.
//!
//! Owns starting a real daemon in its own state directory, socket, cgroups and address range, so
//! that tests run side by side; making small images; and photographing the host to see what was
//! left behind. It asserts nothing about Boatyard: the tests do. Nobody imports it.
//!
//! A [`Daemon`] that is dropped removes its environments and ends its processes, by id.
//!
//! Read next: [`daemon`], [`photo`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a harness fails loudly"
)]

pub mod amend;
pub mod archive;
pub mod client;
pub mod daemon;
pub mod development;
pub mod engines;
pub mod front;
pub mod history;
pub mod photo;
pub mod registry;
pub mod servers;
pub mod simulated;
pub mod tracer;
pub mod typist;
pub mod wait;
pub mod yard;

pub use client::Client;
pub use daemon::{Daemon, Ran};
pub use front::Front;
pub use registry::Registry;
pub use servers::Server;
pub use tracer::Tracer;
pub use typist::Typist;
