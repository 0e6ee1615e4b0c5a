//! All sandboxes together: whether anything happens in any of them, and which there are.

use super::files::{Dir, Held, open};
use super::{find, sample};
use crate::spec::Id;
use rustix::fs::OFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The cgroup that holds those of all sandboxes.
#[derive(Debug)]
pub struct Groups {
    /// Where processor time is shared; None on a host without it.
    directory: Option<Dir>,
    opened: Option<OwnedFd>,
    unified: bool,
    usage: Option<Held>,
}

impl Groups {
    pub(crate) fn new(root: &str) -> Self {
        let cpu = find("cpu");
        let unified = cpu.is_some_and(|found| found.unified);
        let counting = if unified { cpu } else { find("cpuacct") };
        let file = if unified { "cpu.stat" } else { "cpuacct.usage" };
        Self {
            directory: cpu.map(|found| Dir::new(found.environments(root))),
            opened: None,
            unified,
            usage: counting.map(|found| Dir::new(found.environments(root)).held(file)),
        }
    }

    /// Processor time used by all of them so far; None before there was one.
    #[must_use]
    pub fn usage(&self) -> Option<Duration> {
        self.usage.as_ref()?.read(sample::usage(self.unified)).ok()
    }

    /// How many there are, members not counted; cheap.
    pub fn count(&mut self) -> usize {
        let Some(directory) = &self.directory else {
            return 0;
        };
        if self.opened.is_none() {
            self.opened = open(&directory.path(""), OFlags::PATH | OFlags::DIRECTORY).ok();
        }
        let links = self
            .opened
            .as_ref()
            .and_then(|opened| rustix::fs::fstat(opened).ok());
        // Its name, its own `.`, and each child's `..`.
        links.map_or(0, |stat| {
            usize::try_from(stat.st_nlink)
                .unwrap_or(0)
                .saturating_sub(2)
        })
    }

    /// Those there are, members too.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn list(&self) -> io::Result<Vec<Id>> {
        let Some(directory) = &self.directory else {
            return Ok(Vec::new());
        };
        let named = |name: String| Id::try_from(name).ok();
        let mut found = Vec::new();
        let children = match directory.children() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            children => children?,
        };
        for id in children.into_iter().filter_map(named) {
            let inside = directory.below(id.as_str()).children().unwrap_or_default();
            let members = inside.into_iter().filter_map(named);
            found.extend(members.filter(|member| member.owner().as_ref() == Some(&id)));
            found.push(id);
        }
        Ok(found)
    }
}
