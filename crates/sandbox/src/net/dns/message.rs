//! Messages of the domain name system (RFC 1035): reading them with suspicion, writing few.
//!
//! Owns the wire format alone; whom to answer is [`super`]'s, what may be reached `egress`'s. A
//! name is kept as text only if every label is made of letters, digits, `-` and `_`: a label may
//! hold a dot, and would then look like what it is not. Every length is checked, a pointer leads
//! backwards only.

use std::net::Ipv4Addr;

/// An address.
pub(super) const A: u16 = 1;
/// Another name for it.
const CNAME: u16 = 5;
/// An IPv6 address.
pub(super) const AAAA: u16 = 28;
/// Extensions (RFC 6891).
const OPT: u16 = 41;
/// How to reach a service (RFC 9460).
pub(super) const SVCB: u16 = 64;
/// The same of a web server.
pub(super) const HTTPS: u16 = 65;
const INTERNET: u16 = 1;
/// Names that lead to each other in one answer.
const CHAIN: usize = 16;
/// Size of answers that is asked for: what passes everywhere in one piece.
const SIZE: u16 = 1232;

/// No such name.
pub(super) const NXDOMAIN: u8 = 3;
/// The server failed.
pub(super) const SERVFAIL: u8 = 2;
/// Not implemented.
pub(super) const NOTIMP: u8 = 4;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) id: u16,
    /// Lower-case, without a final dot; None for one that is no host's.
    pub(super) name: Option<String>,
    pub(super) kind: u16,
    /// Name, type and class as they were sent.
    asked: Vec<u8>,
    recursion: bool,
    /// Size of answers over UDP that the client takes, where it says one.
    size: Option<u16>,
    /// Neither a plain query nor of the Internet's class.
    pub(super) strange: bool,
}

/// What a resolver answers to a question for an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    code: u8,
    truncated: bool,
    /// Names that lead from the one asked for to the one that has the addresses, with seconds.
    chain: Vec<(Vec<u8>, u32)>,
    pub(super) addresses: Vec<Ipv4Addr>,
    /// Least of the records' times, in seconds.
    pub(super) seconds: u32,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A name uncompressed and in lower case.
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        let mut at = self.at;
        let mut bound = at;
        let mut followed = false;
        loop {
            let length = *self.bytes.get(at)?;
            if length & 0xc0 == 0xc0 {
                let low = *self.bytes.get(at + 1)?;
                let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                if !followed {
                    self.at = at + 2;
                }
                followed = true;
                // Backwards only, so that it ends.
                if target >= bound {
                    return None;
                }
                (at, bound) = (target, target);
                continue;
            }
            if length & 0xc0 != 0 {
                return None;
            }
            let label = self.bytes.get(at..=at + usize::from(length))?;
            name.extend(label.iter().map(u8::to_ascii_lowercase));
            if name.len() > 255 {
                return None;
            }
            at += label.len();
            if length == 0 {
                if !followed {
                    self.at = at;
                }
                return Some(name);
            }
        }
    }
}

/// A name as text, when it is a host's.
fn text(name: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut rest = name;
    loop {
        let (length, tail) = rest.split_first()?;
        let (label, tail) = tail.split_at_checked(usize::from(*length))?;
        if label.is_empty() {
            return (!text.is_empty()).then_some(text);
        }
        if !text.is_empty() {
            text.push('.');
        }
        let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if !label.iter().all(good) {
            return None;
        }
        text.push_str(std::str::from_utf8(label).ok()?);
        rest = tail;
    }
}

impl Question {
    /// Reads a query; None for what is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes, at: 0 };
        let id = reader.u16()?;
        let flags = reader.u16()?;
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        // An answer is never answered.
        if flags & 0x8000 != 0 || counts[0] != 1 {
            return None;
        }
        let name = reader.name()?;
        let kind = reader.u16()?;
        let class = reader.u16()?;
        let asked = bytes.get(12..reader.at)?.to_vec();
        let mut size = None;
        if counts[1] == 0 && counts[2] == 0 && counts[3] == 1 && bytes.get(reader.at) == Some(&0) {
            reader.at += 1;
            if reader.u16()? == OPT {
                size = Some(reader.u16()?);
            }
        }
        Some(Self {
            id,
            name: text(&name),
            kind,
            asked,
            recursion: flags & 0x0100 != 0,
            size,
            strange: flags & 0x7800 != 0 || class != INTERNET,
        })
    }

    /// The question made anew, with an id of ours: nothing else of the client's goes out.
    pub(super) fn forward(&self, id: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Recursion desired.
        for number in [id, 0x0100, 1, 0, 0, 1] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.asked);
        bytes.push(0);
        for number in [OPT, SIZE, 0, 0, 0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// Whether a message answers what [`Self::forward`] asked with this id.
    pub(super) fn is_answered(&self, id: u16, bytes: &[u8]) -> bool {
        let asked = bytes.get(12..12 + self.asked.len());
        bytes.get(..2) == Some(&id.to_be_bytes())
            && bytes.get(2).is_some_and(|flags| flags & 0xf8 == 0x80)
            && bytes.get(4..6) == Some(&[0, 1])
            && asked.is_some_and(|asked| asked.eq_ignore_ascii_case(&self.asked))
    }

    fn head(&self, code: u8, truncated: bool, answers: usize) -> Vec<u8> {
        let answers = u16::try_from(answers).unwrap_or(u16::MAX);
        let mut flags = 0x8080 | u16::from(code & 0xf);
        flags |= u16::from(self.recursion) << 8;
        flags |= u16::from(truncated) << 9;
        let extended = u16::from(self.size.is_some());
        let mut bytes = Vec::new();
        for number in [self.id, flags, 1, answers, 0, extended] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.asked);
        bytes
    }

    fn extend(&self, bytes: &mut Vec<u8>, option: &[u8]) {
        if self.size.is_none() {
            return;
        }
        bytes.push(0);
        let length = u16::try_from(option.len()).unwrap_or_default();
        for number in [OPT, SIZE, 0, 0, length] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(option);
    }

    /// An answer without records.
    pub(super) fn empty(&self, code: u8) -> Vec<u8> {
        let mut bytes = self.head(code, false, 0);
        self.extend(&mut bytes, &[]);
        bytes
    }

    /// That the policy forbids the name. As one that does not exist, which every program understands
    /// at once (some wait after REFUSED), with the reason for those who read it (RFC 8914).
    pub(super) fn forbidden(&self) -> Vec<u8> {
        const WHY: &[u8] = b"not allowed by the environment's egress policy";
        let mut option = Vec::new();
        let length = u16::try_from(WHY.len() + 2).unwrap_or_default();
        // Extended error 18: prohibited.
        for number in [15, length, 18] {
            option.extend_from_slice(&u16::to_be_bytes(number));
        }
        option.extend_from_slice(WHY);
        let mut bytes = self.head(NXDOMAIN, false, 0);
        self.extend(&mut bytes, &option);
        bytes
    }

    /// A resolver's answer as it is, but for the id.
    pub(super) fn relay(&self, bytes: &[u8], udp: bool) -> Vec<u8> {
        let most = usize::from(self.size.unwrap_or(512).clamp(512, 4096));
        if udp && bytes.len() > most {
            let mut bytes = self.head(0, true, 0);
            self.extend(&mut bytes, &[]);
            return bytes;
        }
        let mut bytes = bytes.to_vec();
        if let Some(id) = bytes.get_mut(..2) {
            id.copy_from_slice(&self.id.to_be_bytes());
        }
        bytes
    }

    /// The answer for the client, made anew from what was understood of the resolver's; `udp` when
    /// it has to fit into one message.
    pub(super) fn answer(&self, answer: &Answer, udp: bool) -> Vec<u8> {
        let count = answer.chain.len() + answer.addresses.len();
        let mut bytes = self.head(answer.code, answer.truncated, count);
        // The name asked for stands after the header.
        let mut owner: u16 = 0xc00c;
        for (target, seconds) in &answer.chain {
            record(&mut bytes, owner, CNAME, *seconds, target);
            let at = bytes.len() - target.len();
            owner = 0xc000 | u16::try_from(at).unwrap_or_default();
        }
        for address in &answer.addresses {
            record(&mut bytes, owner, A, answer.seconds, &address.octets());
        }
        self.extend(&mut bytes, &[]);
        let most = usize::from(self.size.unwrap_or(512).clamp(512, 4096));
        if udp && (bytes.len() > most || answer.truncated) {
            // The client asks again over TCP.
            let mut bytes = self.head(answer.code, true, 0);
            self.extend(&mut bytes, &[]);
            return bytes;
        }
        bytes
    }
}

fn record(bytes: &mut Vec<u8>, owner: u16, kind: u16, seconds: u32, data: &[u8]) {
    bytes.extend_from_slice(&owner.to_be_bytes());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&INTERNET.to_be_bytes());
    bytes.extend_from_slice(&seconds.to_be_bytes());
    let length = u16::try_from(data.len()).unwrap_or_default();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(data);
}

impl Answer {
    /// Makes it good for at most so many seconds.
    pub(super) fn limit(&mut self, seconds: u32) {
        self.seconds = self.seconds.min(seconds);
        for (_, own) in &mut self.chain {
            *own = (*own).min(seconds);
        }
    }

    /// Reads the answer to a question for an address; None for what cannot be understood.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes, at: 2 };
        let flags = reader.u16()?;
        let (questions, answers) = (reader.u16()?, reader.u16()?);
        reader.at = 12;
        if flags & 0x8000 == 0 || questions != 1 {
            return None;
        }
        let mut name = reader.name()?;
        reader.take(4)?;
        let mut answer = Self {
            code: u8::try_from(flags & 0xf).ok()?,
            truncated: flags & 0x0200 != 0,
            seconds: u32::MAX,
            ..Self::default()
        };
        if answer.truncated {
            return Some(answer);
        }
        let mut records = Vec::new();
        for _ in 0..answers {
            let owner = reader.name()?;
            let (kind, class, seconds) = (reader.u16()?, reader.u16()?, reader.u32()?);
            let length = usize::from(reader.u16()?);
            let begin = reader.at;
            let data = reader.take(length)?;
            if class != INTERNET {
                continue;
            }
            // Times with the highest bit set count as none (RFC 2181).
            let seconds = if seconds > i32::MAX.unsigned_abs() {
                0
            } else {
                seconds
            };
            match kind {
                A => records.push((owner, seconds, Err(<[u8; 4]>::try_from(data).ok()?))),
                CNAME => {
                    let mut inner = Reader { bytes, at: begin };
                    let target = inner.name()?;
                    if inner.at != reader.at {
                        return None;
                    }
                    records.push((owner, seconds, Ok(target)));
                }
                _ => {}
            }
        }
        while let Some((seconds, target)) = records.iter().find_map(|(owner, seconds, data)| {
            let target = data.as_ref().ok()?;
            (*owner == name).then(|| (*seconds, target.clone()))
        }) {
            if answer.chain.len() >= CHAIN {
                return None;
            }
            answer.seconds = answer.seconds.min(seconds);
            answer.chain.push((target.clone(), seconds));
            name = target;
        }
        for (owner, seconds, data) in &records {
            if let Err(address) = data
                && *owner == name
                && !answer.addresses.contains(&Ipv4Addr::from(*address))
            {
                answer.seconds = answer.seconds.min(*seconds);
                answer.addresses.push(Ipv4Addr::from(*address));
            }
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests;
