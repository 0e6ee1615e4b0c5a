//! What one sandbox may reach, kept in the host's firewall.
//!
//! A sandbox with a policy has a chain and sets of its own in the static table, named after its
//! interface, and an element in the map [`MAP`] that leads there; one without has nothing. All is
//! made in one transaction before the link is, and replaced in one when the policy changes. The
//! chain lets through what `ranges` holds, and new connections to addresses in `fresh`: the
//! answers for allowed names, for as long as they are good, put there before the answer is passed
//! on ([`Gate::learn`]). A connection that stands is let through as long as its address is in
//! `known`: all answers for names that the policy still allows, so that an answer that runs out cuts
//! nothing and a narrower policy does. Everything else is counted and refused.
//!
//! Crash behaviour: the kernel keeps what is allowed while nobody adds to it; the runner starts a
//! sandbox without monitor anew. [`remove`] finds everything by the id, before the cgroups go by
//! which a removal that was cut short is found again.
//!
//! Read next: `host` (who leads here), `netfilter`, `dns` (who asks for names).

use super::netfilter::{self, Change, What};
use super::outside::interface;
use crate::protocol::HostNames;
use crate::spec::{AllowedRange, Egress, Id};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Leads from an interface to its sandbox's chain.
pub(super) const MAP: &str = "egress";
/// Elements a set may have.
const ELEMENTS: usize = 8192;
/// Answers remembered; the oldest is forgotten, and what stands to it is cut.
const ANSWERS: usize = 2048;
/// Longest time an answer is good for.
pub(super) const MOST: Duration = Duration::from_secs(3600);
/// How much longer than in the answer an address is let through: it is on its way meanwhile.
const SLACK: Duration = Duration::from_secs(5);
/// Refused names that are remembered.
const REFUSED: usize = 16;
/// Sets of a policy, and how each is declared.
const SETS: [(&str, &str); 7] = [
    ("known", "type ipv4_addr; size 8192;"),
    ("known_ports", "type ipv4_addr . inet_service; size 8192;"),
    ("fresh", "type ipv4_addr; flags timeout; size 8192;"),
    (
        "fresh_ports",
        "type ipv4_addr . inet_service; flags timeout; size 8192;",
    ),
    ("ranges", "type ipv4_addr; flags interval; auto-merge;"),
    (
        "range_ports",
        "type ipv4_addr . inet_service; flags interval;",
    ),
    (
        "refused",
        "type ipv4_addr . inet_proto . inet_service; flags dynamic,timeout; timeout 10m; size 64;",
    ),
];

/// What is in force, and what it refused: `<state>/egress.json`, written by the monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressReport {
    /// The policy in force; None where there is none.
    pub policy: Option<Egress>,
    /// Number of the last change asked for; see `Wanted`.
    pub change: u64,
    /// Why that change is not in force.
    pub error: Option<String>,
    /// Questions for names and packets refused since the start.
    pub refused: u64,
    /// Some of what was refused lately, newest first: a name, or address, port and protocol.
    pub recent: Vec<String>,
}

/// What the runner asks of the monitor: `<state>/egress.wanted.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) change: u64,
    pub(crate) policy: Option<Egress>,
}

/// Names of what a policy consists of.
struct Names {
    table: String,
    interface: String,
}

impl Names {
    fn of(host: &HostNames, id: &Id) -> Self {
        Self {
            table: host.table.clone(),
            interface: interface(host, id),
        }
    }

    /// An interface's name may begin with a digit.
    fn chain(&self) -> String {
        format!("e_{}", self.interface)
    }

    fn set(&self, set: &str) -> String {
        format!("e_{}_{set}", self.interface)
    }
}

/// Makes the policy, or replaces it.
pub(crate) fn install(host: &HostNames, id: &Id, egress: &Egress) -> io::Result<()> {
    netfilter::load(&script(&Names::of(host, id), egress, &[]))
}

/// Removes a policy, if there is one.
pub(crate) fn remove(host: &HostNames, id: &Id) -> io::Result<()> {
    let names = Names::of(host, id);
    let (table, chain) = (&names.table, names.chain());
    if !netfilter::has_chain(table, &chain)? {
        return Ok(());
    }
    let mut text = format!(
        "delete element inet {table} {MAP} {{ \"{}\" }}\nflush chain inet {table} {chain}\ndelete chain inet {table} {chain}\n",
        names.interface
    );
    for (set, _) in SETS {
        let _ = writeln!(text, "delete set inet {table} {}", names.set(set));
    }
    let _ = writeln!(
        text,
        "delete counter inet {table} {}",
        names.set("refusals")
    );
    match netfilter::load(&text) {
        // Two remove it at once: monitor and runner.
        Err(_) if !netfilter::has_chain(table, &chain)? => Ok(()),
        other => other,
    }
}

/// A key of a set of answers: an address, and a port in those of ports.
type Key = (Ipv4Addr, Option<u16>);

/// One transaction that makes the whole policy, whatever was there. `answers` are put into the sets.
fn script(names: &Names, egress: &Egress, answers: &[(Key, Duration)]) -> String {
    let (table, chain) = (&names.table, names.chain());
    let set = |name: &str| names.set(name);
    let mut text = format!("table inet {table} {{\n");
    for (name, kind) in SETS {
        let _ = writeln!(text, "  set {} {{ {kind} }}", set(name));
    }
    let _ = writeln!(text, "  counter {} {{ }}", set("refusals"));
    let _ = writeln!(text, "  chain {chain} {{ }}\n}}");
    let _ = writeln!(text, "flush chain inet {table} {chain}");
    for (name, _) in SETS.iter().filter(|(name, _)| *name != "refused") {
        let _ = writeln!(text, "flush set inet {table} {}", set(name));
    }
    let ports = "meta l4proto { tcp, udp } ip daddr . th dport";
    let _ = write!(
        text,
        "table inet {table} {{
  chain {chain} {{
    ct state established,related ip daddr @{known} accept
    ct state established,related {ports} @{known_ports} accept
    ct state new ip daddr @{fresh} accept
    ct state new {ports} @{fresh_ports} accept
    ip daddr @{ranges} accept
    {ports} @{range_ports} accept
    meta l4proto {{ tcp, udp }} update @{refused} {{ ip daddr . meta l4proto . th dport }}
    counter name \"{refusals}\" goto refuse
  }}
}}
",
        known = set("known"),
        known_ports = set("known_ports"),
        fresh = set("fresh"),
        fresh_ports = set("fresh_ports"),
        ranges = set("ranges"),
        range_ports = set("range_ports"),
        refused = set("refused"),
        refusals = set("refusals"),
    );
    let mut elements = |name: &str, elements: Vec<String>| {
        if !elements.is_empty() {
            let list = elements.join(", ");
            let _ = writeln!(text, "add element inet {table} {} {{ {list} }}", set(name));
        }
    };
    let between = |range: &AllowedRange| {
        if range.first == range.last {
            range.first.to_string()
        } else {
            format!("{}-{}", range.first, range.last)
        }
    };
    let whole = egress.ranges.iter().filter(|range| range.ports.is_empty());
    elements("ranges", whole.map(between).collect());
    elements("range_ports", port_ranges(&egress.ranges));
    for (name, ports, timed) in [
        ("known", false, false),
        ("known_ports", true, false),
        ("fresh", false, true),
        ("fresh_ports", true, true),
    ] {
        let of = answers
            .iter()
            .filter(|((_, port), left)| port.is_some() == ports && !(timed && left.is_zero()));
        let shown = of.map(|((address, port), left)| {
            let port = port.map_or(String::new(), |port| format!(" . {port}"));
            let time = if timed {
                format!(" timeout {}ms", left.as_millis())
            } else {
                String::new()
            };
            format!("{address}{port}{time}")
        });
        elements(name, shown.collect());
    }
    let _ = writeln!(
        text,
        "add element inet {table} {MAP} {{ \"{}\" : jump {chain} }}",
        names.interface
    );
    text
}

/// Ranges with ports as elements of which no two overlap, as a set of intervals wants them.
fn port_ranges(ranges: &[AllowedRange]) -> Vec<String> {
    let mut of_port: HashMap<u16, Vec<(u32, u32)>> = HashMap::new();
    for range in ranges {
        for port in &range.ports {
            let bounds = (u32::from(range.first), u32::from(range.last));
            of_port.entry(*port).or_default().push(bounds);
        }
    }
    let mut elements = Vec::new();
    for (port, mut bounds) in of_port {
        bounds.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (first, last) in bounds {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        for (first, last) in merged {
            let (first, last) = (Ipv4Addr::from(first), Ipv4Addr::from(last));
            elements.push(if first == last {
                format!("{first} . {port}")
            } else {
                format!("{first}-{last} . {port}")
            });
        }
    }
    elements.sort_unstable();
    elements
}

/// An address that was answered for a name.
struct Answer {
    name: String,
    address: Ipv4Addr,
    until: Instant,
}

/// The policy of a sandbox as its monitor keeps it.
pub(crate) struct Gate {
    names: Names,
    egress: Egress,
    /// Oldest first.
    answers: VecDeque<Answer>,
    /// Until when the kernel keeps what is in the sets of fresh answers.
    fresh: HashMap<Key, Instant>,
    known: BTreeSet<Key>,
    refusals: Refusals,
}

/// Names that were refused.
#[derive(Default)]
pub(crate) struct Refusals {
    count: u64,
    names: VecDeque<String>,
}

impl Refusals {
    fn note(&mut self, name: &str) {
        self.count += 1;
        self.names.retain(|known| known != name);
        self.names.push_front(name.to_owned());
        self.names.truncate(REFUSED);
    }
}

impl Gate {
    /// Of a policy that is installed.
    pub(crate) fn new(host: &HostNames, id: &Id, egress: Egress) -> Self {
        Self {
            names: Names::of(host, id),
            egress,
            answers: VecDeque::new(),
            fresh: HashMap::new(),
            known: BTreeSet::new(),
            refusals: Refusals::default(),
        }
    }

    /// Ports that a name may be reached at, empty for all; None when it may not be.
    pub(crate) fn allows(&self, name: &str) -> Option<Vec<u16>> {
        allows(&self.egress, name)
    }

    /// Whether an address may be passed on as an answer for a name: one that is nobody's own, or that
    /// the policy allows by its number. Otherwise whoever answers for an allowed name would point it
    /// at the neighbourhood of this host.
    pub(crate) fn passes(&self, address: Ipv4Addr) -> bool {
        let within = |range: &AllowedRange| (range.first..=range.last).contains(&address);
        is_public(address) || self.egress.ranges.iter().any(within)
    }

    /// Notes that a name was asked for in vain.
    pub(crate) fn refuse(&mut self, name: &str) {
        self.refusals.note(name);
    }

    /// Replaces the policy; answers for names that it allows stay good.
    pub(crate) fn change(&mut self, egress: Egress, now: Instant) -> io::Result<()> {
        let before = std::mem::replace(&mut self.egress, egress);
        let installed = self.install(now);
        if installed.is_err() {
            self.egress = before;
        }
        installed
    }

    /// Makes everything anew.
    fn install(&mut self, now: Instant) -> io::Result<()> {
        let egress = &self.egress;
        self.answers
            .retain(|answer| allows(egress, &answer.name).is_some());
        let mut wanted: HashMap<Key, Instant> = HashMap::new();
        for answer in &self.answers {
            for key in keys(egress, &answer.name, answer.address) {
                let until = wanted.entry(key).or_insert(answer.until);
                *until = answer.until.max(*until);
            }
        }
        let answers: Vec<_> = wanted
            .iter()
            .map(|(key, until)| (*key, until.saturating_duration_since(now)))
            .collect();
        netfilter::load(&script(&self.names, egress, &answers))?;
        self.known = wanted.keys().copied().collect();
        self.fresh = wanted;
        Ok(())
    }

    /// Lets addresses through that were answered for an allowed name.
    pub(crate) fn learn(
        &mut self,
        name: &str,
        addresses: &[Ipv4Addr],
        time: Duration,
        now: Instant,
    ) -> io::Result<()> {
        let least = Duration::from_secs(self.egress.least_seconds.into());
        let time = time.clamp(least, MOST.max(least)) + SLACK.min(least);
        let until = now + time;
        let mut wanted = Vec::new();
        for address in addresses.iter().filter(|address| is_public(**address)) {
            self.answers
                .retain(|known| known.address != *address || known.name != name);
            self.answers.push_back(Answer {
                name: name.to_owned(),
                address: *address,
                until,
            });
            wanted.extend(keys(&self.egress, name, *address));
        }
        self.fresh.retain(|_, until| *until > now);
        if self.forget(wanted.len(), now)? {
            return Ok(());
        }
        match self.add(&wanted, time, now, true) {
            // It ran out a moment before: the kernel's clock is not this one.
            Err(error) if netfilter::missing(&error) => {
                match self.add(&wanted, time, now, false) {
                    // Somebody has emptied the tables.
                    Err(error) if netfilter::missing(&error) => self.install(now)?,
                    other => other?,
                }
            }
            other => other?,
        }
        for key in wanted {
            self.fresh.insert(key, until);
            self.known.insert(key);
        }
        Ok(())
    }

    /// Adds elements; a fresh one that is there is removed first, since its time is not changed by
    /// adding it again.
    fn add(&self, wanted: &[Key], time: Duration, now: Instant, removing: bool) -> io::Result<()> {
        let (fresh, known) = (self.sets("fresh"), self.sets("known"));
        let mut changes = Vec::new();
        let bytes: Vec<(Vec<u8>, &Key)> = wanted.iter().map(|key| (bytes(*key), key)).collect();
        for (key, of) in &bytes {
            let ports = usize::from(of.1.is_some());
            let there = self.fresh.get(of).is_some_and(|until| *until > now);
            if removing && there {
                changes.push(Change {
                    set: &fresh[ports],
                    key,
                    what: What::Remove,
                });
            }
            changes.push(Change {
                set: &fresh[ports],
                key,
                what: What::Add(Some(time)),
            });
            changes.push(Change {
                set: &known[ports],
                key,
                what: What::Add(None),
            });
        }
        netfilter::change(&self.names.table, &changes)
    }

    fn sets(&self, set: &str) -> [String; 2] {
        [self.names.set(set), self.names.set(&format!("{set}_ports"))]
    }

    /// Forgets the oldest answers where there are too many; answers whether it did, and all is
    /// installed.
    fn forget(&mut self, more: usize, now: Instant) -> io::Result<bool> {
        let mut elements = self.known.len() + more;
        if self.answers.len() <= ANSWERS && elements <= ELEMENTS {
            return Ok(false);
        }
        // Many at a time, so that a flood of names costs little.
        while self.answers.len() > 1
            && (self.answers.len() > ANSWERS * 3 / 4 || elements > ELEMENTS)
        {
            let oldest = self.answers.len().div_ceil(4).min(self.answers.len() - 1);
            self.answers.drain(..oldest);
            let answers = self.answers.iter();
            elements = answers
                .map(|answer| keys(&self.egress, &answer.name, answer.address).len())
                .sum();
        }
        self.install(now).map(|()| true)
    }

    /// What is in force and was refused; `change` and `error` are the caller's.
    pub(crate) fn report(&self) -> EgressReport {
        let table = &self.names.table;
        let packets = netfilter::counted(table, &self.names.set("refusals")).unwrap_or_default();
        let refused = netfilter::elements(table, &self.names.set("refused")).unwrap_or_default();
        let mut addresses: Vec<String> = refused.iter().filter_map(|key| shown(key)).collect();
        addresses.sort_unstable();
        let mut recent: Vec<String> = self.refusals.names.iter().cloned().collect();
        recent.extend(addresses);
        recent.truncate(REFUSED);
        EgressReport {
            policy: Some(self.egress.clone()),
            change: 0,
            error: None,
            refused: packets.saturating_add(self.refusals.count),
            recent,
        }
    }
}

/// As the kernel keeps a key.
fn bytes((address, port): Key) -> Vec<u8> {
    let mut bytes = address.octets().to_vec();
    if let Some(port) = port {
        bytes.extend_from_slice(&port.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
    }
    bytes
}

/// Address, port and protocol of a refused packet, in words.
fn shown(key: &[u8]) -> Option<String> {
    let address: [u8; 4] = key.get(..4)?.try_into().ok()?;
    let protocol = match key.get(4)? {
        6 => "tcp",
        _ => "udp",
    };
    let port = u16::from_be_bytes(key.get(8..10)?.try_into().ok()?);
    Some(format!("{}:{port}/{protocol}", Ipv4Addr::from(address)))
}

/// Elements of the sets for an address that was answered for a name.
fn keys(egress: &Egress, name: &str, address: Ipv4Addr) -> Vec<Key> {
    match allows(egress, name) {
        None => Vec::new(),
        Some(ports) if ports.is_empty() => vec![(address, None)],
        Some(ports) => ports.iter().map(|port| (address, Some(*port))).collect(),
    }
}

/// See [`Gate::allows`].
fn allows(egress: &Egress, name: &str) -> Option<Vec<u16>> {
    let mut found: Option<BTreeSet<u16>> = None;
    for allowed in &egress.names {
        let matches = if allowed.below {
            name.strip_suffix(allowed.name.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| !rest.is_empty())
        } else {
            name == allowed.name
        };
        if !matches {
            continue;
        }
        if allowed.ports.is_empty() {
            return Some(Vec::new());
        }
        found.get_or_insert_default().extend(&allowed.ports);
    }
    found.map(|ports| ports.into_iter().collect())
}

/// Whether an address is somebody's on the Internet, and not of a network that only its own know
/// (RFC 6890 and its successors).
fn is_public(address: Ipv4Addr) -> bool {
    let within = |network: [u8; 4], bits: u32| {
        let mask = u32::MAX << (32 - bits);
        u32::from(address) & mask == u32::from(Ipv4Addr::from(network)) & mask
    };
    !(within([0, 0, 0, 0], 8)
        || within([10, 0, 0, 0], 8)
        || within([100, 64, 0, 0], 10)
        || within([127, 0, 0, 0], 8)
        || within([169, 254, 0, 0], 16)
        || within([172, 16, 0, 0], 12)
        || within([192, 0, 0, 0], 24)
        || within([192, 168, 0, 0], 16)
        || within([198, 18, 0, 0], 15)
        || within([168, 63, 129, 16], 32)
        || within([224, 0, 0, 0], 3))
}

#[cfg(test)]
mod tests;
