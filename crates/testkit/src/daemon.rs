//! A real daemon of its own, and the real command line to it.
//!
//! The binary is `BOATYARD_BIN`, or the one beside the test in the target directory.

use crate::tracer::{Trace, Tracer, Victim};
use crate::{archive, photo, wait};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A daemon with its state directory, socket, cgroups and address range.
pub struct Daemon {
    directory: tempfile::TempDir,
    prefix: String,
    first_slot: u32,
    child: Option<Child>,
    state_mounted: bool,
    /// Locked while this daemon's address and id ranges are in use.
    _range: std::fs::File,
}

/// First slot of a place.
fn first_slot(place: u32) -> u32 {
    256 * (1 + place) - 16
}

/// Takes one of the places for 256 environments that tests on this host share.
fn take_place() -> (std::fs::File, u32) {
    for place in 0..56 {
        let path = std::env::temp_dir().join(format!("boatyard-test-place-{place}.lock"));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .unwrap();
        // What a failed test left running still uses its addresses.
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
            && photo::routes(first_slot(place)).is_empty()
        {
            return (file, place);
        }
    }
    panic!("every place for test daemons is taken");
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; 128 + signal when killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Self {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Its standard output.
    ///
    /// # Panics
    /// When it did not exit 0.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            self.code, 0,
            "exit {}\nstdout: {}\nstderr: {}",
            self.code, self.stdout, self.stderr
        );
        self.stdout
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("BOATYARD_BIN") {
        return path.into();
    }
    let program = std::env::current_exe().unwrap();
    // A test lies in `deps`, the benchmark beside the binary.
    let beside = program.ancestors().skip(1).take(2);
    let mut found = beside.map(|folder| folder.join("boatyard"));
    found.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "no boatyard beside {}: run `cargo build -p boatyard-cli` first, or set BOATYARD_BIN",
            program.display()
        )
    })
}

impl Daemon {
    /// Starts one.
    ///
    /// # Panics
    /// When not root, or when it does not answer.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with further arguments.
    ///
    /// # Panics
    /// When not root, or when it does not answer.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut daemon = Self::prepare();
        daemon.run(arguments);
        daemon
    }

    /// A place for one, which [`Daemon::run`] starts.
    ///
    /// # Panics
    /// When not root.
    pub fn prepare() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make namespaces: run them as root"
        );
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (range, place) = take_place();
        Self {
            directory: tempfile::Builder::new()
                .prefix("boatyard-test-")
                .tempdir()
                .unwrap(),
            prefix: format!("boatyard-test-{}-{number}", std::process::id()),
            first_slot: first_slot(place),
            child: None,
            state_mounted: false,
            _range: range,
        }
    }

    /// Starts the daemon process again after [`Daemon::kill`].
    ///
    /// # Panics
    /// When it does not answer.
    pub fn run(&mut self, arguments: &[&str]) {
        self.run_through(&[], arguments);
    }

    /// The same by way of another program, which executes what is added to its arguments.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn run_through(&mut self, program: &[&str], arguments: &[&str]) {
        let mut command = match program.split_first() {
            Some((program, its)) => {
                let mut command = Command::new(program);
                command.args(its).arg(binary());
                self.configure(&mut command);
                command
            }
            None => self.command(),
        };
        command.arg("daemon").args(arguments);
        self.launch(command);
        let socket = self.socket();
        let log_path = self.log_path();
        let child = self.child.as_mut().unwrap();
        wait::until("the daemon's socket", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "the daemon ended: {status}\n{}",
                    std::fs::read_to_string(&log_path).unwrap_or_default()
                );
            }
            answers(&socket, child.id())
        });
    }

    /// Starts the daemon process again, traced from its first instruction on. Returns when it
    /// answers, or was killed as the tracer was told.
    ///
    /// # Panics
    /// When it cannot be traced, or does neither.
    pub fn run_traced(&mut self, arguments: &[&str], kill: Option<(usize, Victim)>) -> Tracer {
        let mut command = Command::new("sh");
        let script = "kill -STOP $$; exec \"$0\" daemon \"$@\"";
        command.args(["-c", script]).arg(binary()).args(arguments);
        self.configure(&mut command);
        self.launch(command);
        let pid = self.pid();
        wait::until("the shell to stop", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.contains("\nState:\tT").then_some(())
        });
        let tracer = Tracer::attach(pid, kill);
        send(i32::try_from(pid).unwrap(), rustix::process::Signal::CONT);
        let socket = self.socket();
        wait::until("the daemon's socket or its end", || {
            // Not by waiting for it, which would take its stops from the tracer.
            if photo::ended(pid) {
                return Some(());
            }
            answers(&socket, pid)
        });
        tracer
    }

    /// Starts the daemon process again where it cannot go on, and answers what it logged.
    ///
    /// # Panics
    /// When it does go on.
    pub fn refuses_to_start(&mut self) -> String {
        let before = self.log().len();
        let mut command = self.command();
        command.arg("daemon");
        self.launch(command);
        let child = self.child.as_mut().unwrap();
        let status = wait::until("the daemon to end", || child.try_wait().unwrap());
        assert!(!status.success(), "it said nothing is wrong");
        self.child = None;
        self.log().split_off(before)
    }

    /// Traces the daemon from now on.
    pub fn trace(&self, kill: Option<(usize, Victim)>) -> Tracer {
        Tracer::attach(self.pid(), kill)
    }

    /// Ends a trace; the daemon goes on if it lives.
    pub fn end_trace(&self, tracer: Tracer) -> Trace {
        // A connection makes it do something.
        tracer.finish(|| drop(std::os::unix::net::UnixStream::connect(self.socket())))
    }

    /// Whether the daemon process lives.
    pub fn lives(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    fn launch(&mut self, mut command: Command) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Puts the state directory on a small file system of its own, before the daemon runs.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn limit_state(&mut self, mebibytes: u32) {
        std::fs::create_dir(self.state()).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(self.state())
            .status();
        assert!(mounted.unwrap().success());
        self.state_mounted = true;
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("boatyard.sock")
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("daemon.log")
    }

    /// Name of its cgroups on the host.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the daemon logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Processor time of the daemon's thread of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn thread_time(&self, name: &str) -> std::time::Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let named = |task: &PathBuf| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        let task = tasks.flatten().map(|task| task.path()).find(named);
        let task = task.unwrap_or_else(|| panic!("the daemon has no thread {name}"));
        let spent = std::fs::read_to_string(task.join("schedstat")).unwrap();
        let nanos = spent.split(' ').next().unwrap().parse().unwrap();
        std::time::Duration::from_nanos(nanos)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary());
        self.configure(&mut command);
        command
    }

    fn configure(&self, command: &mut Command) {
        command
            .env("BOATYARD_SOCKET", self.socket())
            .env("BOATYARD_STATE_DIR", self.state())
            .env("BOATYARD_HOST_PREFIX", &self.prefix)
            .env("BOATYARD_FIRST_SLOT", self.first_slot.to_string());
    }

    /// A `boatyard` command that fails when the daemon is not there, rather than start one that
    /// this harness does not know.
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = self.boatyard(arguments);
        command.env("BOATYARD_STATE_DIR", "/dev/null/none");
        command
    }

    /// A `boatyard` command to this daemon, not yet run.
    pub fn boatyard(&self, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a `boatyard` command as another user of the host.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn cli_as(&self, uid: u32, arguments: &[&str]) -> Ran {
        let direct = self.boatyard(arguments);
        // The binary may lie where only root reads: a copy in the test's folder is for all.
        let copy = self.folder().join("boatyard");
        if !copy.exists() {
            std::fs::copy(direct.get_program(), &copy).unwrap();
        }
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={uid}")]);
        command
            .arg("--clear-groups")
            .arg(copy)
            .args(arguments)
            .stdin(Stdio::null());
        for (name, value) in direct.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.output().unwrap().into()
    }

    /// Runs a `boatyard` command.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn cli(&self, arguments: &[&str]) -> Ran {
        self.boatyard(arguments).output().unwrap().into()
    }

    /// Runs a shell script inside an environment.
    pub fn sh(&self, name: &str, script: &str) -> Ran {
        self.cli(&["exec", name, "--", "sh", "-c", script])
    }

    /// Imports the busybox image as `test:latest`.
    pub fn import_image(&self) {
        self.import_image_with(&serde_json::json!({}));
    }

    /// Imports the busybox image with members of its configuration.
    pub fn import_image_with(&self, config: &serde_json::Value) {
        let path = self.folder().join("image.tar");
        archive::write(&path, "test:latest", config);
        let path = path.to_str().unwrap();
        // By emulation, or beside others, a runner may take longer to come than a command waits for it.
        let ran = wait::until("the runner to come", || {
            let ran = self.cli(&["image", "import", path, "--tag", "test:latest"]);
            (!ran.stderr.contains("is not connected to this server")).then_some(ran)
        });
        ran.ok();
    }

    /// A folder with a devcontainer.json; returns its path.
    pub fn project(&self, name: &str, devcontainer: &str) -> String {
        let folder = self.folder().join(name);
        std::fs::create_dir_all(folder.join(".devcontainer")).unwrap();
        std::fs::write(folder.join(".devcontainer/devcontainer.json"), devcontainer).unwrap();
        folder.to_str().unwrap().to_owned()
    }

    /// Kills the daemon with SIGKILL, and its spawner goes with it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Kills every process of every environment and the monitors, as a power cut would.
    pub fn power_cut(&mut self) {
        self.kill();
        let state = self.state();
        let state = state.to_str().unwrap();
        wait::until("every process to be gone", || {
            let mut found = false;
            for process in photo::take(Path::new(state), &self.prefix, self.first_slot).processes {
                found = true;
                kill(process.parse().unwrap());
            }
            for monitor in self.monitors() {
                found = true;
                kill(monitor);
            }
            (!found).then_some(())
        });
        self.unmount();
    }

    /// Takes off what is mounted below the state directory, as a reboot would.
    fn unmount(&self) {
        let below = format!("{}/", self.state().display());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for place in places.filter(|place| place.starts_with(&below)) {
            let _ = boatyard_sandbox::disk::image::unmount(Path::new(place));
        }
    }

    /// Process id of the daemon's spawner, when there is one.
    pub fn spawner(&self) -> Option<u32> {
        let is_spawner = |pid: &i32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let argument = boatyard_sandbox::SPAWNER_ARGUMENT.as_bytes();
            command
                .split(|byte| *byte == 0)
                .any(|word| word == argument)
        };
        let children = crate::tracer::children(i32::try_from(self.pid()).ok()?);
        children
            .into_iter()
            .filter(is_spawner)
            .find_map(|pid| u32::try_from(pid).ok())
    }

    /// Process ids of the monitors, read from the state directory.
    pub fn monitors(&self) -> Vec<i32> {
        let environments = std::fs::read_dir(self.state().join("envs"))
            .into_iter()
            .flatten()
            .flatten();
        let records = environments
            .filter_map(|entry| std::fs::read(entry.path().join("run/monitor.json")).ok());
        let pids = records.filter_map(|record| {
            let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
            i32::try_from(
                record
                    .pointer("/monitor/pid")
                    .or_else(|| record.get("monitor_pid"))?
                    .as_i64()?,
            )
            .ok()
        });
        pids.filter(|pid| Path::new(&format!("/proc/{pid}")).exists())
            .collect()
    }

    /// What stands on the host for the daemon, whether it runs or not.
    pub fn standing(&self) -> std::collections::BTreeSet<String> {
        photo::standing(&self.prefix)
    }

    /// Photographs the host before anything is made, as soon as the spawner is in its cgroup: it joins
    /// that by itself, and is on every later photo.
    pub fn first_photo(&self) -> photo::Photo {
        wait::until("the spawner in its cgroup", || {
            Some(self.photo()).filter(|photo| photo.helpers > 0)
        })
    }

    /// Photographs the host when no more helpers are left than on another photo: who was killed, or has
    /// told what failed, ends by itself and is waited for by nobody.
    pub fn photo_beside(&self, before: &photo::Photo) -> photo::Photo {
        wait::until("the last helpers to end", || {
            Some(self.photo()).filter(|photo| photo.helpers == before.helpers)
        })
    }

    /// Photographs the host.
    pub fn photo(&self) -> photo::Photo {
        photo::take(&self.state(), &self.prefix, self.first_slot)
    }
}

/// Whether the process answers on a socket: it, and not one that was killed, whose socket some child that
/// it was just making still has.
fn answers(socket: &Path, pid: u32) -> Option<()> {
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    let listens = rustix::net::sockopt::socket_peercred(&stream).ok()?.pid;
    (listens.as_raw_pid() == i32::try_from(pid).ok()?).then_some(())
}

fn kill(pid: i32) {
    send(pid, rustix::process::Signal::KILL);
}

fn send(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            let ran = |arguments: &[&str]| self.client(arguments).output().map(Ran::from);
            let names = ran(&["ls", "-o", "name"]).map_or(String::new(), |ran| ran.stdout);
            for name in names
                .lines()
                .filter_map(|line| line.split_once('/'))
                .map(|(_, name)| name)
            {
                let _ = ran(&["rm", "--force", name]);
            }
        }
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}", self.log());
        }
        if let Some(child) = &mut self.child {
            send(
                i32::try_from(child.id()).unwrap_or_default(),
                rustix::process::Signal::TERM,
            );
            let _ = child.wait();
        }
        if std::thread::panicking() {
            self.power_cut();
        }
        photo::clear(&self.prefix);
        self.unmount();
        if self.state_mounted {
            let _ = Command::new("umount")
                .arg("--lazy")
                .arg(self.state())
                .status();
        }
    }
}
