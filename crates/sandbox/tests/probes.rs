//! The probe suite: attacks by root inside a sandbox, each of which must be refused, and must
//! succeed once the protections that refuse it are left out.
//!
//! `probes/frame.rs` says what a probe is and how it is judged; the other files are the attacks, by
//! group. docs/probes.md lists them all and is held against them by `listed`. Needs what the tests
//! in `sandbox/` need.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, which print what was not tried and how long answers took"
)]

#[allow(dead_code, reason = "shared with the tests in sandbox/")]
#[path = "sandbox/world.rs"]
mod world;

#[macro_use]
#[allow(dead_code, reason = "not every group needs everything")]
#[path = "probes/frame.rs"]
mod frame;

#[path = "probes/files.rs"]
mod files;
#[path = "probes/hosts.rs"]
mod hosts;
#[path = "probes/kernel.rs"]
mod kernel;
#[path = "probes/listed.rs"]
mod listed;
#[allow(dead_code, reason = "shared with the tests in sandbox/")]
#[path = "sandbox/machine.rs"]
mod machine;
#[path = "probes/neighbour.rs"]
mod neighbour;
#[path = "probes/network.rs"]
mod network;
#[path = "probes/network_scene.rs"]
mod network_scene;
#[path = "probes/processes.rs"]
mod processes;
#[path = "probes/resources.rs"]
mod resources;
#[allow(dead_code, reason = "not every group needs everything")]
#[path = "probes/scene.rs"]
mod scene;
