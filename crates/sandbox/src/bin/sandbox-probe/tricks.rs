//! Attacks of several steps.
//!
//! `probe trick …`: `open PATH…` opens for writing and writes nothing; `read PATH…` reads a little;
//! `reach PATH…` opens for reading;
//! `chroot PATH` climbs out of a root changed by chroot and reads; `connect NAME` connects to an
//! abstract socket; `overwrite FD` writes over the program a descriptor is open on; `terminal
//! WORD…` runs a program on a terminal of its own; `fuse PATH` mounts a file system there that
//! never answers, and holds it; `flip PATH TARGET` makes PATH a folder and a link to TARGET in turn
//! until it is killed; `user` tells with whose rights it runs.

use super::calls::{name, tell};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;

pub(super) fn run(words: &[&str]) -> io::Result<()> {
    match words {
        ["open", paths @ ..] => {
            for path in paths {
                tell(path, File::options().write(true).open(path));
            }
        }
        ["read", paths @ ..] => {
            for path in paths {
                tell(path, read(path));
            }
        }
        ["reach", paths @ ..] => {
            for path in paths {
                tell(path, File::open(path));
            }
        }
        ["chroot", path] => {
            tell(path, climb().and_then(|()| read(path)));
        }
        ["connect", name] => {
            let address = SocketAddr::from_abstract_name(name)?;
            tell(name, UnixStream::connect_addr(&address));
        }
        ["overwrite", fd] => {
            let file = File::options()
                .write(true)
                .open(format!("/proc/self/fd/{fd}"));
            tell(
                "the program",
                file.and_then(|mut file| file.write_all(b"#!/mine\n")),
            );
            println!("end");
        }
        ["terminal", program @ ..] => return terminal(program),
        ["fuse", path] => return fuse(path),
        ["flip", path, target] => return flip(path, target),
        ["user"] => match rustix::process::geteuid().as_raw() {
            0 => println!("got root"),
            id => println!("user {id}"),
        },
        _ => return Err(io::Error::other("no such trick")),
    }
    Ok(())
}

fn read(path: &str) -> io::Result<()> {
    let mut some = [0; 16];
    match File::open(path)?.read(&mut some)? {
        0 => Err(io::Error::other("nothing")),
        _ => Ok(()),
    }
}

/// Changes the root to one below the working directory, which `..` then leads out of.
fn climb() -> io::Result<()> {
    std::fs::create_dir_all("/tmp/below")?;
    let outside = rustix::fs::open(c"/", OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?;
    rustix::process::chroot(c"/tmp/below")?;
    rustix::process::fchdir(&outside)?;
    for _ in 0..64 {
        rustix::process::chdir(c"..")?;
    }
    Ok(rustix::process::chroot(c".")?)
}

/// A new session with a new pseudo-terminal as its controlling one.
fn terminal(words: &[&str]) -> io::Result<()> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(io::Error::other("no program"));
    };
    let main = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR)?;
    rustix::pty::unlockpt(&main)?;
    let other = rustix::pty::ptsname(&main, Vec::new())?;
    // Its leader may not begin a session of its own again.
    if rustix::process::getpid().is_init() {
        return Err(io::Error::other("init has a session already"));
    }
    rustix::process::setsid()?;
    let other = rustix::fs::open(&other, OFlags::RDWR, Mode::empty())?;
    rustix::process::ioctl_tiocsctty(&other)?;
    Err(Command::new(program).args(arguments).exec())
}

fn fuse(path: &str) -> io::Result<()> {
    let device = rustix::fs::open(c"/dev/fuse", OFlags::RDWR, Mode::empty())?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
        device.as_raw_fd()
    );
    let options = std::ffi::CString::new(options)?;
    let flags = rustix::mount::MountFlags::empty();
    tell(
        "a mount",
        rustix::mount::mount("hang", path, "fuse", flags, options.as_c_str())
            .map_err(io::Error::from),
    );
    println!("hold");
    loop {
        std::thread::park();
    }
}

fn flip(path: &str, target: &str) -> io::Result<()> {
    let (folder, link) = (format!("{path}.folder"), format!("{path}.link"));
    std::fs::create_dir_all(&folder)?;
    if let Err(error) = std::os::unix::fs::symlink(target, &link) {
        println!("flip: {}", name(&error));
    }
    println!("hold");
    loop {
        for one in [&folder, &link] {
            std::fs::rename(one, path)?;
            std::fs::rename(path, one)?;
        }
    }
}
