//! Stops a daemon and its helpers before each system call that changes the world, and kills at the
//! Nth.
//!
//! Owns a thread that traces by ptrace(2): the daemon's threads, the spawner, and every monitor
//! with its init until that executes the agent. Calls are numbered over all of them in the order
//! they are entered; at the chosen one, which is then never made, the victim gets SIGKILL and all
//! others are let go. What counts as a change is [`calls`]'s. It does not restart anything and
//! judges nothing: the tests do.
//!
//! Between two runs the same number may stand for another call, because threads interleave; so a
//! failure names the call and not only the number.
//!
//! A tracer whose thread ends lets its processes go on untraced.
//!
//! Read next: [`calls`].

mod calls;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// Which process makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The daemon itself.
    Daemon,
    /// A child of the daemon that has executed nothing yet.
    Child,
    /// The process that forks monitors.
    Spawner,
    /// A sandbox's host-side process.
    Monitor,
    /// What becomes PID 1 of a sandbox, or a process that only holds a namespace.
    Init,
}

/// One place where something may be killed.
#[derive(Clone, Debug)]
pub struct Point {
    /// Who was about to make the call.
    pub role: Role,
    /// The call and what it is about.
    pub call: String,
}

/// Who dies at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The process that makes the call.
    Caller,
    /// The daemon, whoever makes the call.
    Daemon,
}

/// What was seen.
#[derive(Debug)]
pub struct Trace {
    /// Every call, in order; when one was chosen and reached, it is the last.
    pub points: Vec<Point>,
    /// Whether the chosen call was reached.
    pub killed: bool,
    /// Whether it was the daemon that was killed there.
    pub daemon_killed: bool,
}

/// A trace under way.
pub struct Tracer {
    thread: JoinHandle<Trace>,
    stop: Arc<AtomicBool>,
    killed: Arc<AtomicBool>,
}

impl Tracer {
    /// Traces the process `daemon` and what comes of it; kills the victim at the Nth call, counted
    /// from 0. Returns when every thread is traced.
    ///
    /// # Panics
    /// When the process cannot be traced.
    pub fn attach(daemon: u32, kill: Option<(usize, Victim)>) -> Self {
        let (ready, attached) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let killed = Arc::new(AtomicBool::new(false));
        let (stopping, noted) = (stop.clone(), killed.clone());
        let thread = std::thread::spawn(move || {
            let mut tracing = Tracing::new(daemon, kill);
            ready.send(()).unwrap();
            tracing.run(&stopping, &noted);
            let killed = noted.load(Ordering::Acquire);
            let caller = tracing.points.last().map(|point| point.role);
            let daemon = caller == Some(Role::Daemon)
                || kill.is_some_and(|(_, victim)| victim == Victim::Daemon);
            Trace {
                points: tracing.points,
                killed,
                daemon_killed: killed && daemon,
            }
        });
        attached
            .recv()
            .expect("the daemon cannot be traced; may this user ptrace?");
        Self {
            thread,
            stop,
            killed,
        }
    }

    /// Whether the victim was killed.
    pub fn killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Lets everything go on untraced. `poke` must make the daemon do something, if it lives.
    ///
    /// # Panics
    /// When the tracing thread did.
    pub fn finish(self, poke: impl FnOnce()) -> Trace {
        self.stop.store(true, Ordering::Release);
        if !self.thread.is_finished() {
            poke();
        }
        self.thread.join().unwrap()
    }
}

/// The tracing thread's state; everything here must be called on that thread.
struct Tracing {
    daemon: i32,
    kill: Option<(usize, Victim)>,
    /// By thread group.
    roles: HashMap<i32, Role>,
    threads: HashMap<i32, Thread>,
    points: Vec<Point>,
}

struct Thread {
    group: i32,
    /// `/proc/<group>/task/<thread>/syscall`: number and arguments while stopped.
    call: File,
}

const EVENTS: Options = Options::PTRACE_O_TRACESYSGOOD
    .union(Options::PTRACE_O_TRACECLONE)
    .union(Options::PTRACE_O_TRACEFORK)
    .union(Options::PTRACE_O_TRACEVFORK)
    .union(Options::PTRACE_O_TRACEEXEC);

impl Tracing {
    fn new(daemon: u32, kill: Option<(usize, Victim)>) -> Self {
        let daemon = i32::try_from(daemon).unwrap();
        let mut tracing = Self {
            daemon,
            kill,
            roles: HashMap::from([(daemon, Role::Daemon)]),
            threads: HashMap::new(),
            points: Vec::new(),
        };
        // Threads and helpers that are there already; a thread made meanwhile by a traced one is
        // traced by the kernel, so this ends when a pass finds nothing new.
        let mut seized = HashSet::new();
        loop {
            let known = seized.len();
            for group in std::iter::once(daemon).chain(children(daemon)) {
                if group != daemon {
                    tracing.roles.insert(group, Role::Spawner);
                }
                for thread in tasks(group) {
                    if seized.insert(thread) && ptrace::seize(Pid::from_raw(thread), EVENTS).is_ok()
                    {
                        let _ = ptrace::interrupt(Pid::from_raw(thread));
                    }
                }
            }
            if seized.len() == known {
                break;
            }
        }
        assert_ne!(field(daemon, "TracerPid:"), Some(0), "it is not traced");
        tracing
    }

    fn run(&mut self, stop: &AtomicBool, killed: &AtomicBool) {
        // Not children that other threads of the test have started.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while let Ok(status) = waitpid(None, Some(flags)) {
            if stop.load(Ordering::Acquire) {
                return;
            }
            match status {
                WaitStatus::PtraceSyscall(pid) => {
                    if self.entered(pid, killed) {
                        return;
                    }
                    let _ = ptrace::syscall(pid, None);
                }
                WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) => self.executed(pid),
                WaitStatus::PtraceEvent(pid, _, _) => drop(ptrace::syscall(pid, None)),
                WaitStatus::Stopped(pid, signal) => drop(ptrace::syscall(pid, signal)),
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _) => {
                    self.threads.remove(&pid.as_raw());
                    if pid.as_raw() == self.daemon {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    /// A thread stands at a call's beginning or end; true when the victim was killed there.
    fn entered(&mut self, pid: Pid, killed: &AtomicBool) -> bool {
        let entering =
            ptrace::syscall_info(pid).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY);
        if !entering {
            return false;
        }
        let Some(thread) = self.thread(pid.as_raw()) else {
            return false;
        };
        let Some(call) = calls::change(thread.group, pid.as_raw(), &thread.call) else {
            return false;
        };
        let group = thread.group;
        let role = self.role(group);
        self.points.push(Point { role, call });
        let Some((at, victim)) = self.kill else {
            return false;
        };
        if at + 1 != self.points.len() {
            return false;
        }
        let victim = match victim {
            Victim::Caller => group,
            Victim::Daemon => self.daemon,
        };
        // Said first: whoever sees the end must know it was wanted.
        killed.store(true, Ordering::Release);
        nix::sys::signal::kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
        true
    }

    /// A thread has executed a program: the daemon and the spawner are followed, others not.
    fn executed(&mut self, pid: Pid) {
        self.threads.remove(&pid.as_raw());
        let group = pid.as_raw();
        let command = std::fs::read(format!("/proc/{group}/cmdline")).unwrap_or_default();
        let spawner = boatyard_sandbox::SPAWNER_ARGUMENT.as_bytes();
        let is_spawner = command.split(|byte| *byte == 0).any(|word| word == spawner);
        match self.role(group) {
            Role::Child if is_spawner => drop(self.roles.insert(group, Role::Spawner)),
            Role::Daemon => {}
            _ => {
                let _ = ptrace::detach(pid, None);
                return;
            }
        }
        let _ = ptrace::syscall(pid, None);
    }

    fn thread(&mut self, thread: i32) -> Option<&Thread> {
        match self.threads.entry(thread) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(fresh) => {
                let group = field(thread, "Tgid:")?;
                let call = File::open(format!("/proc/{group}/task/{thread}/syscall")).ok()?;
                Some(fresh.insert(Thread { group, call }))
            }
        }
    }

    fn role(&mut self, group: i32) -> Role {
        if let Some(role) = self.roles.get(&group) {
            return *role;
        }
        let parent = field(group, "PPid:").and_then(|parent| self.roles.get(&parent));
        let role = match parent {
            Some(Role::Daemon) | None => Role::Child,
            Some(Role::Spawner) => Role::Monitor,
            Some(Role::Monitor | Role::Init | Role::Child) => Role::Init,
        };
        self.roles.insert(group, role);
        role
    }
}

fn tasks(group: i32) -> Vec<i32> {
    std::fs::read_dir(format!("/proc/{group}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

pub(crate) fn children(of: i32) -> Vec<i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| field(*pid, "PPid:") == Some(of))
        .collect()
}

fn field(pid: i32, name: &str) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
