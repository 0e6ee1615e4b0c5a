//! Route netlink, synchronously: requests sent in one datagram, acknowledged each.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::tc::TcMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// A request and its flags.
pub(super) struct Request(RouteNetlinkMessage, u16);

/// A connected socket in the caller's network namespace.
pub(super) struct Netlink(Socket);

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Does all requests in order; answers the first error.
    pub(super) fn all(&self, requests: Vec<Request>) -> io::Result<()> {
        let count = requests.len();
        let mut bytes = Vec::new();
        for Request(message, flags) in requests {
            append(&mut bytes, message, flags | NLM_F_REQUEST | NLM_F_ACK);
        }
        self.0.send(&bytes, 0)?;
        let mut result = Ok(());
        let mut acknowledged = 0;
        while acknowledged < count {
            for message in self.receive()? {
                if let NetlinkPayload::Error(error) = message.payload {
                    acknowledged += 1;
                    if let Some(code) = error.code
                        && result.is_ok()
                    {
                        result = Err(io::Error::from_raw_os_error(code.get().abs()));
                    }
                }
            }
        }
        result
    }

    /// Every link of the namespace.
    pub(super) fn links(&self) -> io::Result<Vec<LinkMessage>> {
        let mut bytes = Vec::new();
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        append(&mut bytes, message, NLM_F_REQUEST | NLM_F_DUMP);
        self.0.send(&bytes, 0)?;
        let mut links = Vec::new();
        loop {
            for message in self.receive()? {
                match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                        links.push(link);
                    }
                    NetlinkPayload::Done(_) => return Ok(links),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn receive(&self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        let (bytes, _) = self.0.recv_from_full()?;
        let mut messages = Vec::new();
        let mut rest = bytes.as_slice();
        while rest.len() >= 16 {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = usize::try_from(message.header.length)
                .unwrap_or(usize::MAX)
                .next_multiple_of(4)
                .max(16);
            messages.push(message);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(messages)
    }
}

fn append(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    let end = start + message.buffer_len();
    message.serialize(&mut bytes[start..end]);
}

/// Makes a link that must not exist.
pub(super) fn new_link(attributes: Vec<LinkAttribute>) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    Request(
        RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Makes a link of this index that must not exist.
pub(super) fn new_link_at(index: u32, attributes: Vec<LinkAttribute>) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    Request(
        RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Deletes a link by name.
pub(super) fn delete_link(name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    Request(RouteNetlinkMessage::DelLink(message), 0)
}

/// Makes a queue of a device.
pub(super) fn new_queue(message: TcMessage) -> Request {
    Request(
        RouteNetlinkMessage::NewQueueDiscipline(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// The same, or changes the one of that kind that is there.
pub(super) fn put_queue(message: TcMessage) -> Request {
    Request(
        RouteNetlinkMessage::NewQueueDiscipline(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Deletes one.
pub(super) fn delete_queue(message: TcMessage) -> Request {
    Request(RouteNetlinkMessage::DelQueueDiscipline(message), 0)
}

/// Makes a class of a queue.
pub(super) fn new_class(message: TcMessage) -> Request {
    Request(
        RouteNetlinkMessage::NewTrafficClass(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// The same, or changes the one that is there.
pub(super) fn put_class(message: TcMessage) -> Request {
    Request(RouteNetlinkMessage::NewTrafficClass(message), NLM_F_CREATE)
}

/// Deletes one.
pub(super) fn delete_class(message: TcMessage) -> Request {
    Request(RouteNetlinkMessage::DelTrafficClass(message), 0)
}

/// Makes a filter of a queue.
pub(super) fn new_filter(message: TcMessage) -> Request {
    Request(
        RouteNetlinkMessage::NewTrafficFilter(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Deletes filters.
pub(super) fn delete_filter(message: TcMessage) -> Request {
    Request(RouteNetlinkMessage::DelTrafficFilter(message), 0)
}

/// Sets a link up.
pub(super) fn up(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Request(RouteNetlinkMessage::SetLink(message), 0)
}

/// Adds a /32.
pub(super) fn address(index: u32, address: Ipv4Addr, scope: AddressScope) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = index;
    message.header.scope = scope;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
    ];
    Request(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Adds a neighbour that never expires and is never asked for.
pub(super) fn neighbour(index: u32, address: Ipv4Addr, mac: [u8; 6]) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    Request(
        RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Adds a route to one address straight out of a link.
pub(super) fn direct(index: u32, to: Ipv4Addr) -> Request {
    let mut message = route(index, RouteScope::Link);
    message.header.destination_prefix_length = 32;
    message
        .attributes
        .push(RouteAttribute::Destination(RouteAddress::Inet(to)));
    Request(
        RouteNetlinkMessage::NewRoute(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Refuses one address at once while no other route to it is there.
pub(super) fn unreachable(to: Ipv4Addr) -> Request {
    let mut message = route(0, RouteScope::Universe);
    message.header.kind = RouteType::Unreachable;
    message.header.destination_prefix_length = 32;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet(to)),
        RouteAttribute::Priority(1000),
    ];
    Request(
        RouteNetlinkMessage::NewRoute(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Adds the default route.
pub(super) fn default_route(index: u32, gateway: Ipv4Addr) -> Request {
    let mut message = route(index, RouteScope::Universe);
    message.header.flags = RouteFlags::Onlink;
    message
        .attributes
        .push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    Request(
        RouteNetlinkMessage::NewRoute(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

fn route(index: u32, scope: RouteScope) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Oif(index)];
    message
}
