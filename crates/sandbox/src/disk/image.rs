//! Limits by an image: an ext4 file system in a sparse file, mounted from a loop device.
//!
//! The file is made whole under another name and then renamed. Making, checking and growing it,
//! and finding its device or attaching one, happen under its lock, so that it is never attached
//! twice: two devices of one file would be two file systems that know nothing of each other. A
//! device clears itself when neither mount nor descriptor is left, so no kill leaves one behind. A
//! mount whose directory is busy, or that a sandbox still has, is detached: the file system then
//! ends with its last user, and whoever mounts the image before that gets the same one.
//!
//! The mount is the host's, `nosuid,nodev`: sandboxes take their own from it.

use super::{Error, bytes_per_inode, programs};
use crate::background::Background;
use crate::crash;
use crate::sys::disk as sys;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Blocks of the file system and of the device.
const BLOCK: u32 = 4096;
/// Bytes of a group of blocks, and how many its tables need at least.
const GROUP: u64 = 128 << 20;
const LEAST_GROUP: u64 = 16 << 20;
/// How long a program of a runner that was killed may go on.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a device may take to clear itself.
const SETTLING: Duration = Duration::from_secs(3);

/// What a growing image came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grown {
    /// It has the size now.
    Now,
    /// This kernel grows it only while nobody uses it.
    Later,
}

/// Opens a directory itself, never what a link leads to.
pub(super) fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Bytes of the file that holds a file system in which so many can be written: inodes, journal and
/// bitmaps are its own.
#[must_use]
pub fn file_size(bytes: u64) -> u64 {
    let tables = bytes / bytes_per_inode(bytes) * 256;
    // The kernel keeps a fiftieth, up to 4096 blocks, for what it must not fail to write.
    let kept = (bytes / 48).min(4096 * u64::from(BLOCK));
    let whole = bytes + tables + kept + bytes / 256 + journal(bytes) + (4 << 20);
    let whole = whole.next_multiple_of(1 << 20);
    // A last group of blocks without room for its own tables would be left out.
    match whole % GROUP {
        0 => whole,
        last => whole + LEAST_GROUP.saturating_sub(last),
    }
}

/// What of [`file_size`] is not for content.
#[must_use]
pub fn overhead(bytes: u64) -> u64 {
    file_size(bytes) - bytes
}

/// Bytes of the file system in an image that nobody uses, as it says itself.
///
/// # Errors
/// When there is none.
pub fn size(image: &Path) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut superblock = [0; 1024];
    File::open(image)?.read_exact_at(&mut superblock, 1024)?;
    let number = |at: usize| {
        let bytes = [0, 1, 2, 3].map(|byte| superblock[at + byte]);
        u64::from(u32::from_le_bytes(bytes))
    };
    // s_magic, s_blocks_count_lo, s_blocks_count_hi; blocks are BLOCK bytes.
    if superblock[0x38..0x3a] != [0x53, 0xef] {
        return Err(io::Error::other("there is no ext4 file system in it"));
    }
    Ok((number(0x150) << 32 | number(0x4)) * u64::from(BLOCK))
}

fn journal(bytes: u64) -> u64 {
    (bytes / 64).clamp(4 << 20, 64 << 20) >> 20 << 20
}

/// Whether something is mounted on the directory.
#[must_use]
pub fn is_mounted(directory: &Path) -> bool {
    rustix::fs::statx(
        rustix::fs::CWD,
        directory,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::empty(),
    )
    .is_ok_and(|seen| seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Opens and locks an image.
fn lock(image: &Path) -> Result<File, Error> {
    let open = || format!("open {}", image.display());
    let file = File::options()
        .read(true)
        .write(true)
        .open(image)
        .map_err(Error::of(open()))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Busy(image.to_owned())),
            Err(error) => return Err(Error::of(format!("lock {}", image.display()))(error.into())),
        }
    }
}

/// Makes an image in which `bytes` can be written, with what is in `content`.
///
/// # Errors
/// When it does not fit, or e2fsprogs is missing; then there is none.
pub fn make(image: &Path, bytes: u64, content: Option<&Path>) -> Result<(), Error> {
    let _background = Background::enter();
    let fresh = image.with_extension("img.new");
    let what = || format!("make {}", fresh.display());
    match std::fs::remove_file(&fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::of(what())(error)),
    }
    let file = File::create_new(&fresh).map_err(Error::of(what()))?;
    file.set_len(file_size(bytes)).map_err(Error::of(what()))?;
    let inode = bytes_per_inode(bytes).to_string();
    let journal = format!("size={}", journal(bytes) >> 20);
    let ext4 = ["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0"];
    let sizes = ["-i", &inode, "-J", &journal];
    // Tables are sparse until they are used.
    let lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0";
    let words = [&ext4[..], &sizes, &["-E", lazy]].concat();
    let mut arguments: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    if let Some(content) = content {
        arguments.extend([OsStr::new("-d"), content.as_os_str()]);
    }
    arguments.push(fresh.as_os_str());
    programs::run(programs::MKE2FS, &arguments, (&fresh, &file), 0)?;
    crash::point();
    // What is mounted from it soon relies on it.
    file.sync_all().map_err(Error::of(what()))?;
    std::fs::rename(&fresh, image).map_err(Error::of(what()))?;
    crash::point();
    Ok(())
}

/// Mounts an image on a directory, unless it is. Idempotent.
///
/// # Errors
/// When it is damaged, or there is no loop device.
pub fn mount(image: &Path, directory: &Path) -> Result<(), Error> {
    if is_mounted(directory) {
        return Ok(());
    }
    let mount = open(image)?;
    crash::point();
    rustix::mount::move_mount(
        &mount,
        c"",
        rustix::fs::CWD,
        directory,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(|error| Error::of(format!("mount {}", directory.display()))(error.into()))?;
    crash::point();
    // Whoever looks whether a volume is empty means what was put there.
    let _ = std::fs::remove_dir(directory.join("lost+found"));
    Ok(())
}

/// A mount of an image that is nowhere, and gone with its descriptor: for looking into one.
///
/// # Errors
/// As [`mount`].
pub fn open(image: &Path) -> Result<OwnedFd, Error> {
    let file = lock(image)?;
    let (device, path) = match attached(&file).map_err(Error::of("look for loop devices"))? {
        Some(found) => found,
        None => {
            let attach = format!("attach a loop device to {}", image.display());
            let attached = attach_free(image).map_err(Error::of(attach))?;
            crash::point();
            attached
        }
    };
    let mounted = new_mount(&path);
    // Until here this descriptor kept the device.
    drop(device);
    mounted.map_err(|error| {
        let what = format!(
            "mount {} (a damaged one is mended by e2fsck -f while the environment is stopped)",
            image.display()
        );
        Error::of(what)(error.into())
    })
}

fn new_mount(device: &Path) -> rustix::io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen(c"ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&fs, c"source", device)?;
    rustix::mount::fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The loop device that a file backs, opened, and its path.
fn attached(file: &File) -> io::Result<Option<(OwnedFd, PathBuf)>> {
    let ours = rustix::fs::fstat(file)?;
    for entry in std::fs::read_dir("/sys/block")? {
        let entry = entry?;
        if !entry.path().join("loop").exists() {
            continue;
        }
        let path = Path::new("/dev").join(entry.file_name());
        let Ok(device) = open_device(&path) else {
            continue;
        };
        let backed = sys::loop_info(device.as_fd());
        if backed.is_ok_and(|info| (info.device, info.inode) == (ours.st_dev, ours.st_ino)) {
            return Ok(Some((device, path)));
        }
    }
    Ok(None)
}

fn open_device(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Attaches a free device; others may be looking for one too.
fn attach_free(image: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    // Not the locked one, which the device would keep, and the lock with it.
    let file = File::options().read(true).write(true).open(image)?;
    let control = open_device(Path::new("/dev/loop-control"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let number = sys::free_loop(control.as_fd())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open_device(&path)?;
        // Without direct I/O everything would be cached twice; not every file system has it.
        let done =
            sys::configure_loop(device.as_fd(), file.as_fd(), BLOCK, true).or_else(|error| {
                if error.raw_os_error() == Some(libc::EINVAL) {
                    sys::configure_loop(device.as_fd(), file.as_fd(), 0, false)
                } else {
                    Err(error)
                }
            });
        match done {
            Ok(()) => return Ok((device, path)),
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes the image's mount off the directory. What still uses the file system keeps it until its
/// own end. Idempotent.
///
/// # Errors
/// When the kernel refuses.
pub fn unmount(directory: &Path) -> Result<(), Error> {
    let failed = |error: rustix::io::Errno| {
        Error::of(format!("unmount {}", directory.display()))(error.into())
    };
    while is_mounted(directory) {
        match rustix::mount::unmount(directory, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::BUSY) => {
                let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
                rustix::mount::unmount(directory, flags).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        crash::point();
    }
    Ok(())
}

/// Grows an image to hold `bytes`, mounted or not.
///
/// # Errors
/// When its file system is damaged, or there is no room for more tables.
pub fn grow(image: &Path, directory: &Path, bytes: u64) -> Result<Grown, Error> {
    let what = || format!("grow {}", image.display());
    let file = lock(image)?;
    let now = file.metadata().map_err(Error::of(what()))?.len();
    let wanted = file_size(bytes).max(now);
    file.set_len(wanted).map_err(Error::of(what()))?;
    crash::point();
    let mut found = attached(&file).map_err(Error::of(what()))?;
    // A device clears itself a moment after its last mount went.
    let deadline = Instant::now() + SETTLING;
    while found.is_some() && !is_mounted(directory) && Instant::now() < deadline {
        drop(found.take());
        std::thread::sleep(Duration::from_millis(2));
        found = attached(&file).map_err(Error::of(what()))?;
    }
    match found {
        Some((device, _)) if is_mounted(directory) => {
            sys::loop_grown(device.as_fd()).map_err(Error::of(what()))?;
            let at = self::directory(directory).map_err(Error::of(what()))?;
            match sys::resize_ext4(at.as_fd(), wanted / u64::from(BLOCK)) {
                Ok(()) => Ok(Grown::Now),
                // Asks for CAP_SYS_RESOURCE, which root in a container of a host may lack.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(Grown::Later),
                Err(error) => Err(Error::of(what())(error)),
            }
        }
        Some(_) => Ok(Grown::Later),
        None => {
            let path = image.as_os_str();
            let check = [OsStr::new("-f"), OsStr::new("-p"), path];
            programs::run(programs::E2FSCK, &check, (image, &file), 1)?;
            crash::point();
            programs::run(programs::RESIZE2FS, &[path], (image, &file), 0)?;
            Ok(Grown::Now)
        }
    }
}

/// Gives room that was freed inside back to the host's disk.
///
/// # Errors
/// When the disk below takes nothing back.
pub fn trim(directory: &Path) -> io::Result<()> {
    sys::trim(self::directory(directory)?.as_fd())
}
