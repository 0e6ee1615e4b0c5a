//! What a process sees and may do inside.

use crate::world::World;
use boatyard_sandbox::spec::{Limits, ProcessLimit};

#[test]
fn init_is_pid_1_root_and_knows_its_name() {
    let world = World::new();
    let (code, output) =
        world.run("echo $$ $(id -u) $(id -g) $(hostname); cat /etc/hostname; exit 7");
    assert_eq!(output, "1 0 0 harbour\nharbour\n");
    assert_eq!(code, Some(7));
    assert!(world.traces().is_empty(), "{:?}", world.traces());
}

#[test]
fn files_made_inside_are_not_writable_by_everybody() {
    let world = World::new();
    let (_, output) = world.run("umask; echo x > /tmp/x; stat -c %a /tmp/x");
    assert_eq!(output, "0022\n644\n");
}

#[test]
fn no_descriptor_of_the_host_reaches_init() {
    let world = World::new();
    let (_, output) =
        world.run("ls /proc/1/fd; ls -l /proc/1/fd > /tmp/fds; grep -c /var/tmp /tmp/fds");
    assert_eq!(output, "0\n1\n2\n0\n");
}

#[test]
fn signals_that_end_init_are_told() {
    let world = World::new();
    let spec = world.spec("one", "sleep 1000");
    world.sandboxes.start(&spec).unwrap();
    world.sandboxes.kill(&spec.id, &spec.state).unwrap();
    let observed = world.sandboxes.observe(&spec.id, &spec.state).unwrap();
    assert_eq!(
        observed,
        boatyard_sandbox::Observed::Exited {
            code: None,
            signal: Some(9)
        }
    );
}

#[test]
fn a_second_start_is_refused_while_one_runs() {
    let world = World::new();
    let spec = world.spec("one", "sleep 1000");
    world.sandboxes.start(&spec).unwrap();
    let error = world.sandboxes.start(&spec).unwrap_err();
    assert!(error.to_string().contains("already running"), "{error}");
}

#[test]
fn fuse_and_tun_and_the_usual_devices_open() {
    let world = World::new();
    let (_, output) = world.run(
        "for d in null zero full random urandom tty fuse net/tun; do \
           [ -c /dev/$d ] || echo missing $d; done; \
         (: <>/dev/fuse) && echo fuse; (: <>/dev/net/tun) && echo tun; \
         head -c 4 /dev/zero | wc -c; [ -c /dev/ptmx ] && echo ptmx; \
         echo x > /dev/shm/x && cat /dev/shm/x; \
         mknod /tmp/sda b 8 0 2>&1; mknod /dev/sda b 8 0 2>&1",
    );
    assert_eq!(
        output,
        "fuse\ntun\n4\nptmx\nx\nmknod: /tmp/sda: Operation not permitted\nmknod: /dev/sda: Operation not permitted\n"
    );
}

/// The second wall, alone: root of the host, among its own nodes, in the environment's cgroup.
#[test]
fn cgroups_hold_devices_back_even_from_the_hosts_root() {
    let world = World::new();
    let spec = world.spec("one", "sleep 1000");
    world.sandboxes.start(&spec).unwrap();
    let inner = world
        .cgroups()
        .into_iter()
        .map(|top| top.join("envs/one/inner"))
        .find(|inner| inner.join("memory.max").exists() || inner.join("devices.list").exists())
        .expect("a cgroup that filters devices");
    // Version 2 wants processes in leaves.
    let sessions = inner.join("sessions");
    let group = if sessions.exists() { sessions } else { inner };
    let output = std::process::Command::new("/bin/busybox")
        .args(["sh", "-c"])
        .arg(
            "echo $$ > $0/cgroup.procs || exit; \
             for d in null zero tty ptmx kmsg; do (: < /dev/$d) 2>/dev/null; echo $d $?; done; \
             mknod $1/x c 1 3 2>/dev/null || echo none made",
        )
        .arg(&group)
        .arg(world.base.path())
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    for wanted in ["null 0", "zero 0", "ptmx 0", "kmsg 1", "none made"] {
        assert!(output.contains(wanted), "{wanted}: {output}");
    }
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    assert!(world.traces().is_empty(), "{:?}", world.traces());
}

#[test]
fn containers_nest() {
    let world = World::new();
    let (code, output) = world.run(
        "unshare -Urmpf --mount-proc sh -c 'echo $$; id -u; mount -t tmpfs x /tmp && echo tmpfs; ls /proc | grep -c ^1$' 2>&1",
    );
    assert_eq!(output, "1\n0\ntmpfs\n1\n");
    assert_eq!(code, Some(0));
}

#[test]
fn the_host_kernel_is_out_of_reach() {
    let world = World::new();
    let (_, output) = world.run(
        "dmesg >/dev/null 2>&1 || echo no dmesg; \
         date -s 2000-01-01 2>&1 | grep -q 'not permitted' && echo no clock; \
         (echo x > /proc/sysrq-trigger) 2>/dev/null || echo no sysrq; \
         (echo 1 > /proc/sys/vm/drop_caches) 2>/dev/null || echo no caches; \
         (echo x > /proc/sys/kernel/core_pattern) 2>/dev/null || echo no core_pattern; \
         (cat /proc/kcore >/dev/null) 2>/dev/null || echo no kcore; \
         grep -c ^NoNewPrivs:.0 /proc/1/status; grep -c ^Seccomp:.2 /proc/1/status",
    );
    assert_eq!(
        output,
        "no dmesg\nno clock\nno sysrq\nno caches\nno core_pattern\nno kcore\n1\n1\n"
    );
}

#[test]
fn limits_hold_and_cannot_be_lifted_from_inside() {
    let world = World::new();
    let mut spec = world.spec(
        "one",
        "cat /proc/self/cgroup | grep -c :/agent; ls /sys/fs/cgroup >/dev/null && echo seen; \
         (trap 'kill $all; wait' EXIT; \
          i=0; while [ $i -lt 60 ]; do sleep 100 & all=\"$all $!\"; i=$((i+1)); done) 2>/tmp/err; \
         grep -q fork /tmp/err && echo no more tasks; \
         tail /dev/zero 2>/dev/null; echo tail $?; \
         find /sys/fs/cgroup -name memory.limit_in_bytes -o -name memory.max | head -1 > /tmp/f; \
         (echo 9999999999 > $(cat /tmp/f)) 2>/dev/null || echo refused",
    );
    spec.limits = Limits {
        cpu_millis: Some(1000),
        memory_bytes: Some(64 << 20),
        pids: Some(30),
    };
    let (_, output) = world.run_spec(&spec);
    let first = output.lines().next().unwrap_or_default();
    assert!(
        first.parse::<u32>().is_ok_and(|classes| classes > 0),
        "{output}"
    );
    for wanted in ["seen", "no more tasks", "tail 137", "refused"] {
        assert!(output.contains(wanted), "{wanted}: {output}");
    }
    assert!(world.traces().is_empty(), "{:?}", world.traces());
}

/// What container engines inside do: groups of their own, with limits of their own.
#[test]
fn controllers_reach_groups_made_inside() {
    let world = World::new();
    let (_, output) = world.run(
        "cd /sys/fs/cgroup; limit=memory.limit_in_bytes; \
         if [ -e cgroup.controllers ]; then limit=memory.max; cd nested; \
           echo +cpu +memory +pids > cgroup.subtree_control || exit; \
         else cd memory; fi; \
         mkdir mine && echo 16777216 > mine/$limit && cat mine/$limit; \
         sh -c 'echo $$ > mine/cgroup.procs && grep -c /mine$ /proc/self/cgroup; tail /dev/zero' 2>/dev/null; \
         echo tail $?",
    );
    assert_eq!(output, "16777216\n1\ntail 137\n");
    assert!(world.traces().is_empty(), "{:?}", world.traces());
}

/// Names so long and levels so many that no path leads there.
#[test]
fn groups_made_inside_are_removed_however_deep() {
    let world = World::new();
    let spec = world.spec(
        "one",
        "cd /sys/fs/cgroup; [ -e cgroup.controllers ] || cd memory; \
         name=$(head -c 200 /dev/zero | tr '\\0' x); i=0; \
         while [ $i -lt 80 ] && mkdir $name 2>/dev/null && cd -P $name; do i=$((i+1)); done; \
         echo deep $i; sleep 1000 & echo $! > cgroup.procs && echo moved; sleep 1000",
    );
    world.sandboxes.start(&spec).unwrap();
    let log = spec.state.join("console.log");
    let deadline = std::time::Instant::now() + crate::world::DEADLINE;
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("moved")) {
        assert!(std::time::Instant::now() < deadline, "not moved");
        std::thread::yield_now();
    }
    let said = std::fs::read_to_string(&log).unwrap();
    let levels: u32 = said.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(levels > 30, "{said}");
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    assert!(world.traces().is_empty(), "{:?}", world.traces());
}

#[test]
fn open_files_are_limited_as_asked() {
    let world = World::new();
    let mut spec = world.spec("one", "ulimit -n");
    spec.nofile = Some(4321);
    assert_eq!(world.run_spec(&spec).1, "4321\n");
}

#[test]
fn processes_are_limited_as_asked_and_never_beyond_the_hosts_own_limits() {
    let world = World::new();
    let mut spec = world.spec("one", "cat /proc/self/limits");
    let limit = |name: &str, soft, hard| ProcessLimit {
        name: name.to_owned(),
        soft,
        hard,
    };
    spec.rlimits = vec![
        limit("core", Some(0), Some(1024)),
        limit("stack", Some(4 << 20), Some(8 << 20)),
        limit("nproc", Some(300), Some(300)),
        limit("nofile", None, None),
    ];
    let text = world.run_spec(&spec).1;
    let of = |name: &str| -> Vec<String> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let words = line.unwrap_or_else(|| panic!("{name} in {text}"));
        words
            .split_whitespace()
            .take(2)
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(of("Max core file size"), ["0", "1024"]);
    assert_eq!(of("Max stack size"), ["4194304", "8388608"]);
    assert_eq!(of("Max processes"), ["300", "300"]);
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let hosts = own
        .maximum
        .map_or("unlimited".to_owned(), |most| most.to_string());
    let found = of("Max open files");
    // Where it may, the monitor has raised what engines inside ask for.
    let raised = ["1048576"; 2];
    assert!(
        found == [hosts.clone(), hosts] || found == raised,
        "{found:?}"
    );
}

#[test]
fn the_listener_is_descriptor_3() {
    let world = World::new();
    let mut spec = world.spec("one", "ls /proc/1/fd; ls -l /proc/1/fd/3 | grep -o socket");
    spec.init.listener = true;
    assert_eq!(world.run_spec(&spec).1, "0\n1\n2\n3\nsocket\n");
    // Nobody accepts, but the kernel completes the connection: the socket listens.
    spec.init.argv[2] = "sleep 1000".to_owned();
    world.sandboxes.start(&spec).unwrap();
    let socket = spec.state.join("agent.sock");
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    assert!(!socket.exists());
}

#[test]
fn a_missing_program_is_said_in_one_sentence() {
    let world = World::new();
    let mut spec = world.spec("one", "");
    spec.init.executable = "/nonexistent/agent".into();
    let error = world.sandboxes.start(&spec).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/agent"), "{error}");
    std::fs::write(world.base.path().join("text"), "not a program").unwrap();
    spec.init.executable = world.base.path().join("text");
    let error = world.sandboxes.start(&spec).unwrap_err().to_string();
    assert!(error.contains("execute"), "{error}");
    assert!(world.traces().is_empty(), "{:?}", world.traces());
    assert_eq!(
        world.sandboxes.observe(&spec.id, &spec.state).unwrap(),
        boatyard_sandbox::Observed::Absent
    );
}

#[test]
fn a_healthy_host_passes_the_doctor() {
    let checks = boatyard_sandbox::doctor_for(std::path::Path::new("/var/tmp"));
    assert!(checks.len() >= 8);
    for check in checks {
        assert!(check.ok, "{check:?}");
        assert!(
            !check.detail.is_empty() && check.remedy.is_empty(),
            "{check:?}"
        );
    }
}

#[test]
fn a_monitor_is_small_and_holds_no_mount() {
    let world = World::new();
    let spec = world.spec("one", "sleep 1000");
    let running = world.sandboxes.start(&spec).unwrap();
    let monitor = running.monitor_pid.unwrap();
    let memory = std::fs::read_to_string(format!("/proc/{monitor}/smaps_rollup")).unwrap();
    let pss: u64 = memory
        .lines()
        // Of its own: what it shares of its program depends on who else runs.
        .find(|line| line.starts_with("Pss_Anon:"))
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap();
    assert!(pss < 1024, "{pss} KiB");
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(namespace(&monitor.to_string()), namespace("self"));
}
