//! What is reachable, and what is not.

use crate::machine::{Machine, command};
use crate::world::{DEADLINE, World};
use boatyard_sandbox::Observed;
use boatyard_sandbox::spec::Network;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

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
    let mut neighbour = world.spec("neighbour", "exec nc -ll -p 4000 -e echo hello");
    neighbour.network = routed(9);
    world.sandboxes.start(&neighbour).unwrap();
    // The host itself reaches in: the neighbour listens, so that the refusals below mean something.
    let address = SocketAddr::from(([10, 215, 7, 9], 4000));
    until("neighbour that listens", || {
        TcpStream::connect_timeout(&address, DEADLINE).is_ok()
    });
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

/// Answers every query for an address with 198.51.100.7.
fn resolver(address: &str) {
    let socket = std::net::UdpSocket::bind((address, 53)).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let mut answer = query[..length].to_vec();
            // Response, recursion available; one answer: name by pointer, A, IN, 60 s.
            answer[2] = 0x81;
            answer[3] = 0x80;
            let wants_a = answer[length - 3] == 1;
            answer[7] = u8::from(wants_a);
            if wants_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 7]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
}

#[test]
fn names_are_answered_by_the_hosts_resolver() {
    let folder = tempfile::tempdir().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.77\n").unwrap();
    resolver("127.0.0.77");
    let world = World::with(|options| {
        options.network = true;
        options.resolv_conf = resolv_conf;
    });
    let mut spec = world.spec("one", "nslookup harbour.example 2>&1");
    spec.network = routed(30);
    let (_, output) = world.run_spec(&spec);
    assert!(output.contains("198.51.100.7"), "{output}");
}

/// A host, a server beyond it that knows no way back to the environments' addresses, and a firewall.
struct Guarded {
    world: World,
    host: Machine,
    _far: Machine,
    server: std::process::Child,
}

impl Guarded {
    fn new() -> Self {
        let world = World::new();
        let (host, far) = (Machine::new("host"), Machine::new("far"));
        let words = format!(
            "-n {} link add up0 type veth peer name far0 netns {}",
            host.0, far.0
        );
        command("ip", &words.split(' ').collect::<Vec<_>>());
        host.run(&["ip", "address", "add", "10.99.0.1/24", "dev", "up0"]);
        host.run(&["ip", "link", "set", "up0", "up"]);
        far.run(&["ip", "address", "add", "10.99.0.2/24", "dev", "far0"]);
        far.run(&["ip", "link", "set", "far0", "up"]);
        // A new namespace begins with the machine's own setting.
        host.run(&["sh", "-c", &format!("echo 0 > {IP_FORWARD}")]);
        let server = std::process::Command::new("ip")
            .args(["netns", "exec", &far.0, "/bin/busybox", "nc", "-ll"])
            .args(["-p", "5000", "-e", "/bin/busybox", "echo", "from afar"])
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([10, 99, 0, 2], 5000));
        far.within(move || {
            until("server that listens", || {
                TcpStream::connect_timeout(&address, DEADLINE).is_ok()
            });
        });
        Self {
            world,
            host,
            _far: far,
            server,
        }
    }

    /// What a sandbox hears from beyond the host in so many tries, where this variable is set.
    fn heard(&self, variable: &str, tries: u32) -> String {
        let script = format!(
            "i=0; while [ $i -lt {tries} ]; do nc -w 2 10.99.0.2 5000 2>/dev/null && break; i=$((i+1)); done"
        );
        self.host.run(&[
            "env",
            variable,
            crate::world::executable().to_str().unwrap(),
            self.world.layer().to_str().unwrap(),
            "/bin/busybox",
            "1",
            "net",
            "sh",
            "-c",
            &script,
        ])
    }

    /// Nothing is left of what a sandbox needed.
    fn is_as_before(&self, before: &str) {
        assert_eq!(self.host.run(&["nft", "list", "ruleset"]), before);
        assert_eq!(self.host.run(&["cat", IP_FORWARD]), "0\n");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// As dockerd and ufw leave it.
#[test]
fn outbound_is_masqueraded_beside_a_firewall_that_drops_forwarding() {
    let guarded = Guarded::new();
    guarded.host.run(&["iptables", "-P", "FORWARD", "DROP"]);
    let before = guarded.host.run(&["nft", "list", "ruleset"]);
    let output = guarded.heard("NONE=", 500);
    assert!(output.starts_with("from afar"), "{output}");
    guarded.is_as_before(&before);
}

/// The real one, on a bus of its own.
#[test]
fn outbound_is_masqueraded_beside_firewalld() {
    let found = |program: &str| {
        let found = std::process::Command::new("which").arg(program).output();
        found.unwrap().status.success()
    };
    if let Some(missing) = ["firewalld", "firewall-cmd", "dbus-daemon"]
        .into_iter()
        .find(|program| !found(program))
    {
        println!("skipped: there is no {missing}; `apt-get install firewalld dbus`");
        return;
    }
    let guarded = Guarded::new();
    let folder = tempfile::tempdir().unwrap();
    let bus = folder.path().join("bus");
    let config = folder.path().join("bus.conf");
    let text = format!(
        "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
         <allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>",
        bus.display()
    );
    std::fs::write(&config, text).unwrap();
    let address = format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path={}", bus.display());
    let start = |words: &[&str]| {
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &guarded.host.0, "env", &address]);
        // A folder of its own where it keeps what it knows of the machine.
        let own =
            "mkdir -p /run/firewalld && mount -t tmpfs own /run/firewalld && exec \"$0\" \"$@\"";
        command.args(["sh", "-c", own]).args(words);
        command.stderr(std::process::Stdio::null());
        Ended(command.spawn().unwrap())
    };
    let _bus = start(&[
        "dbus-daemon",
        "--config-file",
        config.to_str().unwrap(),
        "--nofork",
        "--nopidfile",
    ]);
    until("a bus", || bus.exists());
    let _firewalld = start(&["firewalld", "--nofork", "--nopid"]);
    let told = |words: &[&str]| {
        let mut command = std::process::Command::new("ip");
        command.args([
            "netns",
            "exec",
            &guarded.host.0,
            "env",
            &address,
            "firewall-cmd",
        ]);
        command.args(words).output().unwrap().status.success()
    };
    until("firewalld", || told(&["--state"]));
    let output = guarded.heard(&address, 500);
    assert!(output.starts_with("from afar"), "{output}");
    // Its zone stays where it was made; of us nothing does.
    let rules = guarded.host.run(&["nft", "list", "ruleset"]);
    assert!(rules.contains("table inet firewalld") && !rules.contains("btm"));
    assert_eq!(guarded.host.run(&["cat", IP_FORWARD]), "0\n");

    // It refuses what it is not told to trust.
    let deaf = folder.path().join("firewall-cmd");
    std::fs::write(&deaf, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&deaf, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("PATH={}:{path}", folder.path().display());
    let output = guarded.heard(&path, 5);
    assert!(!output.contains("from afar"), "{output}");
}

/// A process that is ended with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + crate::world::DEADLINE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "no {what}");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}
