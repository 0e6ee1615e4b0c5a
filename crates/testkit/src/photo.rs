//! What of a host can leak: taken before and after, and compared.
//!
//! Only what carries the test's own names or uses its own ranges is looked at, so that tests side
//! by side do not see each other.

use std::collections::BTreeSet;
use std::path::Path;

/// Everything of one daemon that is on the host outside its state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Photo {
    /// Mounts below the state directory, in the host's namespace.
    pub mounts: BTreeSet<String>,
    /// Cgroups of environments.
    pub cgroups: BTreeSet<String>,
    /// Routes to environments' addresses: what a leaked veth leaves.
    pub routes: BTreeSet<String>,
    /// Processes whose user id is in an environment's range.
    pub processes: BTreeSet<String>,
    /// Names below `envs` and `trash` of the state directory.
    pub directories: BTreeSet<String>,
}

/// Takes one: `prefix` names the cgroups, `addresses` the third byte of the routes' addresses.
pub fn take(state: &Path, prefix: &str, first_slot: u32) -> Photo {
    let mut photo = Photo::default();
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let state_text = state.to_str().unwrap();
    photo.mounts = text
        .lines()
        .filter(|line| line.contains(state_text))
        .map(str::to_owned)
        .collect();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        let environments = hierarchy.path().join(prefix).join("envs");
        for cgroup in std::fs::read_dir(environments)
            .into_iter()
            .flatten()
            .flatten()
        {
            if cgroup.path().is_dir() {
                photo.cgroups.insert(cgroup.path().display().to_string());
            }
        }
    }
    let [_, _, high, _] = (first_slot + 16).to_be_bytes();
    let net = format!("10.213.{high}.");
    let routes = std::process::Command::new("ip")
        .args(["route"])
        .output()
        .expect("tests need ip: apt-get install iproute2");
    photo.routes = String::from_utf8_lossy(&routes.stdout)
        .lines()
        .filter(|line| line.contains(&net))
        .map(str::to_owned)
        .collect();
    let (low, high) = (
        0x1000_0000 + u64::from(first_slot) * 262_144,
        0x1000_0000 + u64::from(first_slot + 64) * 262_144,
    );
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(status) = std::fs::read_to_string(process.path().join("status")) else {
            continue;
        };
        let uid: Option<u64> = status.lines().find_map(|line| {
            line.strip_prefix("Uid:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        if uid.is_some_and(|uid| (low..high).contains(&uid)) {
            photo
                .processes
                .insert(process.file_name().to_string_lossy().into_owned());
        }
    }
    for directory in ["envs", "trash"] {
        for entry in std::fs::read_dir(state.join(directory))
            .into_iter()
            .flatten()
            .flatten()
        {
            photo.directories.insert(format!(
                "{directory}/{}",
                entry.file_name().to_string_lossy()
            ));
        }
    }
    photo
}
