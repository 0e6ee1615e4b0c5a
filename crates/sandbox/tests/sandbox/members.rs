//! Several sandboxes of one environment: what they share, whom they reach, what ends them.

use crate::world::{DEADLINE, World};
use boatyard_sandbox::Observed;
use boatyard_sandbox::spec::{Company, Network, Other, Peer, Spec};
use std::net::Ipv4Addr;
use std::path::Path;

/// An address of these tests alone.
fn address(world: &World, number: u32) -> Ipv4Addr {
    let [_, _, high, low] =
        (std::process::id() % 500 * 128 + world.number * 8 + number).to_be_bytes();
    Ipv4Addr::new(10, 217, high, low)
}

/// An environment's own sandbox.
pub(crate) fn owner(world: &World, name: &str, script: &str, number: u32) -> Spec {
    let mut spec = world.spec(name, script);
    spec.network = Network::Routed {
        address: address(world, number),
    };
    spec.company = Some(Box::default());
    spec
}

/// A member, linked with `peers`, each of which has its number and network.
pub(crate) fn member(
    world: &World,
    owner: &Spec,
    number: u32,
    script: &str,
    peers: &[&Spec],
) -> Spec {
    let mut spec = world.spec(owner.id.member(number).unwrap().as_str(), script);
    spec.network = Network::Routed {
        address: address(world, number),
    };
    let peers = peers.iter().map(|peer| Peer {
        state: peer.state.clone(),
        number: peer.company.as_ref().unwrap().number,
        address: peer.network.address().unwrap(),
    });
    spec.company = Some(Box::new(Company {
        member_of: Some(Other {
            id: owner.id.clone(),
            state: owner.state.clone(),
        }),
        number,
        peers: peers.collect(),
        ..Company::default()
    }));
    spec
}

fn namespace(pid: u32, kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.to_string_lossy().into_owned()
}

fn start(world: &World, spec: &Spec) -> u32 {
    world.sandboxes.start(spec).unwrap().init_pid
}

/// Waits until something is written there.
fn written(path: &Path) -> String {
    let until = std::time::Instant::now() + DEADLINE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') {
            return text;
        }
        assert!(
            std::time::Instant::now() < until,
            "{} stays empty",
            path.display()
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_member_has_its_own_of_everything_but_user_and_cgroup() {
    let world = World::with(|options| options.network = true);
    let app = owner(&world, "app", "sleep 1000", 0);
    let first = start(&world, &app);
    let script = "id -u; mount | grep -c ' /proc '; ps | grep -vc ps; df -m /dev/shm | tail -1 | awk '{print $2}'; touch /mine; sleep 1000";
    let mut db = member(&world, &app, 1, script, &[&app]);
    db.hostname = "db".to_owned();
    db.company.as_mut().unwrap().shm_bytes = Some(3 << 20);
    let second = start(&world, &db);
    assert_eq!(namespace(first, "user"), namespace(second, "user"));
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_ne!(namespace(first, kind), namespace(second, kind), "{kind}");
    }
    let cgroups = std::fs::read_to_string(format!("/proc/{second}/cgroup")).unwrap();
    for line in cgroups
        .lines()
        .filter(|line| line.contains("boatyard-test"))
    {
        assert!(line.contains("/envs/app/app-s1/inner"), "{line}");
    }
    // Root of the environment's range, with a file system, processes and memory of its own.
    assert_eq!(
        written(&db.state.join("console.log"))
            .lines()
            .next()
            .unwrap(),
        "0"
    );
    let host = std::fs::metadata(format!("/proc/{second}")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&host), app.id_base);
    assert!(!world.upper(&app).join("mine").exists());
    let console = db.state.join("console.log");
    let until = std::time::Instant::now() + DEADLINE;
    while std::fs::read_to_string(&console)
        .unwrap_or_default()
        .lines()
        .count()
        < 4
    {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
    let text = std::fs::read_to_string(&console).unwrap();
    assert_eq!(text.lines().last(), Some("3"), "{text}");
}

#[test]
fn members_reach_their_peers_by_name_and_nobody_else() {
    let world = World::with(|options| options.network = true);
    let serve = |text: &str| format!("while true; do nc -l -p 80 -e echo {text}; done");
    let mut app = owner(&world, "app", "sleep 1000", 0);
    let stranger = owner(&world, "stranger", &serve("stranger"), 5);
    start(&world, &stranger);
    app.company.as_mut().unwrap().hosts = vec![(address(&world, 1).into(), vec!["db".to_owned()])];
    app.init.argv[2] = "nc -w 9 db 80 2>&1 | grep -o 'No route'; until nc -w 1 db 80 2>/dev/null; do :; done; sleep 1000".to_owned();
    app.company.as_mut().unwrap().peers = vec![Peer {
        state: world.base.path().join("app-s1/state"),
        number: 1,
        address: address(&world, 1),
    }];
    start(&world, &app);
    let console = app.state.join("console.log");
    // Not there yet: refused at once, not sought outside.
    assert_eq!(written(&console), "No route\n");
    let db = member(&world, &app, 1, &serve("base"), &[&app]);
    start(&world, &db);
    let until = std::time::Instant::now() + DEADLINE;
    while std::fs::read_to_string(&console).unwrap_or_default() != "No route\nbase\n" {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
    // Linked with the database, not with the application; the host's rules stop all other ways.
    let script = format!(
        "until nc -w 1 db 80 2>/dev/null; do :; done; until nc -w 1 {} 80 2>/dev/null; do :; done; for to in {} {}; do nc -w 1 $to 80; done 2>/dev/null; ip route | head -1; cat /etc/resolv.conf | head -1",
        address(&world, 1),
        address(&world, 0),
        address(&world, 5),
    );
    let mut worker = member(&world, &app, 2, &script, &[&db]);
    worker.company.as_mut().unwrap().hosts = vec![(
        address(&world, 1).into(),
        vec!["db".to_owned(), "store".to_owned()],
    )];
    let (_, output) = world.run_spec(&worker);
    assert_eq!(
        output,
        "base\nbase\ndefault via 169.254.53.1 dev eth0 onlink \nnameserver 169.254.53.53\n"
    );
    let hosts = std::fs::read_to_string(world.upper(&worker).join("etc/hosts")).unwrap();
    let line = format!("{}\tdb store\n", address(&world, 1));
    assert!(
        hosts.contains(&line) && hosts.contains("localhost"),
        "{hosts}"
    );
    // A second start replaces the lines; what the user wrote stays. The link is made anew.
    std::fs::write(
        world.upper(&worker).join("etc/hosts"),
        format!("9.9.9.9 mine\n{hosts}"),
    )
    .unwrap();
    worker.company.as_mut().unwrap().hosts =
        vec![(address(&world, 1).into(), vec!["db".to_owned()])];
    let (_, again) = world.run_spec(&worker);
    assert_eq!(again, output.repeat(2));
    let hosts = std::fs::read_to_string(world.upper(&worker).join("etc/hosts")).unwrap();
    assert!(
        hosts.starts_with("9.9.9.9 mine\n") && !hosts.contains("store"),
        "{hosts}"
    );
    assert_eq!(hosts.matches("begin of services").count(), 1);
}

#[test]
fn a_private_member_has_no_way_out() {
    let world = World::with(|options| options.network = true);
    let app = owner(
        &world,
        "app",
        "while true; do nc -l -p 80 -e echo app; done",
        0,
    );
    start(&world, &app);
    let script = format!(
        "until nc -w 1 {} 80 2>/dev/null; do :; done; ip route; ip -o link | wc -l",
        address(&world, 0)
    );
    let mut inner = member(&world, &app, 1, &script, &[&app]);
    inner.network = Network::Private {
        address: address(&world, 1),
    };
    let (_, output) = world.run_spec(&inner);
    let route = format!(
        "app\n{0} dev svc0 scope link \nunreachable {0}  metric 1000 \n2\n",
        address(&world, 0)
    );
    assert_eq!(output, route);
}

#[test]
fn a_shared_network_is_the_others_with_its_root_and_its_names() {
    let world = World::with(|options| options.network = true);
    let app = owner(&world, "app", "sleep 1000", 0);
    let first = start(&world, &app);
    let mut beside = member(
        &world,
        &app,
        1,
        "ip addr add 10.9.9.9/32 dev eth0; ls -d /sys/class/net/eth0; ip -o addr | grep -c 10.9.9.9; nc -l -p 80 & cat /etc/resolv.conf | head -1; sleep 1000",
        &[],
    );
    beside.network = Network::Shared {
        state: app.state.clone(),
    };
    let second = start(&world, &beside);
    assert_eq!(namespace(first, "net"), namespace(second, "net"));
    assert_ne!(namespace(first, "pid"), namespace(second, "pid"));
    let console = beside.state.join("console.log");
    let until = std::time::Instant::now() + DEADLINE;
    while std::fs::read_to_string(&console)
        .unwrap_or_default()
        .lines()
        .count()
        < 3
    {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
    assert_eq!(
        written(&console),
        "/sys/class/net/eth0\n1\nnameserver 169.254.53.53\n"
    );
    // Its end leaves the other's network alone.
    world.sandboxes.remove(&beside.id, &beside.state).unwrap();
    assert!(Path::new(&format!("/proc/{first}/ns/net")).exists());
}

#[test]
fn the_end_of_the_environment_is_the_end_of_its_members() {
    let world = World::with(|options| options.network = true);
    let app = owner(&world, "app", "sleep 1000", 0);
    start(&world, &app);
    let db = member(&world, &app, 1, "sleep 1000", &[&app]);
    start(&world, &db);
    world.sandboxes.kill(&app.id, &app.state).unwrap();
    let observed = world.sandboxes.wait(&db.id, &db.state, DEADLINE).unwrap();
    assert!(
        matches!(
            observed,
            Observed::Exited {
                signal: Some(9),
                ..
            }
        ),
        "{observed:?}"
    );
    world.sandboxes.remove(&app.id, &app.state).unwrap();
    world.sandboxes.remove(&db.id, &db.state).unwrap();
    let refused = world.sandboxes.start(&db).unwrap_err();
    assert!(refused.to_string().contains("does not run"), "{refused}");
    let until = std::time::Instant::now() + DEADLINE;
    while !world.traces().is_empty() {
        assert!(std::time::Instant::now() < until, "{:?}", world.traces());
        std::thread::yield_now();
    }
}

#[test]
fn the_environments_limits_hold_for_the_sum() {
    let world = World::with(|options| options.network = true);
    let mut app = owner(&world, "app", "sleep 1000", 0);
    // Its shell ends when it cannot fork any more.
    let script = "i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i+1)); done 2>/dev/null; echo all";
    for (pids, expected) in [(Some(20), ""), (None, "all\n")] {
        app.limits.pids = pids;
        start(&world, &app);
        let db = member(&world, &app, 1, script, &[]);
        let (_, output) = world.run_spec(&db);
        assert_eq!(output, expected);
        std::fs::remove_file(db.state.join("console.log")).unwrap();
        world.sandboxes.remove(&app.id, &app.state).unwrap();
    }
}
