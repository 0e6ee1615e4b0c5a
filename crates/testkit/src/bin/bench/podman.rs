//! Podman as a peer, with storage of its own.

use rustix::process::{Resource, getrlimit};
use std::process::Command;

/// Podman with storage of its own.
pub(crate) struct Podman {
    pub(crate) folder: std::path::PathBuf,
}

impl Podman {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command
            .arg("--root")
            .arg(self.folder.join("storage"))
            .arg("--runroot")
            .arg(self.folder.join("run"))
            .args(arguments);
        command
    }

    /// `podman run`, its limits no higher than this host's, which it would refuse to run without.
    pub(crate) fn run(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["run"]);
        for (name, limit) in [("nofile", Resource::Nofile), ("nproc", Resource::Nproc)] {
            let most = getrlimit(limit).maximum.unwrap_or(u64::MAX).min(1 << 14);
            command.arg(format!("--ulimit={name}={most}:{most}"));
        }
        command.args(arguments);
        command
    }
}
