//! Tasks: processes that belong to no caller, run once per name.
//!
//! The table lives as long as the agent, which is as long as the environment runs; what must be known
//! longer (whether a lifecycle command ever succeeded) the runner records. Output is [`crate::pump`]'s.

use crate::failure::Failure;
use crate::mask::Mask;
use crate::pump::{self, Flow, Mark};
use crate::session::Ended;
use crate::spawn::{self, Output, Provision};
use boatyard_wire::{LINGER, Process, Reply, TaskState};
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So that the answer to `Tasks` fits a frame.
const MOST_TASKS: usize = 256;
const LONGEST_NAME: usize = 64;
/// How long the result waits for a log that is slow to take what was written: a disk may hang.
const SLOWEST_LOG: Duration = Duration::from_secs(30);

/// A task, running or finished.
#[derive(Debug)]
pub(crate) struct Task {
    name: String,
    run: u64,
    pub(crate) pid: Pid,
    started: Instant,
    /// Until the process runs.
    pub(crate) control: Option<OwnedFd>,
    /// Until the output ends, which may be after the task's own end.
    pub(crate) relay: Option<OwnedFd>,
    /// Until the task has finished.
    flow: Option<Arc<Flow>>,
    ending: Option<Ending>,
    finished: Option<(Ended, Duration)>,
}

/// The process was reaped; its output may still come.
#[derive(Debug)]
struct Ending {
    ended: Ended,
    /// How far its output had come.
    mark: Mark,
    /// When to look next whether something in the background alone keeps it open.
    look: Instant,
    give_up: Instant,
}

/// All tasks, by a number that polling can carry.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    pub(crate) table: BTreeMap<u32, Task>,
    last: u32,
}

impl Tasks {
    /// The task of this name and run, started now if there is none. A later run takes the place of
    /// one that has ended.
    pub(crate) fn start_or_find(
        &mut self,
        name: &str,
        run: u64,
        process: Process,
        provision: &Provision,
    ) -> Result<u32, Failure> {
        check_name(name)?;
        let known = self.table.iter().find(|(_, task)| task.name == name);
        let mut replaced = None;
        if let Some((number, task)) = known {
            if task.run >= run {
                return Ok(*number);
            }
            if task.finished.is_none() {
                return Err(Failure::busy(format!(
                    "task {name} still runs from an earlier time; wait for its end"
                )));
            }
            replaced = Some(*number);
        }
        if let Some(number) = replaced {
            self.table.remove(&number);
        }
        if self.table.len() >= MOST_TASKS {
            return Err(Failure::busy(format!(
                "{MOST_TASKS} tasks have run since the environment started; restart it to run more"
            )));
        }
        let process = Process {
            stdin: false,
            tty: None,
            ..process
        };
        let masked = process.masked.iter();
        let masked = masked.filter_map(|name| process.env.get(name)?.as_ref());
        let mask = Mask::new(masked.map(|value| value.clone().into_bytes()).collect());
        let mut spawned = spawn::spawn(process, Output::Merged, provision)?;
        let relay = spawned.outputs[0]
            .take()
            .ok_or_else(|| std::io::Error::other("no output"))
            .and_then(|output| pump::start(name, output, mask));
        let relay = relay.map_err(|error| {
            spawn::signal(spawned.pid, Signal::KILL);
            Failure::busy(format!(
                "cannot start the log of task {name}: {error}; end something first"
            ))
        })?;
        self.last = self.last.wrapping_add(1);
        let (relay, flow) = relay;
        let task = Task {
            name: name.to_owned(),
            run,
            pid: spawned.pid,
            started: Instant::now(),
            control: Some(spawned.control),
            relay: Some(relay),
            flow: Some(flow),
            ending: None,
            finished: None,
        };
        self.table.insert(self.last, task);
        Ok(self.last)
    }

    /// The answer to `Request::Tasks`.
    pub(crate) fn report(&self) -> Reply {
        let state = |task: &Task| TaskState {
            exit_code: task.finished.map(|(ended, _)| ended.code),
            elapsed_millis: task
                .finished
                .map_or_else(|| task.started.elapsed(), |(_, elapsed)| elapsed)
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX),
        };
        let tasks = self
            .table
            .values()
            .map(|task| (task.name.clone(), state(task)));
        Reply::Tasks {
            tasks: tasks.collect(),
        }
    }

    /// Notes the end of a process, if it is a task's.
    pub(crate) fn reaped(&mut self, pid: Pid, ended: Ended, now: Instant) {
        let task = self
            .table
            .values_mut()
            .find(|task| task.pid == pid && task.ending.is_none());
        if let Some(task) = task
            && let Some(flow) = &task.flow
        {
            task.ending = Some(Ending {
                ended,
                mark: flow.mark(),
                look: now + LINGER,
                give_up: now + SLOWEST_LOG,
            });
        }
    }
}

impl Task {
    /// What a caller who attaches now is told first; nothing while the stage has not reported.
    pub(crate) fn greeting(&self) -> Option<Reply> {
        match self.finished {
            Some((ended, _)) => Some(ended.into()),
            None if self.control.is_some() => None,
            None => Some(Reply::Started {
                pid: self.pid.as_raw_nonzero().get(),
            }),
        }
    }

    /// When [`Task::is_over`] may say something else though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ending = self.ending.as_ref().filter(|_| self.finished.is_none());
        ending.map(|ending| ending.look)
    }

    /// Whether the process has ended, and its output too or its time to linger: then all that it had
    /// written is in the relay.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        let (Some(ending), Some(flow), None) = (&mut self.ending, &self.flow, &self.control) else {
            return false;
        };
        if self.relay.is_none() {
            return true;
        }
        if now < ending.look {
            return false;
        }
        ending.look = now + LINGER;
        flow.has_passed(ending.mark) || ending.give_up <= now
    }

    /// The result, once, of one that is over.
    pub(crate) fn finish(&mut self) -> Option<Ended> {
        let ended = self.ending.as_ref()?.ended;
        self.flow.take()?;
        self.finished = Some((ended, self.started.elapsed()));
        Some(ended)
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    if (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('.')
    {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "task name {name:?} must be 1 to {LONGEST_NAME} of a-z, 0-9, '-' and '.', not starting with '.'"
    )))
}
