//! The place of attacks by way of the network: a host with services, an uplink, a cloud and another
//! engine's containers beyond it, and two sandboxes.
//!
//! All of it stands in a network namespace of the test's own (`frame` sees to that) and is made once
//! for all the ways a probe is run.

use crate::frame::Wall;
use crate::machine::{Machine, command};
use crate::scene::Scene;
use boatyard_sandbox::spec::Network;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What datagrams brought, to the host and to whoever is beyond it.
static HEARD: Mutex<Vec<(&str, Vec<u8>)>> = Mutex::new(Vec::new());

/// Whether it is made.
static BEYOND: OnceLock<()> = OnceLock::new();

fn ip(line: &str) {
    command("ip", &line.split(' ').collect::<Vec<_>>());
}

fn serve(address: &str, word: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(word.as_bytes());
        }
    });
}

fn hear(address: &str, who: &'static str) {
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((length, _)) = socket.recv_from(&mut bytes) {
            let mut heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
            heard.push((who, bytes[..length].to_vec()));
        }
    });
}

/// Whether a datagram with this word has come to somebody: what is sent now is waited for, and who hears
/// that has heard what came before.
pub(crate) fn heard(who: &str, word: &str) -> Option<String> {
    static MARKS: AtomicU32 = AtomicU32::new(0);
    let addresses = if who == "far" {
        ["203.0.113.2:9000", "203.0.113.2:53"].as_slice()
    } else {
        &["127.0.0.1:7002"]
    };
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for address in addresses {
        let mark = format!("mark {}.", MARKS.fetch_add(1, Ordering::Relaxed));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !came(who, &mark) {
            assert!(
                Instant::now() < deadline,
                "{who} hears nothing at {address}"
            );
            socket.send_to(mark.as_bytes(), address).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    came(who, word).then(|| format!("{who} heard {word}"))
}

fn came(who: &str, word: &str) -> bool {
    let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
    heard.iter().any(|(to, bytes)| {
        let mut windows = bytes.windows(word.len());
        *to == who && windows.any(|some| some == word.as_bytes())
    })
}

fn beyond() {
    // Their names go at the end of this; who serves in them keeps them.
    let (far, held) = (Machine::new("far"), Machine::new("held"));
    // An address that is looked for on the link first is answered by nobody for a second or two.
    for which in ["all", "default"] {
        let at_once = move || set(&format!("ipv6/conf/{which}/accept_dad"), "0");
        at_once();
        far.within(at_once);
    }
    ip(&format!(
        "link add up0 type veth peer name far0 netns {}",
        far.0
    ));
    ip("address add 203.0.113.1/24 dev up0");
    ip("-6 address add fd00:bb::1/64 dev up0");
    ip("link set up0 up");
    for (address, device) in [
        ("203.0.113.2/24", "far0"),
        ("169.254.169.254/32", "lo"),
        ("100.100.100.200/32", "lo"),
        ("fd00:ec2::254/128", "lo"),
        ("fd00:bb::2/64", "far0"),
    ] {
        ip(&format!("-n {} address add {address} dev {device}", far.0));
    }
    ip(&format!("-n {} link set far0 up", far.0));
    ip(&format!("-n {} route add default via 203.0.113.1", far.0));
    for address in ["169.254.169.254", "100.100.100.200"] {
        ip(&format!("route add {address} via 203.0.113.2"));
    }
    ip("-6 route add fd00:ec2::254 via fd00:bb::2");
    // What another engine runs, and publishes on this host.
    ip("link add docker0 type bridge");
    ip(&format!(
        "link add held0 type veth peer name eth0 netns {}",
        held.0
    ));
    ip("link set held0 master docker0");
    ip("address add 172.17.0.1/16 dev docker0");
    for device in ["docker0", "held0"] {
        ip(&format!("link set {device} up"));
    }
    ip(&format!("-n {} address add 172.17.0.2/16 dev eth0", held.0));
    ip(&format!("-n {} link set eth0 up", held.0));
    ip(&format!("-n {} route add default via 172.17.0.1", held.0));
    command(
        "nft",
        &[
            "add table ip published; add chain ip published arriving { type nat hook prerouting priority dstnat; }; add rule ip published arriving ip daddr 203.0.113.1 tcp dport 8080 dnat to 172.17.0.2:80",
        ],
    );
    serve("[::]:7000", "got the host\n");
    hear("0.0.0.0:7002", "the host");
    far.within(|| {
        serve("[::]:80", "got there\n");
        hear("[::]:9000", "far");
        hear("[::]:53", "far");
    });
    held.within(|| serve("0.0.0.0:80", "got a container\n"));
}

fn set(setting: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{setting}"), value).unwrap();
}

/// Both sandboxes with a network; the neighbour serves.
pub(crate) fn sea(scene: &mut Scene) {
    BEYOND.get_or_init(beyond);
    HEARD.lock().unwrap_or_else(PoisonError::into_inner).clear();
    for which in ["all", "default"] {
        for setting in [
            "rp_filter",
            "proxy_arp",
            "route_localnet",
            "accept_source_route",
        ] {
            set(&format!("ipv4/conf/{which}/{setting}"), "0");
        }
    }
    set("ipv6/conf/all/forwarding", "1");
    // What one attack left must not be what the next is answered by.
    set("netfilter/nf_conntrack_icmp_timeout", "1");
    scene.attacker.network = Network::Routed {
        address: [10, 218, 0, 2].into(),
    };
    scene.neighbour.network = Network::Routed {
        address: [10, 218, 0, 3].into(),
    };
    let serves = "nc -ll -p 4000 -e echo got the neighbour & until nc 127.0.0.1 4000 </dev/null >/dev/null 2>&1; do :; done; exec probe answer";
    scene.neighbour.init.argv[2] = serves.to_owned();
}

/// The same where the attacker may reach nothing.
pub(crate) fn closed(scene: &mut Scene) {
    sea(scene);
    scene.attacker.egress = Some(Box::default());
}

/// Deletes the rules of a chain that hold these words.
fn unrule(scene: &Scene, chain: &str, words: &str) {
    let table = scene.world.options.table.as_str();
    let listed = command("nft", &["-a", "list", "chain", "inet", table, chain]);
    let mut found = 0;
    for line in listed.lines().filter(|line| line.contains(words)) {
        if let Some((_, handle)) = line.split_once("# handle ") {
            if line.contains(&format!("chain {chain} ")) {
                continue;
            }
            command(
                "nft",
                &[
                    "delete",
                    "rule",
                    "inet",
                    table,
                    chain,
                    "handle",
                    handle.trim(),
                ],
            );
            found += 1;
        }
    }
    assert!(found > 0, "no rule of {chain} holds {words}: {listed}");
}

pub(crate) const BETWEEN: Wall = Wall::Scene("the rule between sandboxes", |scene| {
    // The last of the rules that name our interfaces going out.
    unrule(scene, "leaving", "oifname");
});
pub(crate) const INTO: Wall = Wall::Scene("the rule for what nobody asked for", |scene| {
    let table = scene.world.options.table.as_str();
    let listed = command("nft", &["-a", "list", "chain", "inet", table, "forwarded"]);
    let drop = listed
        .lines()
        .find(|line| line.contains(" drop # handle"))
        .unwrap();
    let handle = drop.split("# handle ").nth(1).unwrap().trim();
    command(
        "nft",
        &[
            "delete",
            "rule",
            "inet",
            table,
            "forwarded",
            "handle",
            handle,
        ],
    );
});
pub(crate) const ARRIVING: Wall = Wall::Scene("the rules for what arrives at the host", |scene| {
    let table = scene.world.options.table.as_str();
    command("nft", &["flush", "chain", "inet", table, "visiting"]);
});
pub(crate) const SOURCES: Wall = Wall::Scene("the check of sources", |scene| {
    unrule(scene, "leaving", "fib saddr");
});
pub(crate) const METADATA: Wall = Wall::Scene("the rule for metadata services", |scene| {
    unrule(scene, "leaving", "169.254.0.0");
});
pub(crate) const TRANSLATED: Wall = Wall::Scene("the rule for published ports", |scene| {
    unrule(scene, "opening", "ct status dnat");
});
pub(crate) const ENGINES: Wall = Wall::Scene("the rules for other engines", |scene| {
    unrule(scene, "opening", "docker");
});
pub(crate) const FLOWS: Wall = Wall::Scene("the bound of connections", |scene| {
    unrule(scene, "opening", "ct count");
});
pub(crate) const NO_PROXY: Wall = Wall::Scene("no answers for neighbours", |_| {
    set("ipv4/conf/all/proxy_arp", "1");
});
pub(crate) const NO_LOCALNET: Wall = Wall::Scene("the kernel's own check", |_| {
    for which in ["all", "default"] {
        set(&format!("ipv4/conf/{which}/route_localnet"), "1");
    }
});
pub(crate) const POLICY: Wall = Wall::Scene("the egress policy", |scene| {
    scene.attacker.egress = None;
});

pub(crate) const NO_SOURCE_ROUTES: Wall = Wall::Scene("the kernel's own check", |_| {
    for which in ["all", "default"] {
        set(&format!("ipv4/conf/{which}/accept_source_route"), "1");
    }
});
pub(crate) const NEVER_IPV6: Wall = Wall::Scene("the rule against IPv6", |scene| {
    unrule(scene, "leaving", "meta nfproto ipv6");
});
/// What the neighbour's link carries is carried by the attacker's too, as by one wire.
pub(crate) const LINK: Wall = Wall::Scene("a link of its own", |scene| {
    let names = [&scene.attacker, &scene.neighbour].map(|spec| spec.id.to_string());
    let tap = std::thread::spawn(move || {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let links = loop {
            let links = names.each_ref().map(|name| link(name));
            if let [Some(attacker), Some(neighbour)] = links {
                break [attacker, neighbour];
            }
            assert!(std::time::Instant::now() < deadline, "no links");
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        };
        let [attacker, neighbour] = links;
        tc(&format!("qdisc add dev {neighbour} ingress"));
        tc(&format!(
            "filter add dev {neighbour} parent ffff: protocol all u32 match u32 0 0 action mirred egress mirror dev {attacker}"
        ));
    });
    scene.finally(move || tap.join().unwrap());
});

fn tc(line: &str) {
    command("tc", &line.split(' ').collect::<Vec<_>>());
}

/// The host's end of a sandbox's link.
fn link(id: &str) -> Option<String> {
    let links = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    let of = |alias: String| alias.trim() == id;
    let mut links =
        links.filter(|link| std::fs::read_to_string(link.path().join("ifalias")).is_ok_and(of));
    Some(links.next()?.file_name().to_string_lossy().into_owned())
}

/// How many redirects the host has listened to.
pub(crate) fn redirects_heard() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let names = lines.next().unwrap().split(' ');
    let mut both = names.zip(lines.next().unwrap().split(' '));
    let found = both.find(|(name, _)| *name == "InRedirects");
    found.unwrap().1.parse().unwrap()
}

/// Questions for names that begin with `flood` that the host's resolver was asked.
pub(crate) static ASKED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// The same place with a resolver on the host's loopback, that both sandboxes ask by their own.
pub(crate) fn resolved(scene: &mut Scene) {
    static RESOLVER: OnceLock<()> = OnceLock::new();
    sea(scene);
    RESOLVER.get_or_init(|| {
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        std::thread::spawn(move || {
            let mut message = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut message) {
                let mut answer = message[..length].to_vec();
                if answer[12..].starts_with(b"\x05flood") {
                    ASKED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
                // An answer; to a question for an address, one: 203.0.113.7 for a minute.
                (answer[2], answer[3]) = (0x81, 0x80);
                if answer[length - 3] == 1 {
                    answer[7] = 1;
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7]);
                }
                let _ = socket.send_to(&answer, from);
            }
        });
    });
    ASKED.store(0, std::sync::atomic::Ordering::Relaxed);
}

/// The attacker's end of its link and the host's: destination and source of a frame.
const FRAME: [u8; 12] = [2, 0x62, 0x79, 0, 0, 1, 2, 0x62, 0x79, 0, 0, 2];
const FAR: [u8; 4] = [203, 0, 113, 2];

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The Internet's checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = !((folded & 0xffff) + (folded >> 16));
    let [_, _, high, low] = folded.to_be_bytes();
    [high, low]
}

/// A packet of IPv4; options are a multiple of four bytes.
fn packet(protocol: u8, from: [u8; 4], to: [u8; 4], options: &[u8], content: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    let length = u16::try_from(usize::from(words) * 4 + content.len()).unwrap();
    let mut packet = vec![0x40 | words, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    packet.extend(options);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend(content);
    packet
}

/// A datagram to port 9000, without a checksum.
fn datagram(word: &str) -> Vec<u8> {
    let mut datagram = 4321u16.to_be_bytes().to_vec();
    datagram.extend(9000u16.to_be_bytes());
    datagram.extend(u16::try_from(8 + word.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(word.as_bytes());
    datagram
}

/// A packet from another address than the attacker's to port 9000 far away, as hexadecimal digits.
pub(crate) fn forged_packet(word: &str) -> String {
    hexadecimal(&packet(17, [203, 0, 113, 79], FAR, &[], &datagram(word)))
}

/// The same as a frame.
pub(crate) fn forged_frame(word: &str) -> String {
    format!("{}0800{}", hexadecimal(&FRAME), forged_packet(word))
}

/// A frame of the attacker's own that asks the host to pass it on to the neighbour: a loose source route.
pub(crate) fn routed_frame(word: &str) -> String {
    let options = [131, 7, 4, 10, 218, 0, 3, 0];
    let packet = packet(
        17,
        [10, 218, 0, 2],
        [203, 0, 113, 1],
        &options,
        &datagram(word),
    );
    format!("{}0800{}", hexadecimal(&FRAME), hexadecimal(&packet))
}

/// A frame of the attacker's own that tells the host to send by way of the attacker what is for
/// 198.51.100.9: a redirect (RFC 792).
pub(crate) fn redirecting_frame() -> String {
    let host = [203, 0, 113, 1];
    let about = packet(17, host, [198, 51, 100, 9], &[], &datagram(""));
    let mut content = vec![5, 1, 0, 0, 10, 218, 0, 2];
    content.extend(about);
    let sum = checksum(&content);
    content[2..4].copy_from_slice(&sum);
    let packet = packet(1, [10, 218, 0, 2], host, &[], &content);
    format!("{}0800{}", hexadecimal(&FRAME), hexadecimal(&packet))
}

/// A frame of IPv6 from nowhere to port 9000 of the metadata service of a cloud, fd00:ec2::254.
pub(crate) fn metadata_frame(word: &str) -> String {
    let from = [0xfd, 0, 0, 0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let to = [0xfd, 0, 0xe, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x54];
    let mut content = datagram(word);
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    // With what is in front of it in the sum (RFC 8200, 8.1).
    let pseudo = [&from[..], &to, &[0, 0], &length, &[0, 0, 0, 17], &content].concat();
    let sum = checksum(&pseudo);
    content[6..8].copy_from_slice(&sum);
    let packet = [
        &[0x60, 0, 0, 0],
        &length[..],
        &[17, 64],
        &from,
        &to,
        &content,
    ]
    .concat();
    format!("{}86dd{}", hexadecimal(&FRAME), hexadecimal(&packet))
}

/// Connections that the host keeps.
pub(crate) fn connections() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    text.trim().parse().unwrap()
}
