//! The cgroups of one running sandbox: what its processes use, and what is written about them.
//!
//! Owns the reading and writing of the files, of version 1 and 2 alike, through descriptors that stay
//! open: a sample of an idle sandbox costs one `pread`. A file is opened when it is first asked for.
//! It decides nothing: weights, quotas, moves and limits are `plan`'s, the loops that carry them out
//! `runner`'s.
//!
//! Whose processes: a process id read from a cgroup may belong to somebody else by the time it is
//! written to another. [`Group::place`] therefore writes through a file that was opened with the
//! credentials of the environment, to which the kernel refuses processes that are not its own.
//!
//! Crash behaviour: a handle is only open files. Of a sandbox that was removed every call answers an
//! error that [`Error::is_gone`]; one started again under the same id needs a new handle.
//!
//! Read next: [`Group`], `files`, `place`, `processor`, `limits`, [`sample`].

mod all;
mod disks;
mod files;
mod identity;
mod limits;
mod made;
mod memory;
mod place;
mod processes;
mod processor;
pub mod sample;

pub use all::Groups;
pub(super) use limits::begin;
pub use processes::Seen;
pub use processor::{Quota, Weight};

use super::CLASSES;
use super::hierarchies::{Hierarchy, all};
use crate::spec::Id;
use files::{Dir, Held};
use processor::Refused;
use sample::{Memory, Pressure, Resource, Throttling};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

pub use memory::Candidate;

/// A share of an environment's processor; a child of its `inner` cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The agent, IDE servers, SSH.
    Agent,
    /// Interactive shells.
    Sessions,
    /// What sessions start and then takes the processor, and lifecycle commands.
    Builds,
    /// Containers started inside.
    Nested,
}

impl Class {
    /// All of them, as in [`CLASSES`].
    pub const ALL: [Class; 4] = [Self::Agent, Self::Sessions, Self::Builds, Self::Nested];

    /// The cgroup's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        CLASSES[self as usize]
    }
}

/// Why a cgroup could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("sandbox {id}: cannot {verb} {}", file.display())]
pub struct Error {
    /// The sandbox.
    pub id: Id,
    /// `read`, `write` or `open`.
    verb: &'static str,
    /// Which file.
    pub file: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl Error {
    /// The cgroup, or the process that was to be moved, is no more: not a failure.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let code = self
            .source
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error);
        matches!(
            code,
            Some(rustix::io::Errno::NODEV | rustix::io::Errno::NOENT | rustix::io::Errno::SRCH)
        )
    }
}

/// Handle on the cgroups of one sandbox.
#[derive(Debug)]
pub struct Group {
    id: Id,
    /// First id of the environment: who owns `inner`.
    id_base: u32,
    unified: bool,
    /// Where processor time is shared.
    cpu: Dir,
    classes: [Shared; 4],
    /// Where it is counted: the same in version 2.
    usage: Held,
    stat: Held,
    memory: Option<Dir>,
    memory_usage: Option<Held>,
    memory_stat: Option<Held>,
    pids: Option<Held>,
    io: Option<Held>,
    /// Numbers of requests, in version 1, and tasks.
    io_requests: Option<Held>,
    io_tasks: Vec<Held>,
    io_limits: Vec<Held>,
    io_dir: Option<Dir>,
    pressure: [Option<Held>; 3],
    placing: Mutex<place::Files>,
}

/// The files of one class.
#[derive(Debug)]
struct Shared {
    dir: Dir,
    /// In the hierarchy that counts, of version 1.
    counted: Option<Dir>,
    usage: Held,
    stat: Held,
    processes: Held,
}

/// Gives the threads of the calling process short time slices, so that they are let in soon when they
/// wake; processes and threads they make have usual ones. Best effort.
pub fn hasten_threads() {
    let threads = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    for thread in threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok()) {
        let _ = crate::sys::process::set_slice(thread, SLICE);
    }
}

/// The kernel's least.
const SLICE: Duration = Duration::from_micros(100);

fn find(controller: &str) -> Option<&'static Hierarchy> {
    all().iter().find(|hierarchy| hierarchy.has(controller))
}

impl Group {
    /// Of a sandbox or a member by id.
    pub(crate) fn open(root: &str, id: &Id) -> Result<Self, Error> {
        let failed = |file: PathBuf, source| Error {
            id: id.clone(),
            verb: "open",
            file,
            source,
        };
        let place = |hierarchy: &Hierarchy| {
            let environments = hierarchy.environments(root);
            match id.owner() {
                // A sandbox of its own may have a name like a member's.
                Some(owner) if environments.join(owner.as_str()).join(id.as_str()).exists() => {
                    environments.join(owner.as_str()).join(id.as_str())
                }
                _ => environments.join(id.as_str()),
            }
        };
        let cpu = find("cpu").ok_or_else(|| {
            failed(
                PathBuf::from("/sys/fs/cgroup"),
                io::Error::other("no cpu controller is mounted"),
            )
        })?;
        let unified = cpu.unified;
        let counting = if unified { Some(cpu) } else { find("cpuacct") };
        let dir = |controller: &str| find(controller).map(|found| Dir::new(place(found)));
        let top = place(cpu);
        let id_base = {
            use std::os::unix::fs::MetadataExt;
            let inner = top.join("inner");
            let owner = std::fs::metadata(&inner).map(|inner| inner.uid());
            // The host's before it is the environment's: only being made.
            let given = owner.and_then(|uid| match uid {
                0 => Err(rustix::io::Errno::NOENT.into()),
                uid => Ok(uid),
            });
            given.map_err(|error| failed(inner, error))?
        };
        let usage_file = if unified { "cpu.stat" } else { "cpuacct.usage" };
        let counted =
            counting.map_or_else(|| Dir::new(top.clone()), |found| Dir::new(place(found)));
        let classes = Class::ALL.map(|class| {
            let below = |dir: &Dir| dir.below("inner").below(class.name());
            let (own, of_usage) = (Dir::new(top.clone()), below(&counted));
            let own = below(&own);
            Shared {
                usage: of_usage.held(usage_file),
                stat: own.held("cpu.stat"),
                processes: own.held("cgroup.procs"),
                counted: (!unified && counting.is_some_and(|found| found.name != cpu.name))
                    .then_some(of_usage),
                dir: own,
            }
        });
        let cpu = Dir::new(top);
        let memory = dir("memory");
        let io_files = if unified { "io.stat" } else { disks::COUNTED };
        let io_dir = dir(if unified { "io" } else { "blkio" });
        if let Some(found) = find("blkio").filter(|_| !unified) {
            Self::have_disks_counted(&Dir::new(found.environments(root)));
        }
        Ok(Self {
            id: id.clone(),
            id_base,
            unified,
            usage: counted.held(usage_file),
            stat: cpu.held("cpu.stat"),
            memory_usage: memory.as_ref().map(|dir| {
                dir.held(if unified {
                    "memory.current"
                } else {
                    "memory.usage_in_bytes"
                })
            }),
            memory_stat: memory.as_ref().map(|dir| dir.held("memory.stat")),
            memory,
            pids: dir("pids").map(|dir| dir.held("pids.current")),
            io: io_dir.as_ref().map(|dir| dir.held(io_files)),
            io_requests: io_dir
                .as_ref()
                .filter(|_| !unified)
                .map(|dir| dir.held("blkio.throttle.io_serviced_recursive")),
            io_tasks: Self::task_files(io_dir.as_ref(), unified),
            io_limits: Self::limit_files(io_dir.as_ref(), unified),
            io_dir,
            pressure: Resource::ALL.map(|resource| {
                unified.then(|| cpu.held(&format!("{}.pressure", resource.name())))
            }),
            cpu,
            classes,
            placing: Mutex::default(),
        })
    }

    /// The sandbox.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Whether this host has version 2.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.unified
    }

    fn pids_dir(&self) -> Option<Dir> {
        let hierarchy = find("pids")?;
        let top = if self.unified {
            self.cpu.path("")
        } else {
            self.top_in(hierarchy)?
        };
        Some(Dir::new(top))
    }

    fn refused(&self, dir: &Dir) -> impl FnOnce(Refused) -> Error {
        let (id, dir) = (self.id.clone(), dir.path(""));
        move |refused| Error {
            id,
            verb: refused.verb,
            file: dir.join(refused.file),
            source: refused.source,
        }
    }

    fn failed(&self, verb: &'static str, file: PathBuf) -> impl FnOnce(io::Error) -> Error {
        let id = self.id.clone();
        move |source| Error {
            id,
            verb,
            file,
            source,
        }
    }

    fn read<T>(&self, held: &Held, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
        held.read(parse).map_err(self.failed("read", held.path()))
    }

    fn write(&self, dir: &Dir, name: &str, text: &str) -> Result<(), Error> {
        dir.write(name, text)
            .map_err(self.failed("write", dir.path(name)))
    }

    /// Processor time used by everything inside so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn usage(&self) -> Result<Duration, Error> {
        self.read(&self.usage, sample::usage(self.unified))
    }

    /// The same of one class; what runs in groups made below `inner` is in none but the whole. None
    /// where it is not counted: in a sandbox of before it was.
    ///
    /// # Errors
    /// When it is gone.
    pub fn class_usage(&self, class: Class) -> Result<Option<Duration>, Error> {
        let held = &self.classes[class as usize].usage;
        match self.read(held, sample::usage(self.unified)) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// How the whole was held back by its quota so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn throttling(&self) -> Result<Throttling, Error> {
        self.read(&self.stat, |text| Some(Throttling::parse(text)))
    }

    /// The same of one class by its own quota.
    ///
    /// # Errors
    /// When it is gone.
    pub fn class_throttling(&self, class: Class) -> Result<Throttling, Error> {
        self.read(&self.classes[class as usize].stat, |text| {
            Some(Throttling::parse(text))
        })
    }

    /// How much of the time something inside waited; None where the kernel does not tell it of
    /// single cgroups (version 1).
    ///
    /// # Errors
    /// When it is gone.
    pub fn pressure(&self, resource: Resource) -> Result<Option<Pressure>, Error> {
        let Some(held) = &self.pressure[resource as usize] else {
            return Ok(None);
        };
        match self.read(held, |text| Some(Pressure::parse(text))) {
            // A kernel started with psi=0.
            Err(error) if error.source.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
            Err(error) if error.is_gone() && self.usage().is_ok() => Ok(None),
            read => read.map(Some),
        }
    }

    /// Memory; None without the controller.
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory(&self) -> Result<Option<Memory>, Error> {
        let (Some(dir), Some(usage), Some(stat)) =
            (&self.memory, &self.memory_usage, &self.memory_stat)
        else {
            return Ok(None);
        };
        let mut memory = self.read(stat, |text| Some(Memory::parse_stat(text)))?;
        memory.usage = self.read(usage, sample::number)?;
        let text = |name: &str| dir.read(name).unwrap_or_default();
        if self.unified {
            memory.limit = sample::maximum(&text("memory.max"));
            memory.peak = sample::number(&text("memory.peak")).unwrap_or(0);
            memory.swap = sample::number(&text("memory.swap.current")).unwrap_or(0);
            memory.count_events(&text("memory.events"));
        } else {
            memory.limit = sample::maximum(&text("memory.limit_in_bytes"));
            memory.peak = sample::number(&text("memory.max_usage_in_bytes")).unwrap_or(0);
            memory.limit_hits = sample::number(&text("memory.failcnt")).unwrap_or(0);
            memory.count_events(&text("memory.oom_control"));
        }
        Ok(Some(memory))
    }

    /// Bytes of memory in use; cheaper than [`Group::memory`]. None without the controller.
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory_usage(&self) -> Result<Option<u64>, Error> {
        let usage = self.memory_usage.as_ref();
        usage
            .map(|held| self.read(held, sample::number))
            .transpose()
    }

    /// Tasks; None without the controller.
    ///
    /// # Errors
    /// When it is gone.
    pub fn pids(&self) -> Result<Option<u64>, Error> {
        let pids = self.pids.as_ref();
        pids.map(|held| self.read(held, sample::number)).transpose()
    }

    /// Ids of the processes of a class as the host sees them, at most 4096 of
    /// them, and whether those are all.
    ///
    /// # Errors
    /// When it is gone.
    pub fn processes(&self, class: Class) -> Result<(Vec<u32>, bool), Error> {
        let held = &self.classes[class as usize].processes;
        held.read_ids().map_err(self.failed("read", held.path()))
    }

    /// Moves a process with all its threads to a class. `uid` is its user id as the host sees it.
    /// One that is no more, or is not of this environment by now, is left alone: the kernel compares
    /// (see the module's documentation).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn place(&self, pid: u32, uid: u32, class: Class) -> Result<(), Error> {
        let shared = &self.classes[class as usize];
        let mut files = self
            .placing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut put = |dir: &Dir| files.write(dir, self.unified, self.id_base, pid, uid);
        put(&shared.dir).map_err(self.failed("write", shared.dir.path("cgroup.procs")))?;
        if let Some(counted) = &shared.counted {
            // What is counted wrongly is shared rightly all the same.
            let _ = put(counted);
        }
        Ok(())
    }

    /// Processes of a class, and whether those are all: of more than `most` the first quarter of so
    /// many, and from the end the rest, which are the latest.
    ///
    /// # Errors
    /// When it is gone.
    pub fn look(&self, class: Class, most: usize) -> Result<(Vec<Seen>, bool), Error> {
        let (mut ids, whole) = self.processes(class)?;
        let surplus = ids.len().saturating_sub(most);
        if surplus > 0 {
            let first = most / 4;
            ids.drain(first..first + surplus);
        }
        let seen = ids.into_iter().filter_map(processes::see);
        Ok((seen.collect(), whole && surplus == 0))
    }

    /// Moves a process as [`Group::place`], whoever it runs as.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn place_any(&self, pid: u32, class: Class) -> Result<(), Error> {
        match processes::user(pid) {
            Some(uid) => self.place(pid, uid, class),
            None => Ok(()),
        }
    }

    /// Gives a process short time slices, so that it is let in soon when it wakes; its children have
    /// usual ones. Done as its own user, without capabilities: to a process of somebody else that has
    /// its id by now the kernel refuses it.
    ///
    /// # Errors
    /// When the kernel refuses; before 6.12 it takes no notice.
    pub fn hasten(&self, pid: u32) -> Result<(), Error> {
        let failed = |source| Error {
            id: self.id.clone(),
            verb: "set the time slice by",
            file: format!("/proc/{pid}").into(),
            source,
        };
        let Some(uid) = processes::user(pid).filter(|uid| self.is_own(*uid)) else {
            return Ok(());
        };
        let set = || crate::sys::process::set_slice(pid, SLICE);
        identity::acting_as(uid, false, set)
            .and_then(|set| set)
            .map_err(failed)
    }

    fn is_own(&self, uid: u32) -> bool {
        place::is_own(self.id_base, uid)
    }

    /// Its directory in another hierarchy of version 1: below the same path.
    fn top_in(&self, hierarchy: &Hierarchy) -> Option<PathBuf> {
        let cpu = find("cpu")?;
        let top = self.cpu.path("");
        let below = top.strip_prefix(&cpu.mount).ok()?;
        Some(hierarchy.mount.join(below))
    }
}

#[cfg(test)]
mod tests;
