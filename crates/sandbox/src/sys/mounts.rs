//! `mount_setattr(2)`: idmaps and locked flags on a mount made by `open_tree` or `fsmount`.
//!
//! Owns the one mount call rustix lacks; everything else about mounts is in `root`.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Attributes to set on a mount.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes {
    /// `MOUNT_ATTR_*` bits.
    pub(crate) set: u64,
    /// Apply to the mounts below it too.
    pub(crate) recursive: bool,
}

/// Sets and clears `MOUNT_ATTR_*` bits of a mount that is in the calling process's namespace; what
/// is in both is set. An access time's bits go together: clear all of them to set one.
pub(crate) fn change(mount: BorrowedFd<'_>, set: u64, clear: u64) -> io::Result<()> {
    apply(
        mount,
        libc::AT_EMPTY_PATH,
        &libc::mount_attr {
            attr_set: set,
            attr_clr: clear & !set | clear & libc::MOUNT_ATTR__ATIME,
            propagation: 0,
            userns_fd: 0,
        },
    )
}

/// Sets `attributes`, and when `userns` is given shifts the mount's ids by that namespace's maps.
pub(crate) fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    userns: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes.set | userns.map_or(0, |_| libc::MOUNT_ATTR_IDMAP),
        attr_clr: 0,
        propagation: 0,
        userns_fd: userns.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
    };
    let flags = libc::AT_EMPTY_PATH
        | if attributes.recursive {
            libc::AT_RECURSIVE
        } else {
            0
        };
    apply(mount, flags, &attr)
}

fn apply(mount: BorrowedFd<'_>, flags: i32, attr: &libc::mount_attr) -> io::Result<()> {
    // SAFETY: the path is a NUL-terminated literal, `attr` lives across the call and its size is
    // passed; the kernel only reads both.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}
