//! Links between sandboxes of one environment: a veth for each pair, straight from one network
//! namespace to the other.
//!
//! The host has no end of them, so its firewall and routes need not know them, and whatever is
//! forwarded or filtered inside one sandbox (nested engines do) is none of the others' business.
//! Two sandboxes without such a link do not reach each other. Each end has the address of its
//! sandbox; the other's is a route and a permanent neighbour. While a peer does not run its address
//! is refused at once, and never sought outside.
//!
//! Who starts makes the links, to those that run; so of two that start at the same time neither
//! might, and whoever starts them does so one after the other. Run by the monitor, in the host's
//! namespaces, before init executes anything.
//!
//! Crash behaviour: a link goes with either namespace. One that is not gone yet is removed by its
//! name before it is made anew.

use super::netlink::{self, Netlink};
use super::{INSIDE_MAC, OUTSIDE_MAC};
use crate::error::{Failure, Step};
use crate::record::{self, Record};
use crate::spec::{Peer, Spec};
use crate::sys::process;
use netlink_packet_route::address::AddressScope;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Index of a link in its namespace: this and the number of the other end's.
const INDEX: u32 = 10_000;
/// Nothing but the two is in between.
const MTU: u32 = 1500;

/// A namespace of a sandbox that runs, by its state directory; None when none does.
pub(crate) fn namespace_of(state: &Path, kind: &str) -> io::Result<Option<OwnedFd>> {
    let Some(record) = record::read::<Record>(state, record::RECORD)? else {
        return Ok(None);
    };
    if record::boot_id()? != record.boot {
        return Ok(None);
    }
    let Some(init) = record.init.open() else {
        return Ok(None);
    };
    let path = format!("/proc/{}/ns/{kind}", record.init.pid);
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    // Its id may have become another's before it was opened.
    if record::wait_end(&init, Some(0)) {
        return Ok(None);
    }
    match opened {
        Ok(namespace) => Ok(Some(namespace)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Links the sandbox whose init is `pid` with those of its peers that run.
pub(crate) fn create(spec: &Spec, pid: u32) -> Result<(), Failure> {
    let (Some(company), Some(address)) = (&spec.company, spec.network.address()) else {
        return Ok(());
    };
    if company.peers.is_empty() {
        return Ok(());
    }
    let open = |path: String| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .step("open a network namespace")
    };
    let host = open("/proc/self/ns/net".to_owned())?;
    let own = open(format!("/proc/{pid}/ns/net"))?;
    let refused = company
        .peers
        .iter()
        .map(|peer| netlink::unreachable(peer.address));
    let result = process::enter(own.as_fd(), libc::CLONE_NEWNET)
        .and_then(|()| Netlink::open()?.all(refused.collect()))
        .step("refuse peers that do not run");
    process::enter(host.as_fd(), libc::CLONE_NEWNET).step("return to the host's network")?;
    result?;
    for peer in &company.peers {
        let namespace = namespace_of(&peer.state, "net").step("find a peer's network")?;
        let Some(namespace) = namespace else {
            continue;
        };
        crate::crash::point();
        let result = link(&own, &namespace, pid, (company.number, address), peer);
        // The monitor asks names from the host's network for the rest of its life.
        process::enter(host.as_fd(), libc::CLONE_NEWNET).step("return to the host's network")?;
        result?;
    }
    Ok(())
}

fn link(
    own: &OwnedFd,
    namespace: &OwnedFd,
    pid: u32,
    (number, address): (u32, Ipv4Addr),
    peer: &Peer,
) -> Result<(), Failure> {
    let what = "link two sandboxes of the environment";
    process::enter(namespace.as_fd(), libc::CLONE_NEWNET).step(what)?;
    let netlink = Netlink::open().step(what)?;
    let theirs = name(number);
    match netlink.all(vec![netlink::delete_link(&theirs)]) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
        Err(error) => return Err(Failure::new(what, error)),
    }
    let mut inner = LinkMessage::default();
    inner.header.index = INDEX + peer.number;
    inner.attributes = vec![
        LinkAttribute::IfName(name(peer.number)),
        LinkAttribute::Address(INSIDE_MAC.to_vec()),
        LinkAttribute::Mtu(MTU),
        LinkAttribute::NetNsPid(pid),
    ];
    let pair = vec![
        LinkAttribute::IfName(theirs),
        LinkAttribute::Address(OUTSIDE_MAC.to_vec()),
        LinkAttribute::Mtu(MTU),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner))),
        ]),
    ];
    netlink
        .all(vec![netlink::new_link_at(INDEX + number, pair)])
        .step(what)?;
    ends(&netlink, INDEX + number, peer.address, address, INSIDE_MAC).step(what)?;
    process::enter(own.as_fd(), libc::CLONE_NEWNET).step(what)?;
    let netlink = Netlink::open().step(what)?;
    let index = INDEX + peer.number;
    ends(&netlink, index, address, peer.address, OUTSIDE_MAC).step(what)
}

/// Configures one end.
fn ends(
    netlink: &Netlink,
    index: u32,
    own: Ipv4Addr,
    other: Ipv4Addr,
    mac: [u8; 6],
) -> io::Result<()> {
    netlink.all(vec![
        netlink::address(index, own, AddressScope::Universe),
        netlink::up(index),
        netlink::neighbour(index, other, mac),
        netlink::direct(index, other),
    ])
}

fn name(number: u32) -> String {
    format!("svc{number}")
}
