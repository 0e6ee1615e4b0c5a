//! What a probe is, and how it is run and judged.
//!
//! A probe is an attack: a script that init, a shell of the attacker's image, runs as root inside.
//! `probe` (`src/bin/sandbox-probe/`) does what a shell cannot say. What the attacker took is told
//! by lines that begin with `got`, or seen from the host ([`Probe::taken`]).
//!
//! Each probe runs
//! 1. against everything: it must be refused in the words of [`Probe::refused`], the host must be
//!    as it was and the neighbour must answer;
//! 2. without all of its [`Probe::walls`]: it must succeed, so that the probe is known to see it;
//! 3. where walls are several, once with each of them alone: each must refuse by itself.
//!
//! Where a success would harm the machine the attack stops short of it: it opens for writing and
//! writes nothing, or calls with what the kernel rejects only once it has let the caller pass.
//!
//! To add a probe, add it to the `probes!` of its group, and its row to docs/probes.md (the test
//! `listed` prints what is missing).

use crate::machine::in_own_network;
use crate::scene::Scene;
use boatyard_sandbox::Protection;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

/// One protection, and how a test does without it.
#[derive(Clone, Copy)]
pub(crate) enum Wall {
    /// Left out by the sandbox itself.
    Of(Protection),
    /// What it is, and the change of the scene that takes it away.
    Scene(&'static str, fn(&mut Scene)),
}

impl Wall {
    /// Its name, as docs/probes.md has it.
    pub(crate) fn name(self) -> String {
        match self {
            Wall::Of(protection) => format!("{protection:?}"),
            Wall::Scene(name, _) => name.to_owned(),
        }
    }
}

/// What a machine must have for a probe.
#[derive(Clone, Copy)]
pub(crate) enum Need {
    /// A file of the host's.
    File(&'static str),
    /// This version of cgroups.
    Cgroups(u8),
    /// A capability, and its number, that the machine's root has.
    Capability(&'static str, u8),
    /// A kernel that makes links of this kind on others.
    Link(&'static str),
    /// Processors as fast as what they are to be kept from.
    RealProcessors,
    /// A kernel of this version, or a later one.
    Kernel(u32, u32),
    /// A machine that nobody else uses (`make test-vm`): the attack, once it succeeds, changes it.
    OwnMachine,
}

impl Need {
    /// Why it cannot be tried here.
    fn missing(self) -> Option<String> {
        match self {
            Need::File(path) => {
                (!Path::new(path).exists()).then(|| format!("this kernel has no {path}"))
            }
            Need::Cgroups(version) => {
                let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
                let here = if unified { 2 } else { 1 };
                (here != version).then(|| format!("cgroups here are of version {here}"))
            }
            Need::Capability(name, number) => {
                let status = std::fs::read_to_string("/proc/self/status").unwrap();
                let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
                let all = u64::from_str_radix(line.unwrap_or("0").trim(), 16).unwrap();
                (all >> number & 1 == 0).then(|| format!("root has no {name} here"))
            }
            Need::Link(kind) => {
                let script = format!(
                    "ip link add by-try0 type veth peer name by-try1 && \
                     ip link add link by-try0 name by-try2 type {kind}"
                );
                let tried = std::process::Command::new("unshare")
                    .args(["--net", "sh", "-c", &script])
                    .output()
                    .unwrap();
                (!tried.status.success()).then(|| format!("this kernel makes no {kind}"))
            }
            Need::RealProcessors => {
                let text = std::fs::read_to_string("/proc/cpuinfo").unwrap();
                let emulated = text.contains("QEMU TCG");
                emulated.then(|| "these processors are emulated".to_owned())
            }
            Need::Kernel(major, minor) => {
                let release = rustix::system::uname();
                let release = release.release().to_string_lossy();
                let mut numbers = release.split('.').map(|number| number.parse::<u32>());
                let here = (numbers.next()?.ok()?, numbers.next()?.ok()?);
                (here < (major, minor)).then(|| format!("this is Linux {release}"))
            }
            Need::OwnMachine => std::env::var_os("BOATYARD_OWN_MACHINE")
                .is_none()
                .then(|| "it would change this machine".to_owned()),
        }
    }
}

/// One attack.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    /// Name of its test.
    pub(crate) name: &'static str,
    /// Its group.
    pub(crate) group: &'static str,
    /// What the attacker is after.
    pub(crate) aim: &'static str,
    /// The script. `{name}` is replaced by what [`Scene::say`] was told.
    pub(crate) attack: &'static str,
    /// What the refused attack says, one of these: another error would be a mistake of the probe's.
    pub(crate) refused: &'static [&'static str],
    /// The protections that refuse it, each by itself.
    pub(crate) walls: &'static [Wall],
    /// Left out beside them: what has to go before the attack could be seen to succeed.
    pub(crate) beside: &'static [Wall],
    /// Prepares the scene, before anything starts.
    pub(crate) prepare: fn(&mut Scene),
    /// What was taken while the attack holds what it has (it says `hold` and stays): seen from the
    /// host and the neighbour.
    pub(crate) during: Option<fn(&Scene) -> Option<String>>,
    /// What was taken as seen from the host, when the attack has ended; None for nothing.
    pub(crate) taken: fn(&Scene) -> Option<String>,
    /// Without these it is not tried at all.
    pub(crate) needs: &'static [Need],
    /// Without these only the refusal is tried.
    pub(crate) needs_to_succeed: &'static [Need],
    /// The neighbour's answers are timed and printed.
    pub(crate) timed: bool,
    /// What it is asked for each of them: a script that says `well`.
    pub(crate) question: &'static str,
}

impl Probe {
    /// A probe that does nothing; what is not said of one is taken from here.
    pub(crate) const PLAIN: Probe = Probe {
        name: "",
        group: "",
        aim: "",
        attack: "",
        refused: &[],
        walls: &[],
        beside: &[],
        prepare: |_| {},
        during: None,
        taken: |_| None,
        needs: &[],
        needs_to_succeed: &[],
        timed: false,
        question: "echo well",
    };
}

/// The probes of one group: a test for each, and all of them as `ALL`.
macro_rules! probes {
    ($group:literal; $($(#[doc = $aim:literal])+ $name:ident { $($field:ident: $value:expr),* $(,)? })*) => {
        pub(crate) const ALL: &[$crate::frame::Probe] = &[$($crate::frame::Probe {
            name: stringify!($name),
            group: $group,
            aim: concat!($($aim),+),
            $($field: $value,)*
            ..$crate::frame::Probe::PLAIN
        }),*];
        $($(#[doc = $aim])+ #[test] fn $name() {
            $crate::frame::run(ALL.iter().find(|probe| probe.name == stringify!($name)).unwrap());
        })*
    };
}

/// How an attack ended.
#[derive(Debug)]
enum Verdict {
    Refused,
    Took(String),
    /// Neither: the probe itself does not work.
    Broken,
}

/// Held by who changes the machine, and by all others together.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs a probe in all its ways.
pub(crate) fn run(probe: &Probe) {
    let needs = || probe.needs.iter().chain(probe.needs_to_succeed);
    let changes = needs().any(|need| matches!(need, Need::OwnMachine));
    let _alone = changes.then(|| MACHINE.write().unwrap_or_else(PoisonError::into_inner));
    let _beside = (!changes).then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner));
    // What these change of the host's network must not be this machine's.
    if probe.group == "network" && !in_own_network(&format!("network::{}", probe.name)) {
        return;
    }
    if let Some(why) = probe.needs.iter().find_map(|need| need.missing()) {
        println!("skipped: {why}");
        return;
    }
    let (verdict, said) = once(probe, &[]);
    assert!(
        matches!(verdict, Verdict::Refused),
        "{}: against everything: {verdict:?}; it said:\n{said}",
        probe.name
    );
    if let Some(why) = needs().find_map(|need| need.missing()) {
        println!("refused; whether it succeeds without its protection was not tried: {why}");
        return;
    }
    let all: Vec<Wall> = probe.walls.iter().chain(probe.beside).copied().collect();
    assert!(!all.is_empty(), "{}: nothing refuses it", probe.name);
    let (verdict, said) = once(probe, &all);
    assert!(
        matches!(verdict, Verdict::Took(_)),
        "{}: without {}: {verdict:?}; it said:\n{said}",
        probe.name,
        names(&all)
    );
    if probe.walls.len() < 2 {
        return;
    }
    for wall in probe.walls {
        let others: Vec<Wall> = all
            .iter()
            .filter(|other| other.name() != wall.name())
            .copied()
            .collect();
        let (verdict, said) = once(probe, &others);
        assert!(
            !matches!(verdict, Verdict::Took(_)),
            "{}: {} alone does not refuse it: {verdict:?}; it said:\n{said}",
            probe.name,
            wall.name()
        );
    }
}

fn names(walls: &[Wall]) -> String {
    let names: Vec<String> = walls.iter().map(|wall| wall.name()).collect();
    names.join(", ")
}

/// Runs the attack once, without `gone`.
fn once(probe: &Probe, gone: &[Wall]) -> (Verdict, String) {
    let mut scene = Scene::new(probe, gone);
    (probe.prepare)(&mut scene);
    for wall in gone {
        if let Wall::Scene(_, change) = wall {
            change(&mut scene);
        }
    }
    let (said, held) = scene.attack(probe);
    let got = said
        .lines()
        .find(|line| line.starts_with("got"))
        .map(str::to_owned);
    let got = if probe.during.is_some() { held } else { got };
    let verdict = match (probe.taken)(&scene).or(got) {
        Some(taken) => Verdict::Took(taken),
        None if !said.trim_end().ends_with("end") => Verdict::Broken,
        None if probe
            .refused
            .iter()
            .any(|words| said.contains(&scene.text(words))) =>
        {
            Verdict::Refused
        }
        None => Verdict::Broken,
    };
    scene.leave(&format!("{} without [{}]", probe.name, names(gone)));
    (verdict, said)
}
