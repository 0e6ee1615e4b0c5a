//! The host's side of a sandbox's link: the veth, its neighbour and its route.

use super::netlink::{self, Netlink};
use super::uplink::DIRECTIONS;
use super::{INSIDE_INDEX, INSIDE_MAC, OUTSIDE_MAC};
use crate::error::{Failure, Step};
use crate::protection::{self, Protection};
use crate::protocol::HostNames;
use crate::spec::{Id, Network, Spec};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use std::io;

/// Longest name of an interface.
const NAME: usize = 15;

/// Name of the host end: prefix, dash, and as much of a hash of the id as fits.
pub(crate) fn interface(host: &HostNames, id: &Id) -> String {
    name(host, '-', id.as_str())
}

/// Name of a device of this runner: prefix, kind, and as much of a hash of what it is for as fits.
pub(super) fn name(host: &HostNames, kind: char, of: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let bytes = host.cgroup_root.bytes().chain([b'/']).chain(of.bytes());
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    // The low bits of this hash are the poorer ones.
    let hash = hash ^ (hash >> 29);
    let mut name = format!("{}{kind}{hash:016x}", host.interface_prefix);
    name.truncate(NAME);
    name
}

/// Makes the link to the namespace of the process `pid`.
pub(crate) fn create(host: &HostNames, spec: &Spec, pid: u32) -> Result<(), Failure> {
    let Network::Routed { address } = spec.network else {
        return Ok(());
    };
    let name = interface(host, &spec.id);
    let netlink = Netlink::open().step("open netlink")?;
    let make = || netlink.all(vec![netlink::new_link(veth(&name, pid))]);
    match make() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Left by a crash under the same id.
            netlink
                .all(vec![netlink::delete_link(&name)])
                .and_then(|()| make())
        }
        other => other,
    }
    .step("make the veth")?;
    crate::crash::point();
    // Before it is up: the host must not get an IPv6 address on it, nor answer neighbours.
    let setting = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    let switched = if protection::removed(Protection::NoIpv6) {
        Ok(())
    } else {
        std::fs::write(setting, "1")
    };
    match switched {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::new("switch IPv6 off on the veth", error)),
    }
    // The kernel takes no alias in the request that makes a link.
    std::fs::write(format!("/sys/class/net/{name}/ifalias"), spec.id.as_str())
        .step("name the veth's sandbox")?;
    let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))
        .step("find the veth")?
        .trim()
        .parse()
        .step("find the veth")?;
    netlink
        .all(vec![
            netlink::up(index),
            netlink::neighbour(index, address, INSIDE_MAC),
            netlink::direct(index, address),
        ])
        .step("configure the veth")
}

fn veth(name: &str, pid: u32) -> Vec<LinkAttribute> {
    let mtu = uplink_mtu();
    let mut peer = LinkMessage::default();
    peer.header.index = INSIDE_INDEX;
    peer.attributes = vec![
        LinkAttribute::IfName("eth0".to_owned()),
        LinkAttribute::Address(INSIDE_MAC.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::NetNsPid(pid),
    ];
    vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(OUTSIDE_MAC.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ]
}

/// The interfaces that default routes lead out of.
pub(super) fn uplinks() -> Vec<String> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let uplinks = routes.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?;
        (fields.next()? == "00000000").then(|| name.to_owned())
    });
    uplinks.collect()
}

/// Largest packet of the host's default route; 1500 when it has none.
fn uplink_mtu() -> u32 {
    uplinks()
        .iter()
        .find_map(|name| {
            std::fs::read_to_string(format!("/sys/class/net/{name}/mtu"))
                .ok()?
                .trim()
                .parse::<u32>()
                .ok()
        })
        .filter(|mtu| (576..=65_535).contains(mtu))
        .unwrap_or(1500)
}

/// Removes the link of a sandbox, if there is one.
pub(crate) fn remove(host: &HostNames, id: &Id) -> io::Result<()> {
    super::shape::remove(host, id)?;
    let name = interface(host, id);
    if !std::path::Path::new("/sys/class/net").join(&name).exists() {
        return Ok(());
    }
    match Netlink::open()?.all(vec![netlink::delete_link(&name)]) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

fn is_detour(host: &HostNames, id: &Id, name: &str) -> bool {
    let mut detours = DIRECTIONS.into_iter();
    detours.any(|direction| super::shape::detour(host, id, direction) == name)
}

/// Ids of the sandboxes that have a link, or a detour, here.
pub(crate) fn list(host: &HostNames) -> io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for link in Netlink::open()?.links()? {
        let mut name = None;
        let mut alias = None;
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text),
                LinkAttribute::IfAlias(text) => alias = Some(text),
                _ => {}
            }
        }
        if let (Some(name), Some(alias)) = (name, alias)
            && let Ok(id) = Id::try_from(alias)
            && (interface(host, &id) == name || is_detour(host, &id, &name))
        {
            ids.push(id.into());
        }
    }
    Ok(ids)
}
