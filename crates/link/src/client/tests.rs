//! Clients beside servers that speak one version of HTTP or both, and beside some that went silent.

use super::*;
use crate::tls::{Authority, Pair, client_config};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use hyper::service::service_fn;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::sync::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A server with these protocols, which answers with the version of HTTP it was asked in. Answers
/// its endpoint, and a count of its connections.
async fn server(protocols: &[&[u8]]) -> (Endpoint, Arc<Mutex<usize>>) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(&Pair::generate().unwrap(), folder.path()).unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let mut config = rustls::ServerConfig::clone(&authority.server_config(names).unwrap());
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint {
        address: Address::Tls {
            authority: listener.local_addr().unwrap().to_string(),
            config: client_config(&authority.pem).unwrap(),
        },
        token: None,
    };
    let connections = Arc::new(Mutex::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            *counted.lock().unwrap() += 1;
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let socket = TokioIo::new(acceptor.accept(tcp).await.unwrap());
                let service = service_fn(|request: Request<Incoming>| async move {
                    if request.uri().path() == "/refused" {
                        let mut refused = Response::new(Full::from("{}").boxed());
                        *refused.status_mut() = StatusCode::UNAUTHORIZED;
                        return Ok::<_, Infallible>(refused);
                    }
                    let version = Full::from(format!(r#""{:?}""#, request.version()));
                    // As a watch, to which nothing happens.
                    let watch = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
                    let body = match request.uri().path() {
                        "/watch" => BodyExt::boxed(StreamBody::new(watch)),
                        _ => version.boxed(),
                    };
                    Ok(Response::new(body))
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                drop(builder.serve_connection(socket, service).await);
            });
        }
    });
    (endpoint, connections)
}

async fn version(client: &kube::Client) -> String {
    let request = Request::get("/").body(Vec::new()).unwrap();
    client.request(request).await.unwrap()
}

#[tokio::test]
async fn requests_share_one_connection_where_the_other_end_has_http2() {
    let (endpoint, connections) = server(&[b"h2", b"http/1.1"]).await;
    let client = endpoint.kube();
    assert_eq!(version(&client).await, "HTTP/2.0");
    futures::future::join_all((0..50).map(|_| version(&client))).await;
    assert_eq!(*connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_proxy_that_has_no_http2_is_spoken_to_as_before() {
    for protocols in [&[b"http/1.1" as &[u8]] as &[&[u8]], &[]] {
        let (endpoint, _) = server(protocols).await;
        assert_eq!(version(&endpoint.kube()).await, "HTTP/1.1");
    }
}

/// A forwarder before a server, which goes silent without closing anything: on the connections that
/// were made before it was told so, while later ones are served.
struct Forwarder {
    made: watch::Sender<usize>,
    silenced: watch::Sender<usize>,
    /// Connections that their client closed.
    closed: watch::Sender<usize>,
}

impl Forwarder {
    async fn before(endpoint: &mut Endpoint) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let Address::Tls { authority, .. } = &mut endpoint.address else {
            unreachable!("the tests' server speaks TLS")
        };
        let behind = std::mem::replace(authority, listener.local_addr().unwrap().to_string());
        let forwarder = Arc::new(Self {
            made: watch::Sender::new(0),
            silenced: watch::Sender::new(0),
            closed: watch::Sender::new(0),
        });
        let own = forwarder.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let number = *own.made.borrow();
                own.made.send_replace(number + 1);
                let (own, behind) = (own.clone(), behind.clone());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(behind).await.unwrap();
                    let mut silenced = own.silenced.subscribe();
                    let silent = async {
                        drop(silenced.wait_for(|silenced| *silenced > number).await);
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                        () = silent => {}
                    }
                    // Takes what comes, as a peer's kernel does, and answers nothing.
                    let _ = tokio::io::copy(&mut near, &mut tokio::io::sink()).await;
                    own.closed.send_modify(|closed| *closed += 1);
                });
            }
        });
        forwarder
    }

    fn go_silent(&self) {
        self.silenced.send_replace(*self.made.borrow());
    }
}

const SHORT: Patience = Patience {
    keep_alive: Duration::from_millis(100),
    answer: Duration::from_secs(3),
    silence: Duration::from_secs(320),
};

async fn within<F: Future>(future: F) -> F::Output {
    let waited = tokio::time::timeout(Duration::from_secs(60), future).await;
    waited.expect("it took too long")
}

async fn watching(client: &kube::Client) -> kube::client::Body {
    let request = Request::get("/watch").body(kube::client::Body::empty());
    let answer = within(client.send(request.unwrap())).await.unwrap();
    answer.into_body()
}

#[tokio::test]
async fn a_connection_whose_other_end_vanished_is_given_up_with_all_that_waits_and_made_anew() {
    let (mut endpoint, connections) = server(&[b"h2", b"http/1.1"]).await;
    let forwarder = Forwarder::before(&mut endpoint).await;
    let client = endpoint.kube_with(SHORT);
    let mut watch = watching(&client).await;
    // What nothing happens to lives on as long as the other end does.
    let quiet = tokio::time::timeout(SHORT.keep_alive + 2 * SHORT.answer, watch.frame()).await;
    assert!(quiet.is_err(), "{:?}", quiet.unwrap());
    forwarder.go_silent();
    let request = Request::get("/").body(Vec::new()).unwrap();
    let (watched, asked) =
        within(async { tokio::join!(watch.frame(), client.request::<serde_json::Value>(request)) })
            .await;
    assert!(matches!(watched, Some(Err(_))), "{watched:?}");
    assert!(asked.is_err(), "{asked:?}");
    assert_eq!(within(version(&client)).await, "HTTP/2.0");
    assert_eq!(*connections.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_given_up_before_somebody_does() {
    let (mut endpoint, _) = server(&[b"h2"]).await;
    let forwarder = Forwarder::before(&mut endpoint).await;
    let client = endpoint.kube_with(SHORT);
    assert_eq!(version(&client).await, "HTTP/2.0");
    forwarder.go_silent();
    let mut closed = forwarder.closed.subscribe();
    within(closed.wait_for(|closed| *closed == 1))
        .await
        .unwrap();
    assert_eq!(within(version(&client)).await, "HTTP/2.0");
}

#[tokio::test]
async fn where_there_is_no_http2_what_is_silent_too_long_breaks() {
    let (mut endpoint, _) = server(&[b"http/1.1"]).await;
    let forwarder = Forwarder::before(&mut endpoint).await;
    let silence = Duration::from_secs(3);
    let client = endpoint.kube_with(Patience { silence, ..SHORT });
    let mut watch = watching(&client).await;
    forwarder.go_silent();
    let frame = within(watch.frame()).await;
    assert!(matches!(frame, Some(Err(_))), "{frame:?}");
    assert_eq!(within(version(&client)).await, "HTTP/1.1");
}

#[tokio::test]
async fn whoever_is_refused_first_tells_all_who_have_the_token() {
    let (mut endpoint, _) = server(&[b"h2", b"http/1.1"]).await;
    let token = Token::from("one");
    endpoint.token = Some(token.clone());
    let client = endpoint.kube();
    let refused = || Request::get("/refused").body(Vec::new()).unwrap();
    let asked = client.request::<serde_json::Value>(refused()).await;
    assert!(asked.is_err());
    assert!(token.is_refused());
    version(&client).await;
    assert!(!token.is_refused());
    let asked = endpoint.upgrade("/refused", "test/1").await;
    assert!(matches!(asked, Err(Error::Refused { code: 401, .. })));
    assert!(token.is_refused());
}
