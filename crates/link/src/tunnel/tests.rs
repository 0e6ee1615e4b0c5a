//! Tunnel: streams both ways over an in-memory connection.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn target() -> Target {
    Target {
        environment_uid: "u1".into(),
        kind: TargetKind::Agent,
        local: None,
        admin: false,
    }
}

async fn connected(registry: &Registry) -> mpsc::Receiver<Incoming> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = registry.clone();
    tokio::spawn(async move { serving.serve("r1".into(), near).await });
    let (incoming, driving) = accept(far);
    tokio::spawn(driving);
    while !registry.connected("r1") {
        tokio::task::yield_now().await;
    }
    incoming
}

#[tokio::test]
async fn carries_bytes_both_ways_after_accept() {
    let registry = Registry::new();
    let mut incoming = connected(&registry).await;
    let runner = tokio::spawn(async move {
        let mut stream = incoming.recv().await.unwrap();
        assert_eq!(stream.target().await.unwrap(), target());
        let mut stream = stream.accept().await.unwrap();
        let mut bytes = vec![0; 200_000];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        incoming
    });
    let mut stream = registry.open("r1", &target()).await.unwrap();
    let sent: Vec<u8> = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let mut echoed = Vec::new();
    let (wrote, read) = tokio::join!(writer.write_all(&sent), reader.read_to_end(&mut echoed));
    wrote.unwrap();
    read.unwrap();
    assert_eq!(echoed, sent);
    runner.await.unwrap();
}

#[tokio::test]
async fn refusal_reaches_the_caller_as_its_sentence() {
    let registry = Registry::new();
    let mut incoming = connected(&registry).await;
    tokio::spawn(async move {
        let mut stream = incoming.recv().await.unwrap();
        stream.target().await.unwrap();
        stream
            .refuse("environment u1 is stopped".into())
            .await
            .unwrap();
        incoming.recv().await
    });
    let error = registry.open("r1", &target()).await.err().unwrap();
    assert_eq!(error.to_string(), "environment u1 is stopped");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_not_connected() {
    let registry = Registry::new();
    let (near, far) = tokio::io::duplex(1024);
    let serving = registry.clone();
    let serve = tokio::spawn(async move { serving.serve("r1".into(), near).await });
    drop(far);
    serve.await.unwrap();
    let error = registry.open("r1", &target()).await.err().unwrap();
    assert!(matches!(error, Error::NotConnected(name) if name == "r1"));
}

/// A runner's end that yamux does not serve.
fn vanished(registry: &Registry) -> (tokio::io::DuplexStream, tokio::task::JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = registry.clone();
    let serve = tokio::spawn(async move { serving.serve("r1".into(), near).await });
    (far, serve)
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_other_end_went_silent_is_given_up_by_both_ends() {
    let registry = Registry::new();
    let began = tokio::time::Instant::now();
    let (_held, serve) = vanished(&registry);
    serve.await.unwrap();
    assert!(!registry.connected("r1"));
    assert!(
        began.elapsed() <= SILENCE + 2 * PING,
        "{:?}",
        began.elapsed()
    );
    let (near, _held) = tokio::io::duplex(64 * 1024);
    let (mut incoming, driving) = accept(near);
    driving.await;
    assert!(incoming.recv().await.is_none());
    assert!(
        began.elapsed() <= (SILENCE + 2 * PING) * 2,
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn ends_that_say_nothing_else_go_on_asking_each_other() {
    let registry = Registry::new();
    let (mut near, serve) = vanished(&registry);
    let (mut far, dialled) = tokio::io::duplex(64 * 1024);
    let (incoming, driving) = accept(dialled);
    let driving = tokio::spawn(driving);
    // All that goes from server to runner and back is pings and their answers, one each way.
    let (mut asked, mut answered) = (0, 0);
    let (mut there, mut back) = ([0; 4096], [0; 4096]);
    let exchanging = async {
        while asked < 2 * 2 * 12 || answered < 2 * 2 * 12 {
            tokio::select! {
                read = near.read(&mut there) => {
                    let read = read.unwrap();
                    asked += read;
                    far.write_all(&there[..read]).await.unwrap();
                }
                read = far.read(&mut back) => {
                    let read = read.unwrap();
                    answered += read;
                    near.write_all(&back[..read]).await.unwrap();
                }
            }
        }
    };
    let exchanged = tokio::time::timeout(3 * PING, exchanging).await;
    assert!(exchanged.is_ok(), "{asked} and {answered} bytes");
    assert!(!serve.is_finished() && !driving.is_finished());
    drop(incoming);
}
