//! `/sys/fs/cgroup` as the environment sees it: its own `inner` as the root of each hierarchy.

use super::hierarchies::all;
use crate::error::{Failure, Step};
use crate::init;
use crate::protection::{self, Protection};
use crate::root::PLAIN;
use rustix::fs::Mode;
use std::ffi::CString;

/// Mounts the hierarchies below `sys/fs/cgroup` of the working directory, by init in its cgroup
/// namespace.
pub(super) fn mount() -> Result<(), Failure> {
    let hierarchies = all();
    if hierarchies.is_empty() {
        return Ok(());
    }
    if hierarchies.iter().any(|hierarchy| hierarchy.unified) {
        if protection::removed(Protection::NetNamespace) {
            // The host's /sys was bound, its cgroups with it, and these cannot be mounted over themselves.
            init::mount(c"tmpfs", c"sys/fs/cgroup", PLAIN, None)?;
        }
        return init::mount(c"cgroup2", c"sys/fs/cgroup", PLAIN, None);
    }
    init::mount(c"tmpfs", c"sys/fs/cgroup", PLAIN, Some(c"mode=755"))?;
    for hierarchy in hierarchies {
        let target = format!("sys/fs/cgroup/{}", hierarchy.directory_name());
        rustix::fs::mkdir(&target, Mode::from_raw_mode(0o755))
            .step("make a directory of /sys/fs/cgroup")?;
        let target = CString::new(target).step("mount the cgroups")?;
        let options = CString::new(hierarchy.mount_options()).step("mount the cgroups")?;
        init::mount(c"cgroup", &target, PLAIN, Some(&options))?;
    }
    Ok(())
}
