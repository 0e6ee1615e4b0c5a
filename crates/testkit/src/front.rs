//! One address for several servers: a TCP proxy as small as a load balancer can be.
//!
//! Each connection goes to the next server that accepts one; when either side ends, both do, so a
//! killed server is a broken connection to its clients and nothing else. It knows nothing of what
//! it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The proxy; it ends when dropped.
pub struct Front {
    address: SocketAddr,
    /// Ends with this.
    _accepting: JoinSet<()>,
}

impl Front {
    /// Listens on the loopback, in front of `behind`.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn open(behind: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let servers = Arc::new(behind);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let (next, mut connections) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
            while let Ok((near, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let (servers, next) = (servers.clone(), next.clone());
                connections.spawn(async move { carry(near, &servers, &next).await });
            }
        });
        Self {
            address,
            _accepting: accepting,
        }
    }

    /// Where clients go.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn carry(mut near: TcpStream, servers: &[SocketAddr], next: &AtomicUsize) {
    let first = next.fetch_add(1, Ordering::Relaxed);
    for at in 0..servers.len() {
        let server = servers[(first + at) % servers.len()];
        if let Ok(mut far) = TcpStream::connect(server).await {
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            // A broken connection is the ends' to notice.
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            return;
        }
    }
}
