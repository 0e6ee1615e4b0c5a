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
    /// Loop devices backed by files below the state directory.
    pub loops: Vec<String>,
    /// Cgroups of environments.
    pub cgroups: BTreeSet<String>,
    /// Routes to environments' addresses: what a leaked veth leaves.
    pub routes: BTreeSet<String>,
    /// Processes whose user id is in an environment's range.
    pub processes: BTreeSet<String>,
    /// How many processes are in the cgroup of spawner and monitors.
    pub helpers: usize,
    /// Names below `envs` and `trash` of the state directory.
    pub directories: BTreeSet<String>,
}

/// Whether a process has ended; a zombie has.
pub fn ended(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).map_or(true, |status| {
        status.contains("\nState:\tZ") || status.contains("\nState:\tX")
    })
}

/// Routes to addresses of the 256 slots from `first_slot` on.
pub fn routes(first_slot: u32) -> BTreeSet<String> {
    let [_, _, high, _] = (first_slot + 16).to_be_bytes();
    let net = format!("10.213.{high}.");
    let routes = std::process::Command::new("ip")
        .args(["route"])
        .output()
        .expect("tests need ip: apt-get install iproute2");
    String::from_utf8_lossy(&routes.stdout)
        .lines()
        .filter(|line| line.contains(&net))
        .map(str::to_owned)
        .collect()
}

/// Names of the host's interfaces that were made for the environment with this uid.
pub fn links(uid: &str) -> Vec<String> {
    let interfaces = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    let of = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("ifalias")).is_ok_and(|text| text.trim() == uid)
    };
    interfaces
        .filter(of)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Names of the devices that the environment with this uid may have on the host: the end of its link,
/// and where it is limited what it sends, and what it receives, is led through. `prefix` names the
/// daemon's cgroups.
pub fn devices(prefix: &str, uid: &str) -> [String; 3] {
    let hash = format!("{prefix}/{uid}")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    ["by-", "byi", "byj"].map(|kind| {
        let mut name = format!("{kind}{:016x}", hash ^ (hash >> 29));
        name.truncate(15);
        name
    })
}

/// The daemon's firewall table, without counts.
pub fn rules(prefix: &str) -> String {
    let table = std::process::Command::new("nft")
        .args(["-s", "list", "table", "inet", prefix])
        .output()
        .unwrap();
    String::from_utf8_lossy(&table.stdout).into_owned()
}

/// Devices and chains named after an environment, whatever else is said of them.
pub fn traces(prefix: &str, uid: &str) -> Vec<String> {
    let names = devices(prefix, uid);
    let found = names
        .iter()
        .filter(|name| Path::new("/sys/class/net").join(name).exists());
    let mut found: Vec<String> = found.cloned().collect();
    let rules = rules(prefix);
    let lines = rules.lines().filter(|line| line.contains(&names[0]));
    found.extend(lines.map(str::to_owned));
    found
}

/// Loop devices backed by files below a folder.
pub fn loops(below: &Path) -> Vec<String> {
    let devices = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten();
    let below = below.to_str().unwrap();
    let ours = |device: &std::fs::DirEntry| {
        std::fs::read_to_string(device.path().join("loop/backing_file"))
            .is_ok_and(|file| file.contains(below))
    };
    devices
        .filter(ours)
        .map(|device| device.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The spawner and the monitors.
fn helpers(prefix: &str) -> BTreeSet<String> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|hierarchy| hierarchy.path());
    let files = hierarchies
        .chain(["/sys/fs/cgroup".into()])
        .map(|hierarchy| hierarchy.join(prefix).join("monitors/cgroup.procs"));
    files
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// What a daemon changed on the host that outlives it: its firewall table and its cgroups.
pub fn standing(prefix: &str) -> BTreeSet<String> {
    let tables = std::process::Command::new("nft")
        .args(["list", "tables"])
        .output()
        .unwrap();
    let tables = String::from_utf8(tables.stdout).unwrap();
    let tables = tables
        .lines()
        .filter(|line| line.ends_with(&format!(" {prefix}")));
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let cgroups = hierarchies
        .map(|hierarchy| hierarchy.path())
        .chain(["/sys/fs/cgroup".into()])
        .map(|hierarchy| hierarchy.join(prefix))
        .filter(|cgroup| cgroup.exists())
        .map(|cgroup| cgroup.display().to_string());
    tables.map(str::to_owned).chain(cgroups).collect()
}

/// Removes what a daemon that has ended leaves on the host by design: its table and its cgroups,
/// as far as they are empty.
pub fn clear(prefix: &str) {
    let table = format!("table inet {prefix} {{}}; delete table inet {prefix}");
    let _ = std::process::Command::new("nft").arg(table).output();
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    for hierarchy in hierarchies {
        let root = hierarchy.path().join(prefix);
        for below in ["envs", "monitors", "system"] {
            let _ = std::fs::remove_dir(root.join(below));
        }
        let _ = std::fs::remove_dir(root);
    }
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
    photo.loops = loops(state);
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
    photo.helpers = helpers(prefix).len();
    photo.routes = routes(first_slot);
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
