//! Questions under a policy: which are asked, and what of the answers is passed on.
//!
//! Only names that the policy allows are asked for; everything else does not exist. Questions go out
//! made anew, with an id of ours, and addresses come back made anew, after they have been let
//! through ([`Gate::learn`]). IPv6 is not carried, so that no name has such an address; nor are
//! hints about addresses passed on. Records without addresses (MX, TXT, SRV) are passed on as they
//! are: an address in them is let through by asking for it.
//!
//! [`Call`] is a connection over TCP: one question at a time, a deadline, buffers of one message.

use super::message::{self, Answer, Question};
use super::{Resolvers, new_socket};
use crate::net::egress::{self, Gate};
use rustix::event::{PollFd, PollFlags};
use rustix::net::SocketType;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long a connection may be quiet.
const IDLE: Duration = Duration::from_secs(10);
/// Most bytes read at once.
const PIECE: usize = 4096;

/// What becomes of a message.
pub(super) enum Verdict {
    /// It is nothing.
    Ignored,
    /// The client is answered.
    Answered(Vec<u8>),
    /// The resolver is asked.
    Asked(Asked),
}

/// A question that is under way.
pub(super) struct Asked {
    pub(super) message: Vec<u8>,
    question: Question,
    id: u16,
}

pub(super) fn judge(gate: &mut Gate, bytes: &[u8]) -> Verdict {
    let Some(question) = Question::read(bytes) else {
        return Verdict::Ignored;
    };
    if question.strange {
        return Verdict::Answered(question.empty(message::NOTIMP));
    }
    let name = question.name.as_deref().unwrap_or_default();
    if gate.allows(name).is_none() {
        // Nobody who looks an address up backwards waits for a person to allow it.
        if !name.is_empty() && !name.ends_with(".arpa") {
            gate.refuse(name);
        }
        return Verdict::Answered(question.forbidden());
    }
    if [message::AAAA, message::SVCB, message::HTTPS].contains(&question.kind) {
        return Verdict::Answered(question.empty(0));
    }
    let mut id = [0; 2];
    if rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).is_err() {
        return Verdict::Answered(question.empty(message::SERVFAIL));
    }
    let id = u16::from_ne_bytes(id);
    Verdict::Asked(Asked {
        message: question.forward(id),
        question,
        id,
    })
}

impl Asked {
    /// Whether this is its answer, and no other's.
    pub(super) fn is_answered(&self, bytes: &[u8]) -> bool {
        self.question.is_answered(self.id, bytes)
    }

    /// What the client gets of the resolver's answer.
    pub(super) fn pass(&self, gate: &mut Gate, bytes: &[u8], udp: bool, now: Instant) -> Vec<u8> {
        let question = &self.question;
        let name = question.name.as_deref().unwrap_or_default();
        // The policy may be another by now.
        if gate.allows(name).is_none() {
            return question.forbidden();
        }
        if question.kind != message::A {
            return question.relay(bytes, udp);
        }
        let Some(mut answer) = Answer::read(bytes) else {
            return question.empty(message::SERVFAIL);
        };
        let given = answer.addresses.len();
        let kept = std::mem::take(&mut answer.addresses);
        let (kept, filtered): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|address| gate.passes(*address));
        if let (true, Some(address)) = (given > 0 && kept.is_empty(), filtered.first()) {
            gate.refuse(&format!("{name} (answered with {address})"));
        }
        answer.addresses = kept;
        answer.limit(u32::try_from(egress::MOST.as_secs()).unwrap_or(u32::MAX));
        let time = Duration::from_secs(answer.seconds.into());
        if !answer.addresses.is_empty() && gate.learn(name, &answer.addresses, time, now).is_err() {
            return question.empty(message::SERVFAIL);
        }
        question.answer(&answer, udp)
    }
}

/// A client's connection.
pub(super) struct Call {
    client: TcpStream,
    resolver: Option<TcpStream>,
    from_client: Vec<u8>,
    to_client: Vec<u8>,
    from_resolver: Vec<u8>,
    to_resolver: Vec<u8>,
    asked: Option<Asked>,
    deadline: Instant,
}

impl Call {
    pub(super) fn new(client: TcpStream, now: Instant) -> std::io::Result<Self> {
        client.set_nonblocking(true)?;
        Ok(Self {
            client,
            resolver: None,
            from_client: Vec::new(),
            to_client: Vec::new(),
            from_resolver: Vec::new(),
            to_resolver: Vec::new(),
            asked: None,
            deadline: now + IDLE,
        })
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn poll_descriptors<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let wanted = if !self.to_client.is_empty() {
            PollFlags::OUT
        } else if self.asked.is_none() {
            PollFlags::IN
        } else {
            // Its end is told anyway.
            PollFlags::empty()
        };
        fds.push(PollFd::new(&self.client, wanted));
        if let Some(resolver) = &self.resolver {
            let wanted = if self.to_resolver.is_empty() {
                PollFlags::IN
            } else {
                PollFlags::OUT
            };
            fds.push(PollFd::new(resolver, wanted));
        }
    }

    /// Moves what can be moved; false when the connection is over.
    pub(super) fn serve(
        &mut self,
        ready: &mut impl Iterator<Item = PollFlags>,
        gate: &mut Gate,
        resolvers: &mut Resolvers,
        now: Instant,
    ) -> bool {
        // Added since the last poll: no result is there for it yet.
        let Some(client) = ready.next() else {
            return true;
        };
        let resolver = match self.resolver {
            Some(_) => ready.next().unwrap_or(PollFlags::empty()),
            None => PollFlags::empty(),
        };
        if client.is_empty() && resolver.is_empty() {
            return now < self.deadline;
        }
        if client.intersects(PollFlags::ERR | PollFlags::HUP) {
            return false;
        }
        self.deadline = now + IDLE;
        if !resolver.is_empty() && !self.hear(gate, now) {
            return false;
        }
        if !flush(&mut self.client, &mut self.to_client) {
            return false;
        }
        if client.contains(PollFlags::IN) && !fill(&mut self.client, &mut self.from_client) {
            return false;
        }
        self.ask(gate, resolvers)
    }

    /// Judges the next question when the last is answered.
    fn ask(&mut self, gate: &mut Gate, resolvers: &mut Resolvers) -> bool {
        while self.asked.is_none() && self.to_client.is_empty() {
            let Some(message) = frame(&mut self.from_client) else {
                return true;
            };
            match judge(gate, &message) {
                Verdict::Ignored => return false,
                Verdict::Answered(answer) => {
                    framed(&mut self.to_client, &answer);
                    if !flush(&mut self.client, &mut self.to_client) {
                        return false;
                    }
                }
                Verdict::Asked(asked) => {
                    if self.resolver.is_none() {
                        self.resolver = connect(resolvers);
                    }
                    if self.resolver.is_none() {
                        return false;
                    }
                    framed(&mut self.to_resolver, &asked.message);
                    self.asked = Some(asked);
                }
            }
        }
        true
    }

    /// Speaks with the resolver.
    fn hear(&mut self, gate: &mut Gate, now: Instant) -> bool {
        let Some(resolver) = &mut self.resolver else {
            return true;
        };
        if !flush(resolver, &mut self.to_resolver) {
            return false;
        }
        if !self.to_resolver.is_empty() {
            return true;
        }
        if !fill(resolver, &mut self.from_resolver) {
            self.resolver = None;
            self.from_resolver.clear();
            // Between two questions a resolver may hang up.
            return self.asked.is_none();
        }
        while let Some(message) = frame(&mut self.from_resolver) {
            if self
                .asked
                .as_ref()
                .is_some_and(|asked| asked.is_answered(&message))
                && let Some(asked) = self.asked.take()
            {
                let answer = asked.pass(gate, &message, false, now);
                framed(&mut self.to_client, &answer);
            }
        }
        true
    }
}

fn connect(resolvers: &mut Resolvers) -> Option<TcpStream> {
    let resolver = resolvers.nth(0)?;
    let socket = new_socket(resolver, SocketType::STREAM).ok()?;
    match rustix::net::connect(&socket, &resolver) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Some(socket.into()),
        Err(_) => None,
    }
}

/// Takes a whole message out of what was received.
fn frame(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
    let message = bytes.get(2..2 + length)?.to_vec();
    bytes.drain(..2 + length);
    Some(message)
}

fn framed(bytes: &mut Vec<u8>, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&message[..usize::from(length)]);
}

/// Reads a piece; false at the end or when more came than one message may have.
fn fill(from: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut piece = [0; PIECE];
    match from.read(&mut piece) {
        Ok(0) => false,
        Ok(count) => {
            bytes.extend_from_slice(&piece[..count]);
            bytes.len() <= super::MESSAGE + 2 + PIECE
        }
        Err(error) => passes(error.kind()),
    }
}

fn flush(to: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    if bytes.is_empty() {
        return true;
    }
    match to.write(bytes) {
        Ok(count) => {
            bytes.drain(..count);
            true
        }
        Err(error) => passes(error.kind()),
    }
}

fn passes(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
    )
}
