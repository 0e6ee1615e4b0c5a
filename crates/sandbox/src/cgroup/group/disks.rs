//! Block devices: what was moved, who waits for them, and limits.
//!
//! Version 2 holds everything below a cgroup by one file, what is written back later included. In
//! version 1 a limit holds only the tasks of its very cgroup, so it is written to every one below,
//! members' and those made inside too, each of which may have as much; and pages that are written back later are nobody's there: neither counted nor
//! held. Root inside may make a cgroup after the fact and be free in it until the next writing: limits
//! here are for fairness.
//!
//! Since Linux 6.10 version 1 counts nothing at a disk before somebody was limited there, once and anywhere on
//! the host: whoever opens a group has it written that all groups together are limited to nothing.
//!
//! Waiting is pressure where the kernel tells it of single cgroups ([`Group::pressure`]), and everywhere
//! what is seen by looking again and again at how many tasks stand still ([`Group::waiting`]): pressure
//! leaves out who waits for a journal's commit, which is most of an fsync beside a flood.

use super::files::Dir;
use super::{Error, Group, processes, sample};
use rustix::io::Errno;
use sample::{Device, Disk, IoLimit};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Cgroups of version 1 that a limit is written to.
const MOST_GROUPS: usize = 64;

/// The files of version 1, in the order of [`IoLimit::numbers`].
const FIRST: [&str; 4] = [
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
];

/// What version 1 counts.
pub(super) const COUNTED: &str = "blkio.throttle.io_service_bytes_recursive";

/// Disks of the host that hold anything; partitions are theirs.
fn host_disks() -> Vec<Device> {
    let entries = std::fs::read_dir("/sys/block").into_iter().flatten();
    let folders = entries.flatten().map(|entry| entry.path());
    let read = |folder: &Path, name| std::fs::read_to_string(folder.join(name)).ok();
    let of = |folder: PathBuf| {
        let holds = read(&folder, "size").is_some_and(|size| size.trim() != "0");
        holds.then(|| sample::device(read(&folder, "dev")?.trim()))?
    };
    folders.filter_map(of).collect()
}

impl Group {
    /// What was read from and written to block devices so far, by device; empty without the
    /// controller.
    ///
    /// # Errors
    /// When it is gone.
    pub fn io(&self) -> Result<Vec<Disk>, Error> {
        let Some(held) = &self.io else {
            return Ok(Vec::new());
        };
        let mut disks = BTreeMap::new();
        self.read(held, |text| {
            sample::count_disks(&mut disks, text, self.unified, false);
            Some(())
        })?;
        if let Some(held) = &self.io_requests {
            self.read(held, |text| {
                sample::count_disks(&mut disks, text, self.unified, true);
                Some(())
            })?;
        }
        Ok(disks.into_values().collect())
    }

    /// How many of its tasks stand still at this moment, for a device almost always; of more than
    /// `most` tasks so many are looked at and the rest taken to be like them. Members' are not among
    /// them, and in version 2 those of groups made inside are not. None without the controller.
    ///
    /// # Errors
    /// When it is gone.
    pub fn waiting(&self, most: usize) -> Result<Option<u32>, Error> {
        if self.io_tasks.is_empty() {
            return Ok(None);
        }
        let mut ids = Vec::new();
        for tasks in &self.io_tasks {
            let read = tasks.read_ids();
            let (found, _) = read.map_err(self.failed("read", tasks.path()))?;
            ids.extend(found);
        }
        let stride = ids.len().div_ceil(most.max(1)).max(1);
        let looked = ids.iter().step_by(stride);
        let waiting = looked.filter(|id| processes::waits(**id)).count();
        Ok(Some(u32::try_from(waiting * stride).unwrap_or(u32::MAX)))
    }

    /// What it is held to at devices. Empty without the controller, or where the kernel cannot hold.
    ///
    /// # Errors
    /// When it is gone.
    pub fn io_limits(&self) -> Result<BTreeMap<Device, IoLimit>, Error> {
        let mut limits = BTreeMap::new();
        for (number, held) in self.io_limits.iter().enumerate() {
            let parsed = self.read(held, |text| {
                if self.unified {
                    sample::io_limits(&mut limits, text);
                } else {
                    sample::io_numbers(&mut limits, text, number);
                }
                Some(())
            });
            match parsed {
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                parsed => parsed?,
            }
        }
        limits.retain(|_, limit: &mut IoLimit| *limit != IoLimit::default());
        Ok(limits)
    }

    /// Holds it to this at a device, or to nothing. A device that is gone, and a kernel that cannot
    /// hold, are none of the caller's business: nothing is held there.
    ///
    /// # Errors
    /// When it is gone, or the kernel refuses.
    pub fn set_io_limit(&self, device: Device, limit: &IoLimit) -> Result<(), Error> {
        let Some(dir) = &self.io_dir else {
            return Ok(());
        };
        if self.unified {
            let text = limit.text(device);
            return self.written(dir, "io.max", dir.write("io.max", &text));
        }
        let mut groups = vec![dir.clone()];
        let mut seen = 0;
        while let Some(group) = groups.pop() {
            for (name, number) in FIRST.iter().zip(limit.numbers()) {
                let number = number.unwrap_or(0);
                let mut stands = BTreeMap::new();
                let text = group.read(name).unwrap_or_default();
                sample::io_numbers(&mut stands, &text, 0);
                let stands = stands.get(&device).and_then(|limit| limit.numbers()[0]);
                // Each writing begins a new slice of time.
                if stands.unwrap_or(0) == number {
                    continue;
                }
                let (major, minor) = device;
                let done = group.write(name, &format!("{major}:{minor} {number}"));
                if seen == 0 {
                    self.written(&group, name, done)?;
                }
            }
            seen += 1;
            if seen + groups.len() < MOST_GROUPS {
                let children = group.children().unwrap_or_default();
                let room = MOST_GROUPS - seen - groups.len();
                let below = children.iter().take(room).map(|name| group.below(name));
                groups.extend(below);
            }
        }
        Ok(())
    }

    /// Has version 1 count at every disk of the host. Written to the group above all environments, in which
    /// nobody is: an environment's own would name every disk of its neighbours from then on. A disk that
    /// refuses is one that nobody is held at.
    pub(super) fn have_disks_counted(dir: &Dir) {
        let mut counted = BTreeMap::new();
        let text = dir.read(COUNTED).unwrap_or_default();
        sample::count_disks(&mut counted, &text, false, false);
        for (major, minor) in host_disks() {
            if !counted.contains_key(&(major, minor)) {
                let _ = dir.write(FIRST[1], &format!("{major}:{minor} 0"));
            }
        }
    }

    fn written(&self, dir: &Dir, name: &str, done: io::Result<()>) -> Result<(), Error> {
        match done {
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.path("").exists() => {
                Ok(())
            }
            done => done.map_err(self.failed("write", dir.path(name))),
        }
    }

    /// The files that list tasks: of version 2 those of the classes, as a group with groups below has none.
    pub(super) fn task_files(dir: Option<&Dir>, unified: bool) -> Vec<super::Held> {
        let Some(inner) = dir.map(|dir| dir.below("inner")) else {
            return Vec::new();
        };
        if !unified {
            return vec![inner.held("tasks")];
        }
        let classes = super::Class::ALL.iter();
        classes
            .map(|class| inner.below(class.name()).held("cgroup.threads"))
            .collect()
    }

    /// The files of limits, to be held open.
    pub(super) fn limit_files(dir: Option<&Dir>, unified: bool) -> Vec<super::Held> {
        let Some(dir) = dir else {
            return Vec::new();
        };
        if unified {
            return vec![dir.held("io.max")];
        }
        let inner = dir.below("inner");
        FIRST.iter().map(|name| inner.held(name)).collect()
    }
}
