//! A proxy before the database that cuts or stalls a connection at a chosen message.
//!
//! It counts the messages of PostgreSQL's protocol in both directions, over all connections, so a
//! test can go through every point at which a connection may break.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::contract::cluster::Cluster;

#[derive(Debug, Default)]
struct Plan {
    /// Messages so far.
    count: AtomicU64,
    /// The message that does not arrive; 0: all do.
    at: AtomicU64,
    /// Instead of cutting, nothing arrives on that connection any more.
    stall: AtomicBool,
}

/// See the module.
pub(super) struct Proxy {
    folder: tempfile::TempDir,
    plan: Arc<Plan>,
    _connections: JoinSet<()>,
}

impl Proxy {
    pub(super) fn start(cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let plan = Arc::new(Plan::default());
        let upstream = cluster.host().join(".s.PGSQL.5432");
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, upstream, plan.clone()));
        Self {
            folder,
            plan,
            _connections: connections,
        }
    }

    pub(super) fn address(&self, database: &str) -> String {
        let host = self.folder.path().display();
        format!("postgres://postgres@/{database}?host={host}&sslmode=disable")
    }

    pub(super) fn count(&self) -> u64 {
        self.plan.count.load(Ordering::SeqCst)
    }

    /// The connection that the message after `more` further ones belongs to ends before it.
    pub(super) fn cut_after(&self, more: u64) {
        self.plan.stall.store(false, Ordering::SeqCst);
        self.plan
            .at
            .store(self.count() + more + 1, Ordering::SeqCst);
    }

    /// As [`Proxy::cut_after`], but the connection stays and nothing arrives on it any more.
    pub(super) fn stall_after(&self, more: u64) {
        self.plan.stall.store(true, Ordering::SeqCst);
        self.plan
            .at
            .store(self.count() + more + 1, Ordering::SeqCst);
    }

    /// Whether the chosen message has come.
    pub(super) fn is_over(&self) -> bool {
        self.count() >= self.plan.at.load(Ordering::SeqCst)
    }
}

async fn accept(listener: UnixListener, upstream: PathBuf, plan: Arc<Plan>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let Ok(server) = UnixStream::connect(&upstream).await else {
            continue;
        };
        let (plan, (from, to), (back, forth)) =
            (plan.clone(), client.into_split(), server.into_split());
        connections.spawn(async move {
            tokio::select! {
                _ = pump(from, forth, &plan, true) => {}
                _ = pump(back, to, &plan, false) => {}
            }
        });
    }
}

/// Passes messages on until the chosen one; the first of a client has no type.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    plan: &Plan,
    mut starting: bool,
) -> std::io::Result<()> {
    loop {
        let mut message = Vec::new();
        if !starting {
            message.push(from.read_u8().await?);
        }
        starting = false;
        let length = from.read_u32().await?;
        message.extend(length.to_be_bytes());
        let start = message.len();
        message.resize(start + length as usize - 4, 0);
        from.read_exact(&mut message[start..]).await?;
        let number = plan.count.fetch_add(1, Ordering::SeqCst) + 1;
        if number == plan.at.load(Ordering::SeqCst) {
            if plan.stall.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            return Ok(());
        }
        to.write_all(&message).await?;
    }
}
