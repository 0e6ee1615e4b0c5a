//! A registry on loopback that serves Features and Templates of a case's workspace.
//!
//! Reads only, in plain HTTP, from memory: manifests, blobs and lists of tags. Everything is made
//! before the first request is answered. Its thread ends when the value is dropped.

use crate::case::Artifact;
use boatyard_testkit::amend::hex_digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A port on loopback, not yet served.
pub(crate) struct Server(TcpListener);

/// Serves until dropped.
pub(crate) struct Serving {
    port: u16,
    ending: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What is answered, by path: media type and body.
type Answers = BTreeMap<String, (&'static str, Vec<u8>)>;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Server {
    pub(crate) fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Serves the artifacts whose folders lie in the workspace.
    pub(crate) fn serve(self, workspace: &Path, artifacts: &[Artifact]) -> Serving {
        let mut answers = Answers::new();
        answers.insert("/v2/".into(), ("application/json", b"{}".to_vec()));
        for artifact in artifacts {
            publish(&mut answers, workspace, artifact);
        }
        let ending = Arc::new(AtomicBool::new(false));
        let port = self.port();
        let ended = Arc::clone(&ending);
        let thread = std::thread::spawn(move || {
            for stream in self.0.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let _ = stream.and_then(|stream| answer(&stream, &answers));
            }
        });
        Serving {
            port,
            ending,
            thread: Some(thread),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // Wakes it.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn publish(answers: &mut Answers, workspace: &Path, artifact: &Artifact) {
    let Artifact {
        reference, kind, ..
    } = artifact;
    let folder = workspace.join(&artifact.source);
    let metadata = std::fs::read(folder.join(format!("devcontainer-{kind}.json"))).unwrap();
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    archive.mode(tar::HeaderMode::Deterministic);
    archive.append_dir_all(".", &folder).unwrap();
    let archive = archive.into_inner().unwrap();
    let mut blob = |body: &[u8]| {
        let digest = format!("sha256:{}", hex_digest(body));
        let path = format!("/v2/{reference}/blobs/{digest}");
        answers.insert(path, ("application/octet-stream", body.to_vec()));
        json!({"digest": digest, "size": body.len()})
    };
    let (mut config, mut layer) = (blob(b"{}"), blob(&archive));
    config["mediaType"] = "application/vnd.devcontainers".into();
    layer["mediaType"] = "application/vnd.devcontainers.layer.v1+tar".into();
    let id = metadata["id"].as_str().unwrap();
    let title = format!("devcontainer-{kind}-{id}.tgz");
    layer["annotations"] = json!({"org.opencontainers.image.title": title});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        "annotations": {
            "dev.containers.metadata": metadata.to_string(),
            "com.github.package.type": format!("devcontainer_{kind}"),
        },
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = format!("sha256:{}", hex_digest(&manifest));
    for tag in artifact.tags.iter().chain([&digest]) {
        let path = format!("/v2/{reference}/manifests/{tag}");
        answers.insert(path, (MANIFEST, manifest.clone()));
    }
    let tags = json!({"name": reference, "tags": artifact.tags}).to_string();
    let path = format!("/v2/{reference}/tags/list");
    answers.insert(path, ("application/json", tags.into_bytes()));
}

/// Answers one request and closes.
fn answer(mut stream: &TcpStream, answers: &Answers) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let missing = br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_vec();
    let known = answers
        .get(path)
        .or_else(|| answers.get(&format!("{path}/")));
    let (status, (kind, body)) = match known {
        Some((kind, body)) => ("200 OK", (*kind, body)),
        None => ("404 Not Found", ("application/json", &missing)),
    };
    let digest = format!("sha256:{}", hex_digest(body));
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {digest}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if method != Some("HEAD") {
        stream.write_all(body)?;
    }
    stream.flush()
}
