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
