//! By table.
use super::*;

const MIB: u64 = 1 << 20;

fn limits(cpu: u64, memory: u64, pids: u64) -> Limits {
    Limits {
        cpu_millis: Some(cpu),
        memory: Some(memory * MIB),
        pids: Some(pids),
    }
}

#[test]
fn only_what_differs_is_written() {
    let held = |limits| Held {
        limits,
        memory_used: 50 * MIB,
        ..Held::default()
    };
    let none = Limits::default();
    let now = limits(1000, 100, 64);
    for (wanted, held, changes_wanted) in [
        (now, held(now), vec![]),
        (
            limits(500, 100, 64),
            held(now),
            vec![Change::Cpu(Some(500))],
        ),
        (
            limits(1000, 100, 32),
            held(now),
            vec![Change::Pids(Some(32))],
        ),
        (
            limits(1000, 200, 64),
            held(now),
            vec![Change::Memory(Some(200 * MIB))],
        ),
        (
            none,
            held(now),
            vec![Change::Cpu(None), Change::Pids(None), Change::Memory(None)],
        ),
        (none, held(none), vec![]),
    ] {
        assert_eq!(changes(&wanted, &held), changes_wanted, "{wanted:?}");
    }
}

#[test]
fn less_than_a_page_is_no_difference() {
    let held = Held {
        limits: Limits {
            memory: Some(PAGE * 5),
            ..Limits::default()
        },
        ..Held::default()
    };
    let wanted = Limits {
        memory: Some(PAGE * 5 + 1),
        ..Limits::default()
    };
    assert_eq!(changes(&wanted, &held), []);
    assert_eq!(unmet(&wanted, &held), []);
}

#[test]
fn memory_in_use_is_pressed_out_before_the_limit_holds() {
    let mut held = Held {
        limits: limits(1000, 100, 64),
        memory_used: 80 * MIB,
        presses: true,
        ..Held::default()
    };
    let wanted = limits(1000, 60, 64);
    assert_eq!(
        changes(&wanted, &held),
        [Change::MemoryHigh(Some(60 * MIB))]
    );
    held.memory_high = Some(60 * MIB);
    assert_eq!(changes(&wanted, &held), [], "it presses already");
    let told = unmet(&wanted, &held);
    assert!(
        told[0].message.starts_with("80 MiB are in use") && !told[0].needs_restart,
        "{told:?}"
    );
    held.memory_used = 59 * MIB;
    let changed = [Change::Memory(Some(60 * MIB)), Change::MemoryHigh(None)];
    assert_eq!(changes(&wanted, &held), changed);
    // Cut off between the two.
    held.limits = wanted;
    assert_eq!(changes(&wanted, &held), [Change::MemoryHigh(None)]);
    // Changed back while it pressed.
    held.limits = limits(1000, 100, 64);
    assert_eq!(
        changes(&held.limits.clone(), &held),
        [Change::MemoryHigh(None)]
    );
    // Version 1 is asked and refuses by itself.
    let v1 = Held {
        memory_used: 80 * MIB,
        presses: false,
        memory_high: None,
        ..held
    };
    assert_eq!(changes(&wanted, &v1), [Change::Memory(Some(60 * MIB))]);
}

#[test]
fn what_a_start_takes_needs_one() {
    let class = |fields: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        fields.iter().map(pair).collect()
    };
    let started = class(&[("isolation", "Sandbox"), ("devices", "[]")]);
    let fields = |now: &[(&str, &str)]| -> Vec<String> {
        let pending = needs_restart(&started, &class(now));
        assert!(pending.iter().all(|one| one.needs_restart));
        pending.into_iter().map(|one| one.field).collect()
    };
    let same = ("devices", "[]");
    assert_eq!(fields(&[("isolation", "Sandbox"), same]), [""; 0]);
    assert_eq!(fields(&[("isolation", "VM"), same]), ["isolation"]);
    assert_eq!(
        fields(&[("isolation", "Sandbox"), ("disk", "1Gi")]),
        ["devices", "disk"]
    );
}
