//! What /proc says of a process. Anything of it may be another's by now; see the module above.

use super::files::open;
use rustix::fs::OFlags;
use std::time::Duration;

/// The unit of times in /proc (USER_HZ), which is fixed.
const TICK: Duration = Duration::from_millis(10);

/// A process as it was seen; all ids are the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Processor time it has used, in hundredths of a second.
    pub used: Duration,
    /// The same of its children that have ended and that it waited for.
    pub used_by_ended: Duration,
    /// When it was started, since the host was.
    pub started: Duration,
}

/// None when it is no more.
pub(super) fn see(pid: u32) -> Option<Seen> {
    let mut buffer = [0; 1024];
    parse(pid, read(pid, "stat", &mut buffer)?)
}

/// Whether a task stands still and cannot be interrupted.
pub(super) fn waits(task: u32) -> bool {
    let mut buffer = [0; 512];
    let stat = read(task, "stat", &mut buffer);
    stat.is_some_and(|stat| stat.split_ascii_whitespace().nth(1) == Some("D"))
}

/// Its real user id as the host sees it.
pub(super) fn user(pid: u32) -> Option<u32> {
    let mut buffer = [0; 1024];
    let status = read(pid, "status", &mut buffer)?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn read<'a>(pid: u32, name: &str, buffer: &'a mut [u8]) -> Option<&'a str> {
    let file = open(format!("/proc/{pid}/{name}").as_ref(), OFlags::RDONLY).ok()?;
    let read = rustix::io::read(&file, &mut *buffer).ok()?;
    // The name of the program may be anything.
    let bytes = buffer.get(..read)?;
    let from = if name == "stat" {
        bytes.iter().rposition(|byte| *byte == b')')?
    } else {
        0
    };
    std::str::from_utf8(bytes.get(from..)?).ok().or_else(|| {
        // In `status` it comes first, escaped; what is cut off at the end does not matter.
        let end = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), |_| read);
        std::str::from_utf8(bytes.get(..end)?).ok()
    })
}

/// Of `stat`, from the parenthesis that closes the program's name on.
pub(super) fn parse(pid: u32, text: &str) -> Option<Seen> {
    let fields: Vec<&str> = text.split_ascii_whitespace().take(22).collect();
    // The first is the parenthesis, field 2 of proc_pid_stat(5).
    let number = |field: usize| fields.get(field - 2)?.parse::<u64>().ok();
    let id = |field: usize| u32::try_from(number(field)?).ok();
    let time = |field: usize| Some(TICK * u32::try_from(number(field)?).ok()?);
    // Field 3 is the state: the dead are still there and do nothing.
    let terminal = fields.get(7 - 2)?.parse::<i64>().ok()?;
    Some(Seen {
        pid,
        parent: id(4)?,
        group: id(5)?,
        session: id(6)?,
        terminal: terminal != 0,
        used: time(14)? + time(15)?,
        used_by_ended: time(16)? + time(17)?,
        started: Duration::from_millis(number(22)?.checked_mul(10)?),
    })
}
