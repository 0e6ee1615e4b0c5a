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

pub mod spec;
