//! Any system call by its number, for the probes' helper `sandbox-probe`.
//!
//! Compiled for tests alone (feature `removable-protections`). The helper attacks the kernel on
//! purpose, with arguments that make no sense to anybody else; it makes its calls one after the
//! other in a process of one thread and ends.

use std::io;

/// One argument of a system call.
#[derive(Debug)]
pub enum Word {
    /// A number: flags, a descriptor, an id.
    Number(i64),
    /// Memory the kernel may read and write.
    Memory(Vec<u8>),
}

/// Most arguments a call has.
const MOST: usize = 6;

/// Makes the call; answers what it returned.
///
/// # Errors
/// The error of the call; `InvalidInput` for more than six arguments.
pub fn call(number: i64, words: &mut [Word]) -> io::Result<i64> {
    if words.len() > MOST {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut raw = [0i64; MOST];
    for (raw, word) in raw.iter_mut().zip(words) {
        *raw = match word {
            Word::Number(number) => *number,
            Word::Memory(memory) => memory.as_mut_ptr() as i64,
        };
    }
    // SAFETY: every pointer passed is to memory that lives across the call and that the kernel may
    // write to; who asks gives it as much as the call needs. No call that changes mappings, frees
    // memory or starts a thread is made this way (the helper's table has none).
    super::check(unsafe { libc::syscall(number, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5]) })
}

/// The listening socket a sandbox's init has as descriptor 3.
#[must_use]
pub fn listener() -> std::os::unix::net::UnixListener {
    use std::os::fd::FromRawFd;
    // SAFETY: called once, by an init that nobody gave descriptor 3 to but its sandbox.
    unsafe { std::os::unix::net::UnixListener::from_raw_fd(3) }
}
