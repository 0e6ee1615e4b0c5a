//! A real kubectl on the API: what a platform engineer does with it.
//!
//! The binary is `BOATYARD_KUBECTL`, or the one the set-up leaves in the cache directory.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_testkit::{Daemon, Ran, wait};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

struct Kubectl<'a> {
    daemon: &'a Daemon,
    binary: PathBuf,
}

impl<'a> Kubectl<'a> {
    fn to(daemon: &'a Daemon) -> Self {
        let cached = || {
            PathBuf::from(std::env::var_os("HOME").unwrap())
                .join(".cache/boatyard/tools/kubectl-v36")
        };
        let binary = std::env::var_os("BOATYARD_KUBECTL").map_or_else(cached, PathBuf::from);
        assert!(
            binary.exists(),
            "{} is missing: run `cargo xtask setup test`",
            binary.display()
        );
        Self { daemon, binary }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--kubeconfig")
            .arg(self.daemon.state().join("server/admin.kubeconfig"));
        command
            .arg("--cache-dir")
            .arg(self.daemon.folder().join("kubectl-cache"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.daemon.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

const ENVIRONMENT: &str = "apiVersion: boatyard.dev/v1
kind: Environment
metadata: {name: web, labels: {tier: front}}
spec:
  devcontainer: {image: test:latest}
";

#[test]
fn applies_waits_watches_describes_and_deletes() {
    let daemon = Daemon::start_with(&["--listen", "127.0.0.1:0"]);
    daemon.import_image();
    let kubectl = Kubectl::to(&daemon);
    let mut watch = kubectl
        .command(&["get", "environments", "-w", "--no-headers"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let file = kubectl.file("environment.yaml", ENVIRONMENT);
    assert_eq!(
        kubectl.run(&["apply", "-f", &file]).ok(),
        "environment.boatyard.dev/web created\n"
    );
    let waited = kubectl
        .run(&["wait", "--for=condition=Ready", "env/web", "--timeout=60s"])
        .ok();
    assert!(waited.contains("condition met"), "{waited}");
    let mut seen = String::new();
    for line in BufReader::new(watch.stdout.take().unwrap()).lines() {
        seen.push_str(&line.unwrap());
        seen.push('\n');
        if seen.contains("Running") {
            break;
        }
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(seen.starts_with("web "), "{seen}");

    let table = kubectl
        .run(&["get", "env", "-l", "tier in (front)", "-o", "wide"])
        .ok();
    assert!(
        table.contains("NAME") && table.contains("PHASE") && table.contains("test:latest"),
        "{table}"
    );
    assert_eq!(
        kubectl.run(&["apply", "-f", &file]).ok(),
        "environment.boatyard.dev/web unchanged\n"
    );
    let changed = kubectl.file("changed.yaml", &ENVIRONMENT.replace("front", "back"));
    assert_eq!(
        kubectl.run(&["apply", "-f", &changed]).ok(),
        "environment.boatyard.dev/web configured\n"
    );
    assert_eq!(
        kubectl
            .run(&["get", "env", "-l", "tier=back", "-o", "name"])
            .ok(),
        "environment.boatyard.dev/web\n"
    );
    let described = kubectl.run(&["describe", "env", "web"]).ok();
    assert!(
        described.contains("Remote User:")
            && described.contains("Events:")
            && described.contains("Running"),
        "{described}"
    );

    kubectl
        .run(&[
            "patch",
            "env",
            "web",
            "--type=merge",
            "-p",
            r#"{"spec":{"state":"Stopped"}}"#,
        ])
        .ok();
    kubectl
        .run(&[
            "wait",
            "--for=jsonpath={.status.phase}=Stopped",
            "env/web",
            "--timeout=60s",
        ])
        .ok();
    kubectl
        .run(&[
            "patch",
            "env",
            "web",
            "--type=json",
            "-p",
            r#"[{"op":"add","path":"/metadata/annotations","value":{"a":"b"}}]"#,
        ])
        .ok();
    kubectl.run(&["label", "env", "web", "extra=1"]).ok();
    assert_eq!(
        kubectl
            .run(&[
                "get",
                "env",
                "web",
                "-o",
                "jsonpath={.metadata.labels.extra}{.metadata.annotations.a}"
            ])
            .ok(),
        "1b"
    );
    assert_eq!(
        kubectl.run(&["delete", "env", "web", "--timeout=60s"]).code,
        0
    );
    assert_eq!(kubectl.run(&["get", "env", "web"]).code, 1);
}

#[test]
fn explains_discovers_and_refuses_with_words() {
    let daemon = Daemon::start_with(&["--listen", "127.0.0.1:0"]);
    let kubectl = Kubectl::to(&daemon);
    let explained = kubectl
        .run(&["explain", "environment.spec.source.git"])
        .ok();
    assert!(
        explained.contains("url\t<string> -required-") && explained.contains("ref\t<string>"),
        "{explained}"
    );
    wait::until("the runner's registration", || {
        (kubectl.run(&["get", "runner", "local"]).code == 0).then_some(())
    });
    for (text, named) in [
        (
            ENVIRONMENT.replace("devcontainer:", "devcontainr:"),
            "spec.devcontainr",
        ),
        (
            ENVIRONMENT.replace("spec:", "spec:\n  state: Sleeping"),
            "Sleeping",
        ),
        (
            ENVIRONMENT.replace("spec:", "spec:\n  source: {git: {url: 'ext::evil'}}"),
            "spec.source.git.url",
        ),
        (
            ENVIRONMENT.replace("spec:", "spec:\n  source: {folder: {path: /root}}"),
            "unix socket",
        ),
        (
            ENVIRONMENT.replace("name: web", "name: Web_1"),
            "metadata.name",
        ),
    ] {
        let file = kubectl.file("bad.yaml", &text);
        let ran = kubectl.run(&["apply", "-f", &file]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(named), "{}", ran.stderr);
    }
    assert_eq!(kubectl.run(&["get", "env"]).stdout, "");
    let file = kubectl.file("environment.yaml", ENVIRONMENT);
    assert!(
        kubectl
            .run(&["create", "-f", &file, "--dry-run=server", "-o", "name"])
            .ok()
            .contains("web")
    );
    assert!(
        kubectl
            .run(&["get", "env", "web"])
            .stderr
            .contains("not found")
    );
}

#[test]
fn a_deleted_namespace_takes_its_environments_along() {
    let daemon = Daemon::start_with(&["--listen", "127.0.0.1:0"]);
    daemon.import_image();
    let kubectl = Kubectl::to(&daemon);
    let before = daemon.first_photo();
    let namespace = kubectl.file(
        "namespace.yaml",
        "apiVersion: v1
kind: Namespace
metadata: {name: team}
",
    );
    kubectl.run(&["apply", "-f", &namespace]).ok();
    let file = kubectl.file("environment.yaml", ENVIRONMENT);
    kubectl.run(&["apply", "-n", "team", "-f", &file]).ok();
    kubectl
        .run(&[
            "wait",
            "-n",
            "team",
            "--for=condition=Ready",
            "env/web",
            "--timeout=60s",
        ])
        .ok();
    kubectl
        .run(&["delete", "namespace", "team", "--timeout=60s"])
        .ok();
    assert_eq!(kubectl.run(&["get", "namespace", "team"]).code, 1);
    assert_eq!(daemon.photo(), before);
}

#[test]
fn applies_on_the_servers_side_and_says_who_owns_what() {
    let daemon = Daemon::start_with(&["--listen", "127.0.0.1:0"]);
    let kubectl = Kubectl::to(&daemon);
    let class = |description: &str, pids: u32| {
        format!(
            "apiVersion: boatyard.dev/v1\nkind: EnvironmentClass\nmetadata: {{name: big}}\nspec:\n  description: {description}\n  resources: {{pids: {pids}}}\n"
        )
    };
    let file = |text: &str| kubectl.file("class.yaml", text);
    let apply = |text: &str, more: &[&str]| {
        let path = file(text);
        let arguments = [&["apply", "--server-side", "-f", path.as_str()], more].concat();
        kubectl.run(&arguments)
    };
    let applied = "environmentclass.boatyard.dev/big serverside-applied\n";
    assert_eq!(apply(&class("one", 100), &[]).ok(), applied);
    let jsonpath = |path: &str| {
        let path = format!("-ojsonpath={{{path}}}");
        kubectl.run(&["get", "environmentclass", "big", &path]).ok()
    };
    let version = jsonpath(".metadata.resourceVersion");
    assert_eq!(apply(&class("one", 100), &[]).ok(), applied);
    assert_eq!(jsonpath(".metadata.resourceVersion"), version);

    let refused = apply(&class("one", 200), &["--field-manager=other"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("conflict with \"kubectl\": .spec.resources.pids"),
        "{}",
        refused.stderr
    );
    apply(
        &class("one", 200),
        &["--field-manager=other", "--force-conflicts"],
    )
    .ok();
    assert_eq!(jsonpath(".spec.resources.pids"), "200");

    let plain = kubectl
        .run(&["get", "environmentclass", "big", "-oyaml"])
        .ok();
    assert!(!plain.contains("managedFields"), "{plain}");
    let shown = kubectl
        .run(&[
            "get",
            "environmentclass",
            "big",
            "-oyaml",
            "--show-managed-fields",
        ])
        .ok();
    assert!(
        shown.contains("f:pids: {}")
            && shown.contains("manager: other")
            && shown.contains("operation: Apply"),
        "{shown}"
    );
    let diff = kubectl.run(&[
        "diff",
        "--server-side",
        "--field-manager=other",
        "-f",
        &file(&class("two", 200)),
        "--force-conflicts",
    ]);
    assert!(
        diff.code == 1 && diff.stdout.contains("+  description: two"),
        "{diff:?}"
    );
}

#[test]
fn moves_from_applying_on_its_own_side_to_the_servers() {
    let daemon = Daemon::start_with(&["--listen", "127.0.0.1:0"]);
    let kubectl = Kubectl::to(&daemon);
    let class = |labels: &str| {
        let text = format!(
            "apiVersion: boatyard.dev/v1\nkind: EnvironmentClass\nmetadata: {{name: big, labels: {labels}}}\nspec: {{}}\n"
        );
        kubectl.file("class.yaml", &text)
    };
    kubectl
        .run(&["apply", "-f", &class("{a: old, b: old}")])
        .ok();
    let moved = kubectl.run(&["apply", "--server-side", "-f", &class("{a: new}")]);
    assert_eq!(moved.code, 0, "{moved:?}");
    let shown = |path: &str| {
        let path = format!("-ojsonpath={{{path}}}");
        kubectl
            .run(&[
                "get",
                "environmentclass",
                "big",
                &path,
                "--show-managed-fields",
            ])
            .ok()
    };
    assert_eq!(
        shown(".metadata.labels"),
        r#"{"a":"new"}"#,
        "what was left out is gone"
    );
    // kubectl itself keeps the annotation, under a name of its own.
    assert_eq!(
        shown(".metadata.managedFields[*].manager"),
        "kubectl kubectl-last-applied"
    );
    let last = shown(".metadata.annotations");
    assert!(last.contains(r#"\"a\":\"new\""#), "{last}");
    // And back.
    kubectl.run(&["apply", "-f", &class("{c: more}")]).ok();
    assert_eq!(shown(".metadata.labels"), r#"{"c":"more"}"#);
}
