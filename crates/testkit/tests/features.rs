//! Features installed by the builder in real sandboxes, and what a project pays for them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use boatyard_devcontainer::build::BuildPlan;
use boatyard_devcontainer::build::{Base, Stage};
use boatyard_devcontainer::features::{extend, metadata_label, users};
use boatyard_devcontainer::{Document, ImageMetadata, LocalContext};
use boatyard_image::build::{Outcome, Request};
use boatyard_image::features::{Directory, Features};
use boatyard_image::{Image, Reference};
use boatyard_testkit::yard::Noted;
use boatyard_testkit::{Daemon, development};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Projects with Features, and a builder for them.
struct Yard(boatyard_testkit::yard::Yard);

impl std::ops::Deref for Yard {
    type Target = boatyard_testkit::yard::Yard;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// What a build told: its output, and how many steps were done and found.
struct Told {
    text: String,
    done: usize,
    cached: usize,
}

impl Yard {
    async fn new() -> Yard {
        let label = r#"[{"remoteUser":"dev"}]"#;
        let config = serde_json::json!({"Labels": {"devcontainer.metadata": label}});
        Yard(boatyard_testkit::yard::Yard::new(&config).await)
    }

    /// A project of this name with these files below `.devcontainer`.
    fn project(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = self.folder.path().join(name);
        for (path, text) in files {
            let path = root.join(".devcontainer").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    async fn build(&self, project: &Path) -> (Result<Image, boatyard_image::Error>, Told) {
        let file = ".devcontainer/devcontainer.json";
        let text = std::fs::read_to_string(project.join(file)).unwrap();
        let document = Document::parse(file, &text).unwrap();
        let context = LocalContext::new(project.to_str().unwrap());
        let local: Arc<Directory> = Arc::new(Directory::new(project));
        let artifacts = self.images.artifacts().unwrap();
        let request = document.features(&context).unwrap();
        let features = Features::resolve(&artifacts, request, None, local.clone());
        let features = features.await.unwrap();
        let base = Reference::parse(&document.image(&context).unwrap()).unwrap();
        let state = self.images.state(&base).unwrap();
        let metadata = ImageMetadata {
            labels: state.labels.clone(),
            ..ImageMetadata::default()
        };
        let plan = document.run_plan(&context, &metadata).unwrap();
        let known = state
            .labels
            .get("devcontainer.metadata")
            .map(String::as_str);
        let order = &features.resolution.order;
        let label = metadata_label(known, order, None);
        let told = users(&plan, Some(&state.user));
        let mut plan = BuildPlan {
            stages: vec![Stage {
                name: "base".into(),
                base: Base::Image(base.to_string()),
                steps: Vec::new(),
                state,
            }],
        };
        extend(&mut plan, order, &told, label);
        let request = Request {
            plan,
            names: vec![Reference::parse("built:1").unwrap()],
            contexts: features.contexts(local).await.unwrap(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            no_cache: false,
        };
        let noted = Arc::new(Noted::default());
        let built = self.builder.build(request, noted.clone()).await;
        let outcomes = noted.outcomes.lock().unwrap();
        let count = |outcome| outcomes.iter().filter(|other| **other == outcome).count();
        let told = Told {
            text: noted.text(),
            // The base image is told of too.
            done: count(Outcome::Done) - 1,
            cached: count(Outcome::Cached),
        };
        (built, told)
    }
}

fn read(image: &Image, path: &str) -> Option<String> {
    image
        .layers
        .iter()
        .find_map(|layer| std::fs::read_to_string(layer.directory.join(path)).ok())
}

const A: &str = r#"{"id":"a","version":"1.0.0","name":"A","options":{"color":{"type":"string","default":"blue"}},"containerEnv":{"AVAR":"one two","PATH":"/opt/a/bin:${PATH}"},"entrypoint":"/ea"}"#;
const A_INSTALL: &str = "#!/bin/sh\nset -e\n. ./lib.sh\nmkdir -p /opt/a/bin\nprintf '#!/bin/sh\\necho tool\\n' > /opt/a/bin/atool\nchmod +x /opt/a/bin/atool\necho \"$COLOR $EXTRA $AVAR $_REMOTE_USER $_REMOTE_USER_HOME $_CONTAINER_USER $_CONTAINER_USER_HOME $(id -u) $LIB\" > /a\n";
const B: &str = r#"{"id":"b","name":"B","installsAfter":["./a"]}"#;
const B_INSTALL: &str =
    "#!/bin/sh\nset -e\necho \"$AVAR $(atool) [$COLOR]\" > /b\necho trash > here\n";

fn files(configuration: &str) -> Vec<(&str, &str)> {
    vec![
        ("devcontainer.json", configuration),
        ("a/devcontainer-feature.json", A),
        ("a/install.sh", A_INSTALL),
        ("a/lib.sh", "LIB=lib\n"),
        ("b/devcontainer-feature.json", B),
        ("b/install.sh", B_INSTALL),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn features_are_installed_in_order_with_options_users_and_variables_and_shared() {
    let yard = Yard::new().await;
    let text = r#"{"image":"base:1","features":{"./b":{},"./a":{"extra":"e x"}}}"#;
    let first = yard.project("first", &files(text));
    let (built, told) = yard.build(&first).await;
    let image = built.unwrap_or_else(|error| panic!("{error}\n{}", told.text));
    let a = read(&image, "a").unwrap();
    assert_eq!(a, "blue e x one two dev /home/dev root /root 0 lib\n");
    assert_eq!(read(&image, "b").unwrap(), "one two tool []\n");
    assert!(
        image
            .config
            .env
            .contains(&"PATH=/opt/a/bin:/bin".to_owned())
    );
    let label: serde_json::Value =
        serde_json::from_str(&image.config.labels["devcontainer.metadata"]).unwrap();
    let expected =
        serde_json::json!([{"remoteUser":"dev"},{"id":"./a","entrypoint":"/ea"},{"id":"./b"}]);
    assert_eq!(label, expected);
    assert_eq!((told.done, told.cached), (2, 0));
    let traces = image.layers.iter().any(|layer| {
        layer.directory.join("tmp/dev-container-features").exists()
            || layer.directory.join("here").exists()
    });
    assert!(!traces, "nothing of a Feature's folder stays");

    // Another project, another file around the same Features: nothing is done again.
    let text = r#"{"image":"base:1","name":"other","postCreateCommand":"x","features":{"./a":{"extra":"e x"},"./b":{}}}"#;
    let second = yard.project("second", &files(text));
    let (built, told) = yard.build(&second).await;
    assert_eq!(built.unwrap().layers, image.layers);
    assert_eq!((told.done, told.cached), (0, 2));

    // What comes after a Feature with other options is done again, on what it left.
    let text = r#"{"image":"base:1","features":{"./a":{"extra":"e x"},"./b":{"more":"1"}}}"#;
    let third = yard.project("third", &files(text));
    let (_, told) = yard.build(&third).await;
    assert_eq!((told.done, told.cached), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_that_fails_fails_the_build_with_what_it_said() {
    let yard = Yard::new().await;
    let project = yard.project(
        "bad",
        &[
            (
                "devcontainer.json",
                r#"{"image":"base:1","features":{"./bad":{}}}"#,
            ),
            (
                "bad/devcontainer-feature.json",
                r#"{"id":"bad","name":"Bad's","documentationURL":"https://x.example"}"#,
            ),
            ("bad/install.sh", "#!/bin/sh\necho about-to-fail\nexit 3\n"),
        ],
    );
    let (built, told) = yard.build(&project).await;
    let error = built.unwrap_err().to_string();
    assert!(told.text.contains("about-to-fail"), "{}", told.text);
    let said = "ERROR: Feature \"Bad's\" failed to install! Look at the documentation at https://x.example";
    assert!(told.text.contains(said), "{}", told.text);
    assert!(
        error.contains("FEATURE ./bad") && error.contains('3'),
        "{error}"
    );
}

fn place(folder: &str, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = Path::new(folder).join(".devcontainer").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[test]
fn a_repository_with_features_comes_up() {
    let daemon = Daemon::start();
    daemon.import_image();
    let text = r#"{"image": "test:latest", "remoteUser": "dev", "features": {"./b": {}, "./a": {"extra": "e"}},
        "waitFor": "postCreateCommand", "postCreateCommand": "echo file >> /tmp/order"}"#;
    let folder = daemon.project("app", text);
    place(&folder, &files(text));
    let b = r#"{"id":"b","name":"B","installsAfter":["./a"],"postCreateCommand":"echo b >> /tmp/order"}"#;
    place(&folder, &[("b/devcontainer-feature.json", b)]);
    daemon
        .cli(&["up", &folder, "--detach", "--name", "app"])
        .ok();
    let seen = daemon
        .sh("app", "cat /a /b /tmp/order; atool; echo $AVAR")
        .ok();
    let expected =
        "blue e one two dev /home/dev root /root 0 lib\none two tool []\nb\nfile\ntool\none two\n";
    assert_eq!(seen, expected);

    // The configuration around them changes: they are not installed again.
    let text = text.replace("echo file", "echo changed");
    let other = daemon.project("other", &text);
    place(&other, &files(&text));
    place(&other, &[("b/devcontainer-feature.json", b)]);
    daemon
        .cli(&["up", &other, "--detach", "--name", "other"])
        .ok();
    assert_eq!(daemon.sh("other", "cat /tmp/order").ok(), "b\nchanged\n");
    let log = daemon.cli(&["logs", "other"]).ok();
    assert_eq!(log.matches("cached").count(), 2, "{log}");
}

#[test]
fn a_feature_that_fails_is_seen_failing_and_leaves_no_environment() {
    let daemon = Daemon::start();
    daemon.import_image();
    let folder = daemon.project(
        "bad",
        r#"{"image": "test:latest", "features": {"./bad": {}}}"#,
    );
    let feature = [
        (
            "bad/devcontainer-feature.json",
            r#"{"id": "bad", "name": "bad"}"#,
        ),
        ("bad/install.sh", "#!/bin/sh\necho about-to-fail\nexit 3\n"),
    ];
    place(&folder, &feature);
    let up = daemon.cli(&["up", &folder, "--detach", "--name", "bad"]);
    assert_ne!(up.code, 0);
    // As BuildKit shows a step, while it runs.
    for part in [
        "#2 [2/2] FEATURE ./bad",
        " about-to-fail\n",
        "#2 ERROR",
        "error: ",
        "`boatyard up` again",
    ] {
        assert!(up.stderr.contains(part), "{part:?}: {}", up.stderr);
    }
    let listed = daemon.cli(&["ls"]).ok();
    assert!(!listed.contains("bad"), "{listed}");
    // Mended, it is as if nothing had been.
    place(&folder, &[("bad/install.sh", "#!/bin/sh\ntouch /good\n")]);
    daemon
        .cli(&["up", &folder, "--detach", "--name", "bad"])
        .ok();
    daemon.sh("bad", "test -e /good").ok();
    let missing = daemon.project(
        "gone",
        r#"{"image": "test:latest", "features": {"./gone": {}}}"#,
    );
    let up = daemon.cli(&["up", &missing, "--detach"]);
    let wanted = ".devcontainer/devcontainer.json:1:39: Feature ./gone is not there";
    assert!(up.stderr.contains(wanted), "{}", up.stderr);
}

/// As their repository has them, in Debian: needs what a distribution's mirror gives.
#[test]
fn published_features_install_in_debian() {
    let mut daemon = Daemon::prepare();
    development::provide(&daemon);
    daemon.run(&[]);
    let text = r#"{
  "image": "localhost/devbase:latest",
  "remoteUser": "dev",
  "features": {
    "./python": {"version": "os-provided", "installTools": false},
    "./sshd": {},
    "./git": {"version": "os-provided"},
    "./common-utils": {"installZsh": false, "installOhMyZsh": false, "upgradePackages": false, "username": "dev"}
  },
  "overrideFeatureInstallOrder": ["./common-utils"]
}"#;
    let folder = daemon.project("debian", text);
    let vendored = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/features");
    for name in ["common-utils", "git", "python", "sshd"] {
        let copied = std::process::Command::new("cp")
            .arg("-r")
            .arg(vendored.join(name))
            .arg(Path::new(&folder).join(".devcontainer"))
            .status()
            .unwrap();
        assert!(copied.success());
    }
    let up = daemon.cli(&["up", &folder, "--detach", "--name", "debian"]);
    let log = daemon.cli(&["logs", "debian"]).ok();
    assert_eq!(up.code, 0, "{}\n{log}", up.stderr);
    let script = "git --version; python3 --version; test -x /usr/sbin/sshd && echo sshd; test -x /usr/local/share/ssh-init.sh && echo entrypoint; jq --version; devcontainer-info version >/dev/null; echo info; test $(sudo -n id -u) = 0 && echo sudo";
    let seen = daemon.sh("debian", script).ok();
    for part in [
        "git version 2.",
        "Python 3.11",
        "sshd\n",
        "entrypoint\n",
        "jq-1.",
        "info\n",
        "sudo\n",
    ] {
        assert!(seen.contains(part), "{part:?} is not in {seen}");
    }
}
