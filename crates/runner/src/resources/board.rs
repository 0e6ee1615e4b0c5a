//! Live figures of all environments of this runner, for whoever asks now, and taking memory back from
//! those that idle while the host is short of it.
//!
//! Written by each environment's keeper at every look; holds nothing that is not found again.

use super::pass::Looked;
use crate::context::Context;
use crate::record::Uid;
use boatyard_api::Environment;
use boatyard_link::tunnel::Stream;
use boatyard_link::usage::Live;
use boatyard_plan::memory::{Holder, reclaim};
use boatyard_sandbox::spec::Id;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Between two looks at the host's memory.
const LOOK: Duration = Duration::from_secs(5);

/// Environments whose figures metrics show.
const MOST_MEASURED: usize = 1000;

/// A family of metrics: its name, what it is, and of a line which figure.
type Family = (&'static str, &'static str, fn(&Line) -> u64);

/// One environment.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    namespace: String,
    name: String,
    live: Live,
    idle: Duration,
    held: u64,
    request: u64,
}

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board {
    lines: Arc<Mutex<BTreeMap<Uid, Line>>>,
    /// How many look at each.
    watched: watch::Sender<BTreeMap<Uid, usize>>,
}

/// Somebody who looks at an environment, which is sampled more often meanwhile.
struct Watching<'a>(&'a Board, &'a Uid);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.watched.send_modify(|watched| {
            if let Some(count) = watched.get_mut(self.1) {
                *count = count.saturating_sub(1);
            }
            watched.retain(|_, count| *count > 0);
        });
    }
}

impl Board {
    fn lines(&self) -> MutexGuard<'_, BTreeMap<Uid, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, uid: &Uid, object: &Environment, looked: &Looked) {
        let line = Line {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            live: Live {
                resources: looked.status.clone(),
                cpu_millis: looked.figures.cpu_millis,
                memory_bytes: looked.figures.memory,
                pids: looked.figures.pids,
                pressure: looked.pressure,
            },
            idle: looked.idle,
            held: looked.held,
            request: looked.request,
        };
        self.lines().insert(uid.clone(), line);
    }

    pub(super) fn remove(&self, uid: &Uid) {
        self.lines().remove(uid);
    }

    /// One environment's.
    pub(crate) fn line(&self, uid: &Uid) -> Option<Line> {
        self.lines().get(uid).cloned()
    }

    fn watch<'a>(&'a self, uid: &'a Uid) -> Watching<'a> {
        self.watched
            .send_modify(|watched| *watched.entry(uid.clone()).or_default() += 1);
        Watching(self, uid)
    }

    /// Who is looked at now, and changes of it.
    pub(super) fn watched(&self) -> watch::Receiver<BTreeMap<Uid, usize>> {
        self.watched.subscribe()
    }

    /// The figures as OpenMetrics text, of at most [`MOST_MEASURED`] environments, and `more`.
    pub(crate) fn metrics(&self, more: &str) -> String {
        let lines: Vec<Line> = self.lines().values().cloned().collect();
        let mut text = format!(
            "# HELP boatyard_runner_environments Environments that run\n# TYPE boatyard_runner_environments gauge\nboatyard_runner_environments {}\n",
            lines.len()
        );
        let families: [Family; 5] = [
            ("cpu_millis", "Thousandths of a processor used", |line| {
                line.live.cpu_millis
            }),
            (
                "memory_bytes",
                "Memory used that cannot be dropped",
                |line| line.live.memory_bytes,
            ),
            ("processes", "Processes and threads", |line| line.live.pids),
            ("slowed", "Reasons why it is slowed", |line| {
                count(&line.live.resources.slowed)
            }),
            (
                "pending",
                "Fields of its class that do not apply yet",
                |line| count(&line.live.resources.pending),
            ),
        ];
        for (family, help, of) in families {
            let family = format!("boatyard_environment_{family}");
            text.push_str(&format!("# HELP {family} {help}\n# TYPE {family} gauge\n"));
            for line in lines.iter().take(MOST_MEASURED) {
                // Names are DNS labels: nothing to escape.
                let (namespace, name, value) = (&line.namespace, &line.name, of(line));
                text.push_str(&format!(
                    "{family}{{namespace=\"{namespace}\",environment=\"{name}\"}} {value}\n"
                ));
            }
        }
        text.push_str(more);
        text.push_str("# EOF\n");
        text
    }

    fn holders(&self) -> Vec<Holder<Uid>> {
        let lines = self.lines();
        let holder = |(uid, line): (&Uid, &Line)| Holder {
            id: uid.clone(),
            idle: line.idle,
            used: line.held,
            request: line.request,
        };
        lines.iter().map(holder).collect()
    }
}

/// Waits until somebody looks at an environment.
pub(super) async fn watched(watched: &mut watch::Receiver<BTreeMap<Uid, usize>>, uid: &Uid) {
    let looked_at = watched.wait_for(|watched| watched.contains_key(uid));
    if looked_at.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Between two figures for one who looks.
const PACE: Duration = Duration::from_secs(1);

/// Sends figures of an environment until the caller goes or it ends.
pub(crate) async fn show(board: &Board, uid: &Uid, stream: Stream) -> std::io::Result<()> {
    let _watching = board.watch(uid);
    let (mut reading, mut writing) = tokio::io::split(stream);
    let telling = async {
        while let Some(line) = board.line(uid) {
            let mut text = serde_json::to_vec(&line.live)?;
            text.push(b'\n');
            writing.write_all(&text).await?;
            writing.flush().await?;
            tokio::time::sleep(PACE).await;
        }
        writing.shutdown().await
    };
    let gone = async {
        let mut nothing = [0; 64];
        while reading.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        told = telling => told,
        () = gone => Ok(()),
    }
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

/// Takes memory back from environments that idle, while the host is short of it, until dropped.
pub(crate) async fn take_back(context: Context) {
    loop {
        tokio::time::sleep(LOOK).await;
        let host = context.blocking(super::pass::host).await;
        for (uid, bytes) in reclaim(&context.board.holders(), &host) {
            let Ok(id) = Id::try_from(uid.as_str().to_owned()) else {
                continue;
            };
            let sandboxes = context.sandboxes.clone();
            let taken = context.blocking(move || match sandboxes.group(&id) {
                Ok(Some(group)) => group.reclaim(bytes),
                Ok(None) => Ok(false),
                Err(error) => Err(error),
            });
            match taken.await {
                Ok(taken) => tracing::debug!(environment = %uid, bytes, taken, "memory asked back"),
                Err(error) => tracing::debug!(environment = %uid, %error, "no memory came back"),
            }
        }
    }
}
