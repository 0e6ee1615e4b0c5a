//! Host directories bound into a sandbox, their ids shifted.
//!
//! Owns the three ways ids appear ([`MountIds`]) and opening a path with somebody's credentials. A
//! path is opened once, by whom it is meant to be opened, and mounted by that descriptor: nobody
//! can swap it in between.

use super::{file_system, nodev};
use crate::error::{Failure, Step};
use crate::protection::{self, Protection};
use crate::spec::{ID_RANGE, MountIds, Spec, Swap, User};
use crate::sys::mounts::{Attributes, set_attributes};
use crate::sys::process::{self, Forked};
use crate::{protocol, record};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A host path ready to be attached.
pub(super) struct Prepared {
    pub(super) mount: OwnedFd,
    pub(super) directory: bool,
}

/// Opens, clones and shifts `path`.
pub(super) fn prepare(
    spec: &Spec,
    path: &Path,
    ids: MountIds,
    user: Option<User>,
    read_only: bool,
) -> Result<Prepared, Failure> {
    let what = || format!("mount {}", path.display());
    let opened = match user {
        Some(user) => open_as(user, path)
            .step_with(|| format!("open {} as user {}", path.display(), user.uid))?,
        None => rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .step_with(|| format!("open {}", path.display()))?,
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&opened).step_with(what)?.st_mode);
    if !matches!(
        kind,
        FileType::Directory | FileType::RegularFile | FileType::Socket
    ) {
        return Err(Failure::new(
            what(),
            "it is neither a directory, a file nor a socket",
        ));
    }
    let mount = rustix::mount::open_tree(
        &opened,
        c"",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE,
    )
    .step_with(what)?;
    let mut set = nodev();
    if !protection::removed(Protection::Nosuid) {
        set |= libc::MOUNT_ATTR_NOSUID;
    }
    if read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    let all = Attributes {
        set,
        recursive: true,
    };
    let Some(maps) = IdMaps::of(spec.id_base, ids).step_with(what)? else {
        set_attributes(mount.as_fd(), all, None).step_with(what)?;
        return Ok(Prepared {
            mount,
            directory: kind == FileType::Directory,
        });
    };
    let userns = maps.namespace().step_with(what)?;
    if set_attributes(mount.as_fd(), all, Some(userns.as_fd())).is_err() {
        // Something mounted below cannot be shifted: it stays visible as nobody's, the rest works.
        set_attributes(mount.as_fd(), all, None).step_with(what)?;
        let top = Attributes {
            set: 0,
            recursive: false,
        };
        set_attributes(mount.as_fd(), top, Some(userns.as_fd())).map_err(|error| {
            Failure::new(
                what(),
                format!(
                    "its file system ({}) does not support idmapped mounts ({error}); move the folder to ext4, xfs or btrfs",
                    file_system(opened.as_fd())
                ),
            )
        })?;
    }
    Ok(Prepared {
        mount,
        directory: kind == FileType::Directory,
    })
}

/// Opens `path` read-only with a user's credentials, in a process of its own.
pub(crate) fn open_as(user: User, path: &Path) -> std::io::Result<OwnedFd> {
    let groups = supplementary_groups(user)?;
    let (ours, theirs) = protocol::pair()?;
    match process::clone(0, None)? {
        Forked::Child => {
            drop(ours);
            let result = process::become_user(user.uid, user.gid, &groups).and_then(|()| {
                // A monitor keeps its capabilities across a change of ids: give them up by hand,
                // or this would open everything.
                let none = rustix::thread::CapabilitySet::empty();
                rustix::thread::set_capabilities(
                    None,
                    rustix::thread::CapabilitySets {
                        effective: none,
                        permitted: none,
                        inheritable: none,
                    },
                )?;
                rustix::fs::open(
                    path,
                    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
                    Mode::empty(),
                )
                .map_err(std::io::Error::from)
            });
            let sent = match result {
                Ok(fd) => protocol::send_bytes(theirs.as_fd(), &0i32.to_ne_bytes(), &[fd.as_fd()]),
                Err(error) => {
                    let code = error.raw_os_error().unwrap_or(libc::EIO);
                    protocol::send_bytes(theirs.as_fd(), &code.to_ne_bytes(), &[])
                }
            };
            process::exit_now(i32::from(sent.is_err()))
        }
        Forked::Parent { pidfd, .. } => {
            drop(theirs);
            let answer = protocol::receive_bytes(ours.as_fd());
            record::wait_end(&pidfd, None);
            reap(&pidfd);
            let (bytes, mut fds) =
                answer?.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
            match (
                bytes.as_slice().try_into().map(i32::from_ne_bytes),
                fds.pop(),
            ) {
                (Ok(0), Some(fd)) => Ok(fd),
                (Ok(code), _) => Err(std::io::Error::from_raw_os_error(code)),
                (Err(_), _) => Err(std::io::Error::from(std::io::ErrorKind::InvalidData)),
            }
        }
    }
}

/// Takes the zombie of an ended child away; where SIGCHLD is ignored there is none.
fn reap(pidfd: &OwnedFd) {
    let _ = rustix::process::waitid(
        rustix::process::WaitId::PidFd(pidfd.as_fd()),
        rustix::process::WaitIdOptions::EXITED,
    );
}

/// The groups /etc/group lists a user in, beside the primary one.
pub(crate) fn supplementary_groups(user: User) -> std::io::Result<Vec<u32>> {
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let uid = user.uid.to_string();
    let mut groups = vec![user.gid];
    let Some(name) = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    }) else {
        return Ok(groups);
    };
    for line in std::fs::read_to_string("/etc/group")?.lines() {
        let mut fields = line.split(':').skip(2);
        let (Some(gid), Some(members)) = (fields.next(), fields.next()) else {
            continue;
        };
        if let Ok(gid) = gid.parse()
            && members.split(',').any(|member| member == name)
            && !groups.contains(&gid)
        {
            groups.push(gid);
        }
    }
    Ok(groups)
}

/// A uid_map and a gid_map: lines of (id on disk, id on the host, count).
pub(crate) struct IdMaps {
    uid: Vec<(u32, u32, u32)>,
    gid: Vec<(u32, u32, u32)>,
}

/// The developer's id lies in the environment's own range.
#[derive(Debug, thiserror::Error)]
#[error("id {0} is in a range used by environments or outside it; give the folder another owner")]
pub(crate) struct Overlapping(u32);

impl IdMaps {
    /// The maps a mount's ids need; None when they are not shifted.
    pub(crate) fn of(id_base: u32, ids: MountIds) -> Result<Option<Self>, Overlapping> {
        match ids {
            MountIds::Host => Ok(None),
            MountIds::Unshifted => Ok(Some(Self::environment(id_base))),
            MountIds::Developer {
                outside_uid,
                outside_gid,
                inside_uid,
                inside_gid,
            } => Ok(Some(Self {
                uid: developer(id_base, outside_uid, inside_uid)?,
                gid: developer(id_base, outside_gid, inside_gid)?,
            })),
        }
    }

    /// The maps of the environment itself: 0 up to its range.
    pub(crate) fn environment(id_base: u32) -> Self {
        let all = vec![(0, id_base, ID_RANGE)];
        Self {
            uid: all.clone(),
            gid: all,
        }
    }

    /// The maps of an environment some of whose ids stand for each other: of its user namespace, while
    /// what it mounts has the plain ones.
    pub(crate) fn swapped(id_base: u32, swap: Swap) -> Self {
        Self {
            uid: swapped(id_base, swap.uid),
            gid: swapped(id_base, swap.gid),
        }
    }

    /// The lines of a map file.
    fn text(map: &[(u32, u32, u32)]) -> String {
        map.iter()
            .map(|(inside, outside, count)| format!("{inside} {outside} {count}\n"))
            .collect()
    }

    /// Writes the maps of a process in a fresh user namespace.
    pub(crate) fn write(&self, pid: u32) -> std::io::Result<()> {
        std::fs::write(format!("/proc/{pid}/uid_map"), Self::text(&self.uid))?;
        std::fs::write(format!("/proc/{pid}/gid_map"), Self::text(&self.gid))
    }

    /// A user namespace with these maps and nothing in it.
    pub(crate) fn namespace(&self) -> std::io::Result<OwnedFd> {
        let (pid, pidfd) = process::clone_waiting(libc::CLONE_NEWUSER)?;
        let result = self.write(pid).and_then(|()| {
            Ok(rustix::fs::open(
                format!("/proc/{pid}/ns/user"),
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?)
        });
        let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
        reap(&pidfd);
        result
    }
}

fn swapped(id_base: u32, pair: Option<(u32, u32)>) -> Vec<(u32, u32, u32)> {
    let pair = pair.map(|(one, other)| (one.min(other), one.max(other)));
    let Some((low, high)) = pair.filter(|(low, high)| 0 < *low && low < high && *high < ID_RANGE)
    else {
        return vec![(0, id_base, ID_RANGE)];
    };
    let mut map = vec![
        (0, id_base, low),
        (low, id_base + high, 1),
        (low + 1, id_base + low + 1, high - low - 1),
        (high, id_base + low, 1),
        (high + 1, id_base + high + 1, ID_RANGE - high - 1),
    ];
    map.retain(|(.., count)| *count > 0);
    map
}

/// One developer's map: their own id appears as the inside one, every other inside id as itself in
/// the environment's range. Injective both ways.
fn developer(id_base: u32, outside: u32, inside: u32) -> Result<Vec<(u32, u32, u32)>, Overlapping> {
    if inside >= ID_RANGE {
        return Err(Overlapping(inside));
    }
    if (id_base..id_base + ID_RANGE).contains(&outside) {
        return Err(Overlapping(outside));
    }
    let own = id_base + inside;
    let mut map = vec![(outside, own, 1)];
    if inside > 0 {
        map.push((id_base, id_base, inside));
    }
    let rest = ID_RANGE - inside - 1;
    if rest > 0 {
        map.push((own + 1, own + 1, rest));
    }
    Ok(map)
}

#[cfg(test)]
mod tests;
