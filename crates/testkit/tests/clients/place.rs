//! A server of a test's own, with a folder for the test's files beside its state.

use boatyard_testkit::{Ran, Server};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// See the module.
pub(crate) struct Place {
    pub(crate) server: Server,
    directory: tempfile::TempDir,
}

impl Place {
    /// Starts the server.
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("boatyard-clients-")
            .tempdir()
            .unwrap();
        Self {
            server: Server::start(directory.path(), &[]),
            directory,
        }
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file of the test's own, and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.server.state().join("admin.kubeconfig")
    }

    /// Runs a `boatyard` command.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Ran {
        let mut command = self.server.boatyard(arguments);
        command.stdin(Stdio::null()).output().unwrap().into()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.server.log()).unwrap_or_default();
            println!("--- the server's log ---\n{log}");
        }
    }
}
