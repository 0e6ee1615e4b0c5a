//! Clients beside servers that speak one version of HTTP or both.

use super::*;
use crate::tls::{Authority, Pair, client_config};
use hyper::service::service_fn;
use hyper_util::server::conn::auto;
use std::sync::Mutex;
use tokio::net::TcpListener;

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
                    let version = format!(r#""{:?}""#, request.version());
                    Ok::<_, std::convert::Infallible>(Response::new(version))
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
