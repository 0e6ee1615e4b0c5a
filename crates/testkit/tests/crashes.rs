//! Kills at any time: environments outlive the runner, and nothing half-made stays.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::{Daemon, wait};

const CONFIG: &str = r#"{"image": "test:latest", "postStartCommand": "echo started >> /root/starts", "waitFor": "postStartCommand"}"#;

#[test]
fn running_environments_and_their_processes_survive_a_killed_daemon() {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", CONFIG);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    daemon
        .sh("app", "(sleep 1000 >/dev/null 2>&1 & echo $! > /root/pid)")
        .ok();
    daemon.kill();
    daemon.run(&[]);
    let answered = wait::until("the adopted environment", || {
        Some(daemon.sh("app", "kill -0 $(cat /root/pid) && cat /root/starts"))
            .filter(|ran| ran.code == 0)
    });
    assert_eq!(
        answered.stdout, "started\n",
        "it was adopted, not started again"
    );
    let before = daemon.photo();
    assert!(!before.processes.is_empty());
    daemon.cli(&["rm", "--force", "app"]).ok();
    let after = daemon.photo();
    assert!(
        after.processes.is_empty()
            && after.cgroups.is_empty()
            && after.routes.is_empty()
            && after.directories.is_empty(),
        "{after:?}"
    );
}

#[test]
fn after_a_power_cut_environments_start_again_with_what_they_had_written() {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", CONFIG);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    daemon.sh("app", "echo precious > /root/kept; sync").ok();
    daemon.power_cut();
    daemon.run(&[]);
    let kept = wait::until("the environment to be back", || {
        Some(daemon.sh("app", "cat /root/kept /root/starts"))
            .filter(|ran| ran.code == 0 && ran.stdout.matches("started").count() == 2)
    });
    assert_eq!(kept.stdout, "precious\nstarted\nstarted\n");
}

/// Kills the daemon after a growing pause into each verb, until the verb is done before the kill.
fn sweep(verb: &dyn Fn(&Daemon) -> std::process::Child, settle: &dyn Fn(&Daemon)) {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let mut pause = std::time::Duration::ZERO;
    let mut done_before_kill = 0;
    while done_before_kill < 2 {
        let mut child = verb(&daemon);
        let began = std::time::Instant::now();
        while began.elapsed() < pause && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        if child.try_wait().unwrap().is_some() {
            done_before_kill += 1;
        }
        daemon.kill();
        let _ = child.kill();
        child.wait().unwrap();
        daemon.run(&[]);
        settle(&daemon);
        pause += std::time::Duration::from_millis(4);
    }
    let after = daemon.photo();
    assert!(
        after.processes.is_empty()
            && after.cgroups.is_empty()
            && after.routes.is_empty()
            && after.directories.is_empty()
            && after.mounts.is_empty(),
        "{after:?}"
    );
}

#[test]
fn a_kill_at_any_time_of_up_is_finished_or_cleaned_up() {
    sweep(
        &|daemon| {
            let folder = daemon.project("app", CONFIG);
            daemon
                .boatyard(&["up", &folder, "--detach"])
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        },
        &|daemon| {
            let folder = daemon.project("app", CONFIG);
            daemon.cli(&["up", &folder, "--detach"]).ok();
            assert_eq!(
                daemon.sh("app", "cat /root/starts").ok().lines().last(),
                Some("started")
            );
            daemon.cli(&["rm", "--force", "app"]).ok();
        },
    );
}

#[test]
fn a_kill_at_any_time_of_stop_and_rm_ends_in_what_was_asked() {
    sweep(
        &|daemon| {
            let folder = daemon.project("app", CONFIG);
            daemon.cli(&["up", &folder, "--detach"]).ok();
            daemon
                .boatyard(&["stop", "app"])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        },
        &|daemon| {
            daemon.cli(&["stop", "app"]).ok();
            assert!(daemon.photo().processes.is_empty());
            daemon.cli(&["start", "app"]).ok();
            daemon.cli(&["rm", "--force", "--no-wait", "app"]).ok();
            wait::until("the environment to be gone", || {
                daemon
                    .cli(&["ls", "-o", "name"])
                    .stdout
                    .is_empty()
                    .then_some(())
            });
        },
    );
}
