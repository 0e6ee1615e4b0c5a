//! Egress policies: real connections, a real resolver, real rules, in a network of the test's own.

use crate::machine::{Machine, in_own_network, inside};
use crate::world::{DEADLINE, World};
use boatyard_sandbox::Sandboxes;
use boatyard_sandbox::spec::{AllowedName, AllowedRange, Egress, Network, Spec};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 218, 0, 2);

/// Seconds, other name, addresses.
type Known = (u32, Option<&'static str>, Vec<[u8; 4]>);

/// A host with a resolver, and beyond it a machine with many addresses that echoes on ports 80 and
/// 443 of each.
struct Sea {
    world: World,
    names: Arc<Mutex<BTreeMap<&'static str, Known>>>,
    _far: Machine,
    /// With its resolv.conf.
    _folder: tempfile::TempDir,
}

fn sea() -> Sea {
    let far = Machine::new("far");
    let host = |words: &[&str]| crate::machine::command("ip", words);
    host(&[
        "link", "add", "up0", "type", "veth", "peer", "name", "far0", "netns", &far.0,
    ]);
    host(&["address", "add", "203.0.113.1/24", "dev", "up0"]);
    host(&["address", "add", "192.168.77.1/24", "dev", "up0"]);
    host(&["link", "set", "up0", "up"]);
    for last in 2..30 {
        far.run(&[
            "ip",
            "address",
            "add",
            &format!("203.0.113.{last}/24"),
            "dev",
            "far0",
        ]);
    }
    far.run(&["ip", "address", "add", "192.168.77.2/24", "dev", "far0"]);
    far.run(&["ip", "link", "set", "far0", "up"]);
    for port in [80, 443, 53] {
        far.within(move || {
            let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    std::thread::spawn(move || echo(stream));
                }
            });
        });
    }
    let names: Arc<Mutex<BTreeMap<&'static str, Known>>> = Arc::default();
    resolver(Arc::clone(&names));
    let folder = tempfile::tempdir().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    let world = World::with(|options| {
        options.network = true;
        options.resolv_conf = resolv_conf;
    });
    Sea {
        world,
        names,
        _far: far,
        _folder: folder,
    }
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 64];
    while let Ok(count) = stream.read(&mut bytes) {
        if count == 0 || stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// Answers on loopback, over UDP and TCP, what `names` says.
fn resolver(names: Arc<Mutex<BTreeMap<&'static str, Known>>>) {
    let udp = UdpSocket::bind("127.0.0.1:53").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:53").unwrap();
    let table = Arc::clone(&names);
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut query) {
            let _ = udp.send_to(&answer(&query[..length], &table), from);
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut query).unwrap();
                let answer = answer(&query, &names);
                let length = u16::try_from(answer.len()).unwrap();
                let _ = stream.write_all(&length.to_be_bytes());
                let _ = stream.write_all(&answer);
            }
        }
    });
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn answer(query: &[u8], names: &Mutex<BTreeMap<&'static str, Known>>) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|b| *b == 0).unwrap() + 5;
    let asked: Vec<u8> = query[12..end - 4].to_ascii_lowercase();
    let mut answer = query[..end].to_vec();
    (answer[2], answer[3]) = (0x81, 0x83);
    answer[6..12].fill(0);
    let table = names.lock().unwrap();
    let found = table.iter().find(|(name, _)| labels(name) == asked);
    let Some((_, (seconds, other, addresses))) = found else {
        return answer;
    };
    answer[3] = 0x80;
    let mut owner = asked;
    let mut record = |owner: &[u8], kind: u8, data: &[u8]| {
        answer[7] += 1;
        answer.extend_from_slice(owner);
        answer.extend_from_slice(&[0, kind, 0, 1]);
        answer.extend_from_slice(&seconds.to_be_bytes());
        answer.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend_from_slice(data);
    };
    if let Some(other) = other {
        record(&owner, 5, &labels(other));
        owner = labels(other);
    }
    for address in addresses {
        record(&owner, 1, address);
    }
    answer
}

impl Sea {
    fn know(&self, name: &'static str, seconds: u32, addresses: &[[u8; 4]]) {
        let known = (seconds, None, addresses.to_vec());
        self.names.lock().unwrap().insert(name, known);
    }

    /// A sandbox that waits, and the id of its first process.
    fn start(&self, egress: Option<Egress>) -> (Spec, u32) {
        let mut spec = self.world.spec("one", "sleep 1000");
        spec.network = Network::Routed { address: OWN };
        spec.egress = egress.map(Box::new);
        let pid = self.world.sandboxes.start(&spec).unwrap().init_pid;
        (spec, pid)
    }

    fn set(&self, spec: &Spec, egress: Option<&Egress>) {
        let sandboxes = &self.world.sandboxes;
        sandboxes.set_egress(&spec.id, &spec.state, egress).unwrap();
    }
}

fn names(allowed: &[(&str, &[u16])]) -> Egress {
    let names = allowed.iter().map(|(name, ports)| AllowedName {
        name: name.trim_start_matches("*.").to_owned(),
        below: name.starts_with("*."),
        ports: ports.to_vec(),
    });
    Egress {
        names: names.collect(),
        least_seconds: 1,
        ..Egress::default()
    }
}

/// What a connection from inside comes to.
fn connect(pid: u32, last: u8, port: u16) -> Result<TcpStream, ErrorKind> {
    reach(pid, Ipv4Addr::new(203, 0, 113, last), port)
}

fn reach(pid: u32, address: Ipv4Addr, port: u16) -> Result<TcpStream, ErrorKind> {
    let began = Instant::now();
    let result = inside(pid, move || {
        TcpStream::connect_timeout(&SocketAddr::from((address, port)), Duration::from_secs(10))
    });
    // Whatever is refused is refused at once.
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{address} {result:?}"
    );
    result.map_err(|error| error.kind())
}

fn speaks(stream: &mut TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut bytes = [0; 4];
    stream.write_all(b"ahoy").is_ok() && stream.read_exact(&mut bytes).is_ok()
}

/// Response code and addresses that a program inside gets for a name.
fn lookup(pid: u32, name: &str, tcp: bool) -> (u8, Vec<Ipv4Addr>) {
    let mut query = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(labels(name));
    query.extend([0, 1, 0, 1]);
    let length = query.len();
    let bytes = inside(pid, move || {
        let mut bytes = vec![0; 512];
        if tcp {
            let mut stream = TcpStream::connect("169.254.53.53:53").unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream
                .write_all(&[0, u8::try_from(query.len()).unwrap()])
                .unwrap();
            stream.write_all(&query).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            bytes.truncate(u16::from_be_bytes(length).into());
            stream.read_exact(&mut bytes).unwrap();
            return bytes;
        }
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.send_to(&query, "169.254.53.53:53").unwrap();
        let length = socket.recv(&mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    });
    // Addresses are the last four bytes of records of sixteen, after those of other names.
    let records = &bytes[length..];
    let wanted = [0, 1, 0, 1];
    let found = (0..records.len().saturating_sub(13)).filter(|at| {
        records[*at] & 0xc0 == 0xc0
            && records[at + 2..at + 6] == wanted
            && records[at + 10..at + 12] == [0, 4]
    });
    let addresses = found.map(|at| {
        let four: [u8; 4] = records[at + 12..at + 16].try_into().unwrap();
        Ipv4Addr::from(four)
    });
    (bytes[3] & 0xf, addresses.collect())
}

macro_rules! alone {
    ($name:literal) => {
        if !in_own_network(concat!("egress::", $name)) {
            return;
        }
    };
}

#[test]
fn an_allowed_name_is_reached_and_nothing_else_is() {
    alone!("an_allowed_name_is_reached_and_nothing_else_is");
    let sea = sea();
    sea.know(
        "harbour.example",
        60,
        &[[203, 0, 113, 10], [203, 0, 113, 11]],
    );
    sea.know("other.example", 60, &[[203, 0, 113, 12]]);
    sea.names.lock().unwrap().insert(
        "www.example",
        (60, Some("cdn.elsewhere.example"), vec![[203, 0, 113, 13]]),
    );
    let allowed = names(&[("harbour.example", &[]), ("www.example", &[443])]);
    let (spec, pid) = sea.start(Some(allowed));
    // Not before it was asked for.
    assert_eq!(
        connect(pid, 10, 80).unwrap_err(),
        ErrorKind::ConnectionRefused
    );
    let (code, found) = lookup(pid, "Harbour.Example", false);
    assert_eq!((code, found.len()), (0, 2));
    assert!(speaks(&mut connect(pid, 10, 80).unwrap()));
    assert!(speaks(&mut connect(pid, 11, 443).unwrap()));
    // By way of another name, and by TCP; only the port that was said.
    let (_, found) = lookup(pid, "www.example", true);
    assert_eq!(found, [Ipv4Addr::new(203, 0, 113, 13)]);
    assert!(speaks(&mut connect(pid, 13, 443).unwrap()));
    assert_eq!(
        connect(pid, 13, 80).unwrap_err(),
        ErrorKind::ConnectionRefused
    );
    // What is not allowed does not exist, and its address is refused though it is known.
    for (name, tcp) in [
        ("other.example", false),
        ("other.example", true),
        ("cdn.elsewhere.example", false),
    ] {
        assert_eq!(lookup(pid, name, tcp), (3, vec![]), "{name}");
    }
    assert_eq!(
        connect(pid, 12, 80).unwrap_err(),
        ErrorKind::ConnectionRefused
    );
    // Neither is another resolver asked.
    let refused = inside(pid, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("203.0.113.12:53").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.send(b"hello").unwrap();
        socket.recv(&mut [0; 9]).unwrap_err()
    });
    assert_ne!(refused.kind(), ErrorKind::WouldBlock, "{refused}");
    // The developer can find out.
    let until = Instant::now() + DEADLINE;
    loop {
        let report = sea
            .world
            .sandboxes
            .egress(&spec.id, &spec.state)
            .unwrap()
            .unwrap();
        let told = [
            "other.example",
            "203.0.113.12:80/tcp",
            "203.0.113.12:53/udp",
        ];
        if told
            .iter()
            .all(|one| report.recent.iter().any(|recent| recent == one))
        {
            assert!(report.refused >= 5, "{report:?}");
            break;
        }
        assert!(Instant::now() < until, "{report:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_wildcard_is_of_what_lies_below_and_ranges_are_reached_by_number() {
    alone!("a_wildcard_is_of_what_lies_below_and_ranges_are_reached_by_number");
    let sea = sea();
    sea.know("wild.example", 60, &[[203, 0, 113, 14]]);
    sea.know("a.b.wild.example", 60, &[[203, 0, 113, 15]]);
    let mut allowed = names(&[("*.wild.example", &[])]);
    allowed.ranges = vec![
        AllowedRange {
            first: [203, 0, 113, 20].into(),
            last: [203, 0, 113, 21].into(),
            ports: vec![],
        },
        AllowedRange {
            first: [203, 0, 113, 22].into(),
            last: [203, 0, 113, 22].into(),
            ports: vec![443],
        },
    ];
    let (_, pid) = sea.start(Some(allowed));
    assert_eq!(lookup(pid, "wild.example", false).0, 3);
    assert_eq!(lookup(pid, "a.b.wild.example", false).1.len(), 1);
    assert!(connect(pid, 15, 80).is_ok());
    assert!(connect(pid, 20, 80).is_ok() && connect(pid, 21, 443).is_ok());
    assert!(connect(pid, 22, 443).is_ok());
    for (last, port) in [(22, 80), (19, 80), (14, 80)] {
        assert_eq!(
            connect(pid, last, port).unwrap_err(),
            ErrorKind::ConnectionRefused
        );
    }
}

#[test]
fn an_answer_that_runs_out_cuts_nothing_and_lets_nothing_new_through() {
    alone!("an_answer_that_runs_out_cuts_nothing_and_lets_nothing_new_through");
    let sea = sea();
    sea.know("harbour.example", 0, &[[203, 0, 113, 10]]);
    let (_, pid) = sea.start(Some(names(&[("harbour.example", &[])])));
    // Whoever has an answer connects, at once; only what may have run out meanwhile is asked for again.
    let reaches = || {
        loop {
            let asked = Instant::now();
            lookup(pid, "harbour.example", false);
            match connect(pid, 10, 80) {
                Ok(stream) => return stream,
                Err(error) => assert!(asked.elapsed() > Duration::from_secs(1), "{error}"),
            }
        }
    };
    let mut stream = reaches();
    assert!(speaks(&mut stream));
    let until = Instant::now() + DEADLINE;
    while connect(pid, 10, 80).is_ok() {
        assert!(Instant::now() < until, "it never runs out");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(speaks(&mut stream), "a connection that stands goes on");
    // Asked again, it is good again, and again before it runs out.
    for _ in 0..3 {
        drop(reaches());
    }
}

#[test]
fn answers_that_point_at_the_neighbourhood_are_filtered() {
    alone!("answers_that_point_at_the_neighbourhood_are_filtered");
    let sea = sea();
    let inner = [
        [192, 168, 77, 2],
        [127, 0, 0, 1],
        [169, 254, 169, 254],
        [10, 218, 0, 3],
    ];
    sea.know("rebound.example", 60, &inner);
    sea.know("mixed.example", 60, &[[203, 0, 113, 10], [192, 168, 77, 2]]);
    let allowed = names(&[("*.example", &[])]);
    let (spec, pid) = sea.start(Some(allowed.clone()));
    assert_eq!(lookup(pid, "rebound.example", false), (0, vec![]));
    let public = Ipv4Addr::new(203, 0, 113, 10);
    assert_eq!(lookup(pid, "mixed.example", true), (0, vec![public]));
    let private = Ipv4Addr::new(192, 168, 77, 2);
    assert_eq!(
        reach(pid, private, 80).unwrap_err(),
        ErrorKind::ConnectionRefused
    );
    // Unless the policy names them by number.
    let mut wider = allowed;
    wider.ranges = vec![AllowedRange {
        first: private,
        last: private,
        ports: vec![],
    }];
    sea.set(&spec, Some(&wider));
    assert_eq!(lookup(pid, "rebound.example", false), (0, vec![private]));
    assert!(reach(pid, private, 80).is_ok());
}

#[test]
fn a_change_is_in_force_at_once_and_cuts_what_it_forbids() {
    alone!("a_change_is_in_force_at_once_and_cuts_what_it_forbids");
    let sea = sea();
    sea.know("one.example", 60, &[[203, 0, 113, 10]]);
    sea.know("two.example", 60, &[[203, 0, 113, 11]]);
    let (spec, pid) = sea.start(None);
    assert!(
        connect(pid, 12, 80).is_ok(),
        "without a policy everything is open"
    );
    let mut open = connect(pid, 10, 80).unwrap();
    sea.set(&spec, Some(&names(&[("*.example", &[])])));
    // Nobody has asked for it under this policy.
    assert!(!speaks(&mut open));
    for name in ["one.example", "two.example"] {
        lookup(pid, name, false);
    }
    let mut one = connect(pid, 10, 80).unwrap();
    let mut two = connect(pid, 11, 80).unwrap();
    assert!(speaks(&mut one) && speaks(&mut two));
    // Narrower: what stands to a name that is still allowed goes on.
    sea.set(&spec, Some(&names(&[("one.example", &[])])));
    assert!(speaks(&mut one) && !speaks(&mut two));
    assert!(connect(pid, 10, 443).is_ok() && connect(pid, 11, 80).is_err());
    // Closed, by a runner that was started meanwhile.
    let other = Sandboxes::open(sea.world.options.clone()).unwrap();
    assert!(speaks(&mut one), "a runner's start changes nothing");
    assert!(connect(pid, 11, 80).is_err());
    other
        .set_egress(&spec.id, &spec.state, Some(&Egress::default()))
        .unwrap();
    assert!(!speaks(&mut one));
    assert_eq!(lookup(pid, "one.example", false).0, 3);
    let report = other.egress(&spec.id, &spec.state).unwrap().unwrap();
    assert_eq!(report.policy, Some(Egress::default()));
    other.set_egress(&spec.id, &spec.state, None).unwrap();
    assert!(connect(pid, 12, 80).is_ok());
    assert!(!ruleset().contains("_fresh"), "{}", ruleset());
}

#[test]
fn a_flood_of_names_is_bounded_and_the_newest_are_reached() {
    alone!("a_flood_of_names_is_bounded_and_the_newest_are_reached");
    let sea = sea();
    let many: Vec<[u8; 4]> = (2..27).map(|last| [203, 0, 113, last]).collect();
    for n in 0..120 {
        let name: &'static str = format!("n{n}.example").leak();
        sea.know(name, 60, &many);
    }
    let ports: Vec<u16> = (80..96).collect();
    let (_, pid) = sea.start(Some(names(&[("*.example", &ports)])));
    for n in 0..120 {
        let (code, found) = lookup(pid, &format!("n{n}.example"), true);
        assert_eq!((code, found.len()), (0, many.len()), "{n}");
    }
    assert!(connect(pid, 20, 80).is_ok());
}

#[test]
fn nothing_of_a_policy_is_left_whoever_is_killed() {
    alone!("nothing_of_a_policy_is_left_whoever_is_killed");
    let sea = sea();
    let (spec, _) = sea.start(Some(Egress::default()));
    assert!(ruleset().contains("_fresh"));
    sea.world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    assert!(!ruleset().contains("_fresh"), "{}", ruleset());
    // Without its monitor the rules hold, and the removal finds them.
    let (spec, pid) = sea.start(Some(Egress::default()));
    let running = sea.world.sandboxes.observe(&spec.id, &spec.state).unwrap();
    let boatyard_sandbox::Observed::Running {
        monitor_pid: Some(monitor),
        ..
    } = running
    else {
        panic!("{running:?}");
    };
    let monitor = rustix::process::Pid::from_raw(i32::try_from(monitor).unwrap()).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    assert_eq!(
        connect(pid, 10, 80).unwrap_err(),
        ErrorKind::ConnectionRefused
    );
    let refused = sea.world.sandboxes.set_egress(&spec.id, &spec.state, None);
    assert!(refused.is_err());
    sea.world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    assert!(!ruleset().contains("_fresh"), "{}", ruleset());
}

fn ruleset() -> String {
    crate::machine::command("nft", &["list", "ruleset"])
}
