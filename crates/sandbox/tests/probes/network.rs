//! The network: the host, its neighbours, the cloud and whatever a policy forbids.

use crate::frame::{Need, Wall};
use crate::network_scene::{
    ARRIVING, ASKED, BETWEEN, ENGINES, FLOWS, INTO, LINK, METADATA, NEVER_IPV6, NO_LOCALNET,
    NO_PROXY, NO_SOURCE_ROUTES, POLICY, SOURCES, TRANSLATED, closed, connections, forged_frame,
    forged_packet, heard, metadata_frame, redirecting_frame, redirects_heard, resolved,
    routed_frame, sea,
};
use boatyard_sandbox::Protection::{Filter, NoIpv6, ResolverPace};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bound of connections where the machine's table has its usual size, and what an attacker makes.
const BOUND: u32 = 4096;

/// Redirects listened to before an attack.
static BEFORE: AtomicU64 = AtomicU64::new(0);

/// Questions that reach the host's resolver in three seconds at the pace that is allowed, and some more.
const QUESTIONS: u64 = 5000;

probes! { "network";
    /// Hearing what a neighbour says to others.
    packets_of_neighbours {
        attack: "probe net sniff whisper 4",
        refused: &["refused: nothing was heard"],
        walls: &[LINK],
        prepare: |scene| {
            sea(scene);
            let talks = "while :; do probe net say 203.0.113.2 9000 whisper; sleep 0.1; done & exec probe answer";
            scene.neighbour.init.argv[2] = talks.to_owned();
        },
    }

    /// Having the host send to the attacker what is for others, by an ICMP redirect.
    redirects {
        attack: "for i in 1 2 3; do probe net frame {frame}; sleep 0.1; done",
        refused: &["sent"],
        walls: &[ARRIVING],
        prepare: |scene| {
            sea(scene);
            scene.say("frame", redirecting_frame());
            BEFORE.store(redirects_heard(), Ordering::Relaxed);
        },
        taken: |_| {
            let heard = redirects_heard() - BEFORE.load(Ordering::Relaxed);
            (heard > 0).then(|| format!("the host listened to {heard}"))
        },
    }

    /// Reaching a neighbour by a route that the packet itself gives the host.
    neighbour_by_source_route {
        attack: "for i in $(seq 15); do probe net frame {frame}; sleep 0.2; done",
        refused: &["sent"],
        walls: &[NO_SOURCE_ROUTES, BETWEEN, INTO],
        prepare: |scene| {
            sea(scene);
            scene.say("frame", routed_frame("by-its-route"));
            let hears = "probe net sniff by-its-route 1000 > /tmp/heard & exec probe answer";
            scene.neighbour.init.argv[2] = hears.to_owned();
        },
        taken: |scene| {
            let heard = scene.neighbour_says("cat /tmp/heard");
            heard.contains("got").then_some(heard)
        },
    }

    /// Sending from an address that is another's by way of a TUN device.
    forged_by_a_tun {
        attack: "for of in all default; do echo 0 > /proc/sys/net/ipv4/conf/$of/rp_filter; done; echo 1 > /proc/sys/net/ipv4/ip_forward; probe net tun {packet}; sleep 0.2",
        refused: &["sent"],
        walls: &[SOURCES],
        prepare: |scene| {
            sea(scene);
            scene.say("packet", forged_packet("by-a-tun"));
        },
        taken: |_| heard("far", "by-a-tun"),
    }

    /// Sending from an address that is another's by way of a second device on the link.
    forged_by_a_macvlan {
        attack: "ip link add link eth0 name mine type macvlan; ip address add 203.0.113.78/32 dev mine; ip link set mine up; ip route add 169.254.53.1 dev mine; arp -i mine -s 169.254.53.1 02:62:79:00:00:01; ip route replace default via 169.254.53.1 dev mine; probe net say 203.0.113.2 9000 by-a-macvlan 203.0.113.78; echo sent",
        refused: &["sent"],
        walls: &[SOURCES],
        prepare: sea,
        needs_to_succeed: &[Need::Link("macvlan")],
        taken: |_| heard("far", "by-a-macvlan"),
    }

    /// Speaking to the metadata service of a cloud by IPv6.
    metadata_by_ipv6 {
        attack: "for i in 1 2 3; do probe net frame {frame}; sleep 0.3; done",
        refused: &["sent"],
        walls: &[Wall::Of(NoIpv6), NEVER_IPV6, SOURCES],
        prepare: |scene| {
            sea(scene);
            scene.say("frame", metadata_frame("by-ipv6"));
        },
        taken: |_| heard("far", "by-ipv6"),
    }

    /// Having the host's resolver, and a processor of the host's, answer it alone.
    resolver_flood {
        attack: "probe net ask 169.254.53.53 flood.example 3",
        refused: &["asked"],
        walls: &[Wall::Of(ResolverPace)],
        needs_to_succeed: &[Need::RealProcessors],
        prepare: resolved,
        taken: |_| {
            let asked = ASKED.load(Ordering::Relaxed);
            (asked > QUESTIONS).then(|| format!("{asked} questions"))
        },
        timed: true,
        question: "nslookup quiet.example 169.254.53.53 | grep -q 203.0.113.7 && echo well",
    }

    /// Connecting to a neighbour by its address.
    neighbour_by_address {
        attack: "nc -w 2 10.218.0.3 4000 </dev/null",
        refused: &["Connection refused"],
        walls: &[BETWEEN, INTO],
        prepare: sea,
    }

    /// Reaching a neighbour by ICMP.
    neighbour_by_ping {
        attack: "ping -c 1 -W 2 10.218.0.3 >/dev/null && echo got the neighbour || echo refused",
        refused: &["refused"],
        walls: &[BETWEEN, INTO],
        prepare: sea,
    }

    /// Reaching a neighbour from a link that has another name and size of packets.
    neighbour_from_a_changed_link {
        attack: "ip link set eth0 down; ip link set eth0 name evil0; ip link set evil0 mtu 9000; ip link set evil0 up; ip route add 169.254.53.1 dev evil0; arp -i evil0 -s 169.254.53.1 02:62:79:00:00:01; ip route add default via 169.254.53.1 dev evil0; nc -w 2 10.218.0.3 4000 </dev/null; echo changed",
        refused: &["changed"],
        walls: &[BETWEEN, INTO],
        prepare: sea,
    }

    /// Reaching a neighbour from a network namespace of one's own, to which the link was moved.
    neighbour_from_a_nested_namespace {
        attack: "unshare -n sleep 20 & until [ $(readlink /proc/$!/ns/net) != $(readlink /proc/$$/ns/net) ]; do :; done; ip link set eth0 netns $!; nsenter -t $! -n sh -c 'ip link set lo up; ip address add 10.218.0.2/32 dev eth0; ip link set eth0 up; ip route add 169.254.53.1 dev eth0; arp -i eth0 -s 169.254.53.1 02:62:79:00:00:01; ip route add default via 169.254.53.1 dev eth0; nc -w 3 10.218.0.3 4000 </dev/null; echo tried'; kill $!",
        refused: &["tried"],
        walls: &[BETWEEN, INTO],
        prepare: sea,
    }

    /// Finding a neighbour on the link by ARP.
    neighbour_by_arp {
        attack: "ip route add 10.218.0.3 dev eth0; arping -c 2 -w 3 -I eth0 10.218.0.3 | grep -q reply && echo got an answer || echo refused",
        refused: &["refused"],
        walls: &[NO_PROXY],
        prepare: sea,
    }

    /// Finding the host on the link by IPv6 neighbour discovery, and reaching it.
    host_by_neighbour_discovery {
        attack: "for i in 1 2 3 4; do probe net connect [fe80::62:79ff:fe00:1%2] 7000; sleep 1; done",
        refused: &["refused"],
        walls: &[Wall::Of(NoIpv6), ARRIVING],
        prepare: sea,
    }

    /// Connecting to a service of the host by each of its addresses.
    host_by_its_addresses {
        attack: "for to in 203.0.113.1 172.17.0.1; do nc -w 2 $to 7000 </dev/null; done",
        refused: &["Connection refused"],
        walls: &[ARRIVING],
        prepare: sea,
    }

    /// Connecting to what listens on the host's loopback.
    host_loopback {
        attack: "ip address del 127.0.0.1/8 dev lo; for of in all eth0; do echo 1 > /proc/sys/net/ipv4/conf/$of/route_localnet; done; ip route add 127.0.0.1/32 via 169.254.53.1 dev eth0; nc -w 2 127.0.0.1 7000 </dev/null; echo tried",
        refused: &["tried"],
        walls: &[NO_LOCALNET, ARRIVING],
        prepare: sea,
    }

    /// Telling something to everybody on the link, the host among them.
    host_by_multicast {
        attack: "probe net say 224.0.0.1 7002 everybody; echo sent",
        refused: &["sent"],
        walls: &[ARRIVING],
        prepare: sea,
        taken: |_| heard("the host", "everybody"),
    }

    /// Reading the secrets that a cloud gives to its machines.
    metadata {
        attack: "for to in 169.254.169.254 100.100.100.200; do nc -w 2 $to 80 </dev/null; done",
        refused: &["Connection refused"],
        walls: &[METADATA],
        prepare: sea,
    }

    /// Sending from an address that is another's.
    forged_source {
        attack: "ip address add 203.0.113.77/32 dev eth0; probe net say 203.0.113.2 9000 forged 203.0.113.77; echo sent",
        refused: &["sent"],
        walls: &[SOURCES],
        prepare: sea,
        taken: |_| heard("far", "forged"),
    }

    /// Sending a frame made by hand, from an address that is another's.
    forged_frames {
        attack: "probe net frame {frame}",
        refused: &["sent"],
        walls: &[SOURCES],
        prepare: |scene| {
            sea(scene);
            scene.say("frame", forged_frame("by-hand"));
        },
        taken: |_| heard("far", "by-hand"),
    }

    /// Sending from an address that is another's by way of a bridge made inside.
    forged_by_a_bridge {
        attack: "brctl addbr mine; ip link set eth0 down; brctl addif mine eth0; ip link set eth0 up; ip link set mine up; ip address add 203.0.113.78/32 dev mine; ip route add 169.254.53.1 dev mine; arp -i mine -s 169.254.53.1 02:62:79:00:00:01; ip route replace default via 169.254.53.1 dev mine; probe net say 203.0.113.2 9000 bridged 203.0.113.78; echo sent",
        refused: &["sent"],
        walls: &[SOURCES],
        prepare: sea,
        taken: |_| heard("far", "bridged"),
    }

    /// Reaching a container that another engine runs on this host.
    containers_of_the_host {
        attack: "nc -w 2 172.17.0.2 80 </dev/null",
        refused: &["Connection refused"],
        walls: &[ENGINES],
        prepare: sea,
    }

    /// Reaching what another engine publishes on this host.
    published_ports_of_the_host {
        attack: "nc -w 2 203.0.113.1 8080 </dev/null",
        refused: &["Connection refused"],
        walls: &[TRANSLATED, ENGINES],
        prepare: sea,
    }

    /// Filling the host's table of connections, and with it its ports.
    connections_of_everybody {
        attack: "probe net flows 203.0.113.2 6000",
        refused: &["sent"],
        walls: &[FLOWS],
        prepare: sea,
        taken: |_| {
            let kept = connections();
            (kept > BOUND + 1000).then(|| format!("{kept} connections"))
        },
        timed: true,
    }

    /// Speaking to the machine's hypervisor past every network namespace.
    hypervisor {
        // AF_VSOCK
        attack: "probe call socket 40 1 0",
        refused: &["refused socket: EAFNOSUPPORT"],
        walls: &[Wall::Of(Filter)],
        needs_to_succeed: &[Need::File("/dev/vsock")],
    }

    /// Rings of packets that the kernel fills past its own network.
    packet_rings {
        // AF_XDP
        attack: "probe call socket 44 3 0",
        refused: &["refused socket: EAFNOSUPPORT"],
        walls: &[Wall::Of(Filter)],
        needs_to_succeed: &[Need::File("/proc/sys/net/core/bpf_jit_enable")],
    }

    /// Having the kernel load a transport that hardly anybody uses.
    rare_transports {
        // IPPROTO_SCTP
        attack: "probe call socket 2 1 132",
        refused: &["refused socket: EPROTONOSUPPORT"],
        walls: &[Wall::Of(Filter)],
        needs_to_succeed: &[Need::File("/proc/net/sctp")],
    }

    /// Connecting to an address that the policy does not allow.
    address_beyond_the_policy {
        attack: "nc -w 2 203.0.113.2 80 </dev/null",
        refused: &["Connection refused"],
        walls: &[POLICY],
        prepare: closed,
    }

    /// Asking a resolver of one's own, past the one that knows the policy.
    resolver_beyond_the_policy {
        attack: "probe net say 203.0.113.2 53 question; echo sent",
        refused: &["sent"],
        walls: &[POLICY],
        prepare: closed,
        taken: |_| heard("far", "question"),
    }

    /// Telling the resolver an answer that nobody gave, for an address that the policy does not allow.
    forged_answers {
        attack: "probe net say 169.254.53.53 53 x:0707818000010001000000000161076578616d706c650000010001c00c000100010000003c0004cb007102; nc -w 2 203.0.113.2 80 </dev/null",
        refused: &["Connection refused"],
        walls: &[POLICY],
        prepare: |scene| {
            closed(scene);
            if let Some(egress) = &mut scene.attacker.egress {
                egress.names.push(boatyard_sandbox::spec::AllowedName {
                    name: "a.example".to_owned(),
                    below: false,
                    ports: Vec::new(),
                });
            }
        },
    }
}
