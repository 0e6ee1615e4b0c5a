//! Moving processes so that only the environment's own can be moved.
//!
//! The kernel decides by the credentials a file was opened with. In version 2 it wants the right to
//! write `cgroup.procs` of the nearest common ancestor: root of the environment has it from `inner`
//! down and nowhere else, so that a process that stands outside `inner` is refused. In version 1 it
//! compares the effective user id with that of the process: ids of an environment are nobody else's.
//! So the file is opened as root of the environment, without capabilities, or as the process's user.
//!
//! A process is moved with all its threads: in version 1 one by one through `tasks`, which waits for
//! nothing, while `cgroup.procs` stops every fork of the machine for a grace period.

use super::files::{Dir, open};
use super::identity;
use crate::spec::ID_RANGE;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Files kept open; an environment has few users.
const MOST_FILES: usize = 64;
/// How often the threads of a process are listed while it makes new ones.
const ROUNDS: usize = 4;
/// Most threads moved one by one.
const MOST_THREADS: usize = 512;

/// Files for writing, by path and by who opened them.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<(PathBuf, u32), OwnedFd>);

impl Files {
    /// Writes a process to a class's directory.
    pub(super) fn write(
        &mut self,
        dir: &Dir,
        unified: bool,
        id_base: u32,
        pid: u32,
        uid: u32,
    ) -> io::Result<()> {
        if !is_own(id_base, uid) {
            return Err(Errno::ACCESS.into());
        }
        if unified {
            let file = self.file(dir.path("cgroup.procs"), id_base, false)?;
            return put(file, pid);
        }
        let file = self.file(dir.path("tasks"), uid, true)?;
        put(file, pid)?;
        // Its other threads; those that come while it is looked are made by ones already moved, or
        // found in the next round.
        let mut moved = vec![pid];
        for _ in 0..ROUNDS {
            let found = threads(pid);
            let new: Vec<u32> = found
                .into_iter()
                .filter(|thread| !moved.contains(thread))
                .collect();
            if new.is_empty() {
                break;
            }
            for thread in new {
                match put(file, thread) {
                    Ok(()) => {}
                    // It ended.
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(error) => return Err(error),
                }
                moved.push(thread);
            }
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf, uid: u32, override_modes: bool) -> io::Result<&OwnedFd> {
        if self.0.len() >= MOST_FILES && !self.0.contains_key(&(path.clone(), uid)) {
            self.0.clear();
        }
        match self.0.entry((path, uid)) {
            std::collections::hash_map::Entry::Occupied(held) => Ok(held.into_mut()),
            std::collections::hash_map::Entry::Vacant(place) => {
                let path = place.key().0.clone();
                let opened =
                    identity::acting_as(uid, override_modes, || open(&path, OFlags::WRONLY))??;
                Ok(place.insert(opened))
            }
        }
    }
}

/// Whether a user id is of the environment whose range begins there.
pub(super) fn is_own(id_base: u32, uid: u32) -> bool {
    id_base > 0
        && uid
            .checked_sub(id_base)
            .is_some_and(|offset| offset < ID_RANGE)
}

fn put(file: &OwnedFd, task: u32) -> io::Result<()> {
    let mut text = [0u8; 12];
    let mut cursor = io::Cursor::new(&mut text[..]);
    io::Write::write_fmt(&mut cursor, format_args!("{task}"))?;
    let length = usize::try_from(cursor.position()).unwrap_or(0);
    rustix::io::write(file, text.get(..length).unwrap_or_default())?;
    Ok(())
}

fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    names.take(MOST_THREADS).collect()
}
