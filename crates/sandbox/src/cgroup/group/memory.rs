//! Who would be killed first when memory runs out: `oom_score_adj` of the processes of a sandbox.
//!
//! A process is looked at and written to through its directory in /proc, opened once and then
//! compared with the sandbox's cgroups, so that a reused id is never taken for it. Raising is what the
//! host may do here without CAP_SYS_RESOURCE, and lowering to 0 again. Which score is right is
//! `plan`'s.

use super::{Class, Dir, Error, Group, sample};
use rustix::fs::{Mode, OFlags};
use std::io::{self, Read};
use std::os::fd::OwnedFd;

/// Groups made inside that are looked into.
const MOST_GROUPS: usize = 256;
/// Processes that are looked at.
const MOST_PROCESSES: usize = 4096;

/// A process as the choice of a victim sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id as the host sees it.
    pub pid: u32,
    /// Its class; None in a group made inside.
    pub class: Option<Class>,
    /// It leads a session: a shell, or what was started instead of one.
    pub leads: bool,
    /// Its `oom_score_adj`.
    pub score: i32,
}

impl Group {
    /// Its processes, as many as are looked at.
    ///
    /// # Errors
    /// When it is gone.
    pub fn candidates(&self) -> Result<Vec<Candidate>, Error> {
        let mut found = Vec::new();
        let mut look = |pids: Vec<u32>, class| {
            for pid in pids {
                if found.len() >= MOST_PROCESSES {
                    return;
                }
                // Gone meanwhile, or moved away.
                found.extend(self.candidate(pid, class));
            }
        };
        for class in Class::ALL {
            look(self.processes(class)?.0, Some(class));
        }
        let inner = self.cpu.below("inner");
        let mut groups: Vec<Dir> = self
            .made_inside()?
            .iter()
            .map(|name| inner.below(name))
            .collect();
        let mut seen = 0;
        while let Some(group) = groups.pop() {
            seen += 1;
            if seen > MOST_GROUPS {
                break;
            }
            // One that is gone has no processes.
            if let Ok((pids, _)) = group.held("cgroup.procs").read_ids() {
                look(pids, None);
            }
            let children = group.children().unwrap_or_default();
            groups.extend(children.iter().map(|name| group.below(name)));
        }
        Ok(found)
    }

    fn candidate(&self, pid: u32, class: Option<Class>) -> Option<Candidate> {
        let process = self.process(pid).ok()?;
        let stat = read(&process, "stat").ok()?;
        // The name may hold anything: fields are counted from its end.
        let (_, fields) = stat.rsplit_once(')')?;
        let session = fields.split_ascii_whitespace().nth(3)?;
        let score = read(&process, "oom_score_adj").ok()?;
        Some(Candidate {
            pid,
            class,
            leads: session.parse() == Ok(pid),
            score: score.trim().parse().ok()?,
        })
    }

    /// Sets the score of a process; of one that is gone or of another sandbox nothing.
    pub fn set_oom_score(&self, pid: u32, score: i32) {
        let Ok(process) = self.process(pid) else {
            return;
        };
        let file = rustix::fs::openat(
            &process,
            "oom_score_adj",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        if let Ok(file) = file {
            // It may have ended since.
            let _ = rustix::io::write(&file, score.to_string().as_bytes());
        }
    }

    /// The directory of a process that is in this sandbox.
    fn process(&self, pid: u32) -> io::Result<OwnedFd> {
        let process = rustix::fs::open(
            format!("/proc/{pid}"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let top = self.cpu.path("");
        let Some(below) = super::find("cpu").and_then(|found| top.strip_prefix(&found.mount).ok())
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let wanted = format!("/{}/", below.display());
        let cgroups = read(&process, "cgroup")?;
        let mut paths = cgroups
            .lines()
            .filter_map(|line| line.splitn(3, ':').nth(2));
        if paths.any(|path| path.starts_with(&wanted)) {
            Ok(process)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// How many processes were killed so far because memory ran out, where the kernel's log does not
    /// tell more. In version 1 those in groups made inside are not among them.
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory_kills(&self) -> Result<u64, Error> {
        let Some(dir) = &self.memory else {
            return Ok(0);
        };
        let (dir, name) = if self.unified {
            (dir.clone(), "memory.events")
        } else {
            (dir.below("inner"), "memory.oom_control")
        };
        let text = dir
            .read(name)
            .map_err(self.failed("read", dir.path(name)))?;
        let mut memory = sample::Memory::default();
        memory.count_events(&text);
        Ok(memory.oom_kills)
    }
}

fn read(directory: &OwnedFd, name: &str) -> io::Result<String> {
    let file = rustix::fs::openat(
        directory,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(16 * 1024)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
