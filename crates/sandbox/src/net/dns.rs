//! Names for a sandbox: raw queries forwarded to the host's resolvers.
//!
//! The sockets were opened by init in the environment's namespace; the monitor holds them and asks
//! from the host's, so that any resolver the host can reach works, one on its loopback too. Without
//! a policy it looks into no message: a query and its answer are opaque bytes; with one each is
//! judged ([`gated`]). Everything is bounded:
//! [`QUERIES`] at once over UDP, [`CONNECTIONS`] over TCP, each with a deadline; beyond that the
//! oldest is dropped and the client asks again. Whatever is asked costs the host more than who asks, and
//! nobody's limits: more than [`PACE`] questions and connections a second wait in the socket, and are lost
//! there ([`Allowance`]). Each query goes out from a fresh port, which is
//! what protects a resolver's client from forged answers.
//!
//! The host's resolv.conf is read again when its time of change differs.

mod gated;
mod message;
mod tcp;

use super::egress::Gate;
use crate::protection::{self, Protection};
use gated::{Asked, Verdict};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// UDP queries waiting for an answer.
const QUERIES: usize = 256;
/// TCP connections.
const CONNECTIONS: usize = 16;
/// Questions and connections a second, and so many at once after a rest: far more than builds ask.
const PACE: u32 = 1000;
/// How long nothing is taken once that is used up.
const REST: Duration = Duration::from_millis(20);
/// How long one resolver has to answer before the next is asked.
const TRY: Duration = Duration::from_secs(2);
/// How long a query may take in all.
const GIVE_UP: Duration = Duration::from_secs(8);
/// Longest message over UDP.
const MESSAGE: usize = 65_535;

/// Forwards between the environment's resolver sockets and the host's resolvers.
pub(crate) struct Forwarder {
    udp: Option<UdpSocket>,
    tcp: Option<TcpListener>,
    queries: VecDeque<Query>,
    connections: VecDeque<Connection>,
    resolvers: Resolvers,
    /// What may be asked for; everything where there is none.
    gate: Option<Gate>,
    allowance: Allowance,
}

/// What may be taken from the sockets now.
struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self {
            left: PACE,
            since: now,
        }
    }

    /// Adds what came by time.
    fn earn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let earned = passed.as_millis() * u128::from(PACE) / 1000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(PACE);
            self.left = self.left.saturating_add(earned).min(PACE);
            self.since = now;
        }
    }

    /// Whether one more may be taken, which it then is.
    fn take(&mut self) -> bool {
        if self.left == 0 {
            return protection::removed(Protection::ResolverPace);
        }
        self.left -= 1;
        true
    }

    /// There was none to take.
    fn put_back(&mut self) {
        self.left = self.left.saturating_add(1).min(PACE);
    }

    fn is_empty(&self) -> bool {
        self.left == 0 && !protection::removed(Protection::ResolverPace)
    }
}

enum Connection {
    Relayed(tcp::Relay),
    Judged(gated::Call),
}

struct Query {
    from: SocketAddr,
    message: Vec<u8>,
    /// Under a policy, what was asked.
    judged: Option<Asked>,
    asked: UdpSocket,
    tries: usize,
    next_try: Instant,
    give_up: Instant,
}

impl Forwarder {
    /// Takes the UDP and the TCP socket, or none, where the host's resolvers are listed, and the
    /// policy.
    pub(crate) fn new(sockets: Vec<OwnedFd>, resolv_conf: PathBuf, gate: Option<Gate>) -> Self {
        let mut forwarder = Self::with_resolvers(sockets, resolv_conf, 53);
        forwarder.gate = gate;
        forwarder
    }

    /// The policy.
    pub(crate) fn gate(&mut self) -> Option<&mut Gate> {
        self.gate.as_mut()
    }

    /// Replaces the policy; what is under way is given up, and asked again by who waits for it.
    pub(crate) fn set_gate(&mut self, gate: Option<Gate>) {
        self.gate = gate;
        self.queries.clear();
        self.connections.clear();
    }

    fn with_resolvers(sockets: Vec<OwnedFd>, file: PathBuf, port: u16) -> Self {
        let mut sockets = sockets.into_iter();
        let udp = sockets.next().map(UdpSocket::from);
        let tcp = sockets.next().map(TcpListener::from);
        if let Some(udp) = &udp {
            let _ = udp.set_nonblocking(true);
        }
        if let Some(tcp) = &tcp {
            let _ = tcp.set_nonblocking(true);
        }
        Self {
            udp,
            tcp,
            queries: VecDeque::new(),
            connections: VecDeque::new(),
            resolvers: Resolvers::new(file, port),
            gate: None,
            allowance: Allowance::new(Instant::now()),
        }
    }

    /// The sockets that are listened to, while there is an allowance.
    fn open(&self) -> (Option<&UdpSocket>, Option<&TcpListener>) {
        if self.allowance.is_empty() {
            return (None, None);
        }
        (self.udp.as_ref(), self.tcp.as_ref())
    }

    /// Adds what is waited for, in the order [`Self::serve`] expects the results.
    pub(crate) fn poll_descriptors<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let (udp, tcp) = self.open();
        fds.extend(udp.map(|udp| PollFd::new(udp, PollFlags::IN)));
        fds.extend(tcp.map(|tcp| PollFd::new(tcp, PollFlags::IN)));
        for query in &self.queries {
            fds.push(PollFd::new(&query.asked, PollFlags::IN));
        }
        for connection in &self.connections {
            match connection {
                Connection::Relayed(relay) => relay.poll_descriptors(fds),
                Connection::Judged(call) => call.poll_descriptors(fds),
            }
        }
    }

    /// When [`Self::serve`] must be called at the latest.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let queries = self.queries.iter().map(|query| query.next_try);
        let connections = self.connections.iter().map(|connection| match connection {
            Connection::Relayed(relay) => relay.deadline(),
            Connection::Judged(call) => call.deadline(),
        });
        let rested =
            (self.allowance.is_empty() && self.udp.is_some()).then(|| self.allowance.since + REST);
        let first = queries.chain(connections).chain(rested).min()?;
        // One millisecond more, lest it be called just too early again and again.
        Some(first.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    /// Serves what is ready.
    pub(crate) fn serve(&mut self, ready: &[PollFlags]) {
        let mut ready = ready.iter().copied();
        let (udp, tcp) = self.open();
        let (udp, tcp) = (udp.is_some(), tcp.is_some());
        let asked = udp && ready.next().is_some_and(|flags| !flags.is_empty());
        let called = tcp && ready.next().is_some_and(|flags| !flags.is_empty());
        let now = Instant::now();
        self.allowance.earn(now);
        self.answers(&mut ready, now);
        let (gate, resolvers) = (&mut self.gate, &mut self.resolvers);
        self.connections
            .retain_mut(|connection| match (connection, gate.as_mut()) {
                (Connection::Relayed(relay), _) => relay.serve(&mut ready, now),
                (Connection::Judged(call), Some(gate)) => {
                    call.serve(&mut ready, gate, resolvers, now)
                }
                (Connection::Judged(_), None) => false,
            });
        if asked {
            self.questions(now);
        }
        if called {
            self.calls(now);
        }
    }

    fn answers(&mut self, ready: &mut impl Iterator<Item = PollFlags>, now: Instant) {
        let mut message = vec![0; MESSAGE];
        let Some(udp) = &self.udp else { return };
        let (resolvers, gate) = (&mut self.resolvers, &mut self.gate);
        self.queries.retain_mut(|query| {
            let readable = ready.next().is_some_and(|flags| !flags.is_empty());
            if readable {
                // The socket is connected: only the resolver asked is heard. An error is an ICMP
                // refusal: the next resolver's turn.
                match query.asked.recv(&mut message) {
                    Ok(length) if query.matches(&message[..length]) => {
                        let message = &message[..length];
                        let _ = match (&query.judged, gate.as_mut()) {
                            (Some(asked), Some(gate)) => {
                                udp.send_to(&asked.pass(gate, message, true, now), query.from)
                            }
                            _ => udp.send_to(message, query.from),
                        };
                        return false;
                    }
                    Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                        query.next_try = now;
                    }
                    _ => {}
                }
            }
            if now >= query.give_up {
                return false;
            }
            if now >= query.next_try {
                query.tries += 1;
                query.next_try = now + TRY;
                match resolvers.ask(query.tries, &query.message) {
                    Some(socket) => query.asked = socket,
                    None => return false,
                }
            }
            true
        });
    }

    fn questions(&mut self, now: Instant) {
        let Some(udp) = &self.udp else { return };
        let mut message = vec![0; MESSAGE];
        // A bounded number at a time, so that a flood does not starve the answers.
        for _ in 0..64 {
            if !self.allowance.take() {
                return;
            }
            let Ok((length, from)) = udp.recv_from(&mut message) else {
                self.allowance.put_back();
                return;
            };
            let mut message = message[..length].to_vec();
            let mut judged = None;
            if let Some(gate) = &mut self.gate {
                match gated::judge(gate, &message) {
                    Verdict::Ignored => continue,
                    Verdict::Answered(answer) => {
                        let _ = udp.send_to(&answer, from);
                        continue;
                    }
                    Verdict::Asked(mut asked) => {
                        message = std::mem::take(&mut asked.message);
                        judged = Some(asked);
                    }
                }
            }
            let Some(asked) = self.resolvers.ask(0, &message) else {
                continue;
            };
            if self.queries.len() >= QUERIES {
                self.queries.pop_front();
            }
            self.queries.push_back(Query {
                from,
                message,
                judged,
                asked,
                tries: 0,
                next_try: now + TRY,
                give_up: now + GIVE_UP,
            });
        }
    }

    fn calls(&mut self, now: Instant) {
        let Some(tcp) = &self.tcp else { return };
        while self.allowance.take() {
            let Ok((client, _)) = tcp.accept() else {
                self.allowance.put_back();
                return;
            };
            if self.connections.len() >= CONNECTIONS {
                self.connections.pop_front();
            }
            if self.gate.is_some() {
                let call = gated::Call::new(client, now);
                self.connections.extend(call.map(Connection::Judged));
                continue;
            }
            let Some(resolver) = self.resolvers.nth(0) else {
                continue;
            };
            if let Ok(relay) = tcp::Relay::connect(client, resolver, now) {
                self.connections.push_back(Connection::Relayed(relay));
            }
        }
    }
}

impl Query {
    /// Whether an answer bears the question's id.
    fn matches(&self, answer: &[u8]) -> bool {
        if let Some(asked) = &self.judged {
            return asked.is_answered(answer);
        }
        answer.len() >= 2 && answer.get(..2) == self.message.get(..2)
    }
}

/// The host's resolvers as /etc/resolv.conf lists them.
struct Resolvers {
    file: PathBuf,
    port: u16,
    changed: Option<SystemTime>,
    addresses: Vec<SocketAddr>,
}

impl Resolvers {
    fn new(file: PathBuf, port: u16) -> Self {
        Self {
            file,
            port,
            changed: None,
            addresses: Vec::new(),
        }
    }

    fn refresh(&mut self) {
        let changed = std::fs::metadata(&self.file)
            .and_then(|metadata| metadata.modified())
            .ok();
        if changed.is_some() && changed == self.changed {
            return;
        }
        self.changed = changed;
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        self.addresses = parse(&text, self.port);
    }

    /// The resolver to ask at the `n`th try.
    fn nth(&mut self, n: usize) -> Option<SocketAddr> {
        self.refresh();
        let count = self.addresses.len();
        (count > 0).then(|| self.addresses[n % count])
    }

    /// Sends a message to the resolver of the `n`th try from a socket of its own.
    fn ask(&mut self, n: usize, message: &[u8]) -> Option<UdpSocket> {
        let resolver = self.nth(n)?;
        let socket: UdpSocket = new_socket(resolver, SocketType::DGRAM).ok()?.into();
        socket.connect(resolver).ok()?;
        socket.send(message).ok()?;
        Some(socket)
    }
}

fn new_socket(to: SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    rustix::net::socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}

/// The `nameserver` lines; the host itself when there is none, as resolv.conf(5) says.
fn parse(text: &str, port: u16) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == "nameserver").then_some(())?;
            let address: IpAddr = words.next()?.parse().ok()?;
            Some(SocketAddr::new(address, port))
        })
        .collect();
    if found.is_empty() {
        found.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    found
}

#[cfg(test)]
mod tests;
