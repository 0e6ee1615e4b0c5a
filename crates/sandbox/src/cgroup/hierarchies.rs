//! The cgroup hierarchies mounted on this host, and what is written to them.

use super::devices;
use crate::protection::{self, Protection};
use crate::spec::Spec;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// One mounted hierarchy.
#[derive(Debug)]
pub(super) struct Hierarchy {
    /// Controllers, or the name of one without: `cpu,cpuacct`, `name=systemd`, `unified`.
    pub(super) name: String,
    /// Where its root is mounted.
    pub(super) mount: PathBuf,
    /// Version 2.
    pub(super) unified: bool,
    /// Controllers.
    controllers: Vec<String>,
}

/// How many cgroups an environment of version 2 may make, and how deep: some for every container
/// inside and every service in one.
const DESCENDANTS: u32 = 10_000;
const DEPTH: u32 = 64;

static ALL: OnceLock<Vec<Hierarchy>> = OnceLock::new();

/// The hierarchies in use, found once per process.
pub(super) fn all() -> &'static [Hierarchy] {
    ALL.get_or_init(|| {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        choose(parse(&mounts))
    })
}

/// Finds the hierarchies now: called by the spawner, so that no monitor has to.
pub(crate) fn discover() {
    let _ = all();
}

/// What is in use, for `doctor`: the version, the names, and whether limits can be set.
pub(crate) fn describe() -> (&'static str, Vec<String>, bool) {
    let all = all();
    let version = if all.iter().any(|hierarchy| hierarchy.unified) {
        "v2"
    } else {
        "v1"
    };
    let limits = ["cpu", "memory", "pids"]
        .iter()
        .all(|name| all.iter().any(|hierarchy| hierarchy.has(name)));
    let names = all.iter().map(|hierarchy| hierarchy.name.clone()).collect();
    (version, names, limits)
}

/// How devices are held back here, for `doctor`.
pub(crate) fn device_filter() -> Result<&'static str, String> {
    let all = all();
    if all.iter().any(|hierarchy| hierarchy.unified) {
        return devices::loads()
            .map(|()| "by a program of the cgroup")
            .map_err(|error| format!("the kernel takes no program for it: {error}"));
    }
    if all.iter().any(|hierarchy| hierarchy.has("devices")) {
        return Ok("by the devices controller");
    }
    Err("no devices controller is mounted".to_owned())
}

/// Reads /proc/self/mountinfo.
fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(root), Some(mount), Some(kind)) = (left.get(3), left.get(4), right.first())
        else {
            continue;
        };
        if *root != "/" || !matches!(*kind, "cgroup" | "cgroup2") {
            continue;
        }
        let mount = PathBuf::from(mount);
        let unified = *kind == "cgroup2";
        let controllers: Vec<String> = if unified {
            std::fs::read_to_string(mount.join("cgroup.controllers"))
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect()
        } else {
            right
                .get(2)
                .unwrap_or(&"")
                .split(',')
                .filter(|option| {
                    !matches!(
                        *option,
                        "rw" | "ro" | "clone_children" | "xattr" | "noprefix"
                    ) && !option.starts_with("release_agent=")
                })
                .map(str::to_owned)
                .collect()
        };
        let name = if unified {
            "unified".to_owned()
        } else {
            controllers.join(",")
        };
        if !found.iter().any(|hierarchy| hierarchy.name == name) {
            found.push(Hierarchy {
                name,
                mount,
                unified,
                controllers,
            });
        }
    }
    found
}

/// Version 2 where it can limit, else version 1.
fn choose(mut found: Vec<Hierarchy>) -> Vec<Hierarchy> {
    let full = found.iter().any(|hierarchy| {
        hierarchy.unified
            && ["cpu", "memory", "pids"]
                .iter()
                .all(|name| hierarchy.has(name))
    });
    found.retain(|hierarchy| hierarchy.unified == full);
    found
}

impl Hierarchy {
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// Whether classes are made here: where processor time is shared or counted.
    pub(super) fn has_classes(&self) -> bool {
        self.shares_processor() || self.has("cpuacct")
    }

    /// Whether processor time is shared here.
    pub(super) fn shares_processor(&self) -> bool {
        self.unified || self.has("cpu")
    }

    pub(super) fn environments(&self, root: &str) -> PathBuf {
        self.mount.join(root).join("envs")
    }

    /// What the environment's root owns in its directories.
    pub(super) fn owned_files(&self) -> &'static [&'static str] {
        if self.unified {
            &["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"]
        } else {
            &["cgroup.procs", "tasks"]
        }
    }

    /// The text that hands our controllers to children in version 2.
    pub(super) fn enable(&self) -> String {
        self.handed(&["cpu", "memory", "pids", "cpuset", "io"])
    }

    /// The same for the classes. Not cpuset, which root inside may hand on itself: before 6.2 a move
    /// from one to another takes away the processors that a process chose (`taskset`).
    pub(super) fn enable_in_classes(&self) -> String {
        self.handed(&["cpu", "memory", "pids", "io"])
    }

    fn handed(&self, names: &[&str]) -> String {
        names
            .iter()
            .filter(|name| self.has(name))
            .map(|name| format!("+{name}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Makes `<root>/envs`.
    pub(super) fn prepare(&self, root: &str) -> io::Result<PathBuf> {
        let environments = self.environments(root);
        if environments.join("cgroup.procs").exists() {
            return Ok(environments);
        }
        let mut directory = self.mount.clone();
        if self.unified {
            std::fs::write(directory.join("cgroup.subtree_control"), self.enable())?;
        }
        for name in root.split('/').chain(["envs"]) {
            let parent = directory.clone();
            directory.push(name);
            super::make(&directory)?;
            if self.unified {
                std::fs::write(directory.join("cgroup.subtree_control"), self.enable())?;
            }
            if self.has("cpuset") && !self.unified {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = std::fs::read(parent.join(file))?;
                    std::fs::write(directory.join(file), value)?;
                }
                // Children copy what their parent has.
                std::fs::write(directory.join("cgroup.clone_children"), "1")?;
            }
        }
        Ok(environments)
    }

    /// Writes the limits of a sandbox to its outer directory.
    pub(super) fn limit(&self, directory: &Path, spec: &Spec) -> io::Result<()> {
        let write = |name: &str, value: String| std::fs::write(directory.join(name), value);
        let filters = !protection::removed(Protection::DeviceFilter);
        if self.unified {
            write("cgroup.subtree_control", self.enable())?;
            // Each costs memory of the host that is nobody's.
            if !protection::removed(Protection::CgroupCount) {
                write("cgroup.max.descendants", DESCENDANTS.to_string())?;
            }
            write("cgroup.max.depth", DEPTH.to_string())?;
            if filters {
                devices::attach(directory, &devices::rules(spec)?)?;
            }
        }
        super::group::begin(self, directory, &spec.limits)?;
        if self.has("devices") && !self.unified && filters {
            write("devices.deny", "a".to_owned())?;
            for rule in devices::rules(spec)? {
                write("devices.allow", rule.to_string())?;
            }
        }
        Ok(())
    }

    /// Weighs server and runner above all environments together.
    pub(super) fn weigh_system(&self, system: &Path) -> io::Result<()> {
        if self.unified {
            std::fs::write(system.join("cpu.weight"), "1000")
        } else {
            std::fs::write(system.join("cpu.shares"), "10240")
        }
    }

    /// Options of `mount -t cgroup` for this hierarchy.
    pub(super) fn mount_options(&self) -> String {
        if self.name.starts_with("name=") {
            format!("none,{}", self.name)
        } else {
            self.name.clone()
        }
    }

    /// Directory name below /sys/fs/cgroup.
    pub(super) fn directory_name(&self) -> &str {
        self.name.strip_prefix("name=").unwrap_or(&self.name)
    }
}

#[cfg(test)]
mod tests;
