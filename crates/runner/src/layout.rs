//! Where everything is on the runner's disk.
//!
//! ```text
//! <root>/VERSION                      number of this layout
//! <root>/images/                      the image store
//! <root>/agent/<digest>               the agent's executable
//! <root>/volumes/<namespace>/<name>/  named volumes, ids unshifted
//! <root>/volumes/<namespace>/.<name>.img  file system of one, where its limit is kept by one
//! <root>/cache/                       may be lost
//! <root>/trash/<uid>/                 environments being deleted
//! <root>/envs/<uid>/record.json       what was decided for the environment (see `record`)
//! <root>/envs/<uid>/disk.img          file system of `disk`, where its limit is kept by one
//! <root>/envs/<uid>/disk/upper,work   its root filesystem over the image
//! <root>/envs/<uid>/disk/nested/      storage of containers inside, on no overlay
//! <root>/envs/<uid>/disk/workspace/   clone of a git source
//! <root>/envs/<uid>/disk/logs/        output of lifecycle commands
//! <root>/envs/<uid>/disk/reserve/     room kept for the runner, where there is a limit
//! <root>/envs/<uid>/run/              the sandbox's runtime state
//! ```
//!
//! Only paths are computed here; a path component comes from a parsed uid or digest, never from
//! unchecked text. All of it is 0700: everything below holds setuid files of untrusted making.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The layout this binary reads and writes.
const VERSION: &str = "1";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// I/O failed.
    #[error("cannot use the state directory {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It was written by another version.
    #[error(
        "the state directory {path} has layout {found}, and this boatyard knows layout {VERSION}: run the version that wrote it, or point --state-dir elsewhere"
    )]
    Version {
        /// Where.
        path: PathBuf,
        /// What its VERSION file says.
        found: String,
    },
}

/// The runner's state directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// Makes a directory and its missing parents, mode 0700.
pub(crate) fn private_directory(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

impl Layout {
    /// Opens or makes the state directory.
    ///
    /// # Errors
    /// When it cannot be made or has another layout.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        private_directory(root).map_err(io(root))?;
        std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o700)).map_err(io(root))?;
        let version = root.join("VERSION");
        match std::fs::read_to_string(&version) {
            Ok(found) if found.trim() == VERSION => {}
            Ok(found) => {
                return Err(Error::Version {
                    path: root.to_owned(),
                    found: found.trim().to_owned(),
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Whole or not at all: a file cut off would be another layout.
                let fresh = root.join("VERSION.new");
                std::fs::write(&fresh, format!("{VERSION}\n")).map_err(io(&fresh))?;
                std::fs::rename(&fresh, &version).map_err(io(&version))?;
            }
            Err(error) => return Err(io(&version)(error)),
        }
        let layout = Self {
            root: root.to_owned(),
        };
        for directory in [
            layout.images(),
            layout.agent(),
            layout.volumes(),
            layout.cache(),
            layout.trash(),
            layout.environments(),
        ] {
            private_directory(&directory).map_err(io(&directory))?;
        }
        Ok(layout)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Number of the slot to be given out next.
    #[must_use]
    pub fn next_slot(&self) -> PathBuf {
        self.root.join("next-slot")
    }
    /// The image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }
    /// Agent executables.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.root.join("agent")
    }
    /// Named volumes.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }
    /// What may be lost.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }
    /// Environments being deleted.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
    /// All environments.
    #[must_use]
    pub fn environments(&self) -> PathBuf {
        self.root.join("envs")
    }
    /// One environment.
    #[must_use]
    pub fn environment(&self, uid: &crate::record::Uid) -> EnvironmentPaths {
        EnvironmentPaths {
            root: self.environments().join(uid.as_str()),
        }
    }
}

/// Paths of one environment.
#[derive(Clone, Debug)]
pub struct EnvironmentPaths {
    root: PathBuf,
}

impl EnvironmentPaths {
    /// Its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Its record.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.root.join("record.json")
    }
    /// Everything it writes.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.root.join("disk")
    }
    /// The file system of [`Self::disk`], where its limit is kept by one.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.root.join("disk.img")
    }
    /// Upper directory of its root filesystem.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.disk().join("upper")
    }
    /// Work directory of its overlay.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.disk().join("work")
    }
    /// Storage of containers inside.
    #[must_use]
    pub fn nested(&self, of: &str) -> PathBuf {
        self.disk().join("nested").join(of)
    }
    /// Clone of a git source.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        self.disk().join("workspace")
    }
    /// Output of lifecycle commands.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.disk().join("logs")
    }
    /// A volume without a name, mounted at `target`.
    #[must_use]
    pub fn anonymous_volume(&self, target: &str) -> PathBuf {
        let name: String = target
            .bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() {
                    char::from(b).to_string()
                } else {
                    format!("_{b:02x}")
                }
            })
            .collect();
        self.disk()
            .join("volumes")
            .join(name.chars().take(200).collect::<String>())
    }
    /// Runtime state of the sandbox.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }
    /// Runtime state of a service's sandbox.
    #[must_use]
    pub fn service_run(&self, number: u32) -> PathBuf {
        self.root.join(format!("run-s{number}"))
    }
    /// Numbers of the services that have runtime state.
    #[must_use]
    pub fn service_numbers(&self) -> Vec<u32> {
        let entries = std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten();
        let mut numbers: Vec<u32> = entries
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_str()?
                    .strip_prefix("run-s")?
                    .parse()
                    .ok()
            })
            .collect();
        numbers.sort_unstable();
        numbers
    }
    /// Everything a service writes but its volumes and logs.
    #[must_use]
    pub fn service_disk(&self, name: &str) -> PathBuf {
        self.disk().join("services").join(name)
    }
    /// The agent's socket.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.run().join("agent.sock")
    }
}
