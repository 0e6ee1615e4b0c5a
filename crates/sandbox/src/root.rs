//! The root filesystem of a sandbox, built in the monitor's own mount namespace.
//!
//! Owns: idmapped layers, the overlay over them, `/dev` and `/run`, the generated files of `/etc`,
//! and the spec's further mounts, each attached below `<state>/root`. What belongs to the
//! environment's own namespaces (/proc, /sys, /dev/pts, mqueue) is mounted by `init`, which then
//! pivots here; copying the mounts into init's namespace, owned by a less privileged user
//! namespace, locks their flags (`nodev`, read-only) for good.
//!
//! The overlay is mounted with `trusted.*` attributes, not `userxattr`: root inside cannot write
//! trusted attributes, so it cannot forge redirects or opaque marks in its own upper directory;
//! and directories of lower layers can be renamed (`redirect_dir`), which `userxattr` forbids.
//! Layers must therefore mark opaque directories by `trusted.overlay.opaque`.
//!
//! Upper and work are idmapped like the layers, so what host root writes there would have no id on
//! disk: the mount is made, and targets are created, with the file-system ids of the environment's
//! root (and the monitor's capabilities kept).
//!
//! Crash behaviour: everything dies with the mount namespace; only the empty directory
//! `<state>/root` and what was created inside the upper directory stay.
//!
//! Read next: [`devices`], [`targets`], [`binds`].

mod binds;
mod devices;
mod etc;
mod overlay;
mod targets;

pub(crate) use binds::{IdMaps, open_as, supplementary_groups};
pub(crate) use devices::NODES;
pub use etc::GENERATED;

use crate::crash;
use crate::error::{Failure, Step};
use crate::protection::{self, Protection};
use crate::record;
use crate::spec::{MountSource, Root, Spec};
use crate::sys::process;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Runs `work` with the file-system ids of the environment's root.
pub(crate) fn as_inside_root<T>(
    id_base: u32,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    process::set_file_ids(id_base, id_base).step("take the environment's ids")?;
    let result = work();
    process::set_file_ids(0, 0).step("give the environment's ids back")?;
    result
}

/// Builds the root and answers a descriptor of its top directory. `userns` has the
/// plain map of the environment's ids.
pub(crate) fn build(
    spec: &Spec,
    userns: BorrowedFd<'_>,
    attach_layers: bool,
) -> Result<OwnedFd, Failure> {
    // Opened here, in the private mount namespace: nothing can be mounted through a descriptor
    // of the host's.
    let state = rustix::fs::open(
        &spec.state,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .step("open the state directory")?;
    let state = state.as_fd();
    match rustix::fs::mkdirat(state, record::ROOT, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(Failure::new("make the root's mountpoint", error)),
    }
    crash::point();
    overlay::mount(spec, state, userns, attach_layers)?;
    let root = open_top(state)?;
    for directory in ["proc", "sys", "dev", "run"] {
        as_inside_root(spec.id_base, || {
            targets::plain_directory(root.as_fd(), directory)
        })?;
    }
    if matches!(spec.root, Root::Host) && protection::removed(Protection::HiddenHost) {
        // The host's own state directories, and whatever else lies there, can be seen.
    } else if matches!(spec.root, Root::Host) {
        for hidden in [
            "root", "home", "srv", "mnt", "media", "var", "boot", "tmp", "opt",
        ] {
            let Ok(target) = targets::existing_directory(root.as_fd(), hidden) else {
                continue;
            };
            let mode = if hidden == "tmp" { 0o1777 } else { 0o755 };
            tmpfs(
                target.as_fd(),
                spec.id_base,
                None,
                mode,
                &format!("/{hidden}"),
            )?;
        }
    } else {
        as_inside_root(spec.id_base, || targets::tmp(root.as_fd()))?;
    }
    crash::point();
    let run = targets::existing_directory(root.as_fd(), "run")?;
    tmpfs(run.as_fd(), spec.id_base, None, 0o755, "/run")?;
    devices::mount(spec, root.as_fd())?;
    as_inside_root(spec.id_base, || etc::write(spec, root.as_fd()))?;
    crash::point();
    for mount in &spec.mounts {
        further(spec, root.as_fd(), mount)?;
        crash::point();
    }
    Ok(root)
}

/// The top of what is mounted at the mountpoint of the root.
fn open_top(state: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    rustix::fs::openat(
        state,
        record::ROOT,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step("open the root")
}

/// Mounts one of the spec's further mounts.
fn further(spec: &Spec, root: BorrowedFd<'_>, mount: &crate::spec::Mount) -> Result<(), Failure> {
    match &mount.source {
        MountSource::Tmpfs { size, mode } => {
            let target = as_inside_root(spec.id_base, || {
                targets::make(root, &mount.target, targets::Kind::Directory)
            })?;
            tmpfs(
                target.as_fd(),
                spec.id_base,
                *size,
                *mode,
                &mount.target.display().to_string(),
            )
        }
        MountSource::Host { path, ids, open_as } => {
            let source = binds::prepare(spec, path, *ids, *open_as, mount.read_only)?;
            let kind = if source.directory {
                targets::Kind::Directory
            } else {
                targets::Kind::File
            };
            let target = as_inside_root(spec.id_base, || targets::make(root, &mount.target, kind))?;
            attach(source.mount.as_fd(), target.as_fd()).step_with(|| {
                format!(
                    "mount {} at {} inside",
                    path.display(),
                    mount.target.display()
                )
            })
        }
    }
}

/// `nodev` for what an environment is given of the host's.
fn nodev() -> u64 {
    if protection::removed(Protection::Nodev) {
        0
    } else {
        libc::MOUNT_ATTR_NODEV
    }
}

/// Attaches a detached mount over `target`.
fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::mount::move_mount(
        mount,
        c"",
        target,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// Mounts a tmpfs owned by the environment's root over `target`.
fn tmpfs(
    target: BorrowedFd<'_>,
    id_base: u32,
    size: Option<u64>,
    mode: u32,
    name: &str,
) -> Result<(), Failure> {
    let fd =
        new_tmpfs(id_base, size, mode, true).step_with(|| format!("make a tmpfs for {name}"))?;
    attach(fd.as_fd(), target).step_with(|| format!("mount a tmpfs on {name}"))
}

/// A detached tmpfs owned by the environment's root.
fn new_tmpfs(
    id_base: u32,
    size: Option<u64>,
    mode: u32,
    nodev: bool,
) -> rustix::io::Result<OwnedFd> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
    let fs = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let id = id_base.to_string();
    rustix::mount::fsconfig_set_string(&fs, c"uid", id.as_str())?;
    rustix::mount::fsconfig_set_string(&fs, c"gid", id.as_str())?;
    rustix::mount::fsconfig_set_string(&fs, c"mode", format!("{mode:o}"))?;
    if let Some(size) = size {
        rustix::mount::fsconfig_set_string(&fs, c"size", size.to_string())?;
    }
    rustix::mount::fsconfig_create(&fs)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    if nodev {
        attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A private copy of the host's mounts, for the calling process: nothing made from here on is
/// seen by the host.
pub(crate) fn private_namespace() -> Result<(), Failure> {
    process::unshare(libc::CLONE_NEWNS).step("make a mount namespace")?;
    if protection::removed(Protection::PrivateMounts) {
        return Ok(());
    }
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
    .step("make the mounts private")
}

/// What file system a path is on, for messages.
fn file_system(fd: BorrowedFd<'_>) -> String {
    let Ok(stat) = rustix::fs::fstatfs(fd) else {
        return "unknown".to_owned();
    };
    let known: [(i64, &str); 12] = [
        (0x0102_1994, "tmpfs"),
        (0x6969, "nfs"),
        (0x517b, "smb"),
        (0xff53_4d42, "cifs"),
        (0x6573_5546, "fuse"),
        (0x0102_1997, "9p"),
        (0x2fc1_2fc1, "zfs"),
        (0x794c_7630, "overlay"),
        (0x9fa0, "proc"),
        (0x6265_6572, "sysfs"),
        (0x4d44, "vfat"),
        (0xef53, "ext4"),
    ];
    known
        .iter()
        .find(|(magic, _)| *magic == stat.f_type)
        .map_or_else(
            || format!("of type {:#x}", stat.f_type),
            |(_, name)| (*name).to_owned(),
        )
}

/// Flags for mounts made by `mount(2)`.
pub(crate) const PLAIN: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Longest common ancestor of two absolute paths, and both relative to it.
fn common<'a>(a: &'a Path, b: &'a Path) -> Option<(std::path::PathBuf, &'a Path, &'a Path)> {
    let mut ancestor = a.parent()?;
    loop {
        if let (Ok(left), Ok(right)) = (a.strip_prefix(ancestor), b.strip_prefix(ancestor)) {
            let good = !left.as_os_str().is_empty() && !right.as_os_str().is_empty();
            return good.then(|| (ancestor.to_path_buf(), left, right));
        }
        ancestor = ancestor.parent()?;
    }
}
