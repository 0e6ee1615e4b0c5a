//! The host's way out, when it is narrow and several sandboxes want it: in a network of the test's own,
//! with a machine beyond a link that really is no faster.

use crate::machine::{Machine, command, in_own_network, inside};
use crate::members::{member, owner};
use crate::world::{DEADLINE, World};
use boatyard_sandbox::spec::{Bandwidth, Network, Spec};
use boatyard_sandbox::{Options, Sandboxes};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// Bits a second that the link carries.
const NARROW: u64 = 8_000_000;
const BOTH: Bandwidth = Bandwidth {
    egress: Some(NARROW),
    ingress: Some(NARROW),
};

/// A machine beyond a modem.
struct Beyond {
    far: Machine,
    _modem: Machine,
}

fn link(from: Option<&Machine>, name: &str, address: &str, to: &Machine, other: (&str, &str)) {
    let words = format!(
        "link add {name} type veth peer name {} netns {}",
        other.0, to.0
    );
    let words = words.split(' ').collect::<Vec<_>>();
    let ip = |words: &[&str]| match from {
        Some(machine) => drop(machine.run(&[&["ip"], words].concat())),
        None => drop(command("ip", words)),
    };
    ip(&words);
    ip(&["address", "add", address, "dev", name]);
    ip(&["link", "set", name, "up"]);
    to.run(&["ip", "address", "add", other.1, "dev", other.0]);
    to.run(&["ip", "link", "set", other.0, "up"]);
}

/// With a link between this host and the modem that is as slow as said.
fn beyond(rate: Option<u64>) -> Beyond {
    let (modem, far) = (Machine::new("modem"), Machine::new("far"));
    link(
        None,
        "up0",
        "10.98.0.1/24",
        &modem,
        ("down0", "10.98.0.2/24"),
    );
    link(
        Some(&modem),
        "up0",
        "10.99.0.1/24",
        &far,
        ("far0", "10.99.0.2/24"),
    );
    command("ip", &["route", "add", "10.99.0.0/24", "via", "10.98.0.2"]);
    far.run(&["ip", "route", "add", "default", "via", "10.99.0.1"]);
    modem.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    if let Some(rate) = rate {
        // One queue for all, 400 ms long, as in any modem.
        let queue = format!("root tbf rate {rate}bit burst 16k limit {}", rate / 20);
        let words: Vec<_> = queue.split(' ').collect();
        command("tc", &[&["qdisc", "add", "dev", "up0"], &*words].concat());
        modem.run(&[&["tc", "qdisc", "add", "dev", "down0"], &*words].concat());
    }
    far.within(|| {
        let socket = UdpSocket::bind((FAR, 7)).unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&bytes[..length], from);
            }
        });
    });
    Beyond { far, _modem: modem }
}

/// Connections that send as fast as they can until this is dropped.
struct Flood {
    port: u16,
    /// Bytes that have arrived.
    arrived: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn pour(mut stream: TcpStream, ends: &AtomicBool) {
    let pause = Some(Duration::from_millis(200));
    stream.set_write_timeout(pause).unwrap();
    // What it has not sent yet is not to be sent after its end.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    let bytes = [0; 1 << 16];
    while !ends.load(Ordering::Relaxed) {
        match stream.write(&bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn drain(mut stream: TcpStream, arrived: &AtomicU64, ends: &AtomicBool) {
    let pause = Some(Duration::from_millis(200));
    stream.set_read_timeout(pause).unwrap();
    let mut bytes = [0; 1 << 16];
    while !ends.load(Ordering::Relaxed) {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(length) => {
                arrived.fetch_add(length.try_into().unwrap(), Ordering::Relaxed);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

impl Flood {
    /// What the machine beyond serves at a port of its own: what comes is counted, or poured when `down`.
    fn new(beyond: &Beyond, down: bool) -> Self {
        let (arrived, ends) = (Arc::default(), Arc::default());
        let (counted, ended) = (Arc::clone(&arrived), Arc::clone(&ends));
        let port = beyond.far.within(move || {
            let listener = TcpListener::bind((FAR, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (arrived, ends) = (Arc::clone(&counted), Arc::clone(&ended));
                    std::thread::spawn(move || match down {
                        true => pour(stream, &ends),
                        false => drain(stream, &arrived, &ends),
                    });
                }
            });
            port
        });
        Self {
            port,
            arrived,
            ends,
        }
    }

    /// So many connections from the network of a process.
    fn from(self, pid: u32, connections: u32, down: bool) -> Self {
        let (port, arrived, ends) = (self.port, &self.arrived, &self.ends);
        for _ in 0..connections {
            let (arrived, ends) = (Arc::clone(arrived), Arc::clone(ends));
            inside(pid, move || {
                std::thread::spawn(move || {
                    let stream = TcpStream::connect((FAR, port)).unwrap();
                    match down {
                        true => drain(stream, &arrived, &ends),
                        false => pour(stream, &ends),
                    }
                })
            });
        }
        self
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "no {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Each one's part of the next `total` bytes after as many again as a half of them, in percent, and how
/// many bits a second these were.
fn shares<const N: usize>(floods: [&Flood; N], total: u64) -> ([u64; N], u64) {
    let seen = || floods.map(|flood| flood.arrived.load(Ordering::Relaxed));
    let pass = |bytes: u64| {
        let before = seen();
        let sum = before.iter().sum::<u64>() + bytes;
        until("bytes", || seen().iter().sum::<u64>() >= sum);
        let now = seen();
        std::array::from_fn::<u64, N, _>(|n| now[n] - before[n])
    };
    pass(total / 2);
    let began = Instant::now();
    let passed = pass(total);
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap();
    let sum: u64 = passed.iter().sum();
    (
        passed.map(|part| part * 100 / sum),
        sum * 8_000_000 / micros,
    )
}

/// How long a small packet and its answer take, in the middle of many.
fn round_trip(from: Option<u32>) -> Duration {
    let act = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((FAR, 7)).unwrap();
        let lost = Some(Duration::from_secs(2));
        socket.set_read_timeout(lost).unwrap();
        let mut times: Vec<_> = (0..21_u32)
            .map(|number| {
                let began = Instant::now();
                socket.send(&number.to_be_bytes()).unwrap();
                let mut answer = [0; 4];
                // An answer that comes late is none to what is asked next.
                while socket.recv(&mut answer).is_ok() && u32::from_be_bytes(answer) != number {}
                began.elapsed()
            })
            .collect();
        times.sort();
        times[10]
    };
    match from {
        Some(pid) => inside(pid, act),
        None => act(),
    }
}

/// Waits until what stood in the link's queues has gone.
fn drained() {
    until("empty link", || {
        round_trip(None) < Duration::from_millis(20)
    });
}

fn world() -> World {
    World::with(|options| options.network = true)
}

/// The next runner of the same sandboxes.
fn runner(world: &World, uplink: Bandwidth) -> Sandboxes {
    let options = Options {
        uplink,
        ..world.options.clone()
    };
    Sandboxes::open(options).unwrap()
}

fn routed(world: &World, name: &str, last: u8) -> Spec {
    let mut spec = world.spec(name, "sleep 1000");
    spec.network = Network::Routed {
        address: Ipv4Addr::new(10, 215, 8, last),
    };
    spec
}

/// Shares and rate are as they should be, two times of three: while some part of this machine stalls they are not.
#[track_caller]
fn mostly<const N: usize>(floods: [&Flood; N], total: u64, fits: impl Fn([u64; N], u64) -> bool) {
    let (mut fitting, mut others) = (0, Vec::new());
    while fitting < 2 {
        let (parts, rate) = shares(floods, total);
        if fits(parts, rate) {
            fitting += 1;
        } else {
            others.push((parts, rate));
        }
        assert!(
            others.len() < 2,
            "parts in percent and bits a second: {others:?}"
        );
    }
}

/// Of the whole, in percent.
fn is_half(part: u64) -> bool {
    (35..=65).contains(&part)
}

/// Most of a rate, and no more than it.
fn is_all(bits: u64, of: u64) -> bool {
    (60..=110).contains(&(bits * 100 / of))
}

#[test]
fn many_connections_of_one_environment_send_no_more_than_one_of_another() {
    if !in_own_network(
        "uplink::many_connections_of_one_environment_send_no_more_than_one_of_another",
    ) {
        return;
    }
    let (world, far) = (world(), beyond(Some(NARROW)));
    let [many, one] = [("many", 1), ("one", 2)].map(|(name, last)| {
        let started = world.sandboxes.start(&routed(&world, name, last));
        started.unwrap().init_pid
    });
    let greedy = Flood::new(&far, false).from(many, 16, false);
    let modest = Flood::new(&far, false).from(one, 1, false);
    // The way it is: who opens more has more, and everybody waits for him.
    mostly([&greedy, &modest], 2 << 20, |[_, part], _| part < 30);
    let [inside, outside] = [Some(one), None].map(round_trip);
    assert!(inside.min(outside) > Duration::from_millis(100));
    drop((greedy, modest));
    // The next runner knows what the link carries.
    let _runner = runner(&world, BOTH);
    drained();
    let greedy = Flood::new(&far, false).from(many, 16, false);
    let modest = Flood::new(&far, false).from(one, 1, false);
    mostly([&greedy, &modest], 3 << 20, |[_, part], rate| {
        is_half(part) && is_all(rate, NARROW)
    });
    let [shared_inside, shared_outside] = [Some(one), None].map(round_trip);
    println!(
        "small answers: {inside:?} and {outside:?}; shared {shared_inside:?} and {shared_outside:?}"
    );
    assert!(shared_inside * 4 < inside, "{shared_inside:?}, {inside:?}");
    assert!(
        shared_outside * 4 < outside,
        "{shared_outside:?}, {outside:?}"
    );
    // Alone it has all.
    drop(greedy);
    mostly([&modest], 2 << 20, |_, rate| is_all(rate, NARROW));
}

#[test]
fn many_connections_of_one_environment_receive_no_more_than_one_of_another() {
    if !in_own_network(
        "uplink::many_connections_of_one_environment_receive_no_more_than_one_of_another",
    ) {
        return;
    }
    let (world, far) = (world(), beyond(Some(NARROW)));
    let [many, one] = [("many", 1), ("one", 2)].map(|(name, last)| {
        let started = world.sandboxes.start(&routed(&world, name, last));
        started.unwrap().init_pid
    });
    let greedy = Flood::new(&far, true).from(many, 16, true);
    let modest = Flood::new(&far, true).from(one, 1, true);
    mostly([&greedy, &modest], 2 << 20, |[_, part], _| part < 30);
    drop((greedy, modest));
    let _runner = runner(&world, BOTH);
    drained();
    let greedy = Flood::new(&far, true).from(many, 16, true);
    let modest = Flood::new(&far, true).from(one, 1, true);
    // What waits before the link is nobody's to order: it is a while until all have found their rate.
    until("rest", || {
        let ([_, part], _) = shares([&greedy, &modest], 1 << 20);
        is_half(part)
    });
    mostly([&greedy, &modest], 3 << 20, |[_, part], _| is_half(part));
    drop(greedy);
    mostly([&modest], 2 << 20, |_, rate| is_all(rate, NARROW));
}

#[test]
fn a_flood_of_small_and_forged_packets_leaves_others_theirs() {
    if !in_own_network("uplink::a_flood_of_small_and_forged_packets_leaves_others_theirs") {
        return;
    }
    let (world, far) = (world(), beyond(None));
    let runner = runner(&world, BOTH);
    let [hostile, one] = [("hostile", 1), ("one", 2)].map(|(name, last)| {
        let started = runner.start(&routed(&world, name, last));
        started.unwrap().init_pid
    });
    let ends = Arc::new(AtomicBool::new(false));
    let pours = |from: &'static str, length: usize| {
        let ended = Arc::clone(&ends);
        inside(hostile, move || {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            socket.connect((FAR, 9)).unwrap();
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let _ = socket.send(&vec![0; length]);
                }
            })
        })
    };
    // The neighbour's address, which the firewall judges later.
    inside(hostile, || {
        command("ip", &["address", "add", "10.215.8.2/32", "dev", "eth0"])
    });
    let floods = [pours("10.215.8.1", 20), pours("10.215.8.2", 1400)];
    let modest = Flood::new(&far, false).from(one, 1, false);
    mostly([&modest], 2 << 20, |_, rate| rate > NARROW / 3);
    let trip = round_trip(Some(one));
    assert!(trip < Duration::from_millis(100), "{trip:?}");
    ends.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
}

#[test]
fn an_environments_own_limit_holds_within_its_share_and_changes_live() {
    if !in_own_network("uplink::an_environments_own_limit_holds_within_its_share_and_changes_live")
    {
        return;
    }
    let (world, far) = (world(), beyond(None));
    let wide = 4 * NARROW;
    let runner = runner(
        &world,
        Bandwidth {
            egress: Some(wide),
            ingress: None,
        },
    );
    let spec = routed(&world, "one", 1);
    let one = runner.start(&spec).unwrap().init_pid;
    let (up, down) = (Flood::new(&far, false), Flood::new(&far, true));
    let up = up.from(one, 2, false);
    let rates = |egress, ingress, total, all| {
        let bandwidth = Bandwidth { egress, ingress };
        runner.shape(&spec.id, &bandwidth).unwrap();
        mostly([&up], total, |_, rate| is_all(rate, all));
    };
    rates(None, None, 4 << 20, wide);
    rates(Some(NARROW), None, 2 << 20, NARROW);
    // What is not shared is held at its link as ever, and the other goes on as it is.
    rates(Some(2 * NARROW), Some(NARROW), 2 << 20, 2 * NARROW);
    let down = down.from(one, 2, true);
    mostly([&down], 2 << 20, |_, rate| is_all(rate, NARROW));
    drop(down);
    rates(None, None, 4 << 20, wide);
}

#[test]
fn members_have_the_share_of_their_environment() {
    if !in_own_network("uplink::members_have_the_share_of_their_environment") {
        return;
    }
    let (world, far) = (world(), beyond(None));
    let runner = runner(&world, BOTH);
    let app = owner(&world, "app", "sleep 1000", 0);
    let db = member(&world, &app, 1, "sleep 1000", &[]);
    let [app, db, other] =
        [&app, &db, &routed(&world, "other", 9)].map(|spec| runner.start(spec).unwrap().init_pid);
    let floods = [(app, 1), (db, 4), (other, 1)]
        .map(|(pid, connections)| Flood::new(&far, false).from(pid, connections, false));
    let [app, db, other] = &floods;
    mostly([app, db, other], 3 << 20, |[_, _, part], _| is_half(part));
}

/// What leads packets anywhere in this network, each line without what changes.
fn queues() -> Vec<String> {
    let mut lines = Vec::new();
    let text = command("tc", &["qdisc", "show"]);
    lines.extend(text.lines().map(str::to_owned));
    lines.retain(|line| {
        !line.contains("noqueue") && !line.contains("dev up0") && !line.contains("dev lo")
    });
    lines
}

/// Devices that packets are led through.
fn devices() -> Vec<String> {
    let text = command("ip", &["-o", "link", "show", "type", "ifb"]);
    let names = text.lines().filter_map(|line| line.split(' ').nth(1));
    names
        .map(|name| name.trim_end_matches(':').to_owned())
        .collect()
}

#[test]
fn what_is_left_of_a_runner_is_made_anew_or_removed_by_the_next() {
    if !in_own_network("uplink::what_is_left_of_a_runner_is_made_anew_or_removed_by_the_next") {
        return;
    }
    let (world, _far) = (world(), beyond(None));
    assert_eq!(
        (queues(), devices()),
        (vec![], vec![]),
        "nothing for nothing"
    );
    let spec = routed(&world, "one", 1);
    let one = world.sandboxes.start(&spec).unwrap().init_pid;
    assert_eq!(
        (queues(), devices()),
        (vec![], vec![]),
        "nothing for nothing"
    );
    let answers = |what: &str| {
        let trip = round_trip(Some(one));
        assert!(trip < Duration::from_secs(1), "{what}: {trip:?}");
    };
    // Filters for a sandbox's packets, and what else there is for it.
    let known = |device: &str| {
        let filters = command("tc", &["filter", "show", "dev", device, "parent", "1:"]);
        let classes = command("tc", &["class", "show", "dev", device]);
        let parts = (
            filters.matches("flowid").count(),
            classes.matches(" parent ").count(),
        );
        (filters.matches("input dev").count(), parts)
    };
    // It was limited by itself, and then its runner was started with the flag.
    let own = Bandwidth {
        egress: Some(NARROW),
        ingress: None,
    };
    world.sandboxes.shape(&spec.id, &own).unwrap();
    let first = runner(&world, BOTH);
    let made = devices();
    assert_eq!(made.len(), 2, "{made:?}");
    let first_known = made.iter().map(|device| known(device)).collect::<Vec<_>>();
    assert!(first_known.iter().all(|(filters, _)| *filters == 2));
    answers("shared");
    // Killed at any instruction, another takes over; what it finds may be anything.
    drop(first);
    for half in [
        vec![],
        vec![vec!["link", "delete", &made[0]]],
        vec![vec!["link", "set", &made[1], "down"]],
        vec![
            vec!["link", "delete", &made[1]],
            vec!["link", "add", &made[1], "type", "ifb"],
        ],
    ] {
        for words in half {
            command("ip", &words);
        }
        let next = runner(&world, BOTH);
        assert_eq!(devices(), made);
        let now_known = made.iter().map(|device| known(device)).collect::<Vec<_>>();
        assert_eq!(now_known, first_known);
        answers("taken over");
        drop(next);
    }
    // Another runner of this host has its own, and keeps them.
    let beside = self::world();
    let other = runner(&beside, BOTH);
    other.start(&routed(&beside, "two", 2)).unwrap();
    assert_eq!(devices().len(), 4);
    let next = runner(&world, BOTH);
    assert_eq!(devices().len(), 4);
    // Sandboxes that come and go leave nothing behind.
    let (before, mut visitor) = (queues(), routed(&world, "visitor", 3));
    for last in 3..9 {
        visitor.network = routed(&world, "visitor", last).network;
        next.start(&visitor).unwrap();
        assert_ne!(queues(), before);
        next.kill(&visitor.id, &visitor.state).unwrap();
        next.start(&visitor).unwrap();
        next.remove(&visitor.id, &visitor.state).unwrap();
        let now_known = made.iter().map(|device| known(device)).collect::<Vec<_>>();
        assert_eq!(now_known, first_known);
        assert_eq!(queues(), before);
    }
    drop(next);
    // One direction less, then none.
    let half = Bandwidth {
        ingress: None,
        ..BOTH
    };
    drop(runner(&world, half));
    assert_eq!(devices().len(), 3);
    answers("one direction");
    drop(runner(&world, Bandwidth::default()));
    assert_eq!(devices().len(), 2);
    let veth = |line: &String| line.contains(&format!("{}-", world.options.interface_prefix));
    assert!(!queues().iter().any(veth), "{:?}", queues());
    answers("as before");
    other.teardown_host().unwrap();
    assert_eq!((queues(), devices()), (vec![], vec![]));
}
