//! Attacks by way of the network that a shell cannot say.
//!
//! `probe net …`: `frame HEX` sends a frame out of the interface with index 2; `sniff WORD SECONDS`
//! listens to every packet of its network for a word; `flows ADDRESS COUNT` sends one datagram to
//! each of so many ports; `tun HEX` has a device of its own (TUN) bring a packet; `ask ADDRESS NAME
//! SECONDS` asks a resolver for a name as fast as it can; `connect ADDRESS PORT` tells with which error that ends; `say ADDRESS PORT
//! WORD [FROM]` sends a word, or the bytes of `x:HEX`, in one datagram.

use super::calls::{bytes, tell};
use boatyard_sandbox::probing::{self, Word};
use rustix::net::{AddressFamily, Protocol, SocketType};
use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

pub(super) fn run(words: &[&str]) -> io::Result<()> {
    let bad = || io::Error::other("no such attack");
    let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
    match words {
        ["frame", frame] => {
            let socket = packets()?;
            let frame = bytes(frame).ok_or_else(bad)?;
            let length = i64::try_from(frame.len()).map_err(|_| bad())?;
            // struct sockaddr_ll: IPv4 out of interface 2.
            let mut to = vec![17, 0, 8, 0, 2, 0, 0, 0, 0, 0, 0, 6];
            to.resize(20, 0);
            let mut words = [
                Word::Number(i64::from(socket.as_raw_fd())),
                Word::Memory(frame),
                Word::Number(length),
                Word::Number(0),
                Word::Memory(to),
                Word::Number(20),
            ];
            probing::call(libc::SYS_sendto, &mut words)?;
            println!("sent");
            Ok(())
        }
        ["sniff", word, seconds] => sniff(word, Duration::from_secs(number(seconds)?.into())),
        ["tun", packet] => tun(&bytes(packet).ok_or_else(bad)?),
        ["ask", address, name, seconds] => {
            ask(address, name, Duration::from_secs(number(seconds)?.into()))
        }
        ["flows", address, count] => flows(address, number(count)?),
        ["connect", address, port] => {
            let to: SocketAddr = format!("{address}:{port}").parse().map_err(|_| bad())?;
            let connected = TcpStream::connect_timeout(&to, Duration::from_secs(3));
            tell(&format!("{to}"), connected);
            Ok(())
        }
        ["say", address, port, word] => say(&format!("{address}:{port}"), word, None),
        ["say", address, port, word, from] => say(&format!("{address}:{port}"), word, Some(from)),
        _ => Err(bad()),
    }
}

fn say(to: &str, word: &str, from: Option<&str>) -> io::Result<()> {
    let bad = || io::Error::other("no such address");
    let to: SocketAddr = to.parse().map_err(|_| bad())?;
    let any = if to.is_ipv6() { "[::]" } else { "0.0.0.0" };
    let socket = UdpSocket::bind(format!("{}:0", from.unwrap_or(any)))?;
    let said = match word.strip_prefix("x:") {
        Some(hex) => bytes(hex).ok_or_else(bad)?,
        None => word.as_bytes().to_vec(),
    };
    socket.send_to(&said, to).map(drop)
}

/// A socket that hears and sends whole frames.
fn packets() -> io::Result<OwnedFd> {
    // ETH_P_ALL in network order.
    let all = NonZeroU32::new(0x0300).map(Protocol::from_raw);
    let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, all)?;
    Ok(socket)
}

fn sniff(word: &str, longest: Duration) -> io::Result<()> {
    let socket = packets()?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(Duration::from_millis(100)),
    )?;
    let until = Instant::now() + longest;
    let mut frame = vec![0; 65_536];
    while Instant::now() < until {
        let Ok((_, length)) =
            rustix::net::recv(&socket, &mut frame, rustix::net::RecvFlags::empty())
        else {
            continue;
        };
        let heard = &frame[..length.min(frame.len())];
        if heard
            .windows(word.len())
            .any(|some| some == word.as_bytes())
        {
            println!("got a packet with {word}");
            return Ok(());
        }
    }
    println!("refused: nothing was heard");
    Ok(())
}

/// Sends a packet as if it came by a device `mine`.
fn tun(packet: &[u8]) -> io::Result<()> {
    let mut device = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // TUNSETIFF with struct ifreq: IFF_TUN | IFF_NO_PI.
    let mut request = b"mine".to_vec();
    request.resize(16, 0);
    request.extend(0x1001u16.to_ne_bytes());
    request.resize(40, 0);
    let mut words = [
        Word::Number(i64::from(device.as_raw_fd())),
        Word::Number(0x4004_54ca),
        Word::Memory(request),
    ];
    probing::call(libc::SYS_ioctl, &mut words)?;
    let up = Command::new("ip")
        .args(["link", "set", "mine", "up"])
        .status()?;
    if !up.success() {
        return Err(io::Error::other("the device is not up"));
    }
    for _ in 0..5 {
        device.write_all(packet)?;
    }
    println!("sent");
    Ok(())
}

fn ask(address: &str, name: &str, longest: Duration) -> io::Result<()> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.extend(u8::try_from(label.len()));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_nonblocking(true)?;
    socket.connect((address, 53))?;
    let until = Instant::now() + longest;
    let (mut asked, mut answer) = (0u64, [0; 512]);
    while Instant::now() < until {
        for _ in 0..16 {
            message[..2].copy_from_slice(&asked.to_be_bytes()[6..]);
            if socket.send(&message).is_err() {
                std::thread::yield_now();
            }
            asked += 1;
        }
        while socket.recv(&mut answer).is_ok() {}
    }
    println!("asked");
    Ok(())
}

fn flows(address: &str, count: u32) -> io::Result<()> {
    let mut sent = 0;
    let mut socket = UdpSocket::bind("0.0.0.0:0")?;
    for number in 0..count {
        let port = u16::try_from(1 + number % 60_000).unwrap_or(1);
        if number > 0 && number % 60_000 == 0 {
            socket = UdpSocket::bind("0.0.0.0:0")?;
        }
        // A refusal of the one before is told here: it is tried once more.
        for _ in 0..2 {
            if socket.send_to(b"x", (address, port)).is_ok() {
                sent += 1;
                break;
            }
        }
    }
    println!("sent {sent}");
    Ok(())
}
