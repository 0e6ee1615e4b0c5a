//! Lifecycle commands on request: calls through the subresource `lifecycle`, and who works on them.
//!
//! A call waits for its environment's worker, which runs the commands one by one between its other
//! actions, with the code that runs them unasked. Output goes to the caller as it comes; one that
//! does not take it for a while misses the rest, which the logs have. What a caller sends (secrets)
//! is in memory only, and a kill of the runner forgets the call, never what it did.
//!
//! Read next: `hooks`, and `plan::lifecycle` for which commands run.

use crate::context::Context;
use crate::hooks;
use crate::record::{Record, Uid};
use crate::worker::{Performed, Worker};
use boatyard_api::Environment;
use boatyard_api::environment::Lifecycle;
use boatyard_link::frames::{Codec, Error as FrameError, Frame};
use boatyard_link::lifecycle::{HookFailure, Outcome, Reply, Request};
use boatyard_link::tunnel::Stream;
use boatyard_plan::environment::{Hook, SandboxSeen, Seen, Want};
use boatyard_plan::lifecycle::{Asked, Ending, sequence};
use boatyard_wire::frame::{Kind, MAX_PAYLOAD};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::codec::Framed;

/// Calls that wait for one environment.
const MOST_WAITING: usize = 16;
/// Pieces of output on their way to a caller.
const BACKLOG: usize = 64;
/// How long a caller may take for the next piece before it gets no more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where calls find their environment's worker. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<HashMap<Uid, mpsc::Sender<Call>>>>);

impl Calls {
    /// The calls of one environment, for its worker.
    pub(crate) fn of(&self, uid: &Uid) -> mpsc::Receiver<Call> {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|_, worker| !worker.is_closed());
        workers.insert(uid.clone(), sender);
        receiver
    }

    fn pass(&self, uid: &Uid, call: Call) -> Result<(), &'static str> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = workers
            .get(uid)
            .ok_or("the runner does not know the environment yet; try again")?;
        worker.try_send(call).map_err(
            |_| "too many calls wait for the environment's lifecycle commands; let them end first",
        )
    }
}

/// What a caller asks for, and where it listens.
#[derive(Debug)]
pub(crate) struct Call {
    request: Request,
    asked: Asked,
    output: Output,
    /// What failed since is not tried again for this call.
    came: Timestamp,
}

/// Something for the caller.
#[derive(Debug)]
enum Event {
    Bytes(Bytes),
    Reply(Reply),
}

/// Where the commands' output goes besides their logs; nowhere by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output(Option<mpsc::Sender<Event>>);

impl Output {
    async fn send(&mut self, event: Event) {
        if let Some(sender) = &self.0 {
            let sent = tokio::time::timeout(PATIENCE, sender.send(event)).await;
            if !matches!(sent, Ok(Ok(()))) {
                self.0 = None;
            }
        }
    }

    /// Tells how things stand.
    pub(crate) async fn tell(&mut self, reply: Reply) {
        self.send(Event::Reply(reply)).await;
    }

    fn listens(&self) -> bool {
        self.0.as_ref().is_some_and(|sender| !sender.is_closed())
    }
}

/// The output of one command; of one among several, each line begins with its name.
#[derive(Debug)]
pub(crate) struct Printer {
    output: Output,
    prefix: Option<String>,
    line: Vec<u8>,
}

/// A longer line is broken.
const LONGEST_LINE: usize = 8 * 1024;

impl Printer {
    pub(crate) fn new(output: Output, name: Option<&str>) -> Self {
        Self {
            output,
            prefix: name.map(|name| format!("[{name}] ")),
            line: Vec::new(),
        }
    }

    pub(crate) async fn print(&mut self, bytes: &Bytes) {
        if self.output.0.is_none() {
            return;
        }
        if self.prefix.is_none() {
            self.output.send(Event::Bytes(bytes.clone())).await;
            return;
        }
        let mut whole = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() >= LONGEST_LINE {
                whole.append(&mut self.take());
            }
        }
        if !whole.is_empty() {
            self.output.send(Event::Bytes(whole.into())).await;
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let mut line = self.prefix.clone().unwrap_or_default().into_bytes();
        line.append(&mut self.line);
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        line
    }

    /// What is left of a last line without an end, and what is to be told after it.
    pub(crate) async fn end(mut self, reply: Reply) {
        if !self.line.is_empty() {
            let line = self.take();
            self.output.send(Event::Bytes(line.into())).await;
        }
        self.output.tell(reply).await;
    }
}

/// Serves one stream: takes the request, passes it to the worker, and what comes back to the caller.
pub(crate) async fn serve(context: &Context, uid: &Uid, stream: Stream) -> std::io::Result<()> {
    let mut frames = Framed::new(stream, Codec);
    let broken = |error: FrameError| std::io::Error::other(error);
    let first = tokio::time::timeout(PATIENCE, frames.next()).await;
    let Ok(Some(first)) = first else {
        return Ok(());
    };
    let taken = take(&first.map_err(broken)?.payload, context.now());
    let (detached, mut events) = match taken {
        Ok((call, events)) => {
            let detached = call.request.detach;
            match context.calls.pass(uid, call) {
                Ok(()) => (detached, events),
                Err(why) => return last(frames, error("busy", why.to_owned())).await,
            }
        }
        Err(why) => return last(frames, error("badRequest", why)).await,
    };
    if detached {
        let reply = Reply::Finished {
            outcome: Outcome::Detached,
            ran: Vec::new(),
            failed: None,
        };
        return last(frames, reply).await;
    }
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Bytes(bytes)) => {
                    for start in (0..bytes.len()).step_by(MAX_PAYLOAD) {
                        let payload = bytes.slice(start..bytes.len().min(start + MAX_PAYLOAD));
                        frames.send(Frame { kind: Kind::Stdout, payload }).await.map_err(broken)?;
                    }
                }
                Some(Event::Reply(reply @ (Reply::Finished { .. } | Reply::Error { .. }))) => {
                    return last(frames, reply).await;
                }
                Some(Event::Reply(reply)) => frames.send(told(&reply)?).await.map_err(broken)?,
                None => {
                    let why = "the runner let go of the environment; try again";
                    return last(frames, error("internal", why.to_owned())).await;
                }
            },
            frame = frames.next() => match frame {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(()),
            }
        }
    }
}

fn take(payload: &[u8], came: Timestamp) -> Result<(Call, mpsc::Receiver<Event>), String> {
    let request: Request = serde_json::from_slice(payload)
        .map_err(|error| format!("the request is not understood: {error}"))?;
    let until = match &request.until {
        Some(name) => Some(Hook::named(name).ok_or_else(|| {
            format!("{name:?} names no lifecycle command that runs in an environment")
        })?),
        None => None,
    };
    let named = request.secrets.keys().chain(request.remote_env.keys());
    if let Some(bad) = named
        .into_iter()
        .find(|name| name.is_empty() || name.contains(['=', '\0']))
    {
        return Err(format!("{bad:?} cannot name an environment variable"));
    }
    let asked = Asked {
        until,
        prebuild: request.prebuild,
        skip_non_blocking: request.skip_non_blocking,
        skip_post_attach: request.skip_post_attach,
        stop_for_personalization: request.stop_for_personalization,
    };
    let (sender, events) = mpsc::channel(BACKLOG);
    let output = Output((!request.detach).then_some(sender));
    let call = Call {
        request,
        asked,
        output,
        came,
    };
    Ok((call, events))
}

fn error(reason: &str, message: String) -> Reply {
    Reply::Error {
        reason: reason.to_owned(),
        message,
    }
}

fn told(reply: &Reply) -> std::io::Result<Frame> {
    Ok(Frame {
        kind: Kind::Reply,
        payload: serde_json::to_vec(reply)?.into(),
    })
}

async fn last(mut frames: Framed<Stream, Codec>, reply: Reply) -> std::io::Result<()> {
    let frame = told(&reply)?;
    frames.send(frame).await.map_err(std::io::Error::other)?;
    frames.close().await.map_err(std::io::Error::other)
}

/// A call that a worker works on.
#[derive(Debug)]
pub(crate) struct Active {
    call: Call,
    /// What is left to run; None until it could begin.
    hooks: Option<VecDeque<Hook>>,
    ending: Ending,
    ran: Vec<String>,
}

impl Active {
    pub(crate) fn new(call: Call) -> Self {
        Self {
            call,
            hooks: None,
            ending: Ending::Done,
            ran: Vec::new(),
        }
    }

    pub(crate) fn request(&self) -> &Request {
        &self.call.request
    }

    pub(crate) fn output(&self) -> Output {
        self.call.output.clone()
    }

    async fn finish(mut self, failed: Option<HookFailure>) {
        let outcome = match self.ending {
            Ending::Done => Outcome::Done,
            Ending::SkipNonBlocking => Outcome::SkipNonBlocking,
            Ending::Prebuild => Outcome::Prebuild,
            Ending::StopForPersonalization => Outcome::StopForPersonalization,
            Ending::Until => Outcome::Until,
        };
        let reply = Reply::Finished {
            outcome,
            ran: self.ran,
            failed,
        };
        self.call.output.tell(reply).await;
    }

    async fn refuse(mut self, reason: &str, message: String) {
        self.call.output.tell(error(reason, message)).await;
    }
}

/// Lifecycle commands that the runner runs unasked and that are left in this start.
pub(crate) fn left(record: &Record, object: &Environment) -> Vec<Hook> {
    let devcontainer = object.spec.devcontainer.as_ref();
    if devcontainer.is_some_and(|asked| asked.lifecycle == Lifecycle::OnRequest) {
        return Vec::new();
    }
    let asked = Asked {
        skip_post_attach: true,
        ..Asked::default()
    };
    let dotfiles = devcontainer.is_some_and(|asked| asked.dotfiles.is_some());
    let tried = record.dotfiles_tried == Some(record.incarnation);
    plan(record, &asked, dotfiles && !tried).0
}

/// Lifecycle commands left for a call.
fn plan(record: &Record, asked: &Asked, dotfiles: bool) -> (Vec<Hook>, Ending) {
    let Some(resolved) = &record.resolved else {
        return (Vec::new(), Ending::Done);
    };
    let defined = hooks::defined(&resolved.plan);
    let wait_for = hooks::hook(resolved.plan.wait_for);
    let (mut hooks, ending) = sequence(asked, wait_for, |hook| hooks::done(record, hook));
    hooks.retain(|hook| match hook {
        Hook::Dotfiles => dotfiles,
        hook => defined.contains(hook),
    });
    (hooks, ending)
}

impl Worker {
    /// The lifecycle command that a caller waits for, when it can be run now.
    pub(crate) async fn asked(
        &mut self,
        object: &Environment,
        want: &Want,
        seen: &Seen,
    ) -> Option<Hook> {
        loop {
            let active = match self.active.take() {
                Some(active) => active,
                None => Active::new(self.calls.try_recv().ok()?),
            };
            if !active.call.request.detach && !active.call.output.listens() {
                continue;
            }
            let Want::Running { restart } = want else {
                let why =
                    "the environment is stopped or being removed; start it first (boatyard start)";
                active.refuse("notRunning", why.to_owned()).await;
                continue;
            };
            let failure = self.failure().filter(|failure| !failure.transient);
            let hook_failed = failure.is_some_and(|failure| Hook::named(&failure.step).is_some());
            let restarts = restart.is_some() && *restart != seen.restarted_at;
            let up = matches!(seen.sandbox, SandboxSeen::Running { agent: true });
            if restarts || !up || !seen.session {
                match failure.filter(|_| !restarts && !hook_failed) {
                    Some(failure) => {
                        let (reason, why) = (failure.reason.clone(), failure.message.clone());
                        active.refuse(&reason, why).await;
                        continue;
                    }
                    None => {
                        self.active = Some(active);
                        return None;
                    }
                }
            }
            let since = failure.filter(|failure| hook_failed && failure.at >= active.call.came);
            if let Some(failure) = since {
                let (hook, message) = (failure.step.clone(), failure.message.clone());
                active.finish(Some(HookFailure { hook, message })).await;
                continue;
            }
            let active = self.begin_call(object, active, hook_failed);
            match active.hooks.as_ref().and_then(VecDeque::front).copied() {
                Some(hook) => {
                    self.active = Some(active);
                    return Some(hook);
                }
                None => active.finish(None).await,
            }
        }
    }

    /// Decides once what a call runs. One that runs something tries again what failed.
    fn begin_call(&mut self, object: &Environment, mut active: Active, failed: bool) -> Active {
        if active.hooks.is_some() {
            return active;
        }
        let devcontainer = object.spec.devcontainer.as_ref();
        let on_request = devcontainer.is_some_and(|asked| asked.lifecycle == Lifecycle::OnRequest);
        let (hooks, ending) = match &mut self.record {
            Some(record) if !(active.call.request.attach && (on_request || failed)) => {
                record.failure.take_if(|_| failed);
                let dotfiles = active.call.request.dotfiles.is_some()
                    || devcontainer.is_some_and(|asked| asked.dotfiles.is_some());
                plan(record, &active.call.asked, dotfiles)
            }
            _ => (Vec::new(), Ending::Done),
        };
        active.ending = ending;
        active.hooks = Some(hooks.into());
        active
    }

    /// Takes in how the command went that [`Worker::asked`] gave.
    pub(crate) async fn answered(&mut self, hook: Hook, performed: Performed) {
        let Some(mut active) = self.active.take() else {
            return;
        };
        match performed {
            Performed::Done => {
                active.hooks.as_mut().and_then(VecDeque::pop_front);
                let record = self.record.as_ref();
                if record.is_some_and(|record| record.hooks.contains_key(hook.name())) {
                    active.ran.push(hook.name().to_owned());
                }
                self.active = Some(active);
            }
            Performed::Failed(message) => {
                let hook = hook.name().to_owned();
                active.finish(Some(HookFailure { hook, message })).await;
            }
            Performed::Abandoned => {
                let why = format!("{} was cut off: the environment ended", hook.name());
                active.refuse("notRunning", why).await;
            }
        }
    }
}
