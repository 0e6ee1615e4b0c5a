//! Crash points: numbered places where a test may kill the process that passes them.
//!
//! Every step of spawner, monitor and init that changes something calls [`point`]. With the
//! feature `kill-points` (tests only; the crate's own tests switch it on) the Nth call in a line
//! of processes is SIGKILL to the caller; without it the calls vanish. The count is inherited by
//! fork, so that N enumerates the steps of one start from the spawner's first to init's last.

#[cfg(feature = "kill-points")]
mod counting {
    use std::sync::atomic::{AtomicU32, Ordering};
    static LEFT: AtomicU32 = AtomicU32::new(0);

    pub(crate) fn arm(at: u32) {
        LEFT.store(at, Ordering::Relaxed);
    }

    pub(crate) fn point() {
        let left = LEFT.load(Ordering::Relaxed);
        if left == 1 {
            crate::sys::process::kill_self();
        }
        LEFT.store(left.saturating_sub(1), Ordering::Relaxed);
    }
}

#[cfg(not(feature = "kill-points"))]
mod counting {
    pub(crate) fn arm(_at: u32) {}
    pub(crate) fn point() {}
}

/// Dies at the `at`th [`point`] from now; 0 disarms.
pub(crate) fn arm(at: u32) {
    counting::arm(at);
}

/// A step begins.
pub(crate) fn point() {
    counting::point();
}
