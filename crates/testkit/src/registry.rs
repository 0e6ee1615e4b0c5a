//! A real image registry on loopback: Debian's `docker-registry` with a temporary directory.
//!
//! Owns the process and its storage; both are gone when it is dropped. It chooses a free port, so
//! that tests run side by side. Filling it is skopeo's work, because that knows every form of an
//! image and none of our code is in it. It knows nothing of Boatyard: a daemon is pointed at it
//! with [`Registry::mirror`]. After a crash of the test, its process and
//! its temporary folder stay.

use crate::wait;
use std::process::{Child, Command, Stdio};

/// A registry, running.
pub struct Registry {
    directory: tempfile::TempDir,
    child: Child,
    address: String,
}

impl Registry {
    /// Starts an empty one.
    ///
    /// # Panics
    /// When docker-registry is not installed or does not listen.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("boatyard-test-registry-")
            .tempdir()
            .unwrap();
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {storage:?}}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n"
            ),
        )
        .unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("tests need docker-registry: apt-get install docker-registry");
        let log = directory.path().join("log");
        let address = wait::until("the registry's address", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the registry ended: {status}\n{text}");
            }
            let rest = text.split("listening on ").nth(1)?;
            let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit())?;
            Some(rest[..end].to_owned())
        });
        Self {
            directory,
            child,
            address,
        }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The daemon's argument that sends pulls from `registry` here.
    pub fn mirror(&self, registry: &str) -> String {
        format!("{registry}=http://{}", self.address)
    }

    /// Copies an image, named as skopeo does (`oci:FOLDER:TAG`), to `repository:tag` here.
    ///
    /// # Panics
    /// When skopeo is not installed or fails.
    pub fn push(&self, from: &str, to: &str) {
        let pushed = Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                from,
            ])
            .arg(format!("docker://{}/{to}", self.address))
            .output()
            .expect("tests need skopeo: apt-get install skopeo");
        assert!(
            pushed.status.success(),
            "{from} could not be pushed: {}",
            String::from_utf8_lossy(&pushed.stderr)
        );
    }

    /// What it logged: one line a request.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
