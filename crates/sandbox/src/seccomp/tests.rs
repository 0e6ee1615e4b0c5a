#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// Runs the program as the kernel would.
fn verdict(architecture: u32, number: u32) -> u32 {
    let program = program().unwrap();
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        match code {
            LOAD => accumulator = if k == ARCH { architecture } else { number },
            JUMP_EQUAL => at += usize::from(if accumulator == k { jt } else { jf }),
            RETURN => return k,
            _ => at += usize::from(if accumulator >= k { jt } else { jf }),
        }
    }
}

const DENIED: u32 = libc::SECCOMP_RET_ERRNO | 1;

#[test]
fn dangerous_calls_answer_eperm() {
    for number in COMMON.iter().chain(OWN) {
        let number = u32::try_from(*number).unwrap();
        assert_eq!(verdict(ARCHITECTURE, number), DENIED, "{number}");
    }
}

#[test]
fn keyrings_look_absent() {
    for number in ABSENT {
        let number = u32::try_from(*number).unwrap();
        let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
        assert_eq!(verdict(ARCHITECTURE, number), missing);
    }
}

#[test]
fn nested_containers_and_debuggers_keep_their_calls() {
    for number in [
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_pivot_root,
        libc::SYS_ptrace,
        libc::SYS_seccomp,
        libc::SYS_execve,
        libc::SYS_open_tree,
        libc::SYS_mount_setattr,
        libc::SYS_name_to_handle_at,
    ] {
        let number = u32::try_from(number).unwrap();
        assert_eq!(
            verdict(ARCHITECTURE, number),
            libc::SECCOMP_RET_ALLOW,
            "{number}"
        );
    }
}

#[test]
fn other_tables_of_calls_are_refused_whole() {
    // i386: 3 is read there.
    assert_eq!(verdict(0x4000_0003, 3), DENIED);
    #[cfg(target_arch = "x86_64")]
    assert_eq!(verdict(ARCHITECTURE, X32), DENIED);
}
