//! Pulls from Debian's docker-registry, and exports that skopeo and podman
//! read.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/shared.rs"]
mod support;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use boatyard_image::{Format, Images, Mirror, Options, Phase, Policy, Reference};
use support::{Noted, Registry, Tar, images, options, quiet, run};
use tar::EntryType;

fn two_layers() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..3_000_000u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1])
        .collect();
    let bottom = Tar::new()
        .folder("./", 0o755)
        .folder("./etc/", 0o755)
        .file("./etc/gone", b"x")
        .file_as("./bin/su", b"program", 0o4755, 0, 0)
        .file_as("./home/me", b"mine", 0o600, 1000, 1001)
        .file("./noise", &noise)
        .link(EntryType::Link, "./noise-too", "./noise")
        .link(EntryType::Symlink, "./lib", "usr/lib")
        .end();
    let top = Tar::new()
        .file("etc/.wh.gone", b"")
        .file("etc/here", b"new")
        .end();
    vec![bottom, top]
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_what_skopeo_pushed_and_skopeo_and_podman_read_what_is_exported() {
    let registry = Registry::start();
    registry.push("team/app:1", &two_layers());
    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path(), options());
    let reference = Reference::parse(&registry.name("team/app:1")).unwrap();
    let noted = Arc::new(Noted::default());
    let image = images.ensure(&reference, noted.clone()).await.unwrap();

    assert_eq!(image.config.env, ["PATH=/bin", "A=b"]);
    assert_eq!(image.config.user.as_deref(), Some("1000"));
    assert_eq!(image.config.labels["k"], "v");
    let (top, bottom) = (&image.layers[0].directory, &image.layers[1].directory);
    assert!(
        top.join("etc/gone")
            .symlink_metadata()
            .unwrap()
            .file_type()
            .is_char_device()
    );
    assert_eq!(top.join("etc/gone").symlink_metadata().unwrap().rdev(), 0);
    assert_eq!(std::fs::read(top.join("etc/here")).unwrap(), b"new");
    let mine = bottom.join("home/me").metadata().unwrap();
    assert_eq!(
        (mine.uid(), mine.gid(), mine.permissions().mode() & 0o7777),
        (1000, 1001, 0o600)
    );
    assert_eq!(mine.mtime(), 1_700_000_000);
    assert_eq!(
        bottom.join("bin/su").metadata().unwrap().mode() & 0o7777,
        0o4755
    );
    let (one, two) = (
        bottom.join("noise").metadata().unwrap(),
        bottom.join("noise-too").metadata().unwrap(),
    );
    assert_eq!(one.ino(), two.ino());
    assert_eq!(
        std::fs::read_link(bottom.join("lib")).unwrap(),
        Path::new("usr/lib")
    );
    let done = |noted: &Noted| {
        let states = noted.states.lock().unwrap();
        states
            .iter()
            .filter(|(_, state)| state.phase == Phase::Done)
            .count()
    };
    assert_eq!(done(&noted), 2);

    // The image id is the registry's own after any way out.
    let skopeo = |what: &str| {
        run(Command::new("skopeo").args([
            "inspect",
            "--config",
            "--raw",
            "--tls-verify=false",
            what,
        ]))
    };
    let original = skopeo(&format!("docker://{reference}"));
    let out = tempfile::tempdir().unwrap();
    let layout = out.path().join("layout");
    images
        .export(&reference, &layout, Format::OciLayout, quiet())
        .await
        .unwrap();
    assert_eq!(skopeo(&format!("oci:{}", layout.display())), original);
    let archive = out.path().join("oci.tar");
    images
        .export(&reference, &archive, Format::OciArchive, quiet())
        .await
        .unwrap();
    assert_eq!(
        skopeo(&format!("oci-archive:{}", archive.display())),
        original
    );
    let docker = out.path().join("docker.tar");
    images
        .export(&reference, &docker, Format::DockerArchive, quiet())
        .await
        .unwrap();
    let copied = out.path().join("copied");
    let id = support::sha256(original.as_bytes());
    // A copy reads and checks every layer.
    for source in [
        format!("oci:{}", layout.display()),
        format!("oci-archive:{}", archive.display()),
        format!("docker-archive:{}", docker.display()),
    ] {
        run(Command::new("skopeo").args([
            "copy",
            "-q",
            "--insecure-policy",
            &source,
            &format!("dir:{}", copied.display()),
        ]));
        let config = copied.join(&id[7..]);
        if !source.starts_with("docker-archive") {
            assert!(config.exists(), "{source}");
        }
        std::fs::remove_dir_all(&copied).unwrap();
    }
    for archive in [&docker, &archive] {
        let store = tempfile::tempdir().unwrap();
        let podman = |arguments: &[&str]| {
            run(Command::new("podman")
                .arg("--root")
                .arg(store.path().join("root"))
                .arg("--runroot")
                .arg(store.path().join("run"))
                .args(["--storage-driver", "vfs"])
                .args(arguments))
        };
        podman(&["load", "-q", "-i", archive.to_str().unwrap()]);
        let listed = podman(&[
            "images",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.Repository}}:{{.Tag}}",
        ]);
        assert_eq!(
            listed.trim(),
            format!("{id} {reference}"),
            "{}",
            archive.display()
        );
    }

    // And back in, from each of them, into an empty store.
    for path in [&layout, &archive, &docker] {
        let folder = tempfile::tempdir().unwrap();
        let other = support::images(folder.path(), options());
        let imported = other.import(path, None, quiet()).await.unwrap();
        assert_eq!(imported.reference, reference);
        assert_eq!(imported.config, image.config);
        let ids = |image: &boatyard_image::Image| {
            image
                .layers
                .iter()
                .map(|layer| layer.id.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&imported), ids(&image));
    }
    // Nothing is overwritten.
    let error = images
        .export(&reference, &docker, Format::DockerArchive, quiet())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_what_podman_and_skopeo_save() {
    let registry = Registry::start();
    registry.push("app:1", &two_layers());
    let source = format!("docker://{}", registry.name("app:1"));
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name);
    let copy = |target: String| {
        run(Command::new("skopeo").args([
            "copy",
            "-q",
            "--insecure-policy",
            "--src-tls-verify=false",
            &source,
            &target,
        ]))
    };
    copy(format!(
        "docker-archive:{}:example.com/app:2",
        at("docker.tar").display()
    ));
    copy(format!("oci-archive:{}:some-tag", at("oci.tar").display()));
    copy(format!("oci:{}", at("layout").display()));
    std::fs::write(
        at("docker.tar.gz"),
        support::gzip(&std::fs::read(at("docker.tar")).unwrap()),
    )
    .unwrap();

    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path(), options());
    let name = Reference::parse("example.com/app:2").unwrap();
    assert_eq!(
        images
            .import(&at("docker.tar"), None, quiet())
            .await
            .unwrap()
            .reference,
        name
    );
    assert_eq!(
        images
            .import(&at("docker.tar.gz"), None, quiet())
            .await
            .unwrap()
            .reference,
        name
    );
    let error = images
        .import(&at("layout"), None, quiet())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("give it one"), "{error}");
    let other = Reference::parse("other:3").unwrap();
    let image = images
        .import(&at("oci.tar"), Some(&other), quiet())
        .await
        .unwrap();
    assert_eq!(image.reference, other);
    assert_eq!(images.list().unwrap().len(), 2);
    std::fs::write(at("nonsense"), vec![7; 5000]).unwrap();
    let error = images
        .import(&at("nonsense"), None, quiet())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("nonsense") && error.contains("OCI layout"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_from_dockers_config_or_its_helper_opens_the_registry() {
    let registry = Registry::start_with_password();
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    support::write_layout(&layout, &two_layers(), "amd64");
    run(Command::new("skopeo")
        .args([
            "copy",
            "-q",
            "--insecure-policy",
            "--dest-tls-verify=false",
            "--dest-creds",
            "user:secret",
        ])
        .arg(format!("oci:{}", layout.display()))
        .arg(format!("docker://{}", registry.name("app:1"))));
    let reference = Reference::parse(&registry.name("app:1")).unwrap();

    let store = images(&folder.path().join("none"), options());
    let error = store
        .ensure(&reference, quiet())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("401") && error.contains("docker login") && error.contains("app:1"),
        "{error}"
    );

    let config = folder.path().join("config.json");
    let with_config = || Options {
        docker_config: Some(config.clone()),
        ..options()
    };
    let host = registry.name("");
    let host = host.trim_end_matches('/');
    // user:wrong
    std::fs::write(
        &config,
        format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjp3cm9uZw=="}}}}}}"#),
    )
    .unwrap();
    let store = images(&folder.path().join("wrong"), with_config());
    let error = store
        .ensure(&reference, quiet())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("401"), "{error}");
    // user:secret
    std::fs::write(
        &config,
        format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#),
    )
    .unwrap();
    let store = images(&folder.path().join("right"), with_config());
    store.ensure(&reference, quiet()).await.unwrap();

    std::fs::write(&config, "{").unwrap();
    let store = images(&folder.path().join("broken"), with_config());
    let error = store
        .ensure(&reference, quiet())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("config.json") && error.contains(host),
        "{error}"
    );

    // A helper is found on PATH, which is not this process's to change.
    let helper = folder.path().join("docker-credential-boatyard-test");
    std::fs::write(&helper, "#!/bin/sh\nread -r server\necho \"$server\" >\"$0.asked\"\necho '{\"Username\":\"user\",\"Secret\":\"secret\"}'\n").unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(
        &config,
        format!(r#"{{"credHelpers":{{"{host}":"boatyard-test"}}}}"#),
    )
    .unwrap();
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap()
    );
    run(Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_pulls", "--ignored"])
        .env("PATH", path)
        .env("BOATYARD_TEST_STORE", folder.path().join("helped"))
        .env("BOATYARD_TEST_CONFIG", &config)
        .env("BOATYARD_TEST_IMAGE", registry.name("app:1")));
    assert!(
        folder
            .path()
            .join("docker-credential-boatyard-test.asked")
            .exists()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test, in a process of its own"]
async fn child_pulls() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let options = Options {
        docker_config: Some(variable("BOATYARD_TEST_CONFIG").into()),
        ..options()
    };
    let images = images(Path::new(&variable("BOATYARD_TEST_STORE")), options);
    images
        .ensure(
            &Reference::parse(&variable("BOATYARD_TEST_IMAGE")).unwrap(),
            quiet(),
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_serves_in_the_registrys_place_and_a_dead_one_is_passed_over() {
    let registry = Registry::start();
    registry.push("library/base:1", &two_layers());
    let folder = tempfile::tempdir().unwrap();
    let dead = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mirror = |port| Mirror {
        endpoint: format!("http://127.0.0.1:{port}"),
    };
    let options = Options {
        mirrors: [(
            "docker.io".to_owned(),
            vec![mirror(dead), mirror(registry.port)],
        )]
        .into(),
        ..options()
    };
    let images = images(folder.path(), options);
    let image = images
        .ensure(&Reference::parse("base:1").unwrap(), quiet())
        .await
        .unwrap();
    assert_eq!(image.reference.to_string(), "base:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_fetch_a_layer_once() {
    let registry = Registry::start();
    registry.push("a:1", &two_layers());
    registry.push("b:1", &two_layers()[..1]);
    let folder = tempfile::tempdir().unwrap();
    // Two handles, as of two processes: only the file system is between them.
    let (one, two) = (
        images(folder.path(), options()),
        images(folder.path(), options()),
    );
    let noted = Arc::new(Noted::default());
    let name = |text: &str| Reference::parse(&registry.name(text)).unwrap();
    let (a, b, a1, b1) = (name("a:1"), name("b:1"), name("a:1"), name("b:1"));
    let (w, x, y, z) = tokio::join!(
        one.ensure(&a, noted.clone()),
        two.ensure(&b, noted.clone()),
        two.ensure(&a1, noted.clone()),
        one.ensure(&b1, noted.clone()),
    );
    assert_eq!(w.unwrap(), y.unwrap());
    assert_eq!(x.unwrap(), z.unwrap());
    let states = noted.states.lock().unwrap();
    assert_eq!(
        states
            .iter()
            .filter(|(_, state)| state.phase == Phase::Done)
            .count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_tag_is_followed_when_asked_and_pruning_takes_only_what_nothing_names() {
    let registry = Registry::start();
    let layers = two_layers();
    registry.push("app:1", &layers[..1]);
    let folder = tempfile::tempdir().unwrap();
    let images = images(folder.path(), options());
    let reference = Reference::parse(&registry.name("app:1")).unwrap();
    let old = images.ensure(&reference, quiet()).await.unwrap();
    let kept = Reference::parse("kept:1").unwrap();
    registry.push("app:1", &layers);
    assert_eq!(images.ensure(&reference, quiet()).await.unwrap(), old);
    let new = images
        .pull(&reference, Policy::Always, quiet())
        .await
        .unwrap();
    assert_eq!(new.layers.len(), 2);
    assert_ne!(new.digest, old.digest);

    images.tag(&reference, &kept).unwrap();
    images.remove(&reference).unwrap();
    assert_eq!(images.prune(&[]).unwrap().layers, 0);
    images.remove(&kept).unwrap();
    assert!(
        images
            .remove(&kept)
            .unwrap_err()
            .to_string()
            .contains("kept:1")
    );
    let pruned = images.prune(&[new.layers[1].id.clone()]).unwrap();
    assert_eq!(pruned.layers, 1);
    assert!(new.layers[1].directory.exists() && !new.layers[0].directory.exists());
    let pruned = images.prune(&[]).unwrap();
    assert!(pruned.layers == 1 && pruned.bytes > 3_000_000, "{pruned:?}");
    support::assert_nothing_left(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_leaves_what_another_pull_needs() {
    let registry = Registry::start();
    registry.push("app:1", &two_layers());
    let reference = Reference::parse(&registry.name("app:1")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (
        images(folder.path(), options()),
        images(folder.path(), options()),
    );
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let pruner = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            two.prune(&[]).unwrap();
        }
    });
    for _ in 0..10 {
        let image = one.ensure(&reference, quiet()).await.unwrap();
        assert!(image.layers.iter().all(|layer| layer.directory.exists()));
        assert!(one.find(&reference).unwrap().is_some());
        one.remove(&reference).unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    pruner.join().unwrap();
}

#[test]
fn the_store_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images");
    let _images: Images = images(&path, options());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}
