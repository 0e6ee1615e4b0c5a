//! Bombs: as much of one thing as is to be had, up to a number that does no harm where nothing
//! stops it.
//!
//! `probe bomb THING MOST [PLACE]` prints `refused THING after N: ERROR` where it was stopped and
//! `got N THING` where it was not; who is killed over it prints nothing. `probe hold THING MOST
//! [PLACE]` keeps all of it, says `hold` and waits to be killed. What is made is never closed.

use super::calls;
use boatyard_sandbox::probing::{self, Word};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, Stdio};

const MIB: usize = 1 << 20;

pub(super) fn run(words: &[&str], hold: bool) -> io::Result<()> {
    let bad = || io::Error::other("bomb THING MOST [PLACE]");
    let (thing, most, place) = match words {
        [thing, most] => (*thing, *most, "/tmp"),
        [thing, most, place] => (*thing, *most, *place),
        _ => return Err(bad()),
    };
    let most: u32 = most.parse().map_err(|_| bad())?;
    let mut made = 0;
    let outcome = loop {
        if made == most {
            break Ok(());
        }
        match one(thing, made, place) {
            Ok(()) => made += 1,
            Err(error) => break Err(error),
        }
    };
    match outcome {
        Ok(()) => println!("got {made} {thing}"),
        Err(error) => println!("refused {thing} after {made}: {}", calls::name(&error)),
    }
    if hold {
        println!("hold");
        loop {
            std::thread::park();
        }
    }
    Ok(())
}

fn one(thing: &str, number: u32, place: &str) -> io::Result<()> {
    let path = format!("{place}/bomb-{number}");
    match thing {
        "inotify" => call(libc::SYS_inotify_init1, &mut []),
        "files" => call(libc::SYS_dup, &mut [Word::Number(0)]),
        "queues" => {
            let flags = i64::from(libc::O_CREAT | libc::O_RDWR);
            let mut words = [
                Word::Memory(format!("bomb-{number}\0").into_bytes()),
                Word::Number(flags),
                Word::Number(0o600),
                Word::Number(0),
            ];
            call(libc::SYS_mq_open, &mut words)
        }
        "large-pipes" => {
            let (read, write) = rustix::pipe::pipe()?;
            rustix::pipe::fcntl_setpipe_size(&write, MIB)?;
            std::mem::forget((read, write));
            Ok(())
        }
        "full-pipes" => {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK)?;
            let page = [1; 4096];
            while rustix::io::write(&write, &page).is_ok() {}
            std::mem::forget((read, write));
            Ok(())
        }
        "full-sockets" => {
            let (one, other) = std::os::unix::net::UnixStream::pair()?;
            one.set_nonblocking(true)?;
            let page = [1; 4096];
            while (&one).write(&page).is_ok() {}
            std::mem::forget((one, other));
            Ok(())
        }
        "network-namespaces" => {
            let flags = i64::from(libc::CLONE_NEWNET);
            call(libc::SYS_unshare, &mut [Word::Number(flags)])?;
            std::mem::forget(File::open("/proc/self/ns/net")?);
            Ok(())
        }
        "user-namespaces" => user_namespace(),
        "tasks" => std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(|| {
                loop {
                    std::thread::park();
                }
            })
            .map(drop),
        "memory" => {
            std::mem::forget(vec![1u8; MIB]);
            Ok(())
        }
        "memfds" => {
            let fd = rustix::fs::memfd_create(c"bomb", rustix::fs::MemfdFlags::CLOEXEC)?;
            let mut file = File::from(fd);
            file.write_all(&vec![1; MIB])?;
            std::mem::forget(file);
            Ok(())
        }
        "bytes" => {
            // A file of so many MiB.
            let mut file = File::options()
                .create(true)
                .append(true)
                .open(format!("{place}/bomb"))?;
            file.write_all(&vec![1; MIB])
        }
        "inodes" => File::create(path).map(drop),
        "folders" => std::fs::create_dir(path),
        "names" => match std::fs::metadata(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        "mounts" => {
            let flags = rustix::mount::MountFlags::empty();
            std::fs::create_dir(&path)?;
            Ok(rustix::mount::mount("bomb", path, "tmpfs", flags, None)?)
        }
        "output" => {
            let line = [b'x'; 4096];
            for _ in 0..MIB / line.len() {
                io::stdout().write_all(&line)?;
            }
            io::stdout().write_all(b"\n")
        }
        "locks" => {
            let fd = rustix::fs::open(
                format!("{place}/locks"),
                OFlags::RDWR | OFlags::CREATE,
                Mode::from_raw_mode(0o600),
            )?;
            rustix::fs::flock(&fd, rustix::fs::FlockOperation::LockShared)?;
            std::mem::forget(fd);
            Ok(())
        }
        _ => Err(io::Error::other("no such thing")),
    }
}

fn call(number: i64, words: &mut [Word]) -> io::Result<()> {
    probing::call(number, words).map(drop)
}

/// A namespace lives as long as a descriptor of it; its maker need not.
fn user_namespace() -> io::Result<()> {
    let mut child = Command::new("unshare")
        .args(["-U", "sh", "-c", "echo got; exec sleep 1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = [0; 3];
    let told = match &mut child.stdout {
        Some(stdout) => io::Read::read_exact(stdout, &mut said),
        None => Ok(()),
    };
    let kept = told.and_then(|()| {
        if said == *b"got" {
            File::open(format!("/proc/{}/ns/user", child.id()))
        } else {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
    });
    let _ = child.kill();
    let _ = child.wait();
    kept.map(std::mem::forget)
}
