//! Files of the cgroup file systems, kept open.
//!
//! The kernel generates such a file anew for each read from its beginning, so that one descriptor
//! serves for the cgroup's whole life (lists of ids apart); when that is removed, reading answers ENODEV.

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Most ids of processes read at once: root inside may make as many as its limit allows.
pub(super) const MOST_PROCESSES: usize = 4096;
/// What such a list has at most: seven digits and a line's end each.
const MOST_BYTES: usize = MOST_PROCESSES * 8;
/// Files of figures are far shorter.
const FIGURES: usize = 8192;

/// A directory by path: what is in it is opened by name each time.
#[derive(Clone, Debug)]
pub(super) struct Dir(PathBuf);

/// A file that stays open from its first read on.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    file: OnceLock<OwnedFd>,
}

impl Dir {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn below(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    pub(super) fn held(&self, name: &str) -> Held {
        Held {
            path: self.0.join(name),
            file: OnceLock::new(),
        }
    }

    /// The path of a file in it, or its own for an empty name.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.0.clone()
        } else {
            self.0.join(name)
        }
    }

    pub(super) fn read(&self, name: &str) -> io::Result<String> {
        self.held(name).read(|text| Some(text.to_owned()))
    }

    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let file = open(&self.0.join(name), OFlags::WRONLY)?;
        rustix::io::write(&file, text.as_bytes())?;
        Ok(())
    }

    /// Names of the directories in it.
    pub(super) fn children(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    /// Goes through the groups below it, children first. Root inside chooses their names, number and
    /// depth: it goes by descriptors, and through so many and so deep only.
    pub(super) fn each_below(&self, visit: &dyn Fn(&OwnedFd)) -> io::Result<()> {
        let top = open(&self.0, OFlags::RDONLY | OFlags::DIRECTORY)?;
        descend(&top, visit, MOST_LEVELS, &mut MOST_GROUPS.clone())
    }
}

/// Groups gone through at once, and how deep.
const MOST_GROUPS: usize = 10_000;
const MOST_LEVELS: usize = 100;

fn descend(
    group: &OwnedFd,
    visit: &dyn Fn(&OwnedFd),
    levels: usize,
    left: &mut usize,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for entry in rustix::fs::Dir::read_from(group)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_child = entry.file_type() == FileType::Directory && name != c"." && name != c"..";
        if !is_child || levels == 0 || *left == 0 {
            continue;
        }
        *left -= 1;
        // It may be gone by now.
        if let Ok(child) = rustix::fs::openat(group, name, flags, Mode::empty()) {
            descend(&child, visit, levels - 1, left)?;
            visit(&child);
        }
    }
    Ok(())
}

pub(super) fn open(path: &Path, how: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(
        CWD,
        path,
        how | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
}

impl Held {
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn file(&self) -> rustix::io::Result<&OwnedFd> {
        match self.file.get() {
            Some(file) => Ok(file),
            None => {
                let file = open(&self.path, OFlags::RDONLY)?;
                Ok(self.file.get_or_init(|| file))
            }
        }
    }

    /// What it says now, by `parse`.
    pub(super) fn read<T>(&self, parse: impl FnOnce(&str) -> Option<T>) -> io::Result<T> {
        let mut buffer = [0; FIGURES];
        let read = rustix::io::pread(self.file()?, &mut buffer, 0)?;
        let text = std::str::from_utf8(buffer.get(..read).unwrap_or_default());
        text.ok().and_then(parse).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the kernel says what is not understood",
            )
        })
    }

    /// A list of ids, and whether it is whole. Opened anew: to a descriptor of version 1 that is read
    /// more than once a second the kernel repeats the list it made first.
    pub(super) fn read_ids(&self) -> io::Result<(Vec<u32>, bool)> {
        let file = &open(&self.path, OFlags::RDONLY)?;
        let mut bytes = Vec::new();
        let mut chunk = [0; FIGURES];
        loop {
            let at = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            match rustix::io::pread(file, &mut chunk, at) {
                Ok(0) => break,
                Ok(read) => bytes.extend_from_slice(chunk.get(..read).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if bytes.len() >= MOST_BYTES {
                break;
            }
        }
        let whole = bytes.len() < MOST_BYTES;
        let text = String::from_utf8_lossy(&bytes);
        let ids = text
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok());
        Ok((ids.take(MOST_PROCESSES).collect(), whole))
    }
}
