//! Doors: HTTP requests that become byte streams to a runner.
//!
//! An environment's `connect` leads to its agent, its `log` to its lifecycle output, its
//! `lifecycle` runs lifecycle commands, its `usage` tells live figures, a runner's
//! `connect` to the runner's own verbs, a runner's `tunnel` is the runner dialling in, and its
//! `relay` is another server with a stream for a runner that is connected here. The stream is
//! opened before the upgrade is answered, so that a refusal is a Status. A client of this host is given
//! the agent's socket itself where the runner is of this process (`link::handover`).

use crate::failure::Failure;
use crate::flow::Held;
use crate::http_api::{Body, Handler, full};
use crate::identity::Caller;
use crate::identity::tokens::Bearer;
use crate::kinds::Kind;
use crate::objects::meta;
use crate::request::Query;
use crate::resources::Target;
use boatyard_link::client;
use boatyard_link::handover::{self, Line};
use boatyard_link::tunnel::{self, TargetKind};
use futures::StreamExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::UnixStream;

/// How long a runner whose server is gone gets to dial in at another.
const REDIAL: Duration = Duration::from_secs(10);

/// Value of the `Upgrade` header of streams.
pub(crate) const PROTOCOL: &str = "boatyard-stream/1";

/// A subresource that is opened rather than read.
#[derive(Debug)]
pub(crate) struct Door {
    plural: &'static str,
    pub(crate) name: &'static str,
}

/// All of them.
pub(crate) const DOORS: [Door; 7] = [
    Door {
        plural: "environments",
        name: "connect",
    },
    Door {
        plural: "environments",
        name: "log",
    },
    Door {
        plural: "environments",
        name: "lifecycle",
    },
    Door {
        plural: "environments",
        name: "usage",
    },
    Door {
        plural: "runners",
        name: "connect",
    },
    Door {
        plural: "runners",
        name: "token",
    },
    Door {
        plural: "runners",
        name: "tunnel",
    },
];

impl Door {
    /// Whether it is one of objects of a kind.
    pub(crate) fn opens(&self, kind: &Kind) -> bool {
        kind.group == boatyard_api::GROUP && kind.plural == self.plural
    }
}

/// Opens one.
pub(crate) async fn open(
    handler: &Handler,
    caller: &Caller,
    target: &Target<'_>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    if request.method() != Method::POST {
        return Err(crate::http_api::allowing("POST"));
    }
    // Names become names of files and of connections.
    if !boatyard_api::rules::is_name(target.name) {
        return Err(Failure::no_such_path(request.uri().path()));
    }
    match (target.kind.plural.as_str(), target.subresource) {
        ("environments", door @ ("connect" | "log" | "lifecycle" | "usage")) => {
            let object = handler.resources.get(caller, "create", target).await?;
            let runner = object["spec"]["runnerName"].as_str().unwrap_or_default();
            if runner.is_empty() {
                return Err(Failure::unavailable(
                    "the environment has no runner yet; wait until it is running",
                ));
            }
            let kind = match door {
                "log" => TargetKind::Logs,
                "lifecycle" => TargetKind::Lifecycle,
                "usage" => TargetKind::Usage,
                _ => TargetKind::Agent,
            };
            forward(handler, caller, runner, meta(&object, "uid"), kind, request).await
        }
        ("runners", "connect") => {
            handler
                .resources
                .authorize(caller, "create", target, None, None)?;
            forward(
                handler,
                caller,
                target.name,
                "",
                TargetKind::Runner,
                request,
            )
            .await
        }
        ("runners", "token") => {
            handler
                .resources
                .authorize(caller, "create", target, None, None)?;
            // A runner joins with this; an earlier token of the same name is forgotten.
            let minted = handler.tokens.mint(Bearer::Runner(target.name)).await;
            let token = minted.map_err(|error| {
                Failure::unavailable(format!("the token cannot be kept: {error}"))
            })?;
            Ok(Response::new(full(
                serde_json::json!({"token": token}).to_string(),
            )))
        }
        ("runners", "relay") => {
            if !caller.is_server() {
                return Err(Failure::forbidden(
                    "only servers on the same store relay streams",
                ));
            }
            let query = Query::parse(request.uri().query())?;
            let kind = serde_json::from_value(query.get("kind").into())
                .map_err(|_| Failure::bad_request("the kind is none of a stream"))?;
            let wanted = tunnel::Target {
                environment_uid: query.get("environment").to_owned(),
                kind,
                // Of another server's host: nothing here is theirs.
                local: None,
                admin: query.get("admin") == "true",
            };
            expect(&request, PROTOCOL)?;
            let far = handler.tunnels.open(target.name, &wanted).await;
            let far = far.map_err(|error| Failure::unavailable(error.to_string()))?;
            // Counted at the server whose client it is for.
            Ok(splice(handler, request, far, None))
        }
        ("runners", "tunnel") => {
            handler
                .resources
                .authorize(caller, "create", target, None, None)?;
            if caller.runner_name() != Some(target.name) {
                return Err(Failure::forbidden(
                    "only the runner itself opens its tunnel",
                ));
            }
            expect(&request, tunnel::PROTOCOL)?;
            let (tunnels, runner, shutdown, caller) = (
                handler.tunnels.clone(),
                target.name.to_owned(),
                handler.shutdown.clone(),
                caller.clone(),
            );
            handler.peers.record(target.name).await?;
            let upgrade = hyper::upgrade::on(request);
            tokio::spawn(async move {
                match upgrade.await {
                    Ok(stream) => tokio::select! {
                        () = tunnels.serve(runner, TokioIo::new(stream)) => {}
                        () = shutdown.cancelled() => {}
                        // Its runner was deleted, or has another token.
                        () = caller.forgotten() => {}
                    },
                    Err(error) => tracing::info!(%error, "a runner's connection was not upgraded"),
                }
            });
            Ok(switching(tunnel::PROTOCOL))
        }
        _ => Err(Failure::no_such_path(request.uri().path())),
    }
}

fn expect(request: &Request<Incoming>, protocol: &str) -> Result<(), Failure> {
    let asked = request
        .headers()
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok());
    if asked == Some(protocol) {
        Ok(())
    } else {
        Err(Failure::bad_request(format!(
            "this path is a stream: send `Connection: Upgrade` and `Upgrade: {protocol}`"
        )))
    }
}

async fn forward(
    handler: &Handler,
    caller: &Caller,
    runner: &str,
    uid: &str,
    kind: TargetKind,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    expect(&request, PROTOCOL)?;
    let held = handler.flow.streams.take(&caller.user, 1);
    let held = held.ok_or_else(|| Failure::too_many("too many streams are open; end some", 5))?;
    let target = tunnel::Target {
        environment_uid: uid.to_owned(),
        kind,
        local: caller.local,
        admin: caller.is_admin(),
    };
    if kind == TargetKind::Agent
        && let Some(line) = request.extensions().get::<Line>().cloned()
        && let Some(agent) = handler.tunnels.near(runner, uid).await
    {
        return Ok(hand_over(handler, request, line, agent, held));
    }
    match reach(handler, runner, &target).await? {
        Far::Here(far) => Ok(splice(handler, request, far, Some(held))),
        Far::There(far) => Ok(splice(handler, request, far, Some(held))),
    }
}

/// A stream to a runner.
enum Far {
    /// That is connected to this server.
    Here(tunnel::Stream),
    /// That is connected to another.
    There(client::Upgraded),
}

/// Opens a stream to a runner, at whichever server it is connected; one whose server has just gone
/// gets time to dial in again.
async fn reach(handler: &Handler, runner: &str, target: &tunnel::Target) -> Result<Far, Failure> {
    let mut arrivals = handler.peers.arrivals(runner).await?;
    let deadline = tokio::time::Instant::now() + REDIAL;
    loop {
        let place = handler.peers.find(runner).await?;
        let elsewhere = place.filter(|place| place.server != handler.peers.own.server);
        let Some(place) = elsewhere.filter(|_| !handler.tunnels.connected(runner)) else {
            tokio::select! {
                opened = handler.tunnels.open(runner, target) => {
                    let opened = opened.map(Far::Here);
                    return opened.map_err(|error| Failure::unavailable(error.to_string()));
                }
                Some(()) = arrivals.next() => continue,
            }
        };
        let refused = if place.address.is_empty() {
            // Or was, in a life of this server that it knows nothing of.
            Failure::unavailable(format!(
                "runner {runner} is connected to a server that others cannot reach; start it with --advertise"
            ))
        } else {
            match handler.peers.open(&place, runner, target).await {
                Ok(far) => return Ok(Far::There(far)),
                Err(client::Error::Refused { message, .. }) => {
                    return Err(Failure::unavailable(message));
                }
                Err(error) => Failure::unavailable(format!(
                    "runner {runner} was connected to a server that is gone: {error}; wait for it to come back"
                )),
            }
        };
        if tokio::time::timeout_at(deadline, arrivals.next())
            .await
            .is_err()
        {
            return Err(refused);
        }
    }
}

/// Answers with the upgrade, and carries bytes both ways until either end or the server goes.
fn splice<S>(
    handler: &Handler,
    request: Request<Incoming>,
    mut far: S,
    held: Option<Held>,
) -> Response<Body>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    converse(handler, request, held, move |mut near| async move {
        // A broken stream is the callers' to notice.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    })
}

/// Answers with the upgrade, gives the client the agent's own socket, and counts the stream for as
/// long as the connection beside it is open.
fn hand_over(
    handler: &Handler,
    request: Request<Incoming>,
    line: Line,
    agent: UnixStream,
    held: Held,
) -> Response<Body> {
    let mut response = converse(handler, request, Some(held), move |mut near| async move {
        // What it is sent before it reads by itself would be lost to it.
        let ready = near.read_u8().await;
        if ready.is_ok_and(|byte| byte == handover::READY) && line.give(&agent).is_ok() {
            drop((line, agent));
            // Its end, by whichever side, is all there is to know.
            let _ = near.read_u8().await;
        }
    });
    let yes = HeaderValue::from_static("1");
    response.headers_mut().insert(handover::HEADER, yes);
    response
}

/// Answers with the upgrade, and does this with the stream until it is done or the server goes.
fn converse<F>(
    handler: &Handler,
    request: Request<Incoming>,
    held: Option<Held>,
    speaking: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = ()> + Send,
{
    let upgrade = hyper::upgrade::on(request);
    let shutdown = handler.shutdown.clone();
    tokio::spawn(async move {
        let _counted = held;
        if let Ok(near) = upgrade.await {
            let speaking = speaking(TokioIo::new(near));
            shutdown.run_until_cancelled(speaking).await;
        }
    });
    switching(PROTOCOL)
}

fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}
