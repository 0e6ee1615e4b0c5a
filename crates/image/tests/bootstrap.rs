//! A base image from a real mirror of the distribution, by the real mmdebstrap.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::sync::{Arc, Mutex};

use boatyard_image::{Images, LayerProgress, Options, Progress, Reference};

#[derive(Default)]
struct Noted(Mutex<Vec<String>>);

impl Progress for Noted {
    fn layer(&self, _id: &str, _state: LayerProgress) {}
    fn message(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn makes_debian_from_the_mirror_and_finds_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let images = Images::open(folder.path(), Options::default()).unwrap();
    let reference = Reference::parse("debian:bookworm-slim").unwrap();
    let noted = Arc::new(Noted::default());
    let progress: Arc<dyn Progress> = noted.clone();
    let image = images.bootstrap(&reference, &[], progress).await.unwrap();

    let tree = &image.layers[0].directory;
    let release = std::fs::read_to_string(tree.join("etc/os-release")).unwrap();
    assert!(release.contains("bookworm"));
    assert_eq!(
        tree.join("usr/bin/su").metadata().unwrap().mode() & 0o7777,
        0o4755
    );
    assert_eq!(tree.join("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
    assert_ne!(
        tree.join("etc/shadow").metadata().unwrap().gid(),
        0,
        "ids are the container's own"
    );
    assert!(!tree.join("etc/resolv.conf").exists() && !tree.join("etc/hostname").exists());
    assert!(tree.join("etc/ssl/certs/ca-certificates.crt").exists());
    for entry in std::fs::read_dir(tree.join("dev")).unwrap() {
        let kind = entry.unwrap().file_type().unwrap();
        assert!(!kind.is_char_device() && !kind.is_block_device());
    }
    assert_eq!(image.config.cmd, ["bash"]);
    assert!(image.config.env[0].starts_with("PATH="));
    assert!(!noted.0.lock().unwrap().is_empty());

    // Out of it goes what skopeo takes for the same image.
    let out = tempfile::tempdir().unwrap();
    let archive = out.path().join("image.tar");
    let quiet: Arc<dyn Progress> = Arc::new(boatyard_image::Quiet);
    images
        .export(
            &reference,
            &archive,
            boatyard_image::Format::DockerArchive,
            quiet,
        )
        .await
        .unwrap();
    let copied = std::process::Command::new("skopeo")
        .args(["copy", "-q", "--insecure-policy"])
        .arg(format!("docker-archive:{}", archive.display()))
        .arg(format!("dir:{}", out.path().join("copied").display()))
        .status()
        .expect("skopeo is needed");
    assert!(copied.success());

    // Nothing half-made, and the same after a restart.
    assert_eq!(
        std::fs::read_dir(folder.path().join("staging"))
            .unwrap()
            .count(),
        0
    );
    let images = Images::open(folder.path(), Options::default()).unwrap();
    assert_eq!(images.find(&reference).unwrap(), Some(image));
    let listed = images.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].size_bytes > 50 << 20, "{}", listed[0].size_bytes);
}

#[tokio::test]
async fn an_unknown_distribution_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let images = Images::open(folder.path(), Options::default()).unwrap();
    let quiet: Arc<dyn Progress> = Arc::new(boatyard_image::Quiet);
    let reference = Reference::parse("alpine:3").unwrap();
    let error = images
        .bootstrap(&reference, &[], Arc::clone(&quiet))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("alpine:3") && error.contains("bookworm"),
        "{error}"
    );
    let reference = Reference::parse("debian:bookworm").unwrap();
    let error = images
        .bootstrap(&reference, &["a b;c".to_owned()], quiet)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("a b;c"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_does_not_answer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // Bound, and closed again: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mirror = format!("http://127.0.0.1:{port}/debian");
    let options = Options {
        distribution_mirrors: [("debian".to_owned(), mirror.clone())].into(),
        ..Options::default()
    };
    let images = Images::open(folder.path(), options).unwrap();
    let reference = Reference::parse("debian:bookworm").unwrap();
    let error = images
        .bootstrap(&reference, &[], Arc::new(boatyard_image::Quiet))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&mirror), "{error}");
    assert_eq!(
        std::fs::read_dir(folder.path().join("staging"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        std::fs::read_dir(folder.path().join("layers"))
            .unwrap()
            .count(),
        0
    );
    assert!(images.list().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_bootstrap_ends_mmdebstrap_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let images = Images::open(folder.path(), Options::default()).unwrap();
    let noted = Arc::new(Noted::default());
    let making = {
        let (images, noted) = (images.clone(), noted.clone());
        let reference = Reference::parse("debian:bookworm").unwrap();
        tokio::spawn(async move { images.bootstrap(&reference, &[], noted).await })
    };
    let scratch = folder.path().to_str().unwrap().to_owned();
    let wait = async |condition: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !condition() {
            assert!(std::time::Instant::now() < deadline, "waited too long");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    // mmdebstrap itself has spoken, and its tree is there.
    wait(&|| noted.0.lock().unwrap().len() > 3 && !processes_with(&scratch).is_empty()).await;
    making.abort();
    wait(&|| processes_with(&scratch).is_empty()).await;
    let staging = folder.path().join("staging");
    wait(&|| std::fs::read_dir(&staging).unwrap().count() == 0).await;
    assert!(
        !std::fs::read_to_string("/proc/mounts")
            .unwrap()
            .contains(&scratch)
    );
    assert!(images.list().unwrap().is_empty());
}

#[test]
fn a_bootstrap_killed_midway_ends_mmdebstrap_and_the_next_start_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let scratch = folder.path().to_str().unwrap().to_owned();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_bootstraps", "--ignored"])
        .env("BOATYARD_TEST_STORE", &store)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let wait = |condition: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !condition() {
            assert!(std::time::Instant::now() < deadline, "waited too long");
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    };
    // It has mounted the host's things into its tree.
    let mounted = || {
        processes_with(&scratch).iter().any(|pid| {
            let mounts = std::fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap_or_default();
            mounts
                .lines()
                .any(|line| line.contains(&scratch) && line.contains("/dev/"))
        })
    };
    wait(&mounted);
    child.kill().unwrap();
    child.wait().unwrap();
    wait(&|| processes_with(&scratch).is_empty());
    assert!(
        !std::fs::read_to_string("/proc/mounts")
            .unwrap()
            .contains(&scratch),
        "nothing shows on the host"
    );
    let staging = store.join("staging");
    assert!(std::fs::read_dir(&staging).unwrap().count() > 0);
    Images::open(&store, Options::default()).unwrap();
    assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0);
    assert!(
        std::path::Path::new("/dev/shm").exists() && std::path::Path::new("/dev/null").exists()
    );
}

/// By what they were given in TMPDIR.
fn processes_with(scratch: &str) -> Vec<u32> {
    let wanted = format!("TMPDIR={scratch}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable.starts_with(wanted.as_bytes()))
        {
            found.push(pid);
        }
    }
    found
}

#[test]
fn without_mmdebstrap_it_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_bootstraps", "--ignored", "--nocapture"])
        .env("PATH", folder.path())
        .env("BOATYARD_TEST_STORE", folder.path().join("store"))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && words.contains("apt-get install mmdebstrap"),
        "{words}"
    );
}

#[tokio::test]
#[ignore = "run by another test, in a process of its own"]
async fn child_bootstraps() {
    let store = std::env::var("BOATYARD_TEST_STORE").unwrap();
    let images = Images::open(std::path::Path::new(&store), Options::default()).unwrap();
    let reference = Reference::parse("debian:bookworm").unwrap();
    let outcome = images
        .bootstrap(&reference, &[], Arc::new(boatyard_image::Quiet))
        .await;
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}
