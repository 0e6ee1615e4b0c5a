//! Limits on what environments write: filled for real, by bytes and by files, on a real daemon.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::{Daemon, photo, wait};
use std::path::PathBuf;

const CONFIG: &str = r#"{"image": "test:latest", "postStartCommand": "echo started >> /root/starts", "waitFor": "postStartCommand"}"#;
const MIB: u64 = 1 << 20;

/// What fills an environment's disk to the last block.
const FILL: &str = "dd if=/dev/zero of=/root/much bs=64k 2>/dev/null; dd if=/dev/zero bs=4k >> /root/much 2>/dev/null; ls -l /root/much | awk '{print $5}'";

/// A daemon with an image and a class of so many mebibytes.
fn with_class(mebibytes: u64) -> Daemon {
    let daemon = Daemon::start();
    daemon.import_image();
    class(&daemon, "small", &format!("{mebibytes}Mi"));
    daemon
}

fn class(daemon: &Daemon, name: &str, disk: &str) {
    let class = serde_json::json!({
        "apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
        "metadata": {"name": name}, "spec": {"resources": {"disk": disk}},
    });
    let file = daemon.folder().join("class.json");
    std::fs::write(&file, class.to_string()).unwrap();
    daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
}

fn up(daemon: &Daemon, name: &str) {
    let folder = daemon.project(name, CONFIG);
    daemon
        .cli(&["up", &folder, "--class", "small", "--detach"])
        .ok();
}

fn object(daemon: &Daemon, name: &str) -> serde_json::Value {
    let got = daemon
        .cli(&["get", "environments", name, "-o", "json"])
        .ok();
    serde_json::from_str(&got).unwrap()
}

fn pressure(daemon: &Daemon, name: &str) -> Option<(String, String, String)> {
    let object = object(daemon, name);
    let conditions = object["status"]["conditions"].as_array()?.clone();
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == "DiskPressure")?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// Loop devices backed by files of this daemon.
fn loops(daemon: &Daemon) -> Vec<String> {
    photo::loops(&daemon.state())
}

fn directory(daemon: &Daemon, name: &str) -> PathBuf {
    let uid = object(daemon, name)["metadata"]["uid"].clone();
    daemon.state().join("envs").join(uid.as_str().unwrap())
}

#[test]
fn an_environment_with_a_full_disk_says_so_starts_again_and_disturbs_nobody() {
    let daemon = with_class(64);
    up(&daemon, "app");
    up(&daemon, "neighbour");
    let sizes = daemon.sh(
        "app",
        "df -m / /var/lib/docker /var/log/boatyard | awk 'NR>1 {print $2}'",
    );
    for size in sizes.ok().lines() {
        let size: u64 = size.parse().unwrap();
        assert!((64..80).contains(&size), "{size}");
    }
    let (status, reason, _) = wait::until("a look at the disk", || pressure(&daemon, "app"));
    assert_eq!((status.as_str(), reason.as_str()), ("False", "DiskHasRoom"));
    let written: u64 = daemon.sh("app", FILL).ok().trim().parse().unwrap();
    assert!((60 * MIB..72 * MIB).contains(&written), "{written}");
    let (_, reason, message) = wait::until("the warning", || {
        pressure(&daemon, "app").filter(|(status, ..)| status == "True")
    });
    assert_eq!(reason, "DiskNearlyFull");
    assert!(
        message.contains("64 MiB") && message.contains("/root ("),
        "{message}"
    );
    wait::until("the event that says it", || {
        let events = daemon.cli(&["get", "events"]).ok();
        events.contains("DiskNearlyFull").then_some(())
    });
    // Others write on, and the host.
    daemon
        .sh("neighbour", "dd if=/dev/zero of=/root/file bs=1M count=40")
        .ok();
    std::fs::write(daemon.state().join("cache/host"), vec![1; 8 << 20]).unwrap();
    assert_eq!(pressure(&daemon, "neighbour").unwrap().0, "False");
    // What is inside is used, stopped and started all the same.
    assert_eq!(daemon.sh("app", "cat /root/starts").ok(), "started\n");
    assert_ne!(daemon.sh("app", "echo more > /root/more && sync").code, 0);
    for _ in 0..2 {
        daemon.cli(&["stop", "app"]).ok();
        daemon.cli(&["start", "app"]).ok();
        assert!(
            daemon
                .sh("app", "cat /root/starts")
                .ok()
                .starts_with("started\n")
        );
        daemon.sh("app", FILL).ok();
    }
    daemon.sh("app", "rm /root/much").ok();
    wait::until("the end of the warning", || {
        pressure(&daemon, "app").filter(|(status, ..)| status == "False")
    });
    daemon.sh("app", "echo more > /root/more && sync").ok();
}

#[test]
fn an_environment_without_inodes_says_so_and_starts_again() {
    let daemon = with_class(32);
    up(&daemon, "app");
    let made = daemon.sh(
        "app",
        "mkdir /many; cd /many; seq 12000 | xargs touch 2>/dev/null; ls | wc -l",
    );
    let made: u64 = made.ok().trim().parse().unwrap();
    assert!((4000..12_000).contains(&made), "{made}");
    let (_, reason, message) = wait::until("the warning", || {
        pressure(&daemon, "app").filter(|(status, ..)| status == "True")
    });
    assert_eq!(reason, "InodesNearlyExhausted");
    assert!(message.contains("/many ("), "{message}");
    daemon.cli(&["restart", "app"]).ok();
    daemon.sh("app", "rm -r /many && touch /one").ok();
}

#[test]
fn a_stopped_environment_has_no_mount_and_a_removed_one_nothing() {
    let mut daemon = with_class(48);
    let empty = daemon.first_photo();
    up(&daemon, "app");
    daemon.sh("app", "echo kept > /root/kept").ok();
    assert!(daemon.photo().mounts.len() == 1 && loops(&daemon).len() == 1 || quota(&daemon));
    daemon.cli(&["stop", "app"]).ok();
    gone(&daemon);
    // What the lifecycle commands said can be read of a stopped one.
    assert!(
        daemon
            .cli(&["logs", "app"])
            .ok()
            .contains("poststartcommand")
    );
    gone(&daemon);
    // A runner that is killed in between finds the mount and takes it off.
    daemon.cli(&["start", "app"]).ok();
    let path = directory(&daemon, "app");
    daemon.kill();
    daemon.run(&[]);
    wait::until("the adopted environment", || {
        (daemon.sh("app", "cat /root/kept").code == 0).then_some(())
    });
    daemon.cli(&["stop", "app"]).ok();
    daemon.kill();
    if !quota(&daemon) {
        boatyard_sandbox::disk::image::mount(&path.join("disk.img"), &path.join("disk")).unwrap();
    }
    daemon.run(&[]);
    gone(&daemon);
    daemon.cli(&["start", "app"]).ok();
    assert_eq!(daemon.sh("app", "cat /root/kept").ok(), "kept\n");
    daemon.cli(&["rm", "--force", "app"]).ok();
    gone(&daemon);
    wait::until("the host as before", || {
        (daemon.photo() == empty).then_some(())
    });
}

fn quota(daemon: &Daemon) -> bool {
    boatyard_sandbox::disk::method(&daemon.state()) == boatyard_sandbox::disk::Method::Quota
}

fn gone(daemon: &Daemon) {
    wait::until("no mount and no loop device", || {
        let photo = daemon.photo();
        (photo.mounts.is_empty() && loops(daemon).is_empty()).then_some(())
    });
}

#[test]
fn a_disk_grows_with_its_class_and_is_not_made_smaller() {
    let daemon = with_class(32);
    up(&daemon, "app");
    daemon.sh("app", "echo kept > /root/kept").ok();
    let size = || -> u64 {
        let size = daemon.sh("app", "df -m / | awk 'NR>1 {print $2}'").ok();
        size.trim().parse().unwrap()
    };
    assert!(size() < 48);
    class(&daemon, "small", "300Mi");
    daemon.cli(&["restart", "app"]).ok();
    let grown = size();
    assert!((300..340).contains(&grown), "{grown}");
    class(&daemon, "small", "40Mi");
    daemon.cli(&["restart", "app"]).ok();
    assert_eq!(size(), grown);
    let object = object(&daemon, "app");
    let steps = object["status"]["steps"].to_string();
    assert!(steps.contains("stays at 300 MiB"), "{steps}");
    assert_eq!(daemon.sh("app", "cat /root/kept").ok(), "kept\n");
}

#[test]
fn a_named_volume_has_a_limit_of_its_own_and_outlives_environments() {
    const SHARED: &str =
        r#"{"image": "test:latest", "mounts": ["source=shared,target=/shared,type=volume"]}"#;
    let daemon = with_class(48);
    for name in ["one", "two"] {
        let folder = daemon.project(name, SHARED);
        daemon
            .cli(&["up", &folder, "--class", "small", "--detach"])
            .ok();
    }
    let size: u64 = daemon
        .sh("one", "df -m /shared | awk 'NR>1 {print $2}'")
        .ok()
        .trim()
        .parse()
        .unwrap();
    assert!((48..64).contains(&size), "{size}");
    assert_eq!(daemon.sh("one", "ls -A /shared").ok(), "");
    daemon.sh("one", "echo mine > /shared/file").ok();
    assert_ne!(
        daemon
            .sh("two", "dd if=/dev/zero of=/shared/much bs=64k")
            .code,
        0
    );
    // It is full, and what else both write is not.
    daemon
        .sh("one", "dd if=/dev/zero of=/root/file bs=1M count=30")
        .ok();
    daemon.sh("two", "rm /shared/much").ok();
    daemon.cli(&["rm", "--force", "one"]).ok();
    daemon.cli(&["restart", "two"]).ok();
    assert_eq!(daemon.sh("two", "cat /shared/file").ok(), "mine\n");
    daemon.cli(&["rm", "--force", "two"]).ok();
    let folder = daemon.project("three", SHARED);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    assert_eq!(daemon.sh("three", "cat /shared/file").ok(), "mine\n");
}

#[test]
fn an_environment_made_without_a_limit_gets_one_at_its_next_start() {
    let daemon = with_class(64);
    let folder = daemon.project("app", CONFIG);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    daemon.sh("app", "echo kept > /root/kept; rm /etc/passwd.old; ln -s kept /root/link; mkdir -p /var/lib/docker/x; echo nested > /var/lib/docker/x/y").ok();
    class(&daemon, "default", "64Mi");
    daemon.cli(&["restart", "app"]).ok();
    let size: u64 = daemon
        .sh("app", "df -m / | awk 'NR>1 {print $2}'")
        .ok()
        .trim()
        .parse()
        .unwrap();
    assert!((64..80).contains(&size), "{size}");
    let kept = daemon
        .sh("app", "cat /root/link /root/starts /var/lib/docker/x/y")
        .ok();
    assert_eq!(kept, "kept\nstarted\nstarted\nnested\n");
}
