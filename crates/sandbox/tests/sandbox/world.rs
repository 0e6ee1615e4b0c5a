//! A host's worth of sandboxes under names of its own, removed when dropped.

use boatyard_sandbox::spec::{Id, Init, Limits, Network, Root, Spec};
use boatyard_sandbox::{Observed, Options, Sandboxes};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longest anything may take, by emulation on a busy host too.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct World {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) options: Options,
    pub(crate) base: tempfile::TempDir,
    pub(crate) number: u32,
}

/// The program whose spawner is used, built with the tests.
pub(crate) fn executable() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_sandbox-measure"))
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "sandbox tests need root: run them by sudo"
        );
        assert!(
            Path::new("/bin/busybox").exists(),
            "sandbox tests need a static busybox: apt-get install busybox-static"
        );
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = std::process::id() % 0xfff * 0x100 + number;
        let base = tempfile::Builder::new()
            .prefix("boatyard-sandbox-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let mut options = Options {
            executable: executable(),
            cgroup_root: format!("boatyard-test-{unique:x}"),
            table: format!("boatyard_test_{unique:x}"),
            interface_prefix: format!("{unique:06x}").chars().rev().take(6).collect(),
            state_dir: base.path().join("host"),
            network: false,
            ..Options::default()
        };
        change(&mut options);
        let layer = base.path().join("layer");
        for directory in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "usr/lib"] {
            std::fs::create_dir_all(layer.join(directory)).unwrap();
        }
        std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
        let status = std::process::Command::new("/bin/busybox")
            .args(["--list"])
            .output()
            .unwrap();
        for applet in String::from_utf8(status.stdout).unwrap().lines() {
            if applet != "busybox" {
                std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
            }
        }
        std::fs::write(
            layer.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\ndev:x:1000:1000::/:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(layer.join("etc/from-layer"), "layer\n").unwrap();
        Self {
            sandboxes: Sandboxes::open(options.clone()).unwrap(),
            options,
            base,
            number,
        }
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.base.path().join("layer")
    }

    /// A sandbox whose PID 1 is a shell running `script`.
    pub(crate) fn spec(&self, name: &str, script: &str) -> Spec {
        let directory = self.base.path().join(name);
        for part in ["state", "upper", "work"] {
            std::fs::create_dir_all(directory.join(part)).unwrap();
        }
        Spec {
            id: Id::try_from(name.to_owned()).unwrap(),
            id_base: 1_000_000_000 + self.number * boatyard_sandbox::spec::ID_RANGE,
            state: directory.join("state"),
            hostname: "harbour".to_owned(),
            root: Root::Overlay {
                layers: vec![self.layer()],
                upper: directory.join("upper"),
                work: directory.join("work"),
            },
            mounts: vec![],
            network: Network::None,
            limits: Limits::default(),
            init: Init {
                executable: "/bin/busybox".into(),
                argv: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
                env: vec!["PATH=/bin".to_owned(), "HOME=/root".to_owned()],
                listener: false,
            },
            nofile: None,
            rlimits: Vec::new(),
            devices: vec![],
            company: None,
            swap: boatyard_sandbox::spec::Swap::default(),
            egress: None,
        }
    }

    pub(crate) fn upper(&self, spec: &Spec) -> PathBuf {
        spec.state.parent().unwrap().join("upper")
    }

    /// Waits for the end; answers exit code and output.
    pub(crate) fn finish(&self, spec: &Spec) -> (Option<i32>, String) {
        let observed = self
            .sandboxes
            .wait(&spec.id, &spec.state, DEADLINE)
            .unwrap();
        let output = std::fs::read_to_string(spec.state.join("console.log")).unwrap_or_default();
        match observed {
            Observed::Exited { code, .. } => (code, output),
            other => panic!("{} did not end: {other:?}; it said: {output}", spec.id),
        }
    }

    /// Runs a sandbox to its end and removes it.
    pub(crate) fn run_spec(&self, spec: &Spec) -> (Option<i32>, String) {
        self.sandboxes.start(spec).unwrap();
        let result = self.finish(spec);
        self.sandboxes.remove(&spec.id, &spec.state).unwrap();
        result
    }

    pub(crate) fn run(&self, script: &str) -> (Option<i32>, String) {
        self.run_spec(&self.spec("one", script))
    }

    /// The top cgroups of these sandboxes.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        Self::mounted()
            .into_iter()
            .map(|mount| mount.join(&self.options.cgroup_root))
            .filter(|path| path.exists())
            .collect()
    }

    /// How many hierarchies sandboxes use here: all of version 1, or version 2 alone.
    pub(crate) fn hierarchies() -> usize {
        let lines = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        lines
            .lines()
            .filter(|l| !l.starts_with("0::"))
            .count()
            .max(1)
    }

    fn mounted() -> Vec<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts
            .lines()
            .filter(|line| line.contains(" - cgroup"))
            .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
            .collect()
    }

    /// A sandbox's cgroups that are there.
    pub(crate) fn cgroups_of(root: &str, path: &str) -> Vec<PathBuf> {
        Self::mounted()
            .into_iter()
            .map(|mount| mount.join(root).join("envs").join(path))
            .filter(|path| path.exists())
            .collect()
    }

    /// Every trace of these sandboxes on the host.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .sandboxes
            .list_leftovers()
            .unwrap()
            .into_iter()
            .map(String::from)
            .collect();
        let base = self.base.path().to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(
            mounts
                .lines()
                .filter(|l| l.contains(base))
                .map(str::to_owned),
        );
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(cgroups) = std::fs::read_to_string(process.path().join("cgroup")) else {
                continue;
            };
            let below = format!("/{}/envs/", self.options.cgroup_root);
            if cgroups.contains(&below) {
                found.push(format!("process {}", process.path().display()));
            }
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.base.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().into_string().unwrap_or_default();
            let state = entry.path().join("state");
            if state.exists()
                && let Ok(id) = Id::try_from(name)
            {
                let _ = self.sandboxes.remove(&id, &state);
            }
        }
        let _ = self.sandboxes.teardown_host();
    }
}
