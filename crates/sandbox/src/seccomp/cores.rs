//! Core dumps that the host gives to a program of its own.
//!
//! `core_pattern` is the whole machine's. Where it begins with `|` the kernel runs what it names as the
//! host's root, outside every namespace, with names and content that the crashed program chose. It does so
//! whatever the limit of a core's size is, zero too, with one exception (core(5), kernel's fs/coredump.c):
//! where that limit is one byte, by which it knows the program's own crashes. So that is the limit in an
//! environment, and stays it: calls to change it are answered with success, as `ulimit -c` in scripts
//! expects, and do nothing.
//!
//! Looked at when a sandbox starts; a pattern that changes later is for those that start later.

use super::sockets::ARGUMENTS;
use super::{JUMP_EQUAL, LOAD, RETURN, instruction};
use crate::sys::process::Instruction;

/// RLIMIT_CORE.
const CORE: u32 = 4;
/// The upper half of the third argument.
pub(super) const THIRD_HIGH: u32 = 36;

/// Whether this host pipes core dumps to a program.
pub(super) fn are_piped() -> bool {
    std::fs::read("/proc/sys/kernel/core_pattern").is_ok_and(|pattern| pattern.starts_with(b"|"))
}

/// Appended where a call's number is in the accumulator; other calls are left to what follows.
pub(super) fn keep() -> Vec<Instruction> {
    const ALLOW: Instruction = instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    // Success, without the call.
    const DONE: Instruction = instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO);
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let [first, second, third] = ARGUMENTS;
    vec![
        // prlimit64(process, resource, new, old), with a new limit.
        instruction(JUMP_EQUAL, 0, 8, number(libc::SYS_prlimit64)),
        instruction(LOAD, 0, 0, second),
        instruction(JUMP_EQUAL, 0, 4, CORE),
        instruction(LOAD, 0, 0, third),
        instruction(JUMP_EQUAL, 0, 3, 0),
        instruction(LOAD, 0, 0, THIRD_HIGH),
        instruction(JUMP_EQUAL, 0, 1, 0),
        ALLOW,
        DONE,
        // setrlimit(resource, new)
        instruction(JUMP_EQUAL, 0, 4, number(libc::SYS_setrlimit)),
        instruction(LOAD, 0, 0, first),
        instruction(JUMP_EQUAL, 0, 1, CORE),
        DONE,
        ALLOW,
    ]
}
