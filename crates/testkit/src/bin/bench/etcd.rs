//! etcd as a peer: one member on loopback, with its defaults, and its gRPC calls by hand.
//!
//! The two messages that are sent are written out field by field (etcd's rpc.proto), and of what
//! comes back only as much is read as tells success. No client library: it would be measured too.

use crate::calls::{Connections, begin, call};
use boatyard_testkit::wait;
use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running etcd, killed when dropped.
pub(crate) struct Etcd {
    child: Child,
    port: u16,
}

/// Two ports nobody has at the moment.
fn free_ports() -> [u16; 2] {
    let bound = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    bound
        .each_ref()
        .map(|socket| socket.local_addr().unwrap().port())
}

impl Etcd {
    /// Starts one with its data in a folder.
    pub(crate) fn start(data: &Path) -> Self {
        let [port, peers] = free_ports();
        let (client_url, peer_url) = (
            format!("http://127.0.0.1:{port}"),
            format!("http://127.0.0.1:{peers}"),
        );
        std::fs::create_dir_all(data).unwrap();
        let log = std::fs::File::create(data.with_extension("log")).unwrap();
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(data)
            .args([
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let etcd = Self { child, port };
        etcd.await_ready();
        etcd
    }

    fn await_ready(&self) {
        let health = format!("http://127.0.0.1:{}/health", self.port);
        wait::until("etcd to be healthy", || {
            let said = Command::new("curl")
                .args(["--silent", "--fail", &health])
                .output();
            said.unwrap().status.success().then_some(())
        });
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn connect(&self, count: usize) -> Connections {
        Connections::tcp(self.port, count).await
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A field of bytes; the tag of field n is 8n + 2.
fn field(into: &mut BytesMut, number: u8, bytes: &[u8]) {
    into.put_u8(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        into.put_u8(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    into.put_u8(u8::try_from(length).unwrap());
    into.put_slice(bytes);
}

fn request(method: &str, message: &[u8]) -> Request<Full<Bytes>> {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    Request::post(format!("http://etcd/etcdserverpb.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed.freeze()))
        .unwrap()
}

/// `KV.Put`.
pub(crate) async fn put(sender: &mut SendRequest<Full<Bytes>>, key: &str, value: &[u8]) {
    let mut message = BytesMut::with_capacity(value.len() + key.len() + 16);
    field(&mut message, 1, key.as_bytes());
    field(&mut message, 2, value);
    let (head, _, trailers) = call(sender, request("KV/Put", &message)).await;
    let status = trailers
        .as_ref()
        .unwrap_or(&head.headers)
        .get("grpc-status")
        .cloned();
    assert_eq!(status.expect("a gRPC status"), "0", "etcd refused {key}");
}

/// `KV.Range` of all keys from `key` to before `end`; bytes of the answer.
pub(crate) async fn range(sender: &mut SendRequest<Full<Bytes>>, key: &str, end: &str) -> usize {
    let mut message = BytesMut::new();
    field(&mut message, 1, key.as_bytes());
    field(&mut message, 2, end.as_bytes());
    call(sender, request("KV/Range", &message)).await.1.len()
}

/// A watch of all keys from one to before another.
pub(crate) struct Watch(Incoming);

impl Watch {
    /// Opens it and waits until etcd says it is there.
    pub(crate) async fn open(sender: &mut SendRequest<Full<Bytes>>, key: &str, end: &str) -> Self {
        let mut create = BytesMut::new();
        field(&mut create, 1, key.as_bytes());
        field(&mut create, 2, end.as_bytes());
        let mut message = BytesMut::new();
        field(&mut message, 1, &create);
        let response = begin(sender, request("Watch/Watch", &message)).await;
        assert_eq!(response.status(), 200);
        let mut watch = Self(response.into_body());
        watch.next().await;
        watch
    }

    /// The next message as it came.
    pub(crate) async fn next(&mut self) -> Bytes {
        let frame = self.0.frame().await.expect("a message").unwrap();
        frame.into_data().expect("data")
    }
}
