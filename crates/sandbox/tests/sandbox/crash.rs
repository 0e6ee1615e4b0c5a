//! Kills at every step, and what is left.

use crate::world::{DEADLINE, World};
use boatyard_sandbox::spec::Network;
use boatyard_sandbox::{Observed, Sandboxes};
use std::time::{Duration, Instant};

#[test]
fn remove_is_idempotent_and_needs_no_state() {
    let world = World::new();
    let spec = world.spec("one", "sleep 1000");
    world.sandboxes.start(&spec).unwrap();
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    assert!(world.traces().is_empty(), "{:?}", world.traces());
    // The state directory lost while it runs: found by its cgroups.
    world.sandboxes.start(&spec).unwrap();
    // The monitor may just be making its log in it.
    let deadline = Instant::now() + DEADLINE;
    while spec.state.exists() {
        let removed = std::fs::remove_dir_all(&spec.state);
        assert!(Instant::now() < deadline, "{removed:?}");
    }
    let left = world.sandboxes.list_leftovers().unwrap();
    assert_eq!(left, std::slice::from_ref(&spec.id));
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    wait_clean(&world);
}

#[test]
fn a_sandbox_outlives_the_runner_and_is_adopted() {
    let world = World::new();
    let spec = world.spec("one", "sleep 1000");
    let started = world.sandboxes.start(&spec).unwrap();
    let other = Sandboxes::open(world.options.clone()).unwrap();
    let Observed::Running {
        init_pid,
        monitor_pid,
        ..
    } = other.observe(&spec.id, &spec.state).unwrap()
    else {
        panic!("it does not run");
    };
    assert_eq!(
        (init_pid, monitor_pid),
        (started.init_pid, started.monitor_pid)
    );
    let known = other.spec(&spec.id, &spec.state).unwrap().unwrap();
    assert_eq!(known.init.argv, spec.init.argv);
}

#[test]
fn neither_monitor_nor_init_stands_in_the_runners_cgroup() {
    let world = World::new();
    let spec = world.spec("one", "sleep 1000");
    let running = world.sandboxes.start(&spec).unwrap();
    for pid in [running.monitor_pid.unwrap(), running.init_pid] {
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let ours = |line: &&str| line.contains(&world.options.cgroup_root);
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let used = cgroups.lines().filter(ours).count();
        assert!(used + 1 >= own.lines().count(), "{cgroups}");
    }
}

#[test]
fn init_lives_on_without_its_monitor_and_is_removed() {
    let world = World::new();
    let spec = world.spec("one", "sleep 1000");
    let running = world.sandboxes.start(&spec).unwrap();
    kill(running.monitor_pid.unwrap());
    let deadline = Instant::now() + DEADLINE;
    loop {
        let observed = world.sandboxes.observe(&spec.id, &spec.state).unwrap();
        if let Observed::Running {
            monitor_pid: None,
            init_pid,
            ..
        } = observed
        {
            assert_eq!(init_pid, running.init_pid);
            break;
        }
        assert!(Instant::now() < deadline, "{observed:?}");
        std::thread::yield_now();
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(world.base.path().to_str().unwrap()));
    world.sandboxes.kill(&spec.id, &spec.state).unwrap();
    assert_eq!(
        world.sandboxes.observe(&spec.id, &spec.state).unwrap(),
        Observed::Exited {
            code: None,
            signal: None
        }
    );
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    wait_clean(&world);
}

#[test]
fn server_and_runner_have_a_weighted_cgroup_of_their_own() {
    let world = World::new();
    let output = std::process::Command::new(crate::world::executable())
        .args(["join-system", &world.options.cgroup_root])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let wanted = format!("/{}/system", world.options.cgroup_root);
    assert!(text.contains(&wanted), "{text}");
    world.sandboxes.teardown_host().unwrap();
    assert!(world.cgroups().is_empty());
}

#[test]
fn many_start_at_once() {
    let world = World::with(|options| options.network = true);
    let specs: Vec<_> = (0..16)
        .map(|n| {
            let mut spec = world.spec(&format!("e{n}"), &format!("sleep 0.01; exit {n}"));
            spec.network = Network::Routed {
                address: std::net::Ipv4Addr::new(10, 216, 3, n + 1),
            };
            spec
        })
        .collect();
    std::thread::scope(|scope| {
        for (n, spec) in specs.iter().enumerate() {
            let world = &world;
            scope.spawn(move || {
                world.sandboxes.start(spec).unwrap();
                assert_eq!(world.finish(spec).0, Some(i32::try_from(n).unwrap()));
                world.sandboxes.remove(&spec.id, &spec.state).unwrap();
            });
        }
    });
    wait_clean(&world);
}

#[test]
fn teardown_removes_every_cgroup() {
    let world = World::new();
    let spec = world.spec("one", "sleep 1000");
    world.sandboxes.start(&spec).unwrap();
    world.sandboxes.teardown_host().unwrap();
    assert_eq!(world.cgroups().len(), World::hierarchies());
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    world.sandboxes.teardown_host().unwrap();
    assert_eq!(world.cgroups(), Vec::<std::path::PathBuf>::new());
}

/// SIGKILL at each numbered step of spawner and monitor; then `remove` leaves nothing and the same
/// sandbox starts.
#[test]
fn a_kill_at_any_step_of_the_monitor_leaves_nothing() {
    let killed = sweep(0, false);
    // One of them for each hierarchy of cgroups.
    let wanted = 19 + u32::try_from(World::hierarchies()).unwrap();
    assert!(
        killed >= wanted,
        "only {killed} of {wanted} steps were killed"
    );
}

/// The same for the steps of init, which its monitor survives and reports.
#[test]
fn a_kill_at_any_step_of_init_leaves_nothing() {
    let killed = sweep(1000, false);
    assert!(killed >= 7, "only {killed} steps were killed");
}

/// The same for a member: its environment's own sandbox runs on unharmed, and linked anew.
#[test]
fn a_kill_at_any_step_of_a_members_start_leaves_nothing_of_it() {
    let wanted = 18 + u32::try_from(World::hierarchies()).unwrap();
    for (base, wanted) in [(0, wanted), (1000, 7)] {
        let killed = sweep(base, true);
        assert!(
            killed >= wanted,
            "only {killed} of {wanted} steps of {base} were killed"
        );
    }
}

/// Kills step after step until one start goes through unharmed; answers how many were killed.
fn sweep(base: u32, member: bool) -> u32 {
    let world = World::with(|options| options.network = true);
    let owner = crate::members::owner(&world, "app", "sleep 1000", 0);
    if member {
        world.sandboxes.start(&owner).unwrap();
    }
    let left = || {
        let mut left = world.sandboxes.list_leftovers().unwrap();
        left.retain(|id| !(member && *id == owner.id));
        left
    };
    let wait_clean = |world: &World| {
        if !member {
            return wait_clean(world);
        }
        let deadline = Instant::now() + DEADLINE;
        while !left().is_empty()
            || !World::cgroups_of(&world.options.cgroup_root, "app/app-s1").is_empty()
        {
            assert!(
                Instant::now() < deadline,
                "left behind: {:?}",
                world.traces()
            );
            std::thread::yield_now();
        }
    };
    for at in 1..200 {
        let sandboxes = Sandboxes::open(boatyard_sandbox::Options {
            kill_at: base + at,
            ..world.options.clone()
        })
        .unwrap();
        let spec = if member {
            crate::members::member(&world, &owner, 1, "exit 3", &[&owner])
        } else {
            let mut spec = world.spec("one", "exit 3");
            spec.network = Network::Routed {
                address: std::net::Ipv4Addr::new(10, 214, if base == 0 { 1 } else { 2 }, 2),
            };
            spec
        };
        let result = sandboxes.start(&spec);
        match &result {
            Err(boatyard_sandbox::Error::Lost(_)) => assert_eq!(base, 0, "step {at}"),
            Err(error) if error.to_string().contains("was killed") => {
                assert_eq!(base, 1000, "step {at}");
            }
            Err(error) => panic!("step {at}: {error}"),
            Ok(_) => {}
        }
        drop(sandboxes);
        let observed = world
            .sandboxes
            .wait(&spec.id, &spec.state, DEADLINE)
            .unwrap();
        assert!(
            !matches!(observed, Observed::Running { .. }),
            "step {at}: {observed:?}"
        );
        // Once a monitor has come to its own end, no step was left to kill.
        let complete = result.is_ok_and(|running| {
            wait_gone(running.monitor_pid.unwrap());
            left().is_empty()
        }) && matches!(observed, Observed::Exited { code: Some(3), .. });
        world.sandboxes.remove(&spec.id, &spec.state).unwrap();
        wait_clean(&world);
        if complete {
            return at - 1;
        }
        world.sandboxes.start(&spec).unwrap();
        let (code, _) = world.finish(&spec);
        assert_eq!(code, Some(3), "step {at}");
        world.sandboxes.remove(&spec.id, &spec.state).unwrap();
        wait_clean(&world);
    }
    panic!("the steps do not end");
}

fn wait_clean(world: &World) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let traces = world.traces();
        if traces.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {traces:?}");
        std::thread::yield_now();
    }
}

fn wait_gone(pid: u32) {
    let deadline = Instant::now() + DEADLINE;
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "monitor {pid} does not end");
        std::thread::yield_now();
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
