//! Queues, classes and filters of devices, and the devices packets are led through (ifb), as requests.
//!
//! Written in the kernel's own structures (linux/pkt_sched.h, pkt_cls.h): the packet library knows
//! neither htb nor the redirection of packets to a device without naming every action. Knows nothing of
//! sandboxes; [`super::shape`] and [`super::uplink`] say what is made of it. Rates are bytes a second.

use super::netlink::{self, Netlink, Request};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption};
use std::io;
use std::path::Path;

/// The queue at a device's root.
pub(super) const ROOT: TcHandle = TcHandle { major: 1, minor: 0 };
/// Where filters of what comes by a device hang, beneath [`hook`].
pub(super) const ARRIVING: TcHandle = TcHandle {
    major: u16::MAX,
    minor: TcHandle::MIN_INGRESS,
};
/// Where filters of what leaves by a device hang, before its queue.
pub(super) const LEAVING: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0xfff3,
};
/// Kernel's unit of time in these structures, as a shift of nanoseconds.
const TICK_SHIFT: u32 = 6;

/// A class of that queue.
pub(super) const fn class_of(minor: u16) -> TcHandle {
    TcHandle { major: 1, minor }
}

/// Index of a device, if there is one of that name.
pub(super) fn index(name: &str) -> io::Result<Option<i32>> {
    match std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("ifindex")) {
        Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is not there need not be removed.
pub(super) fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Makes a device to lead packets through, not yet up; answers its index.
pub(super) fn device(netlink: &Netlink, name: &str, alias: &str) -> io::Result<i32> {
    netlink.all(vec![netlink::new_link(vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ])])?;
    match std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::write(format!("/sys/class/net/{name}/ifalias"), alias)?;
    index(name)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Removes a device, if there is one of that name.
pub(super) fn remove_device(name: &str) -> io::Result<()> {
    if index(name)?.is_none() {
        return Ok(());
    }
    match Netlink::open()?.all(vec![netlink::delete_link(name)]) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
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

/// An htb at a device's root; what no filter knows goes to the class `default`.
pub(super) fn htb(device: i32, default: TcHandle) -> Request {
    // struct tc_htb_glob: version, rate2quantum, default class, debug, direct packets.
    let options = vec![nla(2, &words(&[3, 10, u32::from(default.minor), 0, 0]))];
    let message = filled(device, ROOT, TcHandle::ROOT, "htb", options);
    netlink::new_queue(message)
}

/// Removes the queue at a device's root.
pub(super) fn remove_root(device: i32) -> Request {
    netlink::delete_queue(message(device, TcHandle::UNSPEC, TcHandle::ROOT))
}

/// Lets filters see what comes by a device, and what leaves by it.
pub(super) fn hook(device: i32) -> Request {
    let handle = TcHandle {
        major: u16::MAX,
        minor: 0,
    };
    let message = filled(device, handle, TcHandle::CLSACT, "clsact", vec![]);
    netlink::new_queue(message)
}

/// Removes that, with its filters.
pub(super) fn remove_hook(device: i32) -> Request {
    netlink::delete_queue(message(device, TcHandle::UNSPEC, TcHandle::CLSACT))
}

/// A first-in-first-out queue of so many bytes, as a class's own.
pub(super) fn fifo(device: i32, class: TcHandle, bytes: u32) -> Request {
    let mut message = filled(device, TcHandle::UNSPEC, class, "bfifo", vec![]);
    // struct tc_fifo_qopt, which is no attribute.
    let limit = bytes.to_ne_bytes().to_vec();
    let options = TcAttribute::Other(DefaultNla::new(2, limit));
    message.attributes.push(options);
    netlink::put_queue(message)
}

/// The same, in which what segmentation offload made larger than `most` is cut into packets again: a
/// token bucket does that with what exceeds it, and this one holds nothing back.
pub(super) fn cutting_fifo(device: i32, class: TcHandle, bytes: u32, most: u32) -> Request {
    const NEVER_WAITS: u64 = 1 << 44;
    // struct tc_tbf_qopt: rate, peak rate, limit, buffer, mtu.
    let mut options = rate_spec(NEVER_WAITS, 0);
    options.extend([0; 12]);
    options.extend(words(&[bytes, 0, 0]));
    let options = vec![
        nla(1, &options),
        nla(4, &NEVER_WAITS.to_ne_bytes()),
        nla(6, &most.to_ne_bytes()),
    ];
    netlink::put_queue(filled(device, TcHandle::UNSPEC, class, "tbf", options))
}

/// What a class of an htb may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    /// What it has for certain, and for how many bytes at once.
    pub(super) rate: u64,
    pub(super) burst: u64,
    /// What it may borrow up to, and for how many bytes at once.
    pub(super) ceiling: u64,
    pub(super) ceiling_burst: u64,
    /// Bytes it sends in its turn; with less than a packet each turn is a packet.
    pub(super) quantum: u64,
    /// Smaller goes first.
    pub(super) priority: u32,
    /// Bytes that each packet costs beside its own.
    pub(super) overhead: u16,
}

impl Class {
    fn message(&self, device: i32, handle: TcHandle, parent: TcHandle) -> TcMessage {
        let ticks = |bytes: u64, rate: u64| {
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
            u32::try_from(nanos >> TICK_SHIFT).unwrap_or(u32::MAX)
        };
        // struct tc_htb_opt, then both rates in full.
        let mut bytes = rate_spec(self.rate, self.overhead);
        bytes.extend(rate_spec(self.ceiling, self.overhead));
        bytes.extend(words(&[
            ticks(self.burst, self.rate),
            ticks(self.ceiling_burst, self.ceiling),
            u32::try_from(self.quantum).unwrap_or(u32::MAX),
            0,
            self.priority,
        ]));
        let options = vec![
            nla(1, &bytes),
            nla(6, &self.rate.to_ne_bytes()),
            nla(7, &self.ceiling.to_ne_bytes()),
        ];
        filled(device, handle, parent, "htb", options)
    }

    /// Makes it, where it must not be.
    pub(super) fn create(&self, device: i32, handle: TcHandle, parent: TcHandle) -> Request {
        netlink::new_class(self.message(device, handle, parent))
    }

    /// Makes it, or changes what is there.
    pub(super) fn put(&self, device: i32, handle: TcHandle, parent: TcHandle) -> Request {
        netlink::put_class(self.message(device, handle, parent))
    }
}

pub(super) fn remove_class(device: i32, handle: TcHandle) -> Request {
    netlink::delete_class(message(device, handle, TcHandle::UNSPEC))
}

/// Which packets a filter takes.
#[derive(Clone, Copy)]
pub(super) enum Which {
    All,
    /// IPv4 packets shorter than 128 bytes.
    Small,
}

/// A filter at a queue of a device.
pub(super) struct Filter {
    pub(super) device: i32,
    pub(super) parent: TcHandle,
    /// Its number, from 1 to 4095, the lower first; the kernel chooses another than those that are there
    /// when this says none.
    pub(super) number: Option<u16>,
}

impl Filter {
    /// Puts packets into a class; `from`, when it says so, only those that came from that device.
    pub(super) fn classify(&self, which: Which, from: Option<&str>, class: TcHandle) -> Request {
        let mut options = vec![
            nla(1, &u32::from(class).to_ne_bytes()),
            nla(5, &selector(which)),
        ];
        if let Some(from) = from {
            let name = [from.as_bytes(), b"\0"].concat();
            options.push(nla(8, &name));
        }
        self.request(options)
    }

    /// Packets leave by the device `through` first.
    pub(super) fn redirect(&self, through: i32) -> Request {
        // struct tc_mirred: index, capabilities, action (stolen), two counts, egress redirection, device.
        let parameters = words(&[0, 0, 4, 0, 0, 1, through.unsigned_abs()]);
        let action = [
            nla_bytes(1, b"mirred\0"),
            nla_bytes(2, &nla_bytes(2, &parameters)),
        ]
        .concat();
        let options = vec![
            nla(5, &selector(Which::All)),
            nla(7, &nla_bytes(1, &action)),
        ];
        self.request(options)
    }

    pub(super) fn remove(&self) -> Request {
        netlink::delete_filter(self.message(vec![]))
    }

    fn request(&self, options: Vec<DefaultNla>) -> Request {
        netlink::new_filter(self.message(options))
    }

    fn message(&self, options: Vec<DefaultNla>) -> TcMessage {
        const ALL_PROTOCOLS: u16 = 0x0003;
        // In the first table of the queue's u32: all filters here are of one order, which has one.
        let handle = self.number.map_or(TcHandle::UNSPEC, |minor| TcHandle {
            major: 0x8000,
            minor,
        });
        let mut message = filled(self.device, handle, self.parent, "u32", options);
        message.header.info = 1 << 16 | u32::from(ALL_PROTOCOLS.to_be());
        message
    }
}

/// struct tc_u32_sel with one key: the first word of the packet under a mask, as they are on the wire.
fn selector(which: Which) -> Vec<u8> {
    const TERMINAL: u8 = 1;
    // Version, and the length but for its seven lowest bits.
    let (mask, value): (u32, u32) = match which {
        Which::All => (0, 0),
        Which::Small => (0xf000_ff80, 0x4000_0000),
    };
    let mut bytes = vec![TERMINAL, 0, 1, 0];
    bytes.extend([0; 12]);
    bytes.extend(mask.to_be_bytes());
    bytes.extend(value.to_be_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// struct tc_ratespec with the link layer of Ethernet, so that no table is needed.
fn rate_spec(rate: u64, overhead: u16) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(overhead.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
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
