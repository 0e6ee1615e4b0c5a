//! A server in this process, and requests to it as they are on the wire.

use boatyard_link::client::{Address, Endpoint};
use boatyard_server::{Options, Service};
use boatyard_store::Store;
use boatyard_store::sqlite::{self, SqliteStore};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

/// Longest anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const ENVIRONMENTS: &str = "/apis/boatyard.dev/v1/namespaces/default/environments";
pub(crate) const CLASSES: &str = "/apis/boatyard.dev/v1/environmentclasses";
pub(crate) const RUNNERS: &str = "/apis/boatyard.dev/v1/runners";
pub(crate) const EVENTS: &str = "/api/v1/namespaces/default/events";

/// A server that serves until it is stopped or dropped.
pub(crate) struct Server {
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) runner_token: String,
    address: String,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// Who asks, and how.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// The administrator's token over the unix socket.
    Admin,
    /// No token over the unix socket, as the user with this id.
    User(u32),
    /// This token over the unix socket.
    Token(String),
    /// This value of the `Authorization` header over TLS.
    Tls(Option<String>),
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    async fn read(response: http::Response<Incoming>) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = within(response.into_body().collect())
            .await
            .unwrap()
            .to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            status,
            headers,
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }

    /// The object of a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        self.json
    }

    /// Checks a failure, and gives its message.
    #[track_caller]
    pub(crate) fn refused(self, code: u16, reason: &str) -> String {
        assert_eq!(self.status.as_u16(), code, "{self:?}");
        assert_eq!(self.json["kind"], "Status", "{self:?}");
        assert_eq!(self.json["code"], code, "{self:?}");
        assert_eq!(self.json["reason"], reason, "{self:?}");
        self.json["message"].as_str().unwrap().to_owned()
    }
}

pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await
    }

    /// A server on a folder that an earlier one may have used.
    pub(crate) async fn start_in(
        folder: Arc<tempfile::TempDir>,
        adjust: impl FnOnce(&mut sqlite::Options),
    ) -> Self {
        let mut options = sqlite::Options::new(folder.path().join("store.db"));
        adjust(&mut options);
        let store = Arc::new(SqliteStore::open(options).unwrap());
        Self::start_on(folder, store.clone(), store, |_| {}).await
    }

    /// A server that lets clients hold no more than these.
    pub(crate) async fn limited(limits: boatyard_server::Limits) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let options = sqlite::Options::new(folder.path().join("store.db"));
        let store = Arc::new(SqliteStore::open(options).unwrap());
        let seen = store.clone();
        Self::start_on(folder, store, seen, |options| options.limits = limits).await
    }

    /// Another server on the same store.
    pub(crate) async fn beside(&self) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::start_on(folder, self.store.clone(), self.store.clone(), |_| {}).await
    }

    /// A server over a store that others may serve too; `seen` is how it sees the store.
    pub(crate) async fn start_on(
        folder: Arc<tempfile::TempDir>,
        store: Arc<SqliteStore>,
        seen: Arc<dyn Store>,
        adjust: impl FnOnce(&mut Options),
    ) -> Self {
        let open = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(folder.path(), open(0o755)).unwrap();
        let mut options = Options::new(folder.path().join("state"), seen);
        let socket = folder.path().join("api.sock");
        options.unix_socket = Some(socket.clone());
        options.listen = Some("127.0.0.1:0".parse().unwrap());
        // Whoever counts revisions counts no renewals.
        options.lease = std::time::Duration::from_secs(3600);
        adjust(&mut options);
        let service = Service::new(options).await.unwrap();
        std::fs::set_permissions(&socket, open(0o666)).unwrap();
        let shutdown = CancellationToken::new();
        // Of one that listens everywhere, what its certificate is for.
        let address = service.address().unwrap().to_string();
        let address = address.replace("0.0.0.0", "127.0.0.1");
        let runner_token = service.runner_tokens().mint("r1").await.unwrap();
        let task = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { service.run(shutdown).await.unwrap() }
        });
        Self {
            folder,
            store,
            runner_token,
            address,
            shutdown,
            task,
        }
    }

    /// Ends it and leaves the store open, which others serve.
    pub(crate) async fn leave(self) -> Arc<tempfile::TempDir> {
        self.shutdown.cancel();
        within(self.task).await.unwrap();
        self.folder
    }

    /// Ends it between two instructions, as SIGKILL would.
    pub(crate) async fn kill(self) -> Arc<tempfile::TempDir> {
        self.task.abort();
        assert!(within(self.task).await.unwrap_err().is_cancelled());
        self.folder
    }

    /// Ends it as a signal would, and gives the folder back.
    pub(crate) async fn stop(self) -> Arc<tempfile::TempDir> {
        self.shutdown.cancel();
        within(self.task).await.unwrap();
        self.store.close().await.unwrap();
        self.folder
    }

    /// Ends it and leaves the store to others.
    pub(crate) async fn halt(self) {
        self.shutdown.cancel();
        within(self.task).await.unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    pub(crate) fn admin_token(&self) -> String {
        let path = self.folder.path().join("state/admin.kubeconfig");
        let config = std::fs::read_to_string(path).unwrap();
        let config: Value = serde_norway::from_str(&config).unwrap();
        let token = &config["users"][0]["user"]["token"];
        token.as_str().unwrap().to_owned()
    }

    pub(crate) fn runner(&self) -> Who {
        Who::Token(self.runner_token.clone())
    }

    /// The way to it over TLS.
    pub(crate) fn endpoint(&self, token: &str) -> Endpoint {
        Endpoint {
            address: Address::Tls {
                authority: self.address.clone(),
                config: self.tls_config(),
            },
            token: Some(token.into()),
        }
    }

    /// A client for resources as the administrator, over TLS.
    pub(crate) fn kube(&self) -> kube::Client {
        self.endpoint(&self.admin_token()).kube()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Shakes hands over TLS, trusting what `trusted` is certified by.
    pub(crate) async fn handshake(&self, trusted: &Self) -> std::io::Result<()> {
        let name = "127.0.0.1".to_owned().try_into().unwrap();
        let tcp = TcpStream::connect(&self.address).await?;
        let connector = tokio_rustls::TlsConnector::from(trusted.tls_config());
        connector.connect(name, tcp).await.map(drop)
    }

    fn tls_config(&self) -> Arc<tokio_rustls::rustls::ClientConfig> {
        let pem = std::fs::read_to_string(self.folder.path().join("state/ca.crt")).unwrap();
        boatyard_link::tls::client_config(&pem).unwrap()
    }

    /// A client that keeps its connection.
    pub(crate) async fn client(&self, who: &Who) -> Client {
        let authorization = self.authorization(who);
        let socket = TokioIo::new(self.dial(who).await);
        let (sender, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        Client {
            sender,
            authorization,
            connection: tokio_util::task::AbortOnDropHandle::new(connection),
        }
    }

    fn authorization(&self, who: &Who) -> Option<String> {
        match who {
            Who::Admin => Some(format!("Bearer {}", self.admin_token())),
            Who::Token(token) => Some(format!("Bearer {token}")),
            Who::Tls(value) => value.clone(),
            Who::User(_) => None,
        }
    }

    pub(crate) async fn dial(&self, who: &Who) -> Box<dyn Socket> {
        if let Who::Tls(_) = who {
            let name = "127.0.0.1".to_owned().try_into().unwrap();
            let tcp = TcpStream::connect(&self.address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(self.tls_config());
            return Box::new(connector.connect(name, tcp).await.unwrap());
        }
        let Who::User(uid) = *who else {
            return Box::new(UnixStream::connect(self.socket()).await.unwrap());
        };
        // The kernel notes who connects: a thread takes the user's identity for that moment.
        let path = self.socket();
        let connecting = std::thread::spawn(move || {
            let uid = rustix::process::Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).expect("these tests need root");
            std::os::unix::net::UnixStream::connect(path).unwrap()
        });
        let stream = connecting.join().unwrap();
        stream.set_nonblocking(true).unwrap();
        Box::new(UnixStream::from_std(stream).unwrap())
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send(
        &self,
        who: &Who,
        mut request: Request<Full<Bytes>>,
    ) -> http::Response<Incoming> {
        let authorization = self.authorization(who);
        let headers = request.headers_mut();
        headers.insert("host", "boatyard".parse().unwrap());
        if let Some(value) = authorization {
            headers.insert("authorization", value.parse().unwrap());
        }
        let socket = TokioIo::new(self.dial(who).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
        // Ends with the answer's body.
        tokio::spawn(connection);
        within(sender.send_request(request)).await.unwrap()
    }

    /// Sends a request with a JSON body, when it is not null.
    pub(crate) async fn ask(&self, who: &Who, method: &str, path: &str, body: Value) -> Answer {
        let media = match method {
            "PATCH" if body.is_array() => "application/json-patch+json",
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.tell(who, method, path, &[("content-type", media)], text)
            .await
    }

    /// Sends a request with any headers and body.
    pub(crate) async fn tell(
        &self,
        who: &Who,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().append(name, value);
        }
        Answer::read(self.send(who, request).await).await
    }

    /// Sends a GET, and gives the answer's headers and bytes, whatever they are.
    pub(crate) async fn raw(
        &self,
        who: &Who,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> (HeaderMap, Bytes) {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let response = self.send(who, request).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers().clone();
        let body = within(response.into_body().collect()).await.unwrap();
        (headers, body.to_bytes())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&Who::Admin, "GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(&Who::Admin, "POST", path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(&Who::Admin, "PUT", path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.ask(&Who::Admin, "PATCH", path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask(&Who::Admin, "DELETE", path, Value::Null).await
    }

    /// Creates an environment with a label.
    pub(crate) async fn environment(&self, name: &str, tier: &str) -> Value {
        self.post(ENVIRONMENTS, environment(name, tier)).await.ok()
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, who: &Who, path: &str) -> Watch {
        self.watch_as(who, path, "application/json").await
    }

    /// Opens a watch whose objects come in the form that `accept` asks for.
    pub(crate) async fn watch_as(&self, who: &Who, path: &str, accept: &str) -> Watch {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = path.parse().unwrap();
        let accept = accept.parse().unwrap();
        request.headers_mut().insert("accept", accept);
        let response = self.send(who, request).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Watch {
            body: response.into_body(),
            read: Vec::new(),
        }
    }
}

/// One connection of somebody's.
pub(crate) struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    authorization: Option<String>,
    #[expect(dead_code, reason = "ends with the client")]
    connection: tokio_util::task::AbortOnDropHandle<()>,
}

impl Client {
    /// Sends a request with a JSON body, when it is not null.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        *request.uri_mut() = path.parse().unwrap();
        let headers = request.headers_mut();
        headers.insert("host", "boatyard".parse().unwrap());
        let media = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        headers.insert("content-type", media.parse().unwrap());
        if let Some(value) = &self.authorization {
            headers.insert("authorization", value.parse().unwrap());
        }
        within(self.sender.ready()).await.unwrap();
        Answer::read(within(self.sender.send_request(request)).await.unwrap()).await
    }
}

/// An environment bound to a runner that is elsewhere: the scheduler leaves it alone, so that
/// nobody but the test writes it.
pub(crate) fn environment(name: &str, tier: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"tier": tier}}, "spec": {"devcontainer": {"image": "test:latest"}, "runnerName": "elsewhere"}})
}

/// Where an environment of the default namespace is.
pub(crate) fn at(name: &str) -> String {
    format!("{ENVIRONMENTS}/{name}")
}

/// What a watch shows, line by line.
pub(crate) struct Watch {
    body: Incoming,
    read: Vec<u8>,
}

impl Watch {
    /// The next event; None at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = within(self.body.frame()).await?.ok()?;
            self.read.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// The next event as `TYPE name`.
    pub(crate) async fn told(&mut self) -> String {
        let event = self.next().await.expect("the watch goes on");
        told(&event)
    }
}

pub(crate) fn told(event: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let name = word(&event["object"]["metadata"]["name"]);
    format!("{} {name}", word(&event["type"]))
}

/// Waits with patience.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

pub(crate) fn version(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.expect("a resourceVersion").parse().unwrap()
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}
