//! Texts as kernels of both versions write them.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::sample::{
    Disk, IoLimit, Memory, Pressure, Throttling, count_disks, io_limits, io_numbers, maximum, usage,
};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn processor_time_is_told_alike_by_both_versions() {
    let second = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 7\nnr_throttled 3\nthrottled_usec 90\nnr_bursts 1\nburst_usec 5\n";
    assert_eq!(usage(true)(second), Some(Duration::from_micros(1500)));
    assert_eq!(usage(false)("1500000\n"), Some(Duration::from_micros(1500)));
    assert_eq!(usage(true)("user_usec 1\n"), None);
    let first =
        "nr_periods 7\nnr_throttled 3\nthrottled_time 90000\nnr_bursts 1\nburst_time 5000\n";
    let throttling = Throttling {
        periods: 7,
        throttled: 3,
        time: Duration::from_micros(90),
        bursts: 1,
        burst_time: Duration::from_micros(5),
    };
    assert_eq!(Throttling::parse(second), throttling);
    assert_eq!(Throttling::parse(first), throttling);
}

#[test]
fn pressure_is_read_line_by_line() {
    let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=56\n";
    let pressure = Pressure::parse(text);
    assert!((pressure.some.avg10 - 1.5).abs() < 1e-9);
    assert_eq!(pressure.some.total, Duration::from_micros(1234));
    assert_eq!(pressure.full.total, Duration::from_micros(56));
}

#[test]
fn memory_of_version_one_counts_what_lies_in_children() {
    let mut memory = Memory::parse_stat(
        "cache 0\nrss 4096\nshmem 1\ninactive_file 2\nhierarchical_memory_limit 9\ntotal_cache 8192\ntotal_rss 12288\ntotal_shmem 4096\ntotal_swap 3\ntotal_inactive_file 4096\n",
    );
    memory.count_events("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    assert_eq!(memory.anonymous, 12288);
    assert_eq!(
        (memory.file, memory.shared, memory.inactive_file),
        (8192, 4096, 4096)
    );
    assert_eq!((memory.swap, memory.oom_kills), (3, 2));
    let mut second = Memory::parse_stat(
        "anon 5\nfile 6\nshmem 7\nfile_dirty 8\ninactive_file 9\nworkingset_refault_anon 1\nworkingset_refault_file 2\n",
    );
    second.count_events("low 0\nhigh 1\nmax 4\noom 3\noom_kill 2\noom_group_kill 0\n");
    assert_eq!((second.anonymous, second.dirty, second.refaults), (5, 8, 3));
    assert_eq!(
        (second.limit_hits, second.ooms, second.oom_kills),
        (4, 3, 2)
    );
    assert_eq!(maximum("max\n"), None);
    assert_eq!(maximum("9223372036854771712\n"), None);
    assert_eq!(maximum("4096\n"), Some(4096));
}

#[test]
fn use_of_disks_is_told_alike_by_both_versions() {
    let disk = Disk {
        device: (254, 0),
        read: 10,
        written: 20,
        reads: 1,
        writes: 2,
    };
    let second = "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n";
    let mut disks = BTreeMap::new();
    count_disks(&mut disks, second, true, false);
    assert_eq!(disks.into_values().collect::<Vec<_>>(), [disk]);
    let bytes = "254:0 Read 10\n254:0 Write 20\n254:0 Sync 30\n254:0 Total 30\nTotal 30\n";
    let requests = "254:0 Read 1\n254:0 Write 2\n254:0 Sync 3\n254:0 Total 3\nTotal 3\n";
    let mut disks = BTreeMap::new();
    count_disks(&mut disks, bytes, false, false);
    count_disks(&mut disks, requests, false, true);
    assert_eq!(disks.into_values().collect::<Vec<_>>(), [disk]);
}

#[test]
fn limits_of_disks_are_told_alike_by_both_versions() {
    let limit = IoLimit {
        read: None,
        written: Some(1 << 20),
        reads: Some(300),
        writes: None,
    };
    let mut second = BTreeMap::new();
    let text = "254:0 rbps=max wbps=1048576 riops=300 wiops=max";
    assert_eq!(limit.text((254, 0)), text);
    io_limits(&mut second, &format!("{text}\n7:1 rbps=5 wbps=max\n"));
    assert_eq!(second.remove(&(254, 0)), Some(limit));
    assert_eq!(second[&(7, 1)].read, Some(5));
    let mut first = BTreeMap::new();
    io_numbers(&mut first, "", 0);
    io_numbers(&mut first, "254:0 1048576\n", 1);
    io_numbers(&mut first, "254:0 300\n7:0 0\n", 2);
    assert_eq!(first.remove(&(254, 0)), Some(limit));
    assert_eq!(first[&(7, 0)], IoLimit::default());
}

#[test]
fn a_process_may_bear_any_name() {
    let line = "4711 (a) R 1 (\n) S 4700 4711 4700 34816 4711 4194304 1 2 3 4 250 150 30 20 20 0 1 0 123456 1000 10 18446744073709551615";
    let from = line.rfind(')').unwrap();
    let seen = super::processes::parse(4711, &line[from..]).unwrap();
    assert_eq!((seen.parent, seen.group, seen.session), (4700, 4711, 4700));
    assert!(seen.terminal);
    assert_eq!(seen.used, Duration::from_secs(4));
    assert_eq!(seen.used_by_ended, Duration::from_millis(500));
    assert_eq!(seen.started, Duration::from_millis(1_234_560));
    let own = super::processes::see(std::process::id()).unwrap();
    assert_eq!(
        own.parent,
        u32::try_from(rustix::process::getppid().unwrap().as_raw_nonzero().get()).unwrap()
    );
}
