//! Several servers on one store.

use crate::harness::{CLASSES, RUNNERS, Server, Who, within};
use boatyard_link::client::Error;
use boatyard_link::tunnel::{self, TargetKind};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

const PROTOCOL: &str = "boatyard-stream/1";

/// The runner r1, connected to `server`: says `name` on every stream and then what it hears.
async fn runner(server: &Server, token: &str, name: &'static str) -> JoinHandle<()> {
    let path = format!("{RUNNERS}/r1/tunnel");
    let endpoint = server.endpoint(token);
    let dialled = endpoint.upgrade(&path, tunnel::PROTOCOL).await;
    let (mut incoming, driving) = tunnel::accept(dialled.unwrap());
    tokio::spawn(async move {
        let serving = async {
            while let Some(mut asked) = incoming.recv().await {
                assert_eq!(asked.target().await.unwrap().kind, TargetKind::Runner);
                let mut stream = asked.accept().await.unwrap();
                stream.write_all(name.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                let mut heard = [0; 5];
                stream.read_exact(&mut heard).await.unwrap();
                stream.write_all(&heard).await.unwrap();
                stream.flush().await.unwrap();
            }
        };
        tokio::join!(serving, driving);
    })
}

/// What the runner says to a client of `server`.
async fn talk(server: &Server) -> Result<String, Error> {
    let path = format!("{RUNNERS}/r1/connect");
    let endpoint = server.endpoint(&server.admin_token());
    let mut stream = within(endpoint.upgrade(&path, PROTOCOL)).await?;
    stream.write_all(b"ahoy!").await.unwrap();
    stream.flush().await.unwrap();
    let mut said = vec![0; 10];
    within(stream.read_exact(&mut said)).await.unwrap();
    Ok(String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_token_is_good_at_every_server_until_it_is_replaced_at_any() {
    let one = Server::start().await;
    let other = one.beside().await;
    let path = format!("{RUNNERS}/r5/token");
    let token = |minted: Value| Who::Token(minted["token"].as_str().unwrap().to_owned());
    let first = token(one.post(&path, Value::Null).await.ok());
    other.ask(&first, "GET", CLASSES, Value::Null).await.ok();
    let second = token(other.post(&path, Value::Null).await.ok());
    one.ask(&second, "GET", CLASSES, Value::Null).await.ok();
    // The one that is replaced is forgotten with the store's next event.
    within(async {
        loop {
            let answer = one.ask(&first, "GET", CLASSES, Value::Null).await;
            if answer.status == 401 {
                break;
            }
        }
    })
    .await;
    // One authority: whoever trusts one server trusts all.
    one.handshake(&other).await.unwrap();
    other.handshake(&one).await.unwrap();
}

#[tokio::test]
async fn a_deleted_runner_is_nobody_at_any_server_and_what_it_had_open_is_closed() {
    let one = Server::start().await;
    let other = one.beside().await;
    // The token minted last is the good one.
    let token = Who::Token(other.runner_token.clone());
    let object = json!({"metadata": {"name": "r1", "finalizers": ["test/held"]}, "spec": {}});
    one.post(RUNNERS, object).await.ok();
    // Its tunnel is at one server, a watch at the other.
    let connected = runner(&one, &other.runner_token, "one: ").await;
    assert_eq!(talk(&other).await.unwrap(), "one: ahoy!");
    let watched = format!("{RUNNERS}?watch=true&fieldSelector=metadata.name%3Dr1");
    let mut watch = other.watch(&token, &watched).await;
    assert_eq!(watch.told().await, "ADDED r1");
    // While something holds it, it is still there.
    let path = format!("{RUNNERS}/r1");
    other.delete(&path).await.ok();
    assert_eq!(watch.told().await, "MODIFIED r1");
    one.ask(&token, "GET", CLASSES, Value::Null).await.ok();
    assert_eq!(talk(&other).await.unwrap(), "one: ahoy!");
    let release = json!({"metadata": {"finalizers": null}});
    other.patch(&path, release).await.ok();
    // With the store's next event, at both servers.
    within(async { while watch.next().await.is_some() {} }).await;
    within(connected).await.unwrap();
    for server in [&one, &other] {
        let answer = server.ask(&token, "GET", CLASSES, Value::Null).await;
        answer.refused(401, "Unauthorized");
        let door = format!("{path}/tunnel");
        let endpoint = server.endpoint(&other.runner_token);
        let dialled = endpoint.upgrade(&door, tunnel::PROTOCOL).await;
        assert!(matches!(dialled, Err(Error::Refused { code: 401, .. })));
    }
    // It may be let in again, as another.
    let minted = one.post(&format!("{path}/token"), Value::Null).await.ok();
    let again = minted["token"].as_str().unwrap();
    let _connected = runner(&other, again, "two: ").await;
    assert_eq!(talk(&one).await.unwrap(), "two: ahoy!");
}

#[tokio::test]
async fn a_stream_reaches_a_runner_that_is_connected_to_another_server() {
    let one = Server::start().await;
    let other = one.beside().await;
    // The token minted last is the good one.
    let token = other.runner_token.clone();
    let object = json!({"metadata": {"name": "r1"}, "spec": {}});
    one.post(RUNNERS, object).await.ok();

    let first = runner(&one, &token, "first").await;
    assert_eq!(talk(&one).await.unwrap(), "firstahoy!");
    assert_eq!(talk(&other).await.unwrap(), "firstahoy!");

    // It dials in elsewhere; both find it there.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let again = runner(&other, &token, "again").await;
    assert_eq!(talk(&one).await.unwrap(), "againahoy!");
    assert_eq!(talk(&other).await.unwrap(), "againahoy!");
    again.abort();
}

#[tokio::test]
async fn a_stream_waits_for_a_runner_whose_server_has_gone() {
    let one = Server::start().await;
    let other = one.beside().await;
    let token = other.runner_token.clone();
    let object = json!({"metadata": {"name": "r1"}, "spec": {}});
    one.post(RUNNERS, object).await.ok();
    let first = runner(&other, &token, "first").await;
    assert_eq!(talk(&one).await.unwrap(), "firstahoy!");
    other.halt().await;
    first.abort();
    let (said, _second) = tokio::join!(talk(&one), runner(&one, &token, "other"));
    assert_eq!(said.unwrap(), "otherahoy!");
}

#[tokio::test]
async fn a_stream_waits_for_a_runner_last_seen_at_a_server_that_others_cannot_reach() {
    let one = Server::start().await;
    let (folder, store) = (Arc::new(tempfile::tempdir().unwrap()), one.store.clone());
    // It listens everywhere, and nobody told it where others reach it.
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let hidden = Server::start_on(folder, store.clone(), store, |options| {
        options.listen = Some(everywhere);
    })
    .await;
    let token = hidden.runner_token.clone();
    let object = json!({"metadata": {"name": "r1"}, "spec": {}});
    one.post(RUNNERS, object).await.ok();
    let there = runner(&hidden, &token, "far: ").await;
    assert_eq!(talk(&hidden).await.unwrap(), "far: ahoy!");
    let refused = talk(&one).await.err().unwrap().to_string();
    assert!(refused.contains("--advertise"), "{refused}");
    // It may come to this one meanwhile.
    there.abort();
    let (said, _here) = tokio::join!(talk(&one), runner(&one, &token, "near:"));
    assert_eq!(said.unwrap(), "near:ahoy!");
}

#[tokio::test]
async fn only_servers_relay() {
    let server = Server::start().await;
    let path = format!("{RUNNERS}/r1/relay?kind=runner");
    for who in [Who::Admin, server.runner(), Who::User(1000)] {
        let refused = server.ask(&who, "POST", &path, Value::Null).await;
        refused.refused(403, "Forbidden");
    }
}
