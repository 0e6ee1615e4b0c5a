//! Fair shares of the host's way to the outside, for a runner that was told what it carries.
//!
//! What all environments send is led through one device (ifb) and what they receive through another, each
//! with an htb a little slower than the way out, so that packets wait here, where they can be told apart,
//! and not in a queue that is everybody's. In it each environment has a class of its own, with its members,
//! and in that one leaf for small packets and one for others:
//!
//! - nobody has a rate for certain but for small packets (a 64th): those go at once, before everything;
//! - all else is borrowed from the whole, in turns of as many bytes for each environment that has
//!   something to send, however many connections it has; who is alone has all;
//! - an environment's own limit is the ceiling of its class.
//!
//! So nothing depends on how many environments there are, and one that comes or goes changes nobody's
//! class. A packet's environment is told by the veth it came through, which nothing inside can forge;
//! source addresses are judged later. On a slow way the leaves cut what segmentation offload made large
//! into packets again, since an htb's turn is never less than a packet.
//!
//! Not here: what the host itself sends and receives (images, streams to the server), which is led
//! through nothing and finds the way out without a queue. Nor is it known which way a packet takes after
//! the host: all counts, whatever device it leaves by.
//!
//! Crash behaviour: the devices bear names made from the runner's; [`Uplink::prepare`], at the runner's
//! start, takes what is left of an earlier one away, with what leads packets to it first, and makes all
//! anew for the sandboxes that run. Between two runners the kernel goes on as it was told. What is held
//! here is what this runner made since.

use super::netlink::{self, Netlink, Request};
use super::tc::{self, Class, Filter, Which, class_of};
use super::{outside, shape};
use crate::protocol::HostNames;
use crate::spec::{Bandwidth, Id};
use netlink_packet_route::tc::TcHandle;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The whole.
const ALL: TcHandle = class_of(1);
/// What no filter knows.
const OTHERS: TcHandle = class_of(2);
/// Bytes a second that classes have which live by borrowing: an htb wants some.
const HARDLY_ANY: u64 = 125;
/// Bytes that an Ethernet frame costs beside what is counted of it: preamble, check sum and gap.
const FRAME: u16 = 24;
/// Pairs of filters that a queue has numbers for.
const PAIRS: std::ops::Range<u16> = 1..2048;
/// Largest packet that segmentation offload makes, with its headers.
const LARGEST: u64 = 65_536 + 256;

/// Which way packets go, as the environment sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Egress,
    Ingress,
}

impl Direction {
    pub(super) fn of(self, bandwidth: &Bandwidth) -> Option<u64> {
        match self {
            Self::Egress => bandwidth.egress,
            Self::Ingress => bandwidth.ingress,
        }
    }

    /// Percent of what the way carries that environments get. What they receive has been through the
    /// queue before the way already when it comes here: that one must empty itself faster than it fills.
    fn percent(self) -> u64 {
        match self {
            Self::Egress => 95,
            Self::Ingress => 90,
        }
    }

    /// What leads packets of this direction from a veth, on which is a [`tc::hook`], to a device.
    pub(super) fn redirect(self, veth: i32, through: i32) -> Request {
        let parent = match self {
            Self::Egress => tc::ARRIVING,
            Self::Ingress => tc::LEAVING,
        };
        let filter = Filter {
            device: veth,
            parent,
            number: None,
        };
        filter.redirect(through)
    }

    /// Name of its device.
    fn device(self, host: &HostNames) -> String {
        match self {
            Self::Egress => outside::name(host, 'u', "egress"),
            Self::Ingress => outside::name(host, 'u', "ingress"),
        }
    }
}

pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

/// What is shared.
#[derive(Debug)]
pub(crate) struct Uplink {
    host: HostNames,
    ways: Vec<Way>,
    /// By the id of each environment's own sandbox.
    environments: BTreeMap<Id, Environment>,
}

/// One direction.
#[derive(Clone, Copy, Debug)]
struct Way {
    direction: Direction,
    device: i32,
    /// Bytes a second.
    rate: u64,
}

#[derive(Debug)]
struct Environment {
    /// Its classes' numbers are the four from four times this on.
    number: u16,
    limit: Bandwidth,
    /// Largest frame of its links.
    frame: u32,
    /// Index of each veth, and which pair of filters knows what comes through that.
    links: BTreeMap<Id, (i32, u16)>,
}

impl Environment {
    fn whole(&self) -> TcHandle {
        class_of(4 * self.number)
    }

    fn small(&self) -> TcHandle {
        class_of(4 * self.number + 1)
    }

    fn large(&self) -> TcHandle {
        class_of(4 * self.number + 2)
    }
}

impl Uplink {
    /// Takes away what an earlier runner left, and makes what is asked for: bits a second that the way
    /// out carries. Where nothing is left and nothing asked for, nothing is done.
    pub(crate) fn prepare(host: HostNames, carries: &Bandwidth) -> io::Result<Self> {
        let mut uplink = Self {
            host,
            ways: Vec::new(),
            environments: BTreeMap::new(),
        };
        let made = uplink.make(carries);
        if made.is_err() {
            let _ = uplink.make(&Bandwidth::default());
        }
        made.map(|()| uplink)
    }

    /// Takes all away.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        self.make(&Bandwidth::default())
    }

    fn make(&mut self, carries: &Bandwidth) -> io::Result<()> {
        (self.ways, self.environments) = (Vec::new(), BTreeMap::new());
        let names = DIRECTIONS.map(|direction| direction.device(&self.host));
        let mut left = false;
        for name in &names {
            left |= tc::index(name)?.is_some();
        }
        if !left && *carries == Bandwidth::default() {
            return Ok(());
        }
        let ids: BTreeSet<Id> = outside::list(&self.host)?
            .into_iter()
            .filter_map(|id| Id::try_from(id).ok())
            .collect();
        for id in &ids {
            if let Some(veth) = tc::index(&outside::interface(&self.host, id))? {
                shape::unhook(veth)?;
                shape::remove(&self.host, id)?;
            }
        }
        for name in &names {
            tc::remove_device(name)?;
        }
        for direction in DIRECTIONS {
            if let Some(bits) = direction.of(carries) {
                let rate = u128::from(bits) * u128::from(direction.percent()) / 800;
                let rate = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
                self.ways.push(self.way(direction, rate)?);
            }
        }
        for id in &ids {
            self.join(id)?;
        }
        Ok(())
    }

    fn way(&self, direction: Direction, rate: u64) -> io::Result<Way> {
        let netlink = Netlink::open()?;
        let alias = format!("uplink of {}", self.host.cgroup_root);
        let device = tc::device(&netlink, &direction.device(&self.host), &alias)?;
        let way = Way {
            direction,
            device,
            rate,
        };
        let whole = Class {
            rate,
            burst: way.burst(rate),
            ..way.borrower(rate)
        };
        netlink.all(vec![
            tc::htb(device, OTHERS),
            whole.create(device, ALL, tc::ROOT),
            way.borrower(rate).create(device, OTHERS, ALL),
            tc::fifo(device, OTHERS, way.waiting()),
            netlink::up(device.unsigned_abs()),
        ])?;
        Ok(way)
    }

    /// Whether what goes this way is.
    pub(crate) fn is_shared(&self, direction: Direction) -> bool {
        self.ways.iter().any(|way| way.direction == direction)
    }

    /// What leads the packets of a veth, on which is a [`tc::hook`], through the devices.
    pub(super) fn redirects(&self, veth: i32) -> Vec<Request> {
        let redirect = |way: &Way| way.direction.redirect(veth, way.device);
        self.ways.iter().map(redirect).collect()
    }

    /// Leads what a sandbox sends and receives through the class of its environment; one without a link,
    /// or that is there already, is left alone.
    pub(crate) fn join(&mut self, id: &Id) -> io::Result<()> {
        if self.ways.is_empty() {
            return Ok(());
        }
        let name = outside::interface(&self.host, id);
        let Some(veth) = tc::index(&name)? else {
            return Ok(());
        };
        let owner = owner(id);
        let link = |environment: &Environment| environment.links.get(id).copied();
        match self.environments.get(&owner).and_then(link) {
            Some((known, _)) if known == veth => return Ok(()),
            // It has been started again since.
            Some(_) => self.leave(id)?,
            None => {}
        }
        let joined = self.lead(id, &owner, &name, veth);
        if joined.is_err() {
            let _ = self.leave(id);
        }
        joined
    }

    fn lead(&mut self, id: &Id, owner: &Id, name: &str, veth: i32) -> io::Result<()> {
        let pair = self.free_pair()?;
        let frame = frame(name)?;
        let ways = self.ways.clone();
        let environment = self.environment(owner, frame)?;
        environment.links.insert(id.clone(), (veth, pair));
        // The class is there before packets are led to it.
        let filters = |way: &Way| {
            let [small, all] = way.filters(pair);
            [
                small.classify(Which::Small, Some(name), environment.small()),
                all.classify(Which::All, Some(name), environment.large()),
            ]
        };
        let mut requests: Vec<_> = ways.iter().flat_map(filters).collect();
        requests.push(tc::hook(veth));
        requests.extend(self.redirects(veth));
        shape::unhook(veth)?;
        Netlink::open()?.all(requests)
    }

    /// The class of an environment, made if it is not there.
    fn environment(&mut self, owner: &Id, frame: u32) -> io::Result<&mut Environment> {
        let fresh = !self.environments.contains_key(owner);
        if fresh {
            let environment = Environment {
                number: self.free_number()?,
                limit: Bandwidth::default(),
                frame,
                links: BTreeMap::new(),
            };
            self.environments.insert(owner.clone(), environment);
        }
        let Some(environment) = self.environments.get_mut(owner) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let larger = environment.frame < frame;
        environment.frame = environment.frame.max(frame);
        if fresh || larger {
            let netlink = Netlink::open()?;
            for way in &self.ways {
                let mut requests = way.classes(environment);
                requests.push(way.queue(environment));
                netlink.all(requests)?;
            }
        }
        Ok(environment)
    }

    /// Holds an environment that has joined to its own limit as well.
    pub(crate) fn limit(&mut self, id: &Id, limit: &Bandwidth) -> io::Result<()> {
        let Some(environment) = self.environments.get_mut(&owner(id)) else {
            return Ok(());
        };
        if environment.limit == *limit {
            return Ok(());
        }
        let before = std::mem::replace(&mut environment.limit, *limit);
        let netlink = Netlink::open()?;
        for way in &self.ways {
            if let Err(error) = netlink.all(way.classes(environment)) {
                environment.limit = before;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Forgets a sandbox that is gone, and with the last one of its environment the classes.
    pub(crate) fn leave(&mut self, id: &Id) -> io::Result<()> {
        let owner = owner(id);
        let Some(environment) = self.environments.get_mut(&owner) else {
            return Ok(());
        };
        let netlink = Netlink::open()?;
        if let Some((_, pair)) = environment.links.get(id).copied() {
            for filter in self.ways.iter().flat_map(|way| way.filters(pair)) {
                tc::absent(netlink.all(vec![filter.remove()]))?;
            }
            environment.links.remove(id);
        }
        if environment.links.is_empty() {
            for way in &self.ways {
                for request in way.removal(environment) {
                    tc::absent(netlink.all(vec![request]))?;
                }
            }
            self.environments.remove(&owner);
        }
        Ok(())
    }

    fn free_number(&self) -> io::Result<u16> {
        let used: BTreeSet<u16> = self.environments.values().map(|e| e.number).collect();
        let mut numbers = 1..u16::MAX / 4;
        let free = numbers.find(|number| !used.contains(number));
        free.ok_or_else(|| io::Error::other("more environments run than a queue has classes"))
    }

    fn free_pair(&self) -> io::Result<u16> {
        let links = self.environments.values().flat_map(|e| e.links.values());
        let used: BTreeSet<u16> = links.map(|(_, pair)| *pair).collect();
        let free = PAIRS.clone().find(|pair| !used.contains(pair));
        free.ok_or_else(|| io::Error::other("more sandboxes run than a queue has filters"))
    }
}

impl Way {
    /// Whether a packet as segmentation offload makes them would keep others waiting a millisecond.
    fn cuts(self) -> bool {
        LARGEST * 1000 > self.rate
    }

    /// Bytes of one environment in its turn: no less than its largest packet, or turns were packets.
    fn turn(self, frame: u32) -> u64 {
        if self.cuts() {
            u64::from(frame)
        } else {
            LARGEST
        }
    }

    /// Bytes sent at once after a pause: what 5 ms bring.
    fn burst(self, rate: u64) -> u64 {
        let least = if self.cuts() { 4096 } else { 2 * LARGEST };
        (rate / 200).max(least)
    }

    /// Bytes that wait in one leaf. Of what is received no less than many connections have under way:
    /// what is dropped here is sent through the way again.
    fn waiting(self) -> u32 {
        let (millis, least) = match self.direction {
            Direction::Egress => (100, 2 * LARGEST),
            Direction::Ingress => (200, 4 * LARGEST),
        };
        let bytes = (self.rate / 1000).saturating_mul(millis);
        u32::try_from(bytes.clamp(least, 8 << 20)).unwrap_or(u32::MAX)
    }

    /// A class that lives by borrowing.
    fn borrower(self, ceiling: u64) -> Class {
        Class {
            rate: HARDLY_ANY,
            burst: 1600,
            ceiling,
            ceiling_burst: self.burst(ceiling),
            quantum: LARGEST,
            // The same for all: between classes that borrow, priority is for ever.
            priority: 0,
            overhead: FRAME,
        }
    }

    /// Classes of an environment, whether they are there or not.
    fn classes(self, environment: &Environment) -> Vec<Request> {
        let own = self.direction.of(&environment.limit).map(|bits| bits / 8);
        let ceiling = own.map_or(self.rate, |own| own.clamp(1, self.rate));
        let whole = self.borrower(ceiling);
        let turn = self.turn(environment.frame);
        let large = Class {
            quantum: turn,
            ..whole
        };
        // Beyond its rate it has turns of its own, much smaller: so that who sends both kinds has
        // little more than who sends one.
        let small = Class {
            rate: (self.rate / 64).clamp(HARDLY_ANY, ceiling.max(HARDLY_ANY)),
            burst: 4096,
            quantum: turn / 4,
            ..whole
        };
        vec![
            whole.put(self.device, environment.whole(), ALL),
            small.put(self.device, environment.small(), environment.whole()),
            large.put(self.device, environment.large(), environment.whole()),
            tc::fifo(self.device, environment.small(), self.waiting() / 4),
        ]
    }

    /// Where its large packets wait.
    fn queue(self, environment: &Environment) -> Request {
        let (leaf, waiting) = (environment.large(), self.waiting());
        if self.cuts() {
            tc::cutting_fifo(self.device, leaf, waiting, environment.frame)
        } else {
            tc::fifo(self.device, leaf, waiting)
        }
    }

    /// The filters for small and for all packets that came through a link. In one list for all: with
    /// lists of their own in its class, each environment would make every class slower to make.
    fn filters(self, pair: u16) -> [Filter; 2] {
        [2 * pair, 2 * pair + 1].map(|number| Filter {
            device: self.device,
            parent: tc::ROOT,
            number: Some(number),
        })
    }

    /// Removes its classes, to which no filter points any more.
    fn removal(self, environment: &Environment) -> [Request; 3] {
        [
            tc::remove_class(self.device, environment.small()),
            tc::remove_class(self.device, environment.large()),
            tc::remove_class(self.device, environment.whole()),
        ]
    }
}

/// The environment's own sandbox.
pub(super) fn owner(id: &Id) -> Id {
    id.owner().unwrap_or_else(|| id.clone())
}

/// Largest frame of a device, with room for what may stand before the packet.
fn frame(name: &str) -> io::Result<u32> {
    let mtu = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu"))?;
    let mtu: u32 = mtu.trim().parse().map_err(io::Error::other)?;
    Ok(mtu.max(1500) + 64)
}
