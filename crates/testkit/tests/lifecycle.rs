//! Lifecycle commands in real environments: how far, how often, with what, and what a failure costs.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::{Daemon, wait};
use serde_json::{Value, json};

/// Commands that note their names in a log, in order.
const NOTED: &str = r#"{"image": "test:latest",
    "onCreateCommand": "echo oc >> /root/l", "updateContentCommand": "echo uc >> /root/l",
    "postCreateCommand": "echo pc >> /root/l", "postStartCommand": "echo ps >> /root/l",
    "postAttachCommand": "echo pa >> /root/l"}"#;

/// Makes an environment whose lifecycle commands a caller runs, and waits until it is ready.
fn on_request(daemon: &Daemon, name: &str, devcontainer: &str, more: &Value) {
    let folder = daemon.project(name, devcontainer);
    let mut asked = json!({"lifecycle": "OnRequest"});
    for (key, value) in more.as_object().into_iter().flatten() {
        asked[key] = value.clone();
    }
    let object = json!({
        "apiVersion": "boatyard.dev/v1", "kind": "Environment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"source": {"folder": {"path": folder}}, "devcontainer": asked},
    });
    let file = daemon.folder().join(format!("{name}.json"));
    std::fs::write(&file, object.to_string()).unwrap();
    daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
    running(daemon, name);
}

fn status(daemon: &Daemon, name: &str) -> Value {
    let text = daemon
        .cli(&["get", "environments", name, "-o", "json"])
        .ok();
    serde_json::from_str::<Value>(&text).unwrap()["status"].take()
}

fn condition(status: &Value, kind: &str) -> (String, String) {
    let all = status["conditions"].as_array().unwrap();
    let found = all.iter().find(|one| one["type"] == kind).unwrap();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

fn running(daemon: &Daemon, name: &str) {
    wait::until("it runs", || {
        (status(daemon, name)["phase"] == "Running").then_some(())
    });
}

fn log(daemon: &Daemon, name: &str) -> Vec<String> {
    let text = daemon.sh(name, "cat /root/l").ok();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_caller_runs_the_commands_as_far_as_asked_and_each_as_often_as_it_should() {
    let daemon = Daemon::start();
    daemon.import_image();
    on_request(&daemon, "app", NOTED, &json!({}));
    assert_ne!(daemon.sh("app", "test -e /root/l").code, 0, "nobody asked");
    assert_eq!(
        condition(&status(&daemon, "app"), "LifecycleComplete").0,
        "False"
    );
    let hooks = |options: &[&str]| {
        let ran = daemon.cli(&[&["hooks", "app"], options].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    hooks(&["--prebuild"]);
    hooks(&["--prebuild"]);
    assert_eq!(log(&daemon, "app"), ["oc", "uc", "uc"]);
    hooks(&["--skip-non-blocking"]);
    assert_eq!(log(&daemon, "app").len(), 3, "waitFor was reached before");
    hooks(&["--until", "postCreateCommand"]);
    hooks(&["--skip-post-attach"]);
    assert_eq!(log(&daemon, "app")[3..], ["pc", "ps"]);
    wait::until("the status to say so", || {
        (condition(&status(&daemon, "app"), "LifecycleComplete").0 == "True").then_some(())
    });
    hooks(&[]);
    hooks(&[]);
    assert_eq!(log(&daemon, "app")[5..], ["pa", "pa"]);
    daemon.cli(&["restart", "app"]).ok();
    assert_eq!(log(&daemon, "app").len(), 7, "nobody asked after the start");
    hooks(&[]);
    assert_eq!(log(&daemon, "app")[7..], ["ps", "pa"]);
    // A shell is no caller of theirs here.
    let refused = daemon.cli(&["hooks", "app", "--until", "initializeCommand"]);
    assert!(
        refused.stderr.contains("names no lifecycle command"),
        "{refused:?}"
    );
}

#[test]
fn output_comes_live_with_names_and_a_failed_command_is_tried_again() {
    let daemon = Daemon::start();
    daemon.import_image();
    on_request(
        &daemon,
        "app",
        r#"{"image": "test:latest",
            "onCreateCommand": {"one": "echo 1; echo 2", "two": ["sh", "-c", "printf three"]},
            "updateContentCommand": "echo uc >> /root/l; test -e /root/mended || { echo no such luck; exit 5; }",
            "postCreateCommand": "echo pc >> /root/l"}"#,
        &json!({}),
    );
    let failed = daemon.cli(&["hooks", "app"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    let mut lines: Vec<&str> = failed.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["[one] 1", "[one] 2", "[two] three", "no such luck"],
        "{failed:?}"
    );
    assert!(
        failed
            .stderr
            .contains("updateContentCommand exited with code 5: no such luck"),
        "{failed:?}"
    );
    // It can be used, and says what is wrong.
    assert_eq!(log(&daemon, "app"), ["uc"]);
    let expected = ("False".into(), "UpdateContentCommandFailed".into());
    let now = wait::until("the status to say so", || {
        let now = status(&daemon, "app");
        (condition(&now, "LifecycleComplete") == expected).then_some(now)
    });
    assert_eq!(now["phase"], "Running");
    daemon.sh("app", "touch /root/mended").ok();
    let again = daemon.cli(&["hooks", "app"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(log(&daemon, "app"), ["uc", "uc", "pc"]);
    assert!(!again.stderr.contains("onCreateCommand"), "{again:?}");
}

#[test]
fn secrets_reach_the_commands_and_nothing_else() {
    let daemon = Daemon::start();
    daemon.import_image();
    on_request(
        &daemon,
        "app",
        r#"{"image": "test:latest", "postCreateCommand": "echo \"$SEC\" > /root/s; echo \"told $SEC\""}"#,
        &json!({}),
    );
    let secrets = daemon.folder().join("secrets.json");
    std::fs::write(&secrets, r#"{"SEC": "s3 cr'et-value"}"#).unwrap();
    let ran = daemon.cli(&["hooks", "app", "--secrets-file", secrets.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        daemon
            .sh(
                "app",
                "cat /root/s; echo [$SEC]; tr '\\0' '\\n' < /proc/1/environ | grep -c SEC=; true"
            )
            .ok(),
        "s3 cr'et-value\n[]\n0\n"
    );
    assert!(!format!("{ran:?}{}", status(&daemon, "app")).contains("et-value"));
    // What prints it prints a mask, there and in the log.
    assert!(ran.stdout.contains("told ********\n"), "{ran:?}");
    let log = daemon.cli(&["logs", "app"]).ok();
    assert!(log.contains("told ********\n"), "{log}");
    let mut folders = vec![daemon.state()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name() != "s" {
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                let found = bytes.windows(8).any(|window| window == b"et-value");
                assert!(!found, "{}", entry.path().display());
            }
        }
    }
}

#[test]
fn what_waits_for_nothing_goes_on_in_the_background_and_its_failure_ends_nothing() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project(
        "app",
        r#"{"image": "test:latest", "updateContentCommand": "echo uc >> /root/l",
            "postCreateCommand": "until test -e /root/go; do sleep 0.02; done; echo pc >> /root/l; exit 9",
            "postStartCommand": "echo ps >> /root/l", "postAttachCommand": "echo pa >> /root/l"}"#,
    );
    daemon.cli(&["up", &folder, "--detach"]).ok();
    assert_eq!(log(&daemon, "app"), ["uc"]);
    daemon.sh("app", "touch /root/go").ok();
    let now = wait::until("the failure is told", || {
        let now = status(&daemon, "app");
        (condition(&now, "LifecycleComplete").1 == "PostCreateCommandFailed").then_some(now)
    });
    assert_eq!(now["phase"], "Running");
    assert_eq!(condition(&now, "Ready").0, "True");
    assert!(now["message"].as_str().unwrap().contains("code 9"), "{now}");
    assert_eq!(log(&daemon, "app"), ["uc", "pc"]);
}

#[test]
fn attaching_runs_its_command_each_time_after_all_others() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", NOTED);
    for times in 1..3 {
        daemon.cli(&["up", &folder, "--detach"]).ok();
        let wanted = 4 + times;
        wait::until("postAttachCommand", || {
            (log(&daemon, "app").len() == wanted).then_some(())
        });
    }
    assert_eq!(log(&daemon, "app"), ["oc", "uc", "pc", "ps", "pa", "pa"]);
}

#[test]
fn a_subfolder_of_a_repository_is_opened_beneath_the_whole_of_it() {
    let daemon = Daemon::start();
    daemon.import_image();
    let root = daemon.folder().join("repo");
    std::fs::create_dir_all(root.join(".git")).unwrap();
    std::fs::write(root.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    std::fs::write(root.join("top"), "top\n").unwrap();
    let sub = root.join("sub/app");
    std::fs::create_dir_all(sub.join(".devcontainer")).unwrap();
    std::fs::write(
        sub.join(".devcontainer/devcontainer.json"),
        r#"{"image": "test:latest", "containerEnv": {"L": "${localWorkspaceFolder}"}}"#,
    )
    .unwrap();
    daemon.cli(&["up", sub.to_str().unwrap(), "--detach"]).ok();
    assert_eq!(
        daemon.sh("app", "pwd; cat ../../top; echo $L").ok(),
        format!("/workspaces/repo/sub/app\ntop\n{}\n", sub.display())
    );
}

#[test]
fn the_text_labels_and_additions_given_count_instead_of_the_files() {
    let daemon = Daemon::start();
    daemon.import_image();
    let content = r#"{"image": "test:latest", "remoteEnv": {"A": "file", "B": "file", "ID": "${devcontainerId}"}}"#;
    on_request(
        &daemon,
        "app",
        r#"{"image": "no-such-image:latest"}"#,
        &json!({"content": content, "idLabels": {"a": "b"},
            "additional": {"mounts": ["type=tmpfs,target=/extra"], "remoteEnv": {"B": "added"}}}),
    );
    // SHA-256 of {"a":"b"} as the specification writes it.
    let id = "1mqafr5h2iu6dhh3k1m4vtnuhml2uiec4s7bntt1v0f25ao63i1n";
    assert_eq!(
        daemon
            .sh(
                "app",
                "echo $A $B $ID; grep -c ' /extra tmpfs' /proc/mounts"
            )
            .ok(),
        format!("file added {id}\n1\n")
    );
}

#[test]
fn dotfiles_that_cannot_be_installed_hold_nothing_up() {
    let daemon = Daemon::start();
    daemon.import_image();
    on_request(&daemon, "app", NOTED, &json!({}));
    let ran = daemon.cli(&["hooks", "app", "--dotfiles", "/nowhere"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("git is not installed"), "{ran:?}");
    assert!(!ran.stderr.contains("dotfiles, postStart"), "{ran:?}");
    assert_eq!(log(&daemon, "app"), ["oc", "uc", "pc", "ps", "pa"]);
}

#[test]
fn the_containers_own_programs_run_at_each_start_as_its_user() {
    let daemon = Daemon::start();
    let metadata = json!([{"id": "a", "entrypoint": "/bin/echo one $(id -un) >> /tmp/started"},
        {"id": "b", "entrypoint": "/bin/echo two >> /tmp/started"}]);
    daemon.import_image_with(&json!({
        "Labels": {"devcontainer.metadata": metadata.to_string()},
        "User": "dev", "WorkingDir": "/home/dev",
        "Entrypoint": ["sh", "-c", "echo \"$0 $1 $(pwd) [$R]\" >> /tmp/started; exec sleep 9999"],
        "Cmd": ["zero", "one"],
    }));
    let folder = daemon.project(
        "app",
        r#"{"image": "test:latest", "remoteUser": "root", "overrideCommand": false,
            "containerEnv": {"C": "c"}, "remoteEnv": {"R": "r"}}"#,
    );
    daemon.cli(&["up", &folder, "--detach"]).ok();
    let started = |lines: usize| {
        wait::until("the programs run", || {
            let text = daemon.sh("app", "cat /tmp/started").stdout;
            (text.lines().count() == lines).then_some(text)
        })
    };
    let once = "one dev\ntwo\nzero one /home/dev []\n";
    assert_eq!(started(3), once);
    assert_eq!(
        daemon
            .sh(
                "app",
                "id -un; stat -c %U /proc/1; tr '\\0' '\\n' < /proc/1/environ | grep -E '^(R|C)='"
            )
            .ok(),
        "root\ndev\nC=c\n"
    );
    wait::until("the last of them to be what it executes", || {
        let sleeps = daemon.sh("app", "ps -o user,args | grep -c 'dev *sleep 999[9]'");
        (sleeps.stdout == "1\n").then_some(())
    });
    // Who has its id can neither end it nor look into it.
    let harmless = daemon.cli(&[
        "exec",
        "-u",
        "dev",
        "app",
        "--",
        "sh",
        "-c",
        "kill -9 1; kill -15 1; cat /proc/1/environ; ls /proc/1/fd/",
    ]);
    assert_ne!(harmless.code, 0);
    assert_eq!(harmless.stdout, "", "{harmless:?}");
    daemon.sh("app", "true").ok();
    daemon.cli(&["restart", "app"]).ok();
    assert_eq!(started(6), format!("{once}{once}"));
}

#[test]
fn what_a_configuration_asks_of_its_host_chooses_the_class_and_is_held_against_it() {
    let daemon = Daemon::start();
    daemon.import_image();
    for (name, cpu) in [("tiny", "500m"), ("small", "1")] {
        let class = json!({"apiVersion": "boatyard.dev/v1", "kind": "EnvironmentClass",
            "metadata": {"name": name},
            "spec": {"resources": {"cpu": cpu, "memory": "512Mi"}}});
        let file = daemon.folder().join("class.json");
        std::fs::write(&file, class.to_string()).unwrap();
        daemon.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
    }
    let asking = |cpus: u32| {
        format!(
            r#"{{"image": "test:latest", "hostRequirements": {{"cpus": {cpus}, "memory": "256mb"}}}}"#
        )
    };
    for (name, cpus, class) in [("one", 1, "small"), ("many", 9999, "default")] {
        let folder = daemon.project(name, &asking(cpus));
        daemon.cli(&["up", &folder, "--detach"]).ok();
        let text = daemon
            .cli(&["get", "environments", name, "-o", "json"])
            .ok();
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["spec"]["className"], class);
    }
    let folder = daemon.project("wrong", &asking(2));
    let refused = daemon.cli(&["up", &folder, "--detach", "--class", "small"]);
    assert!(
        refused.stderr.contains("2 processors, and it has 1"),
        "{refused:?}"
    );
}
