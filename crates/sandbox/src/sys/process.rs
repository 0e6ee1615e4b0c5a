//! Processes: cloning into new namespaces, execution by descriptor, credentials, seccomp.
//!
//! Owns no policy. The callers are the spawner and what it forks, all single-threaded; nothing
//! here may be called from the runner's process except the read-only helpers.

use super::check;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Which side of a [`clone`] returned.
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The process that called, with the child's id and descriptor.
    Parent {
        /// Process id as the caller sees it.
        pid: u32,
        /// Its pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// Place the child in the cgroup given (libc's constant has the wrong type).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone3 without shared memory: like fork, into the namespaces of `flags`, and into the version
/// 2 cgroup given by descriptor. The child signals its end by SIGCHLD.
pub(crate) fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let sibling = flags & u64::from(libc::CLONE_PARENT.cast_unsigned()) != 0;
    let mut pidfd: RawFd = -1;
    let into = cgroup.map_or(0, |_| CLONE_INTO_CGROUP);
    let args = libc::clone_args {
        flags: flags | into | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sibling signals as its parent's other child does.
        exit_signal: if sibling { 0 } else { libc::SIGCHLD as u64 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
    };
    // SAFETY: no CLONE_VM, so the child runs on its own copy of this single-threaded process's
    // memory; `args` and `pidfd` live across the call and the size passed is the struct's.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel filled `pidfd` with a descriptor that is ours alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = u32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Forked::Parent { pid, pidfd })
}

/// SIGHUP, which is ignored otherwise, as a descriptor to wait for. Every wake-up is read off it by
/// [`rustix::io::read`].
pub(crate) fn hangups() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is read, and lives across the calls.
    let fd = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGHUP);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?
    };
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel gave a descriptor that is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Clones a process that only waits to be killed, into the namespaces of `flags`, and dies with
/// the calling thread: it holds copies of all descriptors, and with them the caller's locks and
/// ends of sockets. May be called in a process with threads: the child only makes system calls.
pub(crate) fn clone_waiting(flags: i32) -> io::Result<(u32, OwnedFd)> {
    let parent = std::process::id();
    match clone(u64::from(flags.cast_unsigned()), None)? {
        Forked::Child => {
            // SAFETY: integer arguments; none of the three calls touches memory.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // The parent may have been killed before.
                while libc::getppid().unsigned_abs() == parent {
                    libc::pause();
                }
            }
            exit_now(0)
        }
        Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
    }
}

/// Ends the process at once: no destructors, no exit handlers (they are the parent's).
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit only ends the process.
    unsafe { libc::_exit(code) }
}

/// Kills the calling process: a crash point.
#[cfg(feature = "kill-points")]
pub(crate) fn kill_self() -> ! {
    // SAFETY: signalling oneself touches no memory.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    exit_now(137)
}

/// What a signal does in this process.
#[derive(Clone, Copy)]
pub(crate) enum Disposition {
    /// The kernel's default.
    Default,
    /// Ignored; for SIGCHLD also: children leave no zombie.
    Ignore,
}

/// Sets the disposition of `signal`.
pub(crate) fn set_signal(signal: i32, disposition: Disposition) {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
    };
    // SAFETY: both values are dispositions, not handlers: no code of ours runs in signal context.
    unsafe { libc::signal(signal, handler) };
}

/// Default dispositions and an empty mask, for a process about to execute something foreign.
pub(crate) fn reset_signals() {
    for signal in 1..32 {
        set_signal(signal, Disposition::Default);
    }
    // SAFETY: the set is initialised by sigemptyset before it is read.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Gives the process the credentials of a user, for good: groups, then gid, then uid.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: raw calls (this process has one thread); pointer and length describe `groups`.
    unsafe {
        check(libc::syscall(
            libc::SYS_setgroups,
            groups.len(),
            groups.as_ptr(),
        ))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Keeps capabilities when ids change: `SECBIT_NO_SETUID_FIXUP`.
pub(crate) fn keep_capabilities() -> io::Result<()> {
    const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    // SAFETY: prctl with integer arguments only.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0)
    }))?;
    Ok(())
}

/// Sets the effective ids alone; the process keeps the others, and with [`keep_capabilities`] its
/// capabilities.
pub(crate) fn set_effective_ids(uid: u32, gid: u32) -> io::Result<()> {
    const SAME: u32 = u32::MAX;
    // SAFETY: raw calls with integer arguments (this process has one thread).
    unsafe {
        check(libc::syscall(libc::SYS_setresgid, SAME, gid, SAME))?;
        check(libc::syscall(libc::SYS_setresuid, SAME, uid, SAME))?;
    }
    Ok(())
}

/// Sets the ids new files get and permission checks use; returns when both took effect.
pub(crate) fn set_file_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: integer arguments; setfsuid answers the previous id, a second call tells the truth.
    let now = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsgid(u32::MAX), libc::setfsuid(u32::MAX))
    };
    if now.0.cast_unsigned() == gid && now.1.cast_unsigned() == uid {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::PermissionDenied))
    }
}

/// Marks every descriptor from `first` on close-on-exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: integer arguments; with CLOSE_RANGE_CLOEXEC nothing is closed now.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(())
}

/// Duplicates `from` to exactly `to`, not close-on-exec.
pub(crate) fn dup_to(from: RawFd, to: RawFd) -> io::Result<()> {
    if from == to {
        // SAFETY: integer arguments.
        check(libc::c_long::from(unsafe {
            libc::fcntl(from, libc::F_SETFD, 0)
        }))?;
        return Ok(());
    }
    // SAFETY: dup2 replaces `to`, which no Rust owner of this process uses afterwards.
    check(libc::c_long::from(unsafe { libc::dup2(from, to) }))?;
    Ok(())
}

/// Replaces the program by the one `executable` is open on. Returns only an error.
pub(crate) fn execute(executable: BorrowedFd<'_>, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in a null pointer and point to strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            executable.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Gives a task of the usual policy, with niceness zero, time slices of its own, which its children
/// do not inherit.
pub(crate) fn set_slice(pid: u32, slice: std::time::Duration) -> io::Result<()> {
    /// `struct sched_attr` in its first version.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    const RESET_ON_FORK: u64 = 1;
    let attributes = Attributes {
        size: 48,
        policy: 0,
        flags: RESET_ON_FORK,
        nice: 0,
        priority: 0,
        runtime: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
        deadline: 0,
        period: 0,
    };
    // SAFETY: `attributes` is of the size it names and lives across the call, which only reads it.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attributes, 0) })?;
    Ok(())
}

/// The calling thread.
const THREAD: i32 = 1;

/// The class at disks of the calling thread, with its level; 0 for what goes by niceness.
pub(crate) fn io_class() -> io::Result<i32> {
    // SAFETY: integer arguments.
    let class = check(unsafe { libc::syscall(libc::SYS_ioprio_get, THREAD, 0) })?;
    i32::try_from(class).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Sets it.
pub(crate) fn set_io_class(class: i32) -> io::Result<()> {
    // SAFETY: integer arguments.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, THREAD, 0, class) })?;
    Ok(())
}

/// Leaves the calling thread's own copy of the namespaces in `flags`.
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: integer argument; CLONE_FILES is never among the flags, and the process is
    // single-threaded.
    check(libc::c_long::from(unsafe { libc::unshare(flags) }))?;
    Ok(())
}

/// Enters the namespace `fd` stands for.
pub(crate) fn enter(fd: BorrowedFd<'_>, kind: i32) -> io::Result<()> {
    // SAFETY: integer arguments.
    check(libc::c_long::from(unsafe {
        libc::setns(fd.as_raw_fd(), kind)
    }))?;
    Ok(())
}

/// One instruction of a seccomp program (`struct sock_filter`).
pub(crate) type Instruction = libc::sock_filter;

/// Installs a seccomp filter without no_new_privs, by CAP_SYS_ADMIN in the own user namespace.
pub(crate) fn install_filter(program: &[Instruction]) -> io::Result<()> {
    let prog = libc::sock_fprog {
        len: u16::try_from(program.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `prog` describes `program`, which lives across the call; the kernel copies it.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const prog,
        )
    })?;
    Ok(())
}
