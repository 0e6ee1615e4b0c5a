//! A small image made here: busybox on an otherwise empty root, as a docker archive.

use sha2::{Digest, Sha256};
use std::path::Path;

const BUSYBOX: &str = "/bin/busybox";

/// Applets the tests use.
const APPLETS: [&str; 46] = [
    "sh", "cat", "echo", "ls", "id", "sleep", "true", "false", "touch", "mkdir", "rm", "stat",
    "chown", "chmod", "mount", "umount", "ps", "kill", "hostname", "env", "pwd", "head", "tail",
    "grep", "sed", "dd", "ip", "ping", "nc", "wget", "nslookup", "stty", "tty", "date", "sort",
    "wc", "test", "printf", "readlink", "ln", "mknod", "unshare", "whoami", "seq", "tr", "sync",
];

fn entry(
    archive: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    ids: (u64, u64),
    data: &[u8],
    link: Option<&str>,
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(ids.0);
    header.set_gid(ids.1);
    header.set_size(data.len() as u64);
    header.set_mtime(1_700_000_000);
    match link {
        Some(link) => archive.append_link(&mut header, path, link).unwrap(),
        None => archive.append_data(&mut header, path, data).unwrap(),
    }
}

/// The same as a root filesystem's tar, for engines that import one.
pub fn root() -> Vec<u8> {
    layer()
}

/// The layer: busybox, /etc/passwd with root and `dev` (uid 1000), empty standard folders.
fn layer() -> Vec<u8> {
    let busybox =
        std::fs::read(BUSYBOX).expect("tests need /bin/busybox: apt-get install busybox-static");
    let mut archive = tar::Builder::new(Vec::new());
    for (folder, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
        ("proc", 0o755),
        ("sys", 0o755),
        ("dev", 0o755),
        ("run", 0o755),
        ("var", 0o755),
        ("usr", 0o755),
        ("home", 0o755),
    ] {
        entry(
            &mut archive,
            tar::EntryType::Directory,
            folder,
            mode,
            (0, 0),
            &[],
            None,
        );
    }
    entry(
        &mut archive,
        tar::EntryType::Directory,
        "home/dev",
        0o755,
        (1000, 1000),
        &[],
        None,
    );
    entry(
        &mut archive,
        tar::EntryType::Regular,
        "bin/busybox",
        0o755,
        (0, 0),
        &busybox,
        None,
    );
    for applet in APPLETS {
        entry(
            &mut archive,
            tar::EntryType::Link,
            &format!("bin/{applet}"),
            0o755,
            (0, 0),
            &[],
            Some("bin/busybox"),
        );
    }
    entry(
        &mut archive,
        tar::EntryType::Regular,
        "etc/passwd",
        0o644,
        (0, 0),
        b"root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/sh\n",
        None,
    );
    entry(
        &mut archive,
        tar::EntryType::Regular,
        "etc/group",
        0o644,
        (0, 0),
        b"root:x:0:\ndev:x:1000:\n",
        None,
    );
    archive.into_inner().unwrap()
}

/// Writes the image as a docker archive named `name`, with further members of its configuration.
pub fn write(path: &Path, name: &str, config: &serde_json::Value) {
    let layer = layer();
    let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    let mut settings = serde_json::json!({"Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"]});
    for (key, value) in config.as_object().into_iter().flatten() {
        settings[key] = value.clone();
    }
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let config = serde_json::json!({"architecture": architecture, "os": "linux", "config": settings, "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let config = serde_json::to_vec(&config).unwrap();
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let manifest =
        serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, data) in [
        (config_name.as_str(), config.as_slice()),
        ("layer.tar", &layer),
        ("manifest.json", &serde_json::to_vec(&manifest).unwrap()),
    ] {
        entry(
            &mut archive,
            tar::EntryType::Regular,
            path,
            0o644,
            (0, 0),
            data,
            None,
        );
    }
    std::fs::write(path, archive.into_inner().unwrap()).unwrap();
}
