//! Which devices an environment may open, as cgroups hold it to: lines for the devices controller
//! of version 1, a program for version 2.
//!
//! Owns the list and both of its forms. It is a second wall: nobody inside can make a node, and
//! what nodes an image or a folder brings lie on mounts with `nodev`. Making a node is never
//! allowed (whiteouts of overlays are not nodes to the kernel).
//!
//! Read next: `root::devices`, which makes the nodes; [`crate::sys::bpf`].

use crate::root;
use crate::spec::Spec;
use crate::sys::bpf::{self, Instruction};
use rustix::fs::{FileType, Mode, OFlags};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// One device, or all of a major number, to read and, unless it says otherwise, write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    block: bool,
    major: u32,
    minor: Option<u32>,
    read_only: bool,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.block { 'b' } else { 'c' };
        let access = if self.read_only { "r" } else { "rw" };
        match self.minor {
            Some(minor) => write!(f, "{kind} {}:{minor} {access}", self.major),
            None => write!(f, "{kind} {}:* {access}", self.major),
        }
    }
}

/// What a sandbox may open.
pub(super) fn rules(spec: &Spec) -> io::Result<Vec<Rule>> {
    let character = |major, minor| Rule {
        block: false,
        major,
        minor,
        read_only: false,
    };
    let mut rules: Vec<Rule> = root::NODES
        .iter()
        .map(|(_, major, minor)| character(*major, Some(*minor)))
        .collect();
    // ptmx, the terminals of every devpts, /dev/console of a nested container.
    rules.extend([
        character(5, Some(2)),
        character(136, None),
        character(5, Some(1)),
    ]);
    for device in &spec.devices {
        let stat = rustix::fs::stat(&device.host)?;
        rules.push(Rule {
            block: FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice,
            major: rustix::fs::major(stat.st_rdev),
            minor: Some(rustix::fs::minor(stat.st_rdev)),
            read_only: device.read_only,
        });
    }
    Ok(rules)
}

/// Holds the processes of a version 2 cgroup and all below it to `rules`.
pub(super) fn attach(directory: &Path, rules: &[Rule]) -> io::Result<()> {
    let program = bpf::load_device_filter(&compile(rules)?)?;
    let cgroup = rustix::fs::open(
        directory,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    bpf::attach_device_filter(cgroup.as_fd(), program.as_fd())
}

/// Whether this kernel takes a device filter, for `doctor`.
pub(super) fn loads() -> io::Result<()> {
    bpf::load_device_filter(&compile(&[])?).map(drop)
}

/// Registers: the context, and what is read from it.
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// linux/bpf.h: BPF_DEVCG_*.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const WRITE: i32 = 4;
/// Jumps when a register has any of these bits.
const ANY_BIT: u8 = 0x45;

/// The program: `struct bpf_cgroup_dev_ctx` in, 1 out for allowed, 0 for refused.
fn compile(rules: &[Rule]) -> io::Result<Vec<Instruction>> {
    let instruction = |code, registers, offset, immediate| Instruction {
        code,
        registers,
        offset,
        immediate,
    };
    let load = |to: u8, offset| instruction(0x61, to | CONTEXT << 4, offset, 0);
    let unequal = |register, value, skip| instruction(0x55, register, skip, value);
    let answer = |value| [instruction(0xb7, 0, 0, value), instruction(0x95, 0, 0, 0)];
    let mut program = vec![
        // The access is in the upper half of the first word, the kind in the lower.
        load(KIND, 0),
        instruction(0xbf, ACCESS | KIND << 4, 0, 0),
        instruction(0x57, KIND, 0, 0xffff),
        instruction(0x77, ACCESS, 0, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
        // Any access but to make a node.
        instruction(ANY_BIT, ACCESS, 1, MAKE),
        instruction(0x05, 0, 2, 0),
    ];
    program.extend(answer(0));
    for rule in rules {
        let number = |value: u32| i32::try_from(value).map_err(io::Error::other);
        let kind = if rule.block { BLOCK } else { CHARACTER };
        let writes = i16::from(rule.read_only);
        let tests = if rule.minor.is_some() { 3 } else { 2 } + writes;
        // Past the tests that follow and the answer.
        program.push(unequal(KIND, kind, tests + 1));
        program.push(unequal(MAJOR, number(rule.major)?, tests));
        if let Some(minor) = rule.minor {
            program.push(unequal(MINOR, number(minor)?, 2 + writes));
        }
        if rule.read_only {
            program.push(instruction(ANY_BIT, ACCESS, 2, WRITE));
        }
        program.extend(answer(1));
    }
    program.extend(answer(0));
    Ok(program)
}

#[cfg(test)]
mod tests;
