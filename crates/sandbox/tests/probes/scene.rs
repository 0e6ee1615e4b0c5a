//! The place of an attack: a host's worth of sandboxes with an attacker and a neighbour in it.

use crate::frame::{Probe, Wall};
use crate::neighbour::{Neighbour, Pulse};
use crate::world::World;
use boatyard_sandbox::Observed;
use boatyard_sandbox::spec::{ID_RANGE, Spec};
use std::any::Any;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An attack that takes longer has hung.
const LONGEST: Duration = Duration::from_secs(60);

/// What an attack finds.
pub(crate) struct Scene {
    pub(crate) world: World,
    /// The attacker's sandbox, before and after it ran.
    pub(crate) attacker: Spec,
    /// Another owner's, which runs meanwhile.
    pub(crate) neighbour: Spec,
    /// Things of the host's that live as long as the scene.
    pub(crate) kept: Vec<Box<dyn Any>>,
    words: Vec<(&'static str, String)>,
    /// Hostname, and whatever else of the host's an attack must not change.
    host: Vec<(PathBuf, Vec<u8>)>,
}

/// What of the host's is looked at before and after.
const HOST: [&str; 4] = [
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/kernel/modprobe",
];

impl Scene {
    pub(crate) fn new(probe: &Probe, gone: &[Wall]) -> Self {
        let world = World::with(|options| {
            options.network = probe.group == "network";
            // None is the resolver on loopback.
            options.resolv_conf = options.state_dir.with_file_name("resolv.conf");
            for wall in gone {
                if let Wall::Of(protection) = wall {
                    options.without.leave_out(*protection);
                }
            }
        });
        furnish(&world);
        // Tests run beside each other, in processes and threads: no two have ids in common.
        let place = (std::process::id() % 2048) * 4 + (world.number % 2) * 2;
        let mut attacker = world.spec("attacker", "");
        attacker.id_base = 1_500_000_000 + place * ID_RANGE;
        // A copy: an attack may be after it.
        let init = world.base.path().join("init");
        std::fs::copy("/bin/busybox", &init).unwrap();
        attacker.init.executable = init;
        let mut neighbour = world.spec("neighbour", "");
        neighbour.id_base = attacker.id_base + ID_RANGE;
        neighbour.init.executable = world.layer().join("bin/busybox");
        neighbour.init.argv = ["sh", "-c", "exec probe answer"]
            .map(str::to_owned)
            .to_vec();
        neighbour.init.listener = true;
        let host = HOST
            .iter()
            .filter_map(|path| Some((PathBuf::from(path), std::fs::read(path).ok()?)))
            .collect();
        Self {
            world,
            attacker,
            neighbour,
            kept: Vec::new(),
            words: Vec::new(),
            host,
        }
    }

    /// `{name}` in the attack is `value`.
    pub(crate) fn say(&mut self, name: &'static str, value: impl ToString) {
        self.words.retain(|(said, _)| *said != name);
        self.words.push((name, value.to_string()));
    }

    /// A text with what was said in it.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.words {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    /// A folder of the host's beside the sandboxes' own.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.world.base.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// What the neighbour's shell prints when it runs this script.
    pub(crate) fn neighbour_says(&self, script: &str) -> String {
        Neighbour::of(&self.neighbour).says(script)
    }

    /// Runs the attack beside a neighbour, to its end or until it holds what it has; answers what
    /// it said, and what it was seen to have taken while it held that.
    pub(crate) fn attack(&mut self, probe: &Probe) -> (String, Option<String>) {
        let sandboxes = self.world.sandboxes.clone();
        let running = sandboxes.start(&self.neighbour).unwrap();
        self.say("neighbour", running.init_pid);
        let script = self.text(&format!("{}\necho end", probe.attack));
        self.attacker.init.argv = vec!["sh".to_owned(), "-c".to_owned(), script];
        let neighbour = Neighbour::of(&self.neighbour);
        neighbour.answers();
        let pulse = probe
            .timed
            .then(|| Pulse::start(&self.neighbour, probe.question));
        sandboxes.start(&self.attacker).unwrap();
        let mut held = None;
        let said = match probe.during {
            None => {
                let spec = &self.attacker;
                let ended = sandboxes.wait(&spec.id, &spec.state, LONGEST).unwrap();
                let log = spec.state.join("console.log");
                let mut said = std::fs::read_to_string(log).unwrap_or_default();
                let Observed::Exited { code, .. } = ended else {
                    panic!("{} did not end: {ended:?}; it said: {said}", probe.name);
                };
                if code.is_none() {
                    said.push_str("\nended\nend\n");
                }
                said
            }
            Some(during) => {
                let mut said = self.holds();
                held = during(self);
                sandboxes
                    .kill(&self.attacker.id, &self.attacker.state)
                    .unwrap();
                said.push_str("end\n");
                said
            }
        };
        if let Some(pulse) = pulse {
            println!("{}: the neighbour's answers: {}", probe.name, pulse.end());
        }
        (said, held)
    }

    /// Waits until the attacker says that it holds what it has; answers what it said.
    fn holds(&self) -> String {
        let log = self.attacker.state.join("console.log");
        let deadline = Instant::now() + LONGEST;
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.lines().any(|line| line == "hold") {
                return said;
            }
            assert!(Instant::now() < deadline, "it does not hold: {said}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Removes everything; the neighbour must have stayed well and the host as it was.
    pub(crate) fn leave(mut self, what: &str) {
        Neighbour::of(&self.neighbour).answers();
        for spec in [&self.attacker, &self.neighbour] {
            self.world.sandboxes.remove(&spec.id, &spec.state).unwrap();
        }
        self.kept.clear();
        let traces = self.world.traces();
        assert!(traces.is_empty(), "{what} left {traces:?}");
        for (path, before) in &self.host {
            let now = std::fs::read(path).unwrap();
            assert_eq!(&now, before, "{what} changed {}", path.display());
        }
    }
}

/// Runs the helper on the host; answers what it printed.
pub(crate) fn probe(words: &[&str]) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sandbox-probe"))
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "probe {words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Puts `probe` and what it is linked with into the image.
fn furnish(world: &World) {
    let layer = world.layer();
    std::fs::copy(env!("CARGO_BIN_EXE_sandbox-probe"), layer.join("bin/probe")).unwrap();
    // It is linked with what this program is linked with.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut libraries: Vec<&Path> = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains(".so"))
        .map(Path::new)
        .collect();
    libraries.dedup();
    for directory in ["lib64", "lib"] {
        let directory = layer.join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        for library in &libraries {
            let target = directory.join(library.file_name().unwrap());
            std::fs::copy(library, target).unwrap();
        }
    }
}
