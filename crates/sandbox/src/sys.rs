//! The kernel calls the standard library and rustix do not offer safely.
//!
//! Owns every `unsafe` block of the workspace: cloning into namespaces, execution by descriptor,
//! thread credentials, idmapping of mounts, installing a seccomp filter, loading a device filter,
//! seccomp's notifications, quotas, loop devices and swap. Each function is a thin
//! wrapper with an `io::Result`; what the calls are used for is decided one floor up (`monitor`,
//! `init`, `root`). The processes that use them are single-threaded: a fork here copies a whole
//! consistent address space, so that allocating in the child is sound.
//!
//! Read next: [`process`], [`mounts`], [`notify`], [`bpf`], [`disk`].
#![allow(
    unsafe_code,
    reason = "the one place where the workspace talks to the kernel directly"
)]

pub(crate) mod bpf;
pub(crate) mod disk;
pub(crate) mod mounts;
pub(crate) mod notify;
#[cfg(feature = "removable-protections")]
pub mod probing;
pub(crate) mod process;

use std::io;

/// Turns the `-1` of a system call into the error it set.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
