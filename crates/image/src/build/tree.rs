//! Trees of files that steps read: build contexts, stages, images.
//!
//! All calls block. Paths are relative to the tree's root, which no link leaves. What a tree holds
//! is untrusted; whose rights read it is the implementor's business: a [`View`] reads with the
//! caller's, a [`Folder`] with this process's and is for folders Boatyard made itself.
//!
//! Read next: `merged` (layers as a tree), `source` (what a pattern matches).

use boatyard_sandbox::beneath;
use boatyard_sandbox::view::{self, View};
pub use boatyard_sandbox::view::{Kind, Meta};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::Arc;

/// Files beneath a root.
pub trait Tree: Send + Sync {
    /// Entries of a folder, in no order; links are described themselves.
    ///
    /// # Errors
    /// When it cannot be read or is no folder.
    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, Meta)>>;
    /// What is at a path; None when nothing is. `follow`: of a link, what it leads to.
    ///
    /// # Errors
    /// When it cannot be told.
    fn stat(&self, path: &Path, follow: bool) -> io::Result<Option<Meta>>;
    /// Opens a regular file; links are followed.
    ///
    /// # Errors
    /// When it cannot be opened or is no regular file.
    fn open(&self, path: &Path) -> io::Result<File>;
    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// When it is none.
    fn read_link(&self, path: &Path) -> io::Result<OsString>;
}

/// A build context.
#[derive(Clone)]
pub struct Context {
    /// Its files.
    pub tree: Arc<dyn Tree>,
    /// What stays the same when the same folder is built again, by which digests of its files are
    /// kept. None keeps none.
    pub identity: Option<String>,
    /// Which of its paths do not exist for a build: path and whether it is a folder. A folder of
    /// which something is wanted is not left out itself.
    pub ignore: Option<Ignore>,
    /// Kept until the build is over.
    pub(crate) held: Option<Arc<crate::layers::Staging>>,
}

/// See [`Context::ignore`].
pub type Ignore = Arc<dyn Fn(&Path, bool) -> bool + Send + Sync>;

impl Context {
    /// Of a folder that this process may read and trusts its maker not to swap for devices.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn folder(path: &Path) -> io::Result<Context> {
        Ok(Context {
            tree: Arc::new(Folder::open(path)?),
            identity: Some(path.display().to_string()),
            ignore: None,
            held: None,
        })
    }

    /// Of a folder as its user sees it.
    #[must_use]
    pub fn view(view: View, uid: u32) -> Context {
        let identity = format!("{uid}:{}", view.root().display());
        Context {
            tree: Arc::new(view),
            identity: Some(identity),
            ignore: None,
            held: None,
        }
    }

    /// The same with paths left out.
    #[must_use]
    pub fn ignoring(mut self, ignore: Ignore) -> Context {
        self.ignore = Some(ignore);
        self
    }
}

impl Tree for View {
    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, Meta)>> {
        View::list(self, path)
    }
    fn stat(&self, path: &Path, follow: bool) -> io::Result<Option<Meta>> {
        View::stat(self, path, follow)
    }
    fn open(&self, path: &Path) -> io::Result<File> {
        View::open(self, path)
    }
    fn read_link(&self, path: &Path) -> io::Result<OsString> {
        View::read_link(self, path)
    }
}

/// A folder of the host, read with the rights of this process.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
}

impl Folder {
    /// # Errors
    /// When it is no folder.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Folder { root })
    }

    fn at(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        beneath::open(&self.root, path, flags, ResolveFlags::IN_ROOT)
    }
}

impl Tree for Folder {
    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, Meta)>> {
        let directory = self.at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let named = |(name, meta)| (OsString::from_vec(name), meta);
        Ok(view::entries(&directory)?.into_iter().map(named).collect())
    }

    fn stat(&self, path: &Path, follow: bool) -> io::Result<Option<Meta>> {
        let mut flags = OFlags::PATH;
        flags.set(OFlags::NOFOLLOW, !follow);
        match self.at(path, flags) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            opened => Ok(Some(Meta::from(&rustix::fs::fstat(opened?)?))),
        }
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        regular(self.at(path, OFlags::PATH)?)
    }

    fn read_link(&self, path: &Path) -> io::Result<OsString> {
        let link = self.at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&link, c"", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }
}

/// Opens what a path descriptor stands for, once it is known to be a plain file: opening a device
/// or a pipe would do something.
pub(super) fn regular(place: OwnedFd) -> io::Result<File> {
    let stat = rustix::fs::fstat(&place)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}
