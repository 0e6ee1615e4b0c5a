use super::*;

/// Runs the few instructions that filters use.
fn run(program: &[Instruction], access: u32, kind: u32, major: u32, minor: u32) -> u64 {
    let context = [access << 16 | kind, major, minor].map(u64::from);
    let mut registers = [0u64; 16];
    let mut at = 0usize;
    loop {
        let i = program[at];
        let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
        let immediate = u64::try_from(i.immediate).unwrap();
        let mut jump = false;
        match i.code {
            0x61 => registers[to] = context[usize::try_from(i.offset).unwrap() / 4],
            0xbf => registers[to] = registers[from],
            0xb7 => registers[to] = immediate,
            0x05 => jump = true,
            0x45 => jump = registers[to] & immediate != 0,
            0x57 => registers[to] &= immediate,
            0x77 => registers[to] >>= immediate,
            0x15 => jump = registers[to] == immediate,
            0x55 => jump = registers[to] != immediate,
            0x95 => return registers[0],
            other => panic!("instruction {other:#x}"),
        }
        at += 1 + if jump {
            usize::try_from(i.offset).unwrap()
        } else {
            0
        };
    }
}

const READ: u32 = 2;
const WRITE: u32 = 4;

#[test]
fn a_filter_allows_what_is_listed_and_nothing_else() {
    let rule = |block, major, minor| Rule {
        block,
        major,
        minor,
        read_only: false,
    };
    let rules = [
        Rule {
            read_only: true,
            ..rule(false, 5, Some(1))
        },
        Rule {
            read_only: true,
            ..rule(false, 6, None)
        },
        rule(false, 1, Some(3)),
        rule(false, 136, None),
        rule(true, 7, Some(0)),
    ];
    let program = compile(&rules).unwrap();
    let allowed = |access, kind, major, minor| run(&program, access, kind, major, minor) == 1;
    assert!(allowed(READ, 2, 1, 3) && allowed(READ | WRITE, 2, 1, 3));
    assert!(allowed(WRITE, 2, 136, 0) && allowed(WRITE, 2, 136, 77));
    assert!(allowed(READ, 1, 7, 0));
    // Other minor, other kind, other major.
    assert!(!allowed(READ, 2, 1, 4) && !allowed(READ, 1, 1, 3) && !allowed(READ, 2, 7, 0));
    assert!(!allowed(READ, 1, 7, 1) && !allowed(READ, 1, 8, 0));
    // Read and not written.
    assert!(allowed(READ, 2, 5, 1) && !allowed(WRITE, 2, 5, 1) && !allowed(READ | WRITE, 2, 5, 1));
    assert!(allowed(READ, 2, 6, 9) && !allowed(READ | WRITE, 2, 6, 9) && !allowed(READ, 2, 5, 2));
    // Made by nobody.
    assert!(!allowed(1, 2, 1, 3) && !allowed(1 | READ, 2, 136, 0));
}

#[test]
fn rules_are_written_as_version_1_reads_them() {
    let rule = Rule {
        block: true,
        major: 8,
        minor: Some(1),
        read_only: false,
    };
    assert_eq!(rule.to_string(), "b 8:1 rw");
    let all = Rule {
        block: false,
        major: 136,
        minor: None,
        read_only: true,
    };
    assert_eq!(all.to_string(), "c 136:* r");
}
