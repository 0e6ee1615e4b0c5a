//! `RUN --mount` and heredoc files: what is there while a process runs and in no layer.
//!
//! Files of contexts, stages and images are copied out and bound, so that a writable bind can be
//! thrown away and nothing of the caller's is open inside. Secrets lie on a tmpfs of the host that
//! only root enters, for as long as the step runs, and are in no spec, record or key. Caches are
//! kept in `<images>/build/mounts/<digest of the id>/`.
//!
//! A mount may make its target in the upper directory; [`clean`] takes away again what the process
//! did not use.

use super::agents::{Agent, Forwarded};
use super::copy::{Changes, Writer};
use super::merged::Merged;
use super::owner::Owner;
use super::source::{self, Found, Origin};
use super::tree::{Kind, Tree as _};
use crate::Error;
use crate::index::Used;
use crate::layers::{self, Staging, Store, create_private};
use crate::unpack::attributes;
use boatyard_devcontainer::build::{InlineFile, Sharing};
use boatyard_sandbox::beneath;
use boatyard_sandbox::spec::{Mount, MountIds, MountSource};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Mounts of one process, undone when dropped.
#[derive(Default)]
pub(super) struct Mounted {
    pub(super) mounts: Vec<Mount>,
    /// Secrets given as variables.
    pub(super) env: Vec<(String, String)>,
    /// Held until the process has ended.
    pub(super) kept: Vec<Kept>,
}

pub(super) enum Kept {
    Staging(#[expect(dead_code, reason = "removed when dropped")] Staging),
    Lock(#[expect(dead_code, reason = "unlocked when dropped")] File),
    Secrets(#[expect(dead_code, reason = "removed when dropped")] Secrets),
    Agent(#[expect(dead_code, reason = "ended when dropped")] Forwarded),
}

/// A socket that leads to the caller's SSH agent.
pub(super) fn ssh(
    staging: Staging,
    agent: Arc<dyn Agent>,
    (mode, owner): (u32, Owner),
    target: &str,
    mounted: &mut Mounted,
) -> io::Result<()> {
    let forwarded = Forwarded::new(staging.path(), agent, mode, owner)?;
    mounted.mounts.push(Mount {
        source: unshifted(forwarded.path().to_owned()),
        target: target.into(),
        read_only: false,
    });
    mounted.kept.push(Kept::Agent(forwarded));
    mounted.kept.push(Kept::Staging(staging));
    Ok(())
}

/// Copies one source into staging and binds it.
pub(super) fn bind(
    staging: Staging,
    origin: &Origin,
    found: &Found,
    target: &str,
    writable: bool,
    mounted: &mut Mounted,
) -> io::Result<()> {
    let tree = staging.path().join("tree");
    std::fs::create_dir(&tree)?;
    let nothing = Merged::new(Vec::new());
    let mut writer = Writer::new(&tree, &nothing)?;
    let changes = Changes {
        keeps_owners: origin.keeps_owners,
        ..Changes::default()
    };
    writer.copy(&*origin.tree, found, Path::new("bound"), false, &changes)?;
    writer.finish()?;
    mounted.mounts.push(Mount {
        source: unshifted(tree.join("bound")),
        target: target.into(),
        read_only: !writable,
    });
    mounted.kept.push(Kept::Staging(staging));
    Ok(())
}

fn unshifted(path: PathBuf) -> MountSource {
    MountSource::Host {
        path,
        ids: MountIds::Unshifted,
        open_as: None,
    }
}

/// Files of the plan itself.
pub(super) fn inline(
    staging: Staging,
    files: &[InlineFile],
    mounted: &mut Mounted,
) -> io::Result<()> {
    for (number, file) in files.iter().enumerate() {
        let path = staging.path().join(number.to_string());
        std::fs::write(&path, &file.contents)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode))?;
        mounted.mounts.push(Mount {
            source: unshifted(path),
            target: (&file.path).into(),
            read_only: true,
        });
    }
    mounted.kept.push(Kept::Staging(staging));
    Ok(())
}

/// A directory kept between builds.
pub(super) struct CacheMount<'a> {
    pub(super) id: &'a str,
    pub(super) target: &'a str,
    pub(super) read_only: bool,
    pub(super) sharing: Sharing,
    pub(super) mode: u32,
    pub(super) owner: Owner,
    pub(super) begins_with: Option<(&'a Origin, &'a Found)>,
}

impl CacheMount<'_> {
    /// Blocks while another build has it, if it is locked.
    pub(super) fn mount(&self, folder: &Path, mounted: &mut Mounted) -> io::Result<()> {
        let name = hex::encode(&Sha256::digest(self.id)[..16]);
        let make = |path: &Path| create_private(path).map_err(io::Error::other);
        make(folder)?;
        let (place, lock) = match self.sharing {
            Sharing::Private => self.private(folder, &name)?,
            Sharing::Shared | Sharing::Locked => {
                let place = folder.join(&name);
                let how = match self.sharing {
                    Sharing::Locked => FlockOperation::LockExclusive,
                    _ => FlockOperation::LockShared,
                };
                let lock = loop {
                    make(&place)?;
                    match lock_file(&place) {
                        // Collected in between: it is made anew.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        lock => {
                            let lock = lock?;
                            rustix::fs::flock(&lock, how)?;
                            if layers::same_file(&lock, &place.join(LOCK)) {
                                break lock;
                            }
                        }
                    }
                };
                (place, lock)
            }
        };
        crate::index::touch(&place.join(LOCK));
        let tree = place.join("tree");
        if !tree.exists() {
            let fresh = place.join(format!("new-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&fresh);
            std::fs::create_dir(&fresh)?;
            if let Some((origin, found)) = self.begins_with {
                let nothing = Merged::new(Vec::new());
                let mut writer = Writer::new(&fresh, &nothing)?;
                let changes = Changes {
                    keeps_owners: origin.keeps_owners,
                    ..Changes::default()
                };
                writer.copy(&*origin.tree, found, Path::new(""), true, &changes)?;
                writer.finish()?;
            }
            std::os::unix::fs::chown(&fresh, Some(self.owner.uid), Some(self.owner.gid))?;
            std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(self.mode))?;
            match std::fs::rename(&fresh, &tree) {
                // Another build was first.
                Err(_) if tree.exists() => std::fs::remove_dir_all(&fresh)?,
                outcome => outcome?,
            }
        }
        mounted.mounts.push(Mount {
            source: unshifted(tree),
            target: self.target.into(),
            read_only: self.read_only,
        });
        mounted.kept.push(Kept::Lock(lock));
        Ok(())
    }

    fn private(&self, folder: &Path, name: &str) -> io::Result<(PathBuf, File)> {
        for number in 0.. {
            let place = folder.join(format!("{name}-{number}"));
            create_private(&place).map_err(io::Error::other)?;
            let Ok(lock) = lock_file(&place) else {
                continue;
            };
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                outcome => {
                    outcome?;
                    if layers::same_file(&lock, &place.join(LOCK)) {
                        return Ok((place, lock));
                    }
                }
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

fn lock_file(place: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(place.join(LOCK))
}

/// In a cache's folder: locked while a process has it, and its time is when that began last.
const LOCK: &str = "lock";
/// Files of one cache that are measured.
const MEASURED: u32 = 2_000_000;

/// A cache that no process has now.
pub(crate) struct Idle {
    place: PathBuf,
    pub(crate) used: Used,
    pub(crate) bytes: u64,
}

/// The caches that nobody uses, measured. Blocking; whoever wants one meanwhile waits.
pub(crate) fn idle(folder: &Path) -> Result<Vec<Idle>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let place = entry.map_err(Error::io("list", folder))?.path();
        let Some(_lock) = unused(&place)? else {
            continue;
        };
        found.push(Idle {
            used: crate::index::used(&place.join(LOCK)).unwrap_or_default(),
            bytes: measured(&place),
            place,
        });
    }
    Ok(found)
}

impl Idle {
    /// Gone at once under its name, unless somebody has begun to use it.
    pub(crate) fn bury(&self, store: &Store) -> Result<Option<Staging>, Error> {
        let Some(_lock) = unused(&self.place)? else {
            return Ok(None);
        };
        if crate::index::used(&self.place.join(LOCK)) != Some(self.used) {
            return Ok(None);
        }
        let staging = store.stage()?;
        std::fs::rename(&self.place, staging.path().join("removed"))
            .map_err(Error::io("remove", &self.place))?;
        Ok(Some(staging))
    }
}

/// The lock of a cache that no process has.
fn unused(place: &Path) -> Result<Option<File>, Error> {
    let Ok(lock) = lock_file(place) else {
        return Ok(None);
    };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(Error::io("lock", place)(errno.into())),
    }
}

/// Bytes on disk below a folder that nobody writes to. Links are not followed.
fn measured(place: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let (mut waiting, mut sum, mut left) = (vec![place.to_owned()], 0, MEASURED);
    while let Some(path) = waiting.pop() {
        let Ok(about) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        sum += about.blocks() * 512;
        left = left.saturating_sub(1);
        if about.is_dir() && left > 0 {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        }
    }
    sum
}

/// A folder on a tmpfs of the host, for what must reach no disk.
pub(super) struct Secrets {
    folder: PathBuf,
    count: u32,
}

impl Secrets {
    pub(super) fn new() -> io::Result<Secrets> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let base = ["/dev/shm", "/run"]
            .into_iter()
            .find(|path| is_memory(Path::new(path)))
            .ok_or_else(|| {
                io::Error::other(
                    "neither /dev/shm nor /run of the host is a tmpfs, and secrets are not written to disks",
                )
            })?;
        let folder =
            Path::new(base).join(format!("boatyard-secrets-{}-{number}", std::process::id()));
        // Left by a process of the same number that was killed.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        Ok(Secrets { folder, count: 0 })
    }

    pub(super) fn add(
        &mut self,
        contents: &[u8],
        mode: u32,
        owner: Owner,
        id_base: u32,
    ) -> io::Result<MountSource> {
        let path = self.folder.join(self.count.to_string());
        self.count += 1;
        let mut file = File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(contents)?;
        // Not every kernel shifts a tmpfs: the ids are those that appear inside.
        std::os::unix::fs::fchown(&file, Some(id_base + owner.uid), Some(id_base + owner.gid))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(MountSource::Host {
            path,
            ids: MountIds::Host,
            open_as: None,
        })
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Removes the secrets of processes that are no more.
pub(super) fn sweep() {
    for base in ["/dev/shm", "/run"] {
        for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|name| name.strip_prefix("boatyard-secrets-"))
                .and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn is_memory(path: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|about| about.f_type == TMPFS)
}

/// Takes away what the sandbox and its mounts made in the upper directory and nothing was put
/// into: generated files, mount points, and folders copied up only to hold them.
pub(super) fn clean(upper: &Path, below: &Merged, targets: &[PathBuf]) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(upper, flags, Mode::empty())?;
    for generated in boatyard_sandbox::GENERATED {
        remove(&root, Path::new(generated), |kind, _| {
            kind != FileType::Directory
        })?;
    }
    let fixed = ["proc", "sys", "dev", "run", "tmp", "etc"].map(PathBuf::from);
    let generated = boatyard_sandbox::GENERATED.map(PathBuf::from);
    for target in targets.iter().chain(&fixed).chain(&generated) {
        let target = target.strip_prefix("/").unwrap_or(target);
        // The way the sandbox took, which is through the links below.
        let Ok(resolved) = below.resolve(target, true) else {
            continue;
        };
        for path in resolved.path.ancestors() {
            if path.as_os_str().is_empty() {
                break;
            }
            match below.stat(path, false)? {
                None => remove(&root, path, |kind, size| {
                    kind == FileType::Directory || kind == FileType::RegularFile && size == 0
                })?,
                Some(meta) if meta.kind == Kind::Directory => {
                    let Some(there) = open(&root, path)? else {
                        continue;
                    };
                    let now = super::tree::Meta::from(&rustix::fs::fstat(&there)?);
                    let same = (now.mode, now.uid, now.gid) == (meta.mode, meta.uid, meta.gid)
                        && !super::merged::opaque(&there);
                    let attributes = match below.place(path)? {
                        Some(place) => attributes::copied(&place)? == attributes::copied(&there)?,
                        None => false,
                    };
                    if same && attributes {
                        remove(&root, path, |kind, _| kind == FileType::Directory)?;
                    }
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

fn open(root: &OwnedFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    match beneath::open(root, path, OFlags::DIRECTORY | OFlags::RDONLY, resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            Ok(None)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Removes a file, or a directory if it is empty, if it is of the kind and size wanted.
fn remove(root: &OwnedFd, path: &Path, wanted: impl Fn(FileType, i64) -> bool) -> io::Result<()> {
    let Some(parent) = open(root, path.parent().unwrap_or(Path::new("")))? else {
        return Ok(());
    };
    let name = path.file_name().unwrap_or_default();
    let Ok(stat) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return Ok(());
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !wanted(kind, stat.st_size) {
        return Ok(());
    }
    let how = if kind == FileType::Directory {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    match rustix::fs::unlinkat(&parent, name, how) {
        Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// The one thing at a path of an origin.
pub(super) fn one(origin: &Origin, path: &str) -> io::Result<Found> {
    let mut found = source::find(origin, path, &[], false)?;
    match (found.pop(), found.is_empty()) {
        (Some(found), true) => Ok(found),
        _ => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{path:?} is not in {}", origin.name),
        )),
    }
}
