//! What the tests against real tools share: a registry of one's own, layers
//! made by hand, and images pushed with skopeo.
//!
//! A tool that is missing fails the test that needs it.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Once};

use boatyard_image::build::{Host, Seat};
use boatyard_image::{Deadlines, Images, LayerProgress, Options, Progress};
use boatyard_sandbox::spec::{Id, Spec};
use sha2::Digest as _;

pub(crate) mod lying;

pub(crate) fn provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Options that give a registry on a busy machine the time it takes.
pub(crate) fn options() -> Options {
    provider();
    let patience = std::time::Duration::from_secs(30);
    Options {
        docker_config: Some(PathBuf::from("/nonexistent/config.json")),
        deadlines: Deadlines {
            connect: patience,
            stall: patience,
            request: patience,
            attempts: 2,
        },
        ..Options::default()
    }
}

/// The same of who waits for nobody.
pub(crate) fn impatient() -> Options {
    let deadlines = Deadlines {
        connect: std::time::Duration::from_secs(2),
        stall: std::time::Duration::from_secs(1),
        request: std::time::Duration::from_secs(5),
        attempts: 2,
    };
    Options {
        deadlines,
        ..options()
    }
}

pub(crate) fn images(folder: &Path, options: Options) -> Images {
    Images::open(folder, options).unwrap()
}

pub(crate) fn quiet() -> Arc<dyn Progress> {
    Arc::new(boatyard_image::Quiet)
}

#[derive(Default)]
pub(crate) struct Noted {
    pub(crate) messages: Mutex<Vec<String>>,
    pub(crate) states: Mutex<Vec<(String, LayerProgress)>>,
}

impl Progress for Noted {
    fn layer(&self, id: &str, state: LayerProgress) {
        self.states.lock().unwrap().push((id.to_owned(), state));
    }

    fn message(&self, text: &str) {
        self.messages.lock().unwrap().push(text.to_owned());
    }
}

/// Debian's docker-registry on a loopback port.
pub(crate) struct Registry {
    child: Child,
    pub(crate) port: u16,
    pub(crate) folder: tempfile::TempDir,
}

impl Registry {
    pub(crate) fn start() -> Registry {
        Registry::start_with("")
    }

    /// User `user`, password `secret`.
    pub(crate) fn start_with_password() -> Registry {
        Registry::start_with("auth:\n  htpasswd:\n    realm: test\n    path: FOLDER/htpasswd\n")
    }

    fn start_with(more: &str) -> Registry {
        let folder = tempfile::tempdir().unwrap();
        // bcrypt of "secret"; no tool that makes one is at hand everywhere.
        std::fs::write(folder.path().join("htpasswd"), format!("user:{HASH}\n")).unwrap();
        for _ in 0..20 {
            let port = std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let config = format!(
                "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: FOLDER/data\nhttp:\n  addr: 127.0.0.1:{port}\n{more}"
            );
            let config = config.replace("FOLDER", folder.path().to_str().unwrap());
            let path = folder.path().join("config.yml");
            std::fs::write(&path, config).unwrap();
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(&path)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("docker-registry is needed: apt-get install docker-registry");
            let mut lines = BufReader::new(child.stderr.take().unwrap());
            let mut line = String::new();
            while lines.read_line(&mut line).unwrap() > 0 {
                if line.contains("listening on") {
                    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                    return Registry {
                        child,
                        port,
                        folder,
                    };
                }
                line.clear();
            }
            // Somebody else took the port meanwhile.
            child.wait().unwrap();
        }
        panic!("docker-registry does not start");
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }

    /// The layers, bottom first, as an image pushed by skopeo.
    pub(crate) fn push(&self, name: &str, layers: &[Vec<u8>]) {
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path().join("layout");
        write_layout(&layout, layers, "amd64");
        run(Command::new("skopeo")
            .args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false"])
            .arg(format!("oci:{}", layout.display()))
            .arg(format!("docker://{}", self.name(name))));
    }
}

const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} is needed: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What the config of an image of these (uncompressed) layers says.
pub(crate) fn config(diff_ids: &[String], architecture: &str) -> Vec<u8> {
    serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "A=b"], "Cmd": ["sh"], "User": "1000", "Labels": {"k": "v"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

pub(crate) fn manifest(config: &[u8], blobs: &[Vec<u8>]) -> Vec<u8> {
    let descriptor = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": sha256(bytes), "size": bytes.len()});
    let layers: Vec<_> = blobs
        .iter()
        .map(|blob| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", blob))
        .collect();
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    })
    .to_string()
    .into_bytes()
}

/// An OCI layout of plain tars, compressed with gzip.
pub(crate) fn write_layout(path: &Path, layers: &[Vec<u8>], architecture: &str) {
    let blobs = path.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| std::fs::write(blobs.join(&sha256(bytes)[7..]), bytes).unwrap();
    let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
    let compressed: Vec<_> = layers.iter().map(|layer| gzip(layer)).collect();
    let config = config(&diff_ids, architecture);
    let manifest = manifest(&config, &compressed);
    compressed.iter().for_each(|blob| put(blob));
    put(&config);
    put(&manifest);
    std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": sha256(&manifest), "size": manifest.len(),
    }]});
    std::fs::write(path.join("index.json"), index.to_string()).unwrap();
}

/// A tar from a list of what it holds.
pub(crate) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    pub(crate) fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_size(size);
        header
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Tar {
        self.file_as(path, content, 0o644, 0, 0)
    }

    pub(crate) fn file_as(
        mut self,
        path: &str,
        content: &[u8],
        mode: u32,
        uid: u64,
        gid: u64,
    ) -> Tar {
        let mut header = Tar::header(tar::EntryType::Regular, content.len() as u64);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        raw_name(&mut self.0, &mut header, path);
        self.0.append(&header, content).unwrap();
        self
    }

    pub(crate) fn folder(mut self, path: &str, mode: u32) -> Tar {
        let mut header = Tar::header(tar::EntryType::Directory, 0);
        header.set_mode(mode);
        raw_name(&mut self.0, &mut header, path);
        self.0.append(&header, &[][..]).unwrap();
        self
    }

    pub(crate) fn link(mut self, kind: tar::EntryType, path: &str, target: &str) -> Tar {
        let mut header = Tar::header(kind, 0);
        let bytes = target.as_bytes();
        header.as_mut_bytes()[157..157 + bytes.len()].copy_from_slice(bytes);
        raw_name(&mut self.0, &mut header, path);
        self.0.append(&header, &[][..]).unwrap();
        self
    }

    pub(crate) fn device(
        mut self,
        kind: tar::EntryType,
        path: &str,
        major: u32,
        minor: u32,
    ) -> Tar {
        let mut header = Tar::header(kind, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        raw_name(&mut self.0, &mut header, path);
        self.0.append(&header, &[][..]).unwrap();
        self
    }

    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Tar {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    pub(crate) fn header_and_bytes(mut self, header: &tar::Header, bytes: &[u8]) -> Tar {
        self.0.append(header, bytes).unwrap();
        self
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Past the crate's own checks, which refuse what these tests are about; long
/// names as GNU tar writes them.
fn raw_name(builder: &mut tar::Builder<Vec<u8>>, header: &mut tar::Header, path: &str) {
    let bytes = path.as_bytes();
    if bytes.len() > 100 {
        let mut long = Tar::header(tar::EntryType::GNULongName, bytes.len() as u64 + 1);
        long.as_mut_bytes()[..13].copy_from_slice(b"././@LongLink");
        long.set_cksum();
        builder
            .append(&long, [bytes, &[0]].concat().as_slice())
            .unwrap();
    }
    let length = bytes.len().min(100);
    header.as_mut_bytes()[..length].copy_from_slice(&bytes[..length]);
    header.set_cksum();
}

/// Nothing is under way, nothing half-made.
pub(crate) fn assert_nothing_left(folder: &Path) {
    for name in ["staging", "layers", "refs", "holds"] {
        let left: Vec<_> = std::fs::read_dir(folder.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A host on which nothing runs.
pub(crate) struct Nothing;

impl Host for Nothing {
    fn seat(&self) -> Result<Seat, String> {
        Err("nothing runs here".to_owned())
    }
    fn start(&self, _spec: &Spec) -> Result<(), boatyard_sandbox::Error> {
        unreachable!("no seat, no start")
    }
    fn remove(&self, _id: &Id, _state: &Path) -> Result<(), boatyard_sandbox::Error> {
        Ok(())
    }
    fn ended(&self, _id: &Id, _state: &Path) -> Result<Option<i32>, boatyard_sandbox::Error> {
        Ok(None)
    }
}
