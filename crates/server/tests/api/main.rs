//! The API as clients meet it: a whole server with its real store, over a unix socket and TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod answers;
mod apply;
mod bodies;
mod callers;
mod collector;
mod discovery;
mod floods;
mod harness;
mod hostile;
mod leaders;
mod lists;
mod namespaces;
mod objects;
mod openapi;
mod placement;
mod projects;
mod reviews;
mod servers;
mod slow;
mod together;
mod watches;
