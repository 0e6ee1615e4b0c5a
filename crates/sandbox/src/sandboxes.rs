//! The handle by which a runner starts, observes, kills and removes sandboxes.
//!
//! Owns the connection to the spawner and the reading of what monitors wrote. It holds no table of
//! sandboxes: every answer is read from the state directory and the kernel at that moment, so that
//! a runner started a second ago knows as much as the one it replaces. All methods block; callers
//! with an async runtime use a blocking thread.
//!
//! Read next: `spawner`, `record`.

use crate::cgroup::group::{self, Group, Groups};
use crate::error::Error;
use crate::net::egress::{EgressReport, Wanted};
use crate::net::uplink::Uplink;
use crate::protection::Protections;
use crate::protocol::{self, HostNames, Reply, Request, Start};
use crate::record::{self, Exit, Holder, Process, Record, Running};
use crate::spec::{Bandwidth, Egress, Id, Spec, User};
use crate::view::{SILENT, View};
use crate::{cgroup, net};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// First argument of the program when it is to be the spawner.
pub const SPAWNER_ARGUMENT: &str = "__spawner";

/// Runner-wide options.
#[derive(Clone, Debug)]
pub struct Options {
    /// Path of the program whose `main` calls [`crate::spawner_main`] when its first argument is
    /// [`SPAWNER_ARGUMENT`].
    pub executable: PathBuf,
    /// Top cgroup of all sandboxes, in every hierarchy.
    pub cgroup_root: String,
    /// Name of the nftables tables.
    pub table: String,
    /// What the names of veths begin with, at most 6 bytes.
    pub interface_prefix: String,
    /// Where changes of the host are recorded until [`Sandboxes::teardown_host`]; made when
    /// missing.
    pub state_dir: PathBuf,
    /// Prepare the host's network (forwarding, firewall). Without it only [`crate::spec::Network::None`] works.
    pub network: bool,
    /// What the host's way to the outside carries, in bits a second: in a direction that is known, all
    /// sandboxes share a little less than that fairly; see `net::uplink`. Heeded with `network` alone.
    pub uplink: Bandwidth,
    /// The host's resolvers, read when it changes.
    pub resolv_conf: PathBuf,
    /// Mount image layers by path as kernels before 6.13 need it.
    pub attach_layers: bool,
    /// Kill spawner or monitor at the Nth step of every start, or init at the (N - 1000)th: needs
    /// feature `kill-points`; 0 for never.
    pub kill_at: u32,
    /// Protections every start does without: empty but in tests (feature `removable-protections`).
    pub without: Protections,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            executable: PathBuf::from("/proc/self/exe"),
            cgroup_root: "boatyard".to_owned(),
            table: "boatyard".to_owned(),
            interface_prefix: "by".to_owned(),
            state_dir: PathBuf::from("/var/lib/boatyard/host"),
            network: true,
            uplink: Bandwidth::default(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            attach_layers: false,
            kill_at: 0,
            without: Protections::default(),
        }
    }
}

/// What a sandbox is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Nothing runs and nothing is recorded.
    Absent,
    /// PID 1 runs.
    Running {
        /// Its monitor; None when that was killed (see [`Running::monitor_pid`]).
        monitor_pid: Option<u32>,
        /// PID 1 as the host sees it.
        init_pid: u32,
        /// When it was started, milliseconds since 1970.
        started_unix_ms: u64,
    },
    /// PID 1 has ended; code and signal are both None when nobody saw how (a reboot, or the
    /// monitor was killed).
    Exited {
        /// Exit code.
        code: Option<i32>,
        /// Signal that ended it.
        signal: Option<i32>,
    },
}

/// Handle to the sandboxes of this host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sandboxes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    spawner: Mutex<Option<Spawner>>,
    uplink: Mutex<Uplink>,
}

/// How long a start may take before it is given up.
const START: Duration = Duration::from_secs(60);
/// How often a path is opened when whoever does it is killed.
const OPEN_TRIES: u32 = 3;
/// Of what was killed each time.
const KILLED: &str = "the process that opens it was killed each time";
/// How long an end may take.
const END: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Spawner {
    control: OwnedFd,
    child: Child,
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // It holds nothing; monitors live on without it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sandboxes {
    /// Prepares the host and starts the spawner.
    pub fn open(options: Options) -> Result<Self, Error> {
        if options.network {
            net::host::prepare(&options)?;
        }
        let carries = Some(options.uplink).filter(|_| options.network);
        let uplink = Uplink::prepare(host_names(&options), &carries.unwrap_or_default());
        let uplink = uplink.map_err(|source| Error::Uplink { source })?;
        let spawner = Spawner::start(&options)?;
        Ok(Self(Arc::new(Inner {
            options,
            spawner: Mutex::new(Some(spawner)),
            uplink: Mutex::new(uplink),
        })))
    }

    /// Starts a sandbox; returns when its PID 1 has been executed.
    pub fn start(&self, spec: &Spec) -> Result<Running, Error> {
        let request = Request::Start(Box::new(Start {
            spec: spec.clone(),
            host: self.host_names(),
            kill_at: self.0.options.kill_at,
            without: self.0.options.without,
        }));
        let lost = || Error::Lost(spec.id.clone());
        let reply = self.ask(&request)?;
        if !readable(&reply, START) {
            self.kill(&spec.id, &spec.state)?;
            return Err(Error::Deadline {
                id: spec.id.clone(),
                what: "the start",
                seconds: START.as_secs(),
            });
        }
        match protocol::receive(reply.as_fd()) {
            Ok(Some((Reply::Started(running), _))) => {
                // Better neither shared nor limited than not started; the next [`Self::shape`] of its
                // environment, at the latest that of the next runner, tries again and tells.
                let _ = net::shape::join(&self.host_names(), &mut self.uplink(), &spec.id);
                Ok(running)
            }
            Ok(Some((Reply::AlreadyRunning, _))) => Err(Error::AlreadyRunning(spec.id.clone())),
            Ok(Some((Reply::Failed(failure), _))) => Err(Error::Start {
                id: spec.id.clone(),
                step: failure.step,
                detail: failure.detail,
            }),
            Ok(Some((Reply::Opened, _)) | None) | Err(_) => Err(lost()),
        }
    }

    /// What the sandbox with this state directory does now.
    pub fn observe(&self, id: &Id, state: &Path) -> Result<Observed, Error> {
        let failed = |source| Error::Io {
            id: id.clone(),
            what: format!("read its state in {}", state.display()),
            source,
        };
        let deadline = Instant::now() + END;
        loop {
            if let Some(exit) = record::read::<Exit>(state, record::EXIT).map_err(failed)? {
                return Ok(Observed::Exited {
                    code: exit.code,
                    signal: exit.signal,
                });
            }
            let record = record::read::<Record>(state, record::RECORD).map_err(failed)?;
            let holder = holder(state).map_err(failed)?;
            match (record, holder) {
                (Some(record), holder) if is_now(&record) && record.init.runs() => {
                    return Ok(Observed::Running {
                        monitor_pid: holder.map(|monitor| monitor.pid),
                        init_pid: record.init.pid,
                        started_unix_ms: record.started_unix_ms,
                    });
                }
                // It is being started, or its end is being recorded: moments.
                (_, Some(monitor)) => {
                    if Instant::now() > deadline {
                        return Err(Error::Deadline {
                            id: id.clone(),
                            what: "its monitor's start or end",
                            seconds: END.as_secs(),
                        });
                    }
                    settle(&monitor);
                }
                (Some(_), None) => {
                    // Read again: the monitor may have written it between the two reads.
                    let exit = record::read::<Exit>(state, record::EXIT).map_err(failed)?;
                    return Ok(Observed::Exited {
                        code: exit.and_then(|exit| exit.code),
                        signal: exit.and_then(|exit| exit.signal),
                    });
                }
                (None, None) => return Ok(Observed::Absent),
            }
        }
    }

    /// The spec the sandbox of this state directory was last started with, if it was and has not
    /// been removed since.
    pub fn spec(&self, id: &Id, state: &Path) -> Result<Option<Spec>, Error> {
        record::read(state, record::SPEC).map_err(|source| Error::Io {
            id: id.clone(),
            what: format!("read its spec in {}", state.display()),
            source,
        })
    }

    /// Waits until PID 1 has ended and its end is recorded, or the time is over; answers what
    /// [`Self::observe`] would.
    pub fn wait(&self, id: &Id, state: &Path, longest: Duration) -> Result<Observed, Error> {
        let deadline = Instant::now() + longest;
        loop {
            let observed = self.observe(id, state)?;
            let left = deadline.saturating_duration_since(Instant::now());
            let Observed::Running { init_pid, .. } = observed else {
                return Ok(observed);
            };
            if left.is_zero() {
                return Ok(observed);
            }
            let record = record::read::<Record>(state, record::RECORD).ok().flatten();
            let init = record
                .filter(|record| record.init.pid == init_pid)
                .and_then(|record| record.init.open());
            if let Some(init) = init {
                let millis = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
                record::wait_end(&init, Some(millis.max(1)));
            }
        }
    }

    /// Kills PID 1, and so everything inside; returns when it is gone and its monitor too.
    pub fn kill(&self, id: &Id, state: &Path) -> Result<(), Error> {
        let failed = |source| Error::Io {
            id: id.clone(),
            what: format!("read its state in {}", state.display()),
            source,
        };
        let late = |what| Error::Deadline {
            id: id.clone(),
            what,
            seconds: END.as_secs(),
        };
        let millis = u32::try_from(END.as_millis()).unwrap_or(u32::MAX);
        let monitor = holder(state).map_err(failed)?;
        let monitor = monitor.and_then(|monitor| monitor.open());
        let record = record::read::<Record>(state, record::RECORD).map_err(failed)?;
        let init = record.filter(is_now).and_then(|record| record.init.open());
        match (&init, &monitor) {
            (Some(init), _) => {
                let _ = rustix::process::pidfd_send_signal(init, rustix::process::Signal::KILL);
                if !record::wait_end(init, Some(millis)) {
                    return Err(late("PID 1"));
                }
            }
            // No init recorded yet: with its monitor it dies before it executes anything.
            (None, Some(monitor)) => {
                let _ = rustix::process::pidfd_send_signal(monitor, rustix::process::Signal::KILL);
            }
            (None, None) => return Ok(()),
        }
        if let Some(monitor) = &monitor
            && !record::wait_end(monitor, Some(millis))
        {
            let _ = rustix::process::pidfd_send_signal(monitor, rustix::process::Signal::KILL);
            if !record::wait_end(monitor, Some(millis)) {
                return Err(late("the monitor"));
            }
        }
        Ok(())
    }

    /// Kills the sandbox and removes all it has on this host but what the caller made: cgroups,
    /// veth, and the monitor's files in the state directory. Idempotent; needs nothing but the id
    /// when the state directory is gone.
    pub fn remove(&self, id: &Id, state: &Path) -> Result<(), Error> {
        let failed = |what: &str| {
            let what = what.to_owned();
            let id = id.clone();
            move |source| Error::Io { id, what, source }
        };
        self.kill(id, state)?;
        // Found again by its cgroups, so before them.
        net::egress::remove(&self.host_names(), id).map_err(failed("remove its egress policy"))?;
        cgroup::remove(&self.0.options.cgroup_root, id).map_err(failed("remove its cgroups"))?;
        net::outside::remove(&self.host_names(), id).map_err(failed("remove its veth"))?;
        let left = self.uplink().leave(id);
        left.map_err(failed("remove its share of the uplink"))?;
        let directory = match rustix::fs::open(
            state,
            OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        ) {
            Ok(directory) => directory,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed("open its state directory")(error.into())),
        };
        for (name, flags) in [
            (record::EXIT, AtFlags::empty()),
            (record::SPEC, AtFlags::empty()),
            ("spec.json.new", AtFlags::empty()),
            (record::RECORD, AtFlags::empty()),
            ("monitor.json.new", AtFlags::empty()),
            ("exit.json.new", AtFlags::empty()),
            (record::SOCKET, AtFlags::empty()),
            (record::EGRESS, AtFlags::empty()),
            ("egress.json.new", AtFlags::empty()),
            (record::EGRESS_WANTED, AtFlags::empty()),
            ("egress.wanted.json.new", AtFlags::empty()),
            (record::LOCK, AtFlags::empty()),
            (record::ROOT, AtFlags::REMOVEDIR),
        ] {
            match rustix::fs::unlinkat(&directory, name, flags) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(failed("empty its state directory")(error.into())),
            }
        }
        Ok(())
    }

    /// Ids that have cgroups or a veth on this host, running or not.
    pub fn list_leftovers(&self) -> Result<Vec<Id>, Error> {
        let failed = |detail: io::Error| Error::Host {
            what: "list sandboxes",
            detail: detail.to_string(),
        };
        let mut names: BTreeSet<String> =
            cgroup::list(&self.0.options.cgroup_root).map_err(failed)?;
        names.extend(net::outside::list(&self.host_names()).map_err(failed)?);
        Ok(names
            .into_iter()
            .filter_map(|name| Id::try_from(name).ok())
            .collect())
    }

    /// What a sandbox that runs may reach and what it was refused; None when it never had a policy.
    pub fn egress(&self, id: &Id, state: &Path) -> Result<Option<EgressReport>, Error> {
        let report = record::read(state, record::EGRESS).map_err(|source| Error::Io {
            id: id.clone(),
            what: format!("read its egress policy in {}", state.display()),
            source,
        })?;
        if report.is_some() {
            return Ok(report);
        }
        // Its monitor has not told yet what it was started with.
        let spec = self.spec(id, state)?;
        Ok(spec
            .and_then(|spec| spec.policy().cloned())
            .map(|policy| EgressReport {
                policy: Some(policy),
                ..EgressReport::default()
            }))
    }

    /// Changes what a sandbox that runs may reach, None for anything; returns when it is in force.
    /// Connections that the new policy does not allow are cut.
    pub fn set_egress(&self, id: &Id, state: &Path, policy: Option<&Egress>) -> Result<(), Error> {
        let failed = |source| Error::Io {
            id: id.clone(),
            what: "change its egress policy".to_owned(),
            source,
        };
        let spec = self.spec(id, state)?;
        // It shares another's network, or has none: nothing of it is to be changed.
        if spec.is_some_and(|spec| !matches!(spec.network, crate::spec::Network::Routed { .. })) {
            return Ok(());
        }
        let gone = || failed(io::Error::other("its monitor does not run; start it again"));
        let report = self.egress(id, state)?.unwrap_or_default();
        let before = record::read::<Wanted>(state, record::EGRESS_WANTED).map_err(failed)?;
        let asked = before.map_or(0, |before| before.change);
        let wanted = Wanted {
            change: asked.max(report.change) + 1,
            policy: policy.cloned(),
        };
        let directory = rustix::fs::open(state, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()))?;
        record::write(&directory, record::EGRESS_WANTED, &wanted).map_err(failed)?;
        let monitor = holder(state).map_err(failed)?;
        let monitor = monitor
            .and_then(|monitor| monitor.open())
            .ok_or_else(gone)?;
        let deadline = Instant::now() + END;
        loop {
            // Asked again and again: one that is just starting does not listen yet.
            let hangup = rustix::process::Signal::HUP;
            let _ = rustix::process::pidfd_send_signal(&monitor, hangup);
            if record::wait_end(&monitor, Some(10)) {
                return Err(gone());
            }
            let report = self.egress(id, state)?.unwrap_or_default();
            if report.change >= wanted.change {
                return match report.error {
                    None => Ok(()),
                    Some(error) => Err(failed(io::Error::other(error))),
                };
            }
            if Instant::now() > deadline {
                return Err(Error::Deadline {
                    id: id.clone(),
                    what: "the change of its egress policy",
                    seconds: END.as_secs(),
                });
            }
        }
    }

    /// Opens a host path read-only with a user's credentials.
    pub fn open_as(&self, user: User, path: &Path) -> Result<OwnedFd, Error> {
        let refused = |detail: String| Error::OpenAs {
            path: path.display().to_string(),
            uid: user.uid,
            detail,
        };
        // Who opens may be killed; to open again harms nothing.
        for _ in 0..OPEN_TRIES {
            let reply = self.ask(&Request::OpenAs {
                user,
                path: path.to_path_buf(),
            })?;
            if !readable(&reply, START) {
                return Err(Error::unanswered(path, SILENT));
            }
            match protocol::receive(reply.as_fd()) {
                Ok(Some((Reply::Opened, mut fds))) => {
                    return fds
                        .pop()
                        .ok_or_else(|| refused("no descriptor came".to_owned()));
                }
                Ok(Some((Reply::Failed(failure), _))) => return Err(refused(failure.detail)),
                _ => {}
            }
        }
        Err(Error::unanswered(path, KILLED))
    }

    /// A folder as a user sees it, served by a process with that user's credentials.
    pub fn view(&self, user: User, root: &Path) -> Result<View, Error> {
        for _ in 0..OPEN_TRIES {
            let reply = self.ask(&Request::View {
                user,
                root: root.to_path_buf(),
                without: self.0.options.without,
            })?;
            if let Some(view) = View::connected(user, root, reply)? {
                return Ok(view);
            }
        }
        Err(Error::unanswered(root, KILLED))
    }

    /// Limits how fast an environment that runs, named by its own sandbox, speaks to the outside, its
    /// members with it, in place of what was. One without a link is left alone.
    ///
    /// # Errors
    /// When the kernel has not what it takes.
    pub fn shape(&self, id: &Id, bandwidth: &Bandwidth) -> Result<(), Error> {
        let mut uplink = self.uplink();
        let applied = net::shape::apply(&self.host_names(), &mut uplink, id, bandwidth);
        applied.map_err(|source| Error::Io {
            id: id.clone(),
            what: "limit its network".to_owned(),
            source,
        })
    }

    /// The cgroups of a sandbox that runs.
    ///
    /// # Errors
    /// When it has none.
    pub fn group(&self, id: &Id) -> Result<Group, group::Error> {
        Group::open(&self.0.options.cgroup_root, id)
    }

    /// The cgroups of all sandboxes together.
    #[must_use]
    pub fn groups(&self) -> Groups {
        Groups::new(&self.0.options.cgroup_root)
    }

    /// Moves the calling process into the cgroup of server and runner, weighted above all
    /// environments.
    pub fn join_system(&self) -> Result<(), Error> {
        cgroup::join_system(&self.0.options.cgroup_root).map_err(|error| Error::Host {
            what: "join the system cgroup",
            detail: error.to_string(),
        })
    }

    /// Undoes what [`Self::open`] changed on the host: firewall, forwarding, queues, empty cgroups. For
    /// uninstallation and tests; sandboxes that run lose their network.
    pub fn teardown_host(&self) -> Result<(), Error> {
        net::host::teardown(&self.0.options)?;
        let removed = self.uplink().remove();
        removed.map_err(|source| Error::Uplink { source })?;
        // The spawner stands in one of the cgroups; it is started again when needed.
        drop(
            self.0
                .spawner
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        cgroup::remove_root(&self.0.options.cgroup_root).map_err(|error| Error::Host {
            what: "remove the cgroups",
            detail: error.to_string(),
        })
    }

    fn host_names(&self) -> HostNames {
        host_names(&self.0.options)
    }

    fn uplink(&self) -> MutexGuard<'_, Uplink> {
        let uplink = self.0.uplink.lock();
        uplink.unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and answers the socket the reply will come on. A spawner that was killed is
    /// started again once.
    fn ask(&self, request: &Request) -> Result<OwnedFd, Error> {
        let failed = |source| Error::Spawner {
            what: "be asked",
            source,
        };
        let mut spawner = self
            .0
            .spawner
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for again in [true, false] {
            let current = match spawner.take() {
                Some(current) => current,
                None => Spawner::start(&self.0.options)?,
            };
            let (ours, theirs) = protocol::pair().map_err(failed)?;
            match protocol::send(current.control.as_fd(), request, &[theirs.as_fd()]) {
                Ok(()) => {
                    *spawner = Some(current);
                    return Ok(ours);
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe && again => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::Error::from(io::ErrorKind::BrokenPipe)))
    }
}

fn host_names(options: &Options) -> HostNames {
    HostNames {
        cgroup_root: options.cgroup_root.clone(),
        interface_prefix: options.interface_prefix.clone(),
        table: options.table.clone(),
        attach_layers: options.attach_layers,
        resolv_conf: options.resolv_conf.clone(),
    }
}

impl Spawner {
    fn start(options: &Options) -> Result<Self, Error> {
        let failed = |source| Error::Spawner {
            what: "be started",
            source,
        };
        let (control, theirs) = protocol::pair().map_err(failed)?;
        let child = Command::new(&options.executable)
            .arg0("boatyard")
            .arg(SPAWNER_ARGUMENT)
            .arg(&options.cgroup_root)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        Ok(Self { control, child })
    }
}

/// The monitor that holds the state directory, if one lives.
fn holder(state: &Path) -> io::Result<Option<Process>> {
    let directory = match rustix::fs::open(
        state,
        OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    ) {
        Ok(directory) => directory,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let deadline = Instant::now() + END;
    loop {
        match record::probe(&directory)? {
            Holder::Free(_) => return Ok(None),
            Holder::Monitor(Some(monitor)) if monitor.runs() => return Ok(Some(monitor)),
            // Locked a moment ago, not yet signed; or held by a half-made init about to die.
            Holder::Monitor(_) if Instant::now() < deadline => std::thread::yield_now(),
            Holder::Monitor(_) => return Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }
}

/// Waits a moment for a monitor to do its next step.
fn settle(monitor: &Process) {
    if let Some(fd) = monitor.open() {
        record::wait_end(&fd, Some(2));
    }
}

fn is_now(record: &Record) -> bool {
    record::boot_id().is_ok_and(|boot| boot == record.boot)
}

fn readable(socket: &OwnedFd, deadline: Duration) -> bool {
    let millis = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
    record::wait_end(socket, Some(millis))
}
