//! The runner's one outbound connection: what comes through it and where it leads.
//!
//! Dials the server, keeps dialling when the connection ends, and joins each stream to the
//! environment's agent socket, its lifecycle commands, or to the runner's own verbs. The server has authorized the
//! stream; the runner checks only that the environment is one of its own and runs.

use crate::context::Context;
use crate::record::Uid;
use crate::verbs::Caller;
use boatyard_link::client::{Address, Endpoint};
use boatyard_link::tunnel::{Incoming, PROTOCOL, TargetKind, accept};
use boatyard_sandbox::spec::User;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pause before dialling again.
const PAUSE: Duration = Duration::from_millis(500);

/// Serves streams until shutdown.
pub(crate) async fn run(context: Context, endpoint: Endpoint, shutdown: CancellationToken) {
    let path = format!("/apis/boatyard.dev/v1/runners/{}/tunnel", context.runner);
    while !shutdown.is_cancelled() {
        let dialled = tokio::select! {
            dialled = endpoint.upgrade(&path, PROTOCOL) => dialled,
            () = shutdown.cancelled() => return,
        };
        // Users of the server's host are users of this one only when it is one host.
        let here = matches!(endpoint.address, Address::Unix(_));
        match dialled {
            Ok(stream) => {
                tracing::info!(server = endpoint.place(), "connected");
                let (mut incoming, driving) = accept(stream);
                let mut streams = JoinSet::new();
                tokio::pin!(driving);
                loop {
                    tokio::select! {
                        () = &mut driving => break,
                        () = shutdown.cancelled() => break,
                        Some(stream) = incoming.recv() => {
                            streams.spawn(serve(context.clone(), stream, here));
                        }
                        Some(_) = streams.join_next() => {}
                    }
                }
            }
            Err(_) if context.is_refused() => {}
            Err(error) => {
                tracing::info!(%error, server = endpoint.place(), "not connected; dialling again")
            }
        }
        shutdown.run_until_cancelled(context.pause(PAUSE)).await;
    }
}

async fn serve(context: Context, mut incoming: Incoming, here: bool) {
    let served =
        async {
            let target = incoming.target().await?;
            match target.kind {
                TargetKind::Agent => {
                    let Ok(uid) = Uid::try_from(target.environment_uid) else {
                        return incoming
                            .refuse("the environment's uid is malformed".to_owned())
                            .await;
                    };
                    let socket = context.layout.environment(&uid).agent_socket();
                    match UnixStream::connect(&socket).await {
                        Ok(mut agent) => {
                            let mut stream = incoming.accept().await?;
                            tokio::io::copy_bidirectional(&mut stream, &mut agent)
                                .await
                                .map(|_| ())
                        }
                        Err(_) => incoming
                            .refuse(
                                "the environment is not running; start it first (boatyard start)"
                                    .to_owned(),
                            )
                            .await,
                    }
                }
                TargetKind::Logs => {
                    let Ok(uid) = Uid::try_from(target.environment_uid) else {
                        return incoming
                            .refuse("the environment's uid is malformed".to_owned())
                            .await;
                    };
                    let paths = context.layout.environment(&uid);
                    crate::verbs::logs(&paths, incoming.accept().await?).await
                }
                TargetKind::Lifecycle => {
                    let Ok(uid) = Uid::try_from(target.environment_uid) else {
                        return incoming
                            .refuse("the environment's uid is malformed".to_owned())
                            .await;
                    };
                    crate::lifecycle::serve(&context, &uid, incoming.accept().await?).await
                }
                TargetKind::Usage => {
                    let Ok(uid) = Uid::try_from(target.environment_uid) else {
                        return incoming
                            .refuse("the environment's uid is malformed".to_owned())
                            .await;
                    };
                    if context.board.line(&uid).is_none() {
                        let why = "the environment is not running; start it first (boatyard start)";
                        return incoming.refuse(why.to_owned()).await;
                    }
                    let stream = incoming.accept().await?;
                    crate::resources::board::show(&context.board, &uid, stream).await
                }
                TargetKind::Runner => {
                    let local = target.local.filter(|_| here);
                    let caller = Caller {
                        local: local.map(|(uid, gid)| User { uid, gid }),
                        admin: target.admin,
                    };
                    crate::verbs::serve(&context, incoming.accept().await?, caller).await
                }
            }
        };
    if let Err(error) = served.await {
        tracing::debug!(%error, "a stream ended");
    }
}
