#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// Runs the program as the kernel would.
fn verdict(architecture: u32, number: u32) -> u32 {
    judged(architecture, number, [0; 3])
}

/// The same with arguments.
fn judged(architecture: u32, number: u32, arguments: [u32; 3]) -> u32 {
    run(architecture, number, arguments, 0)
}

/// The same with the fourth argument.
fn run(architecture: u32, number: u32, arguments: [u32; 3], flags: u32) -> u32 {
    let program = program(true, true).unwrap();
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        match code {
            LOAD => {
                let argument = sockets::ARGUMENTS.iter().position(|offset| *offset == k);
                accumulator = match (k, argument) {
                    (_, Some(argument)) => arguments[argument],
                    (ARCH, None) => architecture,
                    (FLAGS, None) => flags,
                    // Of a short argument.
                    (cores::THIRD_HIGH, None) => 0,
                    _ => number,
                }
            }
            AND => accumulator &= k,
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
fn sockets_are_of_the_families_and_protocols_that_environments_need() {
    let allowed = libc::SECCOMP_RET_ALLOW;
    let errno = |error: i32| libc::SECCOMP_RET_ERRNO | error.cast_unsigned();
    let cloexec = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    for (arguments, expected) in [
        ([libc::AF_UNIX, libc::SOCK_SEQPACKET | cloexec, 0], allowed),
        ([libc::AF_INET, libc::SOCK_STREAM | cloexec, 6], allowed),
        ([libc::AF_INET6, libc::SOCK_DGRAM, 0], allowed),
        ([libc::AF_INET, libc::SOCK_RAW, 1], allowed),
        // Multipath TCP, which Go asks for.
        ([libc::AF_INET, libc::SOCK_STREAM, 262], allowed),
        ([libc::AF_NETLINK, libc::SOCK_RAW, 12], allowed),
        ([libc::AF_PACKET, libc::SOCK_RAW, 768], allowed),
        (
            [libc::AF_VSOCK, libc::SOCK_STREAM, 0],
            errno(libc::EAFNOSUPPORT),
        ),
        (
            [libc::AF_ALG, libc::SOCK_SEQPACKET, 0],
            errno(libc::EAFNOSUPPORT),
        ),
        ([libc::AF_XDP, libc::SOCK_RAW, 0], errno(libc::EAFNOSUPPORT)),
        (
            [libc::AF_TIPC, libc::SOCK_STREAM, 0],
            errno(libc::EAFNOSUPPORT),
        ),
        (
            [libc::AF_INET, libc::SOCK_STREAM, 132],
            errno(libc::EPROTONOSUPPORT),
        ),
        (
            [libc::AF_INET6, libc::SOCK_DGRAM | cloexec, 115],
            errno(libc::EPROTONOSUPPORT),
        ),
        (
            [libc::AF_INET, libc::SOCK_SEQPACKET, 0],
            errno(libc::ESOCKTNOSUPPORT),
        ),
        // SOCK_DCCP.
        ([libc::AF_INET, 6, 0], errno(libc::ESOCKTNOSUPPORT)),
    ] {
        for call in [libc::SYS_socket, libc::SYS_socketpair] {
            let number = u32::try_from(call).unwrap();
            let found = judged(ARCHITECTURE, number, arguments.map(i32::cast_unsigned));
            assert_eq!(found, expected, "{arguments:?}");
        }
    }
}

#[test]
fn other_tables_of_calls_are_refused_whole() {
    // i386: 3 is read there.
    assert_eq!(verdict(0x4000_0003, 3), DENIED);
    #[cfg(target_arch = "x86_64")]
    assert_eq!(verdict(ARCHITECTURE, X32), DENIED);
}

#[test]
fn a_read_only_remount_without_nodev_is_answered_by_the_monitor_and_no_other_mount() {
    let mount = u32::try_from(libc::SYS_mount).unwrap();
    let verdict = |flags: u64| run(ARCHITECTURE, mount, [0; 3], u32::try_from(flags).unwrap());
    let remount = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
    for flags in [remount, remount | libc::MS_NOSUID] {
        assert_eq!(verdict(flags), libc::SECCOMP_RET_USER_NOTIF, "{flags:x}");
    }
    for flags in [
        0,
        libc::MS_BIND,
        libc::MS_REMOUNT | libc::MS_RDONLY,
        libc::MS_BIND | libc::MS_RDONLY,
        remount & !libc::MS_RDONLY,
        remount | libc::MS_NODEV,
    ] {
        assert_eq!(verdict(flags), libc::SECCOMP_RET_ALLOW, "{flags:x}");
    }
}

#[test]
fn the_limit_of_core_dumps_is_not_changed_where_the_host_takes_them() {
    let (allowed, done) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO);
    let [set, both] =
        [libc::SYS_setrlimit, libc::SYS_prlimit64].map(|number| u32::try_from(number).unwrap());
    let (core, files) = (libc::RLIMIT_CORE, libc::RLIMIT_NOFILE);
    for (number, arguments, expected) in [
        (set, [core, 1, 0], done),
        (set, [files, 1, 0], allowed),
        (both, [0, core, 1], done),
        // It is only asked for.
        (both, [0, core, 0], allowed),
        (both, [0, files, 1], allowed),
    ] {
        let seen = judged(ARCHITECTURE, number, arguments);
        assert_eq!(seen, expected, "{number} {arguments:?}");
    }
}
