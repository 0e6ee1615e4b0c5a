//! Seccomp's user notification: a listener, its three calls, and reading the caller's memory.
//!
//! Owns no policy: what is answered is in `notify`.

use super::check;
use crate::sys::process::Instruction;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `SECCOMP_IOCTL_NOTIF_RECV`, `_SEND` and `_ID_VALID` of linux/seccomp.h.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const VALID: libc::c_ulong = 0x4008_2102;

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// Its number among calls.
    pub(crate) id: u64,
    /// The thread, as the listener's process sees it.
    pub(crate) thread: u32,
    /// Its arguments.
    pub(crate) arguments: [u64; 6],
}

/// What a call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It succeeded.
    Done,
    /// It failed with this error number.
    Failed(i32),
    /// The kernel is to carry it out as if nobody had listened.
    Continue,
}

/// Installs a filter and answers the listener of its notifications.
///
/// # Errors
/// EBUSY where a filter of this process has a listener already.
pub(crate) fn install_filter(program: &[Instruction]) -> io::Result<OwnedFd> {
    let prog = libc::sock_fprog {
        len: u16::try_from(program.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `prog` describes `program`, which lives across the call; the kernel copies it.
    let listener = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const prog,
        )
    })?;
    let listener =
        RawFd::try_from(listener).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel answered a new descriptor that is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

/// The next call. Waits for one unless the listener was readable; None when it is gone.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Call>> {
    // SAFETY: all zeroes is a value of this struct of integers, and the one the kernel asks for.
    let mut request = unsafe { std::mem::zeroed::<libc::seccomp_notif>() };
    // SAFETY: the kernel writes one `seccomp_notif`, which lives across the call.
    let got = check(libc::c_long::from(unsafe {
        libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut request)
    }));
    match got {
        Ok(_) => Ok(Some(Call {
            id: request.id,
            thread: request.pid,
            arguments: request.data.args,
        })),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Answers a call; one that is gone needs none.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) {
    let (error, flags) = match answer {
        Answer::Done => (0, 0),
        Answer::Failed(error) => (-error, 0),
        Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE),
    };
    let response = libc::seccomp_notif_resp {
        id,
        val: 0,
        error,
        flags: u32::try_from(flags).unwrap_or(0),
    };
    // SAFETY: the kernel reads one `seccomp_notif_resp`, which lives across the call.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw const response) };
}

/// Whether the caller still waits: what was read of it by its thread's id was its own.
pub(crate) fn waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one u64, which lives across the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), VALID, &raw const id) == 0 }
}

/// Reads a string without its end from another thread's memory, at most `limit` bytes. A page
/// that does not come can be waited for and be killed.
pub(crate) fn read_string(thread: u32, address: u64, limit: usize) -> io::Result<Vec<u8>> {
    const PAGE: usize = 4096;
    let bad = || io::Error::from_raw_os_error(libc::EFAULT);
    let thread = libc::pid_t::try_from(thread).map_err(|_| bad())?;
    let mut text: Vec<u8> = Vec::new();
    let mut address = usize::try_from(address).map_err(|_| bad())?;
    while text.len() < limit {
        // Never over the end of a page: the next one may not be there.
        let mut bytes = [0u8; PAGE];
        let length = PAGE - address % PAGE;
        let local = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: length,
        };
        let remote = libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: length,
        };
        // SAFETY: `local` describes at most the whole of `bytes`; `remote` is only an address of
        // the other process, which the kernel checks.
        let count =
            unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
        let count = usize::try_from(check(count as libc::c_long)?).map_err(|_| bad())?;
        if let Some(end) = bytes[..count].iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&bytes[..end]);
            return Ok(text);
        }
        if count < length {
            return Err(bad());
        }
        text.extend_from_slice(&bytes[..count]);
        address = address.checked_add(count).ok_or_else(bad)?;
    }
    Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
}
