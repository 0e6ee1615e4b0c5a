//! Environments through the real binary: what a developer relies on.
//!
//! Each test has a daemon of its own and ends with nothing of it left on the host.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::{Daemon, wait};
use std::os::unix::fs::MetadataExt;

const CONFIG: &str = r#"{"image": "test:latest"}"#;

fn up(daemon: &Daemon, folder: &str) -> String {
    let ran = daemon.cli(&["up", folder, "--detach"]);
    let shown = ran.stderr.clone();
    ran.ok();
    shown
}

#[test]
fn up_exec_stop_start_rm_leave_nothing_behind() {
    let daemon = Daemon::start();
    daemon.import_image();
    let before = daemon.first_photo();
    let folder = daemon.project("app", CONFIG);
    let shown = up(&daemon, &folder);
    for step in ["source", "configure", "image", "sandbox", "agent"] {
        assert!(shown.contains(step), "{shown}");
    }
    assert_eq!(
        daemon
            .sh("app", "echo $FROM_IMAGE; pwd; id -u; hostname")
            .ok(),
        "yes\n/workspaces/app\n0\napp\n"
    );
    daemon.sh("app", "echo kept > /root/kept").ok();
    assert!(daemon.cli(&["ls"]).ok().contains("Running"));

    daemon.cli(&["stop", "app"]).ok();
    let stopped = daemon.photo();
    assert!(
        stopped.processes.is_empty() && stopped.cgroups.is_empty() && stopped.routes.is_empty(),
        "{stopped:?}"
    );
    let refused = daemon.sh("app", "true");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("not running"), "{refused:?}");

    daemon.cli(&["start", "app"]).ok();
    assert_eq!(daemon.sh("app", "cat /root/kept").ok(), "kept\n");
    daemon.cli(&["restart", "app"]).ok();
    assert_eq!(daemon.sh("app", "cat /root/kept").ok(), "kept\n");
    daemon.cli(&["rm", "--force", "app"]).ok();
    assert_eq!(daemon.photo_beside(&before), before);
}

#[test]
fn what_has_no_effect_in_a_configuration_is_said() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", r#"{"image": "test:latest", "remoteUsr": "dev"}"#);
    let shown = up(&daemon, &folder);
    assert!(
        shown.contains("remoteUsr is no property of the specification"),
        "{shown}"
    );
    assert!(shown.contains("remoteUser"), "{shown}");
}

#[test]
fn a_second_up_of_a_folder_finds_the_same_environment() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", CONFIG);
    up(&daemon, &folder);
    up(&daemon, &folder);
    assert_eq!(daemon.cli(&["ls", "-o", "name"]).ok(), "environment/app\n");
}

#[test]
fn files_in_the_folder_belong_to_the_developer_outside_and_the_user_inside() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", r#"{"image": "test:latest", "remoteUser": "dev"}"#);
    // A developer who is not root, as the folder's owner on disk; the caller here is root.
    up(&daemon, &folder);
    assert_eq!(
        daemon
            .sh("app", "id -un; touch made-inside; stat -c %U made-inside")
            .ok(),
        "dev\ndev\n"
    );
    let made = std::fs::metadata(format!("{folder}/made-inside")).unwrap();
    assert_eq!((made.uid(), made.gid()), (0, 0), "the caller's ids outside");
    // Another id inside never becomes host root outside.
    daemon
        .cli(&["exec", "-u", "root", "app", "--", "touch", "made-by-root"])
        .ok();
    assert!(
        std::fs::metadata(format!("{folder}/made-by-root"))
            .unwrap()
            .uid()
            >= 0x1000_0000
    );
}

#[test]
fn exec_carries_streams_codes_and_variables() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", r#"{"image": "test:latest", "containerEnv": {"A": "container"}, "remoteEnv": {"B": "remote-${containerEnv:A}"}}"#);
    up(&daemon, &folder);
    assert_eq!(daemon.sh("app", "exit 42").code, 42);
    assert_eq!(daemon.sh("app", "kill -TERM $$").code, 143);
    assert_eq!(
        daemon.cli(&["exec", "app", "--", "no-such-program"]).code,
        127
    );
    assert_eq!(
        daemon.sh("app", "echo $A $B").ok(),
        "container remote-container\n"
    );
    assert_eq!(
        daemon
            .cli(&[
                "exec",
                "-e",
                "C=given",
                "-w",
                "/tmp",
                "app",
                "--",
                "sh",
                "-c",
                "echo $C; pwd"
            ])
            .ok(),
        "given\n/tmp\n"
    );
    let both = daemon.sh("app", "echo out; echo err >&2");
    assert_eq!(
        (both.stdout.as_str(), both.stderr.as_str()),
        ("out\n", "err\n")
    );
    // Binary-clean, both ways, and the end of input reaches the program.
    let bytes: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut child = daemon
        .boatyard(&["exec", "app", "--", "cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &sent).unwrap());
    let echoed = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(
        echoed.stdout == bytes,
        "{} bytes came back of {}",
        echoed.stdout.len(),
        bytes.len()
    );
}

#[test]
fn lifecycle_commands_run_in_order_once_or_at_each_start() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project(
        "app",
        r#"{
            // all forms
            "image": "test:latest",
            "onCreateCommand": "echo create >> /root/log",
            "updateContentCommand": ["sh", "-c", "echo update >> /root/log"],
            "postCreateCommand": {"a": "echo a >> /root/parallel", "b": ["sh", "-c", "echo b >> /root/parallel"]},
            "postStartCommand": "echo start >> /root/log; echo from-post-start",
            "waitFor": "postStartCommand",
        }"#,
    );
    up(&daemon, &folder);
    assert_eq!(
        daemon.sh("app", "cat /root/log; sort /root/parallel").ok(),
        "create\nupdate\nstart\na\nb\n"
    );
    daemon.cli(&["restart", "app"]).ok();
    assert_eq!(
        daemon.sh("app", "cat /root/log; sort /root/parallel").ok(),
        "create\nupdate\nstart\nstart\na\nb\n"
    );
    let logs = daemon.cli(&["logs", "app"]).ok();
    assert!(logs.contains("from-post-start"), "{logs}");
    daemon.cli(&["stop", "app"]).ok();
    assert!(
        daemon
            .cli(&["logs", "app"])
            .ok()
            .contains("from-post-start")
    );
}

#[test]
fn a_failing_lifecycle_command_is_told_and_stops_later_ones_and_is_retried() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project(
        "app",
        r#"{"image": "test:latest", "waitFor": "postCreateCommand",
            "onCreateCommand": "if [ -e /root/again ]; then exit 0; else touch /root/again; echo broken pipe dream; exit 3; fi",
            "postCreateCommand": "touch /root/later"}"#,
    );
    let failed = daemon.cli(&["up", &folder, "--detach"]);
    assert_eq!(failed.code, 1);
    assert!(
        failed
            .stderr
            .contains("onCreateCommand exited with code 3: broken pipe dream"),
        "{}",
        failed.stderr
    );
    // The environment stays open for mending.
    assert_eq!(daemon.sh("app", "test -e /root/later").code, 1);
    let described = daemon.cli(&["describe", "app"]).ok();
    assert!(described.contains("OnCreateCommandFailed"), "{described}");
    up(&daemon, &folder);
    daemon.sh("app", "test -e /root/later").ok();
}

#[test]
fn environments_reach_neither_each_other_nor_the_host() {
    let daemon = Daemon::start();
    daemon.import_image();
    let one = daemon.project("one", CONFIG);
    let two = daemon.project("two", CONFIG);
    up(&daemon, &one);
    up(&daemon, &two);
    let address = |name: &str| {
        daemon
            .cli(&["get", "environments", name, "-o", "json"])
            .ok()
    };
    let address: serde_json::Value = serde_json::from_str(&address("two")).unwrap();
    let address = address["status"]["address"].as_str().unwrap().to_owned();
    let mut server = daemon
        .boatyard(&[
            "exec",
            "two",
            "--",
            "sh",
            "-c",
            "sleep 1000 | nc -l -p 7777",
        ])
        .spawn()
        .unwrap();
    let listening = || {
        daemon
            .sh("two", "grep -q ':1E61 ' /proc/net/tcp /proc/net/tcp6")
            .code
            == 0
    };
    wait::until("the neighbour's listener", || listening().then_some(()));
    assert_ne!(
        daemon
            .sh("one", &format!("echo hello | nc -w 1 {address} 7777"))
            .code,
        0,
        "a neighbour was reached"
    );
    let host = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = host.local_addr().unwrap().port();
    for target in ["169.254.53.1", "127.0.0.1", &host_address()] {
        assert_ne!(
            daemon
                .sh("one", &format!("echo hello | nc -w 1 {target} {port}"))
                .code,
            0,
            "the host was reached at {target}"
        );
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

/// An address of the host that packets leave with.
fn host_address() -> String {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.255:9").map_or_else(
        |_| "127.0.0.1".to_owned(),
        |()| socket.local_addr().unwrap().ip().to_string(),
    )
}

#[test]
fn what_a_file_no_longer_says_is_taken_away_when_it_is_applied_again() {
    let daemon = Daemon::start();
    let file = daemon.folder().join("class.yaml");
    let apply = |spec: &str| {
        let head = "apiVersion: boatyard.dev/v1\nkind: EnvironmentClass\nmetadata: {name: small}";
        std::fs::write(&file, format!("{head}\nspec: {spec}\n")).unwrap();
        let said = daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
        let shown = daemon
            .cli(&["get", "environmentclasses", "small", "-o", "json"])
            .ok();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        (said, shown["spec"]["resources"].clone())
    };
    let (said, _) = apply("{resources: {memory: 64Mi, pids: 40}}");
    assert_eq!(said, "environmentclass/small created\n");
    let (said, resources) = apply("{resources: {memory: 64Mi}}");
    assert_eq!(said, "environmentclass/small configured\n");
    assert_eq!(resources, serde_json::json!({"memory": "64Mi"}));
}

#[test]
fn limits_of_the_class_hold() {
    let daemon = Daemon::start();
    daemon.import_image();
    let class = daemon.folder().join("class.yaml");
    std::fs::write(&class, "apiVersion: boatyard.dev/v1\nkind: EnvironmentClass\nmetadata: {name: small}\nspec:\n  resources: {memory: 64Mi, pids: 40, cpu: 500m}\n").unwrap();
    daemon.cli(&["apply", "-f", class.to_str().unwrap()]).ok();
    let folder = daemon.project("app", CONFIG);
    daemon
        .cli(&["up", &folder, "--detach", "--class", "small"])
        .ok();
    let bomb = daemon.sh("app", "for i in $(seq 100); do sleep 30 & done; wait");
    assert_ne!(
        bomb.code, 0,
        "a hundred processes started under a limit of 40"
    );
    // A write into memory beyond the limit kills the writer, not the environment.
    let memory = daemon.sh("app", "dd if=/dev/zero of=/dev/shm/big bs=1M count=200");
    assert_ne!(
        memory.code, 0,
        "200 MiB of memory were written under a limit of 64"
    );
    wait::until("the environment to answer again", || {
        (daemon.sh("app", "rm -f /dev/shm/big").code == 0).then_some(())
    });
}

#[test]
fn bad_configurations_are_named_and_leave_nothing_running() {
    let daemon = Daemon::start();
    daemon.import_image();
    let before = daemon.first_photo();
    let cases = [
        ("broken", "{\"image\": ", "devcontainer.json"),
        (
            "unsupported",
            r#"{"build": {"dockerfile": "Dockerfile"}}"#,
            "Dockerfile",
        ),
        (
            "missing-image",
            r#"{"image": "127.0.0.1:9/no/such:image"}"#,
            "127.0.0.1:9",
        ),
        (
            "bad-user",
            r#"{"image": "test:latest", "remoteUser": "nobody-here"}"#,
            "nobody-here",
        ),
        ("wrong-type", r#"{"image": 7}"#, "image"),
        (
            "missing-mount",
            r#"{"image": "test:latest", "mounts": [{"type": "bind", "source": "/no/such/place", "target": "/x"}]}"#,
            "/no/such/place",
        ),
    ];
    for (name, text, named) in cases {
        let folder = daemon.project(name, text);
        let mut child = daemon.boatyard(&["up", &folder, "--detach"]);
        let ran: boatyard_testkit::Ran = child.output().unwrap().into();
        assert_ne!(ran.code, 0, "{name}");
        assert!(ran.stderr.contains(named), "{name}: {}", ran.stderr);
        let _ = daemon.cli(&["rm", "--force", name]);
    }
    assert_eq!(daemon.photo_beside(&before), before);
    for (arguments, named) in [
        (vec!["up", "/no/such/folder"], "/no/such/folder"),
        (vec!["exec", "nothing", "--", "true"], "nothing"),
        (vec!["get", "boats"], "boats"),
    ] {
        let ran = daemon.cli(&arguments);
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.contains(named), "{}", ran.stderr);
    }
}

#[test]
fn teardown_waits_for_the_last_environment_and_leaves_the_host_as_it_was() {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", CONFIG);
    up(&daemon, &folder);
    let refused = daemon.cli(&["teardown"]);
    assert_eq!(refused.code, 75, "{refused:?}");
    assert!(
        refused.stderr.contains("another Boatyard process"),
        "{refused:?}"
    );
    assert!(!daemon.standing().is_empty());

    daemon.kill();
    let refused = daemon.cli(&["teardown"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("environments left"), "{refused:?}");

    daemon.run(&[]);
    daemon.cli(&["rm", "--force", "app"]).ok();
    daemon.kill();
    daemon.cli(&["teardown"]).ok();
    assert_eq!(daemon.standing(), std::collections::BTreeSet::new());
    daemon.cli(&["teardown"]).ok();
}
