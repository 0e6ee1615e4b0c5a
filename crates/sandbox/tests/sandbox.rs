//! Sandboxes on the real kernel. Needs root, busybox-static and nft; says so loudly without.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, which say what was not tried"
)]

#[path = "sandbox/machine.rs"]
mod machine;
#[path = "sandbox/world.rs"]
mod world;

#[path = "sandbox/crash.rs"]
mod crash;
#[path = "sandbox/disk.rs"]
mod disk;
#[path = "sandbox/egress.rs"]
mod egress;
#[path = "sandbox/files.rs"]
mod files;
#[path = "sandbox/group.rs"]
mod group;
#[path = "sandbox/inside.rs"]
mod inside;
#[path = "sandbox/members.rs"]
mod members;
#[path = "sandbox/network.rs"]
mod network;
#[path = "sandbox/shape.rs"]
mod shape;
#[path = "sandbox/unified.rs"]
mod unified;
#[path = "sandbox/uplink.rs"]
mod uplink;
#[path = "sandbox/view.rs"]
mod view;
