//! `boatyard build`, and `boatyard up` of a repository with a Dockerfile, from end to end.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_testkit::{Daemon, Registry};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn context(daemon: &Daemon, files: &[(&str, &str)]) -> PathBuf {
    let folder = daemon.folder().join("context");
    for (path, contents) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
    folder
}

const DOCKERFILE: &str = r#"
FROM test:latest AS builder
COPY source.txt /src/
RUN echo compiling; sed s/a/b/ /src/source.txt > /made.txt
FROM test:latest
ENV COLOUR=blue
COPY --from=builder /made.txt /opt/made.txt
RUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /opt/length
WORKDIR /opt
"#;

#[test]
fn a_dockerfile_is_built_shown_and_found_again() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = context(
        &daemon,
        &[
            ("Dockerfile", DOCKERFILE),
            ("source.txt", "abc\n"),
            ("unread.txt", "1"),
        ],
    );
    std::fs::write(daemon.folder().join("token"), "12345").unwrap();
    let secret = format!("id=token,src={}", daemon.folder().join("token").display());
    let build = || {
        daemon.cli(&[
            "build",
            folder.to_str().unwrap(),
            "-t",
            "mine:1",
            "--secret",
            &secret,
        ])
    };
    let first = build();
    let shown = first.stderr.clone();
    let name = first.ok();
    assert!(name.starts_with("mine:1 sha256:"), "{name}");
    for line in [
        "[builder 2/3] COPY source.txt /src/",
        " compiling\n",
        " DONE ",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let second = build();
    assert_eq!(
        second.stderr.matches(" CACHED\n").count(),
        5,
        "{}",
        second.stderr
    );
    assert_eq!(second.ok(), name);
    std::fs::write(folder.join("unread.txt"), "2").unwrap();
    assert_eq!(build().ok(), name);
    std::fs::write(folder.join("source.txt"), "aaa\n").unwrap();
    assert_ne!(build().ok(), name);
    let images = daemon.cli(&["image", "ls"]).ok();
    assert!(images.contains("mine:1"), "{images}");
}

#[test]
fn a_failed_step_is_told_with_its_line_and_last_words() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = context(
        &daemon,
        &[(
            "Dockerfile",
            "FROM test:latest\nRUN echo the reason; exit 7\n",
        )],
    );
    let ran = daemon.cli(&["build", folder.to_str().unwrap()]);
    assert_ne!(ran.code, 0);
    for words in ["Dockerfile:2:1", "exit code 7", "the reason"] {
        assert!(ran.stderr.contains(words), "{words:?} in {}", ran.stderr);
    }
    std::fs::write(folder.join("Dockerfile"), "FROM test:latest\nRUM true\n").unwrap();
    let ran = daemon.cli(&["build", folder.to_str().unwrap()]);
    assert!(ran.stderr.contains("Dockerfile:2"), "{}", ran.stderr);
}

#[test]
fn what_the_caller_may_not_read_is_not_built_from() {
    let daemon = Daemon::start();
    daemon.import_image();
    let everybody = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(daemon.folder(), everybody(0o755)).unwrap();
    std::fs::set_permissions(daemon.socket(), everybody(0o666)).unwrap();
    let folder = daemon.project("theirs", r#"{"build": {"dockerfile": "Dockerfile"}}"#);
    let place = Path::new(&folder).join(".devcontainer");
    let dockerfile = "FROM test:latest\nCOPY secret /\n";
    std::fs::write(place.join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(place.join("secret"), "root's").unwrap();
    std::fs::set_permissions(place.join("secret"), everybody(0o600)).unwrap();
    let arguments = ["up", &*folder, "--detach"];
    let refused = daemon.cli_as(1000, &arguments);
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("ermission denied"),
        "{}",
        refused.stderr
    );
    // It is the caller's rights that are missing: root's suffice.
    daemon
        .cli(&["up", &folder, "--detach", "--name", "roots"])
        .ok();
}

#[test]
fn a_repository_with_a_dockerfile_comes_up() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project(
        "built",
        r#"{"build": {"dockerfile": "Dockerfile", "context": "..", "args": {"WORD": "from-${localWorkspaceFolderBasename}"}}, "remoteUser": "dev"}"#,
    );
    let folder = Path::new(&folder);
    let dockerfile = "FROM test:latest\nARG WORD\nRUN echo $WORD > /word\nCOPY file.txt /\n";
    std::fs::write(folder.join(".devcontainer/Dockerfile"), dockerfile).unwrap();
    std::fs::write(folder.join("file.txt"), "file").unwrap();
    let up = daemon.cli(&[
        "up",
        folder.to_str().unwrap(),
        "--detach",
        "--name",
        "built",
    ]);
    let shown = up.stderr.clone();
    up.ok();
    assert!(shown.contains("RUN echo"), "{shown}");
    assert_eq!(
        daemon.sh("built", "cat /word /file.txt; id -u").ok(),
        "from-built\nfile1000\n"
    );
    // The environment's own step found everything made.
    let logs = daemon.cli(&["logs", "built"]).ok();
    assert!(logs.contains("cached"), "{logs}");
    // What cannot be built leaves no environment.
    let other = daemon.project("broken", r#"{"dockerFile": "Dockerfile"}"#);
    std::fs::write(
        Path::new(&other).join(".devcontainer/Dockerfile"),
        "FROM test:latest\nRUN exit 9\n",
    )
    .unwrap();
    let up = daemon.cli(&["up", &other, "--detach"]);
    assert_ne!(up.code, 0);
    assert!(up.stderr.contains("exit code 9"), "{}", up.stderr);
    let listed = daemon.cli(&["ls"]).ok();
    assert!(!listed.contains("broken"), "{listed}");
}

#[test]
fn what_takes_an_environments_place_is_built_before_it_goes() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("kept", r#"{"dockerFile": "Dockerfile"}"#);
    let dockerfile = Path::new(&folder).join(".devcontainer/Dockerfile");
    let write = |text: &str| std::fs::write(&dockerfile, text).unwrap();
    write("FROM test:latest\nRUN echo one > /built\n");
    daemon.cli(&["up", &folder, "--detach"]).ok();
    daemon.sh("kept", "touch /own").ok();
    // As it is, it is used; built again only when that is asked for.
    write("FROM test:latest\nRUN exit 7\n");
    daemon.cli(&["up", &folder, "--detach"]).ok();
    let refused = [
        daemon.cli(&["up", &folder, "--detach", "--rebuild"]),
        daemon.cli(&[
            "devcontainer",
            "up",
            "--workspace-folder",
            &folder,
            "--remove-existing-container",
        ]),
    ];
    for refused in refused {
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains("exit code 7"), "{refused:?}");
        daemon.sh("kept", "test -e /own && grep one /built").ok();
    }
    write("FROM test:latest\nRUN echo two > /built\n");
    daemon.cli(&["up", &folder, "--detach", "--rebuild"]).ok();
    daemon.sh("kept", "test -e /own && grep two /built").ok();
    let replaced = daemon.cli(&[
        "devcontainer",
        "up",
        "--workspace-folder",
        &folder,
        "--remove-existing-container",
    ]);
    replaced.ok();
    daemon.sh("kept", "test ! -e /own && grep two /built").ok();
}

#[test]
fn a_script_of_100_kib_runs_and_says_how_it_ended() {
    let daemon = Daemon::start();
    daemon.import_image();
    let build = |last: &str| {
        let lines = "# a line that makes it long\n".repeat(4000);
        let text = format!(
            "FROM test:latest\nRUN <<END\nset -e\nA=set\n{lines}echo value $A >&2\n{last}\nEND\nRUN test ! -e /dev/boatyard-script\n"
        );
        let folder = context(&daemon, &[("Dockerfile", &text)]);
        daemon.cli(&["build", folder.to_str().unwrap(), "-t", "long:1"])
    };
    let built = build("true");
    assert!(built.stderr.contains(" value set\n"), "{built:?}");
    built.ok();
    let failed = build("exit 3");
    assert!(failed.stderr.contains("exit code 3"), "{failed:?}");
}

#[test]
fn a_step_speaks_to_the_callers_ssh_agent_and_to_no_other() {
    use std::io::{Read as _, Write as _};
    let mut daemon = Daemon::prepare();
    boatyard_testkit::development::provide(&daemon);
    daemon.run(&[]);
    let text = format!(
        "FROM {}\nRUN --mount=type=ssh perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un($ENV{{SSH_AUTH_SOCK}})) or die; syswrite S, \"ping\"; sysread S, $b, 9; print \"said $b\\n\"'\nRUN test -z \"$SSH_AUTH_SOCK\"\n",
        boatyard_testkit::development::IMAGE
    );
    let folder = context(&daemon, &[("Dockerfile", &text)]);
    let folder = folder.to_str().unwrap();
    let without = daemon.cli(&["build", folder, "-t", "ssh:1"]);
    assert_ne!(without.code, 0);
    let socket = daemon.folder().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(b"pong").unwrap();
        word
    });
    let mut build = daemon.boatyard(&["build", folder, "-t", "ssh:1", "--ssh", "default"]);
    build.env("SSH_AUTH_SOCK", &socket);
    let built = boatyard_testkit::Ran::from(build.output().unwrap());
    assert!(built.stderr.contains(" said pong\n"), "{built:?}");
    built.ok();
    assert_eq!(&agent.join().unwrap(), b"ping");
    let mut none = daemon.boatyard(&["build", folder, "--ssh", "default"]);
    none.env_remove("SSH_AUTH_SOCK");
    let none = boatyard_testkit::Ran::from(none.output().unwrap());
    assert!(none.stderr.contains("SSH_AUTH_SOCK is not set"), "{none:?}");
}

#[test]
fn a_built_image_is_written_to_an_archive_as_well() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project("out", r#"{"dockerFile": "Dockerfile"}"#);
    let place = Path::new(&folder);
    std::fs::write(
        place.join(".devcontainer/Dockerfile"),
        "FROM test:latest\nRUN echo out > /out\n",
    )
    .unwrap();
    let (one, other) = (place.join("one.tar"), place.join("other.tar"));
    let output = |file: &Path| format!("type=oci,dest={}", file.display());
    daemon
        .cli(&[
            "build",
            &format!("{folder}/.devcontainer"),
            "-t",
            "out:1",
            "--output",
            &output(&one),
        ])
        .ok();
    let build = [
        "devcontainer",
        "build",
        "--workspace-folder",
        &folder,
        "--output",
        &output(&other),
    ];
    daemon.cli(&build).ok();
    for file in [one, other] {
        let tag = ["image", "import", file.to_str().unwrap(), "--tag", "back:1"];
        daemon.cli(&tag).ok();
        let project = daemon.project("back", r#"{"image": "back:1"}"#);
        daemon.cli(&["up", &project, "--detach"]).ok();
        assert_eq!(daemon.sh("back", "cat /out").ok(), "out\n");
        daemon.cli(&["rm", "--force", "back"]).ok();
    }
}

#[test]
fn a_built_images_files_are_written_as_a_tar_and_into_a_folder() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.folder().join("files");
    std::fs::create_dir(&folder).unwrap();
    let text = "FROM scratch
COPY . /kept/
COPY --chmod=700 tool /kept/tool
COPY tool /gone/
";
    std::fs::write(folder.join("Dockerfile"), text).unwrap();
    std::fs::write(folder.join(".dockerignore"), "Dockerfile\n.dockerignore\n").unwrap();
    std::fs::write(folder.join("tool"), "tool\n").unwrap();
    std::os::unix::fs::symlink("tool", folder.join("link")).unwrap();
    let (tar, out) = (folder.join("../out.tar"), folder.join("../out"));
    daemon
        .cli(&[
            "build",
            folder.to_str().unwrap(),
            "--output",
            &format!("type=tar,dest={}", tar.display()),
            "--output",
            out.to_str().unwrap(),
        ])
        .ok();
    let mut names = Vec::new();
    let mut archive = tar::Archive::new(std::fs::File::open(&tar).unwrap());
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        names.push(entry.path().unwrap().display().to_string());
    }
    let wanted = ["gone/", "gone/tool", "kept/", "kept/link", "kept/tool"];
    assert_eq!(names, wanted);
    let mode = std::fs::metadata(out.join("kept/tool"))
        .unwrap()
        .permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o700
    );
    assert_eq!(
        std::fs::read_to_string(out.join("gone/tool")).unwrap(),
        "tool\n"
    );
    assert_eq!(
        std::fs::read_link(out.join("kept/link")).unwrap(),
        Path::new("tool")
    );
    // Nothing of the way there is left.
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2);
}

#[test]
fn a_failed_hook_is_tried_again_by_the_next_up() {
    let daemon = Daemon::start();
    daemon.import_image();
    let config = |command: &str| {
        format!(r#"{{"image": "test:latest", "onCreateCommand": "echo tried >> /log; {command}"}}"#)
    };
    let folder = daemon.project("hooked", &config("test -e mended"));
    let up = daemon.cli(&["up", &folder, "--detach"]);
    assert_ne!(up.code, 0);
    for part in [
        "onCreateCommand",
        "boatyard logs hooked",
        "`boatyard up` again",
    ] {
        assert!(up.stderr.contains(part), "{part:?}: {}", up.stderr);
    }
    std::fs::write(Path::new(&folder).join("mended"), "").unwrap();
    daemon.cli(&["up", &folder, "--detach"]).ok();
    assert_eq!(daemon.sh("hooked", "cat /log").ok(), "tried\ntried\n");
}

#[test]
fn a_pushed_image_is_read_by_other_tools_and_pulled_again() {
    let daemon = Daemon::start();
    daemon.import_image();
    let registry = Registry::start();
    let folder = context(
        &daemon,
        &[
            (
                "Dockerfile",
                "FROM test:latest\nCOPY f /pushed\nLABEL it=mine\n",
            ),
            ("f", "f"),
        ],
    );
    let name = format!("{}/team/mine:1", registry.address());
    let push = || daemon.cli(&["build", folder.to_str().unwrap(), "-t", &name, "--push"]);
    let first = push();
    assert!(first.stderr.contains("push 127.0.0.1"), "{}", first.stderr);
    first.ok();
    let seen = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", &format!("docker://{name}")])
        .output()
        .unwrap();
    let seen = String::from_utf8(seen.stdout).unwrap();
    assert!(seen.contains("\"it\": \"mine\""), "{seen}");
    // Nothing is sent twice.
    push().ok();
    daemon.cli(&["image", "rm", &name]).ok();
    daemon.cli(&["image", "pull", &name]).ok();
}

#[test]
fn a_registry_gives_another_machine_the_steps_of_this_one() {
    let registry = Registry::start();
    let cache = format!("{}/team/cache:1", registry.address());
    let dockerfile = "FROM test:latest\nRUN echo built > /by-a-process\nCOPY f /f\n";
    let files = [("Dockerfile", dockerfile), ("f", "f")];
    let first = Daemon::start();
    first.import_image();
    let folder = context(&first, &files);
    let to = format!("type=registry,ref={cache},mode=max");
    let arguments = ["build", folder.to_str().unwrap(), "-t", "mine:1"];
    let name = first
        .cli(&[&arguments[..], &["--cache-to", &to]].concat())
        .ok();
    let second = Daemon::start();
    second.import_image();
    let folder = context(&second, &files);
    let arguments = ["build", folder.to_str().unwrap(), "-t", "mine:1"];
    let missing = format!("{}/team/nothing:1", registry.address());
    let ran = second.cli(
        &[
            &arguments[..],
            &["--cache-from", &missing, "--cache-from", &cache],
        ]
        .concat(),
    );
    assert_eq!(ran.stderr.matches(" CACHED\n").count(), 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("no cache: "), "{}", ran.stderr);
    // The very same image, without its steps having run here.
    assert_eq!(ran.ok(), name);
    // And an image like any other to other tools.
    let seen = Command::new("skopeo")
        .args([
            "inspect",
            "--tls-verify=false",
            &format!("docker://{cache}"),
        ])
        .output()
        .unwrap();
    assert!(
        seen.status.success(),
        "{}",
        String::from_utf8_lossy(&seen.stderr)
    );
}

#[test]
fn a_configurations_steps_and_those_of_its_features_are_kept_in_a_registry_together() {
    let registry = Registry::start();
    let cache = format!("type=registry,ref={}/team/cache:1", registry.address());
    let build = |daemon: &Daemon, how: &str| {
        daemon.import_image();
        let config = r#"{"build": {"dockerfile": "Dockerfile"}, "features": {"./tool": {}}}"#;
        let folder = daemon.project("app", config);
        let at = |name: &str| Path::new(&folder).join(".devcontainer").join(name);
        std::fs::create_dir_all(at("tool")).unwrap();
        let text = "FROM test:latest\nRUN echo built > /by-a-process\n";
        std::fs::write(at("Dockerfile"), text).unwrap();
        let feature = r#"{"id": "tool", "version": "1.0.0", "name": "tool"}"#;
        std::fs::write(at("tool/devcontainer-feature.json"), feature).unwrap();
        let install = "#!/bin/sh\necho installed > /tool\n";
        std::fs::write(at("tool/install.sh"), install).unwrap();
        let arguments = ["devcontainer", "build", "--workspace-folder", &folder];
        let named = ["--image-name", "made:1", how, &cache];
        daemon.cli(&[&arguments[..], &named].concat())
    };
    let (first, second) = (Daemon::start(), Daemon::start());
    build(&first, "--cache-to").ok();
    let ran = build(&second, "--cache-from");
    assert_eq!(ran.stderr.matches(" CACHED\n").count(), 2, "{}", ran.stderr);
    ran.ok();
    let folder = second.project("made", r#"{"image": "made:1"}"#);
    second.cli(&["up", &folder, "--detach"]).ok();
    let seen = second.sh("made", "cat /by-a-process /tool").ok();
    assert_eq!(seen, "built\ninstalled\n");
}
