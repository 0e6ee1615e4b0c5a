//! Egress policies through the real binary: class and environment, live changes, services, builds.
//!
//! Each test's daemon runs in a network namespace that stands for a host, with a resolver on its
//! loopback and a server beyond it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_testkit::{Daemon, Ran, wait};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

/// Shows the network namespace's devices in /sys, keeps the cgroups, and asks the resolver given.
const ENTER: &str = r#"
set -e
kept=$(mktemp -d); mount --rbind /sys/fs/cgroup "$kept"
umount -l /sys; mount -t sysfs sysfs /sys; mount --rbind "$kept" /sys/fs/cgroup
mount --bind "$1" /etc/resolv.conf
shift; exec "$@"
"#;

/// Answers, on the loopback of a network namespace, every name below `harbour.example` with
/// 203.0.113.20 and no other.
fn resolver(host: &str) {
    let flags = (rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    let network = rustix::fs::open(format!("/run/netns/{host}"), flags.0, flags.1).unwrap();
    let (bound, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(network.as_fd(), kind).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        bound.send(()).unwrap();
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let asked = query[12..length].to_ascii_lowercase();
            let end = 12 + asked.iter().position(|byte| *byte == 0).unwrap() + 5;
            let mut answer = query[..end].to_vec();
            (answer[2], answer[3]) = (0x81, 0x83);
            answer[6..12].fill(0);
            if asked
                .windows(16)
                .any(|name| name == b"\x07harbour\x07example")
            {
                answer[3] = 0x80;
                // An address.
                if query[end - 3] == 1 {
                    answer[7] = 1;
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 20]);
                }
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    ready.recv().unwrap();
}

/// A host's network and a server beyond it.
struct Sea {
    host: String,
    far: String,
    servers: Vec<Child>,
}

fn command(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Sea {
    fn new() -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let named = |what: &str| format!("by-{what}-{}-{number}", std::process::id());
        let (host, far) = (named("quay"), named("sea"));
        for name in [&host, &far] {
            command(&["ip", "netns", "add", name]);
            command(&["ip", "-n", name, "link", "set", "lo", "up"]);
        }
        let mut sea = Self {
            host: host.clone(),
            far: far.clone(),
            servers: Vec::new(),
        };
        command(&[
            "ip", "-n", &host, "link", "add", "up0", "type", "veth", "peer", "name", "far0",
            "netns", &far,
        ]);
        command(&[
            "ip",
            "-n",
            &host,
            "address",
            "add",
            "203.0.113.1/24",
            "dev",
            "up0",
        ]);
        command(&["ip", "-n", &host, "link", "set", "up0", "up"]);
        for last in [20, 21, 30] {
            let address = format!("203.0.113.{last}/24");
            command(&["ip", "-n", &far, "address", "add", &address, "dev", "far0"]);
        }
        command(&["ip", "-n", &far, "link", "set", "far0", "up"]);
        for port in ["80", "443"] {
            sea.serve(
                &far,
                &[
                    "nc",
                    "-ll",
                    "-p",
                    port,
                    "-e",
                    "/bin/busybox",
                    "echo",
                    "afar",
                ],
            );
        }
        sea
    }

    fn serve(&mut self, place: &str, words: &[&str]) {
        let mut server = Command::new("ip");
        server
            .args(["netns", "exec", place, "/bin/busybox"])
            .args(words);
        self.servers
            .push(server.stderr(Stdio::null()).spawn().unwrap());
    }

    /// Starts a daemon on the host, or starts it again.
    fn run(&mut self, daemon: &mut Daemon) {
        let conf = daemon.folder().join("resolv.conf");
        if !conf.exists() {
            std::fs::write(&conf, "nameserver 127.0.0.1\n").unwrap();
            resolver(&self.host);
        }
        let network = format!("--net=/run/netns/{}", self.host);
        let words = [
            "nsenter", &network, "unshare", "--mount", "sh", "-c", ENTER, "sh",
        ];
        daemon.run_through(&[&words[..], &[conf.to_str().unwrap()]].concat(), &[]);
    }
}

impl Drop for Sea {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        for name in [&self.host, &self.far] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

fn started() -> (Sea, Daemon) {
    let mut sea = Sea::new();
    let mut daemon = Daemon::prepare();
    sea.run(&mut daemon);
    daemon.import_image();
    (sea, daemon)
}

fn apply(daemon: &Daemon, object: &Value) -> Ran {
    let file = daemon.folder().join("object.json");
    std::fs::write(&file, object.to_string()).unwrap();
    daemon.cli(&["apply", "-f", file.to_str().unwrap()])
}

fn class(daemon: &Daemon, egress: &Value) {
    let object = json!({"apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
        "metadata": {"name": "walled"}, "spec": {"egress": egress}});
    apply(daemon, &object).ok();
}

/// An environment without a source.
fn environment(daemon: &Daemon, egress: Option<&Value>, more: &Value) {
    let mut spec = json!({"className": "walled", "devcontainer": {"image": "test:latest"}});
    if let Some(egress) = egress {
        spec["egress"] = egress.clone();
    }
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let object = json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment",
        "metadata": {"name": "app"}, "spec": spec});
    apply(daemon, &object).ok();
}

fn status(daemon: &Daemon) -> Value {
    let text = daemon
        .cli(&["get", "environments", "app", "-o", "json"])
        .ok();
    let object: Value = serde_json::from_str(&text).unwrap();
    object["status"].clone()
}

/// Waits until status says so.
fn until(daemon: &Daemon, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let last = std::cell::RefCell::new(Value::Null);
    wait::until_or(
        what,
        || format!("{}\n{}", last.borrow(), daemon.log()),
        || {
            let status = status(daemon);
            let done = holds(&status);
            *last.borrow_mut() = status.clone();
            done.then_some(status)
        },
    )
}

fn reaches(daemon: &Daemon, place: &str, port: u16) -> bool {
    let script = format!("nc -w 5 {place} {port}");
    daemon.sh("app", &script).stdout.contains("afar")
}

#[test]
fn an_environment_reaches_what_class_and_environment_allow_and_status_tells_the_rest() {
    let (mut sea, mut daemon) = started();
    let allowed = json!({"mode": "AllowList", "allow": [
        {"domain": "*.harbour.example", "ports": [80]},
        {"cidr": "203.0.113.16/29", "except": ["203.0.113.20"]},
    ]});
    class(&daemon, &allowed);
    environment(&daemon, None, &json!({}));
    until(&daemon, "it to run", |status| status["phase"] == "Running");
    assert!(reaches(&daemon, "a.harbour.example", 80));
    assert!(reaches(&daemon, "203.0.113.21", 443));
    for (place, port) in [
        ("a.harbour.example", 443),
        ("203.0.113.30", 80),
        ("elsewhere.example", 80),
    ] {
        assert!(!reaches(&daemon, place, port), "{place} {port}");
    }
    let told = until(&daemon, "what was refused", |status| {
        let list = status["egress"]["recentlyRefused"].to_string();
        [
            "elsewhere.example",
            "203.0.113.30:80/tcp",
            "203.0.113.20:443/tcp",
        ]
        .iter()
        .all(|one| list.contains(one))
    });
    assert_eq!(told["egress"]["mode"], "AllowList");
    // What is not allowed is refused with a sentence before anything starts, or told while it runs.
    let wider = json!({"mode": "AllowList", "allow": [
        {"domain": "b.harbour.example", "ports": [80]}, {"domain": "elsewhere.example"}]});
    environment(&daemon, Some(&wider), &json!({}));
    let told = until(&daemon, "the complaint", |status| {
        status["egress"]["message"].is_string()
    });
    let said = told["egress"]["message"].as_str().unwrap();
    let sentence = "spec.egress asks for elsewhere.example, which the class walled does not allow";
    assert!(said.contains(sentence), "{said}");
    assert!(reaches(&daemon, "b.harbour.example", 80));
    assert!(!reaches(&daemon, "a.harbour.example", 80));
    assert!(!reaches(&daemon, "203.0.113.21", 443));
    // It goes on without the daemon, and the next one knows it.
    daemon.kill();
    sea.run(&mut daemon);
    until(&daemon, "the next daemon", |status| {
        status["egress"]["mode"] == "AllowList"
    });
    assert!(reaches(&daemon, "b.harbour.example", 80));
    assert!(!reaches(&daemon, "a.harbour.example", 80));
    // The class narrows.
    class(&daemon, &json!({"mode": "Closed", "allow": []}));
    until(&daemon, "the narrower class", |status| {
        status["egress"]["mode"] == "Closed"
    });
    assert!(!reaches(&daemon, "b.harbour.example", 80));
    daemon.cli(&["stop", "app"]).ok();
    let refused = daemon.cli(&["start", "app"]);
    assert!(
        refused
            .stderr
            .contains("which the class walled does not allow"),
        "{refused:?}"
    );
    // And opens; the environment says nothing of its own any more.
    class(&daemon, &json!({"mode": "Open", "allow": []}));
    environment(
        &daemon,
        Some(&json!({"mode": "Open", "allow": []})),
        &json!({"restartedAt": "now"}),
    );
    until(&daemon, "it to run openly", |status| {
        status["phase"] == "Running" && status["egress"].is_null()
    });
    assert!(reaches(&daemon, "203.0.113.30", 80));
    daemon.cli(&["rm", "--force", "app"]).ok();
    let rules = command(&["ip", "netns", "exec", &sea.host, "nft", "list", "ruleset"]);
    assert!(!rules.contains("_fresh"), "{rules}");
}

#[test]
fn services_and_build_steps_have_their_environments_policy() {
    let (_sea, daemon) = started();
    class(
        &daemon,
        &json!({"mode": "AllowList", "allow": [{"cidr": "203.0.113.21"}]}),
    );
    let folder = daemon.project(
        "app",
        r#"{"dockerComposeFile": "docker-compose.yml", "service": "app"}"#,
    );
    let asks = "for last in 21 30; do nc -w 5 203.0.113.$last 80 || echo refused; done";
    let compose = format!(
        "
services:
  app: {{build: ., command: sleep 100000}}
  db: {{image: test:latest, command: ['sh', '-c', 'r=$$({}); while true; do echo $$r | nc -l -p 80; done']}}
",
        asks.replace('$', "$$")
    );
    let place = if std::path::Path::new(&format!("{folder}/.devcontainer")).exists() {
        format!("{folder}/.devcontainer")
    } else {
        folder.clone()
    };
    std::fs::write(format!("{place}/docker-compose.yml"), compose).unwrap();
    let dockerfile = format!("FROM test:latest\nRUN ({asks}) > /built\n");
    std::fs::write(format!("{place}/Dockerfile"), dockerfile).unwrap();
    let ran = daemon.cli(&["up", &folder, "--detach", "--class", "walled"]);
    assert_eq!(ran.code, 0, "{ran:?}\n{}", daemon.log());
    assert_eq!(daemon.sh("app", "cat /built").ok(), "afar\nrefused\n");
    let served = daemon.sh("app", "until nc -w 5 db 80; do :; done").ok();
    assert_eq!(served, "afar refused\n");
    // A change reaches the services too.
    class(&daemon, &json!({"mode": "Closed", "allow": []}));
    until(&daemon, "the narrower class", |status| {
        status["egress"]["mode"] == "Closed"
    });
    assert!(!reaches(&daemon, "203.0.113.21", 80));
    daemon.cli(&["rm", "--force", "app"]).ok();
}
