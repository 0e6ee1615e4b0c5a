//! Which system calls change the world.
//!
//! Owns the list, and the reading of a stopped thread's arguments. Counted is what another process
//! could see after a kill: names and content on disk, mounts, processes and namespaces, kernel
//! settings, and what is asked of the kernel or a helper by a message. Not counted: memory,
//! threads, reading, and bytes to sockets, pipes and the log.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What is shown of a call, and what decides whether it counts.
#[derive(Clone, Copy)]
enum About {
    /// The path in this argument.
    Path(usize),
    /// The path, if the flags in the other argument make or empty a file.
    Opening(usize, usize),
    /// What this descriptor is of.
    Descriptor(usize),
    /// What this descriptor is of, if that is a file.
    Written(usize),
    /// What this descriptor is of, if that is a socket for messages.
    Message(usize),
    /// What is asked of the kernel by netlink with the bytes in the other argument, if that is a change.
    Netlink(usize, usize),
    /// A process is made, unless the flags in this argument say thread.
    Flags(usize),
    /// The same with the flags in memory this argument points to.
    FlagsAt(usize),
    /// What this descriptor is of, if what is asked of it in the other argument changes something.
    Asked(usize, usize),
    /// Nothing.
    Plain,
}

/// Requests by `ioctl` that change something: what a limited disk is made of. LOOP_CONFIGURE,
/// LOOP_SET_CAPACITY, FS_IOC_FSSETXATTR, EXT4_IOC_RESIZE_FS.
const REQUESTS: [u64; 4] = [0x4c0a, 0x4c07, 0x401c_5820, 0x4008_6610];

#[rustfmt::skip]
const CALLS: &[(&str, i64, About)] = &[
    ("openat", libc::SYS_openat, About::Opening(1, 2)),
    ("mkdirat", libc::SYS_mkdirat, About::Path(1)),
    ("mknodat", libc::SYS_mknodat, About::Path(1)),
    ("unlinkat", libc::SYS_unlinkat, About::Path(1)),
    ("symlinkat", libc::SYS_symlinkat, About::Path(2)),
    ("linkat", libc::SYS_linkat, About::Path(3)),
    ("renameat", libc::SYS_renameat, About::Path(3)),
    ("renameat2", libc::SYS_renameat2, About::Path(3)),
    ("fchmodat", libc::SYS_fchmodat, About::Path(1)),
    ("fchownat", libc::SYS_fchownat, About::Path(1)),
    ("utimensat", libc::SYS_utimensat, About::Path(1)),
    ("setxattr", libc::SYS_setxattr, About::Path(0)),
    ("lsetxattr", libc::SYS_lsetxattr, About::Path(0)),
    ("truncate", libc::SYS_truncate, About::Path(0)),
    ("fchmod", libc::SYS_fchmod, About::Descriptor(0)),
    ("fchown", libc::SYS_fchown, About::Descriptor(0)),
    ("fsetxattr", libc::SYS_fsetxattr, About::Descriptor(0)),
    ("ftruncate", libc::SYS_ftruncate, About::Descriptor(0)),
    ("fallocate", libc::SYS_fallocate, About::Descriptor(0)),
    ("fsync", libc::SYS_fsync, About::Descriptor(0)),
    ("fdatasync", libc::SYS_fdatasync, About::Descriptor(0)),
    ("flock", libc::SYS_flock, About::Descriptor(0)),
    ("write", libc::SYS_write, About::Written(0)),
    ("writev", libc::SYS_writev, About::Written(0)),
    ("pwrite64", libc::SYS_pwrite64, About::Written(0)),
    ("sendmsg", libc::SYS_sendmsg, About::Message(0)),
    ("sendto", libc::SYS_sendto, About::Netlink(0, 1)),
    ("ioctl", libc::SYS_ioctl, About::Asked(0, 1)),
    ("quotactl_fd", libc::SYS_quotactl_fd, About::Descriptor(0)),
    ("bind", libc::SYS_bind, About::Descriptor(0)),
    ("listen", libc::SYS_listen, About::Descriptor(0)),
    ("mount", libc::SYS_mount, About::Path(1)),
    ("umount2", libc::SYS_umount2, About::Path(0)),
    ("open_tree", libc::SYS_open_tree, About::Path(1)),
    ("move_mount", libc::SYS_move_mount, About::Path(3)),
    ("fsmount", libc::SYS_fsmount, About::Descriptor(0)),
    ("fsconfig", libc::SYS_fsconfig, About::Descriptor(0)),
    ("mount_setattr", libc::SYS_mount_setattr, About::Path(1)),
    ("pivot_root", libc::SYS_pivot_root, About::Path(0)),
    ("clone", libc::SYS_clone, About::Flags(0)),
    ("clone3", libc::SYS_clone3, About::FlagsAt(0)),
    ("execve", libc::SYS_execve, About::Path(0)),
    ("execveat", libc::SYS_execveat, About::Plain),
    ("unshare", libc::SYS_unshare, About::Plain),
    ("setns", libc::SYS_setns, About::Plain),
    ("kill", libc::SYS_kill, About::Plain),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal, About::Plain),
    #[cfg(target_arch = "x86_64")]
    ("open", libc::SYS_open, About::Opening(0, 1)),
    #[cfg(target_arch = "x86_64")]
    ("mkdir", libc::SYS_mkdir, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    ("rmdir", libc::SYS_rmdir, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    ("unlink", libc::SYS_unlink, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    ("symlink", libc::SYS_symlink, About::Path(1)),
    #[cfg(target_arch = "x86_64")]
    ("link", libc::SYS_link, About::Path(1)),
    #[cfg(target_arch = "x86_64")]
    ("rename", libc::SYS_rename, About::Path(1)),
    #[cfg(target_arch = "x86_64")]
    ("chmod", libc::SYS_chmod, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    ("chown", libc::SYS_chown, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    ("lchown", libc::SYS_lchown, About::Path(0)),
    #[cfg(target_arch = "x86_64")]
    ("fork", libc::SYS_fork, About::Plain),
    #[cfg(target_arch = "x86_64")]
    ("vfork", libc::SYS_vfork, About::Plain),
];

/// The call the stopped thread is about to make, when it changes something. `call` is its
/// `/proc/.../syscall`.
pub(super) fn change(group: i32, thread: i32, call: &File) -> Option<String> {
    let mut text = [0; 256];
    let length = call.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    let mut words = text.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let (name, _, about) = CALLS.iter().find(|(_, known, _)| *known == number)?;
    let arguments: Vec<u64> = words
        .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect();
    let argument = |index: usize| arguments.get(index).copied().unwrap_or_default();
    let low =
        |index: usize| i32::from_le_bytes(argument(index).to_le_bytes()[..4].try_into().unwrap());
    let thread_flag = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let target = |index: usize| {
        std::fs::read_link(format!("/proc/{group}/fd/{}", low(index)))
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    };
    let shown = match *about {
        About::Path(path) => string(thread, argument(path)),
        About::Opening(path, flags) => {
            if low(flags) & (libc::O_CREAT | libc::O_TRUNC) == 0 {
                return None;
            }
            string(thread, argument(path))
        }
        About::Descriptor(descriptor) => target(descriptor),
        About::Written(descriptor) => {
            let path = target(descriptor);
            let file = path.starts_with('/') && !path.starts_with("/dev/");
            if !file || path.ends_with("daemon.log") || path.starts_with("/memfd:") {
                return None;
            }
            path
        }
        About::Asked(descriptor, request) => {
            if !REQUESTS.contains(&argument(request)) {
                return None;
            }
            target(descriptor)
        }
        About::Message(descriptor) => {
            Some(target(descriptor)).filter(|path| path.starts_with("socket:"))?
        }
        About::Netlink(descriptor, bytes) => {
            let asked = netlink(thread, argument(bytes))?;
            let socket = target(descriptor);
            let inode = socket.strip_prefix("socket:[")?.strip_suffix(']')?;
            let sockets = std::fs::read_to_string(format!("/proc/{thread}/net/netlink")).ok()?;
            let known = |line: &str| line.split_ascii_whitespace().last() == Some(inode);
            sockets.lines().any(known).then_some(asked)?
        }
        About::Flags(flags) if argument(flags) & thread_flag != 0 => return None,
        About::FlagsAt(at) if number_at(thread, argument(at))? & thread_flag != 0 => return None,
        About::Flags(_) | About::FlagsAt(_) | About::Plain => String::new(),
    };
    Some(format!("{name} {shown}"))
}

/// What the first message of netlink at an address asks for, if it is one and asks for a change: struct
/// nlmsghdr. What only looks has every third number of the firewall's and every fourth of the routes'.
fn netlink(thread: i32, address: u64) -> Option<String> {
    let head = [number_at(thread, address)?, number_at(thread, address + 8)?];
    let (length, kind) = (head[0] & 0xffff_ffff, head[0] >> 32 & 0xffff);
    let sender = head[1] >> 32;
    let asks = head[0] >> 48 & 1 == 1 && length >= 16 && sender == 0;
    let changes = match kind {
        16..200 => kind % 4 != 2,
        0xa00..0xb00 => kind % 3 != 2 && kind & 0xff != 21,
        _ => false,
    };
    (asks && changes).then(|| format!("kind {kind}"))
}

fn memory(thread: i32) -> Option<File> {
    File::open(format!("/proc/{thread}/mem")).ok()
}

fn number_at(thread: i32, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory(thread)?.read_exact_at(&mut bytes, address).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// A string of the stopped thread's memory, up to 160 bytes.
fn string(thread: i32, address: u64) -> String {
    let mut bytes = [0; 160];
    let Some(memory) = memory(thread) else {
        return String::new();
    };
    // It may end close before memory that is not there.
    let mut length = 0;
    while length < bytes.len() {
        let offset = address + length as u64;
        let page_left = usize::try_from(4096 - offset % 4096).unwrap_or(1);
        let end = bytes.len().min(length + page_left);
        if memory
            .read_exact_at(&mut bytes[length..end], offset)
            .is_err()
        {
            break;
        }
        length = end;
        if bytes[..length].contains(&0) {
            break;
        }
    }
    let text = bytes[..length]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
