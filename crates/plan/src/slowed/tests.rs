//! By table.
use super::*;

const MIB: u64 = 1 << 20;

fn words(before: &Sample, now: &Sample, limits: &Limits) -> Vec<String> {
    let reasons = reasons(before, now, limits);
    let told = reasons.into_iter();
    told.map(|one| format!("{}: {}", one.reason, one.message))
        .collect()
}

#[test]
fn each_reason_is_told_by_what_changed_since() {
    let limits = Limits {
        cpu_millis: Some(2000),
        memory: Some(100 * MIB),
        pids: Some(100),
    };
    let before = Sample {
        throttled: (5, 50),
        builds_throttled: (7, 50),
        builds_cpu_millis: Some(1800),
        memory: 50 * MIB,
        pids: 10,
        ..Sample::default()
    };
    let after = |change: fn(&mut Sample)| {
        let mut now = before;
        change(&mut now);
        now
    };
    for (now, told) in [
        (before, vec![]),
        (after(|now| now.throttled = (6, 60)), vec![]),
        (
            after(|now| now.throttled = (8, 60)),
            vec!["CpuLimit: everything is held at 2 processors"],
        ),
        (
            after(|now| now.builds_throttled = (17, 60)),
            vec!["CpuLimit: builds held at 90% of 2 processors"],
        ),
        (
            after(|now| now.memory = 90 * MIB),
            vec!["MemoryLimit: memory near its limit: 90 of 100 MiB"],
        ),
        (
            after(|now| now.memory_high = Some(40 * MIB)),
            vec!["MemoryReclaim: memory is being taken back: more than 40 MiB are in use"],
        ),
        (
            after(|now| {
                now.disk = Some(Disk {
                    read: None,
                    write: Some(40 * MIB),
                });
            }),
            vec!["DiskShare: held to 40 MiB written a second: neighbours wait for the disk"],
        ),
        (
            after(|now| now.pids = 95),
            vec!["Processes: processes near their limit: 95 of 100"],
        ),
    ] {
        assert_eq!(words(&before, &now, &limits), told);
    }
    let half = Limits {
        cpu_millis: Some(1500),
        ..limits
    };
    let now = after(|now| now.throttled = (20, 60));
    let told = words(&before, &now, &half);
    assert_eq!(told, ["CpuLimit: everything is held at 1.5 processors"]);
    assert_eq!(words(&before, &now, &Limits::default()), [""; 0]);
}

#[test]
fn use_of_the_processor_is_over_the_time_between() {
    let sample = |at: u64, cpu: u64| Sample {
        at: Duration::from_millis(at),
        cpu: Duration::from_millis(cpu),
        ..Sample::default()
    };
    assert_eq!(sample(1000, 500).cpu_millis_since(&sample(0, 0)), 500);
    assert_eq!(
        sample(3000, 4500).cpu_millis_since(&sample(1000, 500)),
        2000
    );
    assert_eq!(sample(0, 0).cpu_millis_since(&sample(0, 0)), 0);
    // It was started anew.
    assert_eq!(sample(2000, 1).cpu_millis_since(&sample(1000, 500)), 0);
}

#[test]
fn figures_are_told_seldom_and_when_they_changed_noticeably() {
    let told = Told {
        cpu_millis: 100,
        memory: 500 * MIB,
        pids: 20,
    };
    let (soon, late) = (Duration::from_secs(29), Duration::from_secs(30));
    for (now, worth) in [
        (told, false),
        (
            Told {
                cpu_millis: 150,
                ..told
            },
            false,
        ),
        (
            Told {
                cpu_millis: 900,
                ..told
            },
            true,
        ),
        (
            Told {
                memory: 540 * MIB,
                ..told
            },
            false,
        ),
        (
            Told {
                memory: 560 * MIB,
                ..told
            },
            true,
        ),
        (Told { pids: 28, ..told }, true),
    ] {
        assert_eq!(worth_telling(&told, &now, late), worth, "{now:?}");
        assert!(!worth_telling(&told, &now, soon), "{now:?}");
    }
}
