//! The sandbox alone beside crun: the same namespaces (a user namespace among them), limits and a
//! network namespace without a way out; each runs busybox's `true` and is removed.
//!
//! Ours also mounts an overlay of the layer with mapped ids, which crun is spared: its root is a
//! folder. The floor is util-linux's `unshare` of the same namespaces, which sets up nothing.

use crate::figures::{Contender, Table, time};
use crate::{output, quiet};
use boatyard_sandbox::spec::{Id, Init, Limits, Network, Root, Spec};
use boatyard_sandbox::{Options, Sandboxes};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const ID_BASE: u32 = 1_000_000_000;
const GROUP: &str = "boatyard-test-bench";

pub(crate) fn run(rounds: usize, table: &mut Table) {
    let folder = tempfile::Builder::new()
        .prefix("boatyard-bench-")
        .tempdir_in("/var/tmp")
        .unwrap();
    let base = folder.path();
    let layer = base.join("layer");
    for below in ["bin", "proc", "sys", "dev", "etc", "run", "tmp"] {
        std::fs::create_dir_all(layer.join(below)).unwrap();
    }
    std::fs::copy("/bin/busybox", layer.join("bin/true")).unwrap();
    let bundle = base.join("bundle");
    bundled(&bundle, &layer);
    let open = |network: bool| {
        Sandboxes::open(Options {
            cgroup_root: GROUP.to_owned(),
            table: "boatyard_test_bench".to_owned(),
            interface_prefix: "btb".to_owned(),
            state_dir: base.join("host"),
            network,
            ..Options::default()
        })
        .unwrap()
    };
    let sandboxes = open(true);
    let mut contenders = [
        Contender::new("`crun create`, `start`, `delete`"),
        Contender::new("`crun run`"),
        Contender::new("sandbox: start, exit, remove"),
        Contender::new("sandbox with a routed interface"),
        Contender::new("floor: `unshare` of the namespaces"),
    ];
    for round in 0..=rounds {
        let name = format!("bench-{round}");
        let steps = time(|| {
            quiet(
                crun(base)
                    .args(["create", "--bundle"])
                    .arg(&bundle)
                    .arg(&name),
            );
            quiet(crun(base).args(["start", &name]));
            quiet(crun(base).args(["delete", "--force", &name]));
        });
        let one = time(|| {
            drop(output(
                crun(base).args(["run", "--bundle"]).arg(&bundle).arg(&name),
            ))
        });
        let alone = sandboxed(&sandboxes, base, &layer, round, Network::None);
        let routed = Network::Routed {
            address: Ipv4Addr::new(10, 213, 0, 2),
        };
        let routed = sandboxed(&sandboxes, base, &layer, round, routed);
        let floor = time(|| {
            let all = [
                "--user",
                "--map-root-user",
                "--pid",
                "--fork",
                "--net",
                "--mount",
                "--ipc",
                "--uts",
                "--cgroup",
            ];
            output(
                Command::new("unshare")
                    .args(all)
                    .arg(layer.join("bin/true")),
            );
        });
        if round > 0 {
            for (contender, took) in contenders
                .iter_mut()
                .zip([steps, one, alone, routed, floor])
            {
                contender.add(took);
            }
        }
    }
    sandboxes.teardown_host().unwrap();
    table.compare("The sandbox alone", &contenders);
}

fn crun(base: &Path) -> Command {
    let mut command = Command::new("crun");
    command.arg("--root").arg(base.join("crun"));
    command
}

/// A bundle for crun.
fn bundled(bundle: &Path, layer: &Path) {
    std::fs::create_dir_all(bundle).unwrap();
    output(
        Command::new("cp")
            .arg("-a")
            .arg(layer)
            .arg(bundle.join("rootfs")),
    );
    output(
        Command::new("chown")
            .args(["-R", &format!("{ID_BASE}:{ID_BASE}")])
            .arg(bundle.join("rootfs")),
    );
    output(Command::new("crun").arg("spec").current_dir(bundle));
    let path = bundle.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["process"]["args"] = serde_json::json!(["/bin/true"]);
    config["process"]["terminal"] = false.into();
    config["root"]["readonly"] = false.into();
    let kinds = ["user", "pid", "network", "ipc", "uts", "mount", "cgroup"];
    config["linux"]["namespaces"] = kinds
        .iter()
        .map(|kind| serde_json::json!({"type": kind}))
        .collect();
    let map = serde_json::json!([{"containerID": 0, "hostID": ID_BASE, "size": 262_144}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["cgroupsPath"] = format!("/{GROUP}-crun").into();
    config["linux"]["resources"] = serde_json::json!({"memory": {"limit": 1 << 28}, "pids": {"limit": 100},
        "cpu": {"quota": 100_000, "period": 100_000}});
    config["linux"]["seccomp"] = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot",
            "swapon", "swapoff", "open_by_handle_at", "bpf", "perf_event_open", "userfaultfd", "add_key", "request_key", "keyctl"],
            "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]});
    std::fs::write(path, config.to_string()).unwrap();
}

fn sandboxed(
    sandboxes: &Sandboxes,
    base: &Path,
    layer: &Path,
    round: usize,
    network: Network,
) -> Duration {
    let directory = base.join("sandbox");
    let _ = std::fs::remove_dir_all(&directory);
    for name in ["state", "upper", "work"] {
        std::fs::create_dir_all(directory.join(name)).unwrap();
    }
    let spec = Spec {
        id: Id::try_from(format!("bench-{round}")).unwrap(),
        id_base: ID_BASE,
        state: directory.join("state"),
        hostname: "bench".to_owned(),
        root: Root::Overlay {
            layers: vec![layer.to_owned()],
            upper: directory.join("upper"),
            work: directory.join("work"),
        },
        mounts: vec![],
        network,
        limits: Limits {
            cpu_millis: Some(1000),
            memory_bytes: Some(1 << 28),
            pids: Some(100),
        },
        init: Init {
            executable: PathBuf::from("/bin/busybox"),
            argv: vec!["true".to_owned()],
            env: vec![],
            listener: false,
        },
        nofile: None,
        rlimits: Vec::new(),
        devices: vec![],
        company: None,
        swap: boatyard_sandbox::spec::Swap::default(),
        egress: None,
    };
    time(|| {
        sandboxes.start(&spec).unwrap();
        sandboxes
            .wait(&spec.id, &spec.state, Duration::from_secs(60))
            .unwrap();
        sandboxes.remove(&spec.id, &spec.state).unwrap();
    })
}
