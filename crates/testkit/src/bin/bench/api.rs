//! `boatyard server` alone, and the calls the groups make to it.
//!
//! Reached through its unix socket, as root, without TLS: as etcd is reached without.

use crate::calls::{Connections, call};
use boatyard_testkit::{daemon, wait};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const ENVIRONMENTS: &str = "/apis/boatyard.dev/v1/namespaces/default/environments";

/// A running server, killed when dropped.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts one with everything it keeps in a folder.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_timed(folder).0
    }

    /// The same, and how long it took until it answered.
    pub(crate) fn start_timed(folder: &Path) -> (Self, Duration) {
        std::fs::create_dir_all(folder).unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let began = Instant::now();
        let mut child = Command::new(daemon::binary())
            .args(["server", "--listen", "127.0.0.1:0", "--state-dir"])
            .arg(folder.join("state"))
            .arg("--socket")
            .arg(folder.join("socket"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        wait::until("the server's socket", || {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the server ended, see {}",
                folder.display()
            );
            std::os::unix::net::UnixStream::connect(folder.join("socket")).ok()
        });
        let server = Self {
            child,
            folder: folder.to_owned(),
        };
        (server, began.elapsed())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn connect(&self, count: usize) -> Connections {
        Connections::unix(&self.folder.join("socket"), count).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An Environment as a client sends it: about half a KiB, about one as it is stored.
pub(crate) fn environment(name: &str) -> Bytes {
    let text = format!(
        r#"{{"apiVersion":"boatyard.dev/v1","kind":"Environment","metadata":{{"name":"{name}","labels":{{"team":"harbour","app.kubernetes.io/managed-by":"bench"}},"annotations":{{"example.com/note":"{}"}}}},"spec":{{"source":{{"git":{{"url":"https://git.example.com/harbour/{name}.git"}}}},"devcontainer":{{"image":"debian:bookworm","localEnv":{{"USER":"harbour","LANG":"C.UTF-8"}}}},"className":"default","state":"Running"}}}}"#,
        "n".repeat(300)
    );
    text.into()
}

/// Sends a request that must succeed; the answer's body.
pub(crate) async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    body: Bytes,
) -> Bytes {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = Request::builder()
        .method(method)
        .uri(format!("http://boatyard{path}"))
        .header("content-type", kind)
        .body(Full::new(body))
        .unwrap();
    let (head, body, _) = call(sender, request).await;
    assert!(
        head.status.is_success(),
        "{method} {path}: {} {}",
        head.status,
        String::from_utf8_lossy(&body)
    );
    body
}
