//! What is reachable, and what is not.

use crate::world::{DEADLINE, World};
use boatyard_sandbox::Observed;
use boatyard_sandbox::spec::Network;
use std::net::{Ipv4Addr, TcpListener};

fn routed(last: u8) -> Network {
    Network::Routed {
        address: Ipv4Addr::new(10, 215, 7, last),
    }
}

/// Address of the host on its way out; the tests' machine has one.
fn host_address() -> String {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.250:9").unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

#[test]
fn the_link_is_configured_and_reaches_neither_host_nor_neighbour() {
    let world = World::with(|options| options.network = true);
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut neighbour = world.spec("neighbour", "nc -l -p 4000 -e echo hello; sleep 1000");
    neighbour.network = routed(9);
    world.sandboxes.start(&neighbour).unwrap();
    let host = host_address();
    let mut spec = world.spec(
        "one",
        &format!(
            "ip -4 addr show eth0 | grep -o 'inet [0-9./]*'; ip route | head -1; cat /etc/resolv.conf | head -1; \
             for to in '{host} {port}' '169.254.53.1 {port}' '10.215.7.9 4000' '169.254.169.254 80'; do \
               echo x | nc -w 1 $to >/dev/null 2>&1 && echo reached $to; done; \
             ip addr add 10.215.7.9/32 dev eth0 && echo x | nc -w 1 -s 10.215.7.9 {host} {port} 2>/dev/null && echo spoofed; \
             echo end",
        ),
    );
    spec.network = routed(8);
    let (_, output) = world.run_spec(&spec);
    assert_eq!(
        output,
        "inet 10.215.7.8/32\ndefault via 169.254.53.1 dev eth0 onlink \nnameserver 169.254.53.53\nend\n"
    );
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    // The host itself reaches in: the neighbour did listen, so the refusals above mean something.
    let address = ("10.215.7.9", 4000);
    let stream = std::net::TcpStream::connect_timeout(
        &std::net::ToSocketAddrs::to_socket_addrs(&address)
            .unwrap()
            .next()
            .unwrap(),
        DEADLINE,
    );
    assert!(stream.is_ok(), "{stream:?}");
}

#[test]
fn a_network_of_its_own_has_loopback_and_nothing_else() {
    let world = World::new();
    let (_, output) =
        world.run("ip -o link | wc -l; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo up");
    assert_eq!(output, "1\nup\n");
}

#[test]
fn teardown_leaves_the_host_as_it_was() {
    let world = World::with(|options| options.network = true);
    let table = world.options.table.clone();
    let mut spec = world.spec("one", "sleep 1000");
    spec.network = routed(20);
    world.sandboxes.start(&spec).unwrap();
    assert!(tables().contains(&table));
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    assert_eq!(
        world.sandboxes.observe(&spec.id, &spec.state).unwrap(),
        Observed::Absent
    );
    world.sandboxes.teardown_host().unwrap();
    assert!(!tables().contains(&table));
    world.sandboxes.teardown_host().unwrap();
}

fn tables() -> String {
    let output = std::process::Command::new("nft")
        .args(["list", "tables"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}
