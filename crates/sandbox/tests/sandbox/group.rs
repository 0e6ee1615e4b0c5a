//! The handle on a running sandbox's cgroups: figures, moves that stay inside, limits of what runs.

use crate::world::{DEADLINE, World};
use boatyard_sandbox::group::sample::IoLimit;
use boatyard_sandbox::group::{Class, Group, Quota, Weight};
use boatyard_sandbox::spec::{Limits, Root, Spec};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn started(world: &World, name: &str, number: u32, script: &str) -> (Spec, Group) {
    let mut spec = world.spec(name, script);
    spec.id_base += number * boatyard_sandbox::spec::ID_RANGE;
    world.sandboxes.start(&spec).unwrap();
    let group = world.sandboxes.group(&spec.id).unwrap();
    (spec, group)
}

fn class_of(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let line = text.lines().find(|line| {
        line.contains(":cpu:") || line.contains(":cpu,") || line.starts_with("0::/b")
    })?;
    line.rsplit('/').next().map(str::to_owned)
}

#[test]
fn use_is_counted_by_class_and_a_process_is_moved_with_its_threads() {
    let world = World::new();
    let (spec, group) = started(
        &world,
        "one",
        0,
        "(while :; do :; done) & (while :; do :; done) & wait",
    );
    let processes = until("three processes", || {
        let (processes, whole) = group.processes(Class::Agent).unwrap();
        assert!(whole);
        (processes.len() == 3).then_some(processes)
    });
    until("use of the agent's class", || {
        let used = group.class_usage(Class::Agent).unwrap().unwrap();
        (used > Duration::from_millis(20)).then_some(())
    });
    assert_eq!(
        group.class_usage(Class::Builds).unwrap(),
        Some(Duration::ZERO)
    );
    let busy = *processes.last().unwrap();
    group.place(busy, spec.id_base, Class::Builds).unwrap();
    assert_eq!(class_of(busy).as_deref(), Some("builds"));
    assert_eq!(group.processes(Class::Builds).unwrap().0, [busy]);
    until("use of the class it came to", || {
        let used = group.class_usage(Class::Builds).unwrap().unwrap();
        (used > Duration::from_millis(20)).then_some(())
    });
    assert!(group.usage().unwrap() > Duration::from_millis(40));
    assert!(group.pids().unwrap().unwrap() >= 3);
    assert!(group.memory().unwrap().unwrap().usage > 0);
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    assert!(group.usage().unwrap_err().is_gone());
    assert!(group.processes(Class::Builds).unwrap_err().is_gone());
    assert!(world.traces().is_empty(), "{:?}", world.traces());
}

/// What the loop does when a process id it read belongs to somebody else by the time it writes it.
#[test]
fn a_process_of_somebody_else_is_not_moved() {
    let world = World::new();
    let (spec, group) = started(&world, "one", 0, "sleep 1000");
    let (other, others) = started(&world, "two", 1, "sleep 1000");
    let mut host = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let neighbour = until("the neighbour", || {
        others.processes(Class::Agent).unwrap().0.first().copied()
    });
    let before = [host.id(), neighbour]
        .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap());
    for uid in [spec.id_base, 0, other.id_base, spec.id_base + 1000] {
        for pid in [host.id(), neighbour] {
            group.place(pid, uid, Class::Builds).unwrap_err();
        }
    }
    let after = [host.id(), neighbour]
        .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap());
    assert_eq!(before, after);
    let own = group.processes(Class::Agent).unwrap().0;
    group.place(own[0], spec.id_base, Class::Builds).unwrap();
    assert!(rustix::process::geteuid().is_root());
    assert!(
        rustix::thread::capabilities(None)
            .unwrap()
            .effective
            .contains(rustix::thread::CapabilitySet::DAC_OVERRIDE)
    );
    let _ = host.kill();
    let _ = host.wait();
}

#[test]
fn quotas_and_limits_change_while_it_runs() {
    let world = World::new();
    let (_spec, group) = started(&world, "one", 0, "sleep 1000");
    assert_eq!(group.whole_quota().unwrap(), None);
    let limits = Limits {
        cpu_millis: Some(2000),
        memory_bytes: Some(256 << 20),
        pids: Some(100),
    };
    group.set_cpu_limit(limits.cpu_millis).unwrap();
    group.set_memory_limit(limits.memory_bytes).unwrap();
    group.set_pids_limit(limits.pids).unwrap();
    assert_eq!(group.limits().unwrap(), limits);
    let ms = Duration::from_millis;
    let whole = group.whole_quota().unwrap().unwrap();
    assert_eq!((whole.quota, whole.period), (ms(200), ms(100)));
    assert_eq!(group.memory().unwrap().unwrap().limit, Some(256 << 20));
    let quota = Quota {
        quota: ms(18),
        period: ms(10),
        burst: ms(10),
    };
    group.set_quota(Class::Builds, Some(quota)).unwrap();
    assert_eq!(group.class_quota(Class::Builds).unwrap(), Some(quota));
    group.set_weight(Class::Builds, Weight::new(1)).unwrap();
    group
        .set_weight(Class::Sessions, Weight::new(u32::MAX))
        .unwrap();
    // Room above the limit is not the limit.
    let roomy = Quota {
        quota: ms(250),
        period: ms(100),
        burst: ms(200),
    };
    group.set_whole_quota(Some(roomy)).unwrap();
    assert_eq!(group.whole_quota().unwrap(), Some(roomy));
    assert_eq!(group.limits().unwrap().cpu_millis, Some(2000));
    // Of swap as much again, however far it is raised and lowered.
    let swap = |group: &Group| {
        let of = |mount: &str, file: &str| {
            let root = format!("{mount}/{}/envs/one", world.options.cgroup_root);
            std::fs::read_to_string(Path::new(&root).join(file))
        };
        let unified = of("/sys/fs/cgroup", "memory.swap.max");
        let sum = unified.or_else(|_| of("/sys/fs/cgroup/memory", "memory.memsw.limit_in_bytes"));
        let limit = group.limits().unwrap().memory_bytes.unwrap();
        let held: u64 = sum.ok()?.trim().parse().unwrap();
        Some(if group.is_unified() {
            held
        } else {
            held - limit
        })
    };
    for mebibytes in [256, 1024, 100, 150] {
        let bytes = mebibytes << 20;
        group.set_memory_limit(Some(bytes)).unwrap();
        assert_eq!(group.limits().unwrap().memory_bytes, Some(bytes));
        match swap(&group) {
            Some(swap) => assert_eq!(swap, bytes),
            None => println!("skipped: this kernel does not count swap"),
        }
    }
    // Below what the class has: the class's goes first.
    group.set_cpu_limit(Some(500)).unwrap();
    group.set_memory_limit(None).unwrap();
    group.set_pids_limit(None).unwrap();
    assert_eq!(group.whole_quota().unwrap().unwrap().quota, ms(50));
    assert_eq!(group.class_quota(Class::Builds).unwrap(), None);
    assert_eq!(group.memory().unwrap().unwrap().limit, None);
    group.set_cpu_limit(None).unwrap();
    assert_eq!(group.whole_quota().unwrap(), None);
}

/// In version 1 the kernel refuses a quota that is less than one below it.
#[test]
fn a_quota_made_inside_does_not_keep_a_limit_from_being_lowered() {
    let world = World::new();
    let (spec, group) = started(
        &world,
        "one",
        0,
        "cd /sys/fs/cgroup; [ -e cgroup.controllers ] || cd cpu; mkdir -p mine/deeper; \
         [ ! -e mine/deeper/cpu.cfs_quota_us ] || echo 150000 > mine/deeper/cpu.cfs_quota_us; \
         echo made; sleep 1000",
    );
    let ms = Duration::from_millis;
    let whole = |quota, burst| Quota {
        quota: ms(quota),
        period: ms(100),
        burst: ms(burst),
    };
    let log = spec.state.join("console.log");
    until("its groups", || {
        let text = std::fs::read_to_string(&log).ok()?;
        text.contains("made").then_some(())
    });
    for wanted in [whole(250, 200), whole(125, 100), whole(100, 100)] {
        group.set_whole_quota(Some(wanted)).unwrap();
        assert_eq!(group.whole_quota().unwrap(), Some(wanted));
    }
    group.set_cpu_limit(Some(500)).unwrap();
    assert_eq!(group.whole_quota().unwrap(), Some(whole(50, 0)));
}

#[test]
fn groups_made_inside_are_named() {
    let world = World::new();
    let (_spec, group) = started(
        &world,
        "one",
        0,
        "cd /sys/fs/cgroup; [ -e cgroup.controllers ] || cd cpu; mkdir docker mine; sleep 1000",
    );
    let mut made = until("two groups", || {
        let made = group.made_inside().unwrap();
        (made.len() == 2).then_some(made)
    });
    made.sort();
    assert_eq!(made, ["docker", "mine"]);
}

/// As those of engines; of version 2.
#[test]
fn groups_made_inside_are_capped_and_let_go() {
    let world = World::new();
    let script = "cd /sys/fs/cgroup; [ -e cgroup.controllers ] || cd cpu; mkdir docker; \
                  echo $$ > docker/cgroup.procs; while :; do :; done";
    let (_spec, group) = started(&world, "one", 0, script);
    until("a group", || {
        (group.made_inside().unwrap() == ["docker"]).then_some(())
    });
    if !group.is_unified() {
        assert!(group.cappable().unwrap().is_empty());
        println!("skipped: groups made inside are capped on version 2 of cgroups");
        return;
    }
    let quota = Quota {
        quota: Duration::from_millis(5),
        period: Duration::from_millis(100),
        burst: Duration::ZERO,
    };
    for name in group.cappable().unwrap() {
        group.set_made_quota(&name, Some(quota)).unwrap();
    }
    assert_eq!(group.made_quota("docker").unwrap(), Some(quota));
    let (began, before) = (Instant::now(), group.made_usage("docker").unwrap());
    until("a second", || {
        (began.elapsed() > Duration::from_secs(1)).then_some(())
    });
    let used = group.made_usage("docker").unwrap() - before;
    assert!(used < began.elapsed() / 8, "{used:?}");
    group.set_made_quota("docker", None).unwrap();
    assert_eq!(group.made_quota("docker").unwrap(), None);
    assert!(group.made_usage("gone").unwrap_err().is_gone());
}

#[test]
fn what_is_written_and_synced_is_counted_and_held_at_the_disk_until_it_is_let_go() {
    let world = World::new();
    let flood = "while :; do dd if=/dev/zero of=/flood bs=1M count=4 conv=fsync; done 2>/dev/null";
    let (_spec, group) = started(&world, "one", 0, flood);
    let written = || {
        let disks = group.io().unwrap();
        disks.into_iter().max_by_key(|disk| disk.written)
    };
    let disk = until("something to be written", || {
        written().filter(|disk| disk.written > 8 << 20 && disk.writes > 0)
    });
    assert!(group.io_limits().unwrap().is_empty());
    let limit = IoLimit {
        written: Some(1 << 20),
        writes: Some(500),
        ..IoLimit::default()
    };
    group.set_io_limit(disk.device, &limit).unwrap();
    assert_eq!(group.io_limits().unwrap(), [(disk.device, limit)].into());
    // What was under way is done; then it counts.
    let began = Instant::now();
    until("a second", || {
        (began.elapsed() > Duration::from_secs(1)).then_some(())
    });
    let before = written().unwrap().written;
    let began = Instant::now();
    let mut waited = false;
    until("three more", || {
        waited |= group.waiting(64).unwrap().is_none_or(|waiting| waiting > 0);
        (began.elapsed() > Duration::from_secs(3)).then_some(())
    });
    assert!(waited, "nobody was seen waiting");
    let held = written().unwrap().written - before;
    assert!(held <= 10 << 20, "{held} bytes in three seconds");
    group
        .set_io_limit(disk.device, &IoLimit::default())
        .unwrap();
    assert!(group.io_limits().unwrap().is_empty());
    let before = written().unwrap().written;
    until("much to be written again", || {
        (written().unwrap().written > before + (24 << 20)).then_some(())
    });
    // Of a disk that is none there is nothing to hold.
    group.set_io_limit((7, 250), &limit).unwrap();
}

/// A disk that was made just now, as those of a host just started: nobody was held there yet.
struct NewDisk {
    folder: tempfile::TempDir,
    number: String,
}

impl NewDisk {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("boatyard-disk-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let mount = folder.path().join("mount");
        std::fs::create_dir(&mount).unwrap();
        // LOOP_CTL_ADD of whichever number is next.
        let script = r#"
            truncate -s 64M "$0/file" && mke2fs -q -F -t ext4 "$0/file"
            add() { n=$(perl -e 'open F, "+<", "/dev/loop-control"; print ioctl F, 0x4C80, -1 or die $!'); n=${n%% *}; }
            add; while ! losetup "/dev/loop$n" "$0/file"; do [ "$((tries += 1))" -lt 20 ]; add; done
            mount "/dev/loop$n" "$0/mount"; echo "$n""#;
        let number = said(Command::new("sh").args(["-ec", script]).arg(folder.path()));
        Self { folder, number }
    }

    fn mount(&self) -> std::path::PathBuf {
        self.folder.path().join("mount")
    }
}

impl Drop for NewDisk {
    fn drop(&mut self) {
        // LOOP_CTL_REMOVE.
        let script = r#"
            umount "$1" && losetup -d "/dev/loop$0"
            remove() { perl -e 'open F, "+<", "/dev/loop-control"; ioctl F, 0x4C81, $ARGV[0] + 0 or die $!' "$1"; }
            until remove "$0"; do [ "$((tries += 1))" -lt 600 ] || exit 1; sleep 0.1; done"#;
        let script = ["-c", script, &self.number];
        let removed = Command::new("sh").args(script).arg(self.mount()).output();
        let removed = removed.unwrap();
        assert!(
            removed.status.success() || std::thread::panicking(),
            "{removed:?}"
        );
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn what_is_written_is_counted_at_a_disk_nobody_was_held_at_before() {
    let disk = NewDisk::new();
    let world = World::new();
    let writes = "while :; do dd if=/dev/zero of=/some bs=1M count=8 conv=fsync; done 2>/dev/null";
    let mut spec = world.spec("one", writes);
    let (upper, work) = (disk.mount().join("upper"), disk.mount().join("work"));
    for part in [&upper, &work] {
        std::fs::create_dir(part).unwrap();
    }
    spec.root = Root::Overlay {
        layers: vec![world.layer()],
        upper,
        work,
    };
    world.sandboxes.start(&spec).unwrap();
    let group = world.sandboxes.group(&spec.id).unwrap();
    let device = (7, disk.number.parse().unwrap());
    until("writing to be counted", || {
        let disks = group.io().unwrap();
        let mut of = disks.iter().filter(|disk| disk.device == device);
        of.any(|disk| disk.written > 8 << 20 && disk.writes > 0)
            .then_some(())
    });
}
