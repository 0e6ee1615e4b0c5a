//! Sockets that may be made: by family, type and protocol.
//!
//! Some families are no network namespace's: VSOCK speaks to the machine's hypervisor past every rule
//! of the firewall. Most others are loaded into the kernel by whoever asks for them first, and are a
//! large part of its exploits (TIPC, RDS, CAN, AF_ALG, packet rings of XDP); so are the transports
//! SCTP, DCCP and L2TP. What is listed is what environments need; the rest looks as in a kernel built
//! without it, which programs expect.

use super::{JUMP_EQUAL, LOAD, RETURN, instruction};
use crate::sys::process::Instruction;

/// `A &= k`.
pub(super) const AND: u16 = 0x54;
/// Offsets of the arguments in `struct seccomp_data`, low half first.
pub(super) const ARGUMENTS: [u32; 3] = [16, 24, 32];

/// Families that may be used besides those of [`INTERNET`]. Packet sockets are bounded by the network
/// namespace: `tcpdump` and DHCP clients need them.
const FAMILIES: [i32; 4] = [
    libc::AF_UNSPEC,
    libc::AF_UNIX,
    libc::AF_NETLINK,
    libc::AF_PACKET,
];
/// Of these types and protocols are looked at too.
const INTERNET: [i32; 2] = [libc::AF_INET, libc::AF_INET6];
/// What is left of a type without its flags.
const TYPE: u32 = 0xf;
const TYPES: [i32; 3] = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW];
/// Protocols of the Internet that may not be used: DCCP, L2TP, SCTP, SMC.
const PROTOCOLS: [i32; 4] = [33, 115, 132, 256];

const ALLOW: Instruction = instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);

/// Appended where a call's number is in the accumulator: judges sockets and leaves everything else to
/// what follows.
pub(super) fn judge() -> Vec<Instruction> {
    let equal = |k: i32, instructions: u8| {
        // To the next when it is, past so many when it is not.
        instruction(JUMP_EQUAL, 0, instructions, k.cast_unsigned())
    };
    let refuse = |error: i32| {
        let answer = libc::SECCOMP_RET_ERRNO | error.cast_unsigned();
        instruction(RETURN, 0, 0, answer)
    };
    let load = |argument: usize| instruction(LOAD, 0, 0, ARGUMENTS[argument]);
    let mut inner = vec![load(0)];
    for family in FAMILIES {
        inner.extend([equal(family, 1), ALLOW]);
    }
    inner.extend([
        instruction(JUMP_EQUAL, 2, 0, INTERNET[0].cast_unsigned()),
        instruction(JUMP_EQUAL, 1, 0, INTERNET[1].cast_unsigned()),
        refuse(libc::EAFNOSUPPORT),
        load(1),
        instruction(AND, 0, 0, TYPE),
    ]);
    for (left, kind) in (0..TYPES.len()).rev().zip(TYPES) {
        // To what follows the refusal.
        let over = u8::try_from(left + 1).unwrap_or(1);
        inner.push(instruction(JUMP_EQUAL, over, 0, kind.cast_unsigned()));
    }
    inner.extend([refuse(libc::ESOCKTNOSUPPORT), load(2)]);
    for protocol in PROTOCOLS {
        inner.extend([equal(protocol, 1), refuse(libc::EPROTONOSUPPORT)]);
    }
    inner.push(ALLOW);
    let length = u8::try_from(inner.len()).unwrap_or(u8::MAX);
    let mut program = vec![
        instruction(JUMP_EQUAL, 1, 0, number(libc::SYS_socket)),
        instruction(JUMP_EQUAL, 0, length, number(libc::SYS_socketpair)),
    ];
    program.append(&mut inner);
    program
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}
