//! A daemon that was told what its host's way out carries. How fairly that is shared is measured in
//! `crates/sandbox/tests/sandbox/uplink.rs`.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::{Daemon, photo, wait};
use serde_json::{Value, json};
use std::process::Command;

fn apply(daemon: &Daemon, name: &str, object: &Value) {
    let file = daemon.folder().join(format!("{name}.json"));
    std::fs::write(&file, object.to_string()).unwrap();
    daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
}

fn class(daemon: &Daemon, egress: &str) {
    let object = json!({
        "apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
        "metadata": {"name": "held"}, "spec": {"resources": {"network": {"egress": egress}}},
    });
    apply(daemon, "class", &object);
}

/// Devices that what this daemon's environments send and receive is led through together.
fn shared(daemon: &Daemon) -> Vec<String> {
    let wanted = format!("uplink of {}\n", daemon.prefix());
    let devices = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    let named = devices.filter(|device| {
        std::fs::read_to_string(device.path().join("ifalias")).is_ok_and(|alias| alias == wanted)
    });
    named
        .map(|device| device.file_name().into_string().unwrap())
        .collect()
}

/// Other ones for devices that were made anew.
fn indexes(daemon: &Daemon) -> Vec<String> {
    let index = |name: &String| std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"));
    let devices = shared(daemon);
    devices.iter().filter_map(|name| index(name).ok()).collect()
}

fn tc(words: &[&str]) -> String {
    let output = Command::new("tc").args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn environments_share_the_uplink_as_long_as_their_daemon_is_told_of_it() {
    const TOLD: [&str; 4] = ["--uplink-egress", "50M", "--uplink-ingress", "200M"];
    let mut daemon = Daemon::start_with(&TOLD);
    daemon.import_image();
    class(&daemon, "8M");
    let folder = daemon.project("app", r#"{"image": "test:latest"}"#);
    let object = json!({
        "apiVersion": "boatyard.dev/v1", "kind": "Environment",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {"source": {"folder": {"path": folder}}, "className": "held"},
    });
    apply(&daemon, "app", &object);
    let uid = wait::until("it runs", || {
        let text = daemon
            .cli(&["get", "environments", "app", "-o", "json"])
            .ok();
        let object: Value = serde_json::from_str(&text).unwrap();
        let runs = object["status"]["phase"] == "Running";
        runs.then(|| object["metadata"]["uid"].as_str().unwrap().to_owned())
    });
    let veth = || {
        let links = photo::links(&uid);
        let veth = links.iter().find(|link| link.contains('-'));
        veth.unwrap_or_else(|| panic!("{links:?}")).clone()
    };
    let limits_of = |daemon: &Daemon, rate: &str| {
        let devices = shared(daemon);
        let limited = |device: &String| tc(&["class", "show", "dev", device]).contains(rate);
        devices.iter().filter(|device| limited(device)).count()
    };
    // The daemon's socket answers before its runner has begun.
    let joined = |daemon: &Daemon, before: &[String]| {
        wait::until("devices of this runner that know its link", || {
            let from = format!("input dev {}", veth());
            let knows = |device: &String| {
                let filters = tc(&["filter", "show", "dev", device, "parent", "1:"]);
                filters.contains(&from)
            };
            let (devices, now) = (shared(daemon), indexes(daemon));
            let fresh = now.iter().all(|index| !before.contains(index));
            (devices.len() == 2 && fresh && devices.iter().all(knows)).then_some(now)
        })
    };
    let first = joined(&daemon, &[]);
    // What its class says stands within its share, and changes there.
    wait::until("its limit", || {
        (limits_of(&daemon, "ceil 8Mbit") == 1).then_some(())
    });
    class(&daemon, "9M");
    wait::until("its new limit", || {
        (limits_of(&daemon, "ceil 9Mbit") == 1).then_some(())
    });
    daemon.kill();
    daemon.run(&TOLD);
    joined(&daemon, &first);
    wait::until("its limit, which the next daemon knows", || {
        (limits_of(&daemon, "ceil 9Mbit") == 1).then_some(())
    });
    // Without the flag it is held by itself again.
    daemon.kill();
    daemon.run(&[]);
    wait::until("no devices", || shared(&daemon).is_empty().then_some(()));
    wait::until("its limit at its own link", || {
        let links = photo::links(&uid);
        let own = links.iter().any(|link| {
            !link.contains('-') && tc(&["class", "show", "dev", link]).contains("ceil 9Mbit")
        });
        own.then_some(())
    });
    daemon.kill();
    daemon.run(&TOLD);
    joined(&daemon, &[]);
    daemon.cli(&["rm", "app"]).ok();
    wait::until("nothing known of it", || {
        let devices = shared(&daemon);
        let knows = |device: &String| {
            let filters = tc(&["filter", "show", "dev", device, "parent", "1:"]);
            filters.contains("flowid")
        };
        (!devices.iter().any(knows)).then_some(())
    });
    daemon.kill();
    daemon.cli(&["teardown"]).ok();
    assert_eq!(shared(&daemon), [""; 0]);
}

#[test]
fn a_rate_that_is_none_is_refused_in_a_sentence() {
    let daemon = Daemon::prepare();
    for (rate, sentence) in [
        ("50Mbit", "write bits a second, as 50M or 1G"),
        ("50m", "less than 64k bits a second; write it as 50M or 1G"),
    ] {
        let ran = daemon.cli(&["daemon", "--uplink-egress", rate]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(sentence), "{}", ran.stderr);
    }
}
