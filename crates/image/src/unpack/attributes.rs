//! Owners, modes, times and extended attributes of what is unpacked.
//!
//! Which attributes a layer may set is decided here; why, in `unpack`.

use std::io;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Trouble, os, refuse};
use crate::archive::Entry;

const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Owner first: changing it drops capabilities and the setuid bit.
pub(super) fn set(file: &OwnedFd, entry: &Entry, uid: Uid, gid: Gid) -> Result<(), Trouble> {
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in &entry.xattrs {
        if name == DEFAULT_ACL {
            continue;
        }
        let Some(value) = kept_attribute(name, value) else {
            continue;
        };
        set_attribute(file, name, &value)?;
    }
    Ok(())
}

/// Set last, when all is in the folder: what is made in it would inherit it.
pub(super) fn default_acl(entry: &Entry) -> Option<Vec<u8>> {
    entry
        .xattrs
        .iter()
        .find(|(name, _)| name == DEFAULT_ACL)
        .map(|(_, value)| value.clone())
}

pub(super) fn set_default_acl(folder: &OwnedFd, value: &[u8]) -> Result<(), Trouble> {
    set_attribute(folder, DEFAULT_ACL, value)
}

fn set_attribute(file: &OwnedFd, name: &[u8], value: &[u8]) -> Result<(), Trouble> {
    match rustix::fs::fsetxattr(file, os(name), value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        // The file system has none of that sort; losing capabilities would
        // break programs silently, losing others does not.
        Err(Errno::OPNOTSUPP) if name != b"security.capability" => Ok(()),
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => Err(errno.into()),
        Err(errno) => refuse(format!(
            "has the attribute {}, which cannot be set ({errno})",
            String::from_utf8_lossy(name)
        )),
    }
}

pub(super) fn id<T: FromId>(value: u64) -> Result<T, Trouble> {
    match u32::try_from(value) {
        // The last one means "leave as it is" to the kernel.
        Ok(value) if value != u32::MAX => Ok(T::from_id(value)),
        _ => refuse(format!("belongs to the impossible id {value}")),
    }
}

pub(super) trait FromId {
    fn from_id(value: u32) -> Self;
}

impl FromId for Uid {
    fn from_id(value: u32) -> Self {
        Uid::from_raw(value)
    }
}

impl FromId for Gid {
    fn from_id(value: u32) -> Self {
        Gid::from_raw(value)
    }
}

fn kept_attribute(name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    match name {
        b"security.capability" => Some(capability(value)),
        b"system.posix_acl_access" => Some(value.to_vec()),
        _ if name.starts_with(b"user.overlay.") => None,
        _ if name.starts_with(b"user.") => Some(value.to_vec()),
        _ => None,
    }
}

/// Version 3 (24 bytes, the last four naming a root) as version 2. Tried on an
/// overlay of idmapped layers, with and without `userxattr`: version 2 gives
/// the capability in the environment's user namespace; of version 3 with the
/// builder's root, execve fails with EOVERFLOW.
/// `include/uapi/linux/capability.h`.
fn capability(value: &[u8]) -> Vec<u8> {
    match value {
        [effective, 0, 0, 3, rest @ ..] if value.len() == 24 => {
            let mut second = vec![*effective, 0, 0, 2];
            second.extend_from_slice(&rest[..16]);
            second
        }
        _ => value.to_vec(),
    }
}

pub(super) fn opaque(directory: &OwnedFd) -> Result<(), Trouble> {
    rustix::fs::fsetxattr(
        directory,
        "trusted.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )?;
    match rustix::fs::fsetxattr(directory, "user.overlay.opaque", b"y", XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

pub(super) fn times(file: &OwnedFd, mtime: (i64, u32)) -> Result<(), Trouble> {
    Ok(rustix::fs::futimens(file, &timestamps(mtime))?)
}

pub(super) fn times_at(parent: &OwnedFd, name: &[u8], mtime: (i64, u32)) -> Result<(), Trouble> {
    Ok(rustix::fs::utimensat(
        parent,
        os(name),
        &timestamps(mtime),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// The attributes of a file that overlayfs wrote as a layer has them; those that only steer
/// overlayfs are taken off the file, and what unpacking would have changed is changed.
pub(crate) fn normalise(file: &OwnedFd, is_opaque: bool) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut kept = Vec::new();
    for name in names(file)? {
        if name == b"trusted.overlay.opaque" && is_opaque {
            continue;
        }
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            rustix::fs::fremovexattr(file, os(&name))?;
            continue;
        }
        let wanted = matches!(
            &*name,
            b"security.capability" | DEFAULT_ACL | b"system.posix_acl_access"
        ) || name.starts_with(b"user.");
        if !wanted {
            continue;
        }
        let value = value(file, &name)?;
        let new = if name == b"security.capability" {
            capability(&value)
        } else {
            value.clone()
        };
        if new != value {
            rustix::fs::fsetxattr(file, os(&name), &new, XattrFlags::empty())?;
        }
        kept.push((name, new));
    }
    if is_opaque {
        match rustix::fs::fsetxattr(file, "user.overlay.opaque", b"y", XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => {}
            outcome => outcome?,
        }
    }
    kept.sort();
    Ok(kept)
}

/// What copying a file within images takes along.
pub(crate) fn copied(file: &OwnedFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in names(file)? {
        let value = value(file, &name)?;
        if let Some(value) = kept_attribute(&name, &value) {
            found.push((name, value));
        }
    }
    Ok(found)
}

/// Sets one that [`copied`] gave.
pub(crate) fn give(file: &OwnedFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    match rustix::fs::fsetxattr(file, os(name), value, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) if name != b"security.capability" => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn names(file: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut list = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(file, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        outcome => outcome?,
    };
    Ok(list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

fn value(file: &OwnedFd, name: &[u8]) -> io::Result<Vec<u8>> {
    let mut value = vec![0; 64 << 10];
    let length = rustix::fs::fgetxattr(file, os(name), &mut value[..])?;
    value.truncate(length);
    Ok(value)
}
