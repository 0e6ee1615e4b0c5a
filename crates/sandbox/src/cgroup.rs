//! The cgroups of sandboxes: limits the host owns, a subtree the environment owns.
//!
//! In every hierarchy `<root>/envs/<id>` carries the limits and belongs to the host; `inner` below
//! it belongs to the environment's root and is the root of its cgroup namespace; `inner` has the
//! classes [`CLASSES`], between which the environment shares its processor. A member's cgroup lies
//! beside `inner` in its environment's, and has the same shape. `<root>/system` is for
//! the server and the runner, `<root>/monitors` for the spawner and the monitors, both weighted above
//! all environments. Version 2 is used where its root
//! has the cpu, memory and pids controllers, else every mounted hierarchy of version 1.
//!
//! Moving a process through `cgroup.procs` waits for a grace period of the whole machine; so on
//! version 1 init moves itself by `tasks`, which does not, through files the monitor opened, and
//! on version 2 it is cloned into its place.
//!
//! Crash behaviour: everything is found again by the id; [`remove`] kills what is left inside.
//!
//! What happens in them while it runs, read and written from outside: [`group`].
//!
//! Read next: [`hierarchies`], [`devices`], [`group`].

mod devices;
pub mod group;
mod hierarchies;
mod inside;

use crate::error::{Failure, Step};
use crate::protection::{self, Protection};
use crate::spec::{Id, Spec};
use hierarchies::{Hierarchy, all};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use hierarchies::{describe, device_filter, discover};

/// Children of `inner`: the agent and IDE servers, shells, builds, containers started inside.
pub const CLASSES: [&str; 4] = ["agent", "sessions", "builds", "nested"];

/// Descriptors by which init joins its cgroups.
pub(crate) struct Join {
    /// Directory of `inner` in version 2.
    unified: Option<OwnedFd>,
    /// Files to write `0` to before the cgroup namespace is made.
    inner: Vec<OwnedFd>,
    /// The same afterwards, for the class of init.
    class: Vec<OwnedFd>,
    /// `inner/cgroup.subtree_control` in version 2 and what to write to it.
    delegate: Option<(OwnedFd, String)>,
}

impl Join {
    /// The cgroup to clone into, in version 2.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Called by init: joins `inner` everywhere.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        write_self(&self.inner)
    }

    /// Called by init inside its cgroup namespace: joins its class.
    pub(crate) fn enter_class(&self) -> Result<(), Failure> {
        write_self(&self.class)
    }

    /// Called by the monitor when init has left `inner`: lets the controllers reach the classes.
    pub(crate) fn delegate(&self) -> Result<(), Failure> {
        match &self.delegate {
            Some((file, text)) => rustix::io::write(file, text.as_bytes())
                .map(drop)
                .step("delegate the cgroup controllers"),
            None => Ok(()),
        }
    }

    /// Called by init, standing in its root: mounts its own view.
    pub(crate) fn mount_inside(&self) -> Result<(), Failure> {
        inside::mount()
    }
}

fn write_self(files: &[OwnedFd]) -> Result<(), Failure> {
    for file in files {
        rustix::io::write(file, b"0").step("join the cgroup")?;
    }
    Ok(())
}

/// Makes the cgroups of a sandbox.
pub(crate) fn create(root: &str, spec: &Spec) -> Result<Join, Failure> {
    let mut join = Join {
        unified: None,
        inner: Vec::new(),
        class: Vec::new(),
        delegate: None,
    };
    for hierarchy in all() {
        create_in(hierarchy, root, spec, &mut join)
            .step_with(|| format!("make the {} cgroup of the sandbox", hierarchy.name))?;
        crate::crash::point();
    }
    Ok(join)
}

fn create_in(hierarchy: &Hierarchy, root: &str, spec: &Spec, join: &mut Join) -> io::Result<()> {
    let mut environments = hierarchy.prepare(root)?;
    if let Some(owner) = spec.member_of() {
        if spec.id.owner().as_ref() != Some(&owner.id) {
            return Err(io::Error::other("its id does not name its environment"));
        }
        environments.push(owner.id.as_str());
    }
    let directory = environments.join(spec.id.as_str());
    if !make(&directory)? {
        // Left by a crash: begin clean.
        remove_tree(hierarchy, &directory)?;
        make(&directory)?;
    }
    hierarchy.limit(&directory, spec)?;
    let inner = directory.join("inner");
    make(&inner)?;
    give(&inner, hierarchy, spec.id_base)?;
    if protection::removed(Protection::CgroupOwnership) {
        give_whole(&directory, spec.id_base)?;
    }
    if !hierarchy.has_classes() {
        join.inner.push(open_for_writing(&inner.join("tasks"))?);
        return Ok(());
    }
    for class in CLASSES {
        let directory = inner.join(class);
        make(&directory)?;
        give(&directory, hierarchy, spec.id_base)?;
    }
    let agent = inner.join(CLASSES[0]);
    if hierarchy.unified {
        join.unified = Some(rustix::fs::open(
            &inner,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        join.class
            .push(open_for_writing(&agent.join("cgroup.procs"))?);
        join.delegate = Some((
            open_for_writing(&inner.join("cgroup.subtree_control"))?,
            hierarchy.enable_in_classes(),
        ));
    } else {
        join.inner.push(open_for_writing(&inner.join("tasks"))?);
        join.class.push(open_for_writing(&agent.join("tasks"))?);
    }
    Ok(())
}

/// Makes a directory; false when it was there.
fn make(path: &Path) -> io::Result<bool> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the environment's root the owner of a directory and of the files by which processes and
/// controllers are moved; never of limits.
fn give(directory: &Path, hierarchy: &Hierarchy, id_base: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(id_base), Gid::from_raw(id_base));
    let fd = rustix::fs::open(
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::fs::chown(directory, Some(uid), Some(gid))?;
    for name in hierarchy.owned_files() {
        rustix::fs::chownat(
            &fd,
            *name,
            Some(uid),
            Some(gid),
            rustix::fs::AtFlags::empty(),
        )?;
    }
    Ok(())
}

/// Makes the environment's root the owner of everything in a directory: what a test without that
/// protection does.
fn give_whole(directory: &Path, id_base: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(id_base), Gid::from_raw(id_base));
    for entry in std::fs::read_dir(directory)? {
        rustix::fs::chown(entry?.path(), Some(uid), Some(gid))?;
    }
    Ok(rustix::fs::chown(directory, Some(uid), Some(gid))?)
}

fn open_for_writing(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        CWD,
        path,
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Removes the cgroups of a sandbox in every hierarchy, killing what is left in them.
pub(crate) fn remove(root: &str, id: &Id) -> io::Result<()> {
    let mut result = Ok(());
    for hierarchy in all() {
        let environments = hierarchy.environments(root);
        let member = id
            .owner()
            .map(|owner| environments.join(owner.as_str()).join(id.as_str()));
        for directory in member.into_iter().chain([environments.join(id.as_str())]) {
            if let Err(error) = remove_tree(hierarchy, &directory) {
                result = Err(error);
            }
        }
    }
    result
}

/// Ids that have a cgroup.
pub(crate) fn list(root: &str) -> io::Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for hierarchy in all() {
        for child in children(&hierarchy.environments(root))? {
            if let Some(name) = child.file_name().and_then(|name| name.to_str()) {
                ids.insert(name.to_owned());
            }
        }
    }
    Ok(ids)
}

/// Removes `<root>` where no sandbox is left: what was made once for all of them.
pub(crate) fn remove_root(root: &str) -> io::Result<()> {
    for hierarchy in all() {
        let top = hierarchy.mount.join(root);
        match rustix::fs::rmdir(top.join("envs")) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(rustix::io::Errno::BUSY) => continue,
            Err(error) => return Err(error.into()),
        }
        remove_emptying(&top.join("monitors"))?;
        for directory in [top.join("system"), top] {
            match rustix::fs::rmdir(&directory) {
                Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::BUSY) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Removes a cgroup whose last processes are ending: one that has just ended still counts until
/// the kernel has let go of it.
fn remove_emptying(directory: &Path) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match rustix::fs::rmdir(directory) {
            Err(rustix::io::Errno::BUSY) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::BUSY) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Moves the calling single-threaded process into `<root>/monitors`: the spawner, and so every
/// monitor. A service manager that kills the runner's cgroup must not kill them.
pub(crate) fn join_monitors(root: &str) -> io::Result<()> {
    for hierarchy in all() {
        hierarchy.prepare(root)?;
        let monitors = hierarchy.mount.join(root).join("monitors");
        make(&monitors)?;
        if hierarchy.shares_processor() {
            hierarchy.weigh_system(&monitors)?;
        }
        let file = if hierarchy.unified {
            "cgroup.procs"
        } else {
            "tasks"
        };
        std::fs::write(monitors.join(file), "0")?;
    }
    Ok(())
}

/// Moves the calling process into `<root>/system`.
pub(crate) fn join_system(root: &str) -> io::Result<()> {
    for hierarchy in all()
        .iter()
        .filter(|hierarchy| hierarchy.shares_processor())
    {
        hierarchy.prepare(root)?;
        let system = hierarchy.mount.join(root).join("system");
        make(&system)?;
        hierarchy.weigh_system(&system)?;
        std::fs::write(system.join("cgroup.procs"), "0")?;
    }
    Ok(())
}

fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a sandbox's cgroup and all below it.
fn remove_tree(hierarchy: &Hierarchy, directory: &Path) -> io::Result<()> {
    let inner = directory.join("inner");
    // The usual shape goes without reading any directory; what is gone already costs one call.
    match rustix::fs::rmdir(directory) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::BUSY | rustix::io::Errno::NOTEMPTY) => {}
        Err(error) => return Err(error.into()),
    }
    let classes = if hierarchy.has_classes() {
        CLASSES.as_slice()
    } else {
        &[]
    };
    for path in classes
        .iter()
        .map(|class| inner.join(class))
        .chain([inner.clone(), directory.to_path_buf()])
    {
        match rustix::fs::rmdir(&path) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(rustix::io::Errno::BUSY | rustix::io::Errno::NOTEMPTY) => {
                return remove_any(hierarchy, directory);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes a cgroup and whatever was made below it, as somebody else may at the same time: the monitor of
/// a sandbox whose state is lost.
fn remove_any(hierarchy: &Hierarchy, directory: &Path) -> io::Result<()> {
    for _ in 0..16 {
        match remove_found(hierarchy, directory) {
            Err(error) if is_gone(&error) && directory.exists() => {}
            Err(error) if is_gone(&error) => return Ok(()),
            outcome => return outcome,
        }
    }
    Err(io::Error::from(io::ErrorKind::ResourceBusy))
}

/// What the kernel says of a cgroup that was removed, and of one that was while it was open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// Removes what is found there now. Root inside chooses names and depth, so that paths may be longer
/// than the kernel takes: it goes by one descriptor at a time.
fn remove_found(hierarchy: &Hierarchy, directory: &Path) -> io::Result<()> {
    if hierarchy.unified {
        // Everything below at once: nothing can fork faster.
        match std::fs::write(directory.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Before 5.14; then one after the other.
            _ => {}
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = rustix::fs::open(directory, flags, Mode::empty())?;
    let mut names: Vec<CString> = Vec::new();
    loop {
        if let Some(name) = first_child(&here)? {
            here = rustix::fs::openat(&here, &name, flags, Mode::empty())?;
            names.push(name);
        } else if let Some(name) = names.pop() {
            let parent = rustix::fs::openat(&here, c"..", flags, Mode::empty())?;
            remove_emptied(&here, || {
                rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)
            })?;
            here = parent;
        } else {
            return remove_emptied(&here, || rustix::fs::rmdir(directory));
        }
    }
}

fn first_child(directory: &OwnedFd) -> io::Result<Option<CString>> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == rustix::fs::FileType::Directory && name != c"." && name != c".." {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// Removes a cgroup without children, killing what is in it.
fn remove_emptied(
    directory: &OwnedFd,
    remove: impl Fn() -> rustix::io::Result<()>,
) -> io::Result<()> {
    for _ in 0..16 {
        match remove() {
            Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(rustix::io::Errno::BUSY) => kill_all(directory)?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::from(io::ErrorKind::ResourceBusy))
}

/// Kills every process of a cgroup and waits for their ends.
fn kill_all(directory: &OwnedFd) -> io::Result<()> {
    let mut text = String::new();
    let procs = rustix::fs::openat(
        directory,
        c"cgroup.procs",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(io::Error::from);
    match procs.and_then(|procs| std::fs::File::from(procs).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let victims: Vec<OwnedFd> = text
        .lines()
        .filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?))
        .filter_map(|pid| {
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
        })
        .collect();
    for victim in &victims {
        let _ = rustix::process::pidfd_send_signal(victim, rustix::process::Signal::KILL);
    }
    for victim in &victims {
        crate::record::wait_end(victim, Some(2000));
    }
    Ok(())
}
