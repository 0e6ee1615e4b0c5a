//! A runner of its own, joined to a server over TLS.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_testkit::{Daemon, Ran, archive, wait};
use std::process::{Child, Command, Stdio};

/// Ends the process when the test does.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

#[test]
fn a_runner_joins_with_a_token_and_its_environments_are_used_through_the_server() {
    // Ends after the daemon, which removes what runs on it.
    let runner = std::cell::OnceCell::new();
    let daemon = Daemon::start_with(&["--listen", "127.0.0.1:0"]);
    let file = |name: &str| daemon.folder().join(name);
    std::fs::write(file("edge.token"), daemon.cli(&["token", "edge"]).ok()).unwrap();
    let kubeconfig =
        std::fs::read_to_string(daemon.state().join("server/admin.kubeconfig")).unwrap();
    let server = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: https://"))
        .unwrap();
    let setting = |name: &str| {
        let command = daemon.boatyard(&[]);
        let value = command
            .get_envs()
            .find(|(known, _)| *known == name)
            .unwrap()
            .1
            .unwrap();
        value.to_str().unwrap().to_owned()
    };
    let slot: u32 = setting("BOATYARD_FIRST_SLOT").parse().unwrap();
    let edge = |arguments: &[&str]| -> Command {
        let mut command = daemon.boatyard(&["--server", server, "--ca-file"]);
        command
            .arg(daemon.state().join("server/ca.crt"))
            .arg("--token-file")
            .arg(file("edge.token"))
            .args(arguments)
            .env("BOATYARD_STATE_DIR", file("edge"))
            .env(
                "BOATYARD_HOST_PREFIX",
                format!("{}-e", setting("BOATYARD_HOST_PREFIX")),
            )
            .env("BOATYARD_FIRST_SLOT", (slot + 128).to_string());
        command
    };
    let log = std::fs::File::create(file("edge.log")).unwrap();
    let process = edge(&["runner", "--name", "edge"])
        .stderr(log)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(runner.set(Process(process)).is_ok());
    wait::until("the runner to register", || {
        (daemon.cli(&["get", "runners", "edge"]).code == 0).then_some(())
    });

    archive::write(&file("image.tar"), "test:latest", &serde_json::json!({}));
    daemon
        .cli(&[
            "image",
            "import",
            file("image.tar").to_str().unwrap(),
            "--tag",
            "test:latest",
            "--on",
            "edge",
        ])
        .ok();
    let object = "apiVersion: boatyard.dev/v1\nkind: Environment\nmetadata: {name: far}\nspec:\n  runnerName: edge\n  devcontainer: {image: test:latest}\n";
    std::fs::write(file("far.yaml"), object).unwrap();
    daemon
        .cli(&["apply", "-f", file("far.yaml").to_str().unwrap()])
        .ok();
    daemon.cli(&["start", "far"]).ok();
    assert_eq!(daemon.sh("far", "hostname").ok(), "far\n");
    assert!(
        std::fs::read_dir(file("edge/envs"))
            .unwrap()
            .next()
            .is_some(),
        "it runs on the other runner"
    );

    // The runner's own identity opens no door and reads nothing that is not its own.
    let ran: Ran = edge(&["exec", "far", "--", "true"])
        .output()
        .unwrap()
        .into();
    assert!(ran.stderr.contains("may not"), "{ran:?}");
    let ran: Ran = edge(&["get", "environments"]).output().unwrap().into();
    assert!(ran.stderr.contains("may not"), "{ran:?}");
    // A wrong token is nobody.
    std::fs::write(file("edge.token"), "byt_wrong").unwrap();
    let ran: Ran = edge(&["ls"]).output().unwrap().into();
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("who are you"), "{ran:?}");
    daemon.cli(&["rm", "--force", "far"]).ok();
}
