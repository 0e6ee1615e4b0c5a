//! Slots and records.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn uid(n: u32) -> Uid {
    Uid::try_from(format!("00000000-0000-4000-8000-{n:012}")).unwrap()
}

#[test]
fn slots_survive_a_restart_and_trash_keeps_them() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::open(directory.path()).unwrap();
    let slots = Slots::read(&layout, 0).unwrap();
    assert_eq!(
        slots
            .allocate(&layout, &uid(1), "default", "a", None)
            .unwrap()
            .slot,
        0
    );
    assert_eq!(
        slots
            .allocate(&layout, &uid(2), "default", "b", None)
            .unwrap()
            .slot,
        1
    );
    std::fs::rename(layout.environment(&uid(1)).root(), layout.trash().join("x")).unwrap();
    let slots = Slots::read(&layout, 0).unwrap();
    assert_eq!(
        slots
            .allocate(&layout, &uid(3), "default", "c", None)
            .unwrap()
            .slot,
        2
    );
    std::fs::remove_dir_all(layout.trash().join("x")).unwrap();
    slots.free(0);
    assert_eq!(
        slots
            .allocate(&layout, &uid(4), "default", "d", None)
            .unwrap()
            .slot,
        3,
        "a range that was used comes last"
    );
    assert_eq!(slots.borrow().unwrap().slot, 0);
}

#[test]
fn ranges_are_used_again_when_all_others_were_and_never_while_they_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::open(directory.path()).unwrap();
    std::fs::write(layout.next_slot(), format!("{}\n", SERVICE_SLOTS - 1)).unwrap();
    let slots = Slots::read(&layout, 0).unwrap();
    let mut given = (1..=3).map(|n| {
        slots
            .allocate(&layout, &uid(n), "default", "a", None)
            .unwrap()
            .slot
    });
    assert_eq!(given.next(), Some(SERVICE_SLOTS - 1));
    assert_eq!(given.next(), Some(0));
    assert_eq!(given.next(), Some(1));
}

#[test]
fn a_damaged_record_does_not_give_away_the_ids_of_what_runs() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::open(directory.path()).unwrap();
    let slots = Slots::read(&layout, 0).unwrap();
    let record = slots
        .allocate(&layout, &uid(1), "default", "a", None)
        .unwrap();
    let paths = layout.environment(&uid(1));
    private_directory(&paths.run()).unwrap();
    let spec = format!("{{\"id\":\"a\",\"id_base\":{}}}", id_base(record.slot));
    std::fs::write(paths.run().join("spec.json"), spec).unwrap();
    std::fs::write(paths.record(), "{").unwrap();
    std::fs::remove_file(layout.next_slot()).unwrap();
    let slots = Slots::read(&layout, 0).unwrap();
    let other = slots
        .allocate(&layout, &uid(2), "default", "b", None)
        .unwrap();
    assert_ne!(other.slot, record.slot);
}

#[test]
fn ranges_and_addresses_of_slots_are_apart() {
    assert_eq!(id_base(1) - id_base(0), boatyard_sandbox::spec::ID_RANGE);
    assert!(
        id_base(SLOTS - 1)
            .checked_add(boatyard_sandbox::spec::ID_RANGE)
            .is_some()
    );
    assert_eq!(address(0), Ipv4Addr::new(10, 213, 0, 16));
    assert_eq!(address(240), Ipv4Addr::new(10, 213, 1, 0));
}

#[test]
fn a_newer_layout_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("VERSION"), "9\n").unwrap();
    let error = Layout::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("has layout 9"), "{error}");
}

#[test]
fn uids_that_are_paths_are_refused() {
    for bad in ["../../../etc", "", "a/b", "ABCDEF12", ".", "-0000000"] {
        assert!(Uid::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}
