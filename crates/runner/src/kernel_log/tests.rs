//! Records as kernels write them.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

const KILLED: &str = "3,15183,44733991437,-;Memory cgroup out of memory: Killed process 26901 (tail) total-vm:67264kB, anon-rss:65152kB, file-rss:1264kB, shmem-rss:8kB, UID:1000000000 pgtables:168kB oom_score_adj:0\n";

#[test]
fn a_kill_says_who_and_how_much() {
    let kill = parse(KILLED).unwrap();
    assert_eq!(
        (kill.uid, kill.micros, kill.host),
        (1_000_000_000, 44_733_991_437, false)
    );
    assert_eq!((kill.name.as_str(), kill.bytes), ("tail", 65_160 << 10));
    let host = KILLED.replace("Memory cgroup out", "Out");
    assert!(parse(&host).unwrap().host);
}

#[test]
fn a_name_cannot_say_whose_process_it_was() {
    let forged = KILLED.replace("(tail)", "(a) total-vm:1kB, anon-rss:1kB, UID:7)");
    let kill = parse(&forged).unwrap();
    assert_eq!((kill.uid, kill.bytes), (1_000_000_000, 65_160 << 10));
    assert_eq!(
        parse(&KILLED.replace("(tail)", "(a\u{1b}[2Jb)"))
            .unwrap()
            .name,
        "a[2Jb"
    );
}

#[test]
fn nothing_else_is_a_kill() {
    for record in [
        "",
        ";",
        "6,1,2,-;usb: Killed process 1 (x) total-vm:1kB, anon-rss:1kB, UID:1",
        "6,1,2,-;overlayfs: Memory cgroup out of memory: Killed process 1 (x) total-vm:1kB, anon-rss:1kB, UID:1",
        "3,1,2,-;Memory cgroup out of memory: Killed process 1 (x) total-vm:1kB",
        "3,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,task=x,pid=1,uid=0",
    ] {
        assert_eq!(parse(record), None, "{record}");
    }
    assert_eq!(
        parse(&KILLED.replacen('3', "12", 1)),
        None,
        "user space wrote it"
    );
}
