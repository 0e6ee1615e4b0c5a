//! What a sandbox is made of, as data.
//!
//! Every path is a host path opened by the caller's authority unless it says otherwise. The types
//! are serialised to the spawner over its socket and to `<state>/spec.json`, so that whoever
//! adopts a running sandbox after a crash knows what it is.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
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
    /// Further limits of everything inside, capped in the same way.
    #[serde(default)]
    pub rlimits: Vec<ProcessLimit>,
    /// Devices of the host, beside the fixed allow-list.
    pub devices: Vec<Device>,
    /// What it has to do with other sandboxes of the same environment.
    #[serde(default)]
    pub company: Option<Box<Company>>,
    /// Ids that stand for each other between disk and inside; the same for all members.
    #[serde(default)]
    pub swap: Swap,
    /// What it may reach; anything but host, neighbours and metadata services when absent. Only of
    /// meaning with [`Network::Routed`].
    #[serde(default)]
    pub egress: Option<Box<Egress>>,
}

/// A limit of processes, as setrlimit(2) has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLimit {
    /// Its name in lower case and without `RLIMIT_`; limits of the processor's time are none, since
    /// they would end PID 1; the agent gives them to what it starts.
    pub name: String,
    /// None for no limit.
    pub soft: Option<u64>,
    /// None for no limit.
    pub hard: Option<u64>,
}

/// What alone a sandbox may reach; empty, nothing. Host, neighbours and metadata services stay out of
/// reach whatever is said here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// Names. The monitor answers questions for these alone, and lets an address through for as
    /// long as its answer is good.
    pub names: Vec<AllowedName>,
    /// Addresses.
    pub ranges: Vec<AllowedRange>,
    /// An answered address is let through for at least so many seconds, since few programs ask
    /// again in time; [`Egress::LEAST_SECONDS`] but in tests.
    pub least_seconds: u32,
}

impl Egress {
    /// See [`Egress::least_seconds`].
    pub const LEAST_SECONDS: u32 = 60;
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            ranges: Vec::new(),
            least_seconds: Self::LEAST_SECONDS,
        }
    }
}

/// Names that may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedName {
    /// Lower-case, without a final dot.
    pub name: String,
    /// All names below this one, and not it itself.
    pub below: bool,
    /// Ports of TCP and UDP; every protocol when empty.
    pub ports: Vec<u16>,
}

/// Addresses that may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedRange {
    /// Lowest.
    pub first: Ipv4Addr,
    /// Highest.
    pub last: Ipv4Addr,
    /// Ports of TCP and UDP; every protocol when empty.
    pub ports: Vec<u16>,
}

/// A device of the host, as a node inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The host's node.
    pub host: PathBuf,
    /// Where it is inside, below /dev.
    pub inside: PathBuf,
    /// May not be opened for writing.
    pub read_only: bool,
    /// Mode of the node inside.
    pub mode: u32,
    /// Its user inside, below [`ID_RANGE`].
    pub uid: u32,
    /// Its group inside.
    pub gid: u32,
}

/// One pair of user ids and one of group ids: what is the one on disk is the other inside, and the
/// other way round. Everything else is itself. How a user of an image gets a developer's ids without
/// a file being changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// Two different user ids below [`ID_RANGE`], neither of them root's.
    pub uid: Option<(u32, u32)>,
    /// Likewise of groups.
    pub gid: Option<(u32, u32)>,
}

impl Swap {
    /// What an id of the one side is on the other.
    #[must_use]
    pub fn other(pair: Option<(u32, u32)>, id: u32) -> u32 {
        match pair {
            Some((one, other)) if id == one => other,
            Some((one, other)) if id == other => one,
            _ => id,
        }
    }
}

/// What a sandbox has to do with others of the same environment.
///
/// A member is a sandbox of its own in everything but its user namespace, which is the
/// environment's (so that they have one range of ids and may share a network namespace), and its
/// cgroup, which lies in the environment's, so that the limits hold for their sum and an end of
/// the environment is theirs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Company {
    /// The environment's own sandbox, which runs; None for that one itself. A member's id is that
    /// one's with `-s` and a number.
    pub member_of: Option<Other>,
    /// Number of its network namespace within the environment, below 1000: names links.
    pub number: u32,
    /// Sandboxes it is linked with straight, where they run; those started later link themselves.
    pub peers: Vec<Peer>,
    /// Lines for /etc/hosts: address and names. They replace those of the last start.
    pub hosts: Vec<(IpAddr, Vec<String>)>,
    /// Size of /dev/shm in bytes; the kernel's default when absent.
    pub shm_bytes: Option<u64>,
}

/// Another sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Other {
    /// Its id.
    pub id: Id,
    /// Its state directory.
    pub state: PathBuf,
}

/// A sandbox with a network namespace of its own, linked by a veth that no other can see.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its state directory.
    pub state: PathBuf,
    /// See [`Company::number`].
    pub number: u32,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Spec {
    /// The environment's own sandbox, for a member.
    #[must_use]
    pub fn member_of(&self) -> Option<&Other> {
        self.company.as_ref()?.member_of.as_ref()
    }
}

impl Spec {
    /// What it may reach, where that is for its own network to say.
    #[must_use]
    pub fn policy(&self) -> Option<&Egress> {
        let routed = matches!(self.network, Network::Routed { .. });
        self.egress.as_deref().filter(|_| routed)
    }
}

impl Id {
    /// The environment's own sandbox, when this is the id of a member.
    #[must_use]
    pub fn owner(&self) -> Option<Id> {
        let (owner, number) = self.0.rsplit_once("-s")?;
        let digits = (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        Id::try_from(owner.to_owned()).ok().filter(|_| digits)
    }

    /// The id of a member of this environment.
    ///
    /// # Errors
    /// When it would be too long.
    pub fn member(&self, number: u32) -> Result<Id, BadId> {
        Id::try_from(format!("{}-s{number}", self.0))
    }
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
    /// Links to its peers and nothing else: no way out, no names but those of /etc/hosts.
    Private {
        /// Its address (a /32).
        address: Ipv4Addr,
    },
    /// The network namespace of another sandbox of the same environment, which runs.
    Shared {
        /// That one's state directory.
        state: PathBuf,
    },
}

impl Network {
    /// Its own address.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        match self {
            Network::Routed { address } | Network::Private { address } => Some(*address),
            Network::None | Network::Shared { .. } => None,
        }
    }
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

/// How fast a sandbox speaks to the outside, in bits a second; None as fast as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// What it sends.
    pub egress: Option<u64>,
    /// What it receives.
    pub ingress: Option<u64>,
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
