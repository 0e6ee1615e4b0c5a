//! The kernel's surface: calls that reach the machine itself.

use crate::frame::Wall;
use boatyard_sandbox::Protection::Filter;

probes! { "kernel";
    /// Making keys in keyrings, which no namespace divides.
    keyrings {
        // KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING
        attack: "probe call keyctl 0 -3 0",
        refused: &["refused keyctl: ENOSYS"],
        walls: &[Wall::Of(Filter)],
    }

    /// Catching page faults by hand, which makes races of the kernel easy to win.
    userfaultfd {
        // UFFD_USER_MODE_ONLY
        attack: "probe call userfaultfd 1",
        refused: &["refused userfaultfd: EPERM"],
        walls: &[Wall::Of(Filter)],
    }
}
