//! A pull of 500 MB in five layers from Debian's docker-registry on loopback.
//!
//! The layers are files of this host's /usr, which compress as real images do. Both sides end in a
//! flush of the file system that holds their storage. Every round has storage of its own, and
//! nothing is deleted before the end: a deletion slows what is written after it, whoever writes.

use crate::figures::{Contender, Table, time};
use crate::podman::Podman;
use crate::{quiet, settle};
use boatyard_testkit::{Daemon, Registry};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const LAYERS: usize = 5;
const LAYER_BYTES: u64 = 100_000_000;

pub(crate) fn run(rounds: usize, table: &mut Table) {
    let registry = Registry::start();
    let folder = crate::folder();
    let oci = folder.path().join("oci");
    let blobs = layout(&oci);
    registry.push(&format!("oci:{}:big", oci.display()), "library/big:latest");
    let theirs = format!("{}/library/big:latest", registry.address());
    let flush = || quiet(Command::new("sync").arg("--file-system").arg(folder.path()));
    let mut contenders = [
        Contender::new("`podman pull`"),
        Contender::new("`boatyard image pull`"),
        Contender::new("floor: `tar xzf` of the layers, one after another"),
    ];
    let mut daemons = Vec::new();
    for round in 0..=rounds {
        let daemon = Daemon::start_with(&["--mirror", &registry.mirror("docker.io")]);
        let own = folder.path().join(round.to_string());
        let floor = own.join("floor");
        std::fs::create_dir_all(&floor).unwrap();
        let podman = Podman { folder: own };
        let mut podman = podman.command(&["pull", "--quiet", "--tls-verify=false", &theirs]);
        flush();
        let peer = time(|| {
            quiet(&mut podman);
            flush();
        });
        settle();
        let ours = time(|| {
            daemon.cli(&["image", "pull", "library/big:latest"]).ok();
            flush();
        });
        let floor = time(|| {
            for blob in &blobs {
                quiet(
                    Command::new("tar")
                        .arg("-C")
                        .arg(&floor)
                        .arg("-xzf")
                        .arg(blob),
                );
            }
            flush();
        });
        // The first round warms the caches.
        if round > 0 {
            for (contender, took) in contenders.iter_mut().zip([peer, ours, floor]) {
                contender.add(took);
            }
        }
        daemons.push(daemon);
    }
    table.compare("Pull of 500 MB in five layers", &contenders);
}

/// Writes an OCI layout of one image, tagged `big`; answers its layers' files.
fn layout(oci: &Path) -> Vec<PathBuf> {
    let blobs = oci.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = hex::encode(Sha256::digest(bytes));
        std::fs::write(blobs.join(&digest), bytes).unwrap();
        digest
    };
    let mut files = Vec::new();
    for tree in ["/usr/lib", "/usr/bin", "/usr/share"] {
        regular_files(Path::new(tree), &mut files);
    }
    let mut files = files.into_iter();
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for _ in 0..LAYERS {
        let mut archive = tar::Builder::new(Vec::new());
        let mut bytes = 0;
        while bytes < LAYER_BYTES {
            let Some((path, length)) = files.next() else {
                break;
            };
            let inside = path.strip_prefix("/").unwrap();
            archive.append_path_with_name(&path, inside).unwrap();
            bytes += length;
        }
        let archive = archive.into_inner().unwrap();
        diff_ids.push(format!("sha256:{}", hex::encode(Sha256::digest(&archive))));
        let mut compressed =
            flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        compressed.write_all(&archive).unwrap();
        let compressed = compressed.finish().unwrap();
        layers.push((put(&compressed), compressed.len()));
    }
    let media = "application/vnd.oci.image";
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = serde_json::to_vec(&config).unwrap();
    let described: Vec<_> = layers.iter().map(|(digest, size)| {
        serde_json::json!({"mediaType": format!("{media}.layer.v1.tar+gzip"), "digest": format!("sha256:{digest}"), "size": size})
    }).collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": format!("{media}.manifest.v1+json"),
        "config": {"mediaType": format!("{media}.config.v1+json"), "digest": format!("sha256:{}", put(&config)), "size": config.len()}, "layers": described});
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{"mediaType": format!("{media}.manifest.v1+json"),
        "digest": format!("sha256:{}", put(&manifest)), "size": manifest.len(), "annotations": {"org.opencontainers.image.ref.name": "big"}}]});
    std::fs::write(oci.join("index.json"), index.to_string()).unwrap();
    std::fs::write(oci.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    layers
        .into_iter()
        .map(|(digest, _)| blobs.join(digest))
        .collect()
}

/// Regular files below a folder with their lengths, by name.
fn regular_files(folder: &Path, files: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        if metadata.is_dir() {
            regular_files(&path, files);
        } else if metadata.is_file() && metadata.len() < LAYER_BYTES / 4 {
            files.push((path, metadata.len()));
        }
    }
}
