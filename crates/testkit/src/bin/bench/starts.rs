//! From nothing to a first command, and a command in what runs already.
//!
//! Both sides have the image on disk, give the container a network of its own with a way out, and
//! start from a client process but where a row says otherwise.

use crate::figures::{Contender, Table, time};
use crate::podman::Podman;
use crate::{output, settle};
use boatyard_api::Environment;
use boatyard_api::environment::Phase;
use boatyard_link::client::{Address, Endpoint};
use boatyard_link::frames::{Channel, Incoming};
use boatyard_testkit::{Daemon, archive};
use boatyard_wire::{Process, Request};
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};

const IMAGE: &str = "localhost/test:latest";

pub(crate) fn run(rounds: usize, start: bool, exec: bool, table: &mut Table) {
    let daemon = Daemon::start();
    daemon.import_image();
    let archive = daemon.folder().join("podman.tar");
    archive::write(&archive, IMAGE, &serde_json::json!({}));
    let podman = Podman {
        folder: daemon.folder().join("podman"),
    };
    output(podman.command(&["load", "--input"]).arg(&archive));
    if start {
        starts(&daemon, &podman, rounds, table);
    }
    if exec {
        execs(&daemon, &podman, rounds, table);
    }
    let _ = podman
        .command(&["rm", "--all", "--force", "--time", "0"])
        .output();
    let _ = podman.command(&["system", "reset", "--force"]).output();
}

fn starts(daemon: &Daemon, podman: &Podman, rounds: usize, table: &mut Table) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let endpoint = Endpoint {
        address: Address::Unix(daemon.socket()),
        token: None,
    };
    let api: Api<Environment> =
        runtime.block_on(async { Api::namespaced(endpoint.kube(), "default") });
    let folder = daemon.project("warm", r#"{"image": "test:latest"}"#);
    let mut whole = [
        Contender::new("`podman run --rm IMAGE true`"),
        Contender::new("API create to the end of a first `exec true`"),
        Contender::new("`boatyard up FOLDER`, then `boatyard exec NAME true`"),
    ];
    let mut ends = [
        Contender::new("`podman rm --force --time 0`"),
        Contender::new("`boatyard rm --force`"),
    ];
    for round in 0..=rounds {
        let run = time(|| drop(output(&mut podman.run(&["--rm", IMAGE, "true"]))));
        settle();
        let name = format!("api-{round}");
        let created = time(|| runtime.block_on(first_command(&api, &endpoint, &name)));
        runtime.block_on(removed(&api, &name));
        let up = time(|| {
            daemon.cli(&["up", &folder, "--name", "warm"]).ok();
            daemon.cli(&["exec", "warm", "--", "true"]).ok();
        });
        let rm = time(|| drop(daemon.cli(&["rm", "--force", "warm"]).ok()));
        output(&mut podman.run(&["--detach", "--name", "ended", IMAGE, "sleep", "600"]));
        let podman_rm = time(|| {
            drop(output(
                &mut podman.command(&["rm", "--force", "--time", "0", "ended"]),
            ));
        });
        settle();
        // The first round warms both.
        if round > 0 {
            for (contender, took) in whole.iter_mut().zip([run, created, up]) {
                contender.add(took);
            }
            for (contender, took) in ends.iter_mut().zip([podman_rm, rm]) {
                contender.add(took);
            }
        }
    }
    table.compare("Warm start, image on disk, with network", &whole);
    table.compare("Removal of what runs", &ends);
}

/// Creates an environment and runs a command in it as soon as it can.
async fn first_command(api: &Api<Environment>, endpoint: &Endpoint, name: &str) {
    let object = serde_json::json!({"apiVersion": "boatyard.dev/v1", "kind": "Environment", "metadata": {"name": name},
        "spec": {"devcontainer": {"image": "test:latest"}}});
    let object: Environment = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    let running = |object: Option<&Environment>| {
        object
            .and_then(|object| object.status.as_ref())
            .is_some_and(|status| status.phase == Phase::Running)
    };
    await_condition(api.clone(), name, running).await.unwrap();
    let path = format!("/apis/boatyard.dev/v1/namespaces/default/environments/{name}/connect");
    let stream = endpoint.upgrade(&path, "boatyard-stream/1").await.unwrap();
    let process = Process {
        argv: vec!["true".to_owned()],
        ..Process::default()
    };
    let (_sender, mut receiver) = Channel::open(stream, &Request::Exec(process))
        .await
        .unwrap();
    loop {
        let incoming = receiver.next().await.unwrap().expect("an exit code");
        if let Incoming::Reply(reply) = incoming
            && let Some(code) = reply.exit_code()
        {
            assert_eq!(code, 0, "{reply:?}");
            return;
        }
    }
}

async fn removed(api: &Api<Environment>, name: &str) {
    let object = api.get(name).await.unwrap();
    let uid = object.metadata.uid.unwrap();
    api.delete(name, &DeleteParams::default()).await.unwrap();
    await_condition(api.clone(), name, conditions::is_deleted(&uid))
        .await
        .unwrap();
}

fn execs(daemon: &Daemon, podman: &Podman, rounds: usize, table: &mut Table) {
    let folder = daemon.project("runs", r#"{"image": "test:latest"}"#);
    daemon.cli(&["up", &folder, "--name", "runs"]).ok();
    output(&mut podman.run(&["--detach", "--name", "runs", IMAGE, "sleep", "86400"]));
    let mut contenders = [
        Contender::new("`podman exec NAME true`"),
        Contender::new("`boatyard exec NAME true`"),
    ];
    for round in 0..=rounds {
        let theirs = time(|| drop(output(&mut podman.command(&["exec", "runs", "true"]))));
        settle();
        let ours = time(|| drop(daemon.cli(&["exec", "runs", "--", "true"]).ok()));
        if round > 0 {
            contenders[0].add(theirs);
            contenders[1].add(ours);
        }
    }
    table.compare("A command in what runs", &contenders);
    output(&mut podman.command(&["rm", "--force", "--time", "0", "runs"]));
    daemon.cli(&["rm", "--force", "runs"]).ok();
}
