//! Memory of environments that idle goes to swap while the host is short of it: on version 2 of
//! cgroups, and only on a machine that nobody else uses (`make test-vm`), which the test makes short.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests, which say why they skip"
)]

use boatyard_testkit::{Daemon, wait};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// An environment counts as idle after a minute.
const DEADLINE: Duration = Duration::from_secs(240);

fn meminfo(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let words = line.unwrap().trim_start_matches(':').trim();
    words.trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// An environment that holds so many mebibytes that cannot be dropped, and its cgroup.
fn holding(daemon: &Daemon, name: &str, mebibytes: u64) -> PathBuf {
    let folder = daemon.project(name, r#"{"image": "test:latest"}"#);
    daemon
        .cli(&[
            "up", &folder, "--name", name, "--class", "roomy", "--detach",
        ])
        .ok();
    let script = format!("yes | head -c {} > /dev/shm/held", mebibytes * MIB);
    daemon.sh(name, &script).ok();
    let got = daemon
        .cli(&["get", "environments", name, "-o", "json"])
        .ok();
    let object: Value = serde_json::from_str(&got).unwrap();
    let uid = object["metadata"]["uid"].as_str().unwrap();
    PathBuf::from(format!("/sys/fs/cgroup/{}/envs/{uid}", daemon.prefix()))
}

fn swapped(cgroup: &std::path::Path) -> u64 {
    let text = std::fs::read_to_string(cgroup.join("memory.swap.current")).unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn what_an_idle_environment_holds_goes_to_swap_and_comes_back() {
    if std::env::var_os("BOATYARD_OWN_MACHINE").is_none() {
        println!("skipped: it would take this machine's memory (make test-vm has its own)");
        return;
    }
    let mut daemon = Daemon::start_with(&["--zram", "1Gi"]);
    // The runner comes after the server that was waited for.
    let swap = wait::until("swap in compressed memory", || {
        Some(meminfo("SwapTotal")).filter(|swap| *swap > 1000 * MIB)
    });
    // A killed daemon's successor takes what is there.
    daemon.kill();
    daemon.run(&["--zram", "1Gi"]);
    daemon.import_image();
    assert_eq!(meminfo("SwapTotal"), swap);
    let class = json!({
        "apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
        "metadata": {"name": "roomy"},
        "spec": {"resources": {"memory": "700Mi", "requests": {"memory": "32Mi"}}},
    });
    let file = daemon.folder().join("class.json");
    std::fs::write(&file, class.to_string()).unwrap();
    daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
    let idle = holding(&daemon, "idle", 200);
    let busy = holding(&daemon, "busy", 60);
    let mut working = daemon
        .client(&["exec", "busy", "--", "sh", "-c", "while :; do :; done"])
        .spawn()
        .unwrap();

    // An eighth is the line below which the runner takes back, far above where the kernel would.
    let surplus = meminfo("MemAvailable").saturating_sub(meminfo("MemTotal") / 8);
    let ballast = vec![0xa5_u8; usize::try_from(surplus + 96 * MIB).unwrap()];
    assert!(meminfo("MemAvailable") < meminfo("MemTotal") / 8);
    let began = Instant::now();
    while swapped(&idle) < 60 * MIB {
        assert!(
            began.elapsed() < DEADLINE,
            "{} MiB swapped out, {} MiB available",
            swapped(&idle) / MIB,
            meminfo("MemAvailable") / MIB
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    // Never of one that works.
    assert_eq!(swapped(&busy), 0);
    assert_eq!(ballast.last(), Some(&0xa5));
    drop(ballast);
    let sum = daemon.sh(
        "idle",
        "tr -d 'y\\n' < /dev/shm/held | wc -c; wc -c < /dev/shm/held",
    );
    let sizes: Vec<u64> = sum
        .ok()
        .lines()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    assert_eq!(sizes, [0, 200 * MIB]);
    let _ = working.kill();
    let _ = working.wait();
}
