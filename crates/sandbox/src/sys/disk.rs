//! What limits a disk: project quotas, loop devices, and the size of an ext4 file system; and swap.
//!
//! Owns the calls that rustix has no safe form of, each a thin wrapper; which of them make up a
//! limit is in `disk`. Structures are the kernel's, from its headers named at each.

use super::check;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `struct fsxattr` of include/uapi/linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// New files of the directory get its project.
const INHERIT: u32 = 0x200;
const FSGETXATTR: u64 = 0x801c_581f;
const FSSETXATTR: u64 = 0x401c_5820;

/// `ioctl(2)` with a structure the kernel reads and may write.
fn ioctl<T>(fd: BorrowedFd<'_>, request: u64, argument: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: each caller in this module pairs the request with the structure that it reads or
    // writes, by its size in the request's number or by its header; it lives across the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    check(result.into())
}

/// The project of a file or directory.
pub(crate) fn project(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut attributes = Attributes::default();
    ioctl(fd, FSGETXATTR, &mut attributes)?;
    Ok(attributes.project)
}

/// Puts a file, or a directory and what will be made in it, into a project.
pub(crate) fn set_project(fd: BorrowedFd<'_>, project: u32, directory: bool) -> io::Result<()> {
    let mut attributes = Attributes::default();
    ioctl(fd, FSGETXATTR, &mut attributes)?;
    let flags = if directory {
        attributes.flags | INHERIT
    } else {
        attributes.flags
    };
    if (attributes.project, attributes.flags) == (project, flags) {
        return Ok(());
    }
    (attributes.project, attributes.flags) = (project, flags);
    ioctl(fd, FSSETXATTR, &mut attributes)?;
    Ok(())
}

/// Projects, among the kinds of quota.
const PROJECTS: u32 = 2;
/// Of include/uapi/linux/quota.h.
const SETQUOTA: u32 = 0x80_0008;
const LIMITS: u32 = 5;
/// Of include/uapi/linux/dqblk_xfs.h.
const XGETQSTATV: u32 = 0x5808;
const PROJECTS_ENFORCED: u16 = 1 << 5;

fn quotactl<T>(at: BorrowedFd<'_>, command: u32, project: u32, argument: &mut T) -> io::Result<()> {
    // SAFETY: each caller in this module pairs the command with its structure, which lives across
    // the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            at.as_raw_fd(),
            (command << 8) | PROJECTS,
            project,
            std::ptr::from_mut(argument),
        )
    };
    check(result).map(drop)
}

/// `struct fs_quota_statv` as far as it is read, and room for the rest of it.
#[repr(C)]
struct QuotaState {
    version: i8,
    padding: u8,
    flags: u16,
    rest: [u64; 40],
}

/// Whether the file system of this directory keeps projects to their limits.
pub(crate) fn projects_enforced(at: BorrowedFd<'_>) -> io::Result<bool> {
    let mut state = QuotaState {
        version: 1,
        padding: 0,
        flags: 0,
        rest: [0; 40],
    };
    quotactl(at, XGETQSTATV, 0, &mut state)?;
    Ok(state.flags & PROJECTS_ENFORCED != 0)
}

/// `struct if_dqblk`: blocks are of 1024 bytes.
#[repr(C)]
#[derive(Default)]
struct Quota {
    blocks_hard: u64,
    blocks_soft: u64,
    bytes: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// Limits what a project may hold; 0 is no limit.
pub(crate) fn limit_project(
    at: BorrowedFd<'_>,
    project: u32,
    bytes: u64,
    inodes: u64,
) -> io::Result<()> {
    let mut quota = Quota {
        blocks_hard: bytes.div_ceil(1024),
        inodes_hard: inodes,
        valid: LIMITS,
        ..Quota::default()
    };
    quotactl(at, SETQUOTA, project, &mut quota)
}

/// `struct loop_info64` of include/uapi/linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LoopInfo {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    fn new(flags: u32) -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const LOOP_CONFIGURE: u64 = 0x4c0a;
const LOOP_GET_STATUS64: u64 = 0x4c05;
const LOOP_SET_CAPACITY: u64 = 0x4c07;
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
/// The device lets go of its file when nobody has it open or mounted.
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// Number of a loop device that is free at this moment, by /dev/loop-control.
pub(crate) fn free_loop(control: BorrowedFd<'_>) -> io::Result<u32> {
    let number = ioctl(control, LOOP_CTL_GET_FREE, &mut 0_u64)?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Backs a loop device by a file. EBUSY when somebody else was faster.
pub(crate) fn configure_loop(
    device: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    block_size: u32,
    direct: bool,
) -> io::Result<()> {
    let flags = if direct {
        AUTOCLEAR | DIRECT_IO
    } else {
        AUTOCLEAR
    };
    let mut config = LoopConfig {
        fd: file.as_raw_fd().unsigned_abs(),
        block_size,
        info: LoopInfo::new(flags),
        reserved: [0; 8],
    };
    ioctl(device, LOOP_CONFIGURE, &mut config).map(drop)
}

/// What a loop device is backed by; ENXIO for nothing.
pub(crate) fn loop_info(device: BorrowedFd<'_>) -> io::Result<LoopInfo> {
    let mut info = LoopInfo::new(0);
    ioctl(device, LOOP_GET_STATUS64, &mut info)?;
    Ok(info)
}

/// Lets a loop device see that its file has grown.
pub(crate) fn loop_grown(device: BorrowedFd<'_>) -> io::Result<()> {
    ioctl(device, LOOP_SET_CAPACITY, &mut 0_u64).map(drop)
}

/// Grows the mounted ext4 file system of this directory to so many of its blocks.
pub(crate) fn resize_ext4(at: BorrowedFd<'_>, mut blocks: u64) -> io::Result<()> {
    const RESIZE_FS: u64 = 0x4008_6610;
    ioctl(at, RESIZE_FS, &mut blocks).map(drop)
}

/// Gives what the file system of this directory has free back to what it lies on.
pub(crate) fn trim(at: BorrowedFd<'_>) -> io::Result<()> {
    const FITRIM: u64 = 0xc018_5879;
    // Start, length, shortest run.
    let mut range = [0_u64, u64::MAX, 1 << 20];
    ioctl(at, FITRIM, &mut range).map(drop)
}

/// Lets the kernel swap to a device, before those of a lower priority.
pub(crate) fn swap_on(device: &Path, priority: u16) -> io::Result<()> {
    const PREFER: i32 = 0x8000;
    let path = CString::new(device.as_os_str().as_bytes())?;
    let flags = PREFER | i32::from(priority & 0x7fff);
    // SAFETY: the path is a string with its end, and lives across the call.
    check(unsafe { libc::swapon(path.as_ptr(), flags) }.into())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    //! The structures have the kernel's sizes.
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(size_of::<Quota>(), 72);
        assert!(size_of::<QuotaState>() >= 160);
    }
}
