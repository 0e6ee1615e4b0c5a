//! What a sandbox is made of, as data.
//!
//! Every path is a host path opened by the caller's authority unless it says otherwise. The types
//! are serialised to the spawner over its socket and to `<state>/spec.json`, so that whoever
//! adopts a running sandbox after a crash knows what it is.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Name of a sandbox on this host: lower-case letters, digits and `-`, 1–40 bytes. It names the
/// cgroups; the veth's name is derived from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// An id that is not in the grammar of [`Id`].
#[derive(Debug, thiserror::Error)]
#[error(
    "sandbox id {0:?} is not 1 to 40 lower-case letters, digits and dashes, beginning with a letter or digit"
)]
pub struct BadId(String);

impl TryFrom<String> for Id {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        let good = (1..=40).contains(&text.len())
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good {
            Ok(Self(text))
        } else {
            Err(BadId(text))
        }
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl Id {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Width of every environment's id range: rootless Podman's subordinate ids start at 100000, so
/// 65,536 would be too narrow.
pub const ID_RANGE: u32 = 262_144;

/// Everything needed to start one sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Its name.
    pub id: Id,
    /// First host id of the environment's range of [`ID_RANGE`] user and group ids.
    pub id_base: u32,
    /// Directory of the sandbox's runtime state, mode 0700, made by the caller: the monitor keeps
    /// `agent.sock`, `monitor.json`, `exit.json` and `console.log` in it.
    pub state: PathBuf,
    /// Name the environment knows itself by.
    pub hostname: String,
    /// The root filesystem.
    pub root: Root,
    /// Further mounts, in order.
    pub mounts: Vec<Mount>,
    /// Network.
    pub network: Network,
    /// Limits of the whole.
    pub limits: Limits,
    /// PID 1.
    pub init: Init,
    /// Rlimit NOFILE for everything inside, soft and hard; capped at what the host allows.
    pub nofile: Option<u64>,
    /// Extra host devices by path, beside the fixed allow-list; bound into /dev.
    pub devices: Vec<PathBuf>,
}

/// The root filesystem: files unshifted on disk, shifted by idmapped mounts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Root {
    /// Overlay of shared read-only layers (topmost first) under a private upper directory.
    Overlay {
        /// Layer directories, topmost first; at least one.
        layers: Vec<PathBuf>,
        /// Private writable directory, ids unshifted, on the same filesystem as `work`.
        upper: PathBuf,
        /// Overlay's work directory.
        work: PathBuf,
    },
    /// The same for an upper directory that is to become a layer: nothing in it leans on the
    /// layers below but by whiteouts and opaque marks, so renaming a directory of theirs copies it.
    Layer {
        /// Layer directories, topmost first; at least one.
        layers: Vec<PathBuf>,
        /// As in [`Root::Overlay`].
        upper: PathBuf,
        /// As in [`Root::Overlay`].
        work: PathBuf,
    },
    /// The host's own root, read-only under a tmpfs upper that vanishes: for the runner's tools
    /// (git) in a sandbox. Home directories, state directories and secrets of the host are hidden.
    Host,
}

/// How the ids of a mounted host directory appear inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountIds {
    /// On-disk ids are container ids (0-based), as in layers and in directories the runner made.
    Unshifted,
    /// A developer's folder: on-disk `outside` uid/gid appear inside as `inside` uid/gid; every
    /// other inside id x is on disk `id_base + x`, so that no write fails and none becomes host root.
    Developer {
        /// Host uid owning the folder.
        outside_uid: u32,
        /// Host gid.
        outside_gid: u32,
        /// Inside uid (the remoteUser's).
        inside_uid: u32,
        /// Inside gid.
        inside_gid: u32,
    },
    /// Not shifted: everything shows as nobody; for read-only things of the host.
    Host,
}

/// One mount besides the fixed ones (/proc, /sys, /dev, /dev/pts, /dev/shm, /dev/mqueue, /run, /tmp is the image's).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path inside; made (as directory or file) when missing; resolved inside the root,
    /// never through a symbolic link that leads out of it.
    pub target: PathBuf,
    /// Read-only.
    pub read_only: bool,
}

/// Source of a [`Mount`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MountSource {
    /// A host directory or file. When `open_as` is given it is opened with that user's credentials
    /// (setgroups, setgid, setuid in a throw-away child, O_RDONLY) and the descriptor is mounted;
    /// what that user may not read is an error naming the path.
    Host {
        /// Absolute host path.
        path: PathBuf,
        /// How ids appear.
        ids: MountIds,
        /// Whose credentials open it; None: the runner's own, for its own state directories only.
        open_as: Option<User>,
    },
    /// An empty tmpfs.
    Tmpfs {
        /// Limit in bytes; kernel default when absent.
        size: Option<u64>,
        /// Mode of its root.
        mode: u32,
    },
}

/// A host user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id; supplementary groups are read from /etc/group.
    pub gid: u32,
}

/// Network of a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Network {
    /// Loopback only.
    None,
    /// A routed point-to-point veth with outbound masquerading and a resolver at
    /// [`RESOLVER`] served by the monitor.
    Routed {
        /// The environment's address (a /32).
        address: Ipv4Addr,
    },
}

/// Address on the environment's loopback where the monitor answers DNS.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 53);
/// The environment's next hop: the host end of its veth, reached by a permanent neighbour entry.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 1);

/// Limits that protect neighbours; they sit on a cgroup the environment cannot write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU in thousandths of one processor.
    pub cpu_millis: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
}

/// PID 1 of the sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Init {
    /// Static executable on the host, executed by descriptor: it need not exist inside.
    pub executable: PathBuf,
    /// Arguments including argv[0].
    pub argv: Vec<String>,
    /// Its environment, `NAME=value`.
    pub env: Vec<String>,
    /// When true, a listening unix stream socket bound at `<state>/agent.sock` is passed as
    /// descriptor 3 (closed otherwise); descriptors 1 and 2 go to `<state>/console.log`
    /// (bounded), 0 is /dev/null.
    pub listener: bool,
}
