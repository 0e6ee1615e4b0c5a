//! The firewall: rules as text by `nft`, elements of sets by netfilter's own netlink messages.
//!
//! Rules change rarely, and `nft -f -` replaces them in one transaction; an element is added for
//! each answered name, which a process would make dear. Only what sets need is spoken here:
//! nfnetlink's batches, NFT_MSG_NEWSETELEM, its removal and its listing, a counter's value, whether
//! a chain is there (linux/netfilter/nf_tables.h). Every wait has a deadline.
//!
//! Read next: `host` (the static rules), `egress` (what is in the sets).

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Name of the program in what the user reads.
pub(super) const PROGRAM: &str = "load the firewall by nft (install it: apt-get install nftables)";
/// How long the kernel has for an answer.
const ANSWER: i64 = 5;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const TABLES: u16 = 10;
const GET_CHAIN: u16 = 4;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DELETE_ELEMENT: u16 = 14;
const GET_OBJECT: u16 = 19;
/// NFPROTO_INET: of both families.
const INET: u8 = 1;
const NESTED: u16 = 0x8000;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Carries out a script in one transaction.
pub(super) fn load(text: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(said))
}

/// A change of one element of a set.
pub(super) struct Change<'a> {
    pub(super) set: &'a str,
    /// As the kernel keeps it: each field in network order, filled up to four bytes.
    pub(super) key: &'a [u8],
    pub(super) what: What,
}

#[derive(Clone, Copy)]
pub(super) enum What {
    /// Added, for a time or for ever; one that is there keeps the time it has.
    Add(Option<Duration>),
    /// Removed; one that is not there is an error.
    Remove,
}

/// Does all changes or none.
pub(super) fn change(table: &str, changes: &[Change<'_>]) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let socket = open()?;
    let mut bytes = Vec::new();
    message(&mut bytes, BATCH_BEGIN, REQUEST, 0, (0, TABLES), |_| {});
    for (number, change) in (1..).zip(changes) {
        let (kind, flags) = match change.what {
            What::Add(_) => (NEW_ELEMENT, CREATE),
            What::Remove => (DELETE_ELEMENT, 0),
        };
        // Errors are told of each message, and before the acknowledgement of the last.
        let last = usize::try_from(number).is_ok_and(|number| number == changes.len());
        let flags = REQUEST | flags | if last { ACK } else { 0 };
        message(
            &mut bytes,
            TABLES << 8 | kind,
            flags,
            number,
            (INET, 0),
            |bytes| {
                attribute(bytes, 1, |b| text(b, table));
                attribute(bytes, 2, |b| text(b, change.set));
                attribute(bytes, 3 | NESTED, |b| {
                    attribute(b, 1 | NESTED, |b| {
                        attribute(b, 1 | NESTED, |b| {
                            attribute(b, 1, |b| b.extend_from_slice(change.key));
                        });
                        if let What::Add(Some(time)) = change.what {
                            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                            attribute(b, 4, |b| b.extend_from_slice(&millis.to_be_bytes()));
                        }
                    });
                });
            },
        );
    }
    message(&mut bytes, BATCH_END, REQUEST, 0, (0, TABLES), |_| {});
    socket.send(&bytes, 0)?;
    loop {
        for answer in receive(&socket)? {
            if answer.kind == ERROR {
                return answer.result();
            }
        }
    }
}

/// The keys of a set's elements.
pub(super) fn elements(table: &str, set: &str) -> io::Result<Vec<Vec<u8>>> {
    let socket = open()?;
    let mut bytes = Vec::new();
    let kind = TABLES << 8 | GET_ELEMENT;
    message(&mut bytes, kind, REQUEST | DUMP, 1, (INET, 0), |bytes| {
        attribute(bytes, 1, |b| text(b, table));
        attribute(bytes, 2, |b| text(b, set));
    });
    socket.send(&bytes, 0)?;
    let mut keys = Vec::new();
    loop {
        for answer in receive(&socket)? {
            match answer.kind {
                ERROR => answer.result()?,
                DONE => return Ok(keys),
                _ => {
                    for (_, element) in attributes(answer.attributes(), 3) {
                        let key = find(element, 1).and_then(|key| find(key, 1));
                        keys.extend(key.map(<[u8]>::to_vec));
                    }
                }
            }
        }
    }
}

/// Packets that a named counter has counted.
pub(super) fn counted(table: &str, counter: &str) -> io::Result<u64> {
    let answer = get(GET_OBJECT, |bytes| {
        attribute(bytes, 1, |b| text(b, table));
        attribute(bytes, 2, |b| text(b, counter));
        // NFT_OBJECT_COUNTER.
        attribute(bytes, 3, |b| b.extend_from_slice(&1u32.to_be_bytes()));
    })?;
    let data = find(answer.attributes(), 4);
    let packets = data.and_then(|data| find(data, 2));
    let packets = packets.and_then(|bytes| bytes.try_into().ok());
    packets
        .map(u64::from_be_bytes)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Whether a chain is there; false too where the kernel has no nf_tables.
pub(super) fn has_chain(table: &str, chain: &str) -> io::Result<bool> {
    let found = get(GET_CHAIN, |bytes| {
        attribute(bytes, 1, |b| text(b, table));
        attribute(bytes, 3, |b| text(b, chain));
    });
    match found {
        Ok(_) => Ok(true),
        Err(error) if missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an error says that something, or all of nf_tables, is not there.
pub(super) fn missing(error: &io::Error) -> bool {
    let codes = [libc::ENOENT, libc::EPROTONOSUPPORT, libc::EOPNOTSUPP];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

fn get(kind: u16, content: impl FnOnce(&mut Vec<u8>)) -> io::Result<Answer> {
    let socket = open()?;
    let mut bytes = Vec::new();
    message(
        &mut bytes,
        TABLES << 8 | kind,
        REQUEST,
        1,
        (INET, 0),
        content,
    );
    socket.send(&bytes, 0)?;
    loop {
        for answer in receive(&socket)? {
            match answer.kind {
                ERROR => answer.result()?,
                _ => return Ok(answer),
            }
        }
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

struct Answer {
    kind: u16,
    /// What follows the header.
    body: Vec<u8>,
}

impl Answer {
    /// Of an NLMSG_ERROR, which is an acknowledgement too.
    fn result(&self) -> io::Result<()> {
        let code = self.body.get(..4).and_then(|b| b.try_into().ok());
        match code.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code.saturating_abs())),
            None => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    /// After nfgenmsg.
    fn attributes(&self) -> &[u8] {
        self.body.get(4..).unwrap_or_default()
    }
}

fn receive(socket: &Socket) -> io::Result<Vec<Answer>> {
    let timeout = Timespec {
        tv_sec: ANSWER,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    if rustix::event::poll(&mut fds, Some(&timeout))? == 0 {
        return Err(io::Error::from(io::ErrorKind::TimedOut));
    }
    let (bytes, _) = socket.recv_from_full()?;
    let mut answers = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((header, _)) = rest.split_at_checked(16) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX).max(16);
        let body = rest.get(16..length).unwrap_or_default();
        answers.push(Answer {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            body: body.to_vec(),
        });
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(answers)
}

/// Appends a message: header, nfgenmsg of a family and a resource, attributes.
fn message(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    number: u32,
    (family, resource): (u8, u16),
    content: impl FnOnce(&mut Vec<u8>),
) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&number.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    content(bytes);
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, content: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    content(bytes);
    let length = u16::try_from(bytes.len() - start).unwrap_or(u16::MAX);
    bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
}

/// Number and content of each attribute within `of` (0: of these bytes themselves).
fn attributes(bytes: &[u8], of: u16) -> Vec<(u16, &[u8])> {
    let mut rest = if of == 0 {
        bytes
    } else {
        find(bytes, of).unwrap_or_default()
    };
    let mut found = Vec::new();
    while let Some((header, _)) = rest.split_at_checked(4) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]])).max(4);
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        found.push((kind, rest.get(4..length).unwrap_or_default()));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut all = attributes(bytes, 0).into_iter();
    all.find_map(|(found, content)| (found == kind).then_some(content))
}
