//! Starts and removes sandboxes and prints how long each part took: `sandbox-measure LAYER INIT [N] [net|none] [ARGV...]`.
//!
//! `sandbox-measure join-system ROOT` joins the system cgroup and prints where it stands.
//! With arguments after `net` (or `none`) PID 1 gets those, and its output and exit are printed.
//! Also the program whose spawner the crate's tests use.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program for people"
)]

use boatyard_sandbox::spec::{Id, Init, Limits, Network, Root, Spec};
use boatyard_sandbox::{Options, SPAWNER_ARGUMENT, Sandboxes, spawner_main};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments
        .get(1)
        .is_some_and(|first| first == SPAWNER_ARGUMENT)
    {
        return spawner_main();
    }
    if let [_, word, root] = arguments.as_slice()
        && word == "join-system"
    {
        let sandboxes = Sandboxes::open(Options {
            cgroup_root: root.clone(),
            network: false,
            ..Options::default()
        })
        .unwrap();
        sandboxes.join_system().unwrap();
        print!("{}", std::fs::read_to_string("/proc/self/cgroup").unwrap());
        return ExitCode::SUCCESS;
    }
    let Some([layer, init]) = arguments.get(1..3) else {
        println!("usage: sandbox-measure LAYER INIT [N] [net|none] [ARGV...]");
        return ExitCode::FAILURE;
    };
    let rounds: u32 = arguments.get(3).map_or(50, |n| n.parse().unwrap());
    let network = arguments.get(4).is_some_and(|word| word == "net");
    let argv: Vec<String> = arguments.get(5..).unwrap_or_default().to_vec();
    let shows = !argv.is_empty();
    let base = PathBuf::from(format!("/var/tmp/sandbox-measure-{}", std::process::id()));
    std::fs::create_dir(&base).unwrap();
    let sandboxes = Sandboxes::open(Options {
        cgroup_root: format!("boatyard-test-measure-{}", std::process::id()),
        table: format!("boatyard_test_measure_{}", std::process::id()),
        interface_prefix: "btm".to_owned(),
        state_dir: base.join("host"),
        network,
        ..Options::default()
    })
    .unwrap();
    let (mut starts, mut ends, mut removes, mut totals) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds {
        let directory = base.join(format!("e{round}"));
        for name in ["state", "upper", "work"] {
            std::fs::create_dir_all(directory.join(name)).unwrap();
        }
        let spec = Spec {
            id: Id::try_from(format!("measure-{round}")).unwrap(),
            id_base: 1_000_000_000,
            state: directory.join("state"),
            hostname: "measure".to_owned(),
            root: Root::Overlay {
                layers: vec![PathBuf::from(layer)],
                upper: directory.join("upper"),
                work: directory.join("work"),
            },
            mounts: vec![],
            network: if network {
                Network::Routed {
                    address: Ipv4Addr::new(10, 213, 0, 2),
                }
            } else {
                Network::None
            },
            limits: Limits {
                cpu_millis: Some(1000),
                memory_bytes: Some(1 << 28),
                pids: Some(100),
            },
            init: Init {
                executable: PathBuf::from(init),
                argv: if shows {
                    argv.clone()
                } else {
                    vec!["true".to_owned()]
                },
                env: vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
                listener: false,
            },
            nofile: None,
            rlimits: Vec::new(),
            devices: vec![],
            company: None,
            swap: boatyard_sandbox::spec::Swap::default(),
            egress: None,
        };
        let began = Instant::now();
        sandboxes.start(&spec).unwrap();
        let started = Instant::now();
        sandboxes
            .wait(&spec.id, &spec.state, Duration::from_secs(600))
            .unwrap();
        let ended = Instant::now();
        if shows {
            let console = std::fs::read_to_string(spec.state.join("console.log"));
            print!("{}", console.unwrap_or_default());
        }
        sandboxes.remove(&spec.id, &spec.state).unwrap();
        let removed = Instant::now();
        starts.push(started - began);
        ends.push(ended - started);
        removes.push(removed - ended);
        totals.push(removed - began);
    }
    if shows {
        sandboxes.teardown_host().unwrap();
        std::fs::remove_dir_all(&base).unwrap();
        return ExitCode::SUCCESS;
    }
    for (name, times) in [
        ("start", &mut starts),
        ("exit", &mut ends),
        ("remove", &mut removes),
        ("total", &mut totals),
    ] {
        times.sort();
        let at = |percent: usize| -> Duration { times[(times.len() - 1) * percent / 100] };
        println!(
            "{name:7} p50 {:>9.2?}  p99 {:>9.2?}  min {:>9.2?}",
            at(50),
            at(99),
            at(0)
        );
    }
    sandboxes.teardown_host().unwrap();
    std::fs::remove_dir_all(&base).unwrap();
    ExitCode::SUCCESS
}
