//! System calls by their names, and errors by theirs.

use boatyard_sandbox::probing::{self, Word};
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};

macro_rules! table {
    ($($name:ident = $value:expr),* $(,)?) => {
        &[$((stringify!($name), $value as i64)),*]
    };
}

/// None of these changes mappings or starts a thread.
const CALLS: &[(&str, i64)] = table!(
    accept = libc::SYS_accept,
    add_key = libc::SYS_add_key,
    adjtimex = libc::SYS_adjtimex,
    bpf = libc::SYS_bpf,
    clock_settime = libc::SYS_clock_settime,
    chroot = libc::SYS_chroot,
    delete_module = libc::SYS_delete_module,
    finit_module = libc::SYS_finit_module,
    fsopen = libc::SYS_fsopen,
    init_module = libc::SYS_init_module,
    inotify_init1 = libc::SYS_inotify_init1,
    io_uring_setup = libc::SYS_io_uring_setup,
    ioctl = libc::SYS_ioctl,
    kcmp = libc::SYS_kcmp,
    kexec_load = libc::SYS_kexec_load,
    keyctl = libc::SYS_keyctl,
    kill = libc::SYS_kill,
    semctl = libc::SYS_semctl,
    shmctl = libc::SYS_shmctl,
    msgctl = libc::SYS_msgctl,
    linkat = libc::SYS_linkat,
    memfd_create = libc::SYS_memfd_create,
    mknod = libc::SYS_mknodat,
    mount = libc::SYS_mount,
    mq_open = libc::SYS_mq_open,
    mq_unlink = libc::SYS_mq_unlink,
    pause = libc::SYS_pause,
    msgget = libc::SYS_msgget,
    open_by_handle_at = libc::SYS_open_by_handle_at,
    perf_event_open = libc::SYS_perf_event_open,
    pidfd_getfd = libc::SYS_pidfd_getfd,
    pidfd_open = libc::SYS_pidfd_open,
    pidfd_send_signal = libc::SYS_pidfd_send_signal,
    process_vm_readv = libc::SYS_process_vm_readv,
    ptrace = libc::SYS_ptrace,
    quotactl = libc::SYS_quotactl,
    reboot = libc::SYS_reboot,
    request_key = libc::SYS_request_key,
    sched_setaffinity = libc::SYS_sched_setaffinity,
    semget = libc::SYS_semget,
    setdomainname = libc::SYS_setdomainname,
    setns = libc::SYS_setns,
    setpriority = libc::SYS_setpriority,
    setxattr = libc::SYS_setxattr,
    shmget = libc::SYS_shmget,
    socket = libc::SYS_socket,
    swapon = libc::SYS_swapon,
    sync = libc::SYS_sync,
    syslog = libc::SYS_syslog,
    tgkill = libc::SYS_tgkill,
    umount2 = libc::SYS_umount2,
    unshare = libc::SYS_unshare,
    userfaultfd = libc::SYS_userfaultfd,
    acct = libc::SYS_acct,
    prlimit64 = libc::SYS_prlimit64,
    settimeofday = libc::SYS_settimeofday,
);

const ERRORS: &[(&str, i64)] = table!(
    EPERM = libc::EPERM,
    ENOENT = libc::ENOENT,
    ESRCH = libc::ESRCH,
    EIO = libc::EIO,
    ENXIO = libc::ENXIO,
    E2BIG = libc::E2BIG,
    ENOEXEC = libc::ENOEXEC,
    EBADF = libc::EBADF,
    EAGAIN = libc::EAGAIN,
    ENOMEM = libc::ENOMEM,
    EACCES = libc::EACCES,
    EFAULT = libc::EFAULT,
    ENOTBLK = libc::ENOTBLK,
    EBUSY = libc::EBUSY,
    EEXIST = libc::EEXIST,
    EXDEV = libc::EXDEV,
    ENODEV = libc::ENODEV,
    ENOTDIR = libc::ENOTDIR,
    EISDIR = libc::EISDIR,
    EINVAL = libc::EINVAL,
    ENFILE = libc::ENFILE,
    EMFILE = libc::EMFILE,
    ENOTTY = libc::ENOTTY,
    ETXTBSY = libc::ETXTBSY,
    EFBIG = libc::EFBIG,
    ENOSPC = libc::ENOSPC,
    EROFS = libc::EROFS,
    EMLINK = libc::EMLINK,
    ENOSYS = libc::ENOSYS,
    ELOOP = libc::ELOOP,
    EOVERFLOW = libc::EOVERFLOW,
    EUSERS = libc::EUSERS,
    EOPNOTSUPP = libc::EOPNOTSUPP,
    ENOPKG = libc::ENOPKG,
    EAFNOSUPPORT = libc::EAFNOSUPPORT,
    EADDRINUSE = libc::EADDRINUSE,
    ECONNREFUSED = libc::ECONNREFUSED,
    EHOSTUNREACH = libc::EHOSTUNREACH,
    ENETUNREACH = libc::ENETUNREACH,
    ETIMEDOUT = libc::ETIMEDOUT,
    EDQUOT = libc::EDQUOT,
    ENOKEY = libc::ENOKEY,
    EPROTONOSUPPORT = libc::EPROTONOSUPPORT,
);

/// An error's name.
pub(super) fn name(error: &io::Error) -> String {
    let code = i64::from(error.raw_os_error().unwrap_or(0));
    ERRORS
        .iter()
        .find(|(_, number)| *number == code)
        .map_or_else(|| error.to_string(), |(name, _)| (*name).to_owned())
}

/// `got WHAT` or `refused WHAT: ERROR`.
pub(super) fn tell<T>(what: &str, outcome: io::Result<T>) -> Option<T> {
    match outcome {
        Ok(value) => {
            println!("got {what}");
            Some(value)
        }
        Err(error) => {
            println!("refused {what}: {}", name(&error));
            None
        }
    }
}

pub(super) fn run(words: &[&str]) -> io::Result<()> {
    let mut before = 0;
    let mut calls = words.split(|word| *word == ",").peekable();
    while let Some(call) = calls.next() {
        let Some((name, arguments)) = call.split_first() else {
            return Err(io::Error::other("no call"));
        };
        let (wanted, arguments) = match arguments.split_last() {
            Some((last, rest)) if last.starts_with('=') => (last.strip_prefix('='), rest),
            _ => (None, arguments),
        };
        let number = CALLS.iter().find(|(known, _)| known == name);
        let (_, number) = number.ok_or_else(|| io::Error::other(format!("no call {name}")))?;
        let mut words = arguments
            .iter()
            .map(|word| read(word, before))
            .collect::<io::Result<Vec<_>>>()?;
        let mut answer = probing::call(*number, &mut words);
        if answer
            .as_ref()
            .is_err_and(|error| Some(self::name(error).as_str()) == wanted)
        {
            answer = Ok(0);
        }
        match answer {
            Ok(answer) if calls.peek().is_some() => before = answer,
            answer => {
                tell(name, answer);
                return Ok(());
            }
        }
    }
    Ok(())
}

fn read(word: &str, before: i64) -> io::Result<Word> {
    let bad = || io::Error::other(format!("no argument: {word}"));
    let open = |write: bool, path: &str| {
        let file = std::fs::OpenOptions::new()
            .read(!write)
            .write(write)
            .open(path)?;
        Ok::<_, io::Error>(Word::Number(i64::from(OwnedFd::from(file).into_raw_fd())))
    };
    Ok(match word.split_once(':') {
        Some(("s", text)) => Word::Memory([text.as_bytes(), &[0]].concat()),
        Some(("z", count)) => Word::Memory(vec![0; count.parse().map_err(|_| bad())?]),
        Some(("x", hex)) => {
            let (hex, zeros) = hex.split_once('+').unwrap_or((hex, "0"));
            let mut memory = bytes(hex).ok_or_else(bad)?;
            let zeros: usize = zeros.parse().map_err(|_| bad())?;
            memory.resize(memory.len() + zeros, 0);
            Word::Memory(memory)
        }
        Some(("o", path)) => open(false, path)?,
        Some(("w", path)) => open(true, path)?,
        _ if word == "%" => Word::Number(before),
        _ => Word::Number(match word.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).map_err(|_| bad())?,
            None => word.parse().map_err(|_| bad())?,
        }),
    })
}

/// Bytes of a hexadecimal text.
pub(super) fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = hex
        .chars()
        .map(|digit| digit.to_digit(16))
        .collect::<Option<_>>()?;
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair.first()? << 4 | pair.get(1)?).ok())
        .collect()
}

/// Prints a file's handle, as open_by_handle_at takes it.
pub(super) fn handle(path: &str) -> io::Result<()> {
    // struct file_handle: its room, its type, itself.
    let mut handle = vec![0; 8 + 128];
    handle[0] = 128;
    let mut words = [
        Word::Number(i64::from(libc::AT_FDCWD)),
        Word::Memory([path.as_bytes(), &[0]].concat()),
        Word::Memory(handle),
        Word::Memory(vec![0; 8]),
        Word::Number(0),
    ];
    probing::call(libc::SYS_name_to_handle_at, &mut words)?;
    let [_, _, Word::Memory(handle), ..] = words else {
        return Err(io::Error::other("no handle"));
    };
    let hex: String = handle.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{hex}");
    Ok(())
}
