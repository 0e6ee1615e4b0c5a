//! Doors: HTTP requests that become byte streams to a runner.
//!
//! An environment's `connect` leads to its agent, its `log` to its lifecycle output, a runner's
//! `connect` to the runner's own verbs, and a runner's `tunnel` is the runner dialling in. The
//! stream is opened before the upgrade is answered, so that a refusal is a Status.

use crate::failure::Failure;
use crate::http_api::{Body, Handler, full};
use crate::identity::Caller;
use crate::objects::meta;
use crate::resources::Target;
use boatyard_link::tunnel::{self, TargetKind};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

/// Value of the `Upgrade` header of streams.
const PROTOCOL: &str = "boatyard-stream/1";

/// Opens one.
pub(crate) async fn open(
    handler: &Handler,
    caller: &Caller,
    target: &Target<'_>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    if request.method() != Method::POST {
        return Err(Failure::method());
    }
    // Names become names of files and of connections.
    if !boatyard_api::rules::is_name(target.name) {
        return Err(Failure::no_such_path(request.uri().path()));
    }
    match (target.kind.plural.as_str(), target.subresource) {
        ("environments", door @ ("connect" | "log")) => {
            let object = handler.resources.get(caller, "create", target).await?;
            let runner = object["spec"]["runnerName"].as_str().unwrap_or_default();
            if runner.is_empty() {
                return Err(Failure::unavailable(
                    "the environment has no runner yet; wait until it is running",
                ));
            }
            let kind = if door == "log" {
                TargetKind::Logs
            } else {
                TargetKind::Agent
            };
            forward(handler, runner, meta(&object, "uid"), kind, request).await
        }
        ("runners", "connect") => {
            handler
                .resources
                .authorize(caller, "create", target, None, None)?;
            forward(handler, target.name, "", TargetKind::Runner, request).await
        }
        ("runners", "token") => {
            handler
                .resources
                .authorize(caller, "create", target, None, None)?;
            // A runner joins with this; an earlier token of the same name is forgotten.
            let minted = handler.tokens.mint_runner(target.name);
            let token = minted.map_err(|error| {
                Failure::unavailable(format!("the token cannot be kept: {error}"))
            })?;
            Ok(Response::new(full(
                serde_json::json!({"token": token}).to_string(),
            )))
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
            let (tunnels, runner, shutdown) = (
                handler.tunnels.clone(),
                target.name.to_owned(),
                handler.shutdown.clone(),
            );
            let upgrade = hyper::upgrade::on(request);
            tokio::spawn(async move {
                match upgrade.await {
                    Ok(stream) => tokio::select! {
                        () = tunnels.serve(runner, TokioIo::new(stream)) => {}
                        () = shutdown.cancelled() => {}
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
    runner: &str,
    uid: &str,
    kind: TargetKind,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    expect(&request, PROTOCOL)?;
    let target = tunnel::Target {
        environment_uid: uid.to_owned(),
        kind,
    };
    let mut far = handler
        .tunnels
        .open(runner, &target)
        .await
        .map_err(|error| Failure::unavailable(error.to_string()))?;
    let upgrade = hyper::upgrade::on(request);
    let shutdown = handler.shutdown.clone();
    tokio::spawn(async move {
        let Ok(near) = upgrade.await else { return };
        let mut near = TokioIo::new(near);
        // A broken stream is the callers' to notice.
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = shutdown.cancelled() => {}
        }
    });
    Ok(switching(PROTOCOL))
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
