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
//! Read next: [`spec`], then `spawner`, `monitor`, `init`.

#[cfg(not(target_os = "linux"))]
compile_error!("sandboxes are made of Linux namespaces");

pub mod spec;

mod cgroup;
mod crash;
mod doctor;
mod error;
mod init;
mod monitor;
mod net;
mod protocol;
mod record;
mod root;
mod sandboxes;
mod seccomp;
mod spawner;
mod sys;

pub use cgroup::CLASSES;
pub use doctor::{Check, doctor, doctor_for};
pub use error::Error;
pub use record::Running;
pub use root::GENERATED;
pub use sandboxes::{Observed, Options, SPAWNER_ARGUMENT, Sandboxes};
pub use spawner::spawner_main;
