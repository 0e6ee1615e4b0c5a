//! A disk that fills is cleared of cache that nobody uses, and of nothing else.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::{Daemon, wait};
use std::path::PathBuf;

/// A daemon on a disk of 900 MiB that is cleared from a tenth full down to a twentieth: fetching
/// leaves half a gibibyte alone.
fn cramped(more: &[&str]) -> Daemon {
    let mut daemon = Daemon::prepare();
    daemon.limit_state(900);
    let mut arguments = vec!["--gc-high", "10", "--gc-low", "5"];
    arguments.extend(["--gc-interval", "50ms", "--gc-min-age", "0s"]);
    arguments.extend(more);
    daemon.run(&arguments);
    daemon.import_image();
    daemon
}

/// A folder whose image has 8 MiB of its own.
fn large(daemon: &Daemon, name: &str) -> String {
    let folder = daemon.project(name, r#"{"build": {"dockerfile": "Dockerfile"}}"#);
    let text = format!(
        "FROM test:latest\nRUN echo {name} > /name && dd if=/dev/urandom of=/large bs=1M count=8 2>/dev/null\n"
    );
    std::fs::write(
        PathBuf::from(&folder).join(".devcontainer/Dockerfile"),
        text,
    )
    .unwrap();
    folder
}

fn names(daemon: &Daemon) -> String {
    daemon.cli(&["image", "ls"]).ok()
}

fn layers(daemon: &Daemon) -> usize {
    std::fs::read_dir(daemon.state().join("images/layers"))
        .unwrap()
        .count()
}

fn counted(daemon: &Daemon, name: &str) -> u64 {
    let text = daemon.cli(&["metrics"]).ok();
    let name = format!("boatyard_runner_garbage_{name}_total ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_full_disk_loses_unused_cache_and_neither_environments_nor_images_somebody_named() {
    let daemon = cramped(&[]);
    // One is used, one was, and one has a name that somebody gave it.
    let used = large(&daemon, "used");
    daemon.cli(&["up", &used, "--detach"]).ok();
    let gone = large(&daemon, "gone");
    daemon.cli(&["up", &gone, "--detach"]).ok();
    daemon.cli(&["rm", "--force", "gone"]).ok();
    let mine = large(&daemon, "mine");
    let context = format!("{mine}/.devcontainer");
    daemon
        .cli(&["build", &context, "-t", "example.test/mine:1"])
        .ok();
    let before = layers(&daemon);
    assert_eq!(counted(&daemon, "layers"), 0, "{}", daemon.log());
    // Something else fills the disk.
    let filler = daemon.state().join("filler");
    std::fs::write(&filler, vec![0; 80 << 20]).unwrap();
    wait::until("the unused layer to go and to be counted", || {
        (layers(&daemon) == before - 1 && counted(&daemon, "layers") == 1).then_some(())
    });
    assert!(counted(&daemon, "images") >= 1);
    assert!(counted(&daemon, "bytes") >= 8 << 20);
    wait::until("the word about a disk that stays full", || {
        daemon
            .log()
            .contains("nothing more on it is unused cache")
            .then_some(())
    });
    assert!(names(&daemon).contains("example.test/mine:1"));
    assert_eq!(daemon.sh("used", "cat /name").ok(), "used\n");
    daemon.cli(&["stop", "used"]).ok();
    daemon.cli(&["start", "used"]).ok();
    assert_eq!(daemon.sh("used", "cat /name").ok(), "used\n");
    // It is built again when somebody wants it.
    std::fs::remove_file(filler).unwrap();
    daemon.cli(&["up", &gone, "--detach"]).ok();
    assert_eq!(daemon.sh("gone", "cat /name").ok(), "gone\n");
}

#[test]
fn builds_keep_as_much_cache_as_they_may_and_mounts_count() {
    let daemon = cramped(&["--gc-cache", "1Mi"]);
    let folder = daemon.folder().join("mounts");
    std::fs::create_dir_all(&folder).unwrap();
    let text = "FROM test:latest\nRUN --mount=type=cache,target=/cache dd if=/dev/urandom of=/cache/file bs=1M count=4 2>/dev/null && echo made > /made\n";
    std::fs::write(folder.join("Dockerfile"), text).unwrap();
    let mounts = || {
        std::fs::read_dir(daemon.state().join("images/build/mounts"))
            .map_or(0, |entries| entries.count())
    };
    daemon
        .cli(&[
            "build",
            folder.to_str().unwrap(),
            "-t",
            "example.test/own:1",
        ])
        .ok();
    wait::until("the cache mount to go", || {
        (mounts() == 0 && counted(&daemon, "mounts") == 1).then_some(())
    });
    // What has a name is no cache.
    assert!(names(&daemon).contains("example.test/own:1"));
}

#[test]
fn thresholds_the_wrong_way_round_are_refused() {
    let mut daemon = Daemon::prepare();
    let state = daemon.state();
    let refused = daemon.cli(&["daemon", "--gc-high", "50", "--gc-low", "60"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("--gc-low 60 is not below --gc-high 50"),
        "{refused:?}"
    );
    assert!(!state.join("images").exists());
    assert!(!daemon.lives());
}
