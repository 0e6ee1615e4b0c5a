//! The real agent as PID 1 of a pid namespace, spoken to over its socket.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

mod exec;
mod hostile;
mod life;
mod tasks;
mod terminal;
