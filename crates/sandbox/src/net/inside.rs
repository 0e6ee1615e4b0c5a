//! The environment's own network namespace, configured by init from within.

use super::netlink::{self, Netlink};
use super::{INSIDE_INDEX, OUTSIDE_MAC};
use crate::error::{Failure, Step};
use crate::spec::{GATEWAY, ID_RANGE, Network, RESOLVER};
use netlink_packet_route::address::AddressScope;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

/// Index of loopback in every namespace.
const LOOPBACK: u32 = 1;

/// Brings loopback up; with a routed network, puts the resolver's address on it and answers the
/// resolver's UDP and TCP sockets, for the monitor.
pub(crate) fn loopback(network: &Network) -> Result<Vec<OwnedFd>, Failure> {
    let netlink = Netlink::open().step("open netlink inside")?;
    match network {
        Network::None => {
            netlink
                .all(vec![netlink::up(LOOPBACK)])
                .step("bring loopback up inside")?;
            Ok(Vec::new())
        }
        // Whoever made it has done all.
        Network::Shared { .. } => Ok(Vec::new()),
        // Its address is on loopback too, so that it reaches itself by it before any peer runs.
        Network::Private { address } => {
            netlink
                .all(vec![
                    netlink::up(LOOPBACK),
                    netlink::address(LOOPBACK, *address, AddressScope::Universe),
                ])
                .step("bring loopback up inside")?;
            Ok(Vec::new())
        }
        Network::Routed { .. } => {
            netlink
                .all(vec![
                    netlink::up(LOOPBACK),
                    netlink::address(LOOPBACK, RESOLVER, AddressScope::Host),
                ])
                .step("bring loopback up inside")?;
            let udp = UdpSocket::bind((RESOLVER, 53)).step("open the resolver's socket")?;
            let tcp = TcpListener::bind((RESOLVER, 53)).step("open the resolver's socket")?;
            Ok(vec![udp.into(), tcp.into()])
        }
    }
}

/// What the kernel leaves to root in a new namespace and distributions and other engines give to
/// everybody: echo requests, and ports below 1024. The namespace has no other users than these.
fn open_to_users() {
    let groups = format!("0 {}", ID_RANGE - 1);
    for (name, value) in [
        ("ping_group_range", groups.as_str()),
        ("ip_unprivileged_port_start", "0"),
    ] {
        // A host that has /proc/sys read-only leaves both to root.
        let _ = std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value);
    }
}

/// Configures the link, which the monitor has made; by root inside.
pub(crate) fn link(network: &Network) -> Result<(), Failure> {
    if !matches!(network, Network::Shared { .. }) {
        open_to_users();
    }
    let Network::Routed { address } = *network else {
        return Ok(());
    };
    Netlink::open()
        .step("open netlink inside")?
        .all(vec![
            netlink::address(INSIDE_INDEX, address, AddressScope::Universe),
            netlink::up(INSIDE_INDEX),
            netlink::neighbour(INSIDE_INDEX, GATEWAY, OUTSIDE_MAC),
            netlink::direct(INSIDE_INDEX, GATEWAY),
            netlink::default_route(INSIDE_INDEX, GATEWAY),
        ])
        .step("configure the network inside")
}
