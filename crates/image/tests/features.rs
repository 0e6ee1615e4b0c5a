//! Features from Debian's docker-registry, with and without it.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/shared.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use boatyard_devcontainer::features::{Lockfile, Request};
use boatyard_devcontainer::{Document, LocalContext};
use boatyard_image::artifact::{Artifacts, Content, Folder, METADATA, Payload};
use boatyard_image::features::{Directory, Features};
use boatyard_image::{Error, Options};
use support::{Registry, options};

fn feature(metadata: &str, install: &str) -> Folder {
    let mut folder = Folder::default();
    let file = |text: &str| Content::File {
        bytes: text.as_bytes().to_vec(),
        executable: false,
    };
    folder
        .add("devcontainer-feature.json".into(), file(metadata))
        .unwrap();
    folder.add("install.sh".into(), file(install)).unwrap();
    folder
}

async fn publish(
    artifacts: &Artifacts,
    registry: &str,
    name: &str,
    metadata: &str,
    annotated: bool,
    tags: &[&str],
) -> String {
    let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
    let annotations = match annotated {
        true => BTreeMap::from([(METADATA.to_owned(), metadata.to_owned())]),
        false => BTreeMap::new(),
    };
    let payload = Payload::Archive {
        title: format!("devcontainer-feature-{name}.tgz"),
        bytes: feature(metadata, &format!("echo {name}")).to_tar().unwrap(),
    };
    artifacts
        .push(
            registry,
            &format!("org/feats/{name}"),
            payload,
            annotations,
            &tags,
        )
        .await
        .unwrap()
}

fn request(text: &str) -> Request {
    let document = Document::parse(".devcontainer/devcontainer.json", text).unwrap();
    document.features(&LocalContext::new("/w")).unwrap()
}

fn nothing_local() -> Arc<Directory> {
    Arc::new(Directory::new(Path::new("/nonexistent")))
}

fn artifacts(folder: &Path, options: Options) -> Artifacts {
    Artifacts::open(options, folder).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lockfile_pins_needs_no_registry_a_second_time() {
    let registry = Registry::start();
    let host = registry.name("x");
    let host = host.rsplit_once('/').unwrap().0.to_owned();
    let folder = tempfile::tempdir().unwrap();
    let here = artifacts(folder.path(), options());
    let dependency = format!(
        r#"{{"id":"color","version":"1.2.3","dependsOn":{{"{host}/org/feats/dep":{{}}}}}}"#
    );
    let color = publish(&here, &host, "color", &dependency, true, &["1.2.3", "1"]).await;
    publish(
        &here,
        &host,
        "dep",
        r#"{"id":"dep","version":"1.0.0"}"#,
        false,
        &["latest"],
    )
    .await;
    let file =
        format!(r#"{{"image":"x","features":{{"{host}/org/feats/Color:1":{{"c":"red"}}}}}}"#);

    let fresh = tempfile::tempdir().unwrap();
    let there = artifacts(fresh.path(), options());
    let found = Features::resolve(&there, request(&file), None, nothing_local())
        .await
        .unwrap();
    let folders = found.folders(nothing_local()).await.unwrap();
    let installs: Vec<_> = folders
        .iter()
        .map(|folder| folder.text("install.sh").unwrap())
        .collect();
    assert_eq!(installs, ["echo dep", "echo color"]);
    let lockfile = Lockfile::of(&found.resolution, &BTreeSet::new());
    assert_eq!(
        found.resolution.order[1].canonical(),
        format!("{host}/org/feats/color@{color}")
    );

    drop(registry);
    let again = Features::resolve(
        &there,
        request(&file),
        Some(lockfile.clone()),
        nothing_local(),
    )
    .await
    .unwrap();
    assert_eq!(again.resolution, {
        let mut first = found.resolution.clone();
        for (resolved, pinned) in first.order.iter_mut().zip(&again.resolution.order) {
            resolved.need = pinned.need.clone();
        }
        first
    });
    assert_eq!(again.folders(nothing_local()).await.unwrap(), folders);

    // Without the lockfile a tag means what the registry says, and nothing else.
    let error = Features::resolve(&there, request(&file), None, nothing_local())
        .await
        .unwrap_err();
    let text = error.to_string();
    for part in [
        ".devcontainer/devcontainer.json:1:",
        &format!("registry {host} cannot be reached"),
        &format!("{host}/org/feats/color@{color}, fetched earlier, is still here"),
        "devcontainer-lock.json",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(error.reason(), "RegistryFailed");

    // What somebody altered in the cache counts as not there.
    let blobs = fresh.path().join("blobs");
    for entry in std::fs::read_dir(&blobs).unwrap() {
        std::fs::write(entry.unwrap().path(), "{}").unwrap();
    }
    let error = Features::resolve(&there, request(&file), Some(lockfile), nothing_local())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "RegistryFailed");
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_with_a_password_and_lists_tags() {
    let registry = Registry::start_with_password();
    let host = registry.name("x");
    let host = host.rsplit_once('/').unwrap().0.to_owned();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    let auth = "dXNlcjpzZWNyZXQ="; // user:secret
    std::fs::write(
        &config,
        format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#),
    )
    .unwrap();
    let let_in = artifacts(
        &folder.path().join("cache"),
        Options {
            docker_config: Some(config),
            ..options()
        },
    );
    let reference = |tag: &str| {
        boatyard_devcontainer::features::OciReference::parse(&format!(
            "{host}/org/feats/color{tag}"
        ))
        .unwrap()
    };
    assert_eq!(let_in.tags(&reference("")).await.unwrap(), None);
    publish(
        &let_in,
        &host,
        "color",
        r#"{"id":"color"}"#,
        true,
        &["1.0.0", "latest"],
    )
    .await;
    let mut tags = let_in.tags(&reference("")).await.unwrap().unwrap();
    tags.sort();
    assert_eq!(tags, ["1.0.0", "latest"]);
    let stranger = artifacts(&folder.path().join("other"), options());
    let error = stranger
        .manifest(&reference(":1.0.0"), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("does not let us in"), "{error}");
    let error = let_in.manifest(&reference(":2"), None).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has nothing of that name and tag"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_no_feature() {
    let registry = Registry::start();
    registry.push(
        "team/sub/app:1",
        &[support::Tar::new().file("x", b"x").end()],
    );
    let folder = tempfile::tempdir().unwrap();
    let here = artifacts(folder.path(), options());
    let name = registry.name("team/sub/app:1");
    let file = format!(r#"{{"image":"x","features":{{"{name}":{{}}}}}}"#);
    let error = Features::resolve(&here, request(&file), None, nothing_local())
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::FeatureUnreachable(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("it is no Feature and no template"),
        "{error}"
    );
}

#[tokio::test]
async fn local_features_are_read_from_the_workspace_and_missing_ones_named() {
    let folder = tempfile::tempdir().unwrap();
    let feature = folder.path().join(".devcontainer/a");
    std::fs::create_dir_all(&feature).unwrap();
    std::fs::write(
        feature.join("devcontainer-feature.json"),
        r#"{"id":"a" /* jsonc */}"#,
    )
    .unwrap();
    let here = artifacts(&folder.path().join("cache"), options());
    let local: Arc<Directory> = Arc::new(Directory::new(folder.path()));
    let file = r#"{"image":"x","features":{"./a":{}}}"#;
    let found = Features::resolve(&here, request(file), None, local.clone())
        .await
        .unwrap();
    let error = found.folders(local.clone()).await.unwrap_err();
    assert!(
        error.to_string().contains("Feature ./a has no install.sh"),
        "{error}"
    );
    std::fs::write(feature.join("install.sh"), "true").unwrap();
    assert_eq!(found.folders(local.clone()).await.unwrap().len(), 1);
    let file = r#"{"image":"x","features":{"./b":{}}}"#;
    let error = Features::resolve(&here, request(file), None, local)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("devcontainer.json:1:26: Feature ./b is not there"),
        "{text}"
    );
}
