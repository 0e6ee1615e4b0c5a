//! An image in an OCI layout, with a layer more and another configuration.
//!
//! Owns editing a layout's documents: what names what by digest is written again from the
//! configuration up. The old documents stay beside the new ones. It is no builder: layers are
//! made by whoever calls.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Digest of data, in hexadecimal digits.
pub fn hex_digest(data: &[u8]) -> String {
    hex::encode(Sha256::digest(data))
}

fn write_blob(layout: &Path, data: &[u8]) -> Value {
    let digest = hex_digest(data);
    std::fs::write(layout.join("blobs/sha256").join(&digest), data).unwrap();
    serde_json::json!({"digest": format!("sha256:{digest}"), "size": data.len()})
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Adds the layer that `layer` makes from the image's first, lets `change` change the `config`
/// member of its configuration, and tags the result `latest`.
///
/// # Panics
/// When the layout is none.
pub fn amend(layout: &Path, layer: impl FnOnce(&Path) -> Vec<u8>, change: impl FnOnce(&mut Value)) {
    let index_path = layout.join("index.json");
    let mut index = json(&index_path);
    let mut manifest = json(&blob(layout, &index["manifests"][0]));
    let mut config = json(&blob(layout, &manifest["config"]));
    let layer = layer(&blob(layout, &manifest["layers"][0]));
    let mut descriptor = write_blob(layout, &layer);
    let diff_ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
    diff_ids.push(descriptor["digest"].clone());
    change(&mut config["config"]);
    config.as_object_mut().unwrap().remove("history");
    descriptor["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    manifest["layers"].as_array_mut().unwrap().push(descriptor);
    let written = write_blob(layout, &serde_json::to_vec(&config).unwrap());
    for member in ["digest", "size"] {
        manifest["config"][member] = written[member].clone();
    }
    let written = write_blob(layout, &serde_json::to_vec(&manifest).unwrap());
    for member in ["digest", "size"] {
        index["manifests"][0][member] = written[member].clone();
    }
    index["manifests"][0]["annotations"] =
        serde_json::json!({"org.opencontainers.image.ref.name": "latest"});
    std::fs::write(&index_path, serde_json::to_vec(&index).unwrap()).unwrap();
}

/// A file of a layer's tar, as `tar` finds it.
///
/// # Panics
/// When there is none.
pub fn file_of(layer: &Path, path: &str) -> Vec<u8> {
    let found = ["", "./"].iter().find_map(|prefix| {
        let mut tar = std::process::Command::new("tar");
        tar.args(["--extract", "--to-stdout", "--file"]).arg(layer);
        let output = tar.arg(format!("{prefix}{path}")).output().unwrap();
        output.status.success().then_some(output.stdout)
    });
    found.unwrap_or_else(|| panic!("no {path} in {}", layer.display()))
}

/// A user to add to an image.
pub struct User {
    /// Name; `/home/NAME` is the home.
    pub name: &'static str,
    /// User and group id.
    pub id: u64,
    /// Files of `/etc/skel` to put into the home.
    pub skeleton: &'static [&'static str],
}

/// Who is not in it has no account, says PAM.
const SHADOW: &str = "etc/shadow";

/// A layer with a user beside those of the layer below, and further files of root's.
///
/// # Panics
/// When the layer below has no users.
pub fn user_layer(below: &Path, user: &User, files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let User { name, id, skeleton } = user;
    let mut layer = tar::Builder::new(Vec::new());
    let add = |layer: &mut tar::Builder<_>, path: &str, owner: u64, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if path == SHADOW { 0o600 } else { 0o644 });
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(data.len() as u64);
        layer.append_data(&mut header, path, data).unwrap();
    };
    for (path, line) in [
        (
            "etc/passwd",
            format!("{name}:x:{id}:{id}::/home/{name}:/bin/bash\n"),
        ),
        ("etc/group", format!("{name}:x:{id}:\n")),
        (SHADOW, format!("{name}:!:19000:0:99999:7:::\n")),
    ] {
        let mut users = file_of(below, path);
        users.extend_from_slice(line.as_bytes());
        add(&mut layer, path, 0, &users);
    }
    for (path, data) in files {
        add(&mut layer, path, 0, data);
    }
    let mut home = tar::Header::new_gnu();
    home.set_entry_type(tar::EntryType::Directory);
    home.set_mode(0o755);
    home.set_uid(*id);
    home.set_gid(*id);
    home.set_size(0);
    let path = format!("home/{name}");
    layer
        .append_data(&mut home, &path, std::io::empty())
        .unwrap();
    for file in *skeleton {
        let data = file_of(below, &format!("etc/skel/{file}"));
        add(&mut layer, &format!("{path}/{file}"), *id, &data);
    }
    layer.into_inner().unwrap()
}
