//! A project nobody here wrote: its own devcontainer.json, unedited, opened, built and tested.
//!
//! The project is the crate `oci-spec`, whose package carries its `.devcontainer` folder. The
//! image it names comes from a registry on loopback, under the same name: Debian with a Rust
//! toolchain, the user `vscode` and the label that tells tools to be that user, as the named
//! image has. Package and image are kept in `~/.cache/boatyard/test`.
//!
//! Also here: repositories of a git server that lives in a network namespace of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::amend::{self, User, hex_digest};
use boatyard_testkit::development::cache;
use boatyard_testkit::{Daemon, Registry, wait};
use rustix::process::{Pid, Signal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "oci-spec";
const VERSION: &str = "0.10.0";
const CHECKSUM: &str = "3df6f876ad774d6a676f7e968f5c3edacc32f90e65fe680a8b686235396556fb";
const IMAGE: &str = "devcontainers/rust:1-bullseye";
const BASE: &str = "debian:trixie";
const PACKAGES: [&str; 5] = ["cargo", "rustc", "gcc", "libc6-dev", "ca-certificates"];
/// What this host trusts: behind an inspecting proxy, an image has to trust it too.
const TRUST: &str = "/etc/ssl/certs/ca-certificates.crt";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The pinned package, fetched with cargo, as it was published.
fn package(cache: &Path, scratch: &Path) -> PathBuf {
    let name = format!("{PACKAGE}-{VERSION}.crate");
    let kept = cache.join(&name);
    let sound = |path: &Path| std::fs::read(path).is_ok_and(|data| hex_digest(&data) == CHECKSUM);
    if sound(&kept) {
        return kept;
    }
    let project = scratch.join("fetch");
    let home = scratch.join("cargo");
    std::fs::create_dir_all(&project).unwrap();
    std::fs::write(
        project.join("Cargo.toml"),
        format!(
            "[package]\nname = \"fetch\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[dependencies]\n{PACKAGE} = \"={VERSION}\"\n[workspace]\n"
        ),
    )
    .unwrap();
    std::fs::write(project.join("lib.rs"), "").unwrap();
    run(Command::new("cargo")
        .arg("fetch")
        .current_dir(&project)
        .env("CARGO_HOME", &home));
    let registries = std::fs::read_dir(home.join("registry/cache")).unwrap();
    let fetched = registries
        .map(|registry| registry.unwrap().path().join(&name))
        .find(|path| path.exists())
        .unwrap();
    assert!(sound(&fetched), "{name} is not the package that was pinned");
    std::fs::copy(&fetched, &kept).unwrap();
    kept
}

/// An OCI layout of what stands for the named image.
fn image(cache: &Path) -> PathBuf {
    let recipe = format!(
        "3 {BASE} {PACKAGES:?} {}",
        hex_digest(&std::fs::read(TRUST).unwrap())
    );
    let kept = cache.join(format!("image-{}", &hex_digest(recipe.as_bytes())[..16]));
    if kept.exists() {
        return kept;
    }
    let making = tempfile::Builder::new()
        .prefix("making-")
        .tempdir_in(cache)
        .unwrap();
    let layout = making.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    let daemon = Daemon::start();
    let mut bootstrap = vec!["image", "bootstrap", BASE];
    for package in PACKAGES {
        bootstrap.extend(["--include", package]);
    }
    daemon.cli(&bootstrap).ok();
    let archive = making.path().join("base.tar");
    daemon
        .cli(&["image", "export", BASE, archive.to_str().unwrap()])
        .ok();
    run(Command::new("tar")
        .arg("-xf")
        .arg(&archive)
        .arg("-C")
        .arg(&layout));

    let trust = (TRUST.trim_start_matches('/'), std::fs::read(TRUST).unwrap());
    let user = User {
        name: "vscode",
        id: 1000,
        skeleton: &[],
    };
    amend::amend(
        &layout,
        |below| amend::user_layer(below, &user, &[trust]),
        |config| {
            config["Labels"]["devcontainer.metadata"] = r#"[{"remoteUser": "vscode"}]"#.into();
        },
    );
    // Skopeo compresses on the way, once for all runs.
    let compressed = making.path().join("compressed");
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}:latest", layout.display()))
        .arg(format!("oci:{}:latest", compressed.display())));
    std::fs::rename(&compressed, &kept).unwrap();
    kept
}

#[test]
fn a_foreign_project_comes_up_from_its_own_configuration_builds_and_passes_its_tests() {
    let scratch = tempfile::Builder::new()
        .prefix("boatyard-test-foreign-")
        .tempdir()
        .unwrap();
    let (cache, lock) = cache("foreign.lock");
    let package = package(&cache, scratch.path());
    let layout = image(&cache);
    drop(lock);
    let registry = Registry::start();
    registry.push(&format!("oci:{}:latest", layout.display()), IMAGE);
    let daemon = Daemon::start_with(&["--mirror", &registry.mirror("mcr.microsoft.com")]);
    run(Command::new("tar")
        .args(["--no-same-owner", "-xzf"])
        .arg(&package)
        .arg("-C")
        .arg(scratch.path()));
    let folder = scratch.path().join(format!("{PACKAGE}-{VERSION}"));
    let configuration =
        std::fs::read_to_string(folder.join(".devcontainer/devcontainer.json")).unwrap();
    assert!(configuration.contains(&format!("\"image\": \"mcr.microsoft.com/{IMAGE}\"")));

    let folder_text = folder.to_str().unwrap();
    daemon
        .cli(&["up", folder_text, "--detach", "--name", "foreign"])
        .ok();
    wait::until("the registry to note what it was asked for", || {
        let log = registry.log();
        log.contains("/v2/devcontainers/rust/blobs/").then_some(())
    });
    assert_eq!(
        daemon.sh("foreign", "id -un; echo $HOME").ok(),
        "vscode\n/home/vscode\n"
    );

    daemon
        .cli(&["exec", "foreign", "--", "cargo", "build", "--locked"])
        .ok();
    let tested = daemon
        .cli(&["exec", "foreign", "--", "cargo", "test", "--locked"])
        .ok();
    let results: Vec<&str> = tested
        .lines()
        .filter(|line| line.starts_with("test result: "))
        .collect();
    assert!(
        !results.is_empty()
            && results
                .iter()
                .all(|line| line.starts_with("test result: ok.")),
        "{tested}"
    );
    let passed = tested
        .lines()
        .filter(|line| line.ends_with(" ... ok"))
        .count();
    assert!(passed > 50, "{passed} tests passed\n{tested}");

    // What was built inside belongs to the caller outside.
    let caller = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    for made in ["target", "target/debug", "target/debug/liboci_spec.rlib"] {
        let made = std::fs::metadata(folder.join(made)).unwrap();
        assert_eq!((made.uid(), made.gid()), caller);
    }
    assert_eq!(
        std::fs::read_to_string(folder.join(".devcontainer/devcontainer.json")).unwrap(),
        configuration
    );
}

/// `git daemon` in a network namespace of its own, reached over a routed address: environments
/// reach no address of the host.
struct GitServer {
    namespace: String,
    address: String,
    child: std::process::Child,
}

impl GitServer {
    fn start(repositories: &Path) -> Self {
        let pid = std::process::id();
        let namespace = format!("boatyard-test-git-{pid}");
        let (outside, inside) = (format!("byg{pid}a"), format!("byg{pid}b"));
        // From the range for benchmarks of networks, which nobody routes.
        let block = pid % 0x4000 * 4;
        let network = format!("198.{}.{}", 18 + block / 0x8000 % 2, block / 256 % 256);
        let (ours, theirs) = (block % 256 + 1, block % 256 + 2);
        let ip = |line: String| {
            run(Command::new("ip").args(line.split(' ')));
        };
        ip(format!("netns add {namespace}"));
        ip(format!(
            "link add {outside} type veth peer name {inside} netns {namespace}"
        ));
        ip(format!("addr add {network}.{ours}/30 dev {outside}"));
        ip(format!("link set {outside} up"));
        ip(format!(
            "-n {namespace} addr add {network}.{theirs}/30 dev {inside}"
        ));
        ip(format!("-n {namespace} link set {inside} up"));
        ip(format!("-n {namespace} link set lo up"));
        ip(format!(
            "-n {namespace} route add default via {network}.{ours}"
        ));
        let address = format!("{network}.{theirs}");
        let exec_path = run(Command::new("git").arg("--exec-path"));
        let child = Command::new("ip")
            .args(["netns", "exec", &namespace])
            .arg(Path::new(exec_path.trim()).join("git-daemon"))
            .args(["--export-all", "--reuseaddr"])
            .arg(format!("--listen={address}"))
            .arg(format!("--base-path={}", repositories.display()))
            .arg(repositories)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            namespace,
            address,
            child,
        };
        wait::until("the git server", || {
            std::net::TcpStream::connect((server.address.as_str(), 9418)).ok()
        });
        server
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The link goes with the namespace.
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.namespace])
            .status();
    }
}

/// A bare repository with the branches `main` and `feature/x`.
fn repository(folder: &Path) {
    let work = folder.join("work");
    std::fs::create_dir_all(work.join(".devcontainer")).unwrap();
    std::fs::write(
        work.join(".devcontainer/devcontainer.json"),
        r#"{"image": "test:latest", "waitFor": "postCreateCommand", "postCreateCommand": "cat branch > /tmp/made"}"#,
    )
    .unwrap();
    let git = |arguments: &[&str]| {
        run(Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org"])
            .args(arguments)
            .current_dir(&work));
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    for branch in ["main", "feature/x"] {
        if branch != "main" {
            git(&["checkout", "--quiet", "-b", branch]);
        }
        std::fs::write(work.join("branch"), format!("{branch}\n")).unwrap();
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", branch]);
    }
    git(&["checkout", "--quiet", "main"]);
    git(&["clone", "--quiet", "--bare", ".", "../tool.git"]);
}

#[test]
fn a_repository_s_branch_is_cloned_and_opened_and_a_missing_one_is_told() {
    let daemon = Daemon::start();
    daemon.import_image();
    let before = daemon.first_photo();
    let repositories = daemon.folder().join("repositories");
    repository(&repositories);
    let server = GitServer::start(&repositories);
    let url = format!("git://{}/tool.git", server.address);
    daemon.cli(&["up", &url, "--detach"]).ok();
    assert_eq!(
        daemon.sh("tool", "cat branch /tmp/made").ok(),
        "main\nmain\n"
    );
    let branch = format!("{url}#feature/x");
    daemon
        .cli(&["up", &branch, "--detach", "--name", "branch"])
        .ok();
    assert_eq!(
        daemon
            .sh(
                "branch",
                "cat branch; head -n1 .git/HEAD; touch new; stat -c %U new branch"
            )
            .ok(),
        "feature/x\nref: refs/heads/feature/x\nroot\nroot\n"
    );
    let missing = format!("{url}#no-such-branch");
    let failed = daemon.cli(&["up", &missing, "--detach", "--name", "missing"]);
    assert_ne!(failed.code, 0);
    assert!(
        failed.stderr.contains("no-such-branch"),
        "{}",
        failed.stderr
    );
    for name in ["tool", "branch", "missing"] {
        daemon.cli(&["rm", "--force", name]).ok();
    }
    assert_eq!(daemon.photo_beside(&before), before);
}

#[test]
fn a_clone_that_nobody_waits_for_any_longer_ends() {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let before = daemon.first_photo();
    let server = GitServer::start(daemon.folder());
    // Its kernel takes connections, and nobody answers.
    let pid = Pid::from_raw(server.child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    let url = format!("git://{}/tool.git", server.address);
    let clones = |daemon: &Daemon| {
        wait::until("the clone", || {
            (!daemon.photo().processes.is_empty()).then_some(())
        });
    };
    let mut up = daemon.boatyard(&["up", &url, "--detach"]);
    let up = up.stderr(std::process::Stdio::piped()).spawn().unwrap();
    clones(&daemon);
    daemon.cli(&["stop", "tool"]).ok();
    let up = up.wait_with_output().unwrap();
    let said = String::from_utf8(up.stderr).unwrap();
    assert_eq!(up.status.code(), Some(1), "{said}");
    assert!(said.contains("tool was stopped meanwhile"), "{said}");
    wait::until("the clone to end", || {
        daemon.photo().processes.is_empty().then_some(())
    });

    // One of a runner that was killed, when it is not wanted any more.
    let mut up = daemon.boatyard(&["up", &url, "--detach"]).spawn().unwrap();
    clones(&daemon);
    daemon.kill();
    let _ = up.kill();
    up.wait().unwrap();
    assert!(!daemon.photo().processes.is_empty());
    daemon.run(&[]);
    daemon.cli(&["rm", "--force", "tool"]).ok();
    assert_eq!(daemon.photo_beside(&before), before);
}

#[test]
fn a_dockerfile_adds_what_others_serve_and_only_what_was_promised() {
    let daemon = Daemon::start();
    daemon.import_image();
    let repositories = daemon.folder().join("repositories");
    repository(&repositories);
    let server = GitServer::start(&repositories);
    std::fs::write(repositories.join("served.txt"), "served\n").unwrap();
    let packed = daemon.folder().join("packed");
    std::fs::create_dir(&packed).unwrap();
    let text = "FROM test:latest\nCOPY word /\nRUN cat /word\n";
    std::fs::write(packed.join("Dockerfile"), text).unwrap();
    std::fs::write(packed.join("word"), "from the archive\n").unwrap();
    run(Command::new("tar")
        .args(["-C", packed.to_str().unwrap(), "-czf"])
        .arg(repositories.join("context.tar.gz"))
        .arg("."));
    let mut web = Command::new("ip")
        .args([
            "netns",
            "exec",
            &server.namespace,
            "/bin/busybox",
            "httpd",
            "-f",
        ])
        .args(["-p", &format!("{}:80", server.address), "-h"])
        .arg(&repositories)
        .spawn()
        .unwrap();
    wait::until("the web server", || {
        std::net::TcpStream::connect((server.address.as_str(), 80)).ok()
    });
    let folder = daemon.folder().join("adds");
    std::fs::create_dir(&folder).unwrap();
    let sum = hex::encode(<sha2::Sha256 as sha2::Digest>::digest("served\n"));
    let build = |sum: &str, url: &str| {
        let dockerfile = format!(
            "FROM test:latest\nADD --checksum=sha256:{sum} {url} /got/\nADD git://{}/tool.git#feature/x /tool\nRUN cat /got/served.txt /tool/branch; ls -a /tool; stat -c %a /got/served.txt\n",
            server.address
        );
        std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        daemon.cli(&["build", folder.to_str().unwrap(), "-t", "added:1"])
    };
    let url = format!("http://{}/served.txt", server.address);
    let ran = build(&sum, &url);
    for line in [" served", " feature/x", " 600"] {
        assert!(ran.stderr.contains(line), "{line:?} in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains(" .git\n"), "{}", ran.stderr);
    ran.ok();
    // An archive there is a build context, a single file is none.
    let of = |file: &str| {
        let url = format!("http://{}/{file}", server.address);
        daemon.cli(&["build", &url, "-t", "archive:1"])
    };
    let ran = of("context.tar.gz");
    assert!(ran.stderr.contains(" from the archive\n"), "{ran:?}");
    ran.ok();
    let refused = of("served.txt");
    assert!(refused.stderr.contains("is no tar archive"), "{refused:?}");
    let wrong = build(&"0".repeat(64), &url);
    assert_ne!(wrong.code, 0);
    assert!(wrong.stderr.contains(&sum), "{}", wrong.stderr);
    // What was promised and is here is not fetched again.
    web.kill().unwrap();
    web.wait().unwrap();
    build(&sum, &url).ok();
    // The host's own services are out of reach, as for every step.
    let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let own = format!("http://{}/served.txt", here.local_addr().unwrap());
    let refused = build(&"1".repeat(64), &own);
    assert!(
        refused.stderr.contains("cannot be fetched"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_repository_is_a_build_context() {
    let daemon = Daemon::start();
    daemon.import_image();
    let repositories = daemon.folder().join("repositories");
    repository(&repositories);
    let work = repositories.join("work");
    let git = |arguments: &[&str]| {
        run(Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org"])
            .args(arguments)
            .current_dir(&work));
    };
    std::fs::create_dir(work.join("sub")).unwrap();
    std::fs::write(work.join("sub/.dockerignore"), "hidden\n").unwrap();
    std::fs::write(work.join("sub/hidden"), "").unwrap();
    std::fs::write(
        work.join("sub/Dockerfile"),
        "FROM test:latest\nCOPY . /all\nCOPY --from=more branch /more\nRUN ls /all; cat /more\n",
    )
    .unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "built"]);
    git(&["push", "--quiet", "../tool.git", "main"]);
    let server = GitServer::start(&repositories);
    let url = format!("git://{}/tool.git", server.address);
    let built = daemon.cli(&[
        "build",
        &format!("{url}#main:sub"),
        "-t",
        "cloned:1",
        "--build-context",
        &format!("more={url}#feature/x"),
    ]);
    for line in [" Dockerfile\n", " feature/x\n"] {
        assert!(built.stderr.contains(line), "{line:?} in {}", built.stderr);
    }
    assert!(!built.stderr.contains(" hidden\n"), "{}", built.stderr);
    built.ok();
    let refused = daemon.cli(&["build", "ftp://example.org/x"]);
    assert!(refused.stderr.contains("neither a folder"), "{refused:?}");
    let staged = std::fs::read_dir(daemon.state().join("images/staging")).unwrap();
    assert_eq!(staged.count(), 0, "what was fetched is gone");
}

#[test]
fn a_clone_sees_no_repository_of_the_host() {
    let daemon = Daemon::start();
    let repositories = daemon.folder().join("repositories");
    repository(&repositories);
    let url = format!("file://{}/tool.git", repositories.display());
    let failed = daemon.cli(&["up", &url, "--detach"]);
    assert_ne!(failed.code, 0);
    assert!(
        failed.stderr.contains(&url)
            && failed
                .stderr
                .contains("does not appear to be a git repository"),
        "{}",
        failed.stderr
    );
}

#[test]
fn images_come_from_a_registry_by_its_address_and_through_a_mirror() {
    let registry = Registry::start();
    let daemon = Daemon::start_with(&["--mirror", &registry.mirror("registry.example")]);
    daemon.import_image();
    let archive = daemon.folder().join("exported.tar");
    daemon
        .cli(&["image", "export", "test:latest", archive.to_str().unwrap()])
        .ok();
    let from = format!("oci-archive:{}", archive.display());
    registry.push(&from, "team/tool:1");

    let direct = format!("{}/team/tool:1", registry.address());
    for reference in ["registry.example/team/tool:1", &direct] {
        daemon.cli(&["image", "pull", reference]).ok();
        let name = reference.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let folder = daemon.project(&name, &format!(r#"{{"image": "{reference}"}}"#));
        daemon
            .cli(&["up", &folder, "--detach", "--name", &name])
            .ok();
        assert_eq!(daemon.sh(&name, "echo $FROM_IMAGE").ok(), "yes\n");
    }
    let missing = daemon.cli(&["image", "pull", "registry.example/team/other:1"]);
    assert_ne!(missing.code, 0);
    assert!(missing.stderr.contains("team/other"), "{missing:?}");
}
