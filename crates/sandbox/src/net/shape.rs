//! How fast an environment speaks to the outside: token buckets for its own link and its members'
//! together.
//!
//! What they send arrives on the host by their veths and is led through a device of the environment's own
//! (ifb), where it waits; what they receive is led through another before it leaves by the veths. Small
//! packets (keystrokes, answers to names, acknowledgements) go before others, within a fifth of the rate
//! for certain. Where nothing is limited there is nothing: no queue, no device. The host's own devices
//! are never touched. A direction in which the host's [`Uplink`] is shared is limited there instead.
//!
//! Crash behaviour: everything is on the veths, or on devices named after the environment's id, and is
//! made anew as a whole; [`remove`] finds it by the name. Nothing is remembered: a member that starts
//! later is led through the devices that are there. Made by the runner while the environment runs.
//!
//! Read next: [`super::uplink`], [`super::tc`].

use super::netlink::{self, Netlink, Request};
use super::outside;
use super::tc::{self, Class, Filter, Which, class_of};
use super::uplink::{DIRECTIONS, Direction, Uplink, owner};
use crate::protocol::HostNames;
use crate::spec::{Bandwidth, Id};
use netlink_packet_route::tc::TcHandle;
use std::collections::BTreeSet;
use std::io;

const ALL: TcHandle = class_of(1);
const SMALL: TcHandle = class_of(0x10);
const LARGE: TcHandle = class_of(0x20);

/// Limits an environment that runs, in place of what was; one without a link is left alone.
pub(crate) fn apply(
    host: &HostNames,
    uplink: &mut Uplink,
    id: &Id,
    bandwidth: &Bandwidth,
) -> io::Result<()> {
    let links = links(host, id)?;
    if links.is_empty() {
        return Ok(());
    }
    for (link, _) in &links {
        uplink.join(link)?;
    }
    uplink.limit(id, bandwidth)?;
    let own = DIRECTIONS.map(|direction| {
        let rate = direction.of(bandwidth);
        (direction, rate.filter(|_| !uplink.is_shared(direction)))
    });
    if DIRECTIONS.iter().all(|way| uplink.is_shared(*way)) {
        return Ok(());
    }
    remove(host, id)?;
    let made = detours(host, id, &own);
    if made.is_err() {
        let _ = remove(host, id);
    }
    for (_, veth) in links {
        lead(host, uplink, id, veth)?;
    }
    made
}

/// Makes the devices of an environment, as far as it has rates of its own.
fn detours(host: &HostNames, id: &Id, own: &[(Direction, Option<u64>)]) -> io::Result<()> {
    let netlink = Netlink::open()?;
    for (direction, rate) in own {
        if let Some(rate) = rate {
            let through = tc::device(&netlink, &detour(host, id, *direction), id.as_str())?;
            let mut requests = bucket(through, *rate);
            requests.push(netlink::up(through.unsigned_abs()));
            netlink.all(requests)?;
        }
    }
    Ok(())
}

/// Holds a sandbox that was just started to what its environment is held to.
pub(crate) fn join(host: &HostNames, uplink: &mut Uplink, id: &Id) -> io::Result<()> {
    uplink.join(id)?;
    // An environment's own sandbox nobody has limited yet.
    let Some(environment) = id.owner() else {
        return Ok(());
    };
    match tc::index(&outside::interface(host, id))? {
        Some(veth) => lead(host, uplink, &environment, veth),
        None => Ok(()),
    }
}

/// Leads what passes a veth through the devices of its environment and of the uplink, those that are there.
fn lead(host: &HostNames, uplink: &Uplink, environment: &Id, veth: i32) -> io::Result<()> {
    let mut redirects = uplink.redirects(veth);
    for direction in DIRECTIONS {
        if let Some(through) = tc::index(&detour(host, environment, direction))? {
            redirects.push(direction.redirect(veth, through));
        }
    }
    unhook(veth)?;
    if redirects.is_empty() {
        return Ok(());
    }
    redirects.insert(0, tc::hook(veth));
    Netlink::open()?.all(redirects)
}

/// The links of an environment, its own and its members', and the indices of their veths.
fn links(host: &HostNames, environment: &Id) -> io::Result<Vec<(Id, i32)>> {
    let ids: BTreeSet<String> = outside::list(host)?.into_iter().collect();
    let mut links = Vec::new();
    for id in ids.into_iter().filter_map(|id| Id::try_from(id).ok()) {
        if owner(&id) == *environment
            && let Some(veth) = tc::index(&outside::interface(host, &id))?
        {
            links.push((id, veth));
        }
    }
    Ok(links)
}

/// Lets what passes a veth go straight, and as fast as it can.
pub(super) fn unhook(veth: i32) -> io::Result<()> {
    let netlink = Netlink::open()?;
    // Earlier runners had a bucket there.
    tc::absent(netlink.all(vec![tc::remove_root(veth)]))?;
    tc::absent(netlink.all(vec![tc::remove_hook(veth)]))
}

/// Removes the detours of an environment, if there are any; nothing is led to them before.
pub(crate) fn remove(host: &HostNames, id: &Id) -> io::Result<()> {
    let detours = DIRECTIONS.map(|direction| detour(host, id, direction));
    let mut is_any = false;
    for name in &detours {
        is_any |= tc::index(name)?.is_some();
    }
    if !is_any {
        return Ok(());
    }
    for (_, veth) in links(host, id)? {
        unhook(veth)?;
    }
    detours.iter().try_for_each(|name| tc::remove_device(name))
}

/// Name of the device that what the environment sends, or receives, is led through. No rule of the
/// firewall matches it: packets keep the veth as where they came from.
pub(crate) fn detour(host: &HostNames, id: &Id, direction: Direction) -> String {
    let kind = match direction {
        Direction::Egress => 'i',
        Direction::Ingress => 'j',
    };
    outside::name(host, kind, id.as_str())
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
