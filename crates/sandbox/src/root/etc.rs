//! The files of /etc that depend on where an image runs: resolv.conf, hosts, hostname; and mtab,
//! which images do not bring and the tools of FUSE do not go without.
//!
//! They are written into the environment's own root once, not bind-mounted, so that tools inside
//! can rename over them and what a user writes there stays. A file already in the private upper
//! directory is the user's and left alone, except a link at resolv.conf (images of distributions
//! with systemd-resolved ship one that leads nowhere), which is replaced. Who makes layers of an
//! upper directory leaves [`GENERATED`] out.

use crate::beneath;
use crate::error::{Failure, Step};
use crate::spec::{Network, RESOLVER, Root, Spec};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Paths (without the leading slash) written into the root at start.
pub const GENERATED: [&str; 4] = ["etc/resolv.conf", "etc/hosts", "etc/hostname", "etc/mtab"];

/// Writes what is not the user's already.
pub(super) fn write(spec: &Spec, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let open = |name: &str| -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        beneath::open(
            root,
            Path::new(name),
            OFlags::PATH | OFlags::DIRECTORY,
            resolve,
        )
    };
    let etc = match open("etc") {
        Ok(etc) => etc,
        Err(rustix::io::Errno::NOENT) => {
            rustix::fs::mkdirat(root, "etc", Mode::from_raw_mode(0o755)).step("make /etc")?;
            open("etc").step("open /etc")?
        }
        // An image whose /etc is a link names its own hosts.
        Err(_) => return Ok(()),
    };
    let resolv = match spec.network {
        Network::None | Network::Private { .. } => None,
        Network::Routed { .. } | Network::Shared { .. } => {
            Some(format!("nameserver {RESOLVER}\noptions edns0\n"))
        }
    };
    let hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{}\n",
        spec.hostname
    );
    let hostname = format!("{}\n", spec.hostname);
    for (name, text) in [
        ("resolv.conf", resolv),
        ("hosts", Some(hosts)),
        ("hostname", Some(hostname)),
    ] {
        let Some(text) = text else { continue };
        if owned(spec, name) {
            continue;
        }
        replace(etc.as_fd(), name, &text).step_with(|| format!("write /etc/{name}"))?;
    }
    match rustix::fs::symlinkat("../proc/self/mounts", &etc, "mtab") {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(Failure::new("make /etc/mtab", error)),
    }
    company(spec, etc.as_fd()).step("write the services' names to /etc/hosts")
}

/// Largest /etc/hosts that lines are added to.
const HOSTS_LIMIT: u64 = 1 << 20;
/// Around the lines that each start replaces.
const MARKS: [&str; 2] = ["# begin of services", "# end of services"];

/// Puts the lines for others of the environment into /etc/hosts, whoever wrote the rest of it.
fn company(spec: &Spec, etc: BorrowedFd<'_>) -> std::io::Result<()> {
    let Some(company) = &spec.company else {
        return Ok(());
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut text = String::new();
    match rustix::fs::openat(etc, "hosts", flags, Mode::empty()) {
        Ok(file) => {
            let stat = rustix::fs::fstat(&file)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Ok(());
            }
            let mut bytes = Vec::new();
            File::from(file).take(HOSTS_LIMIT).read_to_end(&mut bytes)?;
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        Err(rustix::io::Errno::NOENT) => {}
        // A link is the user's own business.
        Err(rustix::io::Errno::LOOP) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let mut made = without_block(&text);
    if !company.hosts.is_empty() {
        made.push_str(MARKS[0]);
        for (address, names) in &company.hosts {
            made.push_str(&format!("\n{address}\t{}", names.join(" ")));
        }
        made.push_str(&format!("\n{}\n", MARKS[1]));
    }
    if made == text {
        return Ok(());
    }
    replace(etc, "hosts", &made)
}

/// The text without the lines of the last start.
fn without_block(text: &str) -> String {
    let mut made = String::new();
    let mut inside = false;
    for line in text.lines() {
        inside |= line == MARKS[0];
        if !inside {
            made.push_str(line);
            made.push('\n');
        }
        inside &= line != MARKS[1];
    }
    made
}

/// Whether the private upper directory holds a plain file of that name.
fn owned(spec: &Spec, name: &str) -> bool {
    let (Root::Overlay { upper, .. } | Root::Layer { upper, .. }) = &spec.root else {
        return false;
    };
    rustix::fs::lstat(upper.join("etc").join(name))
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

fn replace(etc: BorrowedFd<'_>, name: &str, text: &str) -> std::io::Result<()> {
    let is_directory = rustix::fs::statat(etc, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    if is_directory {
        return Ok(());
    }
    let scratch = format!(".{name}.boatyard");
    let file = rustix::fs::openat(
        etc,
        scratch.as_str(),
        OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o644),
    )?;
    File::from(file).write_all(text.as_bytes())?;
    rustix::fs::renameat(etc, scratch.as_str(), etc.as_fd(), name)?;
    Ok(())
}
