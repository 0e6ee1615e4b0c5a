//! Servers alone, as processes: `boatyard server` on a folder of its own, killed and started again.

use crate::{daemon, wait};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A `boatyard server` process; it is killed when dropped.
pub struct Server {
    folder: PathBuf,
    address: SocketAddr,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts one on `folder`, which an earlier one may have used.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        // A port that is free now and that this process does not give to others meanwhile.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut server = Self {
            folder: folder.to_owned(),
            address,
            arguments: arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect(),
            child: None,
        };
        server.again();
        server
    }

    /// Starts it again, at the same address, after [`Server::kill`].
    ///
    /// # Panics
    /// When it does not answer.
    pub fn again(&mut self) {
        assert!(self.child.is_none(), "the server runs");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let child = self
            .boatyard(&["server", "--listen", &self.address.to_string()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
        wait::until_or("the server to listen", log, || {
            let written = self.state().join("admin.kubeconfig").exists();
            let listens = TcpStream::connect(self.address).is_ok();
            let beside = UnixStream::connect(self.folder.join("boatyard.sock")).is_ok();
            (written && listens && beside).then_some(())
        });
    }

    /// Ends it as a power cut would.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The command line on this server's folder.
    pub fn boatyard(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(daemon::binary());
        command
            .args(arguments)
            .env("BOATYARD_STATE_DIR", self.folder.join("state"))
            .env("BOATYARD_SOCKET", self.folder.join("boatyard.sock"))
            .env_remove("BOATYARD_SERVER");
        command
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it logged.
    pub fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Its own state directory.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state/server")
    }

    /// The administrator's token and what to trust, for any server of the same store.
    ///
    /// # Panics
    /// When its files are not there.
    pub fn credentials(&self) -> (String, String) {
        let kubeconfig = std::fs::read_to_string(self.state().join("admin.kubeconfig")).unwrap();
        let token = kubeconfig
            .lines()
            .find_map(|line| line.trim().strip_prefix("token: "));
        let authority = std::fs::read_to_string(self.state().join("ca.crt")).unwrap();
        (token.unwrap().trim_matches('"').to_owned(), authority)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
