//! What is unpacked is what overlayfs, mounted by the host's root, merges: with
//! and without its option `userxattr`. Mounted in a mount namespace that ends
//! with the command.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/shared.rs"]
mod support;

use std::process::Command;

use boatyard_image::Reference;
use support::{Tar, images, options, quiet, run};

#[tokio::test]
async fn overlayfs_hides_what_the_layers_hide() {
    let bottom = Tar::new()
        .file("gone", b"bottom")
        .file("kept", b"bottom")
        .file("hidden/below", b"bottom")
        .file("anew/below", b"bottom")
        .file("merged/below", b"bottom")
        .end();
    let top = Tar::new()
        .file(".wh.gone", b"")
        .folder("hidden", 0o755)
        .file("hidden/.wh..wh..opq", b"")
        .file("hidden/mine", b"top")
        .file(".wh.anew", b"")
        .file("anew/mine", b"top")
        .file("merged/mine", b"top")
        .end();
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    support::write_layout(&layout, &[bottom, top], "amd64");
    let images = images(&folder.path().join("images"), options());
    let name = Reference::parse("overlay:1").unwrap();
    let image = images.import(&layout, Some(&name), quiet()).await.unwrap();
    let lower: Vec<_> = image
        .layers
        .iter()
        .map(|layer| layer.directory.display().to_string())
        .collect();
    let merged = folder.path().join("merged");
    std::fs::create_dir(&merged).unwrap();
    for option in ["", ",userxattr"] {
        let script = format!(
            "mount -t overlay overlay -o lowerdir={}{option} {merged} && cd {merged} && find . -type f | sort",
            lower.join(":"),
            merged = merged.display(),
        );
        let seen = run(Command::new("unshare").args([
            "--mount",
            "--propagation=private",
            "sh",
            "-c",
            &script,
        ]));
        let seen: Vec<_> = seen.lines().collect();
        assert_eq!(
            seen,
            [
                "./anew/mine",
                "./hidden/mine",
                "./kept",
                "./merged/below",
                "./merged/mine"
            ],
            "{option:?}"
        );
    }
}

#[tokio::test]
async fn a_layer_that_comes_twice_is_mounted_once() {
    let one = Tar::new().file("a", b"1").end();
    let two = Tar::new().file("a", b"2").end();
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    support::write_layout(&layout, &[one.clone(), two, one], "amd64");
    let images = images(&folder.path().join("images"), options());
    let name = Reference::parse("twice:1").unwrap();
    let image = images.import(&layout, Some(&name), quiet()).await.unwrap();
    let contents: Vec<_> = image
        .layers
        .iter()
        .map(|layer| std::fs::read_to_string(layer.directory.join("a")).unwrap())
        .collect();
    assert_eq!(contents, ["1", "2"]);
    // And goes out as it came in.
    let out = folder.path().join("out");
    images
        .export(&name, &out, boatyard_image::Format::OciLayout, quiet())
        .await
        .unwrap();
    let again = run(Command::new("skopeo").args([
        "inspect",
        "--config",
        "--raw",
        &format!("oci:{}", out.display()),
    ]));
    assert_eq!(again.matches("sha256:").count(), 3);
}
