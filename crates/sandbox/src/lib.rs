//! One isolated process tree on this kernel.
//!
//! Owns namespaces, id maps, mounts, cgroups, devices, seccomp and the private network of an
//! environment, and the small host-side monitor process that outlives the runner. It knows no
//! API objects, no images and no devcontainer.json: a [`spec::Spec`] names directories, numbers
//! and limits, and nothing else. Deciding what to run is `plan`'s, doing it in order `runner`'s.
//!
//! Crash behaviour: all mounts live in the monitor's own mount namespace, so that a killed
//! process leaves none behind; what can outlive one (cgroups, a veth, a half-written state
//! directory) is found again by name from the environment's id and removed by [`Sandboxes::remove`].
//!
//! # Processes
//!
//! ```text
//! runner ──request, reply socket──▶ spawner ──fork──▶ monitor ──clone3──▶ init (PID 1 inside)
//! (threads)                         (one thread,      (root, veth,        (own namespaces, pivots,
//!                                    no state)         cgroups, names)     executes the agent)
//! ```
//!
//! - A monitor is a plain child of the spawner, in a session and a cgroup of its own: it is
//!   reparented when the spawner ends; a second fork would only cost time.
//! - Init dies with its monitor until it executes, and outlives it from then on. A sandbox that
//!   lost its monitor is [`Observed::Running`] without one; nothing is killed by looking.
//! - Device nodes are made on a tmpfs of the sandbox rather than bound from the host, whose
//!   /dev/fuse only the host's root may open.
//! - The overlay is mounted by the host's root with `trusted.*` attributes (see `root`): layers
//!   mark opaque directories by `trusted.overlay.opaque`.
//! - The files of /etc that depend on the host are written into the root, not bound over it:
//!   [`GENERATED`].
//! - Inside, a bind mount of `/` has to be recursive (`--rbind`): the kernel does not let a user
//!   namespace peel off mounts it was given.
//!
//! Not here: masking in /proc, which would forbid nested containers.
//!
//! Read next: [`spec`], then `sandboxes`, `spawner`, `monitor`, `init`.

#![warn(missing_docs)]

#[cfg(not(target_os = "linux"))]
compile_error!("sandboxes are made of Linux namespaces");

pub mod background;
pub mod beneath;
pub mod disk;
pub mod spec;
pub mod swap;
pub mod view;

mod cgroup;
mod crash;
mod doctor;
mod error;
mod init;
mod monitor;
mod net;
mod notify;
mod protection;
mod protocol;
mod record;
mod root;
mod sandboxes;
mod seccomp;
mod spawner;
mod sys;

pub use cgroup::CLASSES;
pub use cgroup::group;
pub use doctor::{Check, doctor, doctor_for};
pub use error::Error;
pub use net::egress::EgressReport;
pub use protection::{Protection, Protections};
pub use record::Running;
pub use root::GENERATED;
pub use sandboxes::{Observed, Options, SPAWNER_ARGUMENT, Sandboxes};
pub use spawner::spawner_main;
#[cfg(feature = "removable-protections")]
pub use sys::probing;
