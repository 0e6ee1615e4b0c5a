//! Processes find their share of the processor by what they do, in a real environment.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, which say what was not tried"
)]

use boatyard_sandbox::group::sample::IoLimit;
use boatyard_sandbox::group::{Class, Group};
use boatyard_sandbox::{Options, Sandboxes};
use boatyard_testkit::{Daemon, Typist, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const IMAGE: &str = r#"{"image": "test:latest"}"#;

/// Of each process whose command line holds `words`: its class.
fn classes(daemon: &Daemon, words: &str) -> BTreeMap<u32, String> {
    let below = format!("/{}/envs/", daemon.prefix());
    let mut found = BTreeMap::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let read =
            |name: &str| std::fs::read_to_string(process.path().join(name)).unwrap_or_default();
        let command = read("cmdline").replace('\0', " ");
        let cgroups = read("cgroup");
        let class = cgroups
            .lines()
            .filter(|line| line.contains(&below))
            .filter_map(|line| line.split_once("/inner/"))
            .map(|(_, class)| class.to_owned())
            .next();
        if let Some(class) = class.filter(|_| command.contains(words)) {
            found.insert(pid, class);
        }
    }
    found
}

fn all_are(daemon: &Daemon, words: &str, class: &str) -> Option<()> {
    let found = classes(daemon, words);
    (!found.is_empty() && found.values().all(|is| is == class)).then_some(())
}

/// The cgroups of the daemon's only environment.
fn group(daemon: &Daemon) -> Group {
    let sandboxes = sandboxes(daemon);
    let ids = sandboxes.groups().list().unwrap();
    let [id] = ids.as_slice() else {
        panic!("not one environment: {ids:?}")
    };
    sandboxes.group(id).unwrap()
}

fn environment(daemon: &Daemon, name: &str) {
    daemon.import_image();
    let folder = daemon.project(name, IMAGE);
    daemon.cli(&["up", &folder, "--name", name]).ok();
}

#[test]
fn what_a_shell_starts_and_burns_goes_to_the_builds_and_the_shell_stays() {
    let daemon = Daemon::start();
    environment(&daemon, "one");
    let mut typist = Typist::sit_down(&daemon, "one");
    typist.line("sh -c ': mark-parent; while :; do sh -c \": mark-child; i=0; while [ \\$i -lt 9999 ]; do i=\\$((i+1)); done\"; done' &");
    let began = Instant::now();
    wait::until("the burning job to be a build", || {
        all_are(&daemon, "mark-parent", "builds")
    });
    let took = began.elapsed();
    // By emulation everything takes its time.
    assert!(took < Duration::from_secs(30), "{took:?}");
    wait::until("its children to be born there", || {
        all_are(&daemon, "mark-", "builds")
    });
    // By emulation what a shell does by itself may count as a build, for a while.
    wait::until("the shell to be a session's", || {
        all_are(&daemon, "-sh", "sessions")
    });
    assert!(
        classes(&daemon, "boatyard-agent")
            .values()
            .all(|class| class == "agent")
    );

    // The job grows quiet and comes back.
    typist.line("kill %1; sh -c ': mark-calm; i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; sleep 1000; :' &");
    wait::until("the next job to be a build", || {
        all_are(&daemon, "mark-calm", "builds")
    });
    wait::until("the quiet job to be a session's", || {
        all_are(&daemon, "mark-calm", "sessions")
    });
}

#[test]
fn what_is_typed_on_this_host_passes_no_agent() {
    let daemon = Daemon::start();
    environment(&daemon, "one");
    let group = newest(&sandboxes(&daemon), &[]);
    let mut typist = Typist::sit_down(&daemon, "one");
    typist.line("echo be''fore");
    typist.wait_for(b"before");
    let (agents, _) = group.processes(Class::Agent).unwrap();
    let agents = agents
        .iter()
        .map(|pid| Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap());
    let agents: Vec<_> = agents.collect();
    let tell = |signal| {
        agents
            .iter()
            .for_each(|agent| kill_process(*agent, signal).unwrap())
    };
    tell(Signal::STOP);
    typist.line("cd /tmp; echo with''out $PWD; exit 3");
    typist.wait_for(b"without /tmp");
    tell(Signal::CONT);
    assert_eq!(typist.ended(), Some(3));
}

/// A file of the cgroup of an environment's class, by its names in version 2 and 1.
fn of_class(daemon: &Daemon, class: &str, names: [&str; 2]) -> Option<String> {
    let mounts = ["", "/cpu", "/cpu,cpuacct"].map(|name| format!("/sys/fs/cgroup{name}"));
    let tops = mounts.map(|mount| format!("{mount}/{}/envs", daemon.prefix()));
    let environments = tops.iter().flat_map(std::fs::read_dir).flatten().flatten();
    let class = environments.map(|one| one.path().join("inner").join(class));
    let mut texts = class.flat_map(|class| names.map(|name| class.join(name)));
    let text = texts.find_map(|file| std::fs::read_to_string(file).ok())?;
    Some(text.trim().to_owned())
}

#[test]
fn classes_are_weighed_and_builders_of_a_limited_environment_kept_to_it() {
    let daemon = Daemon::start();
    daemon.import_image();
    let class = r#"{"apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass", "metadata": {"name": "half"}, "spec": {"resources": {"cpu": "500m"}}}"#;
    let file = daemon.folder().join("half.json");
    std::fs::write(&file, class).unwrap();
    daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
    let folder = daemon.project("one", IMAGE);
    daemon
        .cli(&["up", &folder, "--name", "one", "--class", "half"])
        .ok();
    for (class, weight, shares) in [
        ("agent", "800", "8192"),
        ("sessions", "800", "8192"),
        ("builds", "100", "1024"),
        ("nested", "100", "1024"),
    ] {
        wait::until(&format!("{class} to be weighed"), || {
            let is = of_class(&daemon, class, ["cpu.weight", "cpu.shares"])?;
            (is == weight || is == shares).then_some(())
        });
    }
    let mut typist = Typist::sit_down(&daemon, "one");
    typist.line("sh -c ': mark-burns; while :; do :; done' &");
    wait::until("the burning job to be a build", || {
        all_are(&daemon, "mark-burns", "builds")
    });
    wait::until("the builders' quota", || {
        let quota = of_class(&daemon, "builds", ["cpu.max", "cpu.cfs_quota_us"])?;
        let mut words = quota.split(' ');
        let quota: f64 = words.next()?.parse().ok()?;
        let period = match words.next() {
            Some(period) => period.to_owned(),
            None => of_class(&daemon, "builds", ["cpu.cfs_period_us"; 2])?,
        };
        let share = quota / period.parse::<f64>().ok()?;
        (0.3..0.51).contains(&share).then_some(())
    });
    assert_eq!(
        daemon.sh("one", "echo heard").ok(),
        "heard\n",
        "a shell answers beside it"
    );
}

#[test]
fn a_killed_daemons_successor_goes_on_where_it_was() {
    let mut daemon = Daemon::start();
    environment(&daemon, "one");
    let mut typist = Typist::sit_down(&daemon, "one");
    typist.line("sh -c ': mark-burns; while :; do :; done' &");
    wait::until("the burning job to be a build", || {
        all_are(&daemon, "mark-burns", "builds")
    });
    drop(typist);
    daemon.kill();
    daemon.run(&[]);
    let mut typist = Typist::sit_down(&daemon, "one");
    typist.line("sh -c ': mark-more; while :; do :; done' &");
    wait::until("the burning job to be a build", || {
        all_are(&daemon, "mark-more", "builds")
    });
}

#[test]
fn without_the_loop_everything_stays_where_it_was_started() {
    let daemon = Daemon::start_with(&["--no-fair-shares"]);
    environment(&daemon, "one");
    let mut typist = Typist::sit_down(&daemon, "one");
    typist.line("sh -c ': mark-burns; i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; echo bu''rnt; sleep 100; :' &");
    typist.wait_for(b"burnt");
    assert_eq!(all_are(&daemon, "mark-burns", "sessions"), Some(()));
}

#[test]
fn a_storm_of_forks_does_not_make_the_loop_busy() {
    let daemon = Daemon::start();
    environment(&daemon, "one");
    let mut typist = Typist::sit_down(&daemon, "one");
    typist.line("for n in 1 2 3 4; do (while :; do (sleep 1 &); : mark-storm; done) & done; sleep 3; echo sto''rm");
    typist.wait_for(b"storm");
    let (began, spent) = (Instant::now(), daemon.thread_time("shares"));
    typist.line("sleep 3; echo o''ver");
    typist.wait_for(b"over");
    let cost = (daemon.thread_time("shares") - spent).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(cost > 0.0 && cost < 0.05, "{cost} of a core");
}

/// Starts an environment `one` that may use a tenth of a processor: so little that a busy host has it
/// to give.
fn tenth(daemon: &Daemon) -> Group {
    let class = daemon.folder().join("tenth.json");
    let tenth = r#"{"apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
      "metadata": {"name": "tenth"}, "spec": {"resources": {"cpu": "100m"}}}"#;
    std::fs::write(&class, tenth).unwrap();
    daemon.cli(&["apply", "-f", class.to_str().unwrap()]).ok();
    daemon.import_image();
    let folder = daemon.project("one", IMAGE);
    daemon
        .cli(&["up", &folder, "--name", "one", "--class", "tenth"])
        .ok();
    group(daemon)
}

/// The kernel hands out a whole quota anew with each that is written.
#[test]
fn builders_that_want_all_have_quotas_that_stand_for_a_second() {
    let daemon = Daemon::start();
    let group = tenth(&daemon);
    let burn = "for n in 1 2; do sh -c ': mark-burns; while :; do :; done' >/dev/null 2>&1 & done";
    daemon.sh("one", burn).ok();
    let burners: Vec<u32> = classes(&daemon, "mark-burns").into_keys().collect();
    for (pid, class) in burners.iter().zip([Class::Builds, Class::Nested]) {
        group.place_any(*pid, class).unwrap();
    }
    let both = || [Class::Builds, Class::Nested].map(|class| group.class_quota(class).unwrap());
    wait::until("shares", || {
        both()
            .iter()
            .all(|quota| quota.is_some_and(|quota| quota.quota < Duration::from_millis(9)))
            .then_some(())
    });
    let (began, mut stood, mut written) = (Instant::now(), both(), 0);
    while began.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
        let now = both();
        written += stood
            .iter()
            .zip(&now)
            .filter(|(stood, now)| stood != now)
            .count();
        stood = now;
    }
    assert!(
        written <= 12,
        "{written} quotas of two classes in five seconds"
    );
}

#[test]
fn a_limit_leaves_the_shell_room_and_holds_whoever_hides_in_it() {
    let mut daemon = Daemon::start();
    let group = tenth(&daemon);
    let ms = Duration::from_millis;
    let stand = || {
        let whole = group.whole_quota().unwrap()?;
        let builds = group.class_quota(Class::Builds).unwrap()?;
        Some((whole.quota, builds.quota))
    };
    let mut typist = Typist::sit_down(&daemon, "one");
    typist.line("sh -c ': mark-burns; while :; do :; done' &");
    let why = || format!("{:?} {:?}", stand(), classes(&daemon, "mark-burns"));
    wait::until_or("builders with the limit and room above it", why, || {
        (stand()?.0 == ms(20) && stand()?.1 > ms(7)).then_some(())
    });
    assert_eq!(group.limits().unwrap().cpu_millis, Some(100));

    // Of many groups that no class names most have no quota but the whole's.
    typist.line("cd /sys/fs/cgroup; [ -e cgroup.controllers ] || cd cpu; for n in $(seq 20); do mkdir hidden$n; sh -c \"echo \\$\\$ > hidden$n/cgroup.procs; while :; do :; done\" & done; cd /");
    wait::until("the whole to be held to the limit", || {
        (stand()?.0 == ms(10)).then_some(())
    });
    assert_eq!(group.limits().unwrap().cpu_millis, Some(100));
    typist.line("kill $(jobs -p | grep -v $(jobs -p %1))");
    wait::until("room again", || (stand()?.0 > ms(12)).then_some(()));

    // A successor without the loop has nobody who keeps the account: the limit is the limit.
    drop(typist);
    daemon.kill();
    daemon.run(&["--no-fair-shares"]);
    wait::until("a plain quota", || {
        let whole = group.whole_quota().unwrap()?;
        let builds = group.class_quota(Class::Builds).unwrap();
        (whole.quota == ms(10) && whole.burst.is_zero() && builds.is_none()).then_some(())
    });
}

/// As those of container engines, beside the classes.
#[test]
fn a_group_made_inside_is_held_with_the_builders_and_let_go_with_the_limit() {
    let daemon = Daemon::start();
    daemon.import_image();
    let class = |cpu: Option<&str>| {
        let resources = cpu.map_or_else(
            || serde_json::json!({"pids": 500}),
            |cpu| serde_json::json!({"cpu": cpu}),
        );
        let class = serde_json::json!({
            "apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
            "metadata": {"name": "small"}, "spec": {"resources": resources},
        });
        let file = daemon.folder().join("class.json");
        std::fs::write(&file, class.to_string()).unwrap();
        daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
    };
    class(Some("500m"));
    let folder = daemon.project("app", IMAGE);
    let up = ["up", &folder, "--class", "small", "--detach"];
    daemon.cli(&up).ok();
    let group = group(&daemon);
    if !group.is_unified() {
        println!("skipped: groups made inside are held on version 2 of cgroups");
        return;
    }
    let burn = "mkdir /sys/fs/cgroup/docker; echo $$ > /sys/fs/cgroup/docker/cgroup.procs; \
                (while :; do :; done) >/dev/null 2>&1 &";
    daemon.sh("app", burn).ok();
    let held = |group: &Group| group.made_quota("docker").unwrap();
    wait::until("a cap", || held(&group));
    let quota = held(&group).unwrap();
    assert!(quota.quota <= Duration::from_millis(50), "{quota:?}");
    class(None);
    wait::until("no cap", || held(&group).is_none().then_some(()));
}

/// The cgroups of what was started last.
fn newest(sandboxes: &Sandboxes, before: &[Group]) -> Group {
    let ids = sandboxes.groups().list().unwrap();
    let id = ids
        .iter()
        .find(|id| before.iter().all(|group| group.id() != *id))
        .unwrap();
    sandboxes.group(id).unwrap()
}

fn sandboxes(daemon: &Daemon) -> Sandboxes {
    let options = Options {
        executable: boatyard_testkit::daemon::binary(),
        cgroup_root: daemon.prefix().to_owned(),
        network: false,
        state_dir: daemon.folder().join("test-host"),
        ..Options::default()
    };
    Sandboxes::open(options).unwrap()
}

#[test]
fn a_neighbours_flood_is_held_at_the_disk_while_somebody_waits_and_no_longer() {
    let daemon = Daemon::start();
    let sandboxes = sandboxes(&daemon);
    environment(&daemon, "flood");
    let flood = newest(&sandboxes, &[]);
    environment(&daemon, "small");
    let small = newest(&sandboxes, std::slice::from_ref(&flood));
    let script = "for n in 1 2 3 4 5 6; do (while [ ! -e /stop ]; do dd if=/dev/zero of=/flood$n bs=1M count=16 conv=fsync; done 2>/dev/null) & done; wait";
    let mut flooding = daemon
        .client(&["exec", "flood", "--", "sh", "-c", script])
        .spawn()
        .unwrap();
    let script = "while [ ! -e /stop ]; do dd if=/dev/zero of=/small bs=4k count=1 conv=fsync; done 2>/dev/null";
    let mut waiting = daemon
        .client(&["exec", "small", "--", "sh", "-c", script])
        .spawn()
        .unwrap();
    wait::until("the flood to be held", || {
        let limits = flood.io_limits().unwrap();
        assert!(small.io_limits().unwrap().is_empty());
        limits
            .values()
            .any(|limit| limit.written.is_some_and(|bytes| bytes >= 8 << 20))
            .then_some(())
    });
    daemon.sh("small", "touch /stop").ok();
    waiting.wait().unwrap();
    wait::until("the flood to be let go", || {
        flood.io_limits().unwrap().is_empty().then_some(())
    });
    assert!(flooding.try_wait().unwrap().is_none(), "the flood goes on");
    daemon.sh("flood", "touch /stop").ok();
    flooding.wait().unwrap();
}

#[test]
fn what_a_killed_daemon_held_at_the_disk_its_successor_lets_go() {
    let mut daemon = Daemon::start();
    let sandboxes = sandboxes(&daemon);
    environment(&daemon, "one");
    let one = newest(&sandboxes, &[]);
    daemon
        .sh("one", "dd if=/dev/zero of=/some bs=1M count=1 conv=fsync")
        .ok();
    let disk = wait::until("something to be written", || {
        let disks = one.io().unwrap();
        disks.into_iter().find(|disk| disk.written > 0)
    });
    let limit = IoLimit {
        written: Some(1 << 20),
        ..IoLimit::default()
    };
    for arguments in [&[][..], &["--no-fair-shares"]] {
        daemon.kill();
        one.set_io_limit(disk.device, &limit).unwrap();
        assert!(!one.io_limits().unwrap().is_empty());
        daemon.run(arguments);
        wait::until("it to be let go", || {
            one.io_limits().unwrap().is_empty().then_some(())
        });
    }

    // Here no loop is in the way of what the status says.
    one.set_io_limit(disk.device, &limit).unwrap();
    let says = || {
        let said = daemon.cli(&["get", "environments", "one", "-o", "json"]);
        said.ok()
            .contains("held to 1 MiB written a second: neighbours wait for the disk")
    };
    wait::until("the status to say so", || says().then_some(()));
    one.set_io_limit(disk.device, &IoLimit::default()).unwrap();
    wait::until("the status to take it back", || (!says()).then_some(()));
}
