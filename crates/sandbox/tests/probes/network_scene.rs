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
use std::sync::{Mutex, OnceLock, PoisonError};

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

/// Whether a datagram with this word came to somebody.
pub(crate) fn heard(who: &str, word: &str) -> Option<String> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_millis(300);
    loop {
        let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
        let came = heard.iter().any(|(to, bytes)| {
            *to == who
                && bytes
                    .windows(word.len())
                    .any(|some| some == word.as_bytes())
        });
        drop(heard);
        if came {
            return Some(format!("{who} heard {word}"));
        }
        if std::time::Instant::now() > deadline {
            return None;
        }
        std::thread::yield_now();
    }
}

fn beyond() {
    // Their names go at the end of this; who serves in them keeps them.
    let (far, held) = (Machine::new("far"), Machine::new("held"));
    ip(&format!(
        "link add up0 type veth peer name far0 netns {}",
        far.0
    ));
    ip("address add 203.0.113.1/24 dev up0");
    ip("-6 address add fd00:bb::1/64 dev up0 nodad");
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
        for setting in ["rp_filter", "proxy_arp", "route_localnet"] {
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
    let serves = "nc -ll -p 4000 -e echo got the neighbour & exec probe answer";
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

/// A frame of IPv4 from another address than the attacker's to port 9000 far away, as hexadecimal
/// digits.
pub(crate) fn forged_frame(word: &str) -> String {
    let length = u16::try_from(28 + word.len()).unwrap();
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 1, 0, 0, 64, 17, 0, 0, 203, 0, 113, 79, 203, 0, 113, 2]);
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = !((folded & 0xffff) + (folded >> 16));
    header[10..12].copy_from_slice(&folded.to_be_bytes()[2..]);
    let mut frame = vec![2, 0x62, 0x79, 0, 0, 1, 2, 0x62, 0x79, 0, 0, 2, 8, 0];
    frame.extend(header);
    frame.extend(4321u16.to_be_bytes());
    frame.extend(9000u16.to_be_bytes());
    frame.extend((length - 20).to_be_bytes());
    // No checksum.
    frame.extend([0, 0]);
    frame.extend(word.as_bytes());
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Connections that the host keeps.
pub(crate) fn connections() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    text.trim().parse().unwrap()
}
