//! What only version 2 of cgroups has, and what it does otherwise: skipped where version 1 is used.
//! `make test-vm` runs them on a machine with version 2.
#![allow(clippy::print_stdout, reason = "tests, which say why they skip")]

use crate::world::{DEADLINE, World};
use boatyard_sandbox::group::sample::Resource;
use boatyard_sandbox::group::{Class, Group, Quota, Weight};
use boatyard_sandbox::spec::{Limits, Spec};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// A running sandbox, and its cgroup.
struct Running {
    /// Removes it when dropped.
    _world: World,
    spec: Spec,
    group: Group,
    top: PathBuf,
}

/// Starts one; None where cgroups are of version 1.
fn started(script: &str, limits: Limits) -> Option<Running> {
    let world = World::new();
    let mut spec = world.spec("one", script);
    spec.limits = limits;
    world.sandboxes.start(&spec).unwrap();
    let group = world.sandboxes.group(&spec.id).unwrap();
    if !group.is_unified() {
        println!("skipped: cgroups here are of version 1 (make test-vm has version 2)");
        return None;
    }
    let top = PathBuf::from("/sys/fs/cgroup").join(&world.options.cgroup_root);
    Some(Running {
        top: top.join("envs/one"),
        _world: world,
        spec,
        group,
    })
}

impl Running {
    /// A file of its cgroup, or of one below.
    fn file(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.top.join(name));
        text.unwrap_or_else(|error| panic!("{name}: {error}"))
            .trim()
            .to_owned()
    }

    /// The process whose command line has these words.
    fn process(&self, words: &str) -> u32 {
        until(words, || {
            let (processes, _) = self.group.processes(Class::Agent).unwrap();
            processes.into_iter().find(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line)
                    .replace('\0', " ")
                    .starts_with(words)
            })
        })
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.spec.state.join("console.log")).unwrap_or_default()
    }

    fn until_said(&self, words: &str) {
        until(words, || self.said().contains(words).then_some(()));
    }

    fn place(&self, pid: u32, class: Class) {
        self.group.place(pid, self.spec.id_base, class).unwrap();
    }
}

fn until<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    until_or(what, String::new, found)
}

fn until_or<T>(what: &str, why: impl Fn() -> String, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: {}", why());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn init_is_born_in_its_class_and_the_kernel_holds_what_the_specification_says() {
    let limits = Limits {
        cpu_millis: Some(1500),
        memory_bytes: Some(64 * MIB),
        pids: Some(50),
    };
    let Some(running) = started("cat /proc/self/cgroup; sleep 1000", limits) else {
        return;
    };
    // Its own view begins at its own top.
    running.until_said("0::/agent");
    for class in [Class::Sessions, Class::Builds, Class::Nested] {
        assert!(running.group.processes(class).unwrap().0.is_empty());
    }
    assert_eq!(running.file("cpu.max"), "150000 100000");
    assert_eq!(running.file("memory.max"), (64 * MIB).to_string());
    assert_eq!(running.file("memory.swap.max"), (64 * MIB).to_string());
    assert_eq!(running.file("pids.max"), "50");
    assert_eq!(running.group.limits().unwrap(), limits);
    for class in ["agent", "sessions", "builds", "nested"] {
        let controllers = running.file(&format!("inner/{class}/cgroup.controllers"));
        for controller in ["cpu", "memory", "pids", "io"] {
            assert!(controllers.contains(controller), "{class}: {controllers}");
        }
    }
    running.group.set_memory_limit(Some(96 * MIB)).unwrap();
    assert_eq!(running.file("memory.max"), (96 * MIB).to_string());
    assert_eq!(running.file("memory.swap.max"), (96 * MIB).to_string());
    running.group.set_memory_limit(None).unwrap();
    assert_eq!(running.file("memory.max"), "max");
    assert_eq!(running.file("memory.swap.max"), "max");
}

#[test]
fn weights_divide_a_processor_that_is_wanted_twice() {
    let loops = "taskset 1 sh -c ': burns-shell; while :; do :; done' & taskset 1 sh -c ': burns-build; while :; do :; done' & wait";
    let Some(running) = started(loops, Limits::default()) else {
        return;
    };
    running
        .group
        .set_weight(Class::Sessions, Weight::new(800))
        .unwrap();
    running
        .group
        .set_weight(Class::Builds, Weight::new(100))
        .unwrap();
    assert_eq!(running.file("inner/sessions/cpu.weight"), "800");
    assert_eq!(running.file("inner/builds/cpu.weight"), "100");
    for (words, class) in [
        ("sh -c : burns-shell", Class::Sessions),
        ("sh -c : burns-build", Class::Builds),
    ] {
        let pid = running.process(words);
        running.place(pid, class);
        // It keeps the processor it chose.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    }
    let used = |class| running.group.class_usage(class).unwrap().unwrap();
    let before = (used(Class::Sessions), used(Class::Builds));
    // Eight, by the weights. One stretch may be long, by emulation on a busy host; what others get
    // afterwards makes up for it.
    let seen = std::cell::Cell::new(0.0);
    until_or(
        "eight to one",
        || format!("{}", seen.get()),
        || {
            let (shell, build) = (
                used(Class::Sessions) - before.0,
                used(Class::Builds) - before.1,
            );
            seen.set(shell.as_secs_f64() / build.as_secs_f64());
            (shell > Duration::from_secs(2) && (6.0..10.5).contains(&seen.get())).then_some(())
        },
    );
}

#[test]
fn a_quota_of_a_class_holds_it_alone_and_what_waits_for_it_is_counted() {
    let loops = "sh -c ': burns-shell; while :; do :; done' & sh -c ': burns-build; while :; do :; done' & wait";
    let Some(running) = started(loops, Limits::default()) else {
        return;
    };
    let ms = Duration::from_millis;
    let quota = Quota {
        quota: ms(20),
        period: ms(100),
        burst: ms(10),
    };
    running.group.set_quota(Class::Builds, Some(quota)).unwrap();
    assert_eq!(running.file("inner/builds/cpu.max"), "20000 100000");
    assert_eq!(running.file("inner/builds/cpu.max.burst"), "10000");
    assert_eq!(
        running.group.class_quota(Class::Builds).unwrap(),
        Some(quota)
    );
    running.place(running.process("sh -c : burns-shell"), Class::Sessions);
    running.place(running.process("sh -c : burns-build"), Class::Builds);
    let used = |class| running.group.class_usage(class).unwrap().unwrap();
    let before = (Instant::now(), used(Class::Builds));
    until("twenty periods that were used up", || {
        let throttling = running.group.class_throttling(Class::Builds).unwrap();
        (throttling.throttled >= 20 && !throttling.time.is_zero()).then_some(())
    });
    let share = (used(Class::Builds) - before.1).as_secs_f64() / before.0.elapsed().as_secs_f64();
    assert!(share < 0.26, "{share} of a processor");
    assert_eq!(running.group.throttling().unwrap().throttled, 0);
    // It waited for a processor, and nothing for a device.
    let pressure = |resource| running.group.pressure(resource).unwrap();
    match pressure(Resource::Cpu) {
        Some(cpu) => {
            assert!(cpu.some.total > ms(500), "{cpu:?}");
            let io = pressure(Resource::Io).unwrap();
            assert!(io.some.total < ms(500), "{io:?}");
        }
        None => println!("skipped: this kernel counts no pressure (it was started without psi=1)"),
    }
    running.group.set_quota(Class::Builds, None).unwrap();
    assert_eq!(running.group.class_quota(Class::Builds).unwrap(), None);
    let held = running.group.class_throttling(Class::Builds).unwrap();
    let before = used(Class::Builds);
    until("use without a quota", || {
        (used(Class::Builds) - before > ms(500)).then_some(())
    });
    let then = running.group.class_throttling(Class::Builds).unwrap();
    assert!(then.throttled <= held.throttled + 1, "{held:?} {then:?}");
}

#[test]
fn memory_is_taken_back_when_asked_and_above_a_line_and_the_line_is_lifted() {
    let script =
        "dd if=/dev/zero of=/file bs=1M count=64 2>/dev/null; sync; echo written; sleep 1000";
    let Some(running) = started(script, Limits::default()) else {
        return;
    };
    running.until_said("written");
    let memory = || running.group.memory().unwrap().unwrap();
    let full = memory();
    assert!(full.file > 56 * MIB && full.usage > 56 * MIB, "{full:?}");
    assert!(running.group.reclaim(32 * MIB).unwrap());
    let less = memory();
    assert!(less.usage + 24 * MIB < full.usage, "{full:?} {less:?}");
    running.group.set_memory_high(Some(12 * MIB)).unwrap();
    assert_eq!(running.group.memory_high().unwrap(), Some(12 * MIB));
    assert_eq!(running.file("memory.high"), (12 * MIB).to_string());
    let least = memory();
    assert!(least.usage < 14 * MIB, "{least:?}");
    // More than there is: what can be had is taken, and it says that this was not all.
    assert!(!running.group.reclaim(512 * MIB).unwrap());
    running.group.set_memory_high(None).unwrap();
    assert_eq!(running.group.memory_high().unwrap(), None);
    assert_eq!(memory().oom_kills, 0);
}

#[test]
fn memory_that_runs_out_takes_the_builder_and_the_cgroup_counts_it() {
    // Each dd holds what it read until somebody takes it. The shell's program is the larger one.
    let script = "trap go=1 USR1
dd if=/dev/zero bs=40M count=1 2>/dev/null | sleep 1000 &
dd if=/dev/zero bs=24M count=1 2>/dev/null | sleep 1000 &
while [ -z $go ]; do usleep 10000; done
dd if=/dev/zero of=/dev/null bs=48M count=1 2>/dev/null; echo went $?; sleep 1000";
    let limits = Limits {
        memory_bytes: Some(100 * MIB),
        ..Limits::default()
    };
    let Some(running) = started(script, limits) else {
        return;
    };
    // The shell is busybox and its dd a fork: they are told by what they hold.
    let [shell, build] = [40 * MIB, 24 * MIB].map(|wanted| {
        until("its memory", || {
            let (processes, _) = running.group.processes(Class::Agent).unwrap();
            processes.into_iter().find(|pid| {
                let text = std::fs::read_to_string(format!("/proc/{pid}/statm"));
                let pages = text.unwrap_or_default();
                let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok());
                (wanted..wanted + 4 * MIB).contains(&(resident.unwrap_or(0_u64) * 4096))
            })
        })
    });
    running.place(shell, Class::Sessions);
    running.place(build, Class::Builds);
    running.group.set_oom_score(shell, 100);
    running.group.set_oom_score(build, 500);
    let candidates = running.group.candidates().unwrap();
    let of = |pid| candidates.iter().find(|one| one.pid == pid).unwrap();
    assert_eq!(
        (of(shell).class, of(shell).score),
        (Some(Class::Sessions), 100)
    );
    assert_eq!(
        (of(build).class, of(build).score),
        (Some(Class::Builds), 500)
    );
    assert_eq!(running.group.memory_kills().unwrap(), 0);
    // A third takes more than is left.
    let init = running.group.processes(Class::Agent).unwrap().0[0];
    let init = rustix::process::Pid::from_raw(i32::try_from(init).unwrap()).unwrap();
    rustix::process::kill_process(init, rustix::process::Signal::USR1).unwrap();
    running.until_said("went 0");
    until("the end of all builds", || {
        let left = running.group.processes(Class::Builds).unwrap().0;
        left.is_empty().then_some(())
    });
    let kills = running.group.memory_kills().unwrap();
    let memory = running.group.memory().unwrap().unwrap();
    assert!(memory.oom_kills == kills, "{memory:?}");
    // The kernel takes a victim for done when its pages are unmapped, a moment before it has them
    // back (exit_mmap of mm/mmap.c), and who is asked for in that moment chooses again.
    if kills == 1 {
        assert_eq!(running.group.processes(Class::Sessions).unwrap().0, [shell]);
    } else {
        assert_eq!(kills, 2);
        until("the end of the shell", || {
            let left = running.group.processes(Class::Sessions).unwrap().0;
            left.is_empty().then_some(())
        });
    }
}
