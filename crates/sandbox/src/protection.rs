//! Protections that a test may leave out, one at a time.
//!
//! A probe of `tests/probes/` attacks from inside a sandbox and must be refused. That it can fail
//! is shown by running it again without the one protection that refuses it: this module names them,
//! and the code that erects one asks [`removed`] first. With the feature `removable-protections`
//! (tests only; the crate's own tests switch it on) `Options::without` says which are left out; without
//! the feature no value of [`Protections`] but the empty one can be made, and [`removed`] is false
//! at compile time.
//!
//! Who asks: `monitor`, `init`, `root`, `cgroup`, `net`, `seccomp`, `beneath`. Read next: `tests/probes/`.

use serde::{Deserialize, Serialize};

/// One protection. A probe names those that refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// The seccomp filter.
    Filter,
    /// The user namespace: root inside is root of the host.
    UserNamespace,
    /// The namespace of process ids, and with it the own /proc.
    PidNamespace,
    /// The namespace of System V and POSIX inter-process communication.
    IpcNamespace,
    /// The network namespace.
    NetNamespace,
    /// The cgroup namespace: the host's hierarchies are seen whole.
    CgroupNamespace,
    /// The limits' cgroup belongs to the host.
    CgroupOwnership,
    /// `nodev` on the root and on everything mounted from the host.
    Nodev,
    /// `nosuid` on everything mounted from the host.
    Nosuid,
    /// The greatest number of cgroups below an environment's.
    CgroupCount,
    /// The cgroup's list of devices.
    DeviceFilter,
    /// Mounts made for an environment are not the host's.
    PrivateMounts,
    /// The host's root is gone from the mount namespace.
    Pivot,
    /// Layers lie below a private upper directory.
    Overlay,
    /// Closing what init was cloned with.
    Descriptors,
    /// Look-ups in foreign directories stay beneath them.
    Resolution,
    /// What is hidden of the host's own root where that is an environment's.
    HiddenHost,
    /// The greatest size of the console's log.
    ConsoleLimit,
    /// The host's ends of links do not speak IPv6.
    NoIpv6,
    /// The pace at which the resolver takes questions.
    ResolverPace,
    /// No core dump of an environment reaches a program of the host's.
    NoCores,
}

/// A set of protections to leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protections(u64);

#[cfg(feature = "removable-protections")]
mod removing {
    use super::{Protection, Protections};
    use std::sync::atomic::{AtomicU64, Ordering};

    static REMOVED: AtomicU64 = AtomicU64::new(0);

    impl Protections {
        fn bit(protection: Protection) -> u64 {
            1 << (protection as u32)
        }

        /// This one is left out too.
        pub fn leave_out(&mut self, protection: Protection) {
            self.0 |= Self::bit(protection);
        }

        /// Whether it is left out.
        #[must_use]
        pub fn contains(&self, protection: Protection) -> bool {
            self.0 & Self::bit(protection) != 0
        }
    }

    pub(crate) fn arm(without: Protections) {
        REMOVED.store(without.0, Ordering::Relaxed);
    }

    pub(crate) fn removed(protection: Protection) -> bool {
        Protections(REMOVED.load(Ordering::Relaxed)).contains(protection)
    }
}

#[cfg(not(feature = "removable-protections"))]
mod removing {
    use super::{Protection, Protections};

    impl Protections {
        /// Whether it is left out.
        #[must_use]
        pub fn contains(&self, _protection: Protection) -> bool {
            false
        }
    }

    pub(crate) fn arm(_without: Protections) {}

    pub(crate) fn removed(_protection: Protection) -> bool {
        false
    }
}

/// This process, and what it forks, does without these.
pub(crate) fn arm(without: Protections) {
    removing::arm(without);
}

/// Whether this one is not to be erected.
pub(crate) fn removed(protection: Protection) -> bool {
    removing::removed(protection)
}
