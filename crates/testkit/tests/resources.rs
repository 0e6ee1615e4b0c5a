//! What environments may use changes while they run, and who is told when memory runs out.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::{Daemon, wait};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

fn class(daemon: &Daemon, name: &str, resources: &Value) {
    let object = json!({
        "apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
        "metadata": {"name": name}, "spec": {"resources": resources},
    });
    let file = daemon.folder().join(format!("class-{name}.json"));
    std::fs::write(&file, object.to_string()).unwrap();
    daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
}

/// An environment that runs with a class.
fn environment(daemon: &Daemon, name: &str, class: &str) {
    let folder = daemon.project(name, r#"{"image": "test:latest"}"#);
    environment_with(daemon, name, class, &folder);
    wait::until("it runs", || {
        (status(daemon, name)["phase"] == "Running").then_some(())
    });
}

fn environment_with(daemon: &Daemon, name: &str, class: &str, folder: &str) {
    let object = json!({
        "apiVersion": "boatyard.dev/v1", "kind": "Environment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"source": {"folder": {"path": folder}}, "className": class},
    });
    let file = daemon.folder().join(format!("{name}.json"));
    std::fs::write(&file, object.to_string()).unwrap();
    daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
}

fn status(daemon: &Daemon, name: &str) -> Value {
    let text = daemon
        .cli(&["get", "environments", name, "-o", "json"])
        .ok();
    serde_json::from_str::<Value>(&text).unwrap()["status"].take()
}

/// Waits until `status.resources` has these values.
fn holds(daemon: &Daemon, name: &str, wanted: &Value) {
    wait::until(&format!("{name} is held to {wanted}"), || {
        let resources = status(daemon, name)["resources"].take();
        let wanted = wanted.as_object().unwrap();
        let all = wanted
            .iter()
            .all(|(field, value)| resources[field] == *value);
        all.then_some(())
    });
}

/// A shell on a terminal.
struct Shell {
    child: Child,
    seen: Arc<Mutex<String>>,
}

impl Shell {
    fn open(daemon: &Daemon, name: &str) -> Self {
        let mut command = daemon.client(&["exec", "--tty", name, "--", "sh"]);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().unwrap());
        let err: Box<dyn Read + Send> = Box::new(child.stderr.take().unwrap());
        for mut stream in [out, err] {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    seen.lock().unwrap().push_str(&text);
                }
            });
        }
        Self { child, seen }
    }

    fn send(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    fn expect(&self, text: &str) {
        let shown = || self.seen.lock().unwrap().clone();
        wait::until_or(text, shown, || shown().contains(text).then_some(()));
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often it was started.
fn started(daemon: &Daemon, name: &str) -> u64 {
    let incarnation = &status(daemon, name)["incarnation"];
    incarnation.as_u64().unwrap()
}

#[test]
fn a_changed_class_applies_to_what_runs() {
    let mut daemon = Daemon::start();
    daemon.import_image();
    class(
        &daemon,
        "small",
        &json!({"cpu": "500m", "memory": "256Mi", "pids": 100}),
    );
    class(
        &daemon,
        "large",
        &json!({"cpu": "2", "memory": "512Mi", "pids": 200}),
    );
    environment(&daemon, "app", "small");
    holds(
        &daemon,
        "app",
        &json!({"cpu": "500m", "memory": "256Mi", "pids": 100}),
    );
    daemon.sh("app", "echo kept > /dev/shm/here").ok();

    // The class changes under it.
    class(
        &daemon,
        "small",
        &json!({"cpu": "1", "memory": "300Mi", "pids": 120}),
    );
    holds(
        &daemon,
        "app",
        &json!({"cpu": "1", "memory": "300Mi", "pids": 120}),
    );
    let top = daemon.cli(&["top", "-o", "json"]).ok();
    let top: Value = serde_json::from_str(&top).unwrap();
    assert_eq!(top[0]["name"], "app");
    assert_eq!(top[0]["resources"]["cpu"], "1");
    assert!(top[0]["memoryBytes"].is_u64(), "{top}");
    let shown = daemon.cli(&["top", "--once"]).ok();
    assert!(shown.contains("/300Mi"), "{shown}");
    let metrics = daemon.cli(&["metrics"]).ok();
    let line = "boatyard_environment_memory_bytes{namespace=\"default\",environment=\"app\"} ";
    assert!(
        metrics.contains(line) && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    // The environment changes its class.
    environment_with(&daemon, "app", "large", &folder(&daemon, "app"));
    holds(
        &daemon,
        "app",
        &json!({"cpu": "2", "memory": "512Mi", "pids": 200}),
    );
    // While no runner runs.
    daemon.kill();
    daemon.run(&[]);
    class(
        &daemon,
        "large",
        &json!({"cpu": "750m", "memory": "400Mi", "pids": 150}),
    );
    holds(
        &daemon,
        "app",
        &json!({"cpu": "750m", "memory": "400Mi", "pids": 150}),
    );
    assert_eq!(started(&daemon, "app"), 1, "nothing was restarted");
    assert_eq!(daemon.sh("app", "cat /dev/shm/here").ok(), "kept\n");
}

fn folder(daemon: &Daemon, name: &str) -> String {
    let text = daemon
        .cli(&["get", "environments", name, "-o", "json"])
        .ok();
    let object: Value = serde_json::from_str(&text).unwrap();
    let path = &object["spec"]["source"]["folder"]["path"];
    path.as_str().unwrap().to_owned()
}

#[test]
fn memory_is_lowered_when_what_is_in_use_fits() {
    let daemon = Daemon::start();
    daemon.import_image();
    class(&daemon, "shrinking", &json!({"memory": "256Mi"}));
    environment(&daemon, "app", "shrinking");
    // Memory that cannot be reclaimed here.
    daemon
        .sh("app", "dd if=/dev/zero of=/dev/shm/held bs=1M count=100")
        .ok();
    class(&daemon, "shrinking", &json!({"memory": "64Mi"}));
    let pending = wait::until("the status says what does not apply", || {
        let pending = status(&daemon, "app")["resources"]["pending"].take();
        pending[0]["field"].is_string().then_some(pending)
    });
    assert_eq!(pending[0]["field"], "resources.memory");
    assert_eq!(pending[0]["needsRestart"], false);
    let message = pending[0]["message"].as_str().unwrap();
    assert!(
        message.contains("more than the new limit of 64 MiB"),
        "{message}"
    );
    daemon.sh("app", "rm /dev/shm/held").ok();
    holds(&daemon, "app", &json!({"memory": "64Mi", "pending": null}));
}

#[test]
fn a_builder_is_killed_and_the_developer_reads_it() {
    let daemon = Daemon::start();
    daemon.import_image();
    class(&daemon, "tight", &json!({"memory": "96Mi"}));
    environment(&daemon, "app", "tight");
    let mut shell = Shell::open(&daemon, "app");
    shell.send("echo ready-$((6*7))\n");
    shell.expect("ready-42");
    // Grows for ever; the shell holds more than nothing, and stays.
    let grown = daemon.sh("app", "exec tail /dev/zero");
    assert_eq!(grown.code, 137, "{grown:?}");
    shell.expect("[boatyard] tail was killed: it held ");
    shell.send("echo alive-$((6*7))\n");
    shell.expect("alive-42");
    let kill = wait::until("the status says it", || {
        let status = status(&daemon, "app");
        status.pointer("/resources/memoryKills/0").cloned()
    });
    assert_eq!(kill["process"], "tail");
    let message = kill["message"].as_str().unwrap();
    assert!(message.contains("all of its 96MiB of memory"), "{message}");
    wait::until("an event says it", || {
        let events = daemon.cli(&["get", "events", "-o", "json"]).ok();
        events.contains("MemoryKill").then_some(())
    });
}
