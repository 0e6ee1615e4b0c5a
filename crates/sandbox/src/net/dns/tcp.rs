//! One TCP connection to the resolver, carried both ways through bounded buffers.

use super::new_socket;
use rustix::event::{PollFd, PollFlags};
use rustix::net::SocketType;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a connection may be quiet.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes held for one direction.
const BUFFER: usize = 16 * 1024;

/// A client's connection and ours to the resolver.
pub(super) struct Relay {
    client: TcpStream,
    resolver: TcpStream,
    to_resolver: Direction,
    to_client: Direction,
    deadline: Instant,
}

#[derive(Default)]
struct Direction {
    held: Vec<u8>,
    ended: bool,
    passed_on: bool,
}

impl Relay {
    pub(super) fn connect(
        client: TcpStream,
        resolver: SocketAddr,
        now: Instant,
    ) -> std::io::Result<Self> {
        client.set_nonblocking(true)?;
        let socket = new_socket(resolver, SocketType::STREAM)?;
        match rustix::net::connect(&socket, &resolver) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self {
            client,
            resolver: socket.into(),
            to_resolver: Direction::default(),
            to_client: Direction::default(),
            deadline: now + IDLE,
        })
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn poll_descriptors<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let wanted = |reads: &Direction, writes: &Direction| {
            let mut flags = PollFlags::empty();
            if reads.held.is_empty() && !reads.ended {
                flags |= PollFlags::IN;
            }
            if !writes.held.is_empty() {
                flags |= PollFlags::OUT;
            }
            flags
        };
        let client = wanted(&self.to_resolver, &self.to_client);
        let resolver = wanted(&self.to_client, &self.to_resolver);
        fds.push(PollFd::new(&self.client, client));
        fds.push(PollFd::new(&self.resolver, resolver));
    }

    /// Moves what can be moved; false when the connection is over.
    pub(super) fn serve(
        &mut self,
        ready: &mut impl Iterator<Item = PollFlags>,
        now: Instant,
    ) -> bool {
        // Added since the last poll: no result is there for it yet.
        let (Some(client), Some(resolver)) = (ready.next(), ready.next()) else {
            return true;
        };
        if client.is_empty() && resolver.is_empty() {
            return now < self.deadline;
        }
        if (client | resolver).contains(PollFlags::ERR) {
            return false;
        }
        self.deadline = now + IDLE;
        let (a, b) = (&mut self.client, &mut self.resolver);
        if !self.to_resolver.carry(a, b) || !self.to_client.carry(b, a) {
            return false;
        }
        !(self.to_client.passed_on || client.contains(PollFlags::HUP))
    }
}

impl Direction {
    fn carry(&mut self, from: &mut TcpStream, to: &mut TcpStream) -> bool {
        if self.held.is_empty() && !self.ended {
            let mut bytes = vec![0; BUFFER];
            match from.read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(count) => self.held = bytes[..count].to_vec(),
                Err(error) if retry(error.kind()) => {}
                Err(_) => return false,
            }
        }
        if !self.held.is_empty() {
            match to.write(&self.held) {
                Ok(count) => {
                    self.held.drain(..count);
                }
                Err(error) if retry(error.kind()) => {}
                Err(_) => return false,
            }
        }
        if self.ended && self.held.is_empty() && !self.passed_on {
            self.passed_on = true;
            let _ = to.shutdown(Shutdown::Write);
        }
        true
    }
}

fn retry(kind: ErrorKind) -> bool {
    matches!(
        kind,
        // A write before the connection stands says NotConnected.
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
    )
}
