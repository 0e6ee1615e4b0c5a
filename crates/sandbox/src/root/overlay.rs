//! The overlay of idmapped layers.
//!
//! Kernels from 6.13 take the layers by descriptor; from 5.19 they must be attached somewhere and
//! named, which is done on a tmpfs in the monitor's own mount namespace (short relative names,
//! because the options must fit one page).

use super::{as_inside_root, attach, common, file_system, new_tmpfs, nodev};
use crate::error::{Failure, Step};
use crate::protection::{self, Protection};
use crate::record;
use crate::spec::{Root, Spec};
use crate::sys::mounts::{Attributes, set_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Layers, topmost first; the mount and the two directories in it for upper and work.
struct Parts {
    lower: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
    /// Mount that holds upper and work, for the path variant.
    private: OwnedFd,
    private_names: (std::path::PathBuf, std::path::PathBuf),
}

/// Mounts the root at `<state>/root`.
pub(super) fn mount(
    spec: &Spec,
    state: BorrowedFd<'_>,
    userns: BorrowedFd<'_>,
    attach_layers: bool,
) -> Result<(), Failure> {
    let parts = match &spec.root {
        Root::Overlay {
            layers,
            upper,
            work,
        }
        | Root::Layer {
            layers,
            upper,
            work,
        } => overlay_parts(layers, upper, work, userns)?,
        Root::Host => host_parts(spec.id_base)?,
    };
    if protection::removed(Protection::Overlay)
        && let Some(layer) = parts.lower.first()
    {
        let target = super::open_top(state)?;
        return attach(layer.as_fd(), target.as_fd()).step("mount the layer");
    }
    if attach_layers {
        return mount_by_path(spec, state, &parts);
    }
    match by_descriptor(spec, &parts) {
        Ok(overlay) => {
            let target = super::open_top(state)?;
            attach(overlay.as_fd(), target.as_fd()).step("mount the overlay")
        }
        // Before 6.13 the option does not exist, or wants a path.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP) if !takes_descriptors() => {
            mount_by_path(spec, state, &parts)
        }
        Err(error) => Err(Failure::new("mount the overlay of the layers", error)),
    }
}

/// Whether this kernel's overlay takes layers by descriptor (6.13).
fn takes_descriptors() -> bool {
    crate::doctor::kernel_version() >= (6, 13)
}

fn overlay_parts(
    layers: &[std::path::PathBuf],
    upper: &Path,
    work: &Path,
    userns: BorrowedFd<'_>,
) -> Result<Parts, Failure> {
    if layers.is_empty() {
        return Err(Failure::new("mount the overlay", "the image has no layer"));
    }
    let lower = layers
        .iter()
        .map(|layer| shifted(layer, userns))
        .collect::<Result<Vec<_>, _>>()?;
    let (ancestor, upper, work) = common(upper, work).ok_or_else(|| {
        Failure::new(
            "mount the overlay",
            "upper and work directory are inside each other",
        )
    })?;
    let private = shifted(&ancestor, userns)?;
    private_parts(lower, private, upper, work)
}

fn private_parts(
    lower: Vec<OwnedFd>,
    private: OwnedFd,
    upper: &Path,
    work: &Path,
) -> Result<Parts, Failure> {
    let open = |path: &Path| {
        rustix::fs::openat(
            &private,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    Ok(Parts {
        upper: open(upper).step_with(|| format!("open the upper directory {}", upper.display()))?,
        work: open(work).step_with(|| format!("open the work directory {}", work.display()))?,
        lower,
        private_names: (upper.to_path_buf(), work.to_path_buf()),
        private,
    })
}

/// The host's own root (that mount alone, unshifted: everything is nobody's) under a tmpfs.
fn host_parts(id_base: u32) -> Result<Parts, Failure> {
    let host = rustix::mount::open_tree(
        CWD,
        "/",
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .step("open the host's root")?;
    let tmpfs = new_tmpfs(id_base, None, 0o755, true).step("make a tmpfs for changes")?;
    as_inside_root(id_base, || {
        for name in ["upper", "work"] {
            rustix::fs::mkdirat(&tmpfs, name, Mode::from_raw_mode(0o755))
                .step("make a directory for changes")?;
        }
        Ok(())
    })?;
    private_parts(vec![host], tmpfs, Path::new("upper"), Path::new("work"))
}

/// A detached mount of a directory with its ids shifted into the environment's range.
fn shifted(path: &Path, userns: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let tree = rustix::mount::open_tree(
        CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .step_with(|| format!("open the layer {}", path.display()))?;
    let attributes = Attributes {
        set: nodev(),
        recursive: false,
    };
    set_attributes(tree.as_fd(), attributes, Some(userns)).step_with(|| {
        format!(
            "shift the ids of {} (file system {}, which may not support idmapped mounts; use ext4, xfs or btrfs)",
            path.display(),
            file_system(tree.as_fd())
        )
    })?;
    Ok(tree)
}

fn by_descriptor(spec: &Spec, parts: &Parts) -> rustix::io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in &parts.lower {
        rustix::mount::fsconfig_set_fd(&fs, c"lowerdir+", layer)?;
    }
    rustix::mount::fsconfig_set_fd(&fs, c"upperdir", &parts.upper)?;
    rustix::mount::fsconfig_set_fd(&fs, c"workdir", &parts.work)?;
    for (key, value) in options(&spec.root) {
        rustix::mount::fsconfig_set_string(&fs, key, value)?;
    }
    if is_volatile(&spec.root) {
        rustix::mount::fsconfig_set_flag(&fs, c"volatile")?;
    }
    as_inside_root(spec.id_base, || Ok(rustix::mount::fsconfig_create(&fs)))
        .map_err(|_| rustix::io::Errno::PERM)??;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, nodev() != 0);
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Whether programs inside wait for no flush: a layer in the making is flushed as a whole before it
/// counts, and one that is lost with the machine is made again. dpkg flushes after every package.
fn is_volatile(root: &Root) -> bool {
    matches!(root, Root::Layer { .. })
}

fn options(root: &Root) -> [(&'static str, &'static str); 3] {
    let redirect = match root {
        Root::Layer { .. } => "off",
        Root::Overlay { .. } | Root::Host => "on",
    };
    [
        ("redirect_dir", redirect),
        ("metacopy", "off"),
        ("index", "off"),
    ]
}

/// The variant for 5.19 to 6.12: layers attached under short names, options by `mount(2)`.
fn mount_by_path(spec: &Spec, state: BorrowedFd<'_>, parts: &Parts) -> Result<(), Failure> {
    let staging = new_tmpfs(spec.id_base, None, 0o700, true).step("make a tmpfs for the layers")?;
    let target = super::open_top(state)?;
    attach(staging.as_fd(), target.as_fd()).step("mount a tmpfs for the layers")?;
    let top = super::open_top(state)?;
    let place = |name: &str, mount: &OwnedFd| -> Result<(), Failure> {
        let directory = as_inside_root(spec.id_base, || {
            super::targets::plain_directory(top.as_fd(), name)
        })?;
        attach(mount.as_fd(), directory.as_fd()).step("attach a layer")
    };
    let mut lower = String::new();
    for (number, layer) in parts.lower.iter().enumerate() {
        let name = number.to_string();
        place(&name, layer)?;
        if !lower.is_empty() {
            lower.push(':');
        }
        lower.push_str(&name);
    }
    place("p", &parts.private)?;
    let (upper, work) = &parts.private_names;
    for path in [upper, work] {
        if path
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .any(|b| matches!(b, b',' | b':' | b'\\'))
        {
            return Err(Failure::new(
                "mount the overlay",
                format!("{} contains a comma, colon or backslash", path.display()),
            ));
        }
    }
    let mut options = format!(
        "lowerdir={lower},upperdir=p/{},workdir=p/{}",
        upper.display(),
        work.display()
    );
    for (key, value) in self::options(&spec.root) {
        options.push_str(&format!(",{key}={value}"));
    }
    if is_volatile(&spec.root) {
        options.push_str(",volatile");
    }
    if options.len() > 4000 {
        return Err(Failure::new(
            "mount the overlay",
            "the image has too many layers for this kernel (before 6.13); use a newer kernel",
        ));
    }
    let options = std::ffi::CString::new(options).step("mount the overlay")?;
    rustix::process::fchdir(&top).step("enter the layers' tmpfs")?;
    let mut flags = MountFlags::NODEV;
    flags.set(MountFlags::NODEV, nodev() != 0);
    let result = as_inside_root(spec.id_base, || {
        rustix::mount::mount(
            c"overlay",
            c".",
            c"overlay",
            flags,
            Some(options.as_c_str()),
        )
        .step("mount the overlay of the layers")
    });
    rustix::process::chdir(c"/").step("leave the layers' tmpfs")?;
    let _ = record::ROOT;
    result
}
