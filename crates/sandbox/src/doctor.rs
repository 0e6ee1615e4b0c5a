//! Whether this host can hold sandboxes, with a remedy for what is missing.
//!
//! Owns the checks `boatyard doctor` prints for a host; each tries the thing itself where that is
//! harmless, rather than guessing from versions. Changes nothing that outlives the call.

use crate::cgroup;
use crate::root::IdMaps;
use crate::sys::mounts::{Attributes, set_attributes};
use rustix::mount::{FsOpenFlags, OpenTreeFlags};
use std::os::fd::AsFd;
use std::path::Path;

/// One thing checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether sandboxes work as far as this goes.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do when it is not ok; empty otherwise.
    pub remedy: String,
}

/// Checks this host, with the state directory at its usual place.
#[must_use]
pub fn doctor() -> Vec<Check> {
    doctor_for(Path::new("/var/lib"))
}

/// Checks this host; `state` is a directory on the file system that will hold environments.
#[must_use]
pub fn doctor_for(state: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |name: &str, result: Result<String, String>, remedy: &str| {
        let ok = result.is_ok();
        checks.push(Check {
            name: name.to_owned(),
            ok,
            detail: result.unwrap_or_else(|error| error),
            remedy: if ok { String::new() } else { remedy.to_owned() },
        });
    };
    let root = rustix::process::geteuid().is_root();
    add(
        "root",
        good(root, "running as root", "not running as root"),
        "run the daemon as root (sudo boatyard ...)",
    );
    let (major, minor) = kernel_version();
    add(
        "kernel",
        good(
            (major, minor) >= (5, 19),
            &format!("{major}.{minor}"),
            &format!("{major}.{minor} is older than 5.19"),
        ),
        "install a kernel of version 5.19 or newer",
    );
    add(
        "user namespaces",
        user_namespaces(),
        "enable them: sysctl -w user.max_user_namespaces=65536",
    );
    add(
        "idmapped mounts",
        idmapped(state),
        "put the state directory on ext4, xfs or btrfs",
    );
    add(
        "disk limits",
        crate::disk::offered(state),
        "install e2fsprogs and load the loop module, or mount the state directory's ext4 or XFS with prjquota",
    );
    add(
        "overlay",
        rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map(|_| "the kernel has it".to_owned())
            .map_err(|error| format!("the kernel refuses it: {error}")),
        "load it: modprobe overlay",
    );
    let (version, names, limits) = cgroup::describe();
    add(
        "cgroups",
        good(
            limits,
            &format!("{version}: {}", names.join(" ")),
            &format!(
                "{version}: {} lacks one of cpu, memory, pids",
                names.join(" ")
            ),
        ),
        "boot with cgroup v2 and the cpu, memory and pids controllers (systemd.unified_cgroup_hierarchy=1)",
    );
    add(
        "device filter",
        cgroup::device_filter().map(str::to_owned),
        "use a kernel with CONFIG_CGROUP_BPF, or mount the devices controller of cgroup v1",
    );
    add(
        "nftables",
        nftables(),
        "install it: apt-get install nftables",
    );
    let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    add(
        "ip_forward",
        match forward.as_deref().map(str::trim) {
            Ok("1") => Ok("on".to_owned()),
            Ok(_) => Ok(
                "off; switched on while environments may run, and back by uninstalling".to_owned(),
            ),
            Err(error) => Err(error.to_string()),
        },
        "the kernel needs IPv4",
    );
    for (name, path, module) in [
        ("FUSE", "/dev/fuse", "fuse"),
        ("tun", "/dev/net/tun", "tun"),
    ] {
        add(
            name,
            good(
                Path::new(path).exists(),
                path,
                &format!("{path} is missing: programs that need it fail inside"),
            ),
            &format!("load it: modprobe {module}"),
        );
    }
    checks
}

fn good(ok: bool, detail: &str, problem: &str) -> Result<String, String> {
    if ok {
        Ok(detail.to_owned())
    } else {
        Err(problem.to_owned())
    }
}

fn user_namespaces() -> Result<String, String> {
    let text = std::fs::read_to_string("/proc/sys/user/max_user_namespaces")
        .map_err(|error| error.to_string())?;
    let most: u64 = text.trim().parse().unwrap_or(0);
    good(
        most >= 64,
        &format!("up to {most}"),
        &format!("only {most} allowed"),
    )
}

fn nftables() -> Result<String, String> {
    let found = [
        "/usr/sbin/nft",
        "/sbin/nft",
        "/usr/bin/nft",
        "/usr/local/sbin/nft",
    ]
    .into_iter()
    .find(|path| Path::new(path).exists());
    found.map_or_else(
        || Err("the program nft is missing".to_owned()),
        |path| Ok(path.to_owned()),
    )
}

/// Tries an idmapped clone of the nearest existing directory, never attached anywhere.
fn idmapped(state: &Path) -> Result<String, String> {
    let there = state
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let tree = rustix::mount::open_tree(
        rustix::fs::CWD,
        there,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .map_err(|error| error.to_string())?;
    let userns = IdMaps::environment(1_000_000_000)
        .namespace()
        .map_err(|error| format!("no user namespace to map by: {error}"))?;
    set_attributes(tree.as_fd(), Attributes::default(), Some(userns.as_fd()))
        .map(|()| format!("{} can be shifted", there.display()))
        .map_err(|error| format!("{} cannot be shifted: {error}", there.display()))
}

/// Major and minor version of the running kernel; (0, 0) when unreadable.
pub(crate) fn kernel_version() -> (u32, u32) {
    let name = rustix::system::uname();
    let text = name.release().to_string_lossy();
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    (next(), next())
}
