//! Who may do what on a shared machine, and what a terminal sees.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_testkit::{Daemon, Ran, wait};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Stdio};

/// Lets everybody on the host connect, as membership in the socket's group does.
fn open_to_all(daemon: &Daemon) {
    let everybody = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(daemon.folder(), everybody(0o755)).unwrap();
    std::fs::set_permissions(daemon.socket(), everybody(0o666)).unwrap();
}

#[test]
fn the_remote_user_has_the_developers_ids_and_its_home_and_volumes_with_them() {
    let daemon = Daemon::start();
    daemon.import_image();
    open_to_all(&daemon);
    let config = r#"{"image": "test:latest", "remoteUser": "dev", "containerUser": "dev",
        "mounts": ["source=kept,target=/kept,type=volume"],
        "postCreateCommand": "id -u > ~/hook", "waitFor": "postCreateCommand"}"#;
    let folder = daemon.project("mine", config);
    for path in [&folder, &format!("{folder}/.devcontainer")] {
        chown(path, Some(2000), Some(2000)).unwrap();
    }
    daemon.cli_as(2000, &["up", &folder, "--detach"]).ok();
    let sh = |script: &str| daemon.cli_as(2000, &["exec", "mine", "--", "sh", "-c", script]);
    let ids = "id -un; id -u; id -g; stat -c '%u %g' /home/dev; cat ~/hook; touch made ~/own; stat -c %U /proc/1";
    let inside = "dev\n2000\n2000\n2000 2000\n2000\ndev\n";
    assert_eq!(sh(ids).ok(), inside);
    let made = std::fs::metadata(format!("{folder}/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (2000, 2000));
    // Root inside is root, and what it gives away by name is theirs.
    let root = |script: &str| {
        let arguments = ["exec", "-u", "root", "mine", "--", "sh", "-c", script];
        daemon.cli_as(2000, &arguments).ok()
    };
    assert_eq!(
        root("chown dev /kept; id -u; stat -c %u /kept /etc/passwd"),
        "0\n2000\n0\n"
    );
    daemon.cli_as(2000, &["restart", "mine"]).ok();
    assert_eq!(sh("touch /kept/file ~/own && id -u").ok(), "2000\n");

    // The volume is the user's in another environment too, whatever ids it has there.
    let config = r#"{"image": "test:latest", "remoteUser": "dev", "updateRemoteUserUID": false,
        "mounts": [{"source": "kept", "target": "/kept", "type": "volume"}]}"#;
    let folder = daemon.project("other", config);
    chown(&folder, Some(2000), Some(2000)).unwrap();
    daemon.cli_as(2000, &["up", &folder, "--detach"]).ok();
    let other = [
        "exec",
        "other",
        "--",
        "sh",
        "-c",
        "id -u; stat -c %U /kept/file",
    ];
    assert_eq!(daemon.cli_as(2000, &other).ok(), "1000\ndev\n");
}

#[test]
fn host_paths_are_opened_with_the_callers_credentials() {
    let daemon = Daemon::start();
    daemon.import_image();
    open_to_all(&daemon);
    let project = |name: &str, text: &str| {
        let folder = daemon.project(name, text);
        for path in [
            folder.clone(),
            format!("{folder}/.devcontainer"),
            format!("{folder}/.devcontainer/devcontainer.json"),
        ] {
            chown(path, Some(1000), Some(1000)).unwrap();
        }
        folder
    };
    let folder = project("mine", r#"{"image": "test:latest", "remoteUser": "dev"}"#);
    daemon.cli_as(1000, &["up", &folder, "--detach"]).ok();
    daemon
        .cli_as(1000, &["exec", "mine", "--", "touch", "made"])
        .ok();
    let made = std::fs::metadata(format!("{folder}/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1000, 1000));

    let thief =
        r#"{"image": "test:latest", "mounts": ["type=bind,source=/etc/shadow,target=/stolen"]}"#;
    let folder = project("thief", thief);
    let refused = daemon.cli_as(1000, &["up", &folder, "--detach"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("/etc/shadow"), "{}", refused.stderr);

    // A folder on the way to which only root may pass, and a link to such a file.
    let hidden = daemon.folder().join("hidden/inner");
    std::fs::create_dir_all(&hidden).unwrap();
    std::fs::set_permissions(
        daemon.folder().join("hidden"),
        std::fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    let refused = daemon.cli_as(1000, &["up", hidden.to_str().unwrap(), "--detach"]);
    assert_ne!(refused.code, 0);
    let folder = project("linker", r#"{"image": "test:latest"}"#);
    std::fs::remove_file(format!("{folder}/.devcontainer/devcontainer.json")).unwrap();
    std::os::unix::fs::symlink(
        "/etc/shadow",
        format!("{folder}/.devcontainer/devcontainer.json"),
    )
    .unwrap();
    let refused = daemon.cli_as(1000, &["up", &folder, "--detach"]);
    assert_ne!(refused.code, 0);
    assert!(!refused.stderr.contains("root:"), "{}", refused.stderr);
}

#[test]
fn users_of_one_host_do_not_see_or_enter_each_others_environments() {
    let daemon = Daemon::start();
    daemon.import_image();
    open_to_all(&daemon);
    let folder = daemon.project("mine", r#"{"image": "test:latest"}"#);
    chown(&folder, Some(1000), Some(1000)).unwrap();
    daemon.cli_as(1000, &["up", &folder, "--detach"]).ok();
    assert_eq!(
        daemon.cli_as(1000, &["ls", "-o", "name"]).ok(),
        "environment/mine\n"
    );
    assert_eq!(daemon.cli_as(1001, &["ls", "-o", "name"]).ok(), "");
    for arguments in [
        vec!["exec", "mine", "--", "true"],
        vec!["logs", "mine"],
        vec!["stop", "mine"],
        vec!["rm", "-f", "mine"],
        vec!["describe", "mine"],
    ] {
        let refused = daemon.cli_as(1001, &arguments);
        assert_ne!(refused.code, 0, "{arguments:?}");
        assert!(
            refused.stderr.contains("may not"),
            "{arguments:?}: {}",
            refused.stderr
        );
    }
    let refused = daemon.cli_as(1000, &["image", "prune"]);
    assert!(
        refused.stderr.contains("administrators"),
        "{}",
        refused.stderr
    );
    daemon.cli_as(1000, &["exec", "mine", "--", "true"]).ok();
}

#[test]
fn who_may_not_connect_is_told_what_to_do() {
    let daemon = Daemon::start();
    std::fs::set_permissions(daemon.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = daemon.cli_as(4242, &["ls"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("group boatyard"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_terminal_inside_is_one_and_has_the_size_of_the_one_outside() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("app", r#"{"image": "test:latest"}"#);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    let direct = daemon.boatyard(&[]);
    let inner = format!(
        "stty rows 33 cols 101; {} exec app -- sh -c 'stty size; test -t 0 && echo terminal; exit 9'",
        direct.get_program().to_str().unwrap()
    );
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command", &inner, "/dev/null"])
        .stdin(Stdio::null());
    for (name, value) in direct.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let ran: Ran = command.output().unwrap().into();
    assert!(
        ran.stdout.contains("33 101") && ran.stdout.contains("terminal"),
        "{ran:?}"
    );
    assert_eq!(ran.code, 9);
}

#[test]
fn an_interrupted_up_leaves_nothing_behind() {
    let daemon = Daemon::start();
    daemon.import_image();
    let before = daemon.first_photo();
    let folder = daemon.project("app", r#"{"image": "test:latest", "onCreateCommand": "sleep 1000", "waitFor": "onCreateCommand"}"#);
    let mut child = daemon
        .boatyard(&["up", &folder, "--detach"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait::until("the command to run", || {
        daemon
            .cli(&["get", "env", "app", "-o", "json"])
            .stdout
            .contains("onCreateCommand under way")
            .then_some(())
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(daemon.photo_beside(&before), before);
}

#[test]
fn completions_and_man_pages_name_every_verb() {
    let daemon = Daemon::start();
    let script = daemon.cli(&["completions", "bash"]).ok();
    let pages = daemon.folder().join("man");
    daemon.cli(&["man", pages.to_str().unwrap()]).ok();
    for verb in [
        "up", "exec", "sh", "logs", "stop", "start", "restart", "rm", "describe", "get", "apply",
        "image", "doctor",
    ] {
        assert!(script.contains(verb), "{verb}");
        assert!(pages.join(format!("boatyard-{verb}.1")).exists(), "{verb}");
    }
}

#[test]
fn members_build_of_their_own_files_under_names_of_their_own() {
    let daemon = Daemon::start();
    daemon.import_image();
    open_to_all(&daemon);
    let folder = daemon.folder().join("context");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write(
        "Dockerfile",
        "FROM test:latest\nRUN id -u > /who\nCOPY file /\n",
    );
    write("file", "theirs\n");
    let folder_text = folder.to_str().unwrap();
    let build = |more: &[&str]| {
        let arguments: Vec<&str> = ["build", folder_text].iter().chain(more).copied().collect();
        daemon.cli_as(1000, &arguments)
    };
    let built = build(&[]);
    assert!(built.stderr.contains("RUN id -u"), "{built:?}");
    assert!(built.ok().starts_with("boatyard.local/u1000/"));
    build(&["-t", "boatyard.local/u1000/mine:1"]).ok();
    let config = r#"{"image": "boatyard.local/u1000/mine:1"}"#;
    let project = daemon.project("of-it", config);
    chown(&project, Some(1000), Some(1000)).unwrap();
    daemon.cli_as(1000, &["up", &project, "--detach"]).ok();
    let said = daemon
        .cli_as(1000, &["exec", "of-it", "--", "cat", "/who", "/file"])
        .ok();
    assert_eq!(said, "0\ntheirs\n");
    // Their environments' images are built for them to see, too.
    let config = r#"{"dockerFile": "Dockerfile"}"#;
    let seen = daemon.project("seen", config);
    std::fs::write(
        format!("{seen}/.devcontainer/Dockerfile"),
        "FROM test:latest\nRUN echo shown\n",
    )
    .unwrap();
    let up = daemon.cli_as(1000, &["up", &seen, "--detach"]);
    assert!(up.stderr.contains(" shown\n"), "{up:?}");
    up.ok();

    // Names that others use, the machine's credentials, and files that are not theirs.
    let foreign = build(&["-t", "test:latest"]);
    assert!(
        foreign.stderr.contains("boatyard.local/u1000/test:latest"),
        "{foreign:?}"
    );
    let another = build(&["-t", "boatyard.local/u1001/mine:1"]);
    assert_ne!(another.code, 0);
    let pushed = build(&["-t", "boatyard.local/u1000/mine:1", "--push"]);
    assert!(pushed.stderr.contains("credentials"), "{pushed:?}");
    std::fs::set_permissions(folder.join("file"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(build(&["--no-cache"]).code, 0);
    for verb in [
        &["image", "rm", "test:latest"][..],
        &["image", "prune"],
        &["image", "pull", "test:latest"],
    ] {
        let refused = daemon.cli_as(1000, verb);
        assert!(refused.stderr.contains("administrator"), "{refused:?}");
    }
    assert!(daemon.cli(&["image", "ls"]).ok().contains("test"));
}
