//! `bpf(2)`: loading a device filter and attaching it to a cgroup of version 2.
//!
//! Owns the two calls and the shape of an instruction; which instructions is `cgroup::devices`'.
//! The kernel verifies a program before it takes it; an attached one lives as long as its cgroup,
//! without any process.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// One instruction, `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination in the low half, source in the high one.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// Programs of the cgroup's ancestors and descendants count too: all have to allow.
const ALLOW_MULTI: u32 = 2;

/// The beginning of `union bpf_attr` for loading; the rest is zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
}

/// The same for attaching.
#[repr(C)]
struct Attach {
    target: RawFd,
    program: RawFd,
    kind: u32,
    flags: u32,
}

/// Loads a device filter.
pub(crate) fn load_device_filter(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        // It calls no function of the kernel, so any licence will do.
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: `load` and what it points to live across the call, its size and the number of
    // instructions are passed; the kernel only reads them. The closing-on-exec descriptor that a
    // success returns belongs to nobody else.
    unsafe {
        let fd = check(libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            &raw const load,
            size_of::<Load>(),
        ))?;
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Attaches a device filter to the cgroup whose directory is given.
pub(crate) fn attach_device_filter(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let attach = Attach {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `attach` lives across the call and its size is passed; the kernel only reads it, and
    // takes references of its own to what the two open descriptors name.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            &raw const attach,
            size_of::<Attach>(),
        )
    })?;
    Ok(())
}
