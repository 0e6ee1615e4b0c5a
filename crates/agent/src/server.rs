//! The agent's loop: one thread, one `poll` over the listener, signals, callers, processes and tasks.
//!
//! The set of descriptors is built anew for each wait from the state itself, so there is no
//! registration to forget; with the few hundred descriptors the bounds allow that costs less than the
//! calls it saves. Nothing here blocks: not on callers, not on processes, not on files of the
//! environment. What may fail for want of processes, memory or descriptors becomes a reply.
//!
//! Read next: [`crate::session`] for one connection, `server/shutdown.rs` for the end.

mod shutdown;
mod start;

pub(crate) use start::ids;

use crate::failure::Failure;
use crate::session::{
    Asked, Call, Connection, Copying, Ended, Gone, connect_failure, plain_line, stage_outcome,
};
use crate::spawn::{self, Output, Provision};
use crate::task::Tasks;
use boatyard_wire::{Process, Reply, Request, SessionDefaults};
use nix::sys::signal::Signal as NixSignal;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions};
use shutdown::Shutdown;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Callers at one time.
const MOST_CONNECTIONS: usize = 256;
/// Callers above that who are being told so; more are cut off.
const MOST_REFUSED: usize = 64;
/// Between SIGHUP and SIGKILL for a process whose caller went.
const HANG_UP_GRACE: Duration = Duration::from_secs(5);
/// Between SIGTERM and SIGKILL when the agent itself is told to end.
const SIGTERM_GRACE: Duration = Duration::from_secs(10);
/// How long not to accept when there are no descriptors to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Ended processes taken in one turn: a storm of them must not starve callers.
const MOST_REAPED: usize = 1000;

/// The agent.
pub(crate) struct Server {
    listener: UnixListener,
    signals: SignalFd,
    connections: BTreeMap<u32, Connection>,
    last_connection: u32,
    accept_after: Option<Instant>,
    core: Core,
    /// Reads land here first; shared by all.
    scratch: Vec<u8>,
}

/// What calls need of the server besides their own connection.
struct Core {
    provision: Provision,
    defaults: SessionDefaults,
    tasks: Tasks,
    started: Instant,
    /// Processes whose caller went, and when their time is over.
    hung_up: HashMap<Pid, Option<Instant>>,
    shutdown: Option<Shutdown>,
}

#[derive(Clone, Copy)]
enum Token {
    Listener,
    Signals,
    Stream(u32),
    Control(u32),
    Input(u32),
    Output(u32, usize),
    TaskControl(u32),
    Relay(u32),
}

impl Server {
    /// Serves until told to end; does not return.
    pub(crate) fn run(mut self) -> ! {
        let mut ready = Vec::new();
        let mut more_to_reap = true;
        loop {
            // Until the end, every turn looks whether there is anything left to wait for.
            if more_to_reap || self.core.shutdown.is_some() {
                more_to_reap = self.reap();
            }
            self.settle();
            let timeout = if more_to_reap {
                Some(Duration::ZERO)
            } else {
                self.timeout()
            };
            self.wait(timeout, &mut ready);
            for (token, events) in ready.drain(..) {
                if matches!(token, Token::Signals) {
                    more_to_reap |= self.take_signals();
                } else {
                    self.handle(token, events);
                }
            }
        }
    }

    fn wait<'a>(&'a self, timeout: Option<Duration>, ready: &mut Vec<(Token, PollFlags)>) {
        let mut tokens = Vec::with_capacity(16);
        let mut polled: Vec<PollFd<'a>> = Vec::with_capacity(16);
        let mut add = |token, fd: BorrowedFd<'a>, flags| {
            tokens.push(token);
            polled.push(PollFd::from_borrowed_fd(fd, flags));
        };
        add(Token::Signals, self.signals.as_fd(), PollFlags::IN);
        if self.accept_after.is_none() {
            add(Token::Listener, self.listener.as_fd(), PollFlags::IN);
        }
        for (&id, connection) in &self.connections {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, connection.wants_frames());
            flags.set(PollFlags::OUT, !connection.outgoing.is_empty());
            add(Token::Stream(id), connection.stream.as_fd(), flags);
            let Call::Copying(copying) = &connection.call else {
                continue;
            };
            if let Some(control) = &copying.control {
                add(Token::Control(id), control.as_fd(), PollFlags::IN);
            }
            if let Some(input) = copying.input.as_ref().filter(|_| copying.wants_input()) {
                add(Token::Input(id), input.as_fd(), PollFlags::OUT);
            }
            if copying.is_up() && connection.wants_output() {
                for (which, output) in copying.outputs.iter().enumerate() {
                    if let Some(output) = output {
                        add(Token::Output(id, which), output.as_fd(), PollFlags::IN);
                    }
                }
            }
        }
        for (&number, task) in &self.core.tasks.table {
            match (&task.control, &task.relay) {
                (Some(control), _) => {
                    add(Token::TaskControl(number), control.as_fd(), PollFlags::IN)
                }
                (None, Some(relay)) => add(Token::Relay(number), relay.as_fd(), PollFlags::IN),
                (None, None) => {}
            }
        }
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        if rustix::event::poll(&mut polled, timeout.as_ref()).is_err() {
            return;
        }
        let happened = tokens.into_iter().zip(polled.iter().map(PollFd::revents));
        ready.extend(happened.filter(|(_, events)| !events.is_empty()));
    }

    /// Until when nothing but an event needs doing.
    fn timeout(&self) -> Option<Duration> {
        let connections = self.connections.values().filter_map(Connection::deadline);
        let tasks = self
            .core
            .tasks
            .table
            .values()
            .filter_map(crate::task::Task::deadline);
        let hung_up = self.core.hung_up.values().copied().flatten();
        let own = self.accept_after.into_iter();
        let shutdown = self.core.shutdown.iter().map(Shutdown::deadline);
        let next = connections
            .chain(tasks)
            .chain(hung_up)
            .chain(own)
            .chain(shutdown)
            .min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn handle(&mut self, token: Token, events: PollFlags) {
        let id = match token {
            Token::Signals => return,
            Token::Listener => return self.accept(),
            Token::TaskControl(number) => return self.task_control(number),
            Token::Relay(number) => {
                self.task_output(number);
                return;
            }
            Token::Stream(id) | Token::Control(id) | Token::Input(id) | Token::Output(id, _) => id,
        };
        // An earlier event of this turn may have ended it.
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        let outcome = match token {
            Token::Stream(_) => self.converse(&mut connection, events),
            Token::Control(_) => {
                connection.read_control(&mut self.scratch);
                connection.flush()
            }
            Token::Input(_) => {
                connection.push_input();
                Ok(())
            }
            Token::Output(_, which) => {
                connection.read_output(which, &mut self.scratch);
                connection.flush()
            }
            Token::Signals | Token::Listener | Token::TaskControl(_) | Token::Relay(_) => Ok(()),
        };
        match outcome {
            Ok(()) => {
                self.connections.insert(id, connection);
            }
            Err(Gone) => self.core.release(&connection.call),
        }
    }

    /// The caller sent something, takes something, or is gone.
    fn converse(&mut self, connection: &mut Connection, events: PollFlags) -> Result<(), Gone> {
        if events.contains(PollFlags::OUT) {
            connection.flush()?;
        }
        if !connection.wants_frames() {
            // Not read now, for its input waits; only a broken stream shows.
            let broken = events.intersects(PollFlags::HUP | PollFlags::ERR);
            return if broken { Err(Gone) } else { Ok(()) };
        }
        if !events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return Ok(());
        }
        let length = match rustix::io::read(&connection.stream, &mut self.scratch[..]) {
            Ok(0) => return Err(Gone),
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return Err(Gone),
        };
        let mut input = self.scratch.get(..length).unwrap_or_default();
        while let Some(asked) = connection.take_frame(&mut input) {
            match asked {
                Asked::Nothing => {}
                Asked::Request(Request::Notice { text }) => {
                    let line = plain_line(&text);
                    for other in self.connections.values_mut() {
                        other.notice(&line);
                        // A broken stream shows in the next wait.
                        let _ = other.flush();
                    }
                    connection.reply(&Reply::Done);
                }
                Asked::Request(request) => {
                    if let Err(failure) = self.core.begin(connection, request) {
                        connection.reply(&failure.into());
                    }
                }
                Asked::Bad(failure) => {
                    self.core.release(&connection.call);
                    connection.reply(&failure.into());
                }
            }
        }
        connection.flush()
    }

    fn accept(&mut self) {
        let now = Instant::now();
        // A few a turn, so that callers already here get theirs.
        for _ in 0..16 {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let stream = match rustix::net::accept_with(&self.listener, flags) {
                Ok(stream) => stream,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(_) => {
                    self.accept_after = Some(now + ACCEPT_PAUSE);
                    return;
                }
            };
            let mut connection = Connection::new(stream.into(), now);
            if self.connections.len() >= MOST_CONNECTIONS {
                let message =
                    format!("the environment serves {MOST_CONNECTIONS} calls already; end some");
                connection.reply(&Failure::busy(message).into());
                if connection.flush().is_err()
                    || self.connections.len() >= MOST_CONNECTIONS + MOST_REFUSED
                {
                    continue;
                }
            }
            // Numbers of live connections are never reused; 2^32 of them outlive none.
            self.last_connection = self.last_connection.wrapping_add(1);
            self.connections.insert(self.last_connection, connection);
        }
    }

    /// Whether there are ended processes to take.
    fn take_signals(&mut self) -> bool {
        let mut children = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if i32::try_from(signal.ssi_signo) == Ok(NixSignal::SIGTERM as i32) {
                self.core.shut_down(SIGTERM_GRACE);
            } else {
                children = true;
            }
        }
        children
    }

    /// Takes ended processes, its own and orphans. True when there may be more.
    fn reap(&mut self) -> bool {
        let now = Instant::now();
        for _ in 0..MOST_REAPED {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if status.exited() || status.signaled() => {
                    let ended = Ended::from(status);
                    self.core.hung_up.remove(&pid);
                    self.core.tasks.reaped(pid, ended, now);
                    for connection in self.connections.values_mut() {
                        connection.reaped(pid, ended, now);
                    }
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return false,
                Err(_) => {
                    // No child is left at all.
                    if self.core.shutdown.is_some() {
                        self.finish();
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Does what time and the last events have decided.
    fn settle(&mut self) {
        let now = Instant::now();
        if self.accept_after.is_some_and(|until| until <= now) {
            self.accept_after = None;
        }
        for (&pid, until) in &mut self.core.hung_up {
            if until.is_some_and(|until| until <= now) {
                *until = None;
                spawn::signal(pid, Signal::KILL);
            }
        }
        for number in self.core.tasks.table.keys().copied().collect::<Vec<_>>() {
            self.settle_task(number, now);
        }
        let mut gone = Vec::new();
        for (&id, connection) in &mut self.connections {
            if connection.settle(now, &mut self.scratch).is_err() {
                gone.push(id);
            }
        }
        for id in gone {
            if let Some(connection) = self.connections.remove(&id) {
                self.core.release(&connection.call);
            }
        }
        if let Some(shutdown) = &mut self.core.shutdown
            && shutdown.tick(now)
        {
            self.finish();
        }
    }

    fn attached(&mut self, number: u32) -> impl Iterator<Item = &mut Connection> {
        let connections = self.connections.values_mut();
        connections
            .filter(move |connection| matches!(connection.call, Call::Task(to) if to == number))
    }

    /// The stage of a task reported, or became the task.
    fn task_control(&mut self, number: u32) {
        let Some(task) = self.core.tasks.table.get_mut(&number) else {
            return;
        };
        let Some(control) = &task.control else { return };
        let reply = match stage_outcome(control, &mut self.scratch) {
            None => return,
            Some(Ok(())) => {
                task.control = None;
                Reply::Started {
                    pid: task.pid.as_raw_nonzero().get(),
                }
            }
            Some(Err(reply)) => {
                // It never ran: the name stays free for the next try.
                self.core.tasks.table.remove(&number);
                reply
            }
        };
        for connection in self.attached(number) {
            connection.reply(&reply);
        }
    }

    /// A task's output, for whoever is attached; the log is written already. How much it was.
    fn task_output(&mut self, number: u32) -> usize {
        let Some(task) = self.core.tasks.table.get_mut(&number) else {
            return 0;
        };
        let Some(relay) = &task.relay else { return 0 };
        let mut taken = 0;
        let mut scratch = std::mem::take(&mut self.scratch);
        match rustix::io::read(relay, &mut scratch[..]) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => task.relay = None,
            Ok(length) => {
                taken = length;
                let bytes = scratch.get(..length).unwrap_or_default();
                for connection in self.attached(number) {
                    connection.relay(bytes);
                    // A broken stream shows in the next wait.
                    let _ = connection.flush();
                }
            }
        }
        self.scratch = scratch;
        taken
    }

    fn settle_task(&mut self, number: u32, now: Instant) {
        let task = self.core.tasks.table.get(&number);
        let Some(task) = task.filter(|task| task.deadline().is_some()) else {
            return;
        };
        if task.control.is_some() {
            self.task_control(number);
        }
        let Some(task) = self.core.tasks.table.get_mut(&number) else {
            return;
        };
        if !task.is_over(now) {
            return;
        }
        // Something in the background may keep the output open; what came so far goes out first.
        let relay = task.relay.as_ref();
        let came = relay.and_then(|relay| rustix::io::ioctl_fionread(relay).ok());
        let mut left = came.unwrap_or(0);
        while left > 0 {
            let taken = self.task_output(number);
            if taken == 0 {
                break;
            }
            left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        }
        let task = self.core.tasks.table.get_mut(&number);
        if let Some(ended) = task.and_then(crate::task::Task::finish) {
            for connection in self.attached(number) {
                connection.reply(&ended.into());
            }
        }
    }
}

impl Core {
    fn begin(&mut self, connection: &mut Connection, request: Request) -> Result<(), Failure> {
        let ending = self.shutdown.is_some() && !matches!(request, Request::Shutdown { .. });
        if ending {
            return Err(Failure::busy(
                "the environment is shutting down; start it again",
            ));
        }
        match request {
            Request::Exec(process) => self.exec(connection, process)?,
            Request::Task { name, run, process } => {
                let number = self
                    .tasks
                    .start_or_find(&name, run, process, &self.provision)?;
                connection.call = Call::Task(number);
                if let Some(greeting) = self
                    .tasks
                    .table
                    .get(&number)
                    .and_then(crate::task::Task::greeting)
                {
                    connection.reply(&greeting);
                }
            }
            Request::Defaults(defaults) => {
                self.defaults = defaults;
                connection.reply(&Reply::Done);
            }
            // It concerns the others' connections, which are the server's.
            Request::Notice { .. } => {}
            Request::Tasks => connection.reply(&self.tasks.report()),
            Request::Info => connection.reply(&Reply::Info {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_seconds: self.started.elapsed().as_secs(),
                processes: shutdown::count_processes(),
            }),
            Request::Shutdown { grace_millis } => {
                connection.call = Call::Shutdown;
                self.shut_down(Duration::from_millis(grace_millis));
            }
            Request::Connect { address, port } => {
                let (input, output) = connect(&address, port)?;
                connection.call = Call::Copying(Box::new(Copying::tcp(input, output)));
            }
        }
        Ok(())
    }

    fn exec(&mut self, connection: &mut Connection, mut process: Process) -> Result<(), Failure> {
        if !process.bare {
            process.user = process.user.or_else(|| self.defaults.user.clone());
            process.cwd = process.cwd.or_else(|| self.defaults.cwd.clone());
            let mut env = self.defaults.env.clone();
            env.append(&mut process.env);
            process.env = env;
        }
        let spawned = spawn::spawn(process, Output::Separate, &self.provision)?;
        connection.call = Call::Copying(Box::new(Copying::process(spawned)));
        Ok(())
    }

    /// The caller went: its process is hung up. Tasks go on.
    fn release(&mut self, call: &Call) {
        if let Call::Copying(copying) = call
            && let (Some(pid), None) = (copying.pid, copying.ended)
        {
            spawn::signal(pid, Signal::HUP);
            // A stopped process would not see it.
            spawn::signal(pid, Signal::CONT);
            self.hung_up
                .insert(pid, Some(Instant::now() + HANG_UP_GRACE));
        }
    }
}

/// Begins a TCP connection; twice the same socket, for each direction.
fn connect(address: &str, port: u16) -> Result<(OwnedFd, OwnedFd), Failure> {
    let ip: IpAddr = address.parse().map_err(|_| {
        Failure::bad_request(format!(
            "{address:?} is no IPv4 or IPv6 address; give a literal one"
        ))
    })?;
    let family = if ip.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        .map_err(connect_failure)?;
    // Keystrokes of a forwarded terminal do not wait for company.
    let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
    match rustix::net::connect(&socket, &SocketAddr::new(ip, port)) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(connect_failure(error)),
    }
    let copy = socket
        .try_clone()
        .map_err(|error| connect_failure(Errno::from_io_error(&error).unwrap_or(Errno::MFILE)))?;
    Ok((socket, copy))
}
