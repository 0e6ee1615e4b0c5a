//! How fast a sandbox speaks, as far as it is limited.

use crate::members::{member, owner};
use crate::world::{DEADLINE, World};
use boatyard_sandbox::spec::{Bandwidth, Network};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const MEBIBYTE: usize = 1 << 20;
/// A mebibyte in a second and a little.
const SLOW: u64 = 8_000_000;

fn connect(address: Ipv4Addr, port: u16) -> TcpStream {
    let address = SocketAddr::from((address, port));
    let until = Instant::now() + DEADLINE;
    loop {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// How long the sandbox takes to send, and to receive, a mebibyte.
fn times(address: Ipv4Addr) -> (Duration, Duration) {
    let began = Instant::now();
    let mut sent = Vec::new();
    connect(address, 4000).read_to_end(&mut sent).unwrap();
    assert_eq!(sent.len(), MEBIBYTE);
    let sending = began.elapsed();
    let began = Instant::now();
    let mut stream = connect(address, 4001);
    stream.write_all(&vec![0; MEBIBYTE]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut counted = String::new();
    stream.read_to_string(&mut counted).unwrap();
    assert_eq!(counted.trim(), MEBIBYTE.to_string());
    (sending, began.elapsed())
}

/// What is limited is slow every time; what is not is fast some time, on a busy machine too.
fn held(address: Ipv4Addr, sending: bool, receiving: bool) {
    const SLOWLY: Duration = Duration::from_millis(700);
    let mut fast = [sending, receiving];
    for _ in 0..20 {
        let (sent, received) = times(address);
        assert!(!sending || sent > SLOWLY, "sent in {sent:?}");
        assert!(!receiving || received > SLOWLY, "received in {received:?}");
        fast = [fast[0] || sent < SLOWLY, fast[1] || received < SLOWLY];
        if fast == [true, true] {
            return;
        }
    }
    panic!("what is not limited is slow: sending {sending}, receiving {receiving}, fast {fast:?}");
}

#[test]
fn each_direction_is_held_to_its_rate_and_let_go_again() {
    let world = World::with(|options| options.network = true);
    let address = Ipv4Addr::new(10, 215, 7, 60);
    let mut spec = world.spec(
        "one",
        "nc -ll -p 4000 -e head -c 1048576 /dev/zero & nc -ll -p 4001 -e wc -c & sleep 1000",
    );
    spec.network = Network::Routed { address };
    world.sandboxes.start(&spec).unwrap();
    let shape = |egress, ingress| {
        let bandwidth = Bandwidth { egress, ingress };
        world.sandboxes.shape(&spec.id, &bandwidth).unwrap();
    };
    held(address, false, false);
    shape(Some(SLOW), None);
    held(address, true, false);
    // Anew over what is there.
    shape(None, Some(SLOW));
    held(address, false, true);
    shape(Some(SLOW), Some(SLOW));
    let leftovers = world.sandboxes.list_leftovers().unwrap();
    assert_eq!(leftovers, [spec.id.clone()], "one, with its device");
    shape(None, None);
    held(address, false, false);
    shape(Some(SLOW), Some(SLOW));
    world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    assert_eq!(world.traces(), [""; 0]);
}

#[test]
fn members_share_the_rate_of_their_environment_whenever_they_start() {
    const SERVE: &str =
        "nc -ll -p 4000 -e head -c 1048576 /dev/zero & nc -ll -p 4001 -e wc -c & sleep 1000";
    let world = World::with(|options| options.network = true);
    let app = owner(&world, "app", SERVE, 0);
    let early = member(&world, &app, 1, SERVE, &[]);
    let late = member(&world, &app, 2, SERVE, &[]);
    let all = [&app, &early, &late].map(|spec| spec.network.address().unwrap());
    let shape = |rate| {
        let bandwidth = Bandwidth {
            egress: rate,
            ingress: rate,
        };
        world.sandboxes.shape(&app.id, &bandwidth).unwrap();
    };
    world.sandboxes.start(&app).unwrap();
    world.sandboxes.start(&early).unwrap();
    shape(Some(SLOW));
    world.sandboxes.start(&late).unwrap();
    for address in all {
        held(address, true, true);
    }
    let began = Instant::now();
    std::thread::scope(|scope| {
        for address in all {
            scope.spawn(move || times(address));
        }
    });
    // Six mebibytes, three each way; with a rate each it took little more than two seconds.
    assert!(
        began.elapsed() > Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    shape(None);
    for address in all {
        held(address, false, false);
    }
    shape(Some(SLOW));
    for spec in [&early, &late, &app] {
        world.sandboxes.remove(&spec.id, &spec.state).unwrap();
    }
    assert_eq!(world.traces(), [""; 0]);
}

/// As above, on a way out so fast that nothing of it is felt.
#[test]
fn a_direction_that_is_shared_is_held_to_its_rate_and_let_go_again() {
    const FAST: u64 = 40_000_000_000;
    for (egress, ingress) in [
        (Some(FAST), None),
        (None, Some(FAST)),
        (Some(FAST), Some(FAST)),
    ] {
        let world = World::with(|options| {
            options.network = true;
            options.uplink = Bandwidth { egress, ingress };
        });
        let address = Ipv4Addr::new(10, 215, 7, 61);
        let mut spec = world.spec(
            "one",
            "nc -ll -p 4000 -e head -c 1048576 /dev/zero & nc -ll -p 4001 -e wc -c & sleep 1000",
        );
        spec.network = Network::Routed { address };
        world.sandboxes.start(&spec).unwrap();
        for (sending, receiving) in [(false, false), (true, false), (true, true), (false, false)] {
            let rate = |held: bool| held.then_some(SLOW);
            let bandwidth = Bandwidth {
                egress: rate(sending),
                ingress: rate(receiving),
            };
            world.sandboxes.shape(&spec.id, &bandwidth).unwrap();
            held(address, sending, receiving);
        }
        world.sandboxes.remove(&spec.id, &spec.state).unwrap();
        assert_eq!(world.traces(), [""; 0]);
    }
}

#[test]
fn a_sandbox_without_a_link_is_left_alone() {
    let world = World::new();
    let spec = world.spec("one", "sleep 1000");
    world.sandboxes.start(&spec).unwrap();
    let bandwidth = Bandwidth {
        egress: Some(SLOW),
        ingress: Some(SLOW),
    };
    world.sandboxes.shape(&spec.id, &bandwidth).unwrap();
}
