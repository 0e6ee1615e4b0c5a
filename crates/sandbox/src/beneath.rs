//! Look-ups that stay beneath a directory of untrusted making.
//!
//! The one caller of `openat2(2)`: at a `..` the kernel gives a look-up up whenever anything was
//! renamed or mounted anywhere on the machine meanwhile, and asks to begin again.

use crate::protection::{self, Protection};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How often a look-up begins again before that is an error.
const TRIES: u32 = 10_000;

/// Opens what exists at `path` below `root`. Magic links are never followed, the descriptor is
/// closed on exec; `resolve` says what else holds (BENEATH refuses links that lead out, IN_ROOT
/// reads them as if `root` were `/`).
///
/// # Errors
/// As of openat2(2); EXDEV and ELOOP for what leads out.
pub fn open(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    if protection::removed(Protection::Resolution) {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        return rustix::fs::openat(&root, path, flags, Mode::empty());
    }
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            outcome => return outcome,
        }
    }
}
