//! A runner of its own, joined to a server over TLS, or to one of several servers.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_store::contract::cluster::Cluster;
use boatyard_testkit::{Daemon, Ran, Server, archive, wait};
use std::io::{Read, Write};
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
    let right = std::fs::read(file("edge.token")).unwrap();
    std::fs::write(file("edge.token"), "byt_wrong").unwrap();
    let ran: Ran = edge(&["ls"]).output().unwrap().into();
    std::fs::write(file("edge.token"), right).unwrap();
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("who are you"), "{ran:?}");

    // A runner that was deleted stays out, which it says once and nothing else about it.
    let since = "cat /proc/1/stat | cut -d ' ' -f 22";
    let began = daemon.sh("far", since).ok();
    delete_runner(&daemon, "edge");
    let log = || std::fs::read_to_string(file("edge.log")).unwrap();
    let before = log().len();
    let said = "does not know the token of the runner edge";
    wait::until("the runner to say that it is out", || {
        log().contains(said).then_some(())
    });
    assert_ne!(daemon.cli(&["get", "runners", "edge"]).code, 0);
    assert_ne!(daemon.sh("far", "true").code, 0);
    // With another token in its file it takes up what went on meanwhile.
    std::fs::write(file("edge.token"), daemon.cli(&["token", "edge"]).ok()).unwrap();
    let again = wait::until("the runner to be back", || {
        let ran = daemon.sh("far", since);
        (ran.code == 0).then_some(ran.stdout)
    });
    assert_eq!(again, began);
    let after = log().split_off(before);
    assert_eq!(after.matches(said).count(), 1, "{after}");
    assert!(!after.contains("who are you"), "{after}");
    assert!(after.lines().count() <= 8, "{after}");
    wait::until("the runner to register", || {
        (daemon.cli(&["get", "runners", "edge"]).code == 0).then_some(())
    });
    daemon.cli(&["rm", "--force", "far"]).ok();
}

/// Deletes a Runner as an administrator.
fn delete_runner(daemon: &Daemon, name: &str) {
    use kube::api::DeleteParams;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (runners, now) = (runners(daemon), DeleteParams::default());
        runners.delete(name, &now).await.unwrap();
    });
}

fn runners(daemon: &Daemon) -> kube::Api<boatyard_api::Runner> {
    let endpoint = boatyard_link::client::Endpoint {
        address: boatyard_link::client::Address::Unix(daemon.socket()),
        token: None,
    };
    kube::Api::all(endpoint.kube())
}

#[test]
fn the_runner_of_a_daemon_registers_again_by_itself_and_its_environments_go_on() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("kept", r#"{"image": "test:latest"}"#);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    let since = "cat /proc/1/stat | cut -d ' ' -f 22";
    let began = daemon.sh("kept", since).ok();
    let uid = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let runner = runtime.block_on(async { runners(&daemon).get_opt("local").await.unwrap() });
        runner.and_then(|runner| runner.metadata.uid)
    };
    let mut before = wait::until("the runner to register", uid);
    let reached = || {
        let ran = daemon.sh("kept", since);
        (ran.code == 0).then_some(ran.stdout)
    };
    // As often as it happens.
    for _ in 0..2 {
        delete_runner(&daemon, "local");
        before = wait::until("another Runner", || uid().filter(|uid| *uid != before));
        assert_eq!(wait::until("the runner to be connected", reached), began);
    }
    // Its token is taken from it.
    daemon.cli(&["token", "local"]).ok();
    assert_eq!(wait::until("the runner to be connected", reached), began);
    assert_eq!(uid().unwrap(), before);
    // It is given environments as ever.
    let folder = daemon.project("more", r#"{"image": "test:latest"}"#);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    assert!(!daemon.log().contains("does not know"), "{}", daemon.log());
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
}

#[test]
fn exec_reaches_an_environment_whose_runner_is_connected_to_another_server() {
    // Ends after the runner, whose cgroups and routes it clears.
    let place = Daemon::prepare();
    let database = Cluster::start();
    database.create("boatyard");
    let address = database.address("boatyard");
    let start = |name: &str| Server::start(&place.folder().join(name), &["--database", &address]);
    let (mut near, far) = (start("near"), start("far"));
    let file = |name: &str| place.folder().join(name);
    std::fs::write(file("admin.token"), far.credentials().0).unwrap();
    let client = |server: &Server, arguments: &[&str]| -> Command {
        let mut command = place.boatyard(&["--server", &server.address().to_string()]);
        command
            .arg("--ca-file")
            .arg(server.state().join("ca.crt"))
            .arg("--token-file")
            .arg(file("admin.token"))
            .args(arguments);
        command
    };
    let at_far = |arguments: &[&str]| Ran::from(client(&far, arguments).output().unwrap());
    std::fs::write(file("edge.token"), at_far(&["token", "edge"]).ok()).unwrap();
    let mut runner = place.boatyard(&["--server", &near.address().to_string(), "--ca-file"]);
    let process = runner
        .arg(near.state().join("ca.crt"))
        .arg("--token-file")
        .arg(file("edge.token"))
        .args(["runner", "--name", "edge"])
        .stderr(std::fs::File::create(file("edge.log")).unwrap())
        .stdout(Stdio::null())
        .spawn();
    let _runner = Process(process.unwrap());
    wait::until("the runner to register", || {
        (at_far(&["get", "runners", "edge"]).code == 0).then_some(())
    });
    archive::write(&file("image.tar"), "test:latest", &serde_json::json!({}));
    let image = file("image.tar");
    let image = ["image", "import", image.to_str().unwrap()];
    at_far(&[&image[..], &["--tag", "test:latest", "--on", "edge"]].concat()).ok();
    let object = "apiVersion: boatyard.dev/v1\nkind: Environment\nmetadata: {name: moored}\nspec:\n  runnerName: edge\n  devcontainer: {image: test:latest}\n";
    std::fs::write(file("moored.yaml"), object).unwrap();
    at_far(&["apply", "-f", file("moored.yaml").to_str().unwrap()]).ok();
    at_far(&["start", "moored"]).ok();

    // Both ways, more than any window holds, and how it ended.
    let script = "cat; echo to the side >&2; exit 7";
    let mut exec = client(&far, &["exec", "moored", "--", "sh", "-c", script]);
    exec.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut exec = exec.spawn().unwrap();
    let sent: Vec<u8> = (0..2_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut stdin = exec.stdin.take().unwrap();
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let mut echoed = Vec::new();
    exec.stdout
        .take()
        .unwrap()
        .read_to_end(&mut echoed)
        .unwrap();
    writing.join().unwrap();
    let ended = exec.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("to the side"));
    assert!(
        echoed == sent,
        "{} of {} bytes came back",
        echoed.len(),
        sent.len()
    );

    // The runner's server goes in the middle of a command: that ends, the environment does not.
    let mut exec = client(
        &far,
        &["exec", "moored", "--", "sh", "-c", "echo begun; sleep 1000"],
    );
    let mut exec = exec
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut begun = [0; 6];
    exec.stdout.take().unwrap().read_exact(&mut begun).unwrap();
    near.kill();
    assert_ne!(exec.wait().unwrap().code(), Some(0));
    near.again();
    let ran = wait::until("the runner to be back", || {
        let ran = at_far(&["exec", "moored", "--", "sh", "-c", "echo up"]);
        (ran.code == 0).then_some(ran)
    });
    assert_eq!(ran.stdout, "up\n");
    at_far(&["rm", "--force", "moored"]).ok();
}
