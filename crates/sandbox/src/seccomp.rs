//! The seccomp filter: a deny-list of what an environment has no use for and a kernel bug would be
//! found in.
//!
//! User namespaces already refuse most of these; the filter removes them as attack surface, and
//! refuses the few that reach beyond the environment. A denied call answers EPERM (or
//! ENOSYS where named), so that programs fall back instead of dying. Nested containers keep everything they need: clone and
//! unshare of any namespace, mount, pivot_root, setns, ptrace, seccomp itself. no_new_privs is not
//! set (sudo must work), which takes CAP_SYS_ADMIN in the own user namespace.
//!
//! | refused | why |
//! |---|---|
//! | init_module, finit_module, delete_module | the host's kernel |
//! | kexec_load, kexec_file_load | the host's kernel |
//! | open_by_handle_at | opens files past directory permissions and mounts |
//! | bpf, perf_event_open | see the host's kernel; a large part of past exploits |
//! | userfaultfd | makes kernel races exploitable |
//! | add_key, request_key, keyctl | keyrings are not namespaced; Docker refuses them too. ENOSYS, because runc goes on without a keyring only then |
//! | clock_settime, clock_adjtime, settimeofday, adjtimex | the host's clock |
//! | swapon, swapoff, quotactl, quotactl_fd, acct | the host's storage and accounts |
//! | lookup_dcookie, syslog | leak the host's kernel |
//! | iopl, ioperm, pciconfig_* | the host's ports |
//! | io_uring_* | runs operations outside this filter; most kernel exploits of 2021–2023; programs fall back |
//! | nfsservctl, _sysctl, vm86, uselib, ustat, sysfs | dead |
//! | sockets of other families than UNIX, IPv4, IPv6, NETLINK and PACKET; SCTP, DCCP, L2TP | VSOCK is the hypervisor's, past every namespace; the others are loaded by asking, and full of exploits: as in a kernel without them ([`sockets`]) |
//! | x32 calls | a second, hardly used table with other numbers |
//!
//! Where the host pipes core dumps to a program, which then runs as its root, the limit of their size is
//! one byte, with which the kernel starts it for nobody (`init`), and calls that would change that limit
//! are answered with success and do nothing ([`cores`]).
//!
//! `reboot` stays: inside a pid namespace it only ends that namespace. `ptrace` and
//! `process_vm_*` stay: debuggers, and they respect the user namespace.
//!
//! One call is carried out by the monitor where the kernel would refuse it: `notify`. A container's own
//! filter inside goes before it: what that one refuses is refused.
//!
//! Read next: `notify`.

mod cores;
mod sockets;

use crate::protection::{self, Protection};
use crate::sys::notify;
use crate::sys::process::{self, Instruction};
use std::io;
use std::os::fd::OwnedFd;

/// The audit architecture this build filters for.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Numbers at or above this are x32's on x86_64.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Answered with ENOSYS, as by a kernel built without them.
const ABSENT: &[libc::c_long] = &[libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl];

const COMMON: &[libc::c_long] = &[
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_settimeofday,
    libc::SYS_adjtimex,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
];

#[cfg(target_arch = "x86_64")]
const OWN: &[libc::c_long] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS__sysctl,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
];
#[cfg(target_arch = "aarch64")]
const OWN: &[libc::c_long] = &[294];

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
#[cfg(target_arch = "x86_64")]
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const AND: u16 = 0x54;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The lower half of the fourth argument.
const FLAGS: u32 = 16 + 3 * 8;

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// The calls of `mount(2)` that `notify` answers: with MS_RDONLY, MS_REMOUNT and MS_BIND, and
/// without MS_NODEV.
const REMOUNT: u32 = 1 | 32 | 4096;
const REMOUNT_MASK: u32 = REMOUNT | 4;

/// The filter, made before init is cloned.
pub(crate) struct Filter {
    listening: Vec<Instruction>,
    alone: Vec<Instruction>,
    keeps_cores: bool,
}

impl Filter {
    pub(crate) fn make() -> io::Result<Self> {
        let keeps_cores = cores::are_piped() && !protection::removed(Protection::NoCores);
        Ok(Self {
            listening: program(true, keeps_cores)?,
            alone: program(false, keeps_cores)?,
            keeps_cores,
        })
    }

    /// Whether core dumps are to be kept from a program of the host's: the limit of their size must be
    /// one byte before this is installed.
    pub(crate) fn keeps_cores(&self) -> bool {
        self.keeps_cores
    }

    /// Installs it in the calling thread, for good; answers the listener for [`crate::notify`].
    /// There is none where this host is itself listened to: the kernel takes one alone.
    pub(crate) fn install(&self) -> io::Result<Option<OwnedFd>> {
        if protection::removed(Protection::Filter) {
            return Ok(None);
        }
        match notify::install_filter(&self.listening) {
            Ok(listener) => Ok(Some(listener)),
            Err(_) => process::install_filter(&self.alone).map(|()| None),
        }
    }
}

/// The filter as a BPF program.
fn program(listening: bool, keeps_cores: bool) -> io::Result<Vec<Instruction>> {
    const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    const MISSING: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCH),
        // Another table (32-bit calls): refused whole.
        instruction(JUMP_EQUAL, 1, 0, ARCHITECTURE),
        instruction(RETURN, 0, 0, DENY),
        instruction(LOAD, 0, 0, NUMBER),
    ];
    #[cfg(target_arch = "x86_64")]
    program.extend([
        instruction(JUMP_AT_LEAST, 0, 1, X32),
        instruction(RETURN, 0, 0, DENY),
    ]);
    for number in COMMON.iter().chain(OWN) {
        let number =
            u32::try_from(*number).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        program.push(instruction(JUMP_EQUAL, 0, 1, number));
        program.push(instruction(RETURN, 0, 0, DENY));
    }
    for number in ABSENT {
        let number =
            u32::try_from(*number).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        program.push(instruction(JUMP_EQUAL, 0, 1, number));
        program.push(instruction(RETURN, 0, 0, MISSING));
    }
    program.extend(sockets::judge());
    if keeps_cores {
        program.extend(cores::keep());
    }
    if listening {
        let mount = u32::try_from(libc::SYS_mount).map_err(io::Error::other)?;
        program.extend([
            instruction(JUMP_EQUAL, 0, 4, mount),
            instruction(LOAD, 0, 0, FLAGS),
            instruction(AND, 0, 0, REMOUNT_MASK),
            instruction(JUMP_EQUAL, 0, 1, REMOUNT),
            instruction(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        ]);
    }
    program.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    Ok(program)
}

#[cfg(test)]
mod tests;
