//! Calls of programs inside that the monitor carries out, as the kernel would not.
//!
//! There is one: `mount(2)` that remounts a bind mount read-only and leaves out a flag that is locked here
//! (`nodev`; see `init`). Engines do so for every read-only file they pass in (`docker run
//! --init`), of tools that know no user namespaces. The kernel refuses; newer tools repeat the call
//! with the locked flags, and that is what is done in the name of the others. The call is made by a
//! helper that has become the caller: its namespaces, root, working directory, ids and capabilities.
//! So nothing is done that the caller could not do by itself, and nothing has to be decided.
//!
//! What is read of the caller is read once, and believed after the kernel has said that the caller
//! still waits. Whether the kernel carries the call out itself (where no flag is kept) is no matter
//! of security: it then judges what it reads itself.
//!
//! Bounds: one helper at a time, for at most [`PATIENCE`]; and helpers work for no more than a
//! tenth of the time, over [`BURST`]: callers wait in the kernel meanwhile.
//!
//! Crash behaviour: without its monitor such a call answers ENOSYS; everything else goes on. A
//! killed helper's caller gets EPERM.
//!
//! Read next: `seccomp`, which chooses the calls; `monitor::serve`.

use crate::sys::mounts;
use crate::sys::notify::{self, Answer, Call};
use crate::sys::process::{self, Forked};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a helper may take: a file system of the caller's may never answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long helpers may have worked before calls are held up.
const BURST: Duration = Duration::from_millis(500);
/// By how many times the time a helper took the next one is held up.
const REST: u32 = 9;
/// Longest path of a call.
const PATH_LIMIT: usize = 4096;

/// The calls of one sandbox.
pub(crate) struct Notifier {
    listener: OwnedFd,
    helper: Option<Helper>,
    /// Up to when the work so far has been rested from; in the future means a debt.
    paid: Instant,
}

struct Helper {
    process: OwnedFd,
    call: u64,
    since: Instant,
}

impl Notifier {
    pub(crate) fn new(listener: OwnedFd) -> Self {
        Self {
            listener,
            helper: None,
            paid: Instant::now(),
        }
    }

    /// What is waited for now, if anything is.
    pub(crate) fn poll_descriptor(&self) -> Option<PollFd<'_>> {
        match &self.helper {
            Some(helper) => Some(PollFd::new(&helper.process, PollFlags::IN)),
            None if self.debt().is_some() => None,
            None => Some(PollFd::new(&self.listener, PollFlags::IN)),
        }
    }

    /// How long calls are held up.
    fn debt(&self) -> Option<Duration> {
        let debt = self.paid.checked_duration_since(Instant::now())?;
        debt.checked_sub(BURST * REST)
            .filter(|debt| !debt.is_zero())
    }

    /// After which time to come back though nothing is ready.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        match &self.helper {
            Some(helper) => Some(PATIENCE.saturating_sub(helper.since.elapsed())),
            None => self.debt(),
        }
    }

    /// Goes on; `ready` is what became of [`Notifier::poll_descriptor`]. False when nobody is left
    /// to listen to.
    pub(crate) fn serve(&mut self, ready: PollFlags) -> bool {
        if let Some(helper) = &self.helper {
            if ready.is_empty() && helper.since.elapsed() < PATIENCE {
                return true;
            }
            let _ = rustix::process::pidfd_send_signal(&helper.process, Signal::KILL);
            // One that the kernel does not let go of is nobody to wait for.
            crate::record::wait_end(&helper.process, Some(100));
            let _ = rustix::process::waitid(
                WaitId::PidFd(helper.process.as_fd()),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
            // It has answered, unless it was killed.
            notify::answer(
                self.listener.as_fd(),
                helper.call,
                Answer::Failed(libc::EPERM),
            );
            let worked = helper.since.elapsed();
            self.paid = self.paid.max(Instant::now()) + worked * REST;
            self.helper = None;
            return true;
        }
        if ready.contains(PollFlags::IN) {
            match notify::receive(self.listener.as_fd()) {
                Ok(Some(call)) => self.begin(&call),
                Ok(None) => {}
                Err(_) => return false,
            }
        }
        !ready.intersects(PollFlags::HUP | PollFlags::ERR) || ready.contains(PollFlags::IN)
    }

    fn begin(&mut self, call: &Call) {
        let since = Instant::now();
        match process::clone(0, None) {
            Ok(Forked::Child) => {
                let done = carry_out(&self.listener, call);
                let answer = done.unwrap_or_else(|error| {
                    Answer::Failed(error.raw_os_error().unwrap_or(libc::EPERM))
                });
                notify::answer(self.listener.as_fd(), call.id, answer);
                process::exit_now(0)
            }
            Ok(Forked::Parent { pidfd, .. }) => {
                self.helper = Some(Helper {
                    process: pidfd,
                    call: call.id,
                    since,
                });
            }
            Err(_) => notify::answer(self.listener.as_fd(), call.id, Answer::Failed(libc::EAGAIN)),
        }
    }
}

/// The caller, as far as the helper becomes it.
struct Caller {
    user: OwnedFd,
    mounts: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
    ids: Ids,
}

/// From /proc/<thread>/status.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ids {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    capabilities: u64,
}

impl Ids {
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::split_whitespace)
        };
        // The fourth is the file system's, by which access is judged.
        Some(Self {
            uid: field("Uid:")?.nth(3)?.parse().ok()?,
            gid: field("Gid:")?.nth(3)?.parse().ok()?,
            groups: field("Groups:")?
                .map(|group| group.parse().ok())
                .collect::<Option<_>>()?,
            capabilities: u64::from_str_radix(field("CapEff:")?.next()?, 16).ok()?,
        })
    }
}

/// Does what a call asks for, as its caller.
fn carry_out(listener: &OwnedFd, call: &Call) -> io::Result<Answer> {
    let thread = call.thread;
    let open = |name: &str, how: OFlags| -> io::Result<OwnedFd> {
        let path = format!("/proc/{thread}/{name}");
        Ok(rustix::fs::open(
            path,
            how | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    };
    let path = notify::read_string(thread, call.arguments[1], PATH_LIMIT)?;
    let status = std::fs::read_to_string(format!("/proc/{thread}/status"))?;
    let caller = Caller {
        user: open("ns/user", OFlags::RDONLY)?,
        mounts: open("ns/mnt", OFlags::RDONLY)?,
        root: open("root", OFlags::PATH)?,
        directory: open("cwd", OFlags::PATH)?,
        ids: Ids::parse(&status).ok_or(rustix::io::Errno::INVAL)?,
    };
    // A descriptor's name in /proc means another one to the helper.
    let target = descriptor(&path)
        .map(|number| open(&format!("fd/{number}"), OFlags::PATH))
        .transpose()?;
    if !notify::waits(listener.as_fd(), call.id) {
        return Err(rustix::io::Errno::SRCH.into());
    }
    caller.become_it()?;
    let target = match target {
        Some(target) => target,
        None => rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
    };
    remount(&target, call.arguments[3])
}

/// The number in `/proc/self/fd/<number>`.
fn descriptor(path: &[u8]) -> Option<u32> {
    let path = std::str::from_utf8(path).ok()?;
    ["/proc/self/fd/", "/proc/thread-self/fd/"]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))?
        .parse()
        .ok()
}

impl Caller {
    fn become_it(&self) -> io::Result<()> {
        // Capabilities stay, as the monitor's do: they are needed to enter.
        process::become_user(self.ids.uid, self.ids.gid, &self.ids.groups)?;
        process::enter(self.user.as_fd(), libc::CLONE_NEWUSER)?;
        process::enter(self.mounts.as_fd(), libc::CLONE_NEWNS)?;
        rustix::process::fchdir(&self.root)?;
        rustix::process::chroot(c".")?;
        rustix::process::fchdir(&self.directory)?;
        let own = rustix::thread::CapabilitySet::from_bits_retain(self.ids.capabilities);
        rustix::thread::set_capabilities(
            None,
            rustix::thread::CapabilitySets {
                effective: own,
                permitted: own,
                inheritable: rustix::thread::CapabilitySet::empty(),
            },
        )?;
        Ok(())
    }
}

/// What `mount(2)` with MS_REMOUNT and MS_BIND does, but for the flags that it keeps.
fn remount(target: &OwnedFd, flags: u64) -> io::Result<Answer> {
    let now = rustix::fs::fstatvfs(target)?.f_flag;
    if !now.contains(StatVfsMountFlags::NODEV) {
        return Ok(Answer::Continue);
    }
    let asked = |flag: libc::c_ulong| flags & flag != 0;
    let pairs = [
        (
            libc::MS_RDONLY,
            libc::MOUNT_ATTR_RDONLY,
            StatVfsMountFlags::RDONLY,
        ),
        (
            libc::MS_NOSUID,
            libc::MOUNT_ATTR_NOSUID,
            StatVfsMountFlags::NOSUID,
        ),
        (
            libc::MS_NOEXEC,
            libc::MOUNT_ATTR_NOEXEC,
            StatVfsMountFlags::NOEXEC,
        ),
    ];
    let mut set = libc::MOUNT_ATTR_NODEV;
    let mut clear = 0;
    for (flag, attribute, _) in pairs {
        if asked(flag) {
            set |= attribute;
        } else {
            clear |= attribute;
        }
    }
    for (flag, attribute) in [
        (libc::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
        (libc::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
        (libc::MS_RELATIME, libc::MOUNT_ATTR_RELATIME),
    ] {
        if asked(flag) {
            clear |= libc::MOUNT_ATTR__ATIME;
            set = set & !libc::MOUNT_ATTR__ATIME | attribute;
        }
    }
    match mounts::change(target.as_fd(), set, clear) {
        // More is locked than `nodev`.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            for (_, attribute, there) in &pairs[1..] {
                if now.contains(*there) {
                    set |= attribute;
                    clear &= !attribute;
                }
            }
            mounts::change(target.as_fd(), set, clear)?;
        }
        other => other?,
    }
    Ok(Answer::Done)
}

#[cfg(test)]
mod tests;
