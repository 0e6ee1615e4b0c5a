//! How fast a sandbox speaks to the outside: token buckets on the host's end of its link.
//!
//! What the sandbox receives leaves the host by the veth and waits there; what it sends arrives by the
//! veth and is led round through a device of its own (ifb), where it waits. Small packets (keystrokes,
//! answers to names, acknowledgements) go before others, within a fifth of the rate for certain. Where
//! nothing is limited there is nothing: no queue, no device. The host's own devices are never touched.
//! A direction in which the host's [`Uplink`] is shared is limited there instead.
//!
//! Crash behaviour: everything is on the veth, or on a device named after the sandbox's id, and is made
//! anew as a whole; [`remove`] finds it by the name. Made by the runner while the sandbox runs.
//!
//! Read next: [`super::uplink`], [`super::tc`].

use super::netlink::{Netlink, Request};
use super::outside;
use super::tc::{self, Class, Filter, Which, class_of};
use super::uplink::{Direction, Uplink};
use crate::protocol::HostNames;
use crate::spec::{Bandwidth, Id};
use netlink_packet_route::tc::TcHandle;
use std::io;

const ALL: TcHandle = class_of(1);
const SMALL: TcHandle = class_of(0x10);
const LARGE: TcHandle = class_of(0x20);

/// Limits a sandbox that runs, in place of what was; one without a link is left alone.
pub(crate) fn apply(
    host: &HostNames,
    uplink: &mut Uplink,
    id: &Id,
    bandwidth: &Bandwidth,
) -> io::Result<()> {
    let Some(veth) = tc::index(&outside::interface(host, id))? else {
        return Ok(());
    };
    uplink.join(id)?;
    uplink.limit(id, bandwidth)?;
    let own = |direction, rate: Option<u64>| rate.filter(|_| !uplink.is_shared(direction));
    let egress = own(Direction::Egress, bandwidth.egress);
    let ingress = own(Direction::Ingress, bandwidth.ingress);
    if uplink.is_shared(Direction::Egress) && uplink.is_shared(Direction::Ingress) {
        return Ok(());
    }
    clear(host, id, veth)?;
    let netlink = Netlink::open()?;
    let mut requests = ingress.map_or_else(Vec::new, |rate| bucket(veth, rate));
    if egress.is_some() || uplink.is_any() {
        requests.push(tc::hook(veth));
    }
    requests.extend(uplink.redirects(veth));
    if let Some(rate) = egress {
        let through = tc::device(&netlink, &detour(host, id), id.as_str())?;
        requests.extend(bucket(through, rate));
        requests.push(super::netlink::up(through.unsigned_abs()));
        let filter = Filter {
            device: veth,
            parent: tc::ARRIVING,
            number: None,
        };
        requests.push(filter.redirect(through));
    }
    if requests.is_empty() {
        return Ok(());
    }
    netlink.all(requests)
}

/// Lets a sandbox's packets go straight, and as fast as they can.
pub(super) fn clear(host: &HostNames, id: &Id, veth: i32) -> io::Result<()> {
    let netlink = Netlink::open()?;
    tc::absent(netlink.all(vec![tc::remove_root(veth)]))?;
    tc::absent(netlink.all(vec![tc::remove_hook(veth)]))?;
    remove(host, id)
}

/// Removes the detour of a sandbox, if there is one; what is on its veth goes with that.
pub(crate) fn remove(host: &HostNames, id: &Id) -> io::Result<()> {
    tc::remove_device(&detour(host, id))
}

/// Name of the device that what the sandbox sends is led through. No rule of the firewall matches it:
/// packets keep the veth as where they came from.
pub(crate) fn detour(host: &HostNames, id: &Id) -> String {
    outside::name(host, 'i', id.as_str())
}

/// A token bucket with a fast lane, as the root of a device.
fn bucket(device: i32, bits: u64) -> Vec<Request> {
    // As much as 10 ms bring, and no less than two of the largest packets that segmentation makes.
    let burst = |rate: u64| (rate / 100).max(128 * 1024);
    let class = |rate: u64, ceiling: u64, priority| Class {
        rate,
        burst: burst(rate),
        ceiling,
        ceiling_burst: burst(ceiling),
        quantum: (rate / 100).clamp(1514, 60_000),
        priority,
        overhead: 0,
    };
    let rate = (bits / 8).max(1);
    let filter = Filter {
        device,
        parent: tc::ROOT,
        number: None,
    };
    vec![
        tc::htb(device, LARGE),
        class(rate, rate, 0).create(device, ALL, tc::ROOT),
        class((rate / 5).max(1), rate, 0).create(device, SMALL, ALL),
        class((rate - rate / 5).max(1), rate, 1).create(device, LARGE, ALL),
        filter.classify(Which::Small, None, SMALL),
    ]
}
