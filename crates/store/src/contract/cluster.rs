//! A real PostgreSQL for tests: Debian's programs on a temporary folder.
//!
//! Owns making, starting, killing and promoting one. It listens on a unix socket in its folder
//! and, only when asked, on a free port of loopback; the host's own clusters are not touched. Run
//! by root it takes the user `postgres`, because PostgreSQL refuses root. It trusts every login.
//!
//! It does not wait for its data to reach the disk (`fsync = off`): what these tests kill is
//! processes, whose written pages the kernel keeps.
//!
//! Crash behaviour: the kernel ends the database when the thread that started it ends, so start
//! one from a thread that lasts as long as the test.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    running: Option<Child>,
}

impl Cluster {
    /// A new one, empty and running.
    pub fn start() -> Self {
        let mut cluster = Self::folder();
        let data = cluster.data();
        cluster.run("initdb", |command| {
            command
                .args(["--auth=trust", "--username=postgres", "--encoding=UTF8"])
                .args(["--locale=C", "--no-sync", "--no-instructions", "-D"])
                .arg(&data);
        });
        cluster.configure(
            "fsync = off\nshared_buffers = 16MB\nmax_connections = 200\nlisten_addresses = ''\n\
             wal_level = replica\nmax_wal_senders = 5\nwal_keep_size = 64MB\nhot_standby = on\n\
             log_line_prefix = '%m [%p] '\n",
        );
        cluster.go();
        cluster
    }

    /// A standby that follows this one, running. `name` is what
    /// `synchronous_standby_names` knows it by.
    pub fn standby(&self, name: &str) -> Self {
        let mut standby = Self::folder();
        let (data, host) = (standby.data(), self.host());
        standby.run("pg_basebackup", |command| {
            command
                .args(["--username=postgres", "--checkpoint=fast", "--no-sync"])
                .args(["--wal-method=stream", "--host"])
                .arg(&host)
                .arg("--pgdata")
                .arg(&data);
        });
        std::fs::write(data.join("standby.signal"), "").unwrap();
        standby.own(&data.join("standby.signal"));
        standby.configure(&format!(
            "primary_conninfo = 'host={} port={} user=postgres application_name={name}'\n",
            host.display(),
            self.port
        ));
        standby.go();
        standby
    }

    fn folder() -> Self {
        let folder = tempfile::Builder::new().prefix("boatyard-pg").tempdir();
        let cluster = Self {
            folder: folder.unwrap(),
            programs: programs(),
            port: 5432,
            running: None,
        };
        cluster.own(cluster.folder.path());
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of its socket.
    pub fn host(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Where this database of it is, for [`crate::postgres::Options`].
    pub fn address(&self, database: &str) -> String {
        format!(
            "postgres://postgres@/{database}?host={}&port={}",
            self.host().display(),
            self.port
        )
    }

    /// Listens on loopback as well, after a restart; returns the port.
    pub fn listen(&mut self) -> u16 {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        self.port = free.local_addr().unwrap().port();
        drop(free);
        self.configure(&format!(
            "listen_addresses = '127.0.0.1'\nport = {}\n",
            self.port
        ));
        self.stop("fast");
        self.go();
        self.port
    }

    /// Makes a database.
    pub fn create(&self, database: &str) {
        self.sql("postgres", &format!("CREATE DATABASE \"{database}\""));
    }

    /// Runs statements and returns what they print.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let mut command = Command::new(self.programs.join("psql"));
        command
            .args(["--no-psqlrc", "-qAtX", "--set=ON_ERROR_STOP=1"])
            .args(["--username=postgres", "--host"])
            .arg(self.host())
            .args(["--port", &self.port.to_string(), "--dbname", database])
            .args(["--command", statements]);
        output(&mut command)
    }

    /// Adds lines to its configuration; see [`Cluster::reload`].
    pub fn configure(&self, lines: &str) {
        use std::io::Write;
        let path = self.data().join("postgresql.conf");
        let file = std::fs::OpenOptions::new().append(true).open(path);
        file.unwrap().write_all(lines.as_bytes()).unwrap();
    }

    /// Replaces who may log in how; see [`Cluster::reload`].
    pub fn logins(&self, lines: &str) {
        std::fs::write(self.data().join("pg_hba.conf"), lines).unwrap();
    }

    /// Writes a file into its data folder, as its own.
    pub fn file(&self, name: &str, contents: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.data().join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.own(&path);
    }

    /// Makes it read its configuration again.
    pub fn reload(&self) {
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// Starts it again after a stop or kill, and waits until it can be used.
    pub fn go(&mut self) {
        let started = Instant::now();
        let data = self.data();
        let log = self.folder.path().join("log");
        loop {
            let log = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&log);
            let log = log.unwrap();
            // What a killed one left in memory may still be in use for a moment.
            let _ = std::fs::remove_file(data.join("postmaster.pid"));
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "SIGQUIT"]);
            if let Some(user) = user() {
                command.arg(format!("--reuid={}", user.0));
                command.arg(format!("--regid={}", user.1));
                command.arg("--clear-groups");
            }
            command
                .arg(self.programs.join("postgres"))
                .arg("-D")
                .arg(&data)
                .arg("-k")
                .arg(self.folder.path())
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .process_group(0);
            let mut child = command.spawn().unwrap();
            while child.try_wait().unwrap().is_none() {
                let state = std::fs::read_to_string(data.join("postmaster.pid"));
                let state = state.unwrap_or_default();
                let state = state.lines().nth(7).unwrap_or_default().trim();
                if state == "ready" || state == "standby" {
                    self.running = Some(child);
                    return;
                }
                self.still(started);
            }
            self.still(started);
        }
    }

    fn still(&self, since: Instant) {
        let log = || std::fs::read_to_string(self.folder.path().join("log"));
        assert!(since.elapsed() < DEADLINE, "{}", log().unwrap_or_default());
        std::thread::sleep(Duration::from_millis(10));
    }

    /// Stops it: `fast` or `immediate`.
    pub fn stop(&mut self, mode: &str) {
        let data = self.data();
        self.run("pg_ctl", |command| {
            command.args(["stop", "--silent", "--wait", "--mode", mode, "-D"]);
            command.arg(&data);
        });
        self.running.take().unwrap().wait().unwrap();
    }

    /// Kills its first process; the others end when they notice.
    pub fn kill(&mut self) {
        let mut running = self.running.take().unwrap();
        running.kill().unwrap();
        running.wait().unwrap();
    }

    /// Makes a standby the primary, and waits until it is.
    pub fn promote(&self) {
        let data = self.data();
        self.run("pg_ctl", |command| {
            command
                .args(["promote", "--silent", "--wait", "-D"])
                .arg(&data);
        });
    }

    fn run(&self, program: &str, with: impl FnOnce(&mut Command)) {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path());
        if let Some(user) = user() {
            command.uid(user.0).gid(user.1);
        }
        with(&mut command);
        output(&mut command);
    }

    fn own(&self, path: &Path) {
        if let Some((uid, gid)) = user() {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let data = self.data();
            let mut command = Command::new(self.programs.join("pg_ctl"));
            command.args(["stop", "--silent", "--wait", "--mode=immediate", "-D"]);
            command.arg(&data);
            if let Some(user) = user() {
                command.uid(user.0).gid(user.1);
            }
            let _ = command.output();
            let _ = running.kill();
            let _ = running.wait();
        }
    }
}

fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {failed}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The newest of Debian's.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = versions
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max();
    let newest = newest.expect("PostgreSQL is installed").to_string();
    Path::new("/usr/lib/postgresql").join(newest).join("bin")
}

/// Whom to run it as, when this is root.
fn user() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.expect("the user postgres").split(':').skip(2);
    let mut number = || fields.next().unwrap().parse().unwrap();
    Some((number(), number()))
}
