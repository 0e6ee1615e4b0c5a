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
use boatyard_image::collection::{
    Choices, Kind, Packages, apply_template, outdated, template_metadata,
};
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

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_published_once_a_version_and_found_outdated() {
    let registry = Registry::start();
    let host = format!("127.0.0.1:{}", registry.port);
    let folder = tempfile::tempdir().unwrap();
    let here = artifacts(&folder.path().join("cache"), options());
    let source = folder.path().join("src");
    write(
        &source,
        &[
            (
                "color/devcontainer-feature.json",
                r#"{"id":"color","version":"1.0.0","name":"Color","legacyIds":["hue"]} // comment"#,
            ),
            ("color/install.sh", "#!/bin/sh\n"),
            ("empty/README.md", "nothing"),
        ],
    );
    let packages = Packages::of(Kind::Feature, &source).unwrap();
    assert_eq!(packages.skipped, ["empty"]);
    packages.write(&folder.path().join("out")).unwrap();
    assert!(
        folder
            .path()
            .join("out/devcontainer-feature-color.tgz")
            .is_file()
    );
    assert!(
        folder
            .path()
            .join("out/devcontainer-collection.json")
            .is_file()
    );
    let published = packages.publish(&here, &host, "Org/feats").await.unwrap();
    let first = serde_json::to_value(&published[0].1).unwrap();
    assert_eq!(
        first["publishedTags"],
        serde_json::json!(["1", "1.0", "1.0.0", "latest"])
    );
    assert_eq!(first["publishedLegacyIds"], serde_json::json!(["hue"]));
    assert_eq!(first["version"], "1.0.0");
    let again = packages.publish(&here, &host, "org/feats").await.unwrap();
    assert_eq!(
        serde_json::to_value(&again[0].1).unwrap(),
        serde_json::json!({})
    );

    write(
        &source,
        &[(
            "color/devcontainer-feature.json",
            r#"{"id":"color","version":"1.1.0","name":"Color"}"#,
        )],
    );
    let newer = Packages::of(Kind::Feature, &source.join("color")).unwrap();
    let published = newer.publish(&here, &host, "org/feats").await.unwrap();
    assert_eq!(
        published[0].1.published_tags,
        ["1", "1.1", "1.1.0", "latest"]
    );

    let id = format!("{host}/org/feats/color:1.0");
    let requested = boatyard_devcontainer::features::requested("test", &id);
    let found = outdated(&here, &requested, None).await.unwrap().unwrap();
    assert_eq!(found.wanted.as_deref(), Some("1.0.0"));
    assert_eq!(found.latest.as_deref(), Some("1.1.0"));
    let file = format!(r#"{{"image":"x","features":{{"{host}/org/feats/hue":{{}}}}}}"#);
    let renamed = Features::resolve(&here, request(&file), None, nothing_local())
        .await
        .unwrap();
    assert!(
        renamed.resolution.notes[0].contains("was renamed"),
        "{:?}",
        renamed.resolution.notes
    );

    write(
        &source,
        &[(
            "color/devcontainer-feature.json",
            r#"{"id":"colour","version":"1.1.0","name":"Color"}"#,
        )],
    );
    let error = Packages::of(Kind::Feature, &source).unwrap_err();
    assert!(
        error.to_string().contains("must be its folder's name"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_published_and_applied() {
    let registry = Registry::start();
    let host = format!("127.0.0.1:{}", registry.port);
    let folder = tempfile::tempdir().unwrap();
    let here = artifacts(&folder.path().join("cache"), options());
    let source = folder.path().join("src");
    write(
        &source,
        &[
            (
                "t/devcontainer-template.json",
                r#"{"id":"t","version":"1.0.0","name":"T","options":{"variant":{"type":"string","default":"bookworm"},"zsh":{"type":"boolean","default":"true"}}}"#,
            ),
            (
                "t/.devcontainer/devcontainer.json",
                "{\n  // kept\n  \"image\": \"x:${templateOption:variant}\",\n  \"containerEnv\": {\"Z\": \"${templateOption:zsh}\"}\n}\n",
            ),
            ("t/README.md", "r"),
            ("t/.github/a.yml", "v: ${templateOption: variant }"),
            ("t/src/m.txt", "m"),
        ],
    );
    let packages = Packages::of(Kind::Template, &source).unwrap();
    packages.publish(&here, &host, "org/tpl").await.unwrap();
    let reference =
        boatyard_devcontainer::features::OciReference::parse(&format!("{host}/org/tpl/t:1"))
            .unwrap();
    let metadata = template_metadata(&here, &reference).await.unwrap();
    assert_eq!(
        (metadata["type"].as_str(), metadata["fileCount"].as_u64()),
        (Some("image"), Some(5))
    );
    let target = folder.path().join("project");
    std::fs::create_dir(&target).unwrap();
    let choices = Choices {
        options: BTreeMap::from([("variant".to_owned(), "trixie".to_owned())]),
        omit: vec!["src/*".to_owned()],
        features: vec![("ghcr.io/a/b/c:1".to_owned(), serde_json::json!({}))],
    };
    let files = apply_template(&here, &reference, &choices, &target)
        .await
        .unwrap();
    assert_eq!(
        files,
        ["./.devcontainer/devcontainer.json", "./.github/a.yml"]
    );
    let text = std::fs::read_to_string(target.join(".devcontainer/devcontainer.json")).unwrap();
    for part in ["// kept", "x:trixie", "\"Z\": \"true\"", "ghcr.io/a/b/c:1"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(
        std::fs::read_to_string(target.join(".github/a.yml")).unwrap(),
        "v: trixie"
    );
    assert!(!target.join("src").exists() && !target.join("README.md").exists());
}
