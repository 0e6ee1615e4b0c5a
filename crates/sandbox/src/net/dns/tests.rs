#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;

#[test]
fn resolvers_are_read_with_comments_and_both_families() {
    let text = "# x\nsearch a b\nnameserver 10.0.0.1\nnameserver ::1\nnameserver junk\n";
    let found = parse(text, 53);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], "10.0.0.1:53".parse().unwrap());
    assert_eq!(found[1], "[::1]:53".parse().unwrap());
    assert_eq!(parse("", 53), ["127.0.0.1:53".parse().unwrap()]);
}

/// A forwarder on loopback in front of a resolver on loopback, driven until `done`.
struct Rig {
    forwarder: Forwarder,
    udp: SocketAddr,
    tcp: SocketAddr,
    _folder: tempfile::TempDir,
}

fn rig(port: u16) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    Rig {
        forwarder: Forwarder::with_resolvers(vec![udp.into(), tcp.into()], file, port),
        udp: udp_at,
        tcp: tcp_at,
        _folder: folder,
    }
}

impl Rig {
    fn drive(&mut self, done: &dyn AsFd) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let ready: Vec<PollFlags> = {
                let done = done.as_fd();
                let mut fds = vec![PollFd::new(&done, PollFlags::IN)];
                self.forwarder.poll_descriptors(&mut fds);
                let second = rustix::event::Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                };
                rustix::event::poll(&mut fds, Some(&second)).unwrap();
                if !fds[0].revents().is_empty() {
                    return;
                }
                fds[1..].iter().map(PollFd::revents).collect()
            };
            self.forwarder.serve(&ready);
        }
        panic!("nothing came within 10 s");
    }
}

#[test]
fn a_query_over_udp_is_answered_by_the_hosts_resolver() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rig = rig(resolver.local_addr().unwrap().port());
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"\x12\x34question", rig.udp).unwrap();
    rig.drive(&resolver);
    let mut bytes = [0; 64];
    let (length, from) = resolver.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"\x12\x34question");
    resolver.send_to(b"\x99\x99forged", from).unwrap();
    resolver.send_to(b"\x12\x34answer", from).unwrap();
    rig.drive(&client);
    let length = client.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"\x12\x34answer");
    assert!(rig.forwarder.queries.is_empty());
}

#[test]
fn a_connection_over_tcp_is_carried_both_ways() {
    let resolver = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = rig(resolver.local_addr().unwrap().port());
    let mut client = TcpStream::connect(rig.tcp).unwrap();
    client.write_all(b"question").unwrap();
    rig.drive(&resolver);
    let (mut served, _) = resolver.accept().unwrap();
    rig.drive(&served);
    let mut bytes = [0; 64];
    let length = served.read(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"question");
    served.write_all(b"answer").unwrap();
    drop(served);
    rig.drive(&client);
    let length = client.read(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"answer");
}

#[test]
fn a_flood_of_queries_is_bounded() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rig = rig(resolver.local_addr().unwrap().port());
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..8 {
        for _ in 0..64 {
            client.send_to(b"\x00\x01q", rig.udp).unwrap();
        }
        rig.forwarder.questions(Instant::now());
    }
    assert_eq!(rig.forwarder.queries.len(), QUERIES);
}
