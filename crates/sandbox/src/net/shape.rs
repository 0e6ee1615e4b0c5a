//! How fast a sandbox speaks to the outside: token buckets on the host's end of its link.
//!
//! What the sandbox receives leaves the host by the veth and waits there; what it sends arrives by the
//! veth and is led round through a device of its own (ifb), where it waits. Small packets (keystrokes,
//! answers to names, acknowledgements) go before others, within a fifth of the rate for certain. Where
//! nothing is limited there is nothing: no queue, no device. The host's own devices are never touched.
//!
//! Spoken by netlink in the kernel's own structures (linux/pkt_sched.h, pkt_cls.h): the packet library
//! knows neither htb nor the redirection of packets to a device without naming every action.
//!
//! Crash behaviour: everything is on the veth, or on a device named after the sandbox's id, and is made
//! anew as a whole; [`remove`] finds it by the name. Made by the runner while the sandbox runs.

use super::netlink::{self, Netlink, Request};
use super::outside;
use crate::protocol::HostNames;
use crate::spec::{Bandwidth, Id};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption};
use std::io;
use std::path::Path;

const ROOT: TcHandle = TcHandle { major: 1, minor: 0 };
const ALL: TcHandle = TcHandle { major: 1, minor: 1 };
const SMALL: TcHandle = TcHandle {
    major: 1,
    minor: 0x10,
};
const LARGE: TcHandle = TcHandle {
    major: 1,
    minor: 0x20,
};
const INGRESS: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};
/// Kernel's unit of time in these structures, as a shift of nanoseconds.
const TICK_SHIFT: u32 = 6;

/// Limits a sandbox that runs, in place of what was; one without a link is left alone.
pub(crate) fn apply(host: &HostNames, id: &Id, bandwidth: &Bandwidth) -> io::Result<()> {
    let name = outside::interface(host, id);
    let Some(veth) = index(&name)? else {
        return Ok(());
    };
    let netlink = Netlink::open()?;
    // What is not there need not be removed.
    let absent = |result: io::Result<()>| match result {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)
            ) =>
        {
            Ok(())
        }
        other => other,
    };
    absent(netlink.all(vec![remove_queue(veth, TcHandle::ROOT)]))?;
    absent(netlink.all(vec![remove_queue(veth, TcHandle::INGRESS)]))?;
    let detour = detour(host, id);
    remove(host, id)?;
    if let Some(rate) = bandwidth.ingress {
        netlink.all(bucket(veth, rate))?;
    }
    let Some(rate) = bandwidth.egress else {
        return Ok(());
    };
    netlink.all(vec![netlink::new_link(vec![
        LinkAttribute::IfName(detour.clone()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ])])?;
    match std::fs::write(
        format!("/proc/sys/net/ipv6/conf/{detour}/disable_ipv6"),
        "1",
    ) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::write(format!("/sys/class/net/{detour}/ifalias"), id.as_str())?;
    let Some(through) = index(&detour)? else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let mut requests = bucket(through, rate);
    requests.push(netlink::up(through.unsigned_abs()));
    requests.push(queue(veth, INGRESS, TcHandle::INGRESS, "ingress", vec![]));
    requests.push(redirect(veth, through));
    netlink.all(requests)
}

/// Removes the detour of a sandbox, if there is one; what is on its veth goes with that.
pub(crate) fn remove(host: &HostNames, id: &Id) -> io::Result<()> {
    let name = detour(host, id);
    if index(&name)?.is_none() {
        return Ok(());
    }
    match Netlink::open()?.all(vec![netlink::delete_link(&name)]) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Name of the device that what the sandbox sends is led through.
pub(crate) fn detour(host: &HostNames, id: &Id) -> String {
    // No rule of the firewall matches it: packets keep the veth as where they came from.
    let veth = outside::interface(host, id);
    let hash = veth.get(host.interface_prefix.len() + 1..);
    format!("{}i{}", host.interface_prefix, hash.unwrap_or_default())
}

fn index(name: &str) -> io::Result<Option<i32>> {
    match std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("ifindex")) {
        Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn message(index: i32, handle: TcHandle, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header = TcHeader {
        index,
        handle,
        parent,
        ..TcHeader::default()
    };
    message
}

fn filled(
    index: i32,
    handle: TcHandle,
    parent: TcHandle,
    kind: &str,
    options: Vec<DefaultNla>,
) -> TcMessage {
    let mut message = message(index, handle, parent);
    message.attributes = vec![TcAttribute::Kind(kind.to_owned())];
    if !options.is_empty() {
        let options = options.into_iter().map(TcOption::Other).collect();
        message.attributes.push(TcAttribute::Options(options));
    }
    message
}

fn queue(
    index: i32,
    handle: TcHandle,
    parent: TcHandle,
    kind: &str,
    options: Vec<DefaultNla>,
) -> Request {
    netlink::new_queue(filled(index, handle, parent, kind, options))
}

fn remove_queue(index: i32, parent: TcHandle) -> Request {
    netlink::delete_queue(message(index, TcHandle::UNSPEC, parent))
}

/// A token bucket with a fast lane, as the root of a device.
fn bucket(device: i32, bits: u64) -> Vec<Request> {
    let class = |handle, parent, rate: u64, ceiling: u64, first: bool| {
        netlink::new_class(filled(
            device,
            handle,
            parent,
            "htb",
            parameters(rate, ceiling, u32::from(!first)),
        ))
    };
    let rate = (bits / 8).max(1);
    vec![
        queue(
            device,
            ROOT,
            TcHandle::ROOT,
            "htb",
            // struct tc_htb_glob: version, rate2quantum, default class, debug, direct packets.
            vec![nla(2, &words(&[3, 10, u32::from(LARGE.minor), 0, 0]))],
        ),
        class(ALL, ROOT, rate, rate, true),
        class(SMALL, ALL, (rate / 5).max(1), rate, true),
        class(LARGE, ALL, (rate - rate / 5).max(1), rate, false),
        small_packets(device),
    ]
}

/// Parameters of a class: struct tc_htb_opt, then both rates in full.
fn parameters(rate: u64, ceiling: u64, priority: u32) -> Vec<DefaultNla> {
    // struct tc_ratespec with the link layer of Ethernet, so that no table is needed.
    let spec = |rate: u64| {
        let mut bytes = vec![0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
        bytes
    };
    // As much as 10 ms bring, and no less than two of the largest packets that segmentation makes.
    let burst = |rate: u64| {
        let bytes = (rate / 100).max(128 * 1024);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        u32::try_from(nanos >> TICK_SHIFT).unwrap_or(u32::MAX)
    };
    let quantum = u32::try_from(rate / 100).unwrap_or(u32::MAX);
    let mut bytes = spec(rate);
    bytes.extend(spec(ceiling));
    let rest = [
        burst(rate),
        burst(ceiling),
        quantum.clamp(1514, 60_000),
        0,
        priority,
    ];
    bytes.extend(words(&rest));
    vec![
        nla(1, &bytes),
        nla(6, &rate.to_ne_bytes()),
        nla(7, &ceiling.to_ne_bytes()),
    ]
}

/// IPv4 packets shorter than 128 bytes take the fast lane.
fn small_packets(device: i32) -> Request {
    const IP: u16 = 0x0800;
    let class = u32::from(SMALL).to_ne_bytes();
    let options = vec![nla(1, &class), nla(5, &selector(0x0000_ff80, 0))];
    filter(device, ROOT, IP, options)
}

/// Every packet that comes by `device` leaves by `through` first.
fn redirect(device: i32, through: i32) -> Request {
    const ALL_PROTOCOLS: u16 = 0x0003;
    // struct tc_mirred: index, capabilities, action (stolen), two counts, egress redirection, device.
    let parameters = words(&[0, 0, 4, 0, 0, 1, through.unsigned_abs()]);
    let action = [
        nla_bytes(1, b"mirred\0"),
        nla_bytes(2, &nla_bytes(2, &parameters)),
    ]
    .concat();
    let options = vec![nla(5, &selector(0, 0)), nla(7, &nla_bytes(1, &action))];
    filter(device, INGRESS, ALL_PROTOCOLS, options)
}

fn filter(device: i32, parent: TcHandle, protocol: u16, options: Vec<DefaultNla>) -> Request {
    let mut message = filled(device, TcHandle::UNSPEC, parent, "u32", options);
    message.header.info = 1 << 16 | u32::from(protocol.to_be());
    netlink::new_filter(message)
}

/// struct tc_u32_sel with one key: the first word of the packet under a mask, as they are on the wire.
fn selector(mask: u32, value: u32) -> Vec<u8> {
    const TERMINAL: u8 = 1;
    let mut bytes = vec![TERMINAL, 0, 1, 0];
    bytes.extend([0; 12]);
    bytes.extend(mask.to_be_bytes());
    bytes.extend(value.to_be_bytes());
    bytes.extend([0; 8]);
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn nla(kind: u16, value: &[u8]) -> DefaultNla {
    DefaultNla::new(kind, value.to_vec())
}

/// An attribute within an attribute.
fn nla_bytes(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
